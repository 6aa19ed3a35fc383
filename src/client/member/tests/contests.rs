//! Commits and Proposals: one wins, the others hear of it.

use super::*;

#[test]
fn a_prepared_commit_changes_nothing_until_the_hub_takes_it() {
    let (mut hub, mut alice, mut bob) = pair();
    let before = alice.epoch_authenticator(&room());
    let update = alice.prepare_update(&room()).unwrap();
    assert_eq!(alice.epoch(&room()), Some(Epoch(1)));
    assert_eq!(alice.epoch_authenticator(&room()), before);
    assert!(matches!(
        alice.prepare_update(&room()),
        Err(MemberError::Undecided(_))
    ));
    // Messages still pass in the old epoch.
    hub.say(&mut alice, "still here", &mut [&mut bob]);

    hub.committed(&mut alice, &update, &mut [&mut bob]);
    assert_eq!(bob.epoch(&room()), Some(Epoch(2)));
    agree(&[&alice, &bob]);
}

#[test]
fn the_loser_of_an_epoch_is_told_the_winner_catches_up_and_builds_again() {
    let (mut hub, mut alice, mut bob) = pair();
    let mut carol = member("carol");
    let first = alice.prepare_update(&room()).unwrap();
    let second = bob.prepare_add(&room(), &one_package(&mut carol)).unwrap();

    let (taken, event) = hub.commit(&first);
    let (refused, _) = hub.commit(&second);
    alice.commit_answered(&room(), taken).unwrap();
    let lost = bob.commit_answered(&room(), refused).unwrap_err();
    assert!(
        matches!(lost, MemberError::Lost { current: Epoch(2), winner }
        if winner == Hash::of(&first.commit))
    );
    assert_eq!(bob.pending_commit(&room()), None);

    let event = event.unwrap();
    hub.fan_out(&event, &mut [&mut alice, &mut bob]);
    agree(&[&alice, &bob]);
    let again = bob.prepare_add(&room(), &one_package(&mut carol)).unwrap();
    hub.committed(&mut bob, &again, &mut [&mut alice]);
    hub.welcome(&again, &mut carol);
    agree(&[&alice, &bob, &carol]);
}

#[test]
fn a_winner_that_hears_its_own_commit_first_as_an_event_merges_it_once() {
    let (mut hub, mut alice, mut bob) = pair();
    let update = bob.prepare_update(&room()).unwrap();
    let (answer, event) = hub.commit(&update);
    hub.fan_out(&event.unwrap(), &mut [&mut alice, &mut bob]);
    agree(&[&alice, &bob]);
    bob.commit_answered(&room(), answer).unwrap();
    agree(&[&alice, &bob]);
    assert_eq!(bob.counts().commits, 1);
}

#[test]
fn proposals_are_taken_into_the_next_commit_and_bar_messages_until_then() {
    let (mut hub, mut alice, mut bob) = pair();
    let proposals = bob
        .prepare_proposals(&room(), Proposing::Remove(&[uri("bob")]))
        .unwrap();
    let updates = alice.prepare_proposals(&room(), Proposing::Update).unwrap();
    for bundle in [proposals, updates] {
        let event = hub.event(RoomBody::Proposals(bundle.try_into().unwrap()));
        hub.fan_out(&event, &mut [&mut alice, &mut bob]);
    }
    assert_eq!(
        (
            alice.pending_proposals(&room()),
            bob.pending_proposals(&room())
        ),
        (2, 2)
    );
    assert!(matches!(
        alice.encrypt(&room(), &["too early"]),
        Err(MemberError::ProposalsPending(_))
    ));

    let commit = alice.prepare_update(&room()).unwrap();
    hub.committed(&mut alice, &commit, &mut [&mut bob]);
    assert_eq!(alice.members(&room()), [uri("alice")]);
    assert_eq!(bob.epoch(&room()), None);
    assert_eq!(bob.faults().count(), 0);
}

#[test]
fn an_update_proposed_by_one_is_committed_by_another() {
    let (mut hub, mut alice, mut bob) = pair();
    let proposals = bob.prepare_proposals(&room(), Proposing::Update).unwrap();
    let event = hub.event(RoomBody::Proposals(proposals.try_into().unwrap()));
    hub.fan_out(&event, &mut [&mut alice, &mut bob]);
    let commit = alice.prepare_update(&room()).unwrap();
    hub.committed(&mut alice, &commit, &mut [&mut bob]);
    agree(&[&alice, &bob]);
}

#[test]
fn withdrawn_and_unknown_proposals_leave_the_store() {
    let (_, mut alice, _) = pair();
    let proposals = alice
        .prepare_proposals(&room(), Proposing::Remove(&[uri("bob")]))
        .unwrap();
    alice.withdraw(&room(), &proposals).unwrap();
    assert_eq!(alice.pending_proposals(&room()), 0);

    alice
        .prepare_proposals(&room(), Proposing::Remove(&[uri("bob")]))
        .unwrap();
    let unknown = alice.group(&room()).unwrap().pending_proposals();
    let references: Vec<Payload> = unknown
        .map(|one| one.proposal_reference_ref().as_slice().to_vec().into())
        .collect();
    alice.prepare_update(&room()).unwrap();
    let refused = Refused::UnknownProposals {
        references: references.try_into().unwrap(),
    };
    assert!(
        alice
            .commit_answered(&room(), Answer::Refused(refused))
            .is_err()
    );
    assert_eq!(alice.pending_proposals(&room()), 0);
    assert_eq!(alice.pending_commit(&room()), None);
}
