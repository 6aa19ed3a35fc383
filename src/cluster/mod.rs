//! The provider's shards on this node: consensus, actors, and what follows from the log.
//!
//! Rooms and users hash to a fixed number of shards; each shard is one openraft group over the log that all shards of
//! the node share. openraft and its words (leader, voter, term) stay in `raft`, `log_store`, `tail`, `recent`, `record`,
//! `state_machine`, `sealing`, `network`, `mesh`, `figures`, `members`, `leadership`, `standing` and `group`; what the shard does with committed
//! entries is in `apply`, what its state looks like in a snapshot in `packed`. Promises: what [`group::Group::propose`] answers is durable and
//! applied, in log order; a group that has started serves reads that are current; an entry that somebody still needs
//! can be read, also when its part of the log is gone (`carry`); what is damaged at rest is found (`scrub`); requests go to whichever node leads (`shards`, `mesh`).

pub(crate) mod apply;
pub mod batch;
mod carry;
pub(crate) mod client_acks;
pub(crate) mod clock;
mod confirm;
pub(crate) mod decoded;
mod directory;
mod election;
pub(crate) mod entries;
mod entry_source;
pub mod figures;
pub(crate) mod full_disk;
pub mod group;
pub mod group_error;
pub(crate) mod lead;
pub(crate) mod leader_balance;
mod leadership;
mod log_store;
mod members;
mod membership;
pub(crate) mod mesh;
mod network;
pub(crate) mod notices;
mod packed;
pub(crate) mod placement;
mod raft;
mod recent;
mod record;
pub(crate) mod refusal_throttle;
pub(crate) mod retention;
pub(crate) mod scrub;
mod sealing;
pub(crate) mod shard;
pub(crate) mod shards;
mod standing;
mod state_machine;
mod tail;
#[cfg(test)]
mod testing;
pub(crate) mod wake;
mod watchers;

use crate::store::Disk;
use decoded::Decoded;
use mimi_actors::limits::SHARDS;
use std::sync::Arc;

/// The shard that a room or user belongs to, by its URI.
#[must_use]
pub(crate) fn place(uri: &str) -> u16 {
    mimi_actors::shard::place(uri, SHARDS)
}

/// Reads one applied entry back from the log, or from the backlog where its part of the log is gone.
pub(crate) fn read_entry(disk: &Disk, shard: u16, index: u64) -> Result<Arc<Decoded>, String> {
    let found = disk
        .log
        .read(shard, index, index + 1, usize::MAX)
        .map_err(|error| error.to_string())?;
    let bytes = match found.into_iter().next() {
        Some((_, bytes)) => bytes,
        // Carried before it was discarded, so it is there by the time the log does not have it.
        None => disk
            .backlog
            .entry(shard, index)
            .map_err(|error| error.to_string())?
            .ok_or("neither the log nor the backlog holds it")?,
    };
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
