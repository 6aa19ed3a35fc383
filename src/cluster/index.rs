//! Where the events of each room lie in the log: derived state, rebuilt by replay.

use mimi_actors::{
    ids::{ClientUri, RoomUri},
    machine::{Millis, Position},
    room::outcome::Emission,
    wire::event::{ClientSeq, RoomSeq},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
};

use super::wake::Wake;

/// Consecutive events whose bytes are consecutive items of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventRun {
    pub(crate) first: RoomSeq,
    pub(crate) count: u32,
    pub(crate) at: Position,
    pub(crate) item: u32,
    pub(crate) time: Millis,
    /// Who sent them, if a client of this provider: it and its number of the first.
    pub(crate) origin: Option<(ClientUri, ClientSeq)>,
}

impl EventRun {
    /// The number after the last.
    pub(crate) fn end(&self) -> RoomSeq {
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

#[derive(Default)]
struct RoomEvents {
    runs: VecDeque<EventRun>,
    watchers: Vec<Weak<Wake>>,
}

/// The events of all rooms of one shard.
#[derive(Default)]
pub(crate) struct EventIndex {
    rooms: HashMap<RoomUri, RoomEvents>,
}

impl EventIndex {
    /// Adds what a command emitted, and wakes the clients that watch the room.
    pub(crate) fn push(&mut self, room: &RoomUri, emission: &Emission) {
        let Emission {
            first,
            count,
            at,
            item,
            time,
            origin,
            recipients: _,
        } = emission.clone();
        let events = self.rooms.entry(room.clone()).or_default();
        events.runs.push_back(EventRun {
            first,
            count,
            at,
            item,
            time,
            origin,
        });
        events.watchers.retain(|watcher| match watcher.upgrade() {
            Some(wake) => {
                wake.room(room);
                true
            }
            None => false,
        });
    }

    /// Lets a client's stream know of new events of a room.
    pub(crate) fn watch(&mut self, room: &RoomUri, wake: &Arc<Wake>) {
        let events = self.rooms.entry(room.clone()).or_default();
        events.watchers.retain(|watcher| watcher.strong_count() > 0);
        events.watchers.push(Arc::downgrade(wake));
    }

    /// The runs that hold events from `from` on, the first one cut to begin there; at most `runs_max`.
    pub(crate) fn from(&self, room: &RoomUri, from: RoomSeq, runs_max: usize) -> Vec<EventRun> {
        let Some(events) = self.rooms.get(room) else {
            return Vec::new();
        };
        let skip = events.runs.partition_point(|run| run.end() <= from);
        events
            .runs
            .iter()
            .skip(skip)
            .take(runs_max)
            .map(|run| run.cut(from))
            .collect()
    }
}
