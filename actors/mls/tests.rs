//! Groups of real OpenMLS members against the hub's checks.

mod audits;
mod containers;
mod expelled;
mod external;
mod forged;
mod founding;
mod packages;
mod paths;
mod senders;
mod waiting;

use super::{
    check::bundle::{Bundle, BundleRefused, SenderRefused, Terms, TreeRefused, check_bundle},
    codec::{
        message::{
            HandshakeKind, Sender, application_header, handshake_header, welcome_references,
        },
        suite::Suite,
    },
    fixture::{AUDITED, HUB_KEY, SUITE, World, now, senders_of},
    tree::Tree,
};
use crate::wire::tree::TreeContainer;
use bytes::Bytes;
use openmls::prelude::{
    Ciphersuite, Extension, Extensions, ProposalType, RequiredCapabilitiesExtension,
};
use openmls_basic_credential::SignatureKeyPair;
use proptest::prelude::*;

#[test]
fn an_update_an_add_and_a_remove_are_accepted_and_told() {
    let mut world = World::new(3, SUITE);
    let added = world.step(0, &[1, 2], &[], false).unwrap();
    assert_eq!(
        added
            .joined
            .iter()
            .map(|joined| joined.leaf)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(added.joined[0].client, world.clients[1].uri);
    assert!(added.left.is_empty() && added.updated.is_empty() && added.audited);

    let updated = world.step(1, &[], &[], true).unwrap();
    assert_eq!((updated.committer, world.view.epoch()), (1, Ok(2)));

    let removed = world.step(2, &[], &[0], false).unwrap();
    assert_eq!(removed.left.len(), 1);
    assert_eq!(removed.left[0].client, world.clients[0].uri);

    let back = world.step(1, &[0], &[], false).unwrap();
    assert_eq!(back.joined[0].leaf, 0);
}

#[test]
fn all_supported_ciphersuites_work() {
    for suite in [
        Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519,
        Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256,
        Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519,
    ] {
        let mut world = World::new(3, suite);
        world.step(0, &[1, 2], &[], false).unwrap();
        world.step(2, &[], &[0], false).unwrap();
        assert_eq!(world.view.ciphersuite(), Ok(suite as u16));
    }
}

#[test]
fn pending_proposals_are_covered_by_the_commit_that_names_them() {
    let mut world = World::of(5);
    world
        .clients
        .push(super::fixture::Client::new("new", SUITE));
    let add = world.propose_add(1, 5);
    let remove = world.propose_remove(2, 4);
    let update = world.propose_update(3);
    let checked = world.step(0, &[], &[], false).unwrap();
    for one in [add, remove, update] {
        assert!(checked.covered.contains(&one.reference));
    }
    assert_eq!((checked.joined.len(), checked.left.len()), (1, 1));
    assert_eq!(checked.joined[0].leaf, 4);
}

#[test]
fn a_member_leaves_by_self_remove_when_another_commits() {
    let mut world = World::of(3);
    let leave = world.propose_self_remove(1);
    let checked = world.step(2, &[], &[], false).unwrap();
    assert_eq!(checked.covered, [leave.reference]);
    assert_eq!(checked.left[0].client, world.clients[1].uri);
}

#[test]
fn a_commit_that_names_what_does_not_wait_is_refused_with_the_reference() {
    let mut world = World::of(3);
    let update = world.propose_update(1);
    let bundle = world.bundle(0, &[], &[], false);
    world.pending.clear();
    let references = vec![update.reference];
    assert_eq!(
        world.check(0, &bundle),
        Err(BundleRefused::UnknownProposals { references })
    );
}

#[test]
fn extensions_of_the_group_change_as_the_commit_says() {
    let mut world = World::of(3);
    let before = world.view.group_context.len();
    let required = RequiredCapabilitiesExtension::new(&[], &[ProposalType::SelfRemove], &[]);
    let extensions = vec![
        senders_of(&[("mimi://a.example", HUB_KEY)]),
        Extension::RequiredCapabilities(required),
    ];
    let bundle = world.clients[1].commit(|builder| {
        builder
            .propose_group_context_extensions(Extensions::from_vec(extensions).unwrap())
            .unwrap()
    });
    world.accept(1, &bundle).unwrap();
    assert!(world.view.group_context.len() > before);
    world.step(0, &[], &[], true).unwrap();
}

#[test]
fn a_member_that_changes_its_signature_key_is_told() {
    let mut world = World::of(3);
    let client = &mut world.clients[1];
    let old = std::mem::replace(
        &mut client.signer,
        SignatureKeyPair::new(SUITE.signature_algorithm()).unwrap(),
    );
    let bundle = client.commit_as(&old);
    let checked = world.accept(1, &bundle).unwrap();
    assert_eq!(checked.updated.len(), 1);
    assert_eq!(checked.updated[0].client, world.clients[1].uri);
    assert_eq!(
        checked.updated[0].signature_key,
        world.clients[1].signer.public()
    );
    world.step(1, &[], &[0], false).unwrap();
}

#[test]
fn a_verdict_reads_back_as_it_was_written() {
    let (world, bundle) = small();
    let checked = world.check(1, &bundle).unwrap();
    let bytes = postcard::to_stdvec(&checked).unwrap();
    assert_eq!(postcard::from_bytes(&bytes), Ok(checked));
}

/// Small numbers in a fixed order.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

fn inside(world: &World) -> Vec<usize> {
    (0..world.clients.len())
        .filter(|client| world.clients[*client].group.is_some())
        .collect()
}

#[test]
fn random_changes_in_a_row_keep_hub_and_members_equal() {
    for seed in 0..2 {
        let mut dice = Dice(seed);
        let mut world = World::new(8, SUITE);
        for _ in 0..30 {
            let members = inside(&world);
            let by = members[dice.roll(members.len())];
            let outside: Vec<_> = (0..world.clients.len())
                .filter(|client| !members.contains(client))
                .collect();
            let adds: Vec<_> = outside.into_iter().filter(|_| dice.roll(4) == 0).collect();
            let removes: Vec<_> = members
                .iter()
                .copied()
                .filter(|client| *client != by && dice.roll(4) == 0)
                .collect();
            let update = dice.roll(2) == 0;
            if dice.roll(3) == 0 {
                for client in members
                    .iter()
                    .filter(|client| **client != by && !removes.contains(client))
                {
                    if dice.roll(3) == 0 {
                        world.propose_update(*client);
                    }
                }
            }
            let checked = world.step(by, &adds, &removes, update).unwrap();
            assert_eq!(
                (checked.joined.len(), checked.left.len()),
                (adds.len(), removes.len())
            );
        }
    }
}

#[test]
fn tree_hash_is_the_one_of_openmls_at_every_size_with_and_without_blanks() {
    let suite = Suite::new(1).unwrap();
    let mut world = World::new(41, SUITE);
    let mut removes = (1..41).rev().filter(|gone| gone % 4 != 1).peekable();
    for step in 1..80 {
        let adds: Vec<_> = (step < 41).then_some(step).into_iter().collect();
        let gone: Vec<_> = removes.next_if(|_| step >= 41).into_iter().collect();
        let bundle = world.bundle(0, &adds, &gone, step % 3 == 0 || adds.is_empty());
        let sender = &world.clients[0].uri;
        world.view = check_bundle(&world.view, &[], &bundle, sender, now(), &Terms::default())
            .unwrap()
            .next
            .after(&world.view)
            .unwrap();
        let tree = Tree::read(&world.view.tree).unwrap();
        let group = world.clients[0].group.as_ref().unwrap().public_group();
        assert_eq!(
            tree.root_hash(&tree.hashes(&suite)),
            group.group_context().tree_hash()
        );
        assert_eq!(tree.write(), world.view.tree);
    }
}

#[test]
fn a_bundle_of_another_epoch_group_or_sender_is_refused() {
    let mut world = World::of(3);
    let stale = world.bundle(0, &[], &[], true);
    let other = World::of(2);
    assert_eq!(world.check(1, &stale), Err(SenderRefused::NotBound.into()));
    let mut ahead = World {
        clients: vec![],
        view: world.view.clone(),
        pending: vec![],
    };
    let checked = world.check(0, &stale).unwrap();
    ahead.view = checked.next.after(&ahead.view).unwrap();
    let refused = check_bundle(
        &ahead.view,
        &[],
        &stale,
        &world.clients[0].uri,
        now(),
        AUDITED,
    );
    assert_eq!(
        refused,
        Err(BundleRefused::WrongEpoch {
            commit: 1,
            current: 2
        })
    );
    let refused = check_bundle(
        &other.view,
        &[],
        &stale,
        &world.clients[0].uri,
        now(),
        AUDITED,
    );
    assert_eq!(refused, Err(BundleRefused::Signature { of: "Commit" }));
}

#[test]
fn parts_of_another_bundle_do_not_fit() {
    let mut world = World::of(4);
    world
        .clients
        .push(super::fixture::Client::new("new", SUITE));
    let one = world.bundle(0, &[4], &[], true);
    let two = world.bundle(1, &[4], &[], true);
    let with = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = one.clone();
        change(&mut bundle);
        world.check(0, &bundle).unwrap_err()
    };
    assert!(world.check(0, &one).is_ok());
    assert!(matches!(
        with(&|bundle| bundle.welcome = None),
        BundleRefused::WelcomeMismatch { .. }
    ));
    assert!(matches!(
        with(&|bundle| bundle.welcome.clone_from(&two.welcome)),
        BundleRefused::WelcomeMismatch { .. }
    ));
    assert!(matches!(
        with(&|bundle| bundle.tree = two.tree.clone()),
        BundleRefused::Tree(TreeRefused::Mismatch(_))
    ));
    assert!(matches!(
        with(&|bundle| bundle.tree = world.view.tree.clone().into()),
        BundleRefused::Tree(TreeRefused::Mismatch(_))
    ));
    assert_eq!(
        with(&|bundle| bundle.group_info = two.group_info.clone()),
        BundleRefused::Tree(TreeRefused::Hash)
    );
    assert_eq!(
        with(&|bundle| bundle.commit = two.commit.clone()),
        SenderRefused::NotBound.into()
    );

    let mut world = World::of(2);
    let mut update = world.bundle(0, &[], &[], true);
    update.welcome.clone_from(&one.welcome);
    assert!(matches!(
        world.check(0, &update),
        Err(BundleRefused::WelcomeMismatch { .. })
    ));
}

/// A bundle with every part, in a small group.
fn small() -> (World, Bundle) {
    let mut world = World::of(2);
    world
        .clients
        .push(super::fixture::Client::new("new", SUITE));
    let bundle = world.bundle(1, &[2], &[], true);
    (world, bundle)
}

fn parts(bundle: &mut Bundle) -> [&mut Bytes; 4] {
    let TreeContainer::Full(tree) = &mut bundle.tree else {
        panic!("not a whole tree")
    };
    [
        &mut bundle.commit.0,
        &mut bundle.welcome.as_mut().unwrap().0,
        &mut bundle.group_info.0,
        &mut tree.0,
    ]
}

#[test]
fn a_flipped_byte_is_refused_wherever_the_hub_can_see_it() {
    let (world, bundle) = small();
    let check = |bundle: &Bundle| {
        check_bundle(
            &world.view,
            &[],
            bundle,
            &world.clients[1].uri,
            now(),
            &Terms::default(),
        )
    };
    assert!(check(&bundle).is_ok());
    let membership_tag = bundle.commit.len() - 33;
    let welcomed: Vec<u8> = welcome_references(bundle.welcome.as_ref().unwrap())
        .unwrap()
        .concat();
    for part in 0..4 {
        let length = parts(&mut bundle.clone())[part].len();
        // Every byte where a flip may slip through; a sample where the whole part is compared.
        let step = if part % 2 == 0 { 1 } else { 5 };
        for at in (0..length).step_by(step) {
            let mut tampered = bundle.clone();
            let bytes = &mut parts(&mut tampered)[part];
            let mut changed = bytes.to_vec();
            changed[at] ^= if at % 2 == 0 { 1 } else { 0x80 };
            **bytes = changed.into();
            let accepted = check(&tampered).is_ok();
            let seen = match part {
                0 => at < membership_tag,
                1 => welcome_references(tampered.welcome.as_ref().unwrap())
                    .is_ok_and(|now| now.concat() != welcomed),
                _ => true,
            };
            assert!(!accepted || !seen, "part {part} byte {at} of {length}");
        }
    }
}

#[test]
fn a_bundle_cut_short_or_prolonged_anywhere_is_refused() {
    let (world, bundle) = small();
    let check = |bundle: &Bundle| {
        check_bundle(
            &world.view,
            &[],
            bundle,
            &world.clients[1].uri,
            now(),
            &Terms::default(),
        )
    };
    for part in 0..4 {
        let whole = parts(&mut bundle.clone())[part].clone();
        for end in 0..=whole.len() {
            let mut cut = bundle.clone();
            let mut bytes = whole.slice(..end).to_vec();
            if end == whole.len() {
                bytes.push(0);
            }
            *parts(&mut cut)[part] = bytes.into();
            assert!(check(&cut).is_err(), "part {part} cut at {end}");
        }
    }
}

#[test]
fn headers_say_what_the_message_is() {
    let (_, bundle) = small();
    let header = handshake_header(&bundle.commit).unwrap();
    assert_eq!(
        (header.epoch, header.sender, header.kind),
        (1, Sender::Member(1), HandshakeKind::Commit)
    );
    assert_eq!(header.group_id, "clubhouse");
    let update = World::of(2).propose_update(0);
    assert_eq!(
        handshake_header(&update.message).unwrap().kind,
        HandshakeKind::Proposal
    );
    assert!(application_header(&bundle.commit).is_err());
}

proptest! {
    #[test]
    fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), wire_format in 0..7_u8) {
        if let Some(head) = bytes.get_mut(..4) {
            head.copy_from_slice(&[0, 1, 0, wire_format]);
        }
        let bytes = Bytes::from(bytes);
        let _ = application_header(&bytes);
        let _ = handshake_header(&bytes);
        let _ = welcome_references(&bytes);
        let _ = super::check::proposal::read(&bytes);
        let _ = super::codec::group_info::GroupInfo::read(&bytes);
        let _ = Tree::read(&bytes);
    }

    #[test]
    fn objects_with_a_few_bytes_changed_never_panic_and_stay_in_bounds(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        static SAMPLE: std::sync::OnceLock<Bundle> = std::sync::OnceLock::new();
        let mut bundle = SAMPLE.get_or_init(|| small().1).clone();
        for part in parts(&mut bundle) {
            let mut bytes = part.to_vec();
            for (at, byte) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            let bytes = Bytes::from(bytes);
            for bytes in [bytes.slice(..cut.index(bytes.len())), bytes] {
                let _ = super::check::parts::Parts::read(&Bundle { commit: bytes.clone().into(), welcome: None, group_info: bytes.clone().into(), tree: bytes.clone().into() });
                let _ = welcome_references(&bytes);
                let _ = super::codec::group_info::GroupInfo::read(&bytes);
                if let Ok(tree) = Tree::read(&bytes) {
                    prop_assert_eq!(tree.write(), &bytes[..]);
                }
            }
        }
    }
}
