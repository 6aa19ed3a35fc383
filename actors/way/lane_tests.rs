use super::*;
use crate::{
    ids::RoomUri,
    limits::{BATCH_FILL_BYTES, CREDIT_BYTES_FIRST, LANE_FRAMES_UNACKED_MAX, RETRY_AFTER_MS_MAX},
    link::{
        outgoing::Owed,
        session::{Acking, Judging},
        submissions::SubmitRun,
    },
    machine::Position,
    wire::{
        BVec,
        answer::{Answer, Refused},
        event::{Copy, RoomSeq, SubmitSeq},
    },
};

fn peer() -> ProviderId {
    "b.example".parse().unwrap()
}

/// Links with so many items for the peer.
fn links(items: u32) -> Links {
    let mut links = Links::default();
    let owed = Owed::Events {
        room: "mimi://a.example/r/den".parse().unwrap(),
        first: RoomSeq(1),
        copy: Copy::Full,
    };
    links.to(&Peer::Provider(peer())).push(owed, items);
    links
}

fn lane(shards: &[u16]) -> SharedSender<FanoutSender> {
    let mut lane = SharedSender::new(peer());
    for shard in shards {
        lane.join(*shard);
    }
    lane
}

fn batch(first: LinkSeq) -> Fanout {
    let groups = BVec::default();
    Fanout { first, groups }
}

/// The shard whose turn it is sends a frame of one item, if it may; gives the shard, its session and the item.
fn send(lane: &mut SharedSender<FanoutSender>, bytes: usize) -> Option<(u16, u64, u64)> {
    while let Some(shard) = lane.next_turn() {
        if let Turn::Send(next) = lane.turn(shard, &links(1_000)) {
            let frame = lane.sent(shard, batch(next), next.next(), bytes).unwrap();
            return Some((frame.shard, frame.session, next.0));
        }
    }
    None
}

fn ack(shard: u16, session: u64, upto: u64) -> OfShard<Ack> {
    OfShard {
        shard,
        session,
        said: Acking::new(LinkSeq(upto), false).finish(CREDIT_BYTES_FIRST),
    }
}

fn later(shard: u16, session: u64, after_ms: u32) -> OfShard<Ack> {
    let mut ack = ack(shard, session, 0);
    ack.said.retry_after_ms = Some(after_ms);
    ack
}

#[test]
fn shards_that_may_send_take_turns_and_one_whose_credit_is_used_up_is_passed_over() {
    let mut lane = lane(&[3, 5, 9]);
    let mut shards = Vec::new();
    while let Some((shard, _, item)) = send(&mut lane, BATCH_FILL_BYTES) {
        shards.push((shard, item));
    }
    let frames = u64::from(CREDIT_BYTES_FIRST) / BATCH_FILL_BYTES as u64;
    let fair: Vec<(u16, u64)> = (1..=frames)
        .flat_map(|item| [3, 5, 9].map(|shard| (shard, item)))
        .collect();
    assert_eq!(shards, fair);

    // Two go on with their acknowledgements, by turns; the third is not looked at.
    for shard in [9, 5] {
        lane.acknowledged(&ack(shard, 1, 2)).unwrap();
    }
    let next: Vec<u16> = std::iter::from_fn(|| send(&mut lane, BATCH_FILL_BYTES))
        .map(|(shard, _, _)| shard)
        .collect();
    assert_eq!(next, [9, 5, 9, 5]);
    assert_eq!(lane.next_turn(), None);
}

#[test]
fn a_shard_that_is_never_answered_stops_at_its_frames_and_holds_up_nobody() {
    let mut lane = lane(&[0, 1]);
    let mut sent = [0, 0];
    for _ in 0..100 {
        while let Some((shard, session, item)) = send(&mut lane, 1) {
            sent[usize::from(shard)] += 1;
            if shard == 1 {
                lane.acknowledged(&ack(shard, session, item)).unwrap();
            }
            if sent[1] > 1_000 {
                break;
            }
        }
    }
    assert_eq!(sent[0], LANE_FRAMES_UNACKED_MAX);
    assert!(sent[1] > 900, "{sent:?}");
}

#[test]
fn a_shard_that_is_told_to_come_again_rests_alone_and_begins_anew_at_its_log() {
    let mut lane = lane(&[0, 1]);
    assert_eq!(send(&mut lane, 1), Some((0, 1, 1)));
    assert_eq!(send(&mut lane, 1), Some((1, 1, 1)));
    let rests = lane.acknowledged(&later(0, 1, u32::MAX)).unwrap();
    let after_ms = RETRY_AFTER_MS_MAX;
    assert_eq!(rests, Told::Rests { after_ms });
    lane.may_have(0);
    for item in 2..=4 {
        assert_eq!(send(&mut lane, 1), Some((1, 1, item)));
    }
    // What it was told before counts no more, and a rest of another session does not end this one.
    lane.again(0, 7);
    assert_eq!(lane.acknowledged(&ack(0, 1, 1)), Ok(Told::Nothing));
    assert_eq!(lane.session(0), None);
    lane.again(0, 1);
    let next: Vec<_> = std::iter::from_fn(|| send(&mut lane, 1)).take(2).collect();
    assert_eq!(next, [(1, 1, 5), (0, 2, 1)]);
}

#[test]
fn a_shard_leaves_and_joins_a_lane_that_runs_without_disturbing_another() {
    let mut lane = lane(&[0]);
    assert_eq!(send(&mut lane, 1), Some((0, 1, 1)));
    lane.join(1);
    assert_eq!(send(&mut lane, 1), Some((0, 1, 2)));
    assert_eq!(send(&mut lane, 1), Some((1, 1, 1)));
    lane.leave(0);
    assert_eq!(lane.joined().collect::<Vec<_>>(), [1]);
    assert_eq!(send(&mut lane, 1), Some((1, 1, 2)));
    // An acknowledgement that was on its way reaches nobody; the next session does not hear of it either.
    assert_eq!(lane.acknowledged(&ack(0, 1, 2)), Ok(Told::Nothing));
    lane.join(0);
    assert_eq!(send(&mut lane, 1), Some((1, 1, 3)));
    assert_eq!(send(&mut lane, 1), Some((0, 2, 1)));
    assert_eq!(lane.acknowledged(&ack(0, 1, 9)), Ok(Told::Nothing));
    assert_eq!(lane.acknowledged(&ack(0, 2, 1)), Ok(Told::GoesOn));
    assert_eq!(lane.to_record(), Some(0));
}

#[test]
fn a_shard_to_which_nothing_is_owed_is_not_looked_at_until_it_may_have_something() {
    let mut lane = lane(&[4]);
    assert_eq!(lane.next_turn(), Some(4));
    assert_eq!(lane.turn(4, &Links::default()), Turn::Wait);
    assert_eq!(lane.next_turn(), None);
    lane.may_have(4);
    lane.may_have(4);
    assert_eq!(lane.next_turn(), Some(4));
    assert_eq!(lane.next_turn(), None);
    assert_eq!(lane.turn(4, &links(1)), Turn::Send(LinkSeq(1)));
}

#[test]
fn a_shard_sends_nothing_while_its_log_takes_an_acknowledgement() {
    let mut lane = lane(&[0, 1]);
    send(&mut lane, 1);
    send(&mut lane, 1);
    lane.acknowledged(&ack(0, 1, 1)).unwrap();
    let (session, recorded) = lane.record(0).unwrap();
    let upto = LinkSeq(1);
    let (peer, refused) = (Peer::Provider(peer()), Vec::new());
    assert_eq!(
        recorded,
        link::Command::Ack {
            peer,
            upto,
            refused
        }
    );
    assert_eq!(lane.to_record(), None);
    for item in 2..4 {
        assert_eq!(send(&mut lane, 1), Some((1, 1, item)));
    }
    // What is acknowledged meanwhile goes into the log behind it.
    lane.acknowledged(&ack(0, 1, 1)).unwrap();
    assert_eq!(lane.to_record(), None);
    lane.recorded(0, session);
    let next: Vec<_> = std::iter::from_fn(|| send(&mut lane, 1)).take(2).collect();
    assert!(next.contains(&(0, 1, 2)), "{next:?}");
}

#[test]
fn a_peer_that_speaks_of_what_was_never_on_the_lane_breaks_the_link() {
    let mut lane = lane(&[0]);
    send(&mut lane, 1);
    for shard in [1, SHARDS_MAX] {
        let unknown = Broken::UnknownShard { shard };
        assert_eq!(lane.acknowledged(&ack(shard, 1, 1)), Err(unknown));
    }
    for session in [0, 2, u64::MAX] {
        let unknown = Broken::UnknownSession { shard: 0, session };
        assert_eq!(lane.acknowledged(&ack(0, session, 1)), Err(unknown));
    }
    let ahead = lane.acknowledged(&ack(0, 1, 2));
    assert!(matches!(ahead, Err(Broken::AckAhead { .. })), "{ahead:?}");
    lane.join(SHARDS_MAX);
    assert_eq!(lane.joined().count(), 1);
}

#[test]
fn submissions_of_a_shard_wait_while_what_was_refused_is_told_and_those_of_others_go_on() {
    let room: RoomUri = "mimi://b.example/r/den".parse().unwrap();
    let mut waiting = Links::default();
    waiting.submissions_to(&peer()).push(SubmitRun {
        room: room.clone(),
        sender: "mimi://a.example/d/alice/phone".parse().unwrap(),
        first: SubmitSeq(1),
        count: 3,
        at: Position {
            entry: 1,
            command: 0,
        },
        item: 0,
    });
    let mut lane: SharedSender<SubmitSender> = SharedSender::new(peer());
    lane.join(0);
    lane.join(1);
    let send = |lane: &mut SharedSender<SubmitSender>| {
        let shard = lane.next_turn()?;
        let from = lane.from(shard, &waiting)?;
        let groups = BVec::default();
        let frame = lane.sent(shard, Submit { groups }, from + 1)?;
        Some((frame.shard, from))
    };
    assert_eq!(send(&mut lane), Some((0, 0)));
    assert_eq!(send(&mut lane), Some((1, 0)));
    let mut judging = Judging::default();
    judging.answered(
        &room,
        SubmitSeq(1),
        1,
        Some(Answer::Refused(Refused::Poisoned)),
    );
    let answer = |shard, said| OfShard {
        shard,
        session: 1,
        said,
    };
    let judged = lane.answered(answer(0, judging.finish())).unwrap();
    let (session, judged) = judged.unwrap();
    assert_eq!((session, judged.refused.len()), (1, 1));
    assert_eq!(send(&mut lane), Some((1, 1)));
    let fine = lane.answered(answer(1, Submitted::default()));
    assert_eq!(fine, Ok(None));
    assert_eq!(send(&mut lane), Some((1, 2)));
    lane.settled(0, 1, true);
    let next = [send(&mut lane), send(&mut lane)];
    assert!(next.contains(&Some((0, 0))), "{next:?}");
    let ahead = lane.answered(answer(0, Submitted::default()));
    assert_eq!(ahead, Ok(None));
    let ahead = lane.answered(answer(0, Submitted::default()));
    assert_eq!(ahead, Err(Broken::AnswerAhead));
}
