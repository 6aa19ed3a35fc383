//! What the clients of this node's doors have acknowledged, on its way to the shards of the rooms.
//!
//! The word is for the shard's memory and disk alone: it forgets what everybody has. One that is lost, with this node or
//! with a leader, keeps events until the client's next acknowledgement, or for as long as `storage.retention_s` says.
//!
//! Source: transport requirements, section 5.

use mimi_actors::{
    ids::{ClientUri, RoomUri},
    limits::{READS_TOLD_MAX, READS_WAITING_MAX},
    link::ReadProgress,
    wire::{BVec, event::LaneCursor},
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What is to be told to one shard: the newest word of each client and room.
#[derive(Default)]
pub(crate) struct ClientAcks {
    waiting: Mutex<BTreeMap<(RoomUri, ClientUri), LaneCursor>>,
}

impl ClientAcks {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<(RoomUri, ClientUri), LaneCursor>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what a client has acknowledged, durably, of a room.
    pub(crate) fn note(&self, room: &RoomUri, client: &ClientUri, given: LaneCursor) {
        let mut waiting = self.waiting();
        let who = (room.clone(), client.clone());
        if let Some(known) = waiting.get_mut(&who) {
            *known = known.max(given);
        } else if waiting.len() < READS_WAITING_MAX {
            waiting.insert(who, given);
        }
    }

    /// As much as one command holds; none when nothing waits.
    pub(super) fn take(&self) -> Option<BVec<ReadProgress, READS_TOLD_MAX>> {
        let mut waiting = self.waiting();
        let taken = std::iter::from_fn(|| waiting.pop_first());
        let has = BVec::first_max(taken.map(|((room, client), given)| ReadProgress {
            room,
            client,
            given,
        }));
        (!has.is_empty()).then_some(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mimi_actors::wire::event::RoomSeq;

    #[test]
    fn the_newest_word_of_each_client_is_told_a_bounded_number_at_a_time() {
        let reads = ClientAcks::default();
        let room: RoomUri = "mimi://a.example/r/den".parse().unwrap();
        let client = |number: usize| -> ClientUri {
            format!("mimi://a.example/d/bob/{number}").parse().unwrap()
        };
        reads.note(&room, &client(0), LaneCursor::all(RoomSeq(4)));
        let given = LaneCursor {
            application: RoomSeq(2),
            control: RoomSeq(9),
        };
        reads.note(&room, &client(0), given);
        let told = reads.take().unwrap();
        let newest = LaneCursor {
            application: RoomSeq(4),
            control: RoomSeq(9),
        };
        assert_eq!((told.len(), told[0].given), (1, newest));
        assert!(reads.take().is_none());

        for number in 0..READS_WAITING_MAX + 10 {
            reads.note(&room, &client(number), given);
        }
        let mut all = 0;
        while let Some(told) = reads.take() {
            assert!(told.len() <= READS_TOLD_MAX);
            all += told.len();
        }
        assert_eq!(all, READS_WAITING_MAX);
    }
}
