//! Trees in every container, against real OpenMLS groups.

use super::*;
use crate::{
    limits::TREE_BYTES_MAX,
    mls::{
        check::{bundle::CheckedBundle, create::check_create},
        codec::reader::put_vector,
        tree::{
            cache::TreeCache,
            container::{self, Before, ContainerRefused, NotServed},
            delta::{self, Delta, DeltaRefused},
            view::NextTree,
        },
    },
    wire::{BText, tree::TreeKind},
};

/// The terms of a hub that knows one host for trees and audits.
fn terms() -> Terms {
    Terms {
        tree_hosts: vec!["trees.a.example".to_owned()],
        ..AUDITED.clone()
    }
}

fn verdict(world: &World, by: usize, bundle: &Bundle) -> Result<CheckedBundle, BundleRefused> {
    check_bundle(
        &world.view,
        &world.pending,
        bundle,
        &world.clients[by].uri,
        now(),
        &terms(),
    )
}

fn with(bundle: &Bundle, tree: TreeContainer) -> Bundle {
    Bundle {
        tree,
        ..bundle.clone()
    }
}

/// A bundle, which holds its whole tree, in every container there is.
fn every_container(world: &World, bundle: &Bundle) -> Vec<Bundle> {
    let tree = Bytes::copy_from_slice(bundle.tree.carried());
    let before = Before::of(&world.view).unwrap();
    let pack = |kind| {
        container::pack(
            &tree,
            kind,
            Some(&before),
            Some("https://trees.a.example/7"),
        )
    };
    TreeKind::ALL
        .into_iter()
        .map(|kind| with(bundle, pack(kind).unwrap()))
        .collect()
}

/// What is expected of a bundle, with the place that its own tree names.
fn of(expected: &CheckedBundle, bundle: &Bundle) -> CheckedBundle {
    CheckedBundle {
        place: bundle.tree.place().cloned(),
        ..expected.clone()
    }
}

#[test]
fn every_container_leads_to_the_same_state_and_an_audit() {
    let mut world = World::of(6);
    world
        .clients
        .push(crate::mls::fixture::Client::new("new", SUITE));
    let update = world.bundle(1, &[], &[], true);
    let expected = world.check(1, &update).unwrap();
    assert!(expected.audited);
    for bundle in every_container(&world, &update) {
        assert_eq!(
            verdict(&world, 1, &bundle),
            Ok(of(&expected, &bundle)),
            "{:?}",
            bundle.tree.kind()
        );
    }
    world.accept(1, &update).unwrap();
    let add = world.bundle(2, &[6], &[4], false);
    let expected = world.check(2, &add).unwrap();
    assert!(
        matches!(expected.next.tree, NextTree::Whole { .. }),
        "who is welcomed needs all of it"
    );
    for bundle in every_container(&world, &add) {
        assert_eq!(
            verdict(&world, 2, &bundle),
            Ok(of(&expected, &bundle)),
            "{:?}",
            bundle.tree.kind()
        );
    }
}

#[test]
fn every_container_is_compared_with_what_the_commit_makes() {
    let mut world = World::of(6);
    let bundle = world.bundle(1, &[], &[], true);
    let mut twin = World::of(6);
    let other = twin.bundle(1, &[], &[], true);
    for (right, wrong) in every_container(&world, &bundle)
        .into_iter()
        .zip(every_container(&twin, &other))
    {
        let refused = verdict(&world, 1, &with(&right, wrong.tree.clone())).map(drop);
        match wrong.tree.kind() {
            TreeKind::Full | TreeKind::Zstd => {
                assert!(
                    matches!(refused, Err(BundleRefused::Tree(TreeRefused::Mismatch(_)))),
                    "{refused:?}"
                );
            }
            TreeKind::Delta => {
                let base = ContainerRefused::Delta(DeltaRefused::BaseHash);
                assert_eq!(refused, Err(BundleRefused::Container(base)));
            }
            TreeKind::DistributionService | TreeKind::Reference => assert_eq!(refused, Ok(())),
        }
    }
}

#[test]
fn a_delta_to_another_tree_of_the_same_base_is_refused() {
    let mut world = World::of(6);
    let bundle = world.bundle(1, &[], &[], true);
    let other = world.bundle(2, &[], &[], true);
    let [one, two] = [&bundle, &other].map(|bundle| every_container(&world, bundle).swap_remove(2));
    assert!(verdict(&world, 1, &one).is_ok());
    let refused = verdict(&world, 1, &with(&one, two.tree)).unwrap_err();
    assert!(
        matches!(refused, BundleRefused::Tree(TreeRefused::Mismatch(_))),
        "{refused:?}"
    );
}

#[test]
fn a_reference_leads_to_a_host_that_is_known_and_nothing_else() {
    let mut world = World::of(3);
    let bundle = world.bundle(1, &[], &[], true);
    let refer = |uri: &str| {
        let tree = TreeContainer::Reference(BText::clipped(uri));
        verdict(&world, 1, &with(&bundle, tree)).map(drop)
    };
    for uri in [
        "https://trees.a.example/7",
        "https://Trees.A.example:8443/x?y",
    ] {
        assert_eq!(refer(uri), Ok(()), "{uri}");
    }
    for uri in [
        "",
        "https://trees.a.example",
        "http://trees.a.example/7",
        "https://trees.b.example/7",
        "https://trees.a.example.b.example/7",
        "https://trees.a.example@b.example/7",
        "https://trees.a.example:80@b.example/7",
        "https://trees.a.example:/7",
        "https://trees.a.example /7",
        "https://[::1]/7",
        "https://127.0.0.1/7",
        "file:///etc/passwd",
    ] {
        assert_eq!(
            refer(uri),
            Err(BundleRefused::Container(ContainerRefused::Host)),
            "{uri}"
        );
    }
}

#[test]
fn a_new_group_comes_with_its_tree() {
    let world = World::of(1);
    let view = &world.view;
    let before = Before::of(view).unwrap();
    for kind in TreeKind::ALL {
        let tree = container::pack(
            &view.tree,
            kind,
            Some(&before),
            Some("https://trees.a.example/7"),
        )
        .unwrap();
        let created = check_create(
            &view.group_info,
            &tree,
            &super::super::fixture::hub(),
            &world.clients[0].uri,
            AUDITED,
        );
        match kind {
            TreeKind::Full | TreeKind::Zstd => assert_eq!(&created.unwrap().view, view),
            TreeKind::Delta | TreeKind::DistributionService | TreeKind::Reference => {
                let refused = ContainerRefused::NotForNewGroups(kind);
                assert_eq!(created, Err(BundleRefused::Container(refused)));
            }
        }
    }
}

#[test]
fn a_zstd_tree_is_one_honest_frame() {
    let tree = World::of(20).view.tree;
    let frame = container::compress(&tree);
    assert_eq!(container::decompress(&frame), Ok(tree.clone()));
    let refused = |frame: &[u8]| match container::decompress(frame) {
        Err(ContainerRefused::Zstd(reason)) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(b""), "not a zstd frame");
    assert_eq!(refused(&tree), "not a zstd frame");
    assert_eq!(
        refused(&frame[..frame.len() - 1]),
        "the frame is cut or broken"
    );
    assert_eq!(
        refused(&[&frame[..], &[0]].concat()),
        "bytes follow the frame"
    );
    assert_eq!(
        refused(&[&frame[..], &frame[..]].concat()),
        "bytes follow the frame"
    );
    // A frame to be skipped, before and after.
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 7];
    assert_eq!(
        refused(&[&skipped[..], &frame[..]].concat()),
        "not a zstd frame"
    );
    assert_eq!(
        refused(&[&frame[..], &skipped[..]].concat()),
        "bytes follow the frame"
    );
    // As a stream that does not know its end.
    let undeclared = zstd::stream::encode_all(&tree[..], 3).unwrap();
    assert_eq!(refused(&undeclared), "the frame does not declare its size");
    let bomb = zstd::bulk::compress(&vec![0; TREE_BYTES_MAX], 19).unwrap();
    assert_eq!(refused(&bomb), "the frame declares too much for its length");
    let bytes = TREE_BYTES_MAX as u64 + 1;
    let large = zstd::bulk::compress(&vec![0; TREE_BYTES_MAX + 1], 3).unwrap();
    let max = TREE_BYTES_MAX;
    assert_eq!(
        container::decompress(&large),
        Err(ContainerRefused::TooLarge { bytes, max })
    );
}

/// Compares delta and whole tree in both directions, and says how many nodes the delta lists.
fn compare(before: &Before, after: &Bytes) -> usize {
    let delta = delta::between(&before.base(), &before.tree, after).unwrap();
    let applied = delta::apply(&before.base(), &before.tree, &delta);
    assert_eq!(applied.as_deref(), Ok(&after[..]));
    Delta::read(&delta).unwrap().len()
}

#[test]
fn deltas_between_the_trees_of_openmls_lead_from_one_to_the_next_byte_for_byte() {
    let (mut grown, mut shrunk, mut listed) = (0, 0, 0);
    for seed in 0..4 {
        let mut dice = Dice(seed + 77);
        let terms = Terms {
            trees: TreeCache::new(),
            ..terms()
        };
        let mut world = World::new(12, SUITE);
        for _ in 0..25 {
            let members = inside(&world);
            let by = members[dice.roll(members.len())];
            let few = dice.roll(3) == 0;
            let adds: Vec<_> = (0..world.clients.len())
                .filter(|client| !members.contains(client) && dice.roll(3) == 0)
                .collect();
            let removes: Vec<_> = members
                .iter()
                .copied()
                .filter(|client| *client != by && dice.roll(if few { 2 } else { 5 }) == 0)
                .collect();
            if dice.roll(3) == 0 {
                for client in &members {
                    if *client != by && !removes.contains(client) && dice.roll(3) == 0 {
                        world.propose_update(*client);
                    }
                }
            }
            let before = Before::of(&world.view).unwrap();
            // The hub follows, with the members, from one tree to the next; the fixture compares them.
            let bundle = world.bundle(by, &adds, &removes, dice.roll(2) == 0);
            let kind = TreeKind::ALL[dice.roll(TreeKind::ALL.len())];
            let sent = every_container(&world, &bundle)
                .into_iter()
                .find(|bundle| bundle.tree.kind() == kind)
                .unwrap();
            // With a tree that is kept, and without: each refused bundle in between must leave the kept one as it was.
            let uri = &world.clients[by].uri;
            let kept = |bundle: &Bundle| {
                check_bundle(&world.view, &world.pending, bundle, uri, now(), &terms)
            };
            let wrong = with(&sent, TreeContainer::Delta(vec![1].into()));
            assert!(kept(&wrong).is_err());
            let expected = world.check(by, &bundle);
            assert_eq!(kept(&sent), expected.map(|expected| of(&expected, &sent)));
            if dice.roll(4) == 0 {
                // Another valid bundle of the same epoch, which loses.
                assert!(kept(&sent).is_ok());
            }
            world.accept(by, &bundle).unwrap();
            let after = world.view.tree.clone();
            listed += compare(&before, &after);
            // And back, as no Commit would: every pair of trees has a delta.
            compare(
                &Before {
                    tree: after.clone(),
                    ..before.clone()
                },
                &before.tree,
            );
            match delta::nodes(&before.tree)
                .unwrap()
                .len()
                .cmp(&delta::nodes(&after).unwrap().len())
            {
                std::cmp::Ordering::Less => grown += 1,
                std::cmp::Ordering::Greater => shrunk += 1,
                std::cmp::Ordering::Equal => {}
            }
            let suite = Suite::new(1).unwrap();
            let tree = Tree::read(&after).unwrap();
            assert_eq!(
                tree.root_hash(&tree.hashes(&suite)),
                world.view.context().unwrap().tree_hash
            );
        }
    }
    assert!(
        grown > 10 && shrunk > 10 && listed > 300,
        "{grown} {shrunk} {listed}"
    );
}

/// A delta out of its parts.
fn delta(epoch: u64, hash: &[u8], nodes: u32, changed: &[(u32, &[u8])]) -> Vec<u8> {
    let mut out = vec![1];
    out.extend(epoch.to_be_bytes());
    put_vector(&mut out, hash);
    out.extend(nodes.to_be_bytes());
    let mut list = Vec::new();
    for (index, node) in changed {
        list.extend(index.to_be_bytes());
        list.extend_from_slice(node);
    }
    put_vector(&mut out, &list);
    out
}

#[test]
fn each_way_in_which_a_delta_can_be_wrong_has_its_refusal() {
    let mut world = World::of(4);
    let before = Before::of(&world.view).unwrap();
    world.step(1, &[], &[], true).unwrap();
    let after = world.view.tree.clone();
    let nodes = delta::nodes(&after).unwrap();
    let (leaf, parent) = (nodes[2], nodes[1]);
    let (epoch, hash) = (before.epoch, &before.tree_hash[..]);
    let refused = |delta: &[u8]| delta::apply(&before.base(), &before.tree, delta).unwrap_err();

    let good = delta(epoch, hash, 7, &[(2, leaf)]);
    assert!(delta::apply(&before.base(), &before.tree, &good).is_ok());
    let mut version = good.clone();
    version[0] = 2;
    assert!(matches!(refused(&version), DeltaRefused::Malformed(_)));
    assert!(matches!(
        refused(&good[..good.len() - 1]),
        DeltaRefused::Malformed(_)
    ));
    assert!(matches!(
        refused(&[&good[..], &[0]].concat()),
        DeltaRefused::Malformed(_)
    ));
    assert_eq!(
        refused(&delta(epoch + 1, hash, 7, &[(2, leaf)])),
        DeltaRefused::BaseEpoch(epoch + 1)
    );
    assert_eq!(
        refused(&delta(epoch, &[7; 32], 7, &[(2, leaf)])),
        DeltaRefused::BaseHash
    );
    for count in [0, 6, 65_537] {
        assert_eq!(
            refused(&delta(epoch, hash, count, &[])),
            DeltaRefused::Nodes(count)
        );
    }
    assert_eq!(
        refused(&delta(epoch, hash, 7, &[(8, leaf)])),
        DeltaRefused::OutOfRange(8)
    );
    assert_eq!(
        refused(&delta(epoch, hash, 7, &[(2, leaf), (2, leaf)])),
        DeltaRefused::Order(2)
    );
    assert_eq!(
        refused(&delta(epoch, hash, 7, &[(2, leaf), (0, leaf)])),
        DeltaRefused::Order(0)
    );
    let same = delta::nodes(&before.tree).unwrap()[2];
    assert_eq!(
        refused(&delta(epoch, hash, 7, &[(2, same)])),
        DeltaRefused::Unchanged(2)
    );
    assert_eq!(
        refused(&delta(epoch, hash, 9, &[(7, &[0]), (8, leaf)])),
        DeltaRefused::Unchanged(7)
    );
    assert_eq!(
        refused(&delta(epoch, hash, 7, &[(1, leaf)])),
        DeltaRefused::Type(1)
    );
    assert_eq!(
        refused(&delta(epoch, hash, 7, &[(2, parent)])),
        DeltaRefused::Type(2)
    );
    assert_eq!(
        refused(&delta(epoch, hash, 7, &[(6, &[0])])),
        DeltaRefused::BlankEnd
    );
    assert_eq!(refused(&delta(epoch, hash, 9, &[])), DeltaRefused::BlankEnd);
    let max = TREE_BYTES_MAX;
    let key = vec![7; TREE_BYTES_MAX - 200];
    let mut large = vec![1, 2];
    for part in [&key[..], &[], &[]] {
        put_vector(&mut large, part);
    }
    assert_eq!(
        refused(&delta(epoch, hash, 7, &[(1, &large)])),
        DeltaRefused::TooLarge { max }
    );
}

#[test]
fn a_tree_packed_in_any_container_opens_again() {
    let mut world = World::of(5);
    let before = Before::of(&world.view).unwrap();
    world.step(3, &[], &[1], true).unwrap();
    let (tree, place) = (&world.view.tree, Some("https://trees.a.example/7"));
    for kind in TreeKind::ALL {
        let packed = container::pack(tree, kind, Some(&before), place).unwrap();
        assert_eq!(packed.kind(), kind);
        let carried = Bytes::copy_from_slice(packed.carried());
        assert_eq!(
            TreeContainer::of(kind.number(), carried),
            Some(packed.clone())
        );
        let opened = container::open(&packed, Some(&before)).unwrap();
        match kind {
            TreeKind::Full | TreeKind::Zstd | TreeKind::Delta => {
                assert_eq!(opened.as_ref(), Some(tree))
            }
            TreeKind::DistributionService | TreeKind::Reference => assert_eq!(opened, None),
        }
    }
    assert_eq!(TreeContainer::of(5, Bytes::new()), None);
    assert_eq!(TreeContainer::of(3, Bytes::from_static(b"x")), None);
    assert_eq!(
        container::pack(tree, TreeKind::Reference, None, None),
        Err(NotServed::NoReference)
    );
    assert_eq!(
        container::pack(tree, TreeKind::Delta, None, place),
        Err(NotServed::NoBase)
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_of_containers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let base = delta::Base { epoch: 1, tree_hash: &[0; 32] };
        let _ = Delta::read(&bytes);
        let _ = delta::nodes(&bytes);
        let _ = delta::apply(&base, &bytes, &bytes);
        let _ = delta::between(&base, &bytes, &bytes);
        let _ = container::decompress(&bytes);
    }
}

thread_local! {
    /// A tree and what comes after it, made once: groups are expensive.
    static STEP: (Before, Vec<u8>) = {
        let mut world = World::of(7);
        let before = Before::of(&world.view).unwrap();
        world.step(1, &[], &[3], true).unwrap();
        let delta = delta::between(&before.base(), &before.tree, &world.view.tree).unwrap();
        (before, delta)
    };
}

proptest! {
    #[test]
    fn a_delta_with_any_bytes_changed_is_refused_or_has_no_other_spelling(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        STEP.with(|(before, delta)| {
            let mut changed = delta.clone();
            for (at, byte) in &changes {
                let at = at.index(changed.len());
                changed[at] = *byte;
            }
            if let Some(cut) = cut {
                changed.truncate(cut.index(delta.len()));
            }
            if let Ok(tree) = delta::apply(&before.base(), &before.tree, &changed) {
                let again = delta::between(&before.base(), &before.tree, &tree).unwrap();
                prop_assert_eq!(again, changed);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_zstd_frame_with_any_bytes_changed_is_refused_or_holds_a_tree_of_its_size(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        STEP.with(|(before, _)| {
            let mut frame = container::compress(&before.tree);
            for (at, byte) in &changes {
                let at = at.index(frame.len());
                frame[at] = *byte;
            }
            if let Ok(tree) = container::decompress(&frame) {
                prop_assert!(tree.len() <= TREE_BYTES_MAX);
            }
            Ok(())
        })?;
    }
}

#[test]
fn a_commit_whose_tree_could_not_be_read_again_is_refused_whatever_stands_for_the_tree() {
    const ADDS: usize = 60;
    let mut world = World::new(1, SUITE);
    let large = openmls::prelude::Extension::ApplicationId(
        openmls::prelude::ApplicationIdExtension::new(&[7; 14 << 10]),
    );
    let mut refused = None;
    for round in 0..4 {
        let adds: Vec<_> = (0..ADDS)
            .map(|number| {
                let client = crate::mls::fixture::Client::new(&format!("x{round}y{number}"), SUITE);
                let extensions = Extensions::single(large.clone()).unwrap();
                client.key_package_with(|builder| builder.leaf_node_extensions(extensions))
            })
            .collect();
        let whole = world.clients[0].commit(|builder| builder.propose_adds(adds));
        let bundle = with(&whole, TreeContainer::DistributionService);
        match verdict(&world, 0, &bundle) {
            Ok(checked) => world.view = checked.next.after(&world.view).unwrap(),
            Err(why) => {
                refused = Some(why);
                break;
            }
        }
        assert!(world.view.tree.len() <= TREE_BYTES_MAX);
    }
    let Some(BundleRefused::Container(ContainerRefused::TooLarge { bytes, max })) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(max, TREE_BYTES_MAX);
    assert!(bytes > max as u64 && world.view.tree.len() > max / 2);
}
