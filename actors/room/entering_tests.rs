use super::{
    fanout::{event_for, follower_body, follower_notice, hub_notice},
    hub::{Command, Commit, Propose},
    leases::Grant,
    outcome::{Answer, Change, Refused},
    testing::*,
};
use crate::{
    ids::ClientUri,
    limits::LEASE_MS_MIN,
    mls::check::{
        bundle::Joined,
        proposal::{PendingProposal, ProposalKind},
    },
    wire::{
        BVec, Payload,
        event::{Body, CommitEvent, Copy, Entered, Epoch, Hash, RoomSeq, SubmitRefused, Verdict},
        post::Notice,
        refusal::Flaw,
    },
};

fn apply(hub: &mut Hub, commit: Commit) -> super::outcome::Outcome {
    hub.apply(&Command::Commit(Box::new(commit)))
}

fn of_kind(leaf: u32, name: &str, kind: ProposalKind) -> PendingProposal {
    PendingProposal {
        kind,
        ..proposal(leaf, name)
    }
}

fn references(list: &[&PendingProposal]) -> Vec<Payload> {
    let reference = |one: &&PendingProposal| Payload(one.reference.clone());
    list.iter().map(reference).collect()
}

fn tablet() -> ClientUri {
    "mimi://a.example/d/alice/tablet".parse().unwrap()
}

fn watch() -> ClientUri {
    "mimi://b.example/d/bob/watch".parse().unwrap()
}

#[test]
fn a_further_client_of_a_user_in_the_room_enters_and_is_told_where_its_events_begin() {
    let mut hub = Hub::with(&[bob()]);
    let commit = entry(&mut hub, &tablet(), 2, &[]);
    let command = Command::Commit(Box::new(commit));
    let outcome = hub.apply(&command);
    assert!(
        matches!(outcome.done.to_answer(), Answer::Committed(accepted) if accepted.epoch == Epoch(2))
    );
    assert!(hub.room().has_member(&tablet()));
    assert_eq!(outcome.emitted[0].recipients, [full("b")]);
    let [notice] = &outcome.notices[..] else {
        panic!("{:?}", outcome.notices)
    };
    let after = RoomSeq(2);
    assert_eq!(notice.clients[..], [tablet()]);
    assert_eq!(notice.change, Change::Joined { after });
    let told = hub_notice(notice, &command);
    let welcome = None;
    assert_eq!(told, Some(Notice::Joined { after, welcome }));
}

#[test]
fn at_a_follower_who_enters_is_named_in_the_event_and_told_there() {
    let mut hub = Hub::with(&[bob()]);
    let commit = entry(&mut hub, &watch(), 2, &[]);
    let command = Command::Commit(Box::new(commit));
    let outcome = hub.apply(&command);
    assert_eq!(outcome.notices, []);
    let seen_by = |name: &str, copy: &Copy| {
        let (provider, time) = (provider(name), outcome.emitted[0].time);
        let event = event_for(&provider, copy, RoomSeq(2), time, &command, 0);
        event.unwrap().body
    };
    let Body::Commit(CommitEvent {
        entered,
        invitation,
        left,
        ..
    }) = seen_by("b", &Copy::Full)
    else {
        panic!("a Commit")
    };
    assert_eq!((entered, invitation, left.len()), (Some(watch()), None, 0));
    let Body::Commit(elsewhere) = seen_by("c", &Copy::Full) else {
        panic!("a Commit")
    };
    assert_eq!(elsewhere.entered, None);
    let first = Entered {
        epoch: Epoch(2),
        client: watch(),
    };
    let begins = seen_by("b", &Copy::Invitation);
    assert_eq!(begins, Body::Entered(first));
}

#[test]
fn a_follower_takes_in_who_entered_and_its_room_may_begin_so() {
    let after = RoomSeq(6);
    let entered = Entered {
        epoch: Epoch(2),
        client: watch(),
    };
    let named = CommitEvent {
        epoch: Epoch(6),
        commit: Payload::from(b"commit".to_vec()),
        left: BVec::from([]),
        entered: Some(watch()),
        invitation: None,
    };
    let cases = [
        (Follower::invited(), Body::Commit(named), true),
        (Follower::default(), Body::Entered(entered), false),
    ];
    for (mut follower, body, is_read) in cases {
        let items = BVec::from([event(6, body)]);
        let command = super::follower::Command::Deliver(super::follower::Deliver { items });
        let outcome = follower.apply(&command);
        assert_eq!(outcome.done.to_answer(), Answer::Received);
        assert!(follower.fold.has_member(&watch()));
        let [notice] = &outcome.notices[..] else {
            panic!("{:?}", outcome.notices)
        };
        let told = follower_notice(notice, &command);
        let welcome = None;
        assert_eq!(told, Some(Notice::Joined { after, welcome }));
        // Whoever was in before reads the Commit; where nobody was, there is nobody to read it.
        assert_eq!(!outcome.emitted.is_empty(), is_read);
        assert_eq!(follower_body(&command, 0).is_some(), is_read);
    }
}

#[test]
fn a_client_that_replaces_its_own_leaf_begins_again_and_is_not_told_that_it_left() {
    let mut hub = Hub::with(&[bob(), carol()]);
    let again = entry(&mut hub, &alice(), 0, &[(0, alice())]);
    let outcome = apply(&mut hub, again);
    let changes: Vec<_> = outcome.notices.iter().map(|notice| notice.change).collect();
    assert_eq!(changes, [Change::Joined { after: RoomSeq(2) }]);
    // What it sealed for an earlier epoch was not of this membership.
    let old = hub.send(&alice(), 1, vec![message(1, "old")]);
    let Answer::Sent(runs) = old.done.to_answer() else {
        panic!("{:?}", old.done.to_answer())
    };
    let current = Epoch(2);
    assert_eq!(
        runs[0].verdict,
        Verdict::Refused(SubmitRefused::EpochTooOld { current })
    );

    let again = entry(&mut hub, &bob(), 1, &[(1, bob())]);
    let command = Command::Commit(Box::new(again));
    let outcome = hub.apply(&command);
    let time = outcome.emitted[0].time;
    let told = event_for(&provider("b"), &Copy::Full, RoomSeq(3), time, &command, 0);
    let Some(Body::Commit(commit)) = told.map(|event| event.body) else {
        panic!("a Commit")
    };
    assert_eq!((commit.left.len(), commit.entered), (0, Some(bob())));
}

#[test]
fn strangers_and_users_without_a_client_in_the_room_do_not_enter() {
    let mut hub = Hub::with(&[bob(), carol()]);
    let dave: ClientUri = "mimi://b.example/d/dave/phone".parse().unwrap();
    let before = hub.fold.clone();
    let commit = entry(&mut hub, &dave, 3, &[]);
    let outcome = apply(&mut hub, commit);
    assert_eq!(
        outcome.done.to_answer(),
        Answer::Refused(Refused::NotAuthorized)
    );
    assert_eq!(hub.fold, before);
    let gone = hub.removing("gone", vec![(1, bob())]);
    hub.apply(&gone);
    let commit = entry(&mut hub, &bob(), 1, &[]);
    let outcome = apply(&mut hub, commit);
    assert_eq!(
        outcome.done.to_answer(),
        Answer::Refused(Refused::NotAuthorized)
    );
}

#[test]
fn an_entry_that_does_something_to_others_is_refused_whatever_its_check_found() {
    let mut hub = Hub::with(&[bob(), carol()]);
    let removes = entry(&mut hub, &tablet(), 3, &[(1, bob())]);
    let mut brings = entry(&mut hub, &tablet(), 3, &[]);
    brings.checked.joined = brings.checked.joined.map(|joined| Joined {
        client: watch(),
        ..joined
    });
    let mut misplaced = entry(&mut hub, &tablet(), 3, &[]);
    misplaced.checked.committer = 0;
    let before = hub.fold.clone();
    for commit in [removes, brings, misplaced] {
        let outcome = apply(&mut hub, commit);
        let Answer::Refused(Refused::Invalid(Flaw { code, .. })) = outcome.done.to_answer() else {
            panic!("{:?}", outcome.done.to_answer())
        };
        assert_eq!(code.name(), "external_commit");
        assert_eq!(hub.fold, before);
    }
}

#[test]
fn who_is_to_be_removed_does_not_get_around_it_by_entering_again() {
    let mut hub = Hub::with(&[bob(), carol()]);
    let remove = of_kind(0, "away with bob", ProposalKind::Remove(1));
    hub.propose(&alice(), vec![remove.clone()]);
    let commit = entry(&mut hub, &bob(), 1, &[(1, bob())]);
    let outcome = apply(&mut hub, commit);
    let Answer::Refused(Refused::InvalidProposals {
        references: told, ..
    }) = outcome.done.to_answer()
    else {
        panic!("{:?}", outcome.done.to_answer())
    };
    assert_eq!(told[..], references(&[&remove]));
    // Others are not held up.
    let commit = entry(&mut hub, &tablet(), 3, &[]);
    let outcome = apply(&mut hub, commit);
    assert!(matches!(outcome.done.to_answer(), Answer::Committed(_)));
}

#[test]
fn a_commit_that_leaves_in_who_is_leaving_is_refused_by_the_fold_too() {
    for (kind, external_must) in [
        (ProposalKind::SelfRemove, true),
        (ProposalKind::Remove(1), false),
    ] {
        let mut hub = Hub::with(&[bob(), carol()]);
        let leave = of_kind(1, "bob leaves", kind);
        hub.propose(&bob(), vec![leave.clone()]);
        let omitting = hub.commit("omits");
        let refused = apply(&mut hub, omitting).done.to_answer();
        let told = Refused::OmittedProposals {
            references: BVec::try_from(references(&[&leave])).unwrap(),
        };
        assert_eq!(refused, Answer::Refused(told.clone()));
        let commit = entry(&mut hub, &tablet(), 3, &[]);
        let outcome = apply(&mut hub.clone(), commit);
        assert_eq!(
            outcome.done.to_answer() == Answer::Refused(told),
            external_must
        );
        // A Remove by value lets it go as well.
        let letting_go = hub.removing("lets go", vec![(1, bob())]);
        let outcome = hub.apply(&letting_go);
        assert!(matches!(outcome.done.to_answer(), Answer::Committed(_)));
    }
}

#[test]
fn an_entry_may_let_go_who_leaves_by_self_remove() {
    let mut hub = Hub::with(&[bob(), carol()]);
    let leave = of_kind(1, "bob leaves", ProposalKind::SelfRemove);
    hub.propose(&bob(), vec![leave]);
    let commit = entry(&mut hub, &tablet(), 1, &[(1, bob())]);
    let outcome = apply(&mut hub, commit);
    assert!(matches!(outcome.done.to_answer(), Answer::Committed(_)));
    assert!(!hub.room().has_member(&bob()) && hub.room().has_member(&tablet()));
}

#[test]
fn members_that_remove_one_another_both_wait_and_no_commit_takes_in_both() {
    let mut hub = Hub::with(&[bob(), carol()]);
    let one = of_kind(1, "away with carol", ProposalKind::Remove(2));
    let other = of_kind(2, "away with bob", ProposalKind::Remove(1));
    for (who, proposal) in [(bob(), &one), (carol(), &other)] {
        let outcome = hub.propose(&who, vec![proposal.clone()]);
        assert!(matches!(outcome.done.to_answer(), Answer::Proposed(_)));
    }
    let Command::Commit(mut both) = hub.removing("both", vec![(1, bob()), (2, carol())]) else {
        panic!("a Commit")
    };
    both.checked.covered = vec![one.reference.clone(), other.reference.clone()];
    let Answer::Refused(Refused::InvalidProposals {
        references: told, ..
    }) = apply(&mut hub, *both).done.to_answer()
    else {
        panic!("it was taken")
    };
    assert_eq!(told[..], references(&[&one, &other]));
    let Command::Commit(mut one_of_them) = hub.removing("one", vec![(1, bob())]) else {
        panic!("a Commit")
    };
    one_of_them.checked.covered = vec![other.reference.clone()];
    assert!(matches!(
        apply(&mut hub, *one_of_them).done.to_answer(),
        Answer::Committed(_)
    ));
}

#[test]
fn after_a_reinit_nothing_is_taken_and_a_retry_still_gets_its_answer() {
    let mut hub = Hub::with(&[bob()]);
    let mut last = hub.commit("the end");
    last.checked.reinit = true;
    let first = apply(&mut hub, last.clone()).done.to_answer();
    assert!(hub.room().has_ended());
    let next = hub.commit("after the end");
    assert_eq!(
        apply(&mut hub, next).done.to_answer(),
        Answer::Refused(Refused::Ended)
    );
    let entering = entry(&mut hub, &tablet(), 2, &[]);
    assert_eq!(
        apply(&mut hub, entering).done.to_answer(),
        Answer::Refused(Refused::Ended)
    );
    let lease = Grant {
        joiner: tablet(),
        request: Hash::of(b"after the end"),
        signature_key: Payload::from(b"key".to_vec()),
        code: None,
        lease_ms: LEASE_MS_MIN,
    };
    let lease = hub.apply(&Command::Grant(lease)).done.to_answer();
    assert_eq!(lease, Answer::Refused(Refused::Ended));
    let propose = Propose {
        sender: bob(),
        on: Epoch(2),
        proposals: [proposal(1, "p")].into(),
    };
    let proposed = hub.apply(&Command::Propose(propose)).done.to_answer();
    assert_eq!(proposed, Answer::Refused(Refused::Ended));
    let Answer::Sent(runs) = hub
        .send(&alice(), 1, vec![message(2, "late")])
        .done
        .to_answer()
    else {
        panic!("no verdict")
    };
    assert_eq!(runs[0].verdict, Verdict::Refused(SubmitRefused::Ended));
    let run = hub.submit(&bob(), 1, vec![message(2, "late")]);
    assert_eq!(run.refused[0].reason, SubmitRefused::Ended);
    assert_eq!(apply(&mut hub, last).done.to_answer(), first);
}
