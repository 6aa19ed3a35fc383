//! A shard beside its actors: what follows from the outcomes of its log, and how to read what it owes.
//!
//! Owns: the event index and the links of a shard, filled in log order, and the batches that are read out of them.
//! Promises: what is recorded depends on the log alone. Not here: the log, the actors, and when anything is sent.

pub mod index;
pub mod read;
mod record;

use crate::{link::Links, machine::Millis, wire::event::Hash};
use index::EventIndex;
pub use record::{Done, News};

/// The shard that a room or user belongs to, by its URI, in a provider of `shards` shards.
#[must_use]
pub fn place(uri: &str, shards: u16) -> u16 {
    let [high, low, ..] = Hash::of(uri.as_bytes()).0;
    u16::from_be_bytes([high, low])
        .checked_rem(shards)
        .unwrap_or_default()
}

/// State that follows from the log, outside any actor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Derived {
    /// Where the events of rooms lie.
    pub index: EventIndex,
    /// What is owed to whom.
    pub links: Links,
    /// Time of the last entry.
    pub time: Millis,
    /// Index of the last entry applied.
    pub applied: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SHARDS;

    #[test]
    fn rooms_spread_evenly_over_the_shards() {
        let mut rooms = vec![0_u32; usize::from(SHARDS)];
        for number in 0..16_000 {
            let uri = format!("mimi://a.example/r/{number}");
            rooms[usize::from(place(&uri, SHARDS))] += 1;
        }
        assert!(
            rooms.iter().all(|count| (800..1_200).contains(count)),
            "{rooms:?}"
        );
    }
}
