//! What is judged here whether OpenMLS is asked or not, and what it is asked then.

use super::{
    super::fixture::{AUDITED, Client, HUB_KEY, PRIVATE, SUITE, World, now, senders_of},
    forged::{adding, commit, framed, signed, value},
};
use crate::{
    machine::Millis,
    mls::{
        check::{
            bundle::{Bundle, BundleRefused, CheckedBundle, Terms, TreeRefused, check_bundle},
            hub_senders::HubSenders,
            key_package::{KeyPackageRefused, check_key_package},
            objections::Objections,
            proposal::{self, ProposalRefused, check_proposal},
        },
        codec::{
            commit::Proposal,
            key_package as codec,
            message::welcome_references,
            reader::{Reader, put_vector},
        },
        tree::{Tree, cache::TreeCache},
    },
};
use openmls::prelude::{Capabilities, KeyPackage, Lifetime, tls_codec::Serialize as _};

/// The terms of a hub that asks OpenMLS, keeps what it can from one Commit to the next, and listens.
fn heard() -> Terms {
    Terms {
        trees: TreeCache::new(),
        objections: Objections::new(),
        ..AUDITED.clone()
    }
}

const TOO_LATE: &str = "adds a KeyPackage whose lifetime does not contain the present";

fn package(client: &Client, not_before_s: u64, not_after_s: u64) -> KeyPackage {
    let lifetime = Lifetime::init(not_before_s, not_after_s);
    client.key_package_with(|builder| builder.key_package_lifetime(lifetime))
}

/// Has the hub take a bundle of the first member, which the members do not see.
fn take(world: &mut World, bundle: &Bundle, at: Millis, terms: &Terms) -> CheckedBundle {
    let uri = &world.clients[0].uri;
    let checked = check_bundle(&world.view, &[], bundle, uri, at, terms).unwrap();
    world.view = checked.next.after(&world.view).unwrap();
    checked
}

#[test]
fn a_member_is_added_only_within_the_lifetime_of_its_package_whoever_else_is_asked() {
    let mut world = World::of(2);
    world.clients.push(Client::new("late", SUITE));
    let good = package(&world.clients[2], 10_000, 20_000);
    let bundle = adding(&world, 0, &good);
    let uri = &world.clients[0].uri;
    for terms in [AUDITED, &Terms::default()] {
        let at = |seconds: u64| {
            let now = Millis(seconds * 1_000);
            let checked = check_bundle(&world.view, &[], &bundle, uri, now, terms);
            checked.map(drop)
        };
        let too_late = BundleRefused::InvalidProposals {
            references: vec![],
            reason: TOO_LATE,
        };
        assert_eq!(at(9_999), Err(too_late.clone()));
        assert_eq!((at(10_000), at(19_999)), (Ok(()), Ok(())));
        assert_eq!(at(20_000), Err(too_late));
    }
}

#[test]
fn a_proposed_add_waits_within_the_lifetime_of_its_package_and_is_not_committed_after_it() {
    let mut world = World::of(2);
    world.clients.push(Client::new("late", SUITE));
    let add = world.propose_add(1, 2);
    let bundle = world.bundle(0, &[], &[], false);
    let (sender, proposer) = (&world.clients[0].uri, &world.clients[1].uri);
    let pending = std::slice::from_ref(&add);
    let year = Millis(now().0 + 365 * 24 * 3_600 * 1_000);
    let waits = |at| {
        check_proposal(
            &world.view,
            &add.message,
            proposer,
            at,
            &TreeCache::none(),
            &HubSenders::NONE,
        )
    };
    assert!(waits(now()).is_ok());
    assert_eq!(waits(year), Err(ProposalRefused::Invalid(TOO_LATE)));
    let check = |at| check_bundle(&world.view, pending, &bundle, sender, at, AUDITED);
    assert!(check(now()).is_ok());
    let references = vec![add.reference.clone()];
    let reason = TOO_LATE;
    assert_eq!(
        check(year),
        Err(BundleRefused::InvalidProposals { references, reason })
    );
}

#[test]
fn a_member_whose_key_package_expired_since_does_not_freeze_its_group() {
    let mut world = World::of(2);
    let terms = heard();
    let late = package(&Client::new("late", SUITE), 10_000, 20_000);
    let late = adding(&world, 0, &late);
    take(&mut world, &late, Millis(15_000_000), &Terms::default());
    for leaf in 3..5 {
        let next = Client::new(&format!("next{leaf}"), SUITE).key_package();
        let next = adding(&world, 0, &next);
        let checked = take(&mut world, &next, now(), &terms);
        assert!(!checked.audited);
        assert_eq!(checked.joined[0].leaf, leaf);
    }
    assert_eq!(terms.objections.count(), 0, "that was expected of OpenMLS");
}

/// A client that supports nothing but what everybody does.
fn plain(name: &str) -> KeyPackage {
    let capabilities = Capabilities::builder().ciphersuites(vec![SUITE]).build();
    let client = Client::new(name, SUITE);
    client.key_package_with(|builder| builder.leaf_node_capabilities(capabilities))
}

#[test]
fn an_extension_comes_with_a_commit_if_all_who_are_members_then_support_it() {
    let mut world = World::of(2);
    let [high, low] = PRIVATE.to_be_bytes();
    // Beside the hub, which stays.
    let hub = senders_of(&[("mimi://a.example", HUB_KEY)]);
    let list = [&[high, low, 0][..], &hub.tls_serialize_detached().unwrap()].concat();
    let mut content = Vec::new();
    put_vector(&mut content, &list);
    let extensions = value(7, &content);
    let add = |name| value(1, &plain(name).tls_serialize_detached().unwrap());
    let remove = value(3, &[0, 0, 0, 2]);
    let refused =
        |world: &World, entries: &[Vec<u8>]| world.check(0, &commit(world, 0, entries)).map(drop);
    // Only the path is missing, which comes after the list.
    let fine = Err(BundleRefused::Tree(TreeRefused::Path("there must be one")));
    let lacking = Err(BundleRefused::InvalidProposals {
        references: vec![],
        reason: "a member does not support an extension of the group",
    });
    assert_eq!(refused(&world, std::slice::from_ref(&extensions)), fine);
    assert_eq!(refused(&world, &[extensions.clone(), add("new")]), lacking);
    let added = adding(&world, 0, &plain("old"));
    take(&mut world, &added, now(), AUDITED);
    let (with, both) = (
        [extensions.clone(), remove.clone()],
        [extensions.clone(), remove, add("new")],
    );
    assert_eq!(refused(&world, std::slice::from_ref(&extensions)), lacking);
    assert_eq!(refused(&world, &with), fine);
    assert_eq!(refused(&world, &both), lacking);
    // As a Proposal it must fit those who are members now.
    let message = framed(&world, 0, 2, &extensions[1..]);
    let sender = &world.clients[0].uri;
    let waits = check_proposal(
        &world.view,
        &message,
        sender,
        now(),
        &TreeCache::none(),
        &HubSenders::NONE,
    );
    assert!(matches!(waits, Err(ProposalRefused::Invalid(_))));
}

/// A signature of Ed25519, with its length.
const SIGNATURE_BYTES: usize = 2 + 64;

/// Changes the KeyPackage of a client, and signs it with the client's own key.
fn changed(client: &Client, change: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> Vec<u8> {
    let package = client.key_package().tls_serialize_detached().unwrap();
    let read = codec::KeyPackage::read(&mut Reader::new(&package)).unwrap();
    let mut init_key = read.init_key.to_vec();
    let leaf = read.leaf.encoded;
    let mut leaf = leaf[..leaf.len() - SIGNATURE_BYTES].to_vec();
    change(&mut init_key, &mut leaf);
    let mut made = package[..4].to_vec();
    put_vector(&mut made, &init_key);
    made.extend_from_slice(&leaf);
    made.extend(signed(client, "LeafNodeTBS", &leaf));
    made.push(0);
    made.extend(signed(client, "KeyPackageTBS", &made));
    made
}

#[test]
fn a_key_that_nothing_can_be_sealed_to_is_neither_uploaded_nor_added() {
    let world = World::of(2);
    let new = Client::new("new", SUITE);
    let refused = |package: &[u8]| {
        let message = [&[0, 1, 0, 5], package].concat().into();
        let uploaded = check_key_package(&message, &new.uri, now(), AUDITED).map(drop);
        let bundle = commit(&world, 0, &[value(1, package)]);
        match (uploaded, world.check(0, &bundle)) {
            (
                Err(KeyPackageRefused::Invalid(uploaded)),
                Err(BundleRefused::InvalidProposals { reason, .. }),
            ) => {
                assert_eq!(uploaded, reason);
                reason
            }
            // There is no Welcome.
            (Ok(()), Err(BundleRefused::WelcomeMismatch { .. })) => "",
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&changed(&new, |_, _| ())), "");
    assert_eq!(
        refused(&changed(&new, |init_key, _| init_key.fill(0))),
        "init key is none of the ciphersuite"
    );
    assert_eq!(
        refused(&changed(&new, |_, leaf| leaf[1..33].fill(0))),
        "encryption key is none of the ciphersuite"
    );
    assert_eq!(
        refused(&changed(&new, |_, leaf| leaf[34..66].fill(0))),
        "signature key is none of the ciphersuite"
    );
}

#[test]
fn an_init_key_is_of_one_new_member_and_no_other_key_of_the_group() {
    let world = World::of(2);
    let clients = ["one", "two"].map(|name| Client::new(name, SUITE));
    let tree = Tree::read(&world.view.tree).unwrap();
    let members = tree.leaf(1).unwrap().encryption_key.to_vec();
    let first = changed(&clients[0], |_, _| ());
    let init_key = first[5..37].to_vec();
    let leaf_key = first[38..70].to_vec();
    for key in [init_key, leaf_key, members] {
        let second = changed(&clients[1], |init_key, _| init_key.clone_from(&key));
        let adds = [value(1, &first), value(1, &second)];
        assert_eq!(
            world.check(0, &commit(&world, 0, &adds)).map(drop),
            Err(BundleRefused::InvalidProposals {
                references: vec![],
                reason: "init key is in use"
            })
        );
    }
}

#[test]
fn what_an_update_gives_up_nobody_takes_up_in_the_same_commit() {
    let mut world = World::of(2);
    let tree = world.view.tree.clone();
    let old = Tree::read(&tree).unwrap().leaf(1).unwrap();
    let encryption_key = old.encryption_key.to_vec();
    let update = world.propose_update(1).message;
    world.pending.clear();
    // The same update, with a signature key of its own.
    let mut own = Client::new("own", SUITE);
    let read = proposal::read(&update).unwrap();
    let Proposal::Update(leaf) = &read.body else {
        panic!("not an Update")
    };
    let mut leaf = leaf.encoded[..leaf.encoded.len() - SIGNATURE_BYTES].to_vec();
    leaf[34..66].copy_from_slice(own.signer.public());
    let mut place = leaf.clone();
    put_vector(&mut place, &world.view.group_id().unwrap());
    place.extend([0, 0, 0, 1]);
    leaf.extend(signed(&own, "LeafNodeTBS", &place));
    let update = framed(&world, 1, 2, &[&[0, 2][..], &leaf].concat());
    let proposer = &world.clients[1].uri;
    let update = check_proposal(
        &world.view,
        &update,
        proposer,
        now(),
        &TreeCache::none(),
        &HubSenders::NONE,
    )
    .unwrap();
    let mut named = vec![2];
    put_vector(&mut named, &update.reference);
    world.pending.push(update);
    let refused = |world: &World, thief: &[u8]| {
        let entries = [named.clone(), value(1, thief)];
        match world.check(0, &commit(world, 0, &entries)) {
            Err(BundleRefused::InvalidProposals { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    let new = Client::new("new", SUITE);
    let thief = changed(&new, |_, leaf| {
        leaf[1..33].clone_from_slice(&encryption_key)
    });
    assert_eq!(
        refused(&world, &thief),
        "encryption key is in the group twice"
    );
    // Only the committer signs from here on.
    std::mem::swap(&mut own.signer, &mut world.clients[1].signer);
    let thief = own.key_package().tls_serialize_detached().unwrap();
    assert_eq!(
        refused(&world, &thief),
        "signature key is in the group twice"
    );
}

#[test]
fn sealed_secrets_for_new_members_have_the_lengths_that_can_be_opened() {
    let world = World::of(2);
    let package = Client::new("new", SUITE).key_package();
    let good = adding(&world, 0, &package);
    let [reference] = &welcome_references(good.welcome.as_ref().unwrap()).unwrap()[..] else {
        panic!("one is added")
    };
    // Without a path there is no path secret, which has 33 bytes.
    for (kem_output, ciphertext, fits) in [
        (32, 51, true),
        (31, 51, false),
        (65, 51, false),
        (32, 50, false),
        (32, 84, false),
    ] {
        let mut secrets = Vec::new();
        put_vector(&mut secrets, reference);
        put_vector(&mut secrets, &vec![9; kem_output]);
        put_vector(&mut secrets, &vec![0; ciphertext]);
        let mut welcome = vec![0, 1, 0, 3, 0, 1];
        put_vector(&mut welcome, &secrets);
        welcome.push(0);
        let mut bundle = good.clone();
        bundle.welcome = Some(welcome.into());
        let expected = Err(BundleRefused::WelcomeMismatch {
            reason: "secrets of the wrong length",
        });
        let expected = if fits { Ok(()) } else { expected };
        assert_eq!(world.check(0, &bundle).map(drop), expected);
    }
}

#[test]
fn the_kem_output_of_who_enters_is_one_that_can_be_opened() {
    let mut world = World::of(2);
    world.clients.push(Client::new("new", SUITE));
    let mut bundle = world.enter(2);
    let mut content = bundle.commit[..bundle.commit.len() - SIGNATURE_BYTES - 33].to_vec();
    let head: &[u8] = &[1, 0, 6, 32];
    let at = content.windows(head.len()).position(|bytes| bytes == head);
    content[at.unwrap() + head.len()..][..32].fill(0);
    let signature = signed(
        &world.clients[2],
        "FramedContentTBS",
        &[&content[..], &world.view.group_context].concat(),
    );
    let tag = [&[32][..], &[0; 32]].concat();
    bundle.commit = [content, signature, tag].concat().into();
    assert_eq!(
        world.check(2, &bundle).map(drop),
        Err(BundleRefused::InvalidProposals {
            references: vec![],
            reason: "KEM output of the ExternalInit is none of the ciphersuite"
        })
    );
}

#[test]
fn what_only_members_can_see_is_let_through_and_audited() {
    let world = World::of(2);
    let made_up = adding(&world, 0, &Client::new("new", SUITE).key_package());
    assert!(world.check(0, &made_up).unwrap().audited);
}
