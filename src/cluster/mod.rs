//! The provider's shards on this node: consensus, actors, and what follows from the log.
//!
//! Rooms and users hash to a fixed number of shards; each shard is one openraft group. What openraft needs lives in
//! `raft`, `log_store`, `state_machine`, `network` and `group`; what the shard does with committed entries in `machine`.

pub mod batch;
pub mod claims;
mod directory;
pub mod group;
mod index;
pub mod log_store;
mod machine;
pub mod network;
pub mod notices;
pub mod raft;
mod read;
pub mod record;
pub(crate) mod shard;
pub(crate) mod shards;
pub mod state_machine;
pub(crate) mod tail;
pub(crate) mod wake;

use mimi_actors::{limits::SHARDS, wire::event::Hash};

/// The shard that a room or user belongs to, by its URI.
#[must_use]
pub(crate) fn place(uri: &str) -> u16 {
    let [high, low, ..] = Hash::of(uri.as_bytes()).0;
    u16::from_be_bytes([high, low]) % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_spread_evenly_over_the_shards() {
        let mut rooms = vec![0_u32; usize::from(SHARDS)];
        for number in 0..16_000 {
            rooms[usize::from(place(&format!("mimi://a.example/r/{number}")))] += 1;
        }
        assert!(rooms.iter().all(|count| (800..1_200).contains(count)), "{rooms:?}");
    }
}
