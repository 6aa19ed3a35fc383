use super::*;
use crate::{
    machine::Millis,
    wire::{
        Payload,
        event::{Body, CommitEvent, Epoch, Event, Invitation, Item, RoomSeq, SubmitRefused},
        link::{FanoutGroup, SubmitGroup},
    },
};

const CREDIT: u32 = 7;

fn provider(name: char) -> ProviderId {
    format!("{name}.example").parse().unwrap()
}

fn room(name: &str) -> RoomUri {
    format!("mimi://a.example/r/{name}").parse().unwrap()
}

fn event(seq: u64) -> Item {
    Item::Event(Event {
        seq: RoomSeq(seq),
        time: Millis(1),
        body: Body::Application(Payload::from(vec![7])),
    })
}

/// A batch with one event of each room.
fn batch(first: u64, rooms: &[&str]) -> Fanout {
    let group = |name: &&str| FanoutGroup {
        room: room(name),
        items: BVec::from([event(first)]),
    };
    Fanout {
        first: LinkSeq(first),
        groups: BVec::try_from(rooms.iter().map(group).collect::<Vec<_>>()).unwrap(),
    }
}

fn lane() -> FanoutTaking {
    FanoutTaking::new(provider('b'), provider('a'), TryLater::unavailable(9))
}

/// Takes a batch; gives the slots of its parts.
fn taken(lane: &mut FanoutTaking, batch: Fanout) -> Vec<Slot> {
    lane.take(batch, 100).unwrap();
    let asks = lane.next_asks().into_iter();
    asks.map(|(slot, _)| slot).collect()
}

fn received() -> ShardReply {
    ShardReply::Room(Answer::Received)
}

fn refused(refused: Refused) -> ShardReply {
    ShardReply::Room(Answer::Refused(refused))
}

#[test]
fn acknowledgements_keep_the_order_of_the_batches_and_wait_for_every_part() {
    let mut lane = lane();
    let first = taken(&mut lane, batch(5, &["x", "y"]));
    let second = taken(&mut lane, batch(7, &["z"]));
    lane.came(second[0], received());
    lane.came(first[1], received());
    assert_eq!(lane.next_answer(CREDIT), None);
    lane.came(first[0], received());
    let acked = |lane: &mut FanoutTaking| {
        let acked = lane.next_answer(CREDIT).unwrap();
        assert_eq!((acked.over, acked.ack.credit_bytes), (None, CREDIT));
        acked.ack.upto
    };
    assert_eq!(acked(&mut lane), LinkSeq(6));
    assert_eq!(acked(&mut lane), LinkSeq(7));
    assert_eq!(lane.next_answer(CREDIT), None);
    assert!(lane.is_idle());
}

#[test]
fn a_room_that_may_take_its_part_later_ends_the_lane_with_what_the_hub_has() {
    let unavailable = Refused::TryLater(TryLater::unavailable(40));
    let overloaded = Refused::TryLater(TryLater::overloaded(50));
    for (reply, after_ms) in [
        (ShardReply::Nobody, 9),
        (refused(unavailable), 40),
        (refused(overloaded), 50),
        (refused(Refused::StorageFull), FULL_RETRY_AFTER_MS),
        // What is missing may be on its way.
        (ShardReply::Room(Answer::Gap { expected: 3 }), 0),
    ] {
        let mut lane = lane();
        let first = taken(&mut lane, batch(5, &["x"]));
        let second = taken(&mut lane, batch(6, &["x"]));
        lane.came(first[0], received());
        lane.came(second[0], reply);
        assert_eq!(lane.next_answer(CREDIT).unwrap().ack.upto, LinkSeq(5));
        let last = lane.next_answer(CREDIT).unwrap();
        assert!(last.over.is_some());
        let told = (last.ack.upto, last.ack.retry_after_ms);
        assert_eq!(told, (LinkSeq(5), Some(after_ms)));
        assert!(lane.next_answer(CREDIT).is_none() && !lane.may_take());
    }
}

#[test]
fn what_a_batch_brings_counts_by_its_rooms_and_by_the_bytes_of_its_invitations() {
    let invitation = |bytes: usize| Invitation {
        epoch: Epoch(1),
        clients: BVec::default(),
        welcome: vec![7; bytes].into(),
        tree: vec![7; 1].into(),
    };
    let event = |body| {
        Item::Event(Event {
            seq: RoomSeq(1),
            time: Millis(1),
            body,
        })
    };
    let commit = |invitation| {
        event(Body::Commit(CommitEvent {
            epoch: Epoch(1),
            commit: Payload::from(vec![7]),
            left: BVec::default(),
            entered: None,
            invitation,
        }))
    };
    let group = |name: &str, items: Vec<Item>| FanoutGroup {
        room: room(name),
        items: BVec::first_max(items),
    };
    let brought = |groups: Vec<FanoutGroup>| {
        let groups = BVec::first_max(groups);
        let first = LinkSeq(1);
        let Brought { rooms, invited } = FanoutTaking::brings(&Fanout { first, groups });
        (rooms, invited)
    };
    let small = || event(Body::Invited(invitation(5)));
    let large = event(Body::Invited(invitation(INVITED_BYTES)));
    assert_eq!(brought(vec![group("r", vec![commit(None)])]), (0, 0));
    assert_eq!(
        brought(vec![group("r", vec![small()]), group("s", vec![large])]),
        (2, 3)
    );
    let added = vec![commit(None), commit(Some(invitation(5))), small()];
    assert_eq!(brought(vec![group("r", added)]), (0, 2));
    let said = Item::Consent(Payload::from(vec![7]));
    assert_eq!(brought(vec![group("r", vec![said.clone(), said])]), (0, 2));
}

#[test]
fn the_first_batch_of_a_lane_begins_at_what_the_hub_has() {
    let mut lane = lane();
    let slots = taken(&mut lane, batch(5, &["x"]));
    lane.came(slots[0], ShardReply::Nobody);
    assert_eq!(lane.next_answer(CREDIT).unwrap().ack.upto, LinkSeq(4));
}

#[test]
fn what_comes_behind_a_part_that_found_nobody_is_not_asked_and_not_held() {
    let mut lane = lane();
    let slots = taken(&mut lane, batch(1, &["x", "y"]));
    lane.take(batch(3, &["z"]), 50).unwrap();
    assert_eq!(lane.held().waiting, 50);
    lane.came(slots[1], ShardReply::Nobody);
    lane.take(batch(4, &["z"]), 50).unwrap();
    assert_eq!(lane.next_asks(), []);
    assert_eq!((lane.held().bytes, lane.held().waiting), (100, 0));
    lane.came(slots[0], received());
    assert!(lane.next_answer(CREDIT).unwrap().over.is_some());
    assert_eq!(lane.held(), Held::default());
}

#[test]
fn a_session_that_is_over_holds_what_was_asked_until_it_is_answered() {
    let mut lane = lane();
    let slots = taken(&mut lane, batch(1, &["x", "y"]));
    lane.came(slots[0], ShardReply::Nobody);
    assert!(lane.next_answer(CREDIT).unwrap().over.is_some());
    let held = lane.held();
    assert_eq!((held.bytes, held.under_way), (100, 1));
    lane.came(slots[1], received());
    assert_eq!(lane.held(), Held::default());
}

#[test]
fn a_room_that_refuses_for_good_is_named_and_a_user_who_is_gone_has_taken_it() {
    let mut lane = lane();
    let slots = taken(&mut lane, batch(1, &["x", "y"]));
    lane.came(slots[0], refused(Refused::Poisoned));
    let gone = UserAnswer::Refused(UserRefused::Deleted);
    lane.came(slots[1], ShardReply::User(gone));
    let acked = lane.next_answer(CREDIT).unwrap();
    let rooms = acked.ack.refused.iter().map(|refused| &refused.room);
    assert_eq!(rooms.collect::<Vec<_>>(), [&room("x")]);
    assert_eq!((acked.ack.upto, acked.over), (LinkSeq(2), None));
}

#[test]
fn a_receiver_takes_so_many_batches_and_then_waits() {
    let mut lane = lane();
    for first in 1..=LANE_FRAMES_UNACKED_MAX as u64 {
        assert!(lane.may_take());
        taken(&mut lane, batch(first, &["x"]));
    }
    assert!(!lane.may_take());
}

/// A frame with a run of two submissions to each room.
fn submit(rooms: &[RoomUri]) -> Submit {
    let group = |room: &RoomUri| SubmitGroup {
        room: room.clone(),
        sender: "mimi://b.example/d/bob/phone".parse().unwrap(),
        first: SubmitSeq(3),
        undecided: SubmitSeq(3),
        messages: BVec::from([Payload::from(vec![1]), Payload::from(vec![2])]),
    };
    Submit {
        groups: BVec::try_from(rooms.iter().map(group).collect::<Vec<_>>()).unwrap(),
    }
}

#[test]
fn submissions_are_judged_frame_by_frame_and_those_without_an_answer_are_sent_again() {
    let mut lane = SubmitTaking::new(provider('a'), provider('b'));
    let strange: RoomUri = "mimi://c.example/r/den".parse().unwrap();
    let frame = submit(&[room("x"), strange.clone(), room("y")]);
    lane.take(frame, 100).unwrap();
    lane.take(submit(&[room("x")]), 100).unwrap();
    let mut asks = lane.next_asks();
    asks.extend(lane.next_asks());
    let asked: Vec<String> = asks.iter().map(|(_, ask)| ask.whose()).collect();
    let (x, y) = (room("x").to_string(), room("y").to_string());
    assert_eq!(asked, [x.clone(), y, x]);

    lane.came(asks[2].0, ShardReply::Room(Answer::Gap { expected: 5 }));
    lane.came(asks[0].0, received());
    assert_eq!(lane.next_answer(0), None);
    lane.came(asks[1].0, ShardReply::Nobody);
    let first = lane.next_answer(0).unwrap();
    let refused: Vec<(&RoomUri, u32, SubmitRefused)> = first
        .refused
        .iter()
        .map(|run| (&run.room, run.count, run.reason))
        .collect();
    assert_eq!(refused, [(&strange, 2, SubmitRefused::NotAuthorized)]);
    assert!(first.retry_after_ms.is_some() && first.gaps.is_empty());
    let second = lane.next_answer(0).unwrap();
    assert_eq!(second.gaps[0].expected, SubmitSeq(5));
    assert!(second.retry_after_ms.is_none() && lane.is_idle());
}

#[test]
fn a_peer_submits_for_its_own_clients_only() {
    let mut lane = SubmitTaking::new(provider('a'), provider('c'));
    let broken = lane.take(submit(&[room("x")]), 100);
    assert_eq!(broken, Err(Broken::ForeignSender));
    assert!(lane.is_idle());
}
