//! The world: many providers, nodes and clients, played in one thread under a seed.

pub mod mls;
