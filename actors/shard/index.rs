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

    /// The part from `from` on, if there is one.
    pub(super) fn after(&self, from: RoomSeq) -> Option<Self> {
        (self.end() > from).then(|| self.cut(from))
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
