//! Where the events of each room lie in the log: derived state, rebuilt by replay.
//!
//! Promises: an event is kept for as long as a provider is owed it; until every client of this provider that may read
//! it has it, or its retention is over. Events of a room are forgotten in their order.

pub use super::kept::Runs;
use super::kept::{Kept, RoomIndex};
use crate::{
    ids::{ClientUri, RoomUri},
    machine::{Millis, Position},
    room::outcome::{Change, Emission},
    wire::event::{ClientSeq, Lane, LaneCursor, RoomSeq},
};
use itertools::Itertools as _;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use std::{borrow::Cow, collections::BTreeMap, fmt};

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
    pub(super) fn end(&self) -> RoomSeq {
        self.first.plus(u64::from(self.count))
    }

    pub(super) fn last(&self) -> RoomSeq {
        RoomSeq(self.end().0.saturating_sub(1))
    }

    /// The part from `from` on.
    pub(super) fn cut(&self, from: RoomSeq) -> Self {
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct EventIndex {
    rooms: BTreeMap<RoomUri, Kept>,
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
        self.in_room(room, |known| known.runs.push(run));
    }

    /// Changes a room in which something happens, begun when there is none.
    fn in_room(&mut self, room: &RoomUri, change: impl FnOnce(&mut RoomIndex)) {
        self.rooms.entry(room.clone()).or_default().open(change);
    }

    /// Takes note that a client of this provider joined or left a room.
    pub fn change(&mut self, room: &RoomUri, client: &ClientUri, change: Change) {
        self.in_room(room, |known| known.readers.change(client, change));
    }

    /// Keeps what is known of a room in little memory, for its actor sleeps. Nothing else changes.
    pub fn fold(&mut self, room: &RoomUri) {
        if let Some(known) = self.rooms.get_mut(room) {
            known.fold();
        }
    }

    /// How many rooms are not folded.
    #[must_use]
    pub fn open_rooms(&self) -> usize {
        let rooms = self.rooms.values();
        rooms.filter(|known| known.is_open()).count()
    }

    /// The key that a room has here, so that others hold the same in memory.
    #[must_use]
    pub fn shared(&self, room: &RoomUri) -> Option<RoomUri> {
        let known = self.rooms.get_key_value(room);
        known.map(|(room, _)| room.clone())
    }

    /// Takes note of what a client has acknowledged of a room.
    pub fn read(&mut self, room: &RoomUri, client: &ClientUri, has: LaneCursor) {
        if let Some(known) = self.rooms.get_mut(room) {
            known.read(client, has);
        }
    }

    /// Forgets the events of a room that everybody has, except those from the first on that is owed.
    pub fn forget_read(&mut self, room: &RoomUri, owed: Option<RoomSeq>) {
        if let Some(known) = self.rooms.get_mut(room) {
            known.forget(Millis(0), owed);
        }
    }

    /// Forgets events that everybody has or that were accepted before a time, except those that are owed: for each
    /// room the first of them.
    pub fn forget(&mut self, before: Millis, owed: &BTreeMap<RoomUri, RoomSeq>) {
        for (room, known) in &mut self.rooms {
            known.forget(before, owed.get(room).copied());
        }
    }

    /// Whether [`Self::forget`] would forget something.
    #[must_use]
    pub fn may_forget(&self, before: Millis, owed: &BTreeMap<RoomUri, RoomSeq>) -> bool {
        let mut rooms = self.rooms.iter();
        rooms.any(|(room, known)| known.may_forget(before, owed.get(room).copied()))
    }

    /// What a client whose stream was given this much of a room has, as far as the room's shard was told of its
    /// acknowledgements, and its last event, if it has left; `None` when there is nothing to read where the stream is.
    #[must_use]
    pub fn stands(
        &self,
        room: &RoomUri,
        client: &ClientUri,
        given: LaneCursor,
    ) -> Option<(LaneCursor, Option<RoomSeq>)> {
        let known = self.rooms.get(room)?;
        let forgotten = known.forgotten();
        known.whole().readers.stands(client, given, forgotten)
    }

    /// The last event of each lane of a room that was forgotten; zero when none was.
    #[must_use]
    pub fn forgotten(&self, room: &RoomUri) -> LaneCursor {
        let known = self.rooms.get(room);
        known.map_or_else(LaneCursor::default, Kept::forgotten)
    }

    /// The commands that hold the events of all rooms.
    pub fn positions(&self) -> impl Iterator<Item = Position> {
        let rooms = self.rooms.values().map(Kept::runs);
        rooms.flat_map(|runs| runs.all().map(|run| run.at).collect::<Vec<_>>())
    }

    /// The runs of a room; none when it is not known.
    #[must_use]
    pub fn runs(&self, room: &RoomUri) -> Cow<'_, Runs> {
        self.rooms.get(room).map(Kept::runs).unwrap_or_default()
    }

    /// The runs that hold what follows of each lane, in the room's order, each lane cut to begin there; as many as hold
    /// `events_max` events.
    #[must_use]
    pub fn after(&self, room: &RoomUri, given: LaneCursor, events_max: usize) -> Vec<EventRun> {
        let runs = self.runs(room);
        let control = runs.control_after(given.control);
        let application = runs.application_after(given.application);
        let merged = control.map(|run| run.cut(given.control.next())).merge_by(
            application.map(|run| run.cut(given.application.next())),
            |one, other| one.first <= other.first,
        );
        holding(merged, events_max)
    }
}

impl<'de> Deserialize<'de> for EventIndex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Rooms)
    }
}

/// Reads the rooms of an index. Each is folded before the next is read, those of one hub share its name, and the map is
/// made of all at once, or half of its nodes would be empty.
struct Rooms;

impl<'de> Visitor<'de> for Rooms {
    type Value = EventIndex;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rooms of an event index")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EventIndex, A::Error> {
        let mut rooms: Vec<(RoomUri, Kept)> = Vec::new();
        while let Some((mut room, known)) = map.next_entry::<RoomUri, Kept>()? {
            if let Some((before, _)) = rooms.last() {
                room.share_hub(before.hub());
            }
            rooms.push((room, known));
        }
        let rooms = rooms.into_iter().collect();
        Ok(EventIndex { rooms })
    }
}

/// As many runs as hold so many events.
pub(super) fn holding(runs: impl Iterator<Item = EventRun>, events_max: usize) -> Vec<EventRun> {
    let mut events = 0;
    let wanted = |run: &EventRun| {
        let wanted = events < events_max;
        events += run.count as usize;
        wanted
    };
    runs.take_while(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Epoch;

    fn room() -> RoomUri {
        "mimi://a.example/r/club".parse().unwrap()
    }

    fn bob() -> ClientUri {
        "mimi://a.example/d/bob/phone".parse().unwrap()
    }

    fn given(application: u64, control: u64) -> LaneCursor {
        LaneCursor {
            application: RoomSeq(application),
            control: RoomSeq(control),
        }
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
        index.change(&room(), &bob(), Change::Created);
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
        let all = index.after(&room(), given(2, 2), 64);
        assert_eq!(firsts(&all), [(3, 2), (5, 1), (6, 1), (7, 2)]);
        let three = index.after(&room(), given(2, 2), 3);
        assert_eq!(firsts(&three), [(3, 2), (5, 1)], "as many as hold three");
        let ahead = index.after(&room(), given(7, 1), 64);
        assert_eq!(firsts(&ahead), [(5, 1), (6, 1), (8, 1)]);
        let club = room();
        let first = |run: Option<&EventRun>| run.map(|run| run.first);
        let runs = index.runs(&club);
        let control = runs.control_after(RoomSeq(5)).next();
        assert_eq!(first(control), Some(RoomSeq(6)));
        let message = runs.application_after(RoomSeq(7)).next();
        assert_eq!(first(message), Some(RoomSeq(7)), "not cut");
    }

    #[test]
    fn what_is_old_is_forgotten_up_to_what_a_provider_is_owed() {
        let mut index = index();
        let nothing = BTreeMap::new();
        assert!(!index.may_forget(Millis(1), &nothing), "bob reads");
        index.forget(Millis(3), &nothing);
        assert_eq!(index.forgotten(&room()), given(4, 1), "a run at a time");
        let owed = BTreeMap::from([(room(), RoomSeq(6))]);
        index.forget(Millis(100), &owed);
        assert_eq!(index.forgotten(&room()), given(4, 5));
        assert!(!index.may_forget(Millis(100), &owed));
        let kept = index.after(&room(), given(0, 0), 64);
        assert_eq!(firsts(&kept), [(6, 1), (7, 2)]);
        index.forget(Millis(100), &nothing);
        assert_eq!(
            (index.forgotten(&room()), index.positions().count()),
            (given(8, 6), 0)
        );
    }

    #[test]
    fn a_room_that_nobody_reads_here_is_kept_for_other_providers_alone() {
        let mut index = index();
        let upto = RoomSeq(0);
        index.change(&room(), &bob(), Change::Left { upto });
        let owed = BTreeMap::from([(room(), RoomSeq(1))]);
        assert!(!index.may_forget(Millis(0), &owed));
        let nothing = BTreeMap::new();
        assert!(index.may_forget(Millis(0), &nothing));
        index.forget(Millis(0), &nothing);
        assert_eq!(index.positions().count(), 0);
    }

    #[test]
    fn what_everybody_has_is_forgotten_up_to_what_a_provider_is_owed() {
        let mut index = index();
        index.forget_read(&room(), None);
        assert_eq!(index.forgotten(&room()), given(0, 0));
        index.read(&room(), &bob(), given(3, 6));
        index.forget_read(&room(), None);
        assert_eq!(index.forgotten(&room()), given(0, 1), "in their order");
        index.read(&room(), &bob(), given(7, 7));
        index.forget_read(&room(), Some(RoomSeq(6)));
        assert_eq!(index.forgotten(&room()), given(4, 5));
        index.forget_read(&room(), None);
        assert_eq!(index.forgotten(&room()), given(4, 6));
        let kept = index.after(&room(), given(0, 0), 64);
        assert_eq!(
            firsts(&kept),
            [(7, 2)],
            "a run goes when its last event is had"
        );
        let unknown = "mimi://a.example/r/den".parse().unwrap();
        index.read(&unknown, &bob(), given(1, 1));
        index.forget_read(&unknown, None);
        assert_eq!(index.forgotten(&unknown), given(0, 0));
    }
}
