use super::{
    hub::{Command, Via},
    outcome::{Answer, Refused, RefusedRun},
    testing::*,
};
use crate::{
    limits::{EPOCH_TOLERANCE_EPOCHS, MESSAGES_REMEMBERED_PER_EPOCH_MAX, REFUSED_ITEM_BYTES},
    machine::{Fold as _, Millis},
    wire::{
        BVec, Payload,
        event::{ClientSeq, Epoch, RoomSeq, SubmitRefused, SubmitSeq, Verdict, VerdictRun},
        version::Level,
    },
};

fn accepted(first: u64, count: u32, seq: u64, time: u64) -> VerdictRun {
    VerdictRun {
        first: ClientSeq(first),
        count,
        verdict: Verdict::Accepted {
            seq: RoomSeq(seq),
            time: Millis(time),
        },
    }
}

fn refused(first: u64, count: u32, reason: SubmitRefused) -> VerdictRun {
    VerdictRun {
        first: ClientSeq(first),
        count,
        verdict: Verdict::Refused(reason),
    }
}

fn sent(runs: Vec<VerdictRun>) -> Answer {
    Answer::Sent(BVec::try_from(runs).unwrap())
}

fn texts(epoch: u64, count: usize) -> Vec<Payload> {
    (0..count)
        .map(|i| message(epoch, &format!("text {i}")))
        .collect()
}

#[test]
fn the_provider_that_submitted_is_told_its_own_numbers_instead_of_the_bytes() {
    let mut hub = Hub::with(&[bob(), carol()]);
    hub.submit(&bob(), 1, texts(1, 2));
    let outcome = hub.submit(
        &bob(),
        3,
        vec![
            message(1, "x"),
            message(9, "ahead"),
            message(1, "y"),
            message(1, "z"),
        ],
    );
    assert_eq!(outcome.done.to_answer(), Answer::Received);
    let runs: Vec<_> = outcome
        .emitted
        .iter()
        .map(|run| (run.first.0, run.count, run.item, run.recipients.clone()))
        .collect();
    assert_eq!(
        runs,
        [
            (4, 1, 0, vec![own("b", 3), full("c")]),
            (5, 2, 2, vec![own("b", 5), full("c")]),
        ]
    );
    assert!(outcome.emitted.iter().all(|run| run.at == hub.at()));
    let reason = SubmitRefused::EpochAhead { current: Epoch(1) };
    assert_eq!(
        outcome.refused,
        [RefusedRun {
            provider: provider("b"),
            first: SubmitSeq(4),
            count: 1,
            reason
        }]
    );
}

#[test]
fn submissions_are_taken_once_and_a_hole_before_them_is_named() {
    let mut hub = Hub::with(&[bob(), carol()]);
    for first in [0, 2, u64::MAX] {
        let before = hub.fold.clone();
        let outcome = hub.submit(&bob(), first, texts(1, 1));
        assert_eq!(outcome.done.to_answer(), Answer::Gap { expected: 1 });
        assert_eq!(hub.fold, before);
    }
    hub.submit(&bob(), 1, texts(1, 3));
    let repeat = hub.submit(&bob(), 1, texts(1, 3));
    assert_eq!(
        (repeat.done.to_answer(), repeat.emitted),
        (Answer::Received, Vec::new())
    );
    let overlap = hub.submit(&bob(), 2, texts(1, 4));
    assert_eq!(overlap.emitted.len(), 1);
    let run = &overlap.emitted[0];
    assert_eq!((run.first.0, run.count, run.item), (5, 2, 2));
    assert_eq!(run.recipients, [own("b", 4), full("c")]);
    // Each provider counts for itself.
    assert_eq!(
        hub.submit(&carol(), 1, texts(1, 1)).emitted[0].recipients,
        [full("b"), own("c", 1)]
    );
}

#[test]
fn a_removed_sender_is_refused_whatever_the_epoch_of_its_message() {
    let mut hub = Hub::with(&[bob(), client("a", "anna", "phone")]);
    let anna = client("a", "anna", "phone");
    hub.send(&anna, 1, texts(1, 1));
    let remove = hub.removing("out", vec![(1, bob()), (2, anna.clone())]);
    hub.apply(&remove);
    for epoch in [0, 1, 2, 3] {
        let first = epoch + 1;
        let outcome = hub.submit(&bob(), first, texts(epoch, 1));
        assert_eq!(outcome.emitted, []);
        assert_eq!(outcome.refused[0].reason, SubmitRefused::NotMember);
        assert_eq!(outcome.refused[0].first, SubmitSeq(first));
    }
    let outcome = hub.send(&anna, 2, texts(1, 1));
    assert_eq!(
        outcome.done.to_answer(),
        sent(vec![refused(2, 1, SubmitRefused::NotMember)])
    );
    assert_eq!(
        hub.send(&client("a", "adam", "phone"), 1, texts(2, 1))
            .done
            .to_answer(),
        Answer::Refused(Refused::NotMember)
    );
}

#[test]
fn a_message_of_an_older_epoch_is_taken_as_far_back_as_is_tolerated() {
    let mut hub = Hub::with(&[bob()]);
    hub.advance(EPOCH_TOLERANCE_EPOCHS);
    let current = hub.epoch();
    assert_eq!(current, 1 + EPOCH_TOLERANCE_EPOCHS);
    let taken = hub.send(
        &alice(),
        1,
        vec![message(1, "oldest"), message(current, "newest")],
    );
    assert_eq!(taken.emitted[0].count, 2);
    let current = Epoch(current);
    let late = hub.send(&alice(), 3, texts(0, 1));
    assert_eq!(
        late.done.to_answer(),
        sent(vec![refused(3, 1, SubmitRefused::EpochTooOld { current })])
    );
    let ahead = hub.send(&alice(), 4, texts(current.0 + 1, 1));
    assert_eq!(
        ahead.done.to_answer(),
        sent(vec![refused(4, 1, SubmitRefused::EpochAhead { current })])
    );
}

#[test]
fn a_message_from_before_its_sender_joined_is_refused() {
    let mut hub = Hub::with(&[bob()]);
    let add = hub.adding("carol joins", vec![(2, carol())]);
    hub.apply(&add);
    let current = Epoch(2);
    let outcome = hub.submit(
        &carol(),
        1,
        vec![message(1, "too early"), message(2, "fine")],
    );
    assert_eq!(
        outcome.refused[0].reason,
        SubmitRefused::EpochTooOld { current }
    );
    assert_eq!((outcome.emitted[0].count, outcome.emitted[0].item), (1, 1));
    // Who was removed and added again counts from its return.
    let out = hub.removing("bob leaves", vec![(1, bob())]);
    hub.apply(&out);
    let back = hub.adding("bob is back", vec![(1, bob())]);
    hub.apply(&back);
    let outcome = hub.submit(
        &bob(),
        1,
        vec![message(2, "as he was"), message(4, "as he is")],
    );
    assert_eq!(outcome.refused[0].count, 1);
    assert_eq!(outcome.emitted[0].item, 1);
}

#[test]
fn what_is_no_application_message_of_the_group_is_refused() {
    let mut hub = Hub::created();
    let bytes = message(0, "x").to_vec();
    let cut = Payload::from(bytes[..bytes.len() - 1].to_vec());
    let long = Payload::from([&bytes[..], &[0]].concat());
    let handshake = bundle(0, "a commit").commit;
    let messages = vec![
        message_of(b"another group", 0, "x"),
        cut,
        long,
        handshake,
        Payload::default(),
    ];
    let outcome = hub.send(&alice(), 1, messages);
    assert_eq!(
        outcome.done.to_answer(),
        sent(vec![refused(1, 5, SubmitRefused::Malformed)])
    );
    assert_eq!(outcome.emitted, []);
}

#[test]
fn a_clients_number_is_taken_once_and_a_repeat_gets_the_first_verdict() {
    let mut hub = Hub::created();
    let first = hub.send(
        &alice(),
        1,
        vec![
            message(0, "x"),
            message(0, "y"),
            message(7, "ahead"),
            message(0, "z"),
        ],
    );
    let ahead = SubmitRefused::EpochAhead { current: Epoch(0) };
    let verdicts = vec![
        accepted(1, 2, 1, 100),
        refused(3, 1, ahead),
        accepted(4, 1, 3, 100),
    ];
    assert_eq!(first.done.to_answer(), sent(verdicts.clone()));
    // Epoch and time have moved; other bytes under the same numbers change nothing.
    hub.advance(2);
    hub.time = 700;
    let repeat = hub.send(&alice(), 1, texts(0, 4));
    assert_eq!(
        (repeat.done.to_answer(), repeat.emitted),
        (sent(verdicts), Vec::new())
    );
    let overlap = hub.send(&alice(), 4, texts(2, 2));
    assert_eq!(
        overlap.done.to_answer(),
        sent(vec![accepted(4, 1, 3, 100), accepted(5, 1, 6, 700)])
    );
    assert_eq!(overlap.emitted[0].item, 1);
    assert_eq!(overlap.emitted[0].origin, Some((alice(), ClientSeq(5))));
    assert_eq!(
        hub.send(&alice(), 7, texts(2, 1)).done.to_answer(),
        Answer::Gap { expected: 6 }
    );
    assert_eq!(
        hub.send(&alice(), 0, texts(2, 1)).done.to_answer(),
        Answer::Gap { expected: 6 }
    );
}

#[test]
fn a_large_message_that_is_refused_counts_as_several() {
    let (small, large) = (
        message(1, "x"),
        Payload::from(vec![0; 10 * REFUSED_ITEM_BYTES]),
    );
    let via = |first| Via::Provider {
        first: SubmitSeq(first),
        undecided: SubmitSeq(1),
    };
    let Command::Submit(submit) = submit(&bob(), via(7), vec![small.clone(), large, small]) else {
        unreachable!("submit makes a Submit")
    };
    assert_eq!(submit.weight(SubmitSeq(7), 3), 1 + 11 + 1);
    assert_eq!(submit.weight(SubmitSeq(8), 1), 11);
    assert_eq!(submit.weight(SubmitSeq(9), 1), 1);
}

#[test]
fn the_same_ciphertext_under_another_number_is_refused_and_not_sent_out_again() {
    let mut hub = Hub::with(&[bob(), carol()]);
    hub.level = Level::SECOND;
    let outcome = hub.send(&alice(), 1, texts(1, 2));
    let time = hub.time;
    assert_eq!(
        outcome.done.to_answer(),
        sent(vec![accepted(1, 2, 2, time)])
    );
    let again = [texts(1, 2), vec![message(1, "new"), message(1, "new")]].concat();
    let outcome = hub.send(&alice(), 3, again);
    let duplicate = SubmitRefused::Duplicate;
    assert_eq!(
        outcome.done.to_answer(),
        sent(vec![
            refused(3, 2, duplicate),
            accepted(5, 1, 4, time),
            refused(6, 1, duplicate),
        ])
    );
    assert_eq!(outcome.emitted.len(), 1);

    let outcome = hub.submit(&bob(), 1, texts(1, 2));
    assert_eq!(outcome.emitted.len(), 1, "bob's are not alice's");
    let outcome = hub.submit(&bob(), 3, texts(1, 2));
    assert_eq!(outcome.emitted, []);
    let run = RefusedRun {
        provider: provider("b"),
        first: SubmitSeq(3),
        count: 2,
        reason: duplicate,
    };
    assert_eq!(outcome.refused, [run]);
}

#[test]
fn what_was_refused_may_come_again_under_another_number() {
    let mut hub = Hub::with(&[bob()]);
    hub.level = Level::SECOND;
    let ahead = SubmitRefused::EpochAhead { current: Epoch(1) };
    let outcome = hub.send(&alice(), 1, texts(2, 1));
    assert_eq!(outcome.done.to_answer(), sent(vec![refused(1, 1, ahead)]));
    hub.advance(1);
    assert_eq!(hub.send(&alice(), 2, texts(2, 1)).emitted.len(), 1);
}

#[test]
fn a_message_is_known_again_for_as_long_as_its_epoch_and_among_so_many() {
    let mut hub = Hub::with(&[bob()]);
    hub.level = Level::SECOND;
    hub.send(&alice(), 1, texts(1, 1));
    hub.advance(EPOCH_TOLERANCE_EPOCHS);
    hub.fold = super::hub::Fold::revive(&hub.fold.compact()).unwrap();
    assert_eq!(hub.send(&alice(), 2, texts(1, 1)).emitted, []);
    let epoch = hub.epoch();
    let max = MESSAGES_REMEMBERED_PER_EPOCH_MAX;
    hub.send(&alice(), 3, texts(epoch, max + 1));
    let (next, newest) = (4 + max as u64, texts(epoch, max + 1).split_off(1));
    assert_eq!(hub.send(&alice(), next, newest).emitted, []);
    let oldest = texts(epoch, 1);
    let outcome = hub.send(&alice(), next + max as u64, oldest);
    assert_eq!(outcome.emitted.len(), 1, "the oldest was forgotten");
}

#[test]
fn a_room_of_the_first_level_takes_what_it_took_and_is_stored_as_it_was() {
    let mut hub = Hub::with(&[bob()]);
    hub.send(&alice(), 1, texts(1, 2));
    assert_eq!(hub.send(&alice(), 3, texts(1, 2)).emitted.len(), 1);
    assert_eq!(hub.fold.compact()[0], 1);
    hub.level = Level::SECOND;
    assert_eq!(hub.send(&alice(), 5, texts(1, 2)).emitted.len(), 1);
    let compact = hub.fold.compact();
    assert_eq!(compact[0], 2);
    assert_eq!(super::hub::Fold::revive(&compact), Ok(hub.fold.clone()));
    hub.advance(EPOCH_TOLERANCE_EPOCHS + 1);
    assert_eq!(hub.fold.compact()[0], 1, "all of it is forgotten");
}
