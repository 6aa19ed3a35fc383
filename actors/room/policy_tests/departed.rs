//! Whom the hub removes from a room with a policy.

use super::{hall::*, *};
use crate::{
    ids::ClientUri,
    policy::components::Component as _,
    room::hub::{Command, Depart, Expel},
    wire::{BVec, event::Epoch, post::DepartedWhy},
};

fn depart(hall: &mut Hall, client: &ClientUri) {
    let (client, why) = (client.clone(), DepartedWhy::Revoked);
    hall.hub.apply(&Command::Depart(Depart { client, why }));
}

fn expel(hall: &mut Hall, leaf: u32) -> Done {
    let one = PendingProposal {
        kind: ProposalKind::Expel(leaf),
        ..proposal(leaf, &format!("{leaf} goes"))
    };
    let on = Epoch(hall.hub.epoch());
    let proposals = BVec::from([one]);
    hall.hub
        .apply(&Command::Expel(Expel { on, proposals }))
        .done
}

#[test]
fn who_may_remove_nobody_removes_whom_the_hub_proposed_to_remove() {
    let (bob, carol) = (bob(), carol());
    let mut hall = Hall::with(&[(&bob, SPEAKER), (&carol, GUEST)]);
    let same = hall.components.clone();
    let outcome = hall.commits(&bob, 1, &same, |commit| removes(commit, 2, &carol));
    forbidden(&outcome, "canKick");
    depart(&mut hall, &carol);
    assert_eq!(expel(&mut hall, 2), Answer::Received);
    accepted(&hall.commits(&bob, 1, &same, |commit| removes(commit, 2, &carol)));
}

#[test]
fn whom_the_constraints_hold_the_hub_does_not_remove_until_they_do_not() {
    let (alice, bob) = (alice(), bob());
    let mut roles = sets::moderated();
    let owner = roles.roles.iter_mut().find(|role| role.index == OWNER);
    owner.unwrap().active_min = 1;
    let owned_by = |owners: &[(&ClientUri, u32)]| {
        let all = with(&[], ComponentId::ROLES, &roles.encode());
        with(&all, ComponentId::PARTICIPANTS, &list(owners))
    };
    let (mut hall, _) = Hall::of(Level::SECOND, &owned_by(&[(&alice, OWNER)]));
    let both = owned_by(&[(&alice, OWNER), (&bob, MODERATOR)]);
    accepted(&hall.commits(&alice, 0, &both, |commit| adds(commit, 1, &bob)));
    depart(&mut hall, &alice);
    // Every Commit would have to remove the only owner, and none may.
    assert_eq!(expel(&mut hall, 0), Done::Stale);
    accepted(&hall.commits(&bob, 1, &both, |_| {}));
    let heirs = owned_by(&[(&alice, OWNER), (&bob, OWNER)]);
    accepted(&hall.commits(&alice, 0, &heirs, |_| {}));
    assert_eq!(expel(&mut hall, 0), Answer::Received);
    accepted(&hall.commits(&bob, 1, &heirs, |commit| removes(commit, 0, &alice)));
}
