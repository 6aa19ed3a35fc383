use super::*;
use crate::{
    machine::Millis,
    wire::{
        Payload,
        consent::{ConsentOp, place},
        event::{CommitEvent, Epoch, Event, Invitation, RoomSeq},
        link::FanoutGroup,
        post::DepartedWhy,
    },
};

fn provider(name: &str) -> ProviderId {
    format!("{name}.example").parse().unwrap()
}

fn room() -> RoomUri {
    "mimi://a.example/r/clubhouse".parse().unwrap()
}

fn item(body: Body) -> Item {
    Item::Event(Event {
        seq: RoomSeq(1),
        time: Millis(1),
        body,
    })
}

fn invitation(client: &str) -> Invitation {
    Invitation {
        epoch: Epoch(1),
        clients: BVec::from([client.parse().unwrap()]),
        welcome: Payload::from(vec![1]),
        tree: Payload::from(vec![2]),
    }
}

fn batch(first: u64, items: Vec<Item>) -> Fanout {
    let group = FanoutGroup {
        room: room(),
        items: BVec::try_from(items).unwrap(),
    };
    Fanout {
        first: LinkSeq(first),
        groups: BVec::from([group]),
    }
}

fn text() -> Item {
    item(Body::Application(Payload::from(vec![7])))
}

fn ack(upto: u64) -> Ack {
    Acking::new(LinkSeq(upto), false).finish(CREDIT_BYTES_FIRST)
}

fn peer() -> Peer {
    Peer::Provider(provider("b"))
}

#[test]
fn a_sender_stops_at_its_window_and_goes_on_with_the_acknowledgement() {
    let mut sender = FanoutSender::new(LinkSeq(4));
    for frame in 0..LANE_FRAMES_UNACKED_MAX as u64 {
        assert_eq!(sender.next(), Some(LinkSeq(5 + 2 * frame)));
        sender.sent(LinkSeq(7 + 2 * frame), 1);
    }
    assert!(sender.next().is_none() && !sender.has_to_record());
    sender.acknowledged(&ack(6)).unwrap();
    sender.acknowledged(&ack(5)).unwrap();
    assert!(sender.next().is_some() && sender.has_to_record());
    let recorded = Command::Ack {
        peer: peer(),
        upto: LinkSeq(6),
        refused: Vec::new(),
    };
    assert_eq!(sender.record(peer()), recorded);
    assert!(!sender.has_to_record());
}

#[test]
fn a_lane_is_opened_when_something_is_owed_and_begins_at_the_last_acknowledgement() {
    let mut links = Links::default();
    assert_eq!(FanoutSender::owed(&links, &peer()), None);
    let events = crate::link::outgoing::Owed::Events {
        room: room(),
        first: RoomSeq(1),
        copy: crate::wire::event::Copy::Full,
    };
    links.to(&peer()).push(events, 3);
    let ack = |upto| Command::Ack {
        peer: peer(),
        upto: LinkSeq(upto),
        refused: Vec::new(),
    };
    links.apply(&ack(2)).unwrap();
    let sender = FanoutSender::owed(&links, &peer()).unwrap();
    assert_eq!(sender.turn(), Turn::Send(LinkSeq(3)));
    links.apply(&ack(3)).unwrap();
    assert_eq!(FanoutSender::owed(&links, &peer()), None);
    assert_eq!(SubmitSender::owed(&links, &provider("b")), None);
}

#[test]
fn a_peer_that_takes_nothing_more_says_when_to_come_again_within_bounds() {
    let mut sender = FanoutSender::new(LinkSeq(0));
    sender.sent(LinkSeq(3), 1);
    let later = |ms| Ack {
        retry_after_ms: Some(ms),
        ..ack(1)
    };
    assert_eq!(sender.acknowledged(&ack(1)), Ok(None));
    assert_eq!(sender.acknowledged(&later(40)), Ok(Some(40)));
    let longest = sender.acknowledged(&later(u32::MAX));
    assert_eq!(longest, Ok(Some(RETRY_AFTER_MS_MAX)));
}

#[test]
fn a_sender_records_before_it_sends_more_when_one_acknowledgement_holds_no_more_rooms() {
    let mut sender = FanoutSender::new(LinkSeq(0));
    sender.sent(LinkSeq(3), 1);
    let refused = (0..BATCH_ROOMS_MAX).map(|number| RoomRefused {
        room: format!("mimi://a.example/r/{number}").parse().unwrap(),
        detail: BText::clipped("no"),
    });
    let ack = Ack {
        refused: BVec::try_from(refused.collect::<Vec<_>>()).unwrap(),
        ..ack(1)
    };
    sender.acknowledged(&ack).unwrap();
    assert_eq!(sender.turn(), Turn::Record);
    sender.record(peer());
    assert_eq!(sender.turn(), Turn::Send(LinkSeq(3)));
}

#[test]
fn a_sender_keeps_to_the_credit_but_is_never_stopped_for_good() {
    let mut sender = FanoutSender::new(LinkSeq(0));
    let frames = CREDIT_BYTES_FIRST as usize / BATCH_FILL_BYTES;
    for frame in 0..frames as u64 {
        assert!(sender.next().is_some());
        sender.sent(LinkSeq(2 + frame), BATCH_FILL_BYTES);
    }
    assert_eq!((sender.next(), sender.bytes_under_way()), (None, 4 << 20));
    let none = Ack {
        credit_bytes: 0,
        ..ack(frames as u64 - 1)
    };
    sender.acknowledged(&none).unwrap();
    assert_eq!(sender.next(), None);
    let all = Ack {
        credit_bytes: 0,
        ..ack(frames as u64)
    };
    sender.acknowledged(&all).unwrap();
    assert!(sender.next().is_some());
}

#[test]
fn refused_rooms_go_into_the_log_with_the_acknowledgement_once() {
    let mut sender = FanoutSender::new(LinkSeq(0));
    sender.sent(LinkSeq(3), 1);
    let mut acking = Acking::new(LinkSeq(2), true);
    let poisoned = Answer::Refused(Refused::Poisoned);
    acking.answered(&room(), poisoned).unwrap();
    sender.acknowledged(&acking.finish(1)).unwrap();
    assert!(!sender.must_record());
    let rooms = |command| match command {
        Command::Ack { refused, .. } => refused.len(),
        Command::Redrive { .. }
        | Command::GiveUp { .. }
        | Command::Forget { .. }
        | Command::Read { .. } => {
            panic!("an acknowledgement")
        }
    };
    assert_eq!(rooms(sender.record(peer())), 1);
    assert_eq!(rooms(sender.record(peer())), 0);
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_breaks_the_link() {
    let mut sender = FanoutSender::new(LinkSeq(0));
    sender.sent(LinkSeq(4), 1);
    assert!(sender.acknowledged(&ack(3)).is_ok());
    let broken = Broken::AckAhead {
        upto: LinkSeq(4),
        next: LinkSeq(4),
    };
    assert_eq!(sender.acknowledged(&ack(4)), Err(broken));
}

#[test]
fn a_receiver_takes_batches_of_the_owner_in_order_and_nothing_else() {
    let (a, b) = (provider("a"), provider("b"));
    let mut receiver = FanoutReceiver::default();
    assert_eq!(
        receiver.take(&a, &b, &batch(3, vec![text(), text()])),
        Ok(LinkSeq(4))
    );
    for first in [4, 6] {
        assert_eq!(
            receiver.take(&a, &b, &batch(first, vec![text()])),
            Err(Broken::Gap)
        );
    }
    assert_eq!(receiver.take(&a, &b, &batch(5, vec![])), Err(Broken::Empty));
    assert_eq!(
        receiver.take(&b, &b, &batch(5, vec![text()])),
        Err(Broken::NotOwner)
    );
    assert_eq!(
        receiver.take(&a, &b, &batch(5, vec![text()])),
        Ok(LinkSeq(5))
    );
}

#[test]
fn a_peer_says_of_its_own_clients_alone_and_to_the_rooms_hub_that_they_departed() {
    let departed = |provider: &str| Item::Departed {
        client: format!("mimi://{provider}.example/d/bob/phone")
            .parse()
            .unwrap(),
        why: DepartedWhy::Revoked,
    };
    let (a, b, c) = (provider("a"), provider("b"), provider("c"));
    let told = |from: &ProviderId, to: &ProviderId, item: Item| {
        FanoutReceiver::default().take(from, to, &batch(1, vec![item]))
    };
    assert_eq!(told(&b, &a, departed("b")), Ok(LinkSeq(1)));
    assert_eq!(told(&b, &a, departed("c")), Err(Broken::NotOwner));
    assert_eq!(told(&b, &a, departed("a")), Err(Broken::NotOwner));
    assert_eq!(told(&b, &c, departed("b")), Err(Broken::NotOwner));
    // The room's hub says of its own clients nothing to those who follow: it proposes.
    assert_eq!(told(&a, &b, departed("a")), Err(Broken::NotOwner));
}

#[test]
fn an_item_that_names_clients_of_another_provider_is_refused() {
    let (bob, carol) = (
        "mimi://b.example/d/bob/phone",
        "mimi://c.example/d/carol/phone",
    );
    let commit = |left: &[&str], invited: Option<&str>| {
        item(Body::Commit(CommitEvent {
            epoch: Epoch(2),
            commit: Payload::from(vec![3]),
            left: BVec::try_from(
                left.iter()
                    .map(|name| name.parse().unwrap())
                    .collect::<Vec<_>>(),
            )
            .unwrap(),
            entered: None,
            invitation: invited.map(invitation),
        }))
    };
    let (a, b) = (provider("a"), provider("b"));
    let taken = |item: Item| FanoutReceiver::default().take(&a, &b, &batch(1, vec![item]));
    for foreign in [
        item(Body::Invited(invitation(carol))),
        commit(&[carol], None),
        commit(&[bob], Some(carol)),
    ] {
        assert_eq!(taken(foreign), Err(Broken::ForeignClients));
    }
    for own in [
        text(),
        item(Body::Own(SubmitSeq(1))),
        item(Body::Invited(invitation(bob))),
        commit(&[bob], Some(bob)),
        Item::Refused {
            submit_seq: SubmitSeq(1),
            reason: SubmitRefused::NotMember,
        },
    ] {
        assert_eq!(taken(own), Ok(LinkSeq(1)));
    }
}

#[test]
fn a_room_that_may_take_its_part_later_stops_the_acknowledgement() {
    let gap = Answer::Gap { expected: 3 };
    let mut later_batch = Acking::new(LinkSeq(12), false);
    assert!(later_batch.answered(&room(), gap.clone()).is_err());
    let mut acking = Acking::new(LinkSeq(9), true);
    assert!(acking.answered(&room(), Answer::Received).is_ok());
    assert!(acking.answered(&room(), gap).is_ok());
    let later = Answer::Refused(Refused::TryLater(TryLater::overloaded(1)));
    assert!(acking.answered(&room(), later).is_err());
    let ack = acking.finish(7);
    assert_eq!((ack.upto, ack.refused.len()), (LinkSeq(9), 1));
}

#[test]
fn a_hub_that_answers_too_often_breaks_the_link_and_speaks_for_its_own_rooms_only() {
    let rejected = |room: &str| SubmitRejected {
        room: room.parse().unwrap(),
        first: SubmitSeq(1),
        count: 2,
        reason: SubmitRefused::NotMember,
    };
    let own = rejected("mimi://a.example/r/clubhouse");
    let submitted = Submitted {
        refused: BVec::from([own.clone(), rejected("mimi://c.example/r/den")]),
        gaps: BVec::default(),
        retry_after_ms: None,
    };
    let mut sender = SubmitSender::default();
    sender.sent(3);
    assert_eq!(sender.next(), Some(3));
    let judged = sender.answered(&provider("a"), submitted.clone()).unwrap();
    assert_eq!((judged.refused, judged.again_after_ms), (vec![own], None));
    let again = sender.answered(&provider("a"), submitted);
    assert_eq!(again, Err(Broken::AnswerAhead));
}

#[test]
fn an_item_that_fits_no_frame_is_passed_over_once_everything_before_it_is_acknowledged() {
    let refused = || RoomRefused {
        room: room(),
        detail: BText::clipped("too large"),
    };
    let mut sender = FanoutSender::new(LinkSeq(4));
    sender.sent(LinkSeq(7), 10);
    assert!(
        !sender.pass_over(LinkSeq(7), refused()),
        "5 and 6 are under way"
    );
    assert_eq!(sender.acknowledged(&ack(6)), Ok(None));
    assert!(!sender.pass_over(LinkSeq(8), refused()), "7 is the next");
    assert!(sender.pass_over(LinkSeq(7), refused()));
    assert_eq!(sender.turn(), Turn::Send(LinkSeq(8)));
    assert!(sender.has_to_record());
    let recorded = Command::Ack {
        peer: peer(),
        upto: LinkSeq(7),
        refused: vec![refused()],
    };
    assert_eq!(sender.record(peer()), recorded);
}

#[test]
fn what_is_said_of_consent_is_for_users_here_by_users_of_the_peer() {
    let said = |op, requester: &str, target: &str| {
        let user = |name: &str| format!("mimi://{name}.example/u/x").parse().unwrap();
        let entry = ConsentEntry {
            op,
            requester: user(requester),
            target: user(target),
            room: None,
            key_packages: BVec::default(),
            extensions: Payload::default(),
        };
        let items = BVec::from([Item::Consent(entry.write().into())]);
        let room = place(entry.receiver()).unwrap();
        let groups = BVec::from([FanoutGroup { room, items }]);
        let first = LinkSeq(1);
        let taken = Fanout { first, groups };
        FanoutReceiver::default().take(&provider("a"), &provider("b"), &taken)
    };
    let foreign = Err(Broken::ForeignConsent);
    for (op, requester, target, expected) in [
        (ConsentOp::Request, "a", "b", Ok(LinkSeq(1))),
        (ConsentOp::Cancel, "a", "b", Ok(LinkSeq(1))),
        (ConsentOp::Grant, "b", "a", Ok(LinkSeq(1))),
        (ConsentOp::Revoke, "b", "a", Ok(LinkSeq(1))),
        (ConsentOp::Request, "c", "b", foreign.clone()),
        (ConsentOp::Request, "a", "c", foreign.clone()),
        (ConsentOp::Grant, "a", "b", foreign.clone()),
        (ConsentOp::Grant, "b", "b", foreign),
    ] {
        assert_eq!(
            said(op, requester, target),
            expected,
            "{op:?} {requester} {target}"
        );
    }
    let junk = batch(1, vec![Item::Consent(Payload::from(vec![9]))]);
    let taken = FanoutReceiver::default().take(&provider("a"), &provider("b"), &junk);
    assert!(matches!(taken, Err(Broken::Consent(_))), "{taken:?}");
}
