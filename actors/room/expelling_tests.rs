//! Members whom their provider does not know any more: what the hub proposes, in the fold and at the desk.

use super::{
    desk::{Check, Checked, Desk, Effect, Input, Own},
    expelling::{ToExpel, left_in},
    fanout::{event_for, hub_body},
    hub::{Command, Depart, Enter, Expel, Fold},
    outcome::{Answer, Done, Refused},
    testing::*,
};
use crate::{
    ids::ClientUri,
    limits::HUB_PROPOSALS_PENDING_PER_ROOM_MAX,
    machine::{Desk as _, Fold as _, Millis, Ticket},
    mls::check::proposal::{PendingProposal, ProposalKind},
    wire::{
        BVec, Payload,
        door::RoomBody,
        event::{Body, Copy, Epoch, Lane, RoomSeq},
        post::DepartedWhy,
        refusal::TryLater,
    },
};
use std::sync::Arc;

fn depart(client: &ClientUri) -> Command {
    Command::Depart(Depart {
        client: client.clone(),
        why: DepartedWhy::Revoked,
    })
}

fn removal(leaf: u32, name: &str) -> PendingProposal {
    PendingProposal {
        kind: ProposalKind::Expel(leaf),
        ..proposal(leaf, name)
    }
}

fn expel(on: u64, proposals: Vec<PendingProposal>) -> Command {
    Command::Expel(Expel {
        on: Epoch(on),
        proposals: BVec::try_from(proposals).unwrap(),
    })
}

fn waiting(hub: &Hub) -> Vec<u32> {
    hub.room().pending().iter().map(|one| one.leaf).collect()
}

/// A room of Alice, Bob (leaf 1) and Carol (leaf 2), in which the hub proposes to remove Bob.
fn expelling_bob() -> Hub {
    let mut hub = Hub::with(&[bob(), carol()]);
    hub.apply(&depart(&bob()));
    hub.apply(&expel(1, vec![removal(1, "bob goes")]));
    assert_eq!(waiting(&hub), [1]);
    hub
}

#[test]
fn what_the_hub_proposes_is_an_event_for_everybody_and_waits() {
    let mut hub = Hub::with(&[bob()]);
    assert_eq!(
        hub.apply(&depart(&bob())).done.to_answer(),
        Answer::Received
    );
    let command = expel(1, vec![removal(1, "bob goes")]);
    let outcome = hub.apply(&command);
    let [emission] = &outcome.emitted[..] else {
        panic!("{outcome:?}")
    };
    assert_eq!((emission.first, emission.count), (RoomSeq(2), 1));
    assert_eq!(emission.lane, Lane::Proposals);
    assert_eq!(emission.recipients, [full("b")]);
    let said = BVec::from([Payload::from(b"bob goes".to_vec())]);
    assert_eq!(
        hub_body(&command, 0),
        Some(RoomBody::Proposals(said.clone()))
    );
    let event = event_for(
        &provider("b"),
        &Copy::Full,
        RoomSeq(2),
        emission.time,
        &command,
        0,
    );
    assert_eq!(event.unwrap().body, Body::Proposals(said));
    assert_eq!(waiting(&hub), [1]);
}

#[test]
fn nothing_is_proposed_of_whoever_is_no_member_or_leaves_already_or_twice() {
    let mut hub = Hub::with(&[bob()]);
    let eve: ClientUri = "mimi://b.example/d/eve/phone".parse().unwrap();
    for client in [&eve, &bob(), &bob()] {
        assert_eq!(
            hub.apply(&depart(client)).done.to_answer(),
            Answer::Received
        );
    }
    let of_nobody = expel(1, vec![removal(2, "eve goes")]);
    assert_eq!(hub.apply(&of_nobody).done, Done::Stale);
    let twice = expel(1, vec![removal(1, "bob goes"), removal(2, "eve goes")]);
    assert_eq!(hub.apply(&twice).done, Done::Stale);
    let right = expel(1, vec![removal(1, "bob goes")]);
    assert_eq!(hub.apply(&right).done.to_answer(), Answer::Received);
    assert_eq!(hub.apply(&right).done, Done::Stale);
    assert_eq!(waiting(&hub), [1]);
    assert_eq!(
        Hub::default().apply(&right).done.to_answer(),
        Answer::Received
    );

    let mut leaving = Hub::with(&[bob()]);
    let leave = PendingProposal {
        kind: ProposalKind::SelfRemove,
        ..proposal(1, "bob leaves")
    };
    leaving.propose(&bob(), vec![leave]);
    leaving.apply(&depart(&bob()));
    assert_eq!(leaving.apply(&right).done, Done::Stale);
}

#[test]
fn the_next_commit_of_a_member_must_take_in_what_the_hub_proposes() {
    let mut hub = expelling_bob();
    let omitting = Command::Commit(Box::new(hub.commit("omitting")));
    let Answer::Refused(Refused::OmittedProposals { references }) =
        hub.apply(&omitting).done.to_answer()
    else {
        panic!("it is refused")
    };
    assert_eq!(&references[0][..], b"reference of bob goes");
    let Command::Commit(mut commit) = hub.removing("removing", vec![(1, bob())]) else {
        unreachable!()
    };
    commit.checked.covered = vec![removal(1, "bob goes").reference];
    let outcome = hub.apply(&Command::Commit(commit));
    assert!(matches!(outcome.done.to_answer(), Answer::Committed(_)));
    assert!(!hub.room().has_member(&bob()));
    assert!(
        hub.fold.since_second().is_none(),
        "nobody is to go any more"
    );
}

#[test]
fn with_an_external_commit_the_hubs_proposals_are_made_anew_as_one() {
    let mut hub = expelling_bob();
    let tablet: ClientUri = "mimi://a.example/d/alice/tablet".parse().unwrap();
    let commit = entry(&mut hub, &tablet, 3, &[]);
    let still = left_in(hub.room().pending(), &commit.checked);
    assert_eq!(still, [1]);
    let enter = Command::Enter(Enter {
        commit: Box::new(commit),
        again: BVec::from([removal(1, "bob goes now")]),
    });
    let outcome = hub.apply(&enter);
    let [opened, again] = &outcome.emitted[..] else {
        panic!("{outcome:?}")
    };
    assert_eq!(again.first, opened.first.next());
    assert_eq!(opened.lane, Lane::Commit(Epoch(2)));
    let said = BVec::from([Payload::from(b"bob goes now".to_vec())]);
    assert!(matches!(
        hub_body(&enter, opened.item),
        Some(RoomBody::Commit { .. })
    ));
    assert_eq!(
        hub_body(&enter, again.item),
        Some(RoomBody::Proposals(said.clone()))
    );
    let told = event_for(
        &provider("b"),
        &Copy::Full,
        again.first,
        again.time,
        &enter,
        again.item,
    );
    assert_eq!(told.unwrap().body, Body::Proposals(said));
    assert_eq!(hub.room().pending()[0].message, "bob goes now");
    // Whoever enters and replaces the leaf has done what was proposed.
    let mut own = expelling_bob();
    let commit = entry(&mut own, &bob(), 1, &[(1, bob())]);
    assert!(left_in(own.room().pending(), &commit.checked).is_empty());
    own.apply(&Command::Commit(Box::new(commit)));
    assert!(own.room().has_member(&bob()));
    assert!(own.fold.since_second().is_none(), "it came again by itself");
}

#[test]
fn who_is_to_go_is_remembered_across_restarts_and_epochs() {
    let mut hub = expelling_bob();
    hub.fold = Fold::revive(&hub.fold.compact()).unwrap();
    // An external Commit whose entry brought nothing anew, as from a hub that could not sign then.
    let tablet: ClientUri = "mimi://a.example/d/alice/tablet".parse().unwrap();
    let commit = entry(&mut hub, &tablet, 3, &[]);
    hub.apply(&Command::Commit(Box::new(commit)));
    assert_eq!(waiting(&hub), [0_u32; 0]);
    let mut world = World::of(hub);
    let (_, leaves) = world.applied(7).expect("the hub proposes again");
    assert_eq!(leaves, [1]);
}

#[test]
fn more_than_may_wait_are_proposed_in_turns() {
    let max = HUB_PROPOSALS_PENDING_PER_ROOM_MAX;
    let many: Vec<ClientUri> = (0..=max)
        .map(|number| {
            format!("mimi://b.example/d/u{number}/phone")
                .parse()
                .unwrap()
        })
        .collect();
    let mut hub = Hub::with(&many);
    for client in &many {
        hub.apply(&depart(client));
    }
    let mut world = World::of(hub);
    let (on, leaves) = world.applied(7).expect("the hub proposes");
    assert_eq!(leaves.len(), max);
    let proposals = leaves.iter().map(|leaf| removal(*leaf, &leaf.to_string()));
    world.hub.apply(&expel(on.0, proposals.collect()));
    assert_eq!(world.applied(0), None, "as many as may wait do");
    // They take no place of what members propose.
    let outcome = world.hub.propose(&alice(), vec![proposal(0, "an update")]);
    assert!(matches!(outcome.done.to_answer(), Answer::Proposed(_)));
}

/// A desk beside its fold.
struct World {
    desk: Desk,
    hub: Hub,
}

impl World {
    fn of(hub: Hub) -> Self {
        let desk = Desk::default();
        Self { desk, hub }
    }

    fn orders(&mut self, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.desk.handle(input, Millis(1), &self.hub.fold, &mut out);
        out
    }

    /// Something of the room was applied; what the desk then has checked of whoever is to go.
    fn applied(&mut self, ticket: u64) -> Option<(Epoch, Vec<u32>)> {
        let mut out = Vec::new();
        let outcome = super::outcome::Outcome::answer(Answer::Received);
        let fold = &self.hub.fold;
        self.desk
            .applied(Ticket(ticket), &outcome, Millis(1), fold, &mut out);
        out.into_iter().find_map(|order| {
            if let Effect::Own(Own::Check { check, .. }) = order
                && let Check::Expel(ToExpel { on, leaves, .. }) = *check
            {
                return Some((on, leaves));
            }
            None
        })
    }

    fn found(&mut self, on: Epoch, proposals: Vec<PendingProposal>) -> Vec<Effect> {
        let checked = Box::new(Checked::Expel { on, proposals });
        let ticket = Ticket(0);
        self.orders(Input::Checked { ticket, checked })
    }
}

#[test]
fn a_departure_is_logged_and_what_the_hub_makes_of_it_too() {
    let mut world = World::of(Hub::with(&[bob()]));
    let (ticket, client, why) = (Ticket(3), bob(), DepartedWhy::Deleted);
    let orders = world.orders(Input::Depart {
        ticket,
        client,
        why,
    });
    let [Effect::Append { ticket, command }] = &orders[..] else {
        panic!("{orders:?}")
    };
    assert_eq!(*ticket, Ticket(3));
    let command: Arc<Command> = Arc::clone(command);
    world.hub.apply(&command);
    let (on, leaves) = world.applied(3).expect("the hub proposes");
    assert_eq!((on, &leaves[..]), (Epoch(1), &[1][..]));
    assert!(!world.desk.is_idle(), "its Proposals are being made");
    assert_eq!(world.applied(4), None, "once");
    let orders = world.found(on, vec![removal(1, "bob goes")]);
    let [Effect::Append { command, .. }] = &orders[..] else {
        panic!("{orders:?}")
    };
    world.hub.apply(command);
    assert_eq!(world.applied(0), None);
    assert!(world.desk.is_idle());
    assert_eq!(waiting(&world.hub), [1]);
}

#[test]
fn what_the_log_does_not_take_is_tried_again_and_what_nobody_verifies_is_not() {
    let mut world = World::of(Hub::with(&[bob()]));
    world.hub.apply(&depart(&bob()));
    let (on, _) = world.applied(3).expect("the hub proposes");
    world.found(on, vec![removal(1, "bob goes")]);
    let refused = Refused::TryLater(TryLater::BUSY);
    let ticket = Ticket(0);
    let orders = world.orders(Input::NotAppended { ticket, refused });
    assert!(matches!(
        orders[..],
        [Effect::Own(Own::Wake { after_ms: 1_000 })]
    ));
    assert!(!world.desk.is_idle());
    let orders = world.orders(Input::Wake);
    assert!(matches!(orders[..], [Effect::Own(Own::Check { .. })]));
    // The group's members sign otherwise than the hub does: it is not tried again in this epoch.
    assert!(world.found(on, Vec::new()).is_empty());
    assert_eq!(world.applied(5), None);
    assert!(world.desk.is_idle());
    world.hub.advance(1);
    assert!(world.applied(6).is_some());
}

#[test]
fn a_departure_that_changes_nothing_costs_no_log() {
    let mut gone = Hub::with(&[bob()]);
    gone.apply(&depart(&bob()));
    for (hub, client) in [
        (Hub::default(), bob()),
        (Hub::with(&[bob()]), carol()),
        (gone, bob()),
    ] {
        let (ticket, why) = (Ticket(3), DepartedWhy::Deleted);
        let orders = World::of(hub).orders(Input::Depart {
            ticket,
            client,
            why,
        });
        let [Effect::Answer { answer, .. }] = &orders[..] else {
            panic!("{orders:?}")
        };
        assert_eq!(*answer, Answer::Received);
    }
}
