//! The path of a Commit: what it makes of the tree, and whether it may.
//!
//! Source: RFC 9420, sections 7.5, 7.6, 7.9 and 12.4.2.

use super::keys::Keys;
use crate::mls::{
    codec::{
        commit::{Path, PathNode},
        leaf::{Leaf, Source},
        reader::put_vector,
        suite::{Digest, SEALED_PATH_SECRET_BYTES, Suite},
        welcome::Sealed,
    },
    tree::{
        Hashes, Node, Parent, Tree,
        math::{of_leaf, path_with_copath, to_leaf},
    },
};
use std::{borrow::Cow, collections::BTreeSet};

/// What a path is applied in.
pub(crate) struct Place<'p> {
    pub(crate) suite: &'p Suite,
    pub(crate) suite_number: u16,
    pub(crate) group_id: &'p [u8],
    pub(crate) committer: u32,
    /// Leaves that the same Commit adds.
    pub(crate) added: &'p BTreeSet<u32>,
}

/// Puts the path into the tree that the Proposals made, keeping `hashes` (those of that tree) in step.
///
/// Refuses what an honest member would refuse, as far as it shows without secrets.
pub(crate) fn apply<'a>(
    tree: &mut Tree<'a>,
    hashes: &mut Hashes<'_>,
    path: &Path<'a>,
    keys: &Keys<'a>,
    place: &Place<'_>,
) -> Result<(), &'static str> {
    check_leaf(tree, &path.leaf, keys, place)?;
    check_new_keys(path, keys, place.suite)?;
    let filtered = filtered_path(tree, path, place)?;
    tree.blank_path(place.committer);
    tree.set(
        of_leaf(place.committer),
        Some(Node::Leaf(path.leaf.clone())),
    );
    // From the top down, because each parent hash covers the one above it.
    let mut parent_hash: Vec<u8> = Vec::new();
    for (index, copath, node) in filtered.into_iter().rev() {
        let own = std::mem::take(&mut parent_hash);
        parent_hash =
            hash_of_parent(place.suite, node.encryption_key, &own, hashes.get(copath)).to_vec();
        let encryption_key = node.encryption_key;
        let parent = Parent {
            encryption_key,
            parent_hash: Cow::Owned(own),
            unmerged: Vec::new(),
        };
        tree.set(index, Some(Node::Parent(parent)));
    }
    if path.leaf.source
        != (Source::Commit {
            parent_hash: &parent_hash,
        })
    {
        return Err("parent hash of the path does not fit the tree");
    }
    tree.rehash_path(place.suite, hashes, place.committer);
    Ok(())
}

fn check_leaf(
    tree: &Tree<'_>,
    leaf: &Leaf<'_>,
    keys: &Keys<'_>,
    place: &Place<'_>,
) -> Result<(), &'static str> {
    let old = tree
        .leaf(place.committer)
        .ok_or("the committer is not in the tree")?;
    if !matches!(leaf.source, Source::Commit { .. }) {
        return Err("leaf of the path is not one of a Commit");
    }
    if leaf.identity != old.identity {
        return Err("leaf of the path names another client");
    }
    if let Some(flaw) = leaf.flaw(place.suite, place.suite_number) {
        return Err(flaw);
    }
    if leaf.signature_key != old.signature_key && keys.has_signature_key(leaf.signature_key) {
        return Err("signature key of the path is in use");
    }
    if !leaf.signature_is_right(place.suite, Some((place.group_id, place.committer))) {
        return Err("signature of the path's leaf is wrong");
    }
    Ok(())
}

/// Every public key of the path is new to the tree, and there is none twice.
fn check_new_keys(path: &Path<'_>, keys: &Keys<'_>, suite: &Suite) -> Result<(), &'static str> {
    let mut new = BTreeSet::from([path.leaf.encryption_key]);
    let fresh = path
        .nodes
        .iter()
        .all(|node| new.insert(node.encryption_key))
        && !new.iter().any(|key| keys.has_encryption_key(key));
    if !fresh {
        return Err("encryption key of the path is in use");
    }
    if !new.iter().all(|key| suite.is_encryption_key(key)) {
        return Err("encryption key of the path is none of the ciphersuite");
    }
    Ok(())
}

/// The nodes above the committer that the path fills, each with its copath child and what the path says of it.
fn filtered_path<'p, 'a>(
    tree: &Tree<'a>,
    path: &'p Path<'a>,
    place: &Place<'_>,
) -> Result<Vec<(usize, usize, &'p PathNode<'a>)>, &'static str> {
    const COUNT: &str = "path has the wrong number of nodes";
    let mut given = path.nodes.iter();
    let mut filtered = Vec::with_capacity(path.nodes.len());
    for (index, copath) in path_with_copath(place.committer, tree.width()) {
        let resolution = tree.resolution(copath);
        if resolution.is_empty() {
            continue;
        }
        let node = given.next().ok_or(COUNT)?;
        let is_new = |node: &usize| to_leaf(*node).is_some_and(|leaf| place.added.contains(&leaf));
        let receivers = resolution.iter().filter(|node| !is_new(node)).count();
        if node.secrets.len() != receivers {
            return Err("path has the wrong number of secrets");
        }
        let fits = |secret: &Sealed| secret.fits(place.suite, SEALED_PATH_SECRET_BYTES);
        if !node.secrets.iter().all(fits) {
            return Err("a secret of the path has the wrong length");
        }
        filtered.push((index, copath, node));
    }
    if given.next().is_some() {
        return Err(COUNT);
    }
    Ok(filtered)
}

fn hash_of_parent(
    suite: &Suite,
    encryption_key: &[u8],
    parent_hash: &[u8],
    sibling: Option<&Digest>,
) -> Digest {
    let mut input = Vec::with_capacity(128);
    put_vector(&mut input, encryption_key);
    put_vector(&mut input, parent_hash);
    put_vector(&mut input, sibling.map_or(&[][..], |hash| hash));
    suite.hash(&input)
}
