//! The provider's shards on this node: consensus, actors, and what follows from the log.
//!
//! Rooms and users hash to a fixed number of shards; each shard is one openraft group over the log that all shards of
//! the node share. openraft and its words (leader, voter, term) stay in `raft`, `log_store`, `tail`, `recent`, `record`,
//! `state_machine`, `network` and `group`; what the shard does with committed entries is in `machine`. Promises: what
//! [`group::Group::propose`] answers is durable and applied, in log order, and a group that has started serves reads
//! that are current. Not here: several voters, snapshots and the discarding of old entries.

pub mod batch;
pub(crate) mod claims;
pub(crate) mod decoded;
mod directory;
pub(crate) mod entries;
pub mod group;
mod log_store;
mod machine;
mod network;
pub(crate) mod notices;
mod raft;
mod read;
mod recent;
mod record;
pub(crate) mod shard;
pub(crate) mod shards;
mod state_machine;
mod tail;
pub(crate) mod wake;
mod watchers;

use crate::store::log::Log;
use decoded::Decoded;
use mimi_actors::limits::SHARDS;
use std::sync::Arc;

/// The shard that a room or user belongs to, by its URI.
#[must_use]
pub(crate) fn place(uri: &str) -> u16 {
    mimi_actors::shard::place(uri, SHARDS)
}

/// Reads one applied entry back from the log.
pub(crate) fn read_entry(log: &Log, shard: u16, index: u64) -> Result<Arc<Decoded>, String> {
    let found = log
        .read(shard, index, index + 1, usize::MAX)
        .map_err(|error| error.to_string())?;
    let (_, bytes) = found.into_iter().next().ok_or("the log does not hold it")?;
    let entry =
        record::decode(index, &bytes, decoded::decode).map_err(|error| error.to_string())?;
    match entry.payload {
        openraft::EntryPayload::Normal(batch) => {
            decoded::of(&batch).map_err(|error| error.to_string())
        }
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => {
            Err("it holds no commands".to_owned())
        }
    }
}
