//! The provider's shards on this node: consensus, actors, and what follows from the log.
//!
//! Rooms and users hash to a fixed number of shards; each shard is one openraft group over the log that all shards of
//! the node share. openraft and its words (leader, voter, term) stay in `log`, `raft` and `mesh`; what the shard does
//! with committed entries is in `shard`, what follows from them in `feeds`. Promises: what [`raft::group::Group::propose`]
//! answers is durable and applied, in log order; a group that has started serves reads that are current; an entry that
//! somebody still needs can be read, also when its part of the log is gone (`log::carry`); what is damaged at rest is
//! found (`shard::scrub`); requests go to whichever node leads (`shard::shards`, `mesh`).

pub mod feeds;
pub mod log;
pub(crate) mod mesh;
pub mod raft;
pub(crate) mod shard;
#[cfg(test)]
mod testing;

use crate::store::Disk;
use log::decoded::{self, Decoded};
use std::sync::Arc;

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
        log::record::decode(index, &bytes, decoded::decode).map_err(|error| error.to_string())?;
    match entry.payload {
        openraft::EntryPayload::Normal(batch) => {
            decoded::of(&batch).map_err(|error| error.to_string())
        }
        openraft::EntryPayload::Blank | openraft::EntryPayload::Membership(_) => {
            Err("it holds no commands".to_owned())
        }
    }
}
