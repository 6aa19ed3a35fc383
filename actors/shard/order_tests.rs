//! The order in which a member is given a room, over random rooms: what every order promises, and the bounds of each.

use super::{
    Derived,
    read::{ReadError, Source, room_events},
};
use crate::{
    ids::{ClientUri, RoomUri},
    limits::{BATCH_EVENTS_MAX, WINDOW_EVENTS_MAX},
    machine::{Millis, Position},
    record::{Command, Entry},
    room::{
        follower,
        outcome::{Change, Emission},
    },
    wire::{
        BVec, Payload,
        door::{Order, PAST_EPOCHS, RoomBody},
        event::{Body, CommitEvent, Epoch, Event, Item, Lane, LaneCursor, RoomSeq},
    },
};
use proptest::prelude::*;
use std::{collections::BTreeMap, sync::Arc};

/// What one event of a room is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Commit,
    Proposals,
    /// A message of an epoch that is so many behind the room's.
    Message(u64),
}

struct Held(Entry);

impl AsRef<Entry> for Held {
    fn as_ref(&self) -> &Entry {
        &self.0
    }
}

/// A followed room whose events lie in one log, each with an entry of its own.
#[derive(Default)]
struct Room {
    derived: Derived,
    log: BTreeMap<u64, Arc<Held>>,
    /// Of each event: the room's epoch behind it, and the epoch that a message is of.
    events: BTreeMap<u64, (u64, Option<u64>)>,
    epoch: u64,
}

impl Source for Room {
    type Held = Held;

    fn derived<R>(&self, look: impl FnOnce(&Derived) -> R) -> R {
        look(&self.derived)
    }

    fn entry(&self, index: u64) -> Result<Arc<Held>, ReadError> {
        Ok(Arc::clone(&self.log[&index]))
    }
}

fn room() -> RoomUri {
    "mimi://a.example/r/club".parse().unwrap()
}

fn reader() -> ClientUri {
    "mimi://b.example/d/bob/phone".parse().unwrap()
}

impl Room {
    /// An empty room that the reader reads.
    fn read() -> Self {
        let mut room = Self::default();
        let index = &mut room.derived.index;
        index.change(&self::room(), &reader(), Change::Created);
        room
    }

    fn add(&mut self, kind: Kind, removes_reader: bool) {
        let seq = RoomSeq(self.events.len() as u64 + 1);
        let some = || Payload::from(seq.0.to_be_bytes().to_vec());
        let (body, lane, of) = match kind {
            Kind::Commit => {
                self.epoch += 1;
                let left = if removes_reader {
                    vec![reader()]
                } else {
                    vec![]
                };
                let commit = CommitEvent {
                    epoch: Epoch(self.epoch),
                    commit: some(),
                    left: BVec::try_from(left).unwrap(),
                    entered: None,
                    invitation: None,
                };
                let lane = Lane::Commit(Epoch(self.epoch));
                (Body::Commit(commit), lane, None)
            }
            Kind::Proposals => {
                let body = Body::Proposals(BVec::from([some()]));
                (body, Lane::Proposals, None)
            }
            Kind::Message(behind) => {
                let of = self.epoch.saturating_sub(behind);
                let lane = Lane::Application(Epoch(of));
                (Body::Application(some()), lane, Some(of))
            }
        };
        let time = Millis(seq.0);
        let event = Item::Event(Event { seq, time, body });
        let items = BVec::from([event]);
        let deliver = follower::Command::Deliver(follower::Deliver { items });
        let command = Command::Follower(room(), Arc::new(deliver));
        let at = Position {
            entry: seq.0,
            command: 0,
        };
        let entry = Entry {
            stamp: time,
            commands: BVec::from([command]),
        };
        self.log.insert(seq.0, Arc::new(Held(entry)));
        self.events.insert(seq.0, (self.epoch, of));
        let emission = Emission {
            first: seq,
            count: 1,
            at,
            item: 0,
            time,
            origin: None,
            lane,
            recipients: Vec::new(),
        };
        self.derived.index.push(&room(), &emission);
    }

    /// Everything that the reader is given now, part by part, while the promises of every order are checked.
    fn give(&self, from: LaneCursor, order: Order) -> (Vec<Vec<u64>>, LaneCursor) {
        let (mut given, mut parts) = (from, Vec::new());
        let mut reader_epoch = 0;
        let mut left = false;
        loop {
            let part = room_events(self, &room(), &reader(), given, None, order).unwrap();
            if part.events.is_empty() || left {
                return (parts, given);
            }
            left = part.left.is_some();
            let seqs: Vec<u64> = part.events.iter().map(|event| event.seq.0).collect();
            assert!(seqs.len() <= BATCH_EVENTS_MAX);
            for event in &part.events {
                let (epoch, of) = self.events[&event.seq.0];
                match &event.body {
                    RoomBody::Commit { .. } => {
                        assert!(epoch > reader_epoch || reader_epoch == 0, "an epoch twice");
                        reader_epoch = epoch;
                    }
                    RoomBody::Proposals(_) => {}
                    RoomBody::Application(_) => {
                        let of = of.unwrap();
                        let done = reader_epoch.max(self.epoch_at(from.control));
                        assert!(
                            of <= done,
                            "a message before the Commit that opens its epoch"
                        );
                        assert!(
                            done <= of + PAST_EPOCHS,
                            "a message that nobody can read any more"
                        );
                    }
                }
            }
            given = part.given;
            parts.push(seqs);
        }
    }

    fn epoch_at(&self, seq: RoomSeq) -> u64 {
        self.events.get(&seq.0).map_or(0, |(epoch, _)| *epoch)
    }

    fn is_message(&self, seq: u64) -> bool {
        self.events[&seq].1.is_some()
    }
}

fn history(kinds: &[Kind]) -> Room {
    let mut room = Room::read();
    for kind in kinds {
        room.add(*kind, false);
    }
    room
}

fn kinds() -> impl Strategy<Value = Vec<Kind>> {
    let kind = prop_oneof![
        1 => Just(Kind::Commit),
        1 => Just(Kind::Proposals),
        // As old as the hub takes them.
        8 => (0..=PAST_EPOCHS).prop_map(Kind::Message),
    ];
    proptest::collection::vec(kind, 1..400)
}

const ORDERS: [Order; 3] = [
    Order::InOrder,
    Order::ControlFirst,
    Order::ControlThenNewest,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_event_is_given_once_and_control_events_without_a_gap(kinds in kinds()) {
        let room = history(&kinds);
        for order in ORDERS {
            let (parts, given) = room.give(LaneCursor::default(), order);
            let mut all: Vec<u64> = parts.concat();
            let (messages, control): (Vec<u64>, Vec<u64>) = all.iter().partition(|seq| room.is_message(**seq));
            prop_assert!(control.is_sorted(), "{order:?}: {control:?}");
            if order != Order::ControlThenNewest {
                prop_assert!(messages.is_sorted(), "{order:?}");
            }
            all.sort_unstable();
            prop_assert_eq!(all, (1..=kinds.len() as u64).collect::<Vec<_>>());
            let last = messages.iter().max().copied().unwrap_or_default();
            prop_assert_eq!(given.application, RoomSeq(last));
        }
    }

    #[test]
    fn windows_are_whole_and_short_and_follow_one_another(kinds in kinds()) {
        let room = history(&kinds);
        let (parts, _) = room.give(LaneCursor::default(), Order::ControlThenNewest);
        let mut behind = 0;
        for part in parts.iter().filter(|part| room.is_message(part[0])) {
            prop_assert!(part.len() <= WINDOW_EVENTS_MAX);
            prop_assert!(part.iter().rev().is_sorted(), "newest first: {part:?}");
            prop_assert!(*part.last().unwrap() > behind, "windows overlap: {part:?}");
            behind = part[0];
        }
    }

    #[test]
    fn who_goes_on_in_another_order_misses_nothing_and_gets_nothing_twice(
        kinds in kinds(),
        orders in proptest::collection::vec(0_usize..3, 1..12),
    ) {
        let room = history(&kinds);
        let (mut given, mut seen) = (LaneCursor::default(), Vec::new());
        // One part in each order, then the rest as it happened.
        for order in orders {
            let part = room_events(&room, &self::room(), &reader(), given, None, ORDERS[order]).unwrap();
            given = part.given;
            seen.extend(part.events.iter().map(|event| event.seq.0));
        }
        let (rest, _) = room.give(given, Order::InOrder);
        seen.extend(rest.concat());
        seen.sort_unstable();
        prop_assert_eq!(seen, (1..=kinds.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn the_commit_that_removes_the_reader_comes_after_all_messages_before_it(kinds in kinds()) {
        for order in ORDERS {
            let mut room = history(&kinds);
            room.add(Kind::Commit, true);
            let removal = kinds.len() as u64 + 1;
            for kind in [Kind::Message(0), Kind::Commit, Kind::Message(0)] {
                room.add(kind, false);
            }
            let (parts, _) = room.give(LaneCursor::default(), order);
            let all = parts.concat();
            prop_assert_eq!(all.last(), Some(&removal), "{:?}", order);
            prop_assert_eq!(all.len() as u64, removal);
        }
    }
}

#[test]
fn control_events_run_ahead_as_far_as_the_oldest_message_can_still_be_read() {
    let mut room = Room::read();
    room.add(Kind::Commit, false);
    room.add(Kind::Message(0), false);
    for _ in 0..20 {
        room.add(Kind::Commit, false);
        room.add(Kind::Message(0), false);
    }
    let (parts, _) = room.give(LaneCursor::default(), Order::ControlFirst);
    // The Commits of epochs 1 to 6, for the message of epoch 1 is waiting; then that message; then one Commit more.
    let ahead: Vec<u64> = (0..=PAST_EPOCHS).map(|epoch| 2 * epoch + 1).collect();
    assert_eq!(parts[0], ahead);
    assert!(parts[1].contains(&2));
    assert_eq!(parts.concat().len(), 42);
}

#[test]
fn a_lane_that_rests_does_not_hold_the_other_whatever_lies_behind_it() {
    let long = 2 * BATCH_EVENTS_MAX;
    let message = std::iter::repeat_n(Kind::Message(0), long);
    let control = std::iter::repeat_n(Kind::Proposals, long);
    let first = || std::iter::once(Kind::Commit);
    for kinds in [
        first().chain(message.clone()).collect::<Vec<_>>(),
        first().chain([Kind::Message(0)]).chain(control).collect(),
        message.chain([Kind::Commit, Kind::Message(0)]).collect(),
    ] {
        let room = history(&kinds);
        for order in ORDERS {
            let (parts, _) = room.give(LaneCursor::default(), order);
            let mut all = parts.concat();
            all.sort_unstable();
            let whole = (1..=kinds.len() as u64).collect::<Vec<_>>();
            assert_eq!(all, whole, "{order:?}");
        }
    }
}

#[test]
fn who_was_not_given_what_is_forgotten_is_told_and_goes_on_after_it() {
    for order in ORDERS {
        let mut room = history(&[
            Kind::Commit,
            Kind::Message(0),
            Kind::Message(0),
            Kind::Commit,
            Kind::Message(0),
        ]);
        room.derived.index.forget(Millis(4), &BTreeMap::new());
        let read =
            |given, upto| room_events(&room, &self::room(), &reader(), given, upto, order).unwrap();
        let part = read(LaneCursor::default(), None);
        assert_eq!(part.gap, Some((RoomSeq(1), RoomSeq(3))));
        assert_eq!(
            (part.given, part.events.len()),
            (LaneCursor::all(RoomSeq(3)), 0)
        );
        let (parts, _) = room.give(part.given, order);
        assert_eq!(parts.concat(), [4, 5]);
        // Who has the Commit, and not the messages, misses those; who has everything misses nothing.
        let given = LaneCursor {
            application: RoomSeq(0),
            control: RoomSeq(1),
        };
        assert_eq!(read(given, None).gap, Some((RoomSeq(1), RoomSeq(3))));
        assert_eq!(read(LaneCursor::all(RoomSeq(3)), None).gap, None);
        assert_eq!(
            read(LaneCursor::all(RoomSeq(1)), Some(RoomSeq(2))).gap,
            Some((RoomSeq(2), RoomSeq(2)))
        );
        assert_eq!(
            read(LaneCursor::all(RoomSeq(2)), Some(RoomSeq(2))).gap,
            None
        );
    }
}
