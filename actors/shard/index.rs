//! Where the events of each room lie in the log: derived state, rebuilt by replay.

use crate::{
    ids::{ClientUri, RoomUri},
    machine::{Millis, Position},
    room::outcome::Emission,
    wire::event::{ClientSeq, Lane, RoomSeq},
};
use itertools::Itertools as _;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Consecutive events whose bytes are consecutive items of one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRun {
    /// Number of the first in the room.
    pub first: RoomSeq,
    /// How many.
    pub count: u32,
    /// The command that holds their bytes.
    pub at: Position,
    /// Which item of that command the first is.
    pub item: u32,
    /// When the hub accepted them.
    pub time: Millis,
    /// Who sent them, if a client of this provider: it and its number of the first.
    pub origin: Option<(ClientUri, ClientSeq)>,
    /// What kind of events they are.
    pub lane: Lane,
}

impl EventRun {
    /// The number after the last.
    fn end(&self) -> RoomSeq {
        self.first.plus(u64::from(self.count))
    }

    /// The part from `from` on.
    fn cut(&self, from: RoomSeq) -> Self {
        let skip = from.0.saturating_sub(self.first.0);
        let skipped = u32::try_from(skip).unwrap_or(u32::MAX);
        Self {
            first: self.first.plus(skip),
            count: self.count.saturating_sub(skipped),
            at: self.at,
            item: self.item.saturating_add(skipped),
            time: self.time,
            origin: self
                .origin
                .as_ref()
                .map(|(client, seq)| (client.clone(), seq.plus(skip))),
            lane: self.lane,
        }
    }
}

/// The events of all rooms of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventIndex {
    rooms: BTreeMap<RoomUri, RoomIndex>,
}

/// The events of one room: control events apart, so that they are found among many others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct RoomIndex {
    control: VecDeque<EventRun>,
    application: VecDeque<EventRun>,
    /// Everything up to this event was forgotten.
    forgotten: RoomSeq,
}

impl RoomIndex {
    /// The oldest run, if it may be forgotten: it is of before this time, and ends before an event that is owed.
    fn oldest(&self, before: Millis, owed: Option<RoomSeq>) -> Option<&EventRun> {
        let fronts = [self.control.front(), self.application.front()];
        let oldest = fronts.into_iter().flatten().min_by_key(|run| run.first);
        oldest.filter(|run| run.time < before && owed.is_none_or(|owed| run.end() <= owed))
    }

    fn forget(&mut self, before: Millis, owed: Option<RoomSeq>) {
        while let Some(oldest) = self.oldest(before, owed) {
            let (last, lane) = (RoomSeq(oldest.end().0 - 1), oldest.lane);
            match lane {
                Lane::Commit(_) | Lane::Proposals => self.control.pop_front(),
                Lane::Application(_) => self.application.pop_front(),
            };
            self.forgotten = last;
        }
    }
}

/// The runs that hold events from `from` on, the first one cut to begin there.
fn runs_from(runs: &VecDeque<EventRun>, from: RoomSeq) -> impl Iterator<Item = EventRun> {
    let skip = runs.partition_point(|run| run.end() <= from);
    runs.iter().skip(skip).map(move |run| run.cut(from))
}

impl EventIndex {
    /// Adds what a command emitted.
    pub fn push(&mut self, room: &RoomUri, emission: &Emission) {
        let run = EventRun {
            first: emission.first,
            count: emission.count,
            at: emission.at,
            item: emission.item,
            time: emission.time,
            origin: emission.origin.clone(),
            lane: emission.lane,
        };
        if !self.rooms.contains_key(room) {
            self.rooms.insert(room.clone(), RoomIndex::default());
        }
        let Some(known) = self.rooms.get_mut(room) else {
            return;
        };
        match run.lane {
            Lane::Commit(_) | Lane::Proposals => known.control.push_back(run),
            Lane::Application(_) => known.application.push_back(run),
        }
    }

    /// Forgets events that were accepted before a time, except those that are owed: for each room the first of them.
    pub fn forget(&mut self, before: Millis, owed: &BTreeMap<RoomUri, RoomSeq>) {
        for (room, known) in &mut self.rooms {
            known.forget(before, owed.get(room).copied());
        }
    }

    /// Whether [`Self::forget`] would forget something.
    #[must_use]
    pub fn may_forget(&self, before: Millis, owed: &BTreeMap<RoomUri, RoomSeq>) -> bool {
        let mut rooms = self.rooms.iter();
        rooms.any(|(room, known)| known.oldest(before, owed.get(room).copied()).is_some())
    }

    /// The last event of a room that was forgotten; zero when none was.
    #[must_use]
    pub fn forgotten(&self, room: &RoomUri) -> RoomSeq {
        self.rooms
            .get(room)
            .map_or(RoomSeq(0), |known| known.forgotten)
    }

    /// Every run of every room.
    pub fn runs(&self) -> impl Iterator<Item = &EventRun> {
        let rooms = self.rooms.values();
        rooms.flat_map(|room| room.control.iter().chain(&room.application))
    }

    /// The runs that hold events from `from` on, the first one cut to begin there; at most `runs_max`.
    #[must_use]
    pub fn from(&self, room: &RoomUri, from: RoomSeq, runs_max: usize) -> Vec<EventRun> {
        let Some(known) = self.rooms.get(room) else {
            return Vec::new();
        };
        let control = runs_from(&known.control, from);
        let application = runs_from(&known.application, from);
        control
            .merge_by(application, |one, other| one.first <= other.first)
            .take(runs_max)
            .collect()
    }

    /// As [`Self::from`], control events alone.
    #[must_use]
    pub fn control_from(&self, room: &RoomUri, from: RoomSeq, runs_max: usize) -> Vec<EventRun> {
        let known = self.rooms.get(room);
        known.map_or_else(Vec::new, |known| {
            runs_from(&known.control, from).take(runs_max).collect()
        })
    }

    /// As [`Self::from`], application messages alone.
    #[must_use]
    pub fn application_from(
        &self,
        room: &RoomUri,
        from: RoomSeq,
        runs_max: usize,
    ) -> Vec<EventRun> {
        let known = self.rooms.get(room);
        known.map_or_else(Vec::new, |known| {
            runs_from(&known.application, from).take(runs_max).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Epoch;

    fn room() -> RoomUri {
        "mimi://a.example/r/club".parse().unwrap()
    }

    /// A run of events, one of each entry and millisecond.
    fn emission(first: u64, count: u32, lane: Lane) -> Emission {
        Emission {
            first: RoomSeq(first),
            count,
            at: Position {
                entry: first,
                command: 0,
            },
            item: 0,
            time: Millis(first),
            origin: None,
            lane,
            recipients: Vec::new(),
        }
    }

    fn index() -> EventIndex {
        let mut index = EventIndex::default();
        let message = Lane::Application(Epoch(1));
        for emission in [
            emission(1, 1, Lane::Commit(Epoch(1))),
            emission(2, 3, message),
            emission(5, 1, Lane::Proposals),
            emission(6, 1, Lane::Commit(Epoch(2))),
            emission(7, 2, message),
        ] {
            index.push(&room(), &emission);
        }
        index
    }

    fn firsts(runs: &[EventRun]) -> Vec<(u64, u32)> {
        runs.iter().map(|run| (run.first.0, run.count)).collect()
    }

    #[test]
    fn both_lanes_are_one_order_and_each_is_found_alone() {
        let index = index();
        let all = index.from(&room(), RoomSeq(3), 64);
        assert_eq!(firsts(&all), [(3, 2), (5, 1), (6, 1), (7, 2)]);
        let control = index.control_from(&room(), RoomSeq(2), 1);
        assert_eq!(firsts(&control), [(5, 1)]);
        let messages = index.application_from(&room(), RoomSeq(8), 64);
        assert_eq!(firsts(&messages), [(8, 1)]);
    }

    #[test]
    fn what_is_old_is_forgotten_up_to_what_a_provider_is_owed() {
        let mut index = index();
        let nothing = BTreeMap::new();
        assert!(!index.may_forget(Millis(1), &nothing));
        index.forget(Millis(3), &nothing);
        assert_eq!(index.forgotten(&room()), RoomSeq(4), "a run at a time");
        let owed = BTreeMap::from([(room(), RoomSeq(6))]);
        index.forget(Millis(100), &owed);
        assert_eq!(index.forgotten(&room()), RoomSeq(5));
        assert!(!index.may_forget(Millis(100), &owed));
        let kept = index.from(&room(), RoomSeq(1), 64);
        assert_eq!(firsts(&kept), [(6, 1), (7, 2)]);
        index.forget(Millis(100), &nothing);
        assert_eq!(
            (index.forgotten(&room()), index.runs().count()),
            (RoomSeq(8), 0)
        );
    }
}
