//! One Raft group for each shard, over the log that all shards of the node share.
//!
//! Owns: openraft, whose words (leader, voter, term) stay in here, and the form of an entry on the
//! disk. Promises: what [`group::Group::propose`] answers is durable and applied, in log order, and
//! a group that has started serves reads that are current. Not here: what a batch holds, which is
//! behind [`batch::Apply`]; several voters, snapshots and the discarding of old entries.

pub mod batch;
pub mod group;
mod log_store;
mod network;
mod raft;
mod recent;
mod record;
mod state_machine;
mod tail;
