//! Paths that a hostile member can make: the Commit rightly signed, the path wrong.

use super::{super::fixture::World, forged::framed};
use crate::mls::{
    check::bundle::{Bundle, BundleRefused, TreeRefused},
    codec::{
        commit::{Commit, Path},
        reader::{Reader, put_vector},
    },
};

/// A path in parts that can be changed: its leaf, and per node its key and its secrets as encoded.
struct Loose {
    leaf: Vec<u8>,
    nodes: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
}

/// Takes the path out of a bundle's Commit, which has an empty list of Proposals and no authenticated data.
fn loosen(world: &World, bundle: &Bundle) -> Loose {
    let head = 4 + 1 + world.view.group_id().unwrap().len() + 8 + 1 + 4 + 1 + 1;
    let mut reader = Reader::new(&bundle.commit[head..]);
    let Commit {
        path: Some(Path { leaf, .. }),
        ..
    } = Commit::read(&mut reader).unwrap()
    else {
        panic!("no path")
    };
    let after_leaf = head + 1 + 1 + leaf.encoded.len();
    let mut list = Reader::new(&bundle.commit[after_leaf..])
        .inner("path", 1 << 20)
        .unwrap();
    let mut nodes = vec![];
    while !list.is_empty() {
        let key = list.vector("key", 99).unwrap().to_vec();
        let mut secrets = list.inner("secrets", 1 << 20).unwrap();
        let mut all = vec![];
        while !secrets.is_empty() {
            let start = secrets.clone();
            secrets.vector("KEM output", 99).unwrap();
            secrets.vector("ciphertext", 99).unwrap();
            all.push(secrets.since(&start).to_vec());
        }
        nodes.push((key, all));
    }
    Loose {
        leaf: leaf.encoded.to_vec(),
        nodes,
    }
}

fn tighten(world: &World, by: usize, loose: &Loose) -> Bundle {
    let mut nodes = Vec::new();
    for (key, secrets) in &loose.nodes {
        put_vector(&mut nodes, key);
        put_vector(&mut nodes, &secrets.concat());
    }
    let mut content = vec![0, 1];
    content.extend_from_slice(&loose.leaf);
    put_vector(&mut content, &nodes);
    let view = world.view.clone();
    Bundle {
        commit: framed(world, by, 3, &content).into(),
        welcome: None,
        group_info: view.group_info.into(),
        tree: view.tree.into(),
    }
}

#[test]
fn a_path_that_members_would_refuse_is_refused() {
    let mut world = World::of(5);
    let old = world.bundle(1, &[], &[], true);
    let old_path = loosen(&world, &old);
    world.accept(1, &old).unwrap();
    let other = world.bundle(2, &[], &[], true);
    let others_path = loosen(&world, &other);
    let bundle = world.bundle(0, &[], &[], true);
    let refused = |change: &dyn Fn(&mut Loose)| {
        let mut loose = loosen(&world, &bundle);
        change(&mut loose);
        match world.check(0, &tighten(&world, 0, &loose)) {
            Err(BundleRefused::Tree(TreeRefused::Path(reason))) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        refused(&|path| path.leaf.clone_from(&others_path.leaf)),
        "leaf of the path names another client"
    );
    let key_package_leaf = super::super::tree::Tree::read(&world.view.tree)
        .unwrap()
        .leaf(0)
        .unwrap()
        .encoded
        .to_vec();
    assert_eq!(
        refused(&|path| {
            let last = path.leaf.len() - 1;
            path.leaf[last] ^= 1;
        }),
        "signature of the path's leaf is wrong"
    );
    let _ = refused(&|path| path.leaf.clone_from(&key_package_leaf));
    assert_eq!(
        refused(&|path| {
            path.nodes.pop();
        }),
        "path has the wrong number of nodes"
    );
    assert_eq!(
        refused(&|path| path.nodes.push((vec![9; 32], vec![]))),
        "path has the wrong number of nodes"
    );
    assert_eq!(
        refused(&|path| {
            path.nodes[0].1.pop();
        }),
        "path has the wrong number of secrets"
    );
    assert_eq!(
        refused(&|path| {
            let again = path.nodes[0].1[0].clone();
            path.nodes[0].1.push(again);
        }),
        "path has the wrong number of secrets"
    );
    assert_eq!(
        refused(&|path| path.nodes[0].0 = path.nodes[1].0.clone()),
        "encryption key of the path is in use"
    );
    assert_eq!(
        refused(&|path| path.nodes[0].0.clone_from(&old_path.nodes[1].0)),
        "encryption key of the path is in use"
    );
    assert_eq!(
        refused(&|path| path.nodes[0].0.truncate(31)),
        "encryption key of the path is none of the ciphersuite"
    );
    assert_eq!(
        refused(&|path| path.nodes[0].0.fill(0)),
        "encryption key of the path is none of the ciphersuite"
    );
    for (at, change) in [(0, 1), (33, 1)] {
        // The length of the KEM output, or of the ciphertext, and one byte more or less of it.
        let shorter = |path: &mut Loose| {
            path.nodes[0].1[0][at] -= change;
            path.nodes[0].1[0].remove(at + 1);
        };
        assert_eq!(
            refused(&shorter),
            "a secret of the path has the wrong length"
        );
    }
    assert_eq!(
        refused(&|path| path.nodes[0].0[0] ^= 1),
        "parent hash of the path does not fit the tree"
    );

    // What was loosened and tightened without a change fails only where the hub compares it with the old parts.
    let same = tighten(&world, 0, &loosen(&world, &bundle));
    assert!(matches!(
        world.check(0, &same),
        Err(BundleRefused::Tree(TreeRefused::Mismatch(_)))
    ));
}
