use super::*;
use crate::{
    link::outgoing::Owed,
    record::Entry,
    shard::Derived,
    wire::post::{Departed, DepartedWhy, Refilled},
};
use std::sync::Arc;

/// What a shard owes to another one.
#[derive(Default)]
struct Owing(Derived);

struct Held(Entry);

impl AsRef<Entry> for Held {
    fn as_ref(&self) -> &Entry {
        &self.0
    }
}

impl Source for Owing {
    type Held = Held;

    fn derived<R>(&self, look: impl FnOnce(&Derived) -> R) -> R {
        look(&self.0)
    }

    fn entry(&self, index: u64) -> Result<Arc<Held>, ReadError> {
        panic!("nothing owed lies in an entry, such as {index}")
    }
}

/// Owes so many words to users in shard 3.
fn owing(words: u32) -> Owing {
    let mut owing = Owing::default();
    for number in 0..words {
        let refilled = Refilled {
            requester: format!("mimi://a.example/u/u{number}").parse().unwrap(),
            room: "mimi://a.example/r/den".parse().unwrap(),
            client: "mimi://a.example/d/bob/phone".parse().unwrap(),
        };
        let to = owing.0.links.to(&Peer::Shard(3));
        to.push(Owed::Refilled(refilled), 1);
    }
    owing
}

fn round(owing: &Owing) -> Carrying {
    let mut rounds = Carrying::owed(1, &owing.0.links);
    assert_eq!(rounds.len(), 1);
    rounds.remove(0)
}

/// The slots of what it carries until it waits.
fn asks(round: &mut Carrying, owing: &Owing) -> Vec<Slot> {
    let mut slots = Vec::new();
    while let Next::Ask(slot, _) = round.next(owing).unwrap() {
        slots.push(slot);
    }
    slots
}

/// The number that a round which is over acknowledges.
fn acked(round: &mut Carrying, owing: &Owing) -> Option<LinkSeq> {
    let Next::Over(ack) = round.next(owing).unwrap() else {
        panic!("it is not over")
    };
    let Some(link::Command::Ack { upto, .. }) = ack else {
        return None;
    };
    Some(upto)
}

const DONE: ShardReply = ShardReply::User(Answer::Done);

#[test]
fn what_is_taken_in_order_is_acknowledged_at_the_end_of_the_round() {
    let owing = owing(66);
    let mut round = round(&owing);
    let slots = asks(&mut round, &owing);
    assert_eq!(slots.len(), UNDER_WAY_MAX);
    // The second one answers first: the window moves with the first.
    assert!(round.came(slots[1], &DONE));
    assert!(asks(&mut round, &owing).is_empty());
    let gone = ShardReply::User(Answer::Refused(Refused::Deleted));
    assert!(round.came(slots[0], &gone));
    let rest = asks(&mut round, &owing);
    assert_eq!(rest.len(), 2);
    for slot in slots[2..].iter().chain(&rest) {
        assert!(round.came(*slot, &DONE));
    }
    let all = LinkSeq(66);
    assert_eq!(acked(&mut round, &owing), Some(all));
}

#[test]
fn what_is_not_taken_ends_the_round_with_what_was_taken_before_it() {
    let owing = owing(5);
    let mut round = round(&owing);
    let slots = asks(&mut round, &owing);
    // What is behind it counts for nothing, whenever it answers.
    round.came(slots[3], &DONE);
    assert!(!round.came(slots[2], &ShardReply::Nobody));
    round.came(slots[4], &DONE);
    assert!(matches!(round.next(&owing), Ok(Next::Wait)));
    round.came(slots[0], &DONE);
    round.came(slots[1], &DONE);
    assert_eq!(acked(&mut round, &owing), Some(LinkSeq(2)));
}

#[test]
fn a_round_in_which_nothing_was_taken_acknowledges_nothing() {
    let owing = owing(1);
    let mut round = round(&owing);
    let slots = asks(&mut round, &owing);
    round.came(slots[0], &ShardReply::Nobody);
    assert_eq!(acked(&mut round, &owing), None);
}

#[test]
fn nothing_is_carried_to_whom_nothing_is_owed() {
    assert!(Carrying::owed(1, &owing(0).0.links).is_empty());
}

#[test]
fn a_user_that_is_frozen_is_passed_over() {
    let owing = owing(2);
    let mut round = round(&owing);
    let slots = asks(&mut round, &owing);
    let frozen = ShardReply::User(Answer::Refused(Refused::Poisoned));
    assert!(round.came(slots[0], &frozen));
    assert!(round.came(slots[1], &ShardReply::User(Answer::Done)));
    assert_eq!(acked(&mut round, &owing), Some(LinkSeq(2)));
}

#[test]
fn a_room_is_told_of_a_member_that_departed_until_it_has_received_it() {
    let mut owing = Owing::default();
    let departed = Departed {
        room: "mimi://a.example/r/den".parse().unwrap(),
        client: "mimi://a.example/d/bob/phone".parse().unwrap(),
        why: DepartedWhy::Deleted,
    };
    let to = owing.0.links.to(&Peer::Shard(3));
    to.push(Owed::Departed(departed.clone()), 1);
    let mut first = round(&owing);
    let Ok(Next::Ask(slot, request)) = first.next(&owing) else {
        panic!("it is carried")
    };
    assert_eq!(request, ShardRequest::Depart(departed));
    let later = room::Refused::TryLater(crate::wire::refusal::TryLater::AGAIN);
    assert!(!first.came(slot, &ShardReply::Room(room::Answer::Refused(later))));
    assert_eq!(acked(&mut first, &owing), None);
    let mut again = round(&owing);
    let slots = asks(&mut again, &owing);
    assert!(again.came(slots[0], &ShardReply::Room(room::Answer::Received)));
    assert_eq!(acked(&mut again, &owing), Some(LinkSeq(1)));
}
