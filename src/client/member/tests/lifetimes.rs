//! Lifetimes are looked at when somebody is added, and no more when the tree is read.

use super::*;
use openmls::prelude::{
    Lifetime, MlsGroup, OpenMlsProvider as _, PURE_PLAINTEXT_WIRE_FORMAT_POLICY,
};

#[test]
fn who_comes_later_reads_a_tree_with_a_member_whose_key_package_has_expired() {
    let (alice, mut bob, mut carol) = (member("alice"), member("bob"), member("carol"));
    // Alice's leaf is out of a KeyPackage until she makes a path.
    let mut group = MlsGroup::builder()
        .ciphersuite(SUITE)
        .with_capabilities(identity::capabilities())
        .lifetime(Lifetime::init(10_000, 20_000))
        .with_wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .build(
            &alice.mls,
            &alice.signer,
            identity::credential(alice.client(), &alice.signer),
        )
        .unwrap();
    let package = one_package(&mut bob).remove(0);
    let package = identity::read_key_package(&alice.mls, &package).unwrap();
    let made = group
        .commit_builder()
        .propose_adds([package])
        .force_self_update(false)
        .load_psks(alice.mls.storage())
        .unwrap()
        .create_group_info(true)
        .use_ratchet_tree_extension(false)
        .build(alice.mls.rand(), alice.mls.crypto(), &alice.signer, |_| {
            true
        })
        .unwrap()
        .stage_commit(&alice.mls)
        .unwrap();
    let (_, welcome, group_info) = made.into_messages();
    group.merge_pending_commit(&alice.mls).unwrap();
    let tree = encoding::tree(&group.export_ratchet_tree()).unwrap();
    let notice = WelcomeNotice {
        epoch: Epoch(1),
        welcome: encoding::message(&welcome.unwrap()).unwrap(),
        tree: tree.clone(),
    };
    let entrance = Entrance {
        group_info: encoding::message(&group_info.unwrap()).unwrap(),
        tree,
        proposals: Vec::new(),
    };
    assert_eq!(group::join(&bob.mls, &notice).unwrap().members().count(), 2);
    let entered = carol.prepare_entry(&room(), &entrance).unwrap();
    assert_eq!(entered.epoch, Epoch(2));
}
