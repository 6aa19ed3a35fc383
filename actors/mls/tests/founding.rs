//! New groups, good and bad.

use super::super::fixture::{AUDITED, Client, HUB_KEY, SUITE, World, encoded, hub, hub_with};
use crate::mls::check::{
    bundle::{BundleRefused, SenderRefused, TreeRefused},
    create::check_create,
    hub_senders::HubSenders,
};

#[test]
fn a_new_group_with_the_hub_as_external_sender_is_taken() {
    let mut alice = Client::new("alice", SUITE);
    let (info, tree) = alice.found(true);
    let created = check_create(&info, &tree.clone().into(), &hub(), &alice.uri, AUDITED).unwrap();
    assert_eq!(created.members.len(), 1);
    assert_eq!(
        (created.members[0].leaf, &created.members[0].client),
        (0, &alice.uri)
    );
    assert_eq!(created.view.members(), Ok(created.members.clone()));
    assert_eq!(created.view.epoch(), Ok(0));
    assert_eq!(created.view.group_id().unwrap(), "clubhouse");
    assert_eq!(created.view.external_sender_keys().unwrap(), [&HUB_KEY[..]]);
}

#[test]
fn a_new_group_without_the_hub_or_by_somebody_else_is_refused() {
    let mut alice = Client::new("alice", SUITE);
    let bob = Client::new("bob", SUITE);
    let (info, tree) = alice.found(false);
    let field = "external_senders";
    let refused = check_create(&info, &tree.clone().into(), &hub(), &alice.uri, AUDITED);
    assert_eq!(refused, Err(BundleRefused::GroupInfoMismatch { field }));

    let mut alice = Client::new("alice", SUITE);
    let (info, tree) = alice.found(true);
    let refused = check_create(
        &info,
        &tree.clone().into(),
        &hub_with(vec![[8; 32]]),
        &alice.uri,
        AUDITED,
    );
    assert_eq!(refused, Err(BundleRefused::GroupInfoMismatch { field }));
    let refused = check_create(&info, &tree.clone().into(), &hub(), &bob.uri, AUDITED);
    assert_eq!(refused, Err(SenderRefused::NotBound.into()));
}

#[test]
fn a_group_that_is_not_new_is_refused() {
    let world = World::of(2);
    let refused = check_create(
        &world.view.group_info,
        &world.view.tree.clone().into(),
        &hub(),
        &world.clients[0].uri,
        AUDITED,
    );
    assert_eq!(
        refused,
        Err(BundleRefused::WrongEpoch {
            commit: 1,
            current: 0
        })
    );
}

#[test]
fn a_new_group_with_another_tree_or_with_the_tree_inside_is_refused() {
    let (mut alice, mut again) = (Client::new("alice", SUITE), Client::new("alice", SUITE));
    let (info, tree) = alice.found(true);
    let (_, other) = again.found(true);
    let refused = check_create(&info, &other.clone().into(), &hub(), &alice.uri, AUDITED);
    assert_eq!(refused, Err(TreeRefused::Hash.into()));
    let refused = check_create(
        &info,
        &World::of(2).view.tree.into(),
        &hub(),
        &alice.uri,
        AUDITED,
    );
    assert!(matches!(
        refused,
        Err(BundleRefused::Tree(TreeRefused::Mismatch(_)))
    ));

    let group = alice.group.as_ref().unwrap();
    let inside = group
        .export_group_info(alice.crypto(), &alice.signer, true)
        .unwrap();
    let refused = check_create(
        &encoded(&inside),
        &tree.clone().into(),
        &hub(),
        &alice.uri,
        AUDITED,
    );
    assert_eq!(
        refused,
        Err(BundleRefused::GroupInfoMismatch {
            field: "ratchet_tree"
        })
    );
}

#[test]
fn a_new_group_with_a_flipped_byte_is_refused() {
    let mut alice = Client::new("alice", SUITE);
    let (info, tree) = alice.found(true);
    for at in 0..info.len() {
        let mut bytes = info.to_vec();
        bytes[at] ^= 1;
        assert!(
            check_create(
                &bytes.into(),
                &tree.clone().into(),
                &hub(),
                &alice.uri,
                AUDITED
            )
            .is_err(),
            "GroupInfo byte {at}"
        );
        assert!(
            check_create(
                &info.slice(..at),
                &tree.clone().into(),
                &hub(),
                &alice.uri,
                AUDITED,
            )
            .is_err()
        );
    }
    for at in 0..tree.len() {
        let mut bytes = tree.to_vec();
        bytes[at] ^= 1;
        assert!(
            check_create(&info, &bytes.into(), &hub(), &alice.uri, AUDITED).is_err(),
            "tree byte {at}"
        );
        assert!(
            check_create(&info, &tree.slice(..at).into(), &hub(), &alice.uri, AUDITED).is_err()
        );
    }
}

#[test]
fn a_new_group_with_the_hubs_key_under_another_name_or_without_an_id_is_refused() {
    let mut alice = Client::new("alice", SUITE);
    let (info, tree) = alice.found(true);
    let other = HubSenders::new(&"b.example".parse().unwrap(), vec![HUB_KEY]);
    let refused = check_create(&info, &tree.into(), &other, &alice.uri, AUDITED);
    let field = "external_senders";
    assert_eq!(refused, Err(BundleRefused::GroupInfoMismatch { field }));

    let mut bob = Client::new("bob", SUITE);
    let (info, tree) = bob.found_as(b"", true);
    let refused = check_create(&info, &tree.into(), &hub(), &bob.uri, AUDITED);
    let field = "group_id";
    assert_eq!(refused, Err(BundleRefused::GroupInfoMismatch { field }));
}
