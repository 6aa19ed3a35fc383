//! External Commits of OpenMLS members against the hub's checks.

use super::super::fixture::{AUDITED, Client, SUITE, World, now};
use crate::mls::check::bundle::{BundleRefused, SenderRefused, check_bundle};
use openmls::prelude::OpenMlsProvider as _;

#[test]
fn a_client_joins_by_an_external_commit_and_everybody_follows() {
    let mut world = World::of(3);
    world.clients.push(Client::new("new", SUITE));
    let bundle = world.enter(3);
    assert_eq!(bundle.welcome, None);
    let checked = world.accept(3, &bundle).unwrap();
    assert!(checked.external && checked.audited && !checked.reinit);
    assert_eq!((checked.committer, checked.joined.len()), (3, 1));
    let joined = &checked.joined[0];
    assert_eq!(
        (joined.leaf, &joined.client, &joined.key_package_reference),
        (3, &world.clients[3].uri, &None)
    );
    assert!(checked.left.is_empty() && checked.updated.is_empty());
    // It is a member like any other.
    assert_eq!(world.step(3, &[], &[1], false).unwrap().left.len(), 1);
}

#[test]
fn a_joiner_takes_the_leftmost_blank_leaf_and_trees_grow_for_it() {
    for members in 1..=9 {
        let mut world = World::of(members);
        world.clients.push(Client::new("new", SUITE));
        let bundle = world.enter(members);
        let grown = world.accept(members, &bundle).unwrap();
        assert_eq!(grown.committer as usize, members);
        if members > 2 {
            world.step(0, &[], &[1], false).unwrap();
            let bundle = world.enter(1);
            assert_eq!(world.accept(1, &bundle).unwrap().committer, 1);
        }
    }
}

#[test]
fn a_client_replaces_its_own_leaf_and_no_other() {
    let mut world = World::of(4);
    let bundle = world.enter(2);
    let checked = world.accept(2, &bundle).unwrap();
    assert_eq!((checked.left.len(), checked.joined.len()), (1, 1));
    assert_eq!(checked.left[0].client, world.clients[2].uri);
    assert_eq!((checked.left[0].leaf, checked.committer), (2, 2));

    // A thief with the key of another client's leaf removes it on the way in.
    let mut thief = Client::new("thief", SUITE);
    thief.signer = std::mem::replace(&mut world.clients[1].signer, thief_key());
    let bundle = thief.enter(&world.view, &[]);
    let refused = check_bundle(&world.view, &[], &bundle, &thief.uri, now(), AUDITED);
    assert_eq!(
        refused,
        Err(BundleRefused::InvalidProposals {
            references: vec![],
            reason: "an external Commit removes another client",
        })
    );
}

fn thief_key() -> openmls_basic_credential::SignatureKeyPair {
    openmls_basic_credential::SignatureKeyPair::new(SUITE.signature_algorithm()).unwrap()
}

#[test]
fn a_member_does_not_come_in_a_second_time() {
    let world = World::of(2);
    let mut twin = Client::new("u1", SUITE);
    let bundle = twin.enter(&world.view, &[]);
    assert_eq!(
        check_bundle(&world.view, &[], &bundle, &twin.uri, now(), AUDITED),
        Err(BundleRefused::InvalidProposals {
            references: vec![],
            reason: "client is in the group twice",
        })
    );
}

#[test]
fn an_external_commit_is_bound_to_the_client_that_sends_it() {
    let mut world = World::of(2);
    world.clients.push(Client::new("new", SUITE));
    let bundle = world.enter(2);
    assert_eq!(world.check(0, &bundle), Err(SenderRefused::NotBound.into()));
    // Every byte counts, but for the tag that only members can check.
    let tag = bundle.commit.len() - 33;
    for at in (0..tag).step_by(7) {
        let mut flipped = bundle.clone();
        let mut commit = bundle.commit.to_vec();
        commit[at] ^= 1;
        flipped.commit = commit.into();
        assert!(world.check(2, &flipped).is_err(), "byte {at}");
    }
}

#[test]
fn an_external_commit_takes_in_members_that_leave_and_must() {
    let mut world = World::of(4);
    world.clients.push(Client::new("new", SUITE));
    let leaving = world.propose_self_remove(1);
    let without = Client::new("other", SUITE).enter(&world.view, &[]);
    let other = "mimi://a.example/d/other/phone".parse().unwrap();
    assert_eq!(
        check_bundle(
            &world.view,
            &world.pending,
            &without,
            &other,
            now(),
            AUDITED
        ),
        Err(BundleRefused::OmittedProposals {
            references: vec![leaving.reference.clone()],
        })
    );
    let bundle = world.enter(4);
    let checked = world.accept(4, &bundle).unwrap();
    assert_eq!(checked.covered, [leaving.reference]);
    assert_eq!(checked.left[0].client, world.clients[1].uri);
    // The leaf that became free is the joiner's.
    assert_eq!(checked.committer, 1);
}

#[test]
fn a_commit_that_leaves_in_who_is_leaving_is_refused_with_the_reference() {
    let mut world = World::of(3);
    let leaving = world.propose_self_remove(1);
    // The committer has not heard of it.
    let deaf = &mut world.clients[2];
    let group = deaf.group.as_mut().unwrap();
    group
        .clear_pending_proposals(deaf.provider.storage())
        .unwrap();
    let bundle = world.bundle(2, &[], &[], true);
    assert_eq!(
        world.check(2, &bundle),
        Err(BundleRefused::OmittedProposals {
            references: vec![leaving.reference],
        })
    );
}

#[test]
fn a_commit_of_a_third_member_over_two_mutual_removes_is_refused_with_both_references() {
    let mut world = World::of(3);
    let one = world.propose_remove(1, 2);
    let other = world.propose_remove(2, 1);
    let bundle = world.bundle(0, &[], &[], false);
    let Err(BundleRefused::InvalidProposals { references, reason }) = world.check(0, &bundle)
    else {
        panic!("it was taken")
    };
    assert_eq!(reason, "members remove one another");
    assert_eq!(references.len(), 2);
    assert!(references.contains(&one.reference) && references.contains(&other.reference));
}
