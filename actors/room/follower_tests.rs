use super::{
    follower::{self, Fold, Reject},
    follower_desk::{Desk, Effect, Input, Own},
    outcome::{Answer, Change, Decided, Emission, QueuedRun, Refused, UserNotice},
    testing::*,
    verdicts::AskVerdicts,
};
use crate::{
    ids::ClientUri,
    limits::{
        SUBMISSIONS_UNDECIDED_PER_ROOM_MAX, SUBMIT_ITEMS_MAX, VERDICTS_AWAITED_PER_CLIENT_MAX,
    },
    machine::{Desk as _, Fold as _, Millis, Ticket},
    wire::{
        BVec, Payload,
        event::{
            Body, ClientSeq, Epoch, Item, Lane, RoomSeq, SubmitRefused, SubmitSeq, Verdict,
            VerdictRun,
        },
        refusal::TryLater,
    },
};

const NOT_MEMBER: Answer = Answer::Refused(Refused::NotMember);

fn texts(count: usize) -> Vec<Payload> {
    (0..count)
        .map(|i| message(1, &format!("text {i}")))
        .collect()
}

fn own(seq: u64, submit: u64) -> Item {
    event(seq, Body::Own(SubmitSeq(submit)))
}

fn hub_refuses(submit: u64, reason: SubmitRefused) -> Item {
    Item::Refused {
        submit_seq: SubmitSeq(submit),
        reason,
    }
}

fn judged(first: u64, count: u32, verdict: Verdict) -> VerdictRun {
    VerdictRun {
        first: ClientSeq(first),
        count,
        verdict,
    }
}

fn placed(seq: u64) -> Verdict {
    Verdict::Accepted {
        seq: RoomSeq(seq),
        time: Millis(1_000),
    }
}

fn sent(runs: Vec<VerdictRun>) -> Answer {
    Answer::Sent(BVec::try_from(runs).unwrap())
}

fn reject(first: u64, count: u32) -> follower::Command {
    follower::Command::Reject(Reject {
        first: SubmitSeq(first),
        count,
        reason: SubmitRefused::Poisoned,
    })
}

/// A client of `b.example` joins with event 6.
fn with_anna(follower: &mut Follower) -> ClientUri {
    let anna = client("b", "anna", "phone");
    let joins = invitation(2, std::slice::from_ref(&anna));
    follower.deliver(vec![commit_event(6, &[], Some(joins))]);
    anna
}

#[test]
fn an_invitation_begins_the_room_at_its_number_and_is_told_to_the_invited() {
    let mut follower = Follower::default();
    assert!(follower.fold.is_unknown());
    let pad = client("b", "bob", "pad");
    let body = Body::Invited(invitation(7, &[bob(), pad.clone()]));
    let outcome = follower.deliver(vec![event(5, body), text(6)]);
    assert_eq!(outcome.done.to_answer(), Answer::Received);
    let notice = UserNotice {
        user: bob().user().clone(),
        clients: [bob(), pad].into(),
        change: Change::Joined { after: RoomSeq(5) },
        at: follower.at(),
        item: 0,
    };
    assert_eq!(outcome.notices, [notice]);
    // There is nothing to read at the number of the invitation.
    let seen: Vec<_> = outcome.emitted.iter().map(|run| run.first.0).collect();
    assert_eq!(seen, [6]);
    assert_eq!(follower.fold.last_seq(), RoomSeq(6));
    assert!(follower.fold.has_member(&bob()) && !follower.fold.is_unknown());
}

#[test]
fn events_that_lie_side_by_side_are_one_run_that_points_at_their_bytes() {
    let mut follower = Follower::invited();
    let outcome = follower.deliver(vec![text(6), text(7), text(8)]);
    let run = Emission {
        first: RoomSeq(6),
        count: 3,
        at: follower.at(),
        item: 0,
        time: Millis(1_000),
        origin: None,
        lane: Lane::Application(Epoch(1)),
        recipients: Vec::new(),
    };
    assert_eq!(outcome.emitted, [run]);
}

#[test]
fn an_event_is_taken_once_however_often_it_arrives() {
    let mut follower = Follower::invited();
    follower.deliver(vec![text(6), text(7)]);
    let before = follower.fold.clone();
    let again = follower.deliver(vec![
        event(5, Body::Invited(invitation(1, &[bob()]))),
        text(6),
        text(7),
    ]);
    assert_eq!(
        (again.done.to_answer(), again.emitted),
        (Answer::Received, Vec::new())
    );
    assert_eq!(again.notices, []);
    assert_eq!(follower.fold, before);
    let overlap = follower.deliver(vec![text(7), text(8)]);
    let seen: Vec<_> = overlap
        .emitted
        .iter()
        .map(|run| (run.first.0, run.item))
        .collect();
    assert_eq!(seen, [(8, 1)]);
}

#[test]
fn a_gap_is_answered_with_the_number_expected_and_nothing_behind_it_is_taken() {
    let mut follower = Follower::invited();
    follower.queue(&bob(), 1, texts(1));
    let outcome = follower.deliver(vec![
        text(6),
        text(8),
        text(7),
        hub_refuses(1, SubmitRefused::Malformed),
    ]);
    assert_eq!(outcome.done.to_answer(), Answer::Gap { expected: 7 });
    assert_eq!(outcome.emitted.len(), 1);
    assert_eq!(outcome.decided, []);
    assert_eq!(follower.fold.last_seq(), RoomSeq(6));
    assert_eq!(
        follower.deliver(vec![text(7), text(8)]).done.to_answer(),
        Answer::Received
    );
}

#[test]
fn before_an_invitation_no_event_of_a_room_is_taken() {
    let mut follower = Follower::default();
    for seq in [1, 2] {
        let outcome = follower.deliver(vec![text(seq)]);
        assert_eq!(
            outcome.done.to_answer(),
            Answer::Refused(Refused::NotAuthorized)
        );
        assert_eq!(outcome.emitted, []);
    }
    assert!(follower.fold.is_unknown());
}

#[test]
fn an_invitation_restarts_a_room_that_all_have_left_and_no_other() {
    let mut follower = Follower::invited();
    let invited = |seq| event(seq, Body::Invited(invitation(9, &[bob()])));
    assert_eq!(
        follower.deliver(vec![invited(20)]).done.to_answer(),
        Answer::Gap { expected: 6 }
    );
    follower.deliver(vec![commit_event(6, &[bob()], None)]);
    assert!(!follower.fold.has_member(&bob()));
    let outcome = follower.deliver(vec![invited(20), text(21)]);
    assert_eq!(outcome.done.to_answer(), Answer::Received);
    assert_eq!(
        outcome.notices[0].change,
        Change::Joined { after: RoomSeq(20) }
    );
    assert_eq!(follower.fold.last_seq(), RoomSeq(21));
    assert!(follower.fold.has_member(&bob()));
}

#[test]
fn a_commit_tells_local_users_who_left_and_who_joined() {
    let mut follower = Follower::invited();
    let (pad, anna) = (client("b", "bob", "pad"), client("b", "anna", "phone"));
    let joins = invitation(6, &[pad.clone(), anna.clone()]);
    let outcome = follower.deliver(vec![commit_event(6, &[bob()], Some(joins))]);
    let notice = |who: &ClientUri, change| UserNotice {
        user: who.user().clone(),
        clients: [who.clone()].into(),
        change,
        at: follower.at(),
        item: 0,
    };
    let joined = Change::Joined { after: RoomSeq(6) };
    assert_eq!(
        outcome.notices,
        [
            notice(&bob(), Change::Left { upto: RoomSeq(6) }),
            notice(&anna, joined),
            notice(&pad, joined),
        ]
    );
    assert_eq!(outcome.emitted.len(), 1);
    assert!(!follower.fold.has_member(&bob()) && follower.fold.has_member(&pad));
}

#[test]
fn what_a_client_sends_waits_for_the_hub_under_the_next_numbers_of_the_provider() {
    let mut follower = Follower::invited();
    let anna = with_anna(&mut follower);
    let first = follower.queue(&bob(), 1, texts(2));
    assert_eq!(
        first.done.to_answer(),
        sent(vec![judged(1, 2, Verdict::Queued)])
    );
    let run = QueuedRun {
        first: SubmitSeq(1),
        count: 2,
        sender: bob(),
        client_first: ClientSeq(1),
        oldest: Epoch(1),
        at: follower.at(),
        item: 0,
    };
    assert_eq!(first.queued, Some(run));
    let second = follower.queue(&anna, 1, texts(3)).queued.unwrap();
    assert_eq!(
        (second.first, second.client_first),
        (SubmitSeq(3), ClientSeq(1))
    );
    let overlap = follower.queue(&bob(), 2, texts(3));
    assert_eq!(
        overlap.done.to_answer(),
        sent(vec![
            judged(2, 1, Verdict::Queued),
            judged(3, 2, Verdict::Queued)
        ])
    );
    let run = overlap.queued.unwrap();
    assert_eq!(
        (run.first, run.count, run.client_first, run.item),
        (SubmitSeq(6), 2, ClientSeq(3), 1)
    );
    let before = follower.fold.clone();
    let repeat = follower.queue(&bob(), 1, texts(2));
    assert_eq!(
        (repeat.queued, repeat.done.to_answer()),
        (None, first.done.to_answer())
    );
    assert_eq!(follower.fold, before);
    assert_eq!(
        follower.queue(&bob(), 9, texts(1)).done.to_answer(),
        Answer::Gap { expected: 5 }
    );
}

#[test]
fn only_a_member_sends_but_who_was_one_still_hears_what_became_of_its_messages() {
    let mut follower = Follower::invited();
    let stranger = client("b", "anna", "phone");
    assert_eq!(
        follower.queue(&stranger, 1, texts(1)).done.to_answer(),
        NOT_MEMBER
    );
    assert_eq!(
        follower.queue(&stranger, 9, texts(1)).done.to_answer(),
        NOT_MEMBER
    );
    follower.queue(&bob(), 1, texts(2));
    follower.deliver(vec![own(6, 1), commit_event(7, &[bob()], None)]);
    let verdicts = vec![judged(1, 1, placed(6)), judged(2, 1, Verdict::Queued)];
    assert_eq!(
        follower.queue(&bob(), 1, texts(2)).done.to_answer(),
        sent(verdicts)
    );
    assert_eq!(
        follower.queue(&bob(), 3, texts(1)).done.to_answer(),
        NOT_MEMBER
    );
    assert_eq!(
        follower.queue(&bob(), 9, texts(1)).done.to_answer(),
        NOT_MEMBER
    );
}

#[test]
fn an_own_message_is_placed_where_the_hub_numbers_it_with_the_bytes_that_wait_here() {
    let mut follower = Follower::invited();
    let anna = with_anna(&mut follower);
    follower.queue(&bob(), 1, texts(3));
    let bobs = follower.at();
    follower.queue(&anna, 1, texts(1));
    let annas = follower.at();
    let outcome = follower.deliver(vec![own(7, 1), own(8, 2), text(9), own(10, 3), own(11, 4)]);
    let here = follower.at();
    let runs: Vec<_> = outcome
        .emitted
        .iter()
        .map(|run| (run.first.0, run.count, run.at, run.item, run.origin.clone()))
        .collect();
    assert_eq!(
        runs,
        [
            (7, 2, bobs, 0, Some((bob(), ClientSeq(1)))),
            (9, 1, here, 2, None),
            (10, 1, bobs, 2, Some((bob(), ClientSeq(3)))),
            (11, 1, annas, 0, Some((anna, ClientSeq(1)))),
        ]
    );
    let decided: Vec<_> = outcome
        .decided
        .iter()
        .map(|one| (one.first.0, one.run))
        .collect();
    assert_eq!(
        decided,
        [
            (1, judged(1, 1, placed(7))),
            (2, judged(2, 1, placed(8))),
            (3, judged(3, 1, placed(10))),
            (4, judged(1, 1, placed(11))),
        ]
    );
    assert_eq!(outcome.undecided, Some(SubmitSeq(5)));
    let verdicts = vec![judged(1, 2, placed(7)), judged(3, 1, placed(10))];
    assert_eq!(
        follower.queue(&bob(), 1, texts(3)).done.to_answer(),
        sent(verdicts)
    );
}

#[test]
fn a_refusal_of_the_hub_is_final_and_says_why() {
    let mut follower = Follower::invited();
    follower.queue(&bob(), 1, texts(3));
    let reason = SubmitRefused::EpochTooOld { current: Epoch(9) };
    let outcome = follower.deliver(vec![hub_refuses(2, reason)]);
    let decided = Decided {
        first: SubmitSeq(2),
        sender: bob(),
        run: judged(2, 1, Verdict::Refused(reason)),
    };
    assert_eq!(outcome.decided, [decided]);
    assert_eq!(outcome.undecided, Some(SubmitSeq(1)));
    assert_eq!(outcome.emitted, []);
    let outcome = follower.deliver(vec![own(6, 1), own(7, 3)]);
    let places: Vec<_> = outcome
        .emitted
        .iter()
        .map(|run| (run.first.0, run.item))
        .collect();
    assert_eq!(places, [(6, 0), (7, 2)]);
    assert_eq!(outcome.undecided, Some(SubmitSeq(4)));
}

#[test]
fn a_submission_gets_its_final_word_once_whatever_the_hub_says_later() {
    let mut follower = Follower::invited();
    follower.queue(&bob(), 1, texts(2));
    follower.deliver(vec![own(6, 1)]);
    let again = follower.deliver(vec![
        hub_refuses(1, SubmitRefused::Malformed),
        own(7, 1),
        hub_refuses(99, SubmitRefused::Malformed),
    ]);
    assert_eq!((again.decided, again.emitted), (Vec::new(), Vec::new()));
    assert_eq!(follower.fold.last_seq(), RoomSeq(7));
    assert_eq!(follower.apply(&reject(1, 1)).decided, []);
    let verdicts = vec![judged(1, 1, placed(6)), judged(2, 1, Verdict::Queued)];
    assert_eq!(
        follower.queue(&bob(), 1, texts(2)).done.to_answer(),
        sent(verdicts)
    );
}

#[test]
fn submissions_that_the_hub_will_not_look_at_are_refused_together() {
    let mut follower = Follower::invited();
    let anna = with_anna(&mut follower);
    follower.queue(&bob(), 1, texts(2));
    follower.queue(&anna, 1, texts(2));
    let outcome = follower.apply(&reject(2, 2));
    assert_eq!(outcome.done.to_answer(), Answer::Received);
    let refused = Verdict::Refused(SubmitRefused::Poisoned);
    let decided: Vec<_> = outcome
        .decided
        .iter()
        .map(|one| (&one.sender, one.run))
        .collect();
    assert_eq!(
        decided,
        [
            (&bob(), judged(2, 1, refused)),
            (&anna, judged(1, 1, refused))
        ]
    );
    assert_eq!(outcome.undecided, Some(SubmitSeq(1)));
    assert_eq!(follower.apply(&reject(1, 1)).undecided, Some(SubmitSeq(4)));
}

#[test]
fn a_refusal_of_more_than_ever_waited_costs_no_more_than_what_waits() {
    let mut follower = Follower::invited();
    follower.queue(&bob(), 1, texts(2));
    assert_eq!(follower.apply(&reject(0, u32::MAX)).decided.len(), 2);
    assert_eq!(follower.apply(&reject(u64::MAX, u32::MAX)).decided, []);
    let outcome = follower.apply(&reject(0, u32::MAX));
    assert_eq!(
        (outcome.decided, outcome.undecided),
        (Vec::new(), Some(SubmitSeq(3)))
    );
}

#[test]
fn so_many_submissions_wait_for_the_hub_and_no_more() {
    let mut follower = Follower::invited();
    let batch = u32::try_from(SUBMIT_ITEMS_MAX).unwrap();
    let mut first = 1;
    for _ in 0..SUBMISSIONS_UNDECIDED_PER_ROOM_MAX / batch {
        let outcome = follower.queue(&bob(), first, texts(SUBMIT_ITEMS_MAX));
        assert!(outcome.queued.is_some());
        first += u64::from(batch);
    }
    let full = follower.queue(&bob(), first, texts(1));
    assert!(matches!(
        full.done.to_answer(),
        Answer::Refused(Refused::TryLater(_))
    ));
    follower.deliver(vec![own(6, 1)]);
    assert!(follower.queue(&bob(), first, texts(1)).queued.is_some());
}

#[test]
fn a_compact_followed_room_revives_as_it_was_and_other_bytes_do_not() {
    let mut follower = Follower::invited();
    follower.queue(&bob(), 1, texts(3));
    follower.deliver(vec![own(6, 2)]);
    let compact = follower.fold.compact();
    assert_eq!(Fold::revive(&compact).unwrap(), follower.fold);
    assert!(Fold::revive(&compact[..compact.len() - 1]).is_err());
    assert!(Fold::revive(&[]).is_err());
}

fn handle(desk: &mut Desk, input: Input, fold: &Fold) -> Vec<Effect> {
    let mut out = Vec::new();
    desk.handle(input, Millis(1), fold, &mut out);
    out
}

fn queue(ticket: u64) -> Input {
    Input::Queue {
        ticket: Ticket(ticket),
        queue: follower::Queue {
            sender: bob(),
            first: ClientSeq(1),
            messages: BVec::try_from(texts(1)).unwrap(),
        },
    }
}

#[test]
fn a_message_to_a_room_that_was_never_heard_of_does_not_reach_the_log() {
    let mut desk = Desk::default();
    let out = handle(&mut desk, queue(1), &Fold::default());
    let refused = Answer::Refused(Refused::NotAuthorized);
    assert!(
        matches!(&out[..], [Effect::Answer { ticket: Ticket(1), answer }] if *answer == refused)
    );
    assert!(desk.is_idle());
}

#[test]
fn a_desk_is_busy_until_the_log_has_taken_or_refused_what_it_appended() {
    let mut follower = Follower::invited();
    let mut desk = Desk::default();
    let out = handle(&mut desk, queue(1), &follower.fold);
    let [
        Effect::Append {
            ticket: Ticket(1),
            command,
        },
    ] = &out[..]
    else {
        unreachable!("{out:?}");
    };
    assert!(!desk.is_idle());
    let outcome = follower.apply(command);
    let mut out = Vec::new();
    desk.applied(Ticket(1), &outcome, Millis(1), &follower.fold, &mut out);
    assert!(
        matches!(&out[..], [Effect::Answer { ticket: Ticket(1), answer }] if *answer == outcome.done.to_answer())
    );
    assert!(desk.is_idle());
    handle(&mut desk, queue(2), &follower.fold);
    let refused = Refused::StorageFull;
    let not_appended = Input::NotAppended {
        ticket: Ticket(2),
        refused,
    };
    let out = handle(&mut desk, not_appended, &follower.fold);
    let full = Answer::Refused(Refused::StorageFull);
    assert!(matches!(&out[..], [Effect::Answer { ticket: Ticket(2), answer }] if *answer == full));
    assert!(desk.is_idle());
}

#[test]
fn of_an_unknown_room_an_invitation_and_a_rejection_go_to_the_log_and_events_do_not() {
    let (mut desk, fold) = (Desk::default(), Fold::default());
    let deliver = |item| Input::Deliver {
        ticket: Ticket(1),
        deliver: follower::Deliver {
            items: BVec::from([item]),
        },
    };
    let out = handle(&mut desk, deliver(text(1)), &fold);
    let unknown = Answer::Refused(Refused::NotAuthorized);
    assert!(matches!(&out[..], [Effect::Answer { answer, .. }] if *answer == unknown));
    let invited = event(1, Body::Invited(invitation(1, &[bob()])));
    let out = handle(&mut desk, deliver(invited), &fold);
    assert!(matches!(&out[..], [Effect::Append { .. }]));
    let follower::Command::Reject(reject) = reject(1, 1) else {
        unreachable!("reject makes a Reject");
    };
    let out = handle(
        &mut desk,
        Input::Reject {
            ticket: Ticket(2),
            reject,
        },
        &fold,
    );
    assert!(matches!(&out[..], [Effect::Append { .. }]));
    assert_eq!(Desk::frozen(), Answer::Refused(Refused::Poisoned));
}

fn ask(ticket: u64, wait_ms: u32) -> Input {
    Input::Verdicts {
        ticket: Ticket(ticket),
        asked: AskVerdicts {
            sender: bob(),
            first: ClientSeq(1),
            count: 2,
            wait_ms,
        },
    }
}

/// The answers among some orders, by who gets them.
fn answers(orders: Vec<Effect>) -> Vec<(u64, Answer)> {
    let answer = |order| match order {
        Effect::Answer { ticket, answer } => Some((ticket.0, answer)),
        Effect::Append { .. } | Effect::Own(_) => None,
    };
    orders.into_iter().filter_map(answer).collect()
}

#[test]
fn whoever_waits_for_verdicts_is_told_them_when_the_hub_has_told_the_last() {
    let (mut follower, mut desk) = (Follower::invited(), Desk::default());
    follower.queue(&bob(), 1, texts(2));
    let queued = sent(vec![judged(1, 2, Verdict::Queued)]);
    let at_once = handle(&mut desk, ask(1, 0), &follower.fold);
    assert_eq!(answers(at_once), [(1, queued)]);
    let waits = handle(&mut desk, ask(2, 500), &follower.fold);
    assert!(matches!(
        &waits[..],
        [Effect::Own(Own::Wake { after_ms: 500 })]
    ));
    assert!(!desk.is_idle());
    let mut told = |item, desk: &mut Desk| {
        let outcome = follower.deliver(vec![item]);
        let mut out = Vec::new();
        desk.applied(Ticket(9), &outcome, Millis(2), &follower.fold, &mut out);
        answers(out)
            .into_iter()
            .filter(|(who, _)| *who == 2)
            .count()
    };
    assert_eq!(told(own(6, 1), &mut desk), 0, "one is on its way still");
    assert_eq!(told(own(7, 2), &mut desk), 1);
    assert!(desk.is_idle());
    let verdicts = sent(vec![judged(1, 2, placed(6))]);
    let later = handle(&mut desk, ask(3, 500), &follower.fold);
    assert_eq!(answers(later), [(3, verdicts)]);
}

#[test]
fn whoever_has_waited_long_enough_is_told_how_far_its_messages_are() {
    let (mut follower, mut desk) = (Follower::invited(), Desk::default());
    follower.queue(&bob(), 1, texts(2));
    handle(&mut desk, ask(1, 500), &follower.fold);
    let mut out = Vec::new();
    desk.handle(Input::Wake, Millis(500), &follower.fold, &mut out);
    assert!(out.is_empty(), "it came too early");
    desk.handle(Input::Wake, Millis(501), &follower.fold, &mut out);
    let queued = sent(vec![judged(1, 2, Verdict::Queued)]);
    assert_eq!(answers(out), [(1, queued)]);
    assert!(desk.is_idle());
}

#[test]
fn a_client_waits_for_verdicts_so_often_others_all_the_same_and_strangers_not_at_all() {
    let (mut follower, mut desk) = (Follower::invited(), Desk::default());
    let anna = with_anna(&mut follower);
    follower.queue(&bob(), 1, texts(2));
    follower.queue(&anna, 1, texts(2));
    let own = VERDICTS_AWAITED_PER_CLIENT_MAX as u64;
    for ticket in 0..own {
        handle(&mut desk, ask(ticket, 500), &follower.fold);
    }
    let refused = handle(&mut desk, ask(own, 500), &follower.fold);
    let busy = Answer::Refused(Refused::TryLater(TryLater::BUSY));
    assert_eq!(answers(refused), [(own, busy)]);

    let Input::Verdicts { ticket, mut asked } = ask(own, 500) else {
        unreachable!()
    };
    asked.sender = anna;
    let waits = handle(&mut desk, Input::Verdicts { ticket, asked }, &follower.fold);
    assert!(matches!(&waits[..], [Effect::Own(Own::Wake { .. })]));

    let unknown = handle(&mut Desk::default(), ask(1, 500), &Fold::default());
    let not_authorized = Answer::Refused(Refused::NotAuthorized);
    assert_eq!(answers(unknown), [(1, not_authorized)]);
}
