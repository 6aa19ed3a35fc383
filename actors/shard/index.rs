//! Where the events of each room lie in the log: derived state, rebuilt by replay.

use crate::{
    ids::{ClientUri, RoomUri},
    machine::{Millis, Position},
    room::outcome::Emission,
    wire::event::{ClientSeq, RoomSeq},
};
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
        }
    }
}

/// The events of all rooms of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventIndex {
    rooms: BTreeMap<RoomUri, VecDeque<EventRun>>,
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
        };
        match self.rooms.get_mut(room) {
            Some(runs) => runs.push_back(run),
            None => drop(self.rooms.insert(room.clone(), VecDeque::from([run]))),
        }
    }

    /// Every run of every room.
    pub fn runs(&self) -> impl Iterator<Item = &EventRun> {
        self.rooms.values().flatten()
    }

    /// The runs that hold events from `from` on, the first one cut to begin there; at most `runs_max`.
    #[must_use]
    pub fn from(&self, room: &RoomUri, from: RoomSeq, runs_max: usize) -> Vec<EventRun> {
        let Some(runs) = self.rooms.get(room) else {
            return Vec::new();
        };
        let skip = runs.partition_point(|run| run.end() <= from);
        runs.iter()
            .skip(skip)
            .take(runs_max)
            .map(|run| run.cut(from))
            .collect()
    }
}
