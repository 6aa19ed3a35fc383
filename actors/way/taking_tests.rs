use super::*;
use crate::{
    ids::RoomUri,
    limits::{CREDIT_BYTES, LANE_FRAMES_UNACKED_MAX},
    machine::Millis,
    way::receive::{Acked, FanoutTaking},
    wire::{
        BVec, Payload,
        answer::Answer,
        event::{Body, Event, Item, LinkSeq, RoomSeq},
        link::{Fanout, FanoutGroup},
        refusal::TryLater,
    },
};

const MIB: usize = 1 << 20;

type Lane = SharedTaking<FanoutTaking>;

fn lane() -> Lane {
    let (own, hub) = ("b.example", "a.example");
    SharedTaking::new(FanoutTaking::new(
        own.parse().unwrap(),
        hub.parse().unwrap(),
        TryLater::unavailable(9),
    ))
}

/// A batch of one event.
fn frame(shard: u16, session: u64, first: u64) -> OfShard<Fanout> {
    let room: RoomUri = format!("mimi://a.example/r/{shard}").parse().unwrap();
    let event = Event {
        seq: RoomSeq(first),
        time: Millis(1),
        body: Body::Application(Payload::from(vec![7])),
    };
    let items = BVec::from([Item::Event(event)]);
    let said = Fanout {
        first: LinkSeq(first),
        groups: BVec::from([FanoutGroup { room, items }]),
    };
    OfShard {
        shard,
        session,
        said,
    }
}

/// The slots of what is to be asked of a shard, which gets on its way.
fn asked(lane: &mut Lane, shard: u16) -> Vec<Slot> {
    let asks = lane.next_asks(shard);
    lane.handed_on(shard);
    asks.into_iter().map(|(slot, _)| slot).collect()
}

fn received() -> ShardReply {
    ShardReply::Room(Answer::Received)
}

/// The shard, session, last item and wait of the next answer.
fn answer(lane: &mut Lane) -> Option<(u16, u64, u64, Option<u32>)> {
    let OfShard {
        shard,
        session,
        said: Acked { ack, .. },
    } = lane.next_answer(CREDIT_BYTES)?;
    Some((shard, session, ack.upto.0, ack.retry_after_ms))
}

#[test]
fn a_shard_whose_frames_cannot_be_handed_on_waits_alone() {
    let mut lane = lane();
    lane.take(frame(0, 1, 1), MIB).unwrap();
    // Its first frame is being handed on, and that does not end.
    let stuck = lane.next_asks(0);
    assert_eq!(stuck.len(), 1);
    lane.take(frame(0, 1, 2), MIB).unwrap();
    assert_eq!(lane.next_asks(0), []);
    for first in 1..100 {
        assert!(lane.may_read());
        lane.take(frame(1, 1, first), MIB).unwrap();
        let slots = asked(&mut lane, 1);
        assert_eq!(lane.came(slots[0], received()), Some(1));
        assert_eq!(answer(&mut lane), Some((1, 1, first, None)));
    }
    lane.handed_on(0);
    let next = asked(&mut lane, 0);
    lane.came(next[0], received());
    assert_eq!(answer(&mut lane), None);
    lane.came(stuck[0].0, received());
    assert_eq!(answer(&mut lane), Some((0, 1, 1, None)));
    assert_eq!(answer(&mut lane), Some((0, 1, 2, None)));
    assert!(lane.is_idle());
}

#[test]
fn a_shard_that_nobody_answers_for_is_told_to_come_again_and_what_comes_of_it_is_dropped() {
    let mut lane = lane();
    lane.take(frame(0, 1, 5), MIB).unwrap();
    lane.take(frame(1, 1, 1), MIB).unwrap();
    let slots = asked(&mut lane, 0);
    let other = asked(&mut lane, 1);
    lane.came(slots[0], ShardReply::Nobody);
    assert_eq!(answer(&mut lane), Some((0, 1, 4, Some(9))));
    assert!(lane.is_over(0));
    for first in 6..50 {
        lane.take(frame(0, 1, first), MIB).unwrap();
    }
    assert_eq!((lane.held, answer(&mut lane)), (MIB, None));
    lane.came(other[0], received());
    assert_eq!(answer(&mut lane), Some((1, 1, 1, None)));
    // It begins anew.
    lane.take(frame(0, 2, 5), MIB).unwrap();
    let slots = asked(&mut lane, 0);
    lane.came(slots[0], received());
    assert_eq!(answer(&mut lane), Some((0, 2, 5, None)));
}

#[test]
fn a_full_lane_gives_up_what_waits_behind_a_frame_that_is_stuck_and_reads_on() {
    let mut lane = lane();
    lane.held_max = 8 * MIB;
    for first in 1..=5 {
        lane.take(frame(0, 1, first), MIB).unwrap();
        lane.take(frame(2, 1, first), MIB / 2).unwrap();
        if first == 1 {
            assert_eq!((lane.next_asks(0).len(), lane.next_asks(2).len()), (1, 1));
        }
    }
    assert!(lane.may_read());
    lane.take(frame(1, 1, 1), MIB).unwrap();
    let slots = asked(&mut lane, 1);
    // Now it is full: shard 0 has most waiting, four MiB.
    assert!(lane.may_read());
    assert_eq!(lane.held, 8 * MIB + MIB / 2 - 4 * MIB);
    // What comes behind what is missing now is not held either.
    lane.take(frame(0, 1, 6), MIB).unwrap();
    assert_eq!(lane.held, 4 * MIB + MIB / 2);
    lane.came(slots[0], received());
    assert_eq!(answer(&mut lane), Some((1, 1, 1, None)));
}

#[test]
fn a_shard_whose_waiting_frames_were_given_up_is_told_to_come_again_behind_what_it_has() {
    let mut lane = lane();
    lane.held_max = 3 * MIB;
    for first in 1..=3 {
        lane.take(frame(0, 1, first), MIB).unwrap();
    }
    let stuck = lane.next_asks(0);
    assert!(lane.may_read());
    lane.handed_on(0);
    assert_eq!(lane.next_asks(0), []);
    lane.came(stuck[0].0, received());
    assert_eq!(answer(&mut lane), Some((0, 1, 1, None)));
    assert_eq!(answer(&mut lane), Some((0, 1, 1, Some(9))));
    assert_eq!((answer(&mut lane), lane.held), (None, 0));
}

#[test]
fn a_lane_that_is_full_of_what_is_on_its_way_is_read_again_once_something_is_answered() {
    let mut lane = lane();
    lane.held_max = 2 * MIB;
    let mut slots = Vec::new();
    for shard in [0, 1] {
        lane.take(frame(shard, 1, 1), MIB).unwrap();
        slots.extend(asked(&mut lane, shard));
    }
    assert!(!lane.may_read());
    lane.came(slots[1], received());
    assert_eq!(answer(&mut lane), Some((1, 1, 1, None)));
    assert!(lane.may_read());
}

#[test]
fn credit_shrinks_with_what_the_lane_holds() {
    let mut lane = lane();
    let credit = |lane: &mut Lane, first| {
        lane.take(frame(1, 1, first), MIB).unwrap();
        let slots = asked(lane, 1);
        lane.came(slots[0], received());
        let answer = lane.next_answer(CREDIT_BYTES).unwrap();
        answer.said.ack.credit_bytes as usize
    };
    let alone = credit(&mut lane, 1);
    assert!(alone >= CREDIT_BYTES as usize - MIB, "{alone}");
    for first in 1..=12 {
        lane.take(frame(0, 1, first), 4 * MIB).unwrap();
    }
    let beside = credit(&mut lane, 2);
    assert!(beside <= (LANE_BYTES_HELD_MAX - 48 * MIB) / LANE_CREDIT_SHARE);
}

#[test]
fn a_session_that_begins_anew_waits_for_what_the_one_before_asked_and_tells_nothing_of_it() {
    let mut lane = lane();
    lane.take(frame(0, 1, 1), MIB).unwrap();
    let before = asked(&mut lane, 0);
    lane.take(frame(0, 1, 2), MIB).unwrap();
    lane.take(frame(0, 2, 1), MIB).unwrap();
    assert_eq!((asked(&mut lane, 0), lane.held), (Vec::new(), 2 * MIB));
    assert_eq!(lane.came(before[0], received()), Some(0));
    assert_eq!((answer(&mut lane), lane.held), (None, MIB));
    let slots = asked(&mut lane, 0);
    lane.came(slots[0], received());
    assert_eq!(answer(&mut lane), Some((0, 2, 1, None)));
}

#[test]
fn sessions_that_begin_again_and_again_hold_no_more_than_one_asked_and_one_waiting() {
    let mut lane = lane();
    for session in 1..1_000 {
        lane.take(frame(0, session, 1), MIB).unwrap();
        lane.next_asks(0);
        lane.handed_on(0);
        assert!(lane.held <= 2 * MIB && lane.asked.len() <= 1);
    }
}

#[test]
fn a_sender_that_breaks_the_rules_of_a_shared_lane_is_told_apart() {
    let mut lane = lane();
    let shard = SHARDS_MAX;
    let unknown = Err(Broken::UnknownShard { shard });
    assert_eq!(lane.take(frame(shard, 1, 1), 1), unknown);
    let none = Broken::UnknownSession {
        shard: 0,
        session: 0,
    };
    assert_eq!(lane.take(frame(0, 0, 1), 1), Err(none));
    lane.take(frame(0, 4, 1), 1).unwrap();
    let back = Broken::UnknownSession {
        shard: 0,
        session: 3,
    };
    assert_eq!(lane.take(frame(0, 3, 2), 1), Err(back));
    assert_eq!(lane.take(frame(0, 4, 3), 1), Err(Broken::Gap));
    for first in 2..=LANE_FRAMES_UNACKED_MAX as u64 {
        lane.take(frame(0, 4, first), 1).unwrap();
    }
    let next = LANE_FRAMES_UNACKED_MAX as u64 + 1;
    let many = Broken::TooManyFrames { shard: 0 };
    assert_eq!(lane.take(frame(0, 4, next), 1), Err(many));
    // Every shard that there may be finds its place.
    for shard in 1..SHARDS_MAX {
        lane.take(frame(shard, 1, 1), 1).unwrap();
    }
    assert_eq!(lane.shards.len(), usize::from(SHARDS_MAX));
}
