//! What a hub proposes as an external sender: members of OpenMLS verify it and take it in, and a Commit must.

use super::super::fixture::{HUB_KEY, SUITE, World, hub, hub_with, sign_as_hub};
use crate::mls::check::{
    bundle::BundleRefused,
    expel::{NotProposed, expel},
    proposal::ProposalKind,
};
use openmls::prelude::Ciphersuite;

/// A world of three in which everybody but `deaf` heard that the hub proposes to remove the last.
fn expelling(deaf: Option<usize>) -> World {
    let mut world = World::of(3);
    let epoch = world.view.epoch().unwrap();
    let proposal = expel(&world.view, epoch, 2, &hub(), sign_as_hub).unwrap();
    for (number, client) in world.clients.iter_mut().enumerate() {
        if Some(number) != deaf {
            client.take(&proposal.message);
        }
    }
    world.pending.push(proposal);
    world
}

#[test]
fn members_verify_what_the_hub_proposes_and_take_it_in() {
    for ciphersuite in [
        SUITE,
        Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519,
    ] {
        let mut world = World::new(3, ciphersuite);
        world.step(0, &[1, 2], &[], false).unwrap();
        let epoch = world.view.epoch().unwrap();
        let proposal = expel(&world.view, epoch, 2, &hub(), sign_as_hub).unwrap();
        assert_eq!((proposal.leaf, proposal.kind), (2, ProposalKind::Expel(2)));
        for client in &mut world.clients {
            client.take(&proposal.message);
        }
        world.pending.push(proposal.clone());
        let checked = world.step(1, &[], &[], true).unwrap();
        assert_eq!(checked.covered, [proposal.reference]);
        assert_eq!(checked.left[0].client, world.clients[2].uri);
        assert!(world.clients[2].group.is_none());
    }
}

#[test]
fn a_commit_that_leaves_in_whom_the_hub_proposes_to_remove_is_refused() {
    let mut world = expelling(Some(0));
    let references = vec![world.pending[0].reference.clone()];
    let bundle = world.bundle(0, &[], &[], true);
    assert_eq!(
        world.check(0, &bundle),
        Err(BundleRefused::OmittedProposals { references })
    );
    // By value it is as good.
    let mut world = expelling(Some(0));
    let bundle = world.bundle(0, &[], &[2], true);
    assert_eq!(world.check(0, &bundle).unwrap().covered.len(), 0);
}

#[test]
fn an_external_commit_leaves_it_to_the_next_and_that_takes_in_what_is_made_anew() {
    let mut world = expelling(None);
    let next = world.view.epoch().unwrap() + 1;
    let again = expel(&world.view, next, 2, &hub(), sign_as_hub).unwrap();
    // Whoever enters by itself cannot take in a Remove.
    let waiting = std::mem::take(&mut world.pending);
    let bundle = world.enter(1);
    world.pending = waiting;
    let checked = world.accept(1, &bundle).unwrap();
    assert!(checked.external && checked.covered.is_empty());
    for client in &mut world.clients {
        client.take(&again.message);
    }
    world.pending.push(again.clone());
    let checked = world.step(0, &[], &[], true).unwrap();
    assert_eq!(checked.covered, [again.reference]);
}

#[test]
fn the_hub_proposes_nothing_that_members_would_not_verify() {
    let world = World::of(2);
    let epoch = world.view.epoch().unwrap();
    let stranger = hub_with(vec![[8; 32]]);
    assert_eq!(
        expel(&world.view, epoch, 1, &stranger, sign_as_hub),
        Err(NotProposed::NotListed)
    );
    let p256 = World::new(1, Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256);
    assert_eq!(
        expel(&p256.view, 0, 0, &hub_with(vec![HUB_KEY]), sign_as_hub),
        Err(NotProposed::Ciphersuite(2))
    );
}
