//! One index whose rooms are folded after each step, beside one whose rooms stay open.

use super::*;
use crate::{
    ids::RoomUri,
    machine::Position,
    room::outcome::{Change, Emission},
    shard::index::EventIndex,
    wire::event::{ClientSeq, Epoch},
};
use proptest::{collection::vec, prelude::*};
use std::collections::BTreeMap;

const ROOMS: [&str; 2] = ["mimi://a.example/r/club", "mimi://b.example/r/den"];
const CLIENTS: [&str; 3] = [
    "mimi://a.example/d/alice/phone",
    "mimi://a.example/d/bob/phone",
    "mimi://a.example/d/bob/watch",
];

/// What may happen to an index; numbers say which room, client, event or time.
#[derive(Clone, Debug)]
enum Step {
    Push(usize, u32, Lane, Option<usize>),
    Change(usize, usize, Change),
    Read(usize, usize, LaneCursor),
    ForgetRead(usize, Option<RoomSeq>),
    Forget(Millis, Option<RoomSeq>),
}

fn seq() -> impl Strategy<Value = RoomSeq> {
    (0..24_u64).prop_map(RoomSeq)
}

fn cursor() -> impl Strategy<Value = LaneCursor> {
    (seq(), seq()).prop_map(|(application, control)| LaneCursor {
        application,
        control,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let lane = prop_oneof![
        Just(Lane::Commit(Epoch(2))),
        Just(Lane::Proposals),
        Just(Lane::Application(Epoch(1)))
    ];
    let change = prop_oneof![
        Just(Change::Created),
        seq().prop_map(|after| Change::Joined { after }),
        seq().prop_map(|upto| Change::Left { upto })
    ];
    let owed = || proptest::option::of(seq());
    prop_oneof![
        (0..2_usize, 1..4_u32, lane, proptest::option::of(0..3_usize))
            .prop_map(|(room, count, lane, origin)| Step::Push(room, count, lane, origin)),
        (0..2_usize, 0..3_usize, change)
            .prop_map(|(room, client, change)| Step::Change(room, client, change)),
        (0..2_usize, 0..3_usize, cursor())
            .prop_map(|(room, client, has)| Step::Read(room, client, has)),
        (0..2_usize, owed()).prop_map(|(room, owed)| Step::ForgetRead(room, owed)),
        (0..24_u64, owed()).prop_map(|(before, owed)| Step::Forget(Millis(before), owed)),
    ]
}

fn room(number: usize) -> RoomUri {
    ROOMS[number].parse().unwrap()
}

fn client(number: usize) -> ClientUri {
    CLIENTS[number].parse().unwrap()
}

/// An index, and the number of the next event.
#[derive(Default)]
struct Rooms {
    index: EventIndex,
    next: u64,
}

impl Rooms {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Push(number, count, lane, origin) => {
                let first = self.next + 1;
                self.next += u64::from(count);
                let emission = Emission {
                    first: RoomSeq(first),
                    count,
                    at: Position {
                        entry: first,
                        command: 1,
                    },
                    item: 2,
                    time: Millis(first),
                    origin: origin.map(|number| (client(number), ClientSeq(first))),
                    lane,
                    recipients: Vec::new(),
                };
                self.index.push(&room(number), &emission);
            }
            Step::Change(number, who, change) => {
                self.index.change(&room(number), &client(who), change);
            }
            Step::Read(number, who, has) => self.index.read(&room(number), &client(who), has),
            Step::ForgetRead(number, owed) => self.index.forget_read(&room(number), owed),
            Step::Forget(before, owed) => self.index.forget(before, &owed_of(owed)),
        }
    }

    fn fold(&mut self) {
        for number in 0..ROOMS.len() {
            self.index.fold(&room(number));
        }
    }

    /// All that an index answers about this much.
    fn answers(&self, given: LaneCursor, before: Millis, owed: Option<RoomSeq>) -> String {
        let index = &self.index;
        let of_room = |number| {
            let room = room(number);
            let stands: Vec<_> = (0..CLIENTS.len())
                .map(|who| index.stands(&room, &client(who), given))
                .collect();
            let after = index.after(&room, given, 3);
            (index.forgotten(&room), stands, after, index.runs(&room))
        };
        let positions: Vec<Position> = index.positions().collect();
        let may_forget = index.may_forget(before, &owed_of(owed));
        format!("{:?}", (of_room(0), of_room(1), positions, may_forget))
    }
}

/// Of the first room, something is owed.
fn owed_of(owed: Option<RoomSeq>) -> BTreeMap<RoomUri, RoomSeq> {
    owed.into_iter().map(|owed| (room(0), owed)).collect()
}

proptest! {
    #[test]
    fn a_folded_room_answers_changes_and_is_stored_like_an_open_one(
        steps in vec((step(), cursor(), 0..24_u64, proptest::option::of(seq())), 1..24),
    ) {
        let (mut open, mut folded) = (Rooms::default(), Rooms::default());
        for (step, given, before, owed) in steps {
            open.take(&step);
            folded.take(&step);
            folded.fold();
            prop_assert_eq!(&open.index, &folded.index);
            let before = Millis(before);
            prop_assert_eq!(open.answers(given, before, owed), folded.answers(given, before, owed));
            let stored = postcard::to_allocvec(&open.index).unwrap();
            prop_assert_eq!(&postcard::to_allocvec(&folded.index).unwrap(), &stored);
            let read: EventIndex = postcard::from_bytes(&stored).unwrap();
            prop_assert_eq!(&read, &open.index);
        }
    }
}

#[test]
fn who_reads_or_acknowledges_leaves_a_folded_room_folded_and_what_happens_in_it_opens_it() {
    let mut known = Kept::default();
    known.open(|room| room.readers.change(&client(0), Change::Created));
    known.fold();
    known.read(&client(0), LaneCursor::all(RoomSeq(3)));
    known.forget(Millis(9), None);
    assert!(!known.is_open());
    known.open(|_| {});
    assert!(known.is_open());
}

#[test]
fn a_room_that_nothing_may_be_forgotten_of_is_not_looked_into() {
    let mut known = Kept::default();
    known.fold();
    assert!(!known.is_due(Millis(u64::MAX - 1)));
    known.open(|room| {
        room.readers.change(&client(0), Change::Created);
        room.runs.push(EventRun {
            first: RoomSeq(1),
            count: 1,
            at: Position::default(),
            item: 0,
            time: Millis(7),
            origin: None,
            lane: Lane::Proposals,
        });
    });
    known.fold();
    assert!(!known.is_due(Millis(7)));
    assert!(known.is_due(Millis(8)), "its time is over");
    known.read(&client(0), LaneCursor::all(RoomSeq(1)));
    assert!(known.is_due(Millis(0)), "everybody has it");
}

#[test]
fn a_folded_room_of_two_readers_takes_few_bytes() {
    let mut room = RoomIndex::default();
    for number in 0..2 {
        room.readers.change(&client(number), Change::Created);
    }
    let Kept::Folded { bytes, .. } = Kept::folded(&room) else {
        panic!("it is folded");
    };
    assert!(bytes.len() <= 96, "{}", bytes.len());
    assert!(size_of::<Kept>() <= 24);
}
