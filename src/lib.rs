//! The clustered node of a messaging provider.
//!
//! The code map is in `docs/ARCHITECTURE.md`; the way of a Commit through it: `gateway` or `peering` (the doors) → `cluster::shard::shards`
//! (the room's shard and actor) → the desk in `mimi_actors::room` → `perform` (worker pool, shard queue) →
//! `cluster::shard` (one entry for what waits) → `cluster::raft::group` and `store` (openraft, one sync) →
//! `cluster::shard::apply` (apply, record, answer) → `peering::fanout` and `gateway::events` (cursors).

pub mod admin;
mod admit;
mod certificates;
pub mod cli;
pub mod cluster;
pub mod config;
mod directory;
pub mod gateway;
mod hub_keys;
pub mod logging;
pub mod node;
pub mod peering;
mod perform;
mod preflight;
mod release;
mod signals;
pub mod store;
mod vain;

pub use mimi_quic as quic;
