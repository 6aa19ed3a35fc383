//! The clustered node of a messaging provider.

pub mod cluster;
pub mod store;
