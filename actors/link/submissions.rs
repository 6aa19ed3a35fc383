//! Submissions to one hub's rooms that have no verdict yet, in the order they were made.

use crate::{
    ids::{ClientUri, RoomUri},
    machine::Position,
    wire::event::SubmitSeq,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Consecutive submissions of one client to one room; their bytes are in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitRun {
    /// The room.
    pub room: RoomUri,
    /// The client.
    pub sender: ClientUri,
    /// Number of the first.
    pub first: SubmitSeq,
    /// How many.
    pub count: u32,
    /// The command that holds them.
    pub at: Position,
    /// Which item of that command the first is.
    pub item: u32,
}

/// What waits for one hub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submissions {
    /// Place of the next run in the order of sending.
    next: u64,
    runs: BTreeMap<u64, SubmitRun>,
    /// Places of each room's runs, oldest first.
    rooms: BTreeMap<RoomUri, VecDeque<u64>>,
}

impl Submissions {
    /// Adds a run behind all others.
    pub fn push(&mut self, run: SubmitRun) {
        self.rooms
            .entry(run.room.clone())
            .or_default()
            .push_back(self.next);
        self.runs.insert(self.next, run);
        self.next += 1;
    }

    /// Forgets what a room has the verdict on: everything before `undecided`.
    pub fn settle(&mut self, room: &RoomUri, undecided: SubmitSeq) {
        let Some(places) = self.rooms.get_mut(room) else {
            return;
        };
        while let Some(run) = places.front().and_then(|place| self.runs.get_mut(place)) {
            let settled = undecided.0.saturating_sub(run.first.0);
            if settled < u64::from(run.count) {
                let settled = u32::try_from(settled).unwrap_or(0);
                run.first = run.first.plus(u64::from(settled));
                run.count -= settled;
                run.item += settled;
                return;
            }
            if let Some(place) = places.pop_front() {
                self.runs.remove(&place);
            }
        }
        self.rooms.remove(room);
    }

    /// The runs from a place on, each with its place.
    pub fn from(&self, place: u64) -> impl Iterator<Item = (u64, &SubmitRun)> {
        self.runs.range(place..).map(|(place, run)| (*place, run))
    }

    /// The oldest number of a room without a verdict.
    #[must_use]
    pub fn undecided(&self, room: &RoomUri) -> Option<SubmitSeq> {
        let oldest = self.rooms.get(room)?.front()?;
        self.runs.get(oldest).map(|run| run.first)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(room: &str, first: u64, count: u32) -> SubmitRun {
        SubmitRun {
            room: format!("mimi://a.example/r/{room}").parse().unwrap(),
            sender: "mimi://b.example/d/bob/phone".parse().unwrap(),
            first: SubmitSeq(first),
            count,
            at: Position {
                entry: 1,
                command: 0,
            },
            item: 0,
        }
    }

    #[test]
    fn what_is_decided_is_forgotten_and_the_rest_stays_in_order() {
        let mut waiting = Submissions::default();
        waiting.push(run("x", 1, 4));
        waiting.push(run("y", 1, 2));
        waiting.push(run("x", 5, 1));
        let room = run("x", 1, 1).room;
        waiting.settle(&room, SubmitSeq(3));
        let left: Vec<_> = waiting
            .from(0)
            .map(|(_, run)| (run.first, run.count, run.item))
            .collect();
        assert_eq!(
            left,
            [
                (SubmitSeq(3), 2, 2),
                (SubmitSeq(1), 2, 0),
                (SubmitSeq(5), 1, 0)
            ]
        );
        waiting.settle(&room, SubmitSeq(6));
        assert_eq!(waiting.from(0).count(), 1);
        waiting.settle(&run("y", 1, 1).room, SubmitSeq(3));
        assert!(waiting.is_empty());
    }
}
