//! The ratchet tree: reading, writing, hashing, and what Proposals do to it.
//!
//! A tree is never blank at its right end, so it has one encoding. A `Tree` is a `StoredTree`, the tree of an epoch, and the
//! nodes that differ from it: what a Commit costs grows with what it changes, not with the group. Nodes count as
//! many as one less than a power of two, blanks at the right end included.
//!
//! Source: RFC 9420, sections 4.1, 7.7, 7.8 and 12.1.

pub mod cache;
pub mod container;
pub mod delta;
pub(crate) mod math;
pub(crate) mod stored;
pub mod view;

use super::codec::{
    bounds::KEY_BYTES_MAX,
    leaf::Leaf,
    reader::{Reader, Unreadable, put_length, put_vector},
    suite::{Digest, Suite},
};
use crate::limits::{TREE_BYTES_MAX, TREE_NODES_MAX};
use delta::BLANK;
use math::{children, height, of_leaf, path_with_copath, root, to_leaf};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};
use stored::StoredTree;

/// A node that is not a leaf.
#[derive(Clone, Debug)]
pub(crate) struct Parent<'a> {
    pub(crate) encryption_key: &'a [u8],
    pub(crate) parent_hash: Cow<'a, [u8]>,
    /// Leaves below that do not know the node's secret, ascending.
    pub(crate) unmerged: Vec<u32>,
}

/// A node that is not blank.
#[derive(Clone, Debug)]
pub(crate) enum Node<'a> {
    Leaf(Rc<Leaf<'a>>),
    Parent(Parent<'a>),
}

impl<'a> Node<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>, index: usize) -> Result<Self, Unreadable> {
        match (reader.u8()?, index & 1) {
            (1, 0) => Ok(Self::Leaf(Rc::new(Leaf::read(reader)?))),
            (2, 1) => {
                let encryption_key = reader.vector("encryption key", KEY_BYTES_MAX)?;
                let parent_hash = Cow::Borrowed(reader.vector("parent hash", KEY_BYTES_MAX)?);
                let mut last = None;
                let list = reader.inner("unmerged leaves", TREE_BYTES_MAX)?;
                let unmerged = list.each("unmerged leaves", TREE_NODES_MAX, |list| {
                    let leaf = list.u32()?;
                    if last.is_some_and(|last| last >= leaf) {
                        return Err(list.bad_value("unmerged leaf"));
                    }
                    last = Some(leaf);
                    Ok(leaf)
                })?;
                Ok(Self::Parent(Parent {
                    encryption_key,
                    parent_hash,
                    unmerged,
                }))
            }
            _ => Err(reader.bad_value("node type").into()),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Leaf(leaf) => {
                out.push(1);
                out.extend_from_slice(leaf.encoded);
            }
            Self::Parent(parent) => {
                out.push(2);
                parent.write(out);
            }
        }
    }

    /// The public key of the node.
    pub(crate) fn encryption_key(&self) -> &'a [u8] {
        match self {
            Self::Leaf(leaf) => leaf.encryption_key,
            Self::Parent(parent) => parent.encryption_key,
        }
    }
}

impl Parent<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        put_vector(out, self.encryption_key);
        put_vector(out, &self.parent_hash);
        put_length(out, self.unmerged.len() * 4);
        for leaf in &self.unmerged {
            out.extend(leaf.to_be_bytes());
        }
    }
}

/// A ratchet tree: that of an epoch, and what was changed of it.
#[derive(Clone)]
pub(crate) struct Tree<'a> {
    stored: &'a StoredTree,
    /// What stands in another way than in `stored`; some of it may be the same after all.
    changed: BTreeMap<usize, Option<Node<'a>>>,
    /// Number of nodes, one less than a power of two.
    width: usize,
    /// No leaf before this one is blank.
    full_before: u32,
}

/// What stands in a place.
enum Place<'t, 'a> {
    Blank,
    Stored(&'a [u8]),
    Changed(&'t Node<'a>),
}

impl<'a> Tree<'a> {
    /// The tree of an epoch.
    pub(crate) fn of(stored: &'a StoredTree) -> Self {
        Self {
            stored,
            changed: BTreeMap::new(),
            width: stored.width(),
            full_before: 0,
        }
    }

    /// The tree that `bytes` are, for good.
    #[cfg(test)]
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        Ok(Self::of(Box::leak(Box::new(StoredTree::indexed(bytes)?))))
    }

    fn place(&self, index: usize) -> Place<'_, 'a> {
        if index >= self.width {
            return Place::Blank;
        }
        match self.changed.get(&index) {
            Some(Some(node)) => Place::Changed(node),
            Some(None) => Place::Blank,
            None => self.stored.node(index).map_or(Place::Blank, Place::Stored),
        }
    }

    fn is_blank(&self, index: usize) -> bool {
        matches!(self.place(index), Place::Blank)
    }

    fn node(&self, index: usize) -> Option<Node<'a>> {
        match self.place(index) {
            Place::Blank => None,
            Place::Stored(encoded) => stored_node(encoded, index),
            Place::Changed(node) => Some(node.clone()),
        }
    }

    /// Appends a place as `optional<Node>`.
    fn write_place(&self, index: usize, out: &mut Vec<u8>) {
        match self.place(index) {
            Place::Blank => out.push(0),
            Place::Stored(encoded) => {
                out.push(1);
                out.extend_from_slice(encoded);
            }
            Place::Changed(node) => {
                out.push(1);
                node.write(out);
            }
        }
    }

    /// The one encoding of the tree.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.stored.bytes() + 1_024);
        for index in 0..self.used() {
            self.write_place(index, &mut body);
        }
        let mut out = Vec::with_capacity(body.len() + 4);
        put_vector(&mut out, &body);
        out
    }

    /// The one delta from the stored tree to this one.
    pub(crate) fn delta(&self, base: &delta::Base<'_>) -> Vec<u8> {
        let used = self.used();
        let mut delta = delta::Writer::new(base, used);
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for index in self
            .changed
            .keys()
            .copied()
            .take_while(|index| *index < used)
        {
            new.clear();
            self.write_place(index, &mut new);
            old.clear();
            match self.stored.node(index) {
                None => old.extend_from_slice(BLANK),
                Some(encoded) => {
                    old.push(1);
                    old.extend_from_slice(encoded);
                }
            }
            if old != new {
                delta.put(index, &new);
            }
        }
        delta.finish()
    }

    /// Nodes up to the last that is not blank.
    pub(crate) fn used(&self) -> usize {
        let last = self.changed.iter().rev().find(|(_, node)| node.is_some());
        let end = last
            .map_or(0, |(index, _)| index + 1)
            .max(self.stored.used());
        (0..end.min(self.width))
            .rev()
            .find(|index| !self.is_blank(*index))
            .map_or(0, |last| last + 1)
    }

    /// Number of nodes, blank ones included.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// The tree of the epoch that this one was made of.
    pub(crate) fn stored(&self) -> &'a StoredTree {
        self.stored
    }

    /// The places that were touched, each with what stood there and what stands there now.
    pub(crate) fn touched(
        &self,
    ) -> impl Iterator<Item = (usize, Option<Node<'a>>, Option<Node<'a>>)> {
        self.changed.keys().map(|index| {
            let before = self.stored.node(*index);
            let before = before.and_then(|encoded| stored_node(encoded, *index));
            (*index, before, self.node(*index))
        })
    }

    /// Replaces a node; an index outside the tree changes nothing.
    pub(crate) fn set(&mut self, index: usize, node: Option<Node<'a>>) {
        if index < self.width {
            self.changed.insert(index, node);
        }
    }

    /// The leaf with this number, unless it is blank or outside the tree.
    pub(crate) fn leaf(&self, leaf: u32) -> Option<Rc<Leaf<'a>>> {
        match self.node(of_leaf(leaf))? {
            Node::Leaf(leaf) => Some(leaf),
            Node::Parent(_) => None,
        }
    }

    /// All leaves that are not blank, with their numbers.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = (u32, Rc<Leaf<'a>>)> {
        (0..self.width).step_by(2).filter_map(|index| {
            let leaf = to_leaf(index)?;
            Some((leaf, self.leaf(leaf)?))
        })
    }

    /// Blanks all nodes above a leaf.
    pub(crate) fn blank_path(&mut self, leaf: u32) {
        for (node, _) in path_with_copath(leaf, self.width) {
            self.set(node, None);
        }
    }

    /// Puts an updated leaf in the place of an old one.
    pub(crate) fn update(&mut self, leaf: u32, node: Rc<Leaf<'a>>) {
        self.blank_path(leaf);
        self.set(of_leaf(leaf), Some(Node::Leaf(node)));
    }

    /// Blanks a leaf and all above it, and cuts off the right half while it has no leaves.
    pub(crate) fn remove(&mut self, leaf: u32) {
        self.blank_path(leaf);
        self.set(of_leaf(leaf), None);
        self.full_before = self.full_before.min(leaf);
        // What is cut off stays noted as blank: the tree may grow again.
        let used = self.used();
        while self.width > 1 && used <= root(self.width) {
            self.width = root(self.width);
        }
    }

    /// Puts a new leaf in the leftmost blank place, and gives its number; `None` when the tree is full.
    pub(crate) fn add(&mut self, node: Rc<Leaf<'a>>) -> Option<u32> {
        let mut places = (of_leaf(self.full_before)..self.width).step_by(2);
        let index = match places.find(|index| self.is_blank(*index)) {
            Some(index) => index,
            None if self.width * 2 < TREE_NODES_MAX => {
                let index = self.width + 1;
                self.width = self.width * 2 + 1;
                index
            }
            None => return None,
        };
        let leaf = to_leaf(index)?;
        self.full_before = leaf + 1;
        for (above, _) in path_with_copath(leaf, self.width) {
            if let Some(Node::Parent(mut parent)) = self.node(above) {
                let place = parent.unmerged.partition_point(|unmerged| *unmerged < leaf);
                parent.unmerged.insert(place, leaf);
                self.set(above, Some(Node::Parent(parent)));
            }
        }
        self.set(index, Some(Node::Leaf(node)));
        Some(leaf)
    }

    /// The nodes whose keys together reach every member below `node`.
    pub(crate) fn resolution(&self, node: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut open = vec![node];
        while let Some(index) = open.pop() {
            match children(index) {
                _ if self.is_blank(index) => open.extend(
                    children(index)
                        .into_iter()
                        .flat_map(|(left, right)| [right, left]),
                ),
                None => found.push(index),
                Some(_) => {
                    found.push(index);
                    if let Some(Node::Parent(parent)) = self.node(index) {
                        found.extend(parent.unmerged.iter().map(|leaf| of_leaf(*leaf)));
                    }
                }
            }
        }
        found
    }

    /// The tree hashes of all nodes. Those of subtrees in which nothing changed are taken from the stored tree.
    pub(crate) fn hashes(&self, suite: &Suite) -> Hashes<'a> {
        let stored_hashes = self.stored.hashes();
        let known = stored_hashes.len();
        let mut stale: BTreeSet<(u32, usize)> = BTreeSet::new();
        let changed = self
            .changed
            .keys()
            .copied()
            .filter(|index| *index < self.width);
        for mut index in changed.chain(known..self.width) {
            while stale.insert((height(index), index)) && index != root(self.width) {
                index = math::parent(index);
            }
        }
        if known < self.width && self.width > 1 {
            // The old root has a node above it now.
            stale.insert((height(root(self.width)), root(self.width)));
        }
        let mut hashes = Hashes {
            stored_hashes,
            changed: BTreeMap::new(),
        };
        for (_, index) in stale {
            self.rehash(suite, &mut hashes, index);
        }
        hashes
    }

    /// Computes the hashes of a leaf and all above it anew.
    pub(crate) fn rehash_path(&self, suite: &Suite, hashes: &mut Hashes<'_>, leaf: u32) {
        self.rehash(suite, hashes, of_leaf(leaf));
        for (index, _) in path_with_copath(leaf, self.width) {
            self.rehash(suite, hashes, index);
        }
    }

    fn rehash(&self, suite: &Suite, hashes: &mut Hashes<'_>, index: usize) {
        let mut input = Vec::with_capacity(512);
        match children(index) {
            None => {
                input.push(1);
                input.extend(to_leaf(index).unwrap_or_default().to_be_bytes());
                self.write_content(index, &mut input);
            }
            Some((left, right)) => {
                input.push(2);
                self.write_content(index, &mut input);
                for child in [left, right] {
                    put_vector(&mut input, hashes.get(child).map_or(&[][..], |hash| hash));
                }
            }
        }
        hashes.changed.insert(index, suite.hash(&input));
    }

    /// Appends a place as `optional<LeafNode>` or `optional<ParentNode>`: without the type.
    fn write_content(&self, index: usize, out: &mut Vec<u8>) {
        let start = out.len();
        self.write_place(index, out);
        if out.len() > start + 1 {
            out.remove(start + 1);
        }
    }

    /// The tree hash, out of the hashes of its nodes.
    pub(crate) fn root_hash(&self, hashes: &Hashes<'_>) -> Digest {
        hashes.get(root(self.width)).copied().unwrap_or_default()
    }

    /// The first node in which two trees differ.
    pub(crate) fn first_difference(&self, other: &Self) -> Option<usize> {
        let encoded = |tree: &Self, index| {
            let mut out = Vec::new();
            tree.write_place(index, &mut out);
            out
        };
        (0..self.width.max(other.width))
            .find(|index| encoded(self, *index) != encoded(other, *index))
    }

    /// What makes a stored tree of this one out of the one that it was made of.
    pub(crate) fn step(&self, hashes: &Hashes<'_>) -> Step {
        let encoded = |node: &Node<'a>| {
            let mut out = Vec::new();
            node.write(&mut out);
            out.into_boxed_slice()
        };
        let nodes = self.changed.iter();
        Step {
            width: self.width,
            nodes: nodes
                .map(|(index, node)| (*index, node.as_ref().map(encoded)))
                .collect(),
            hashes: hashes
                .changed
                .iter()
                .map(|(index, hash)| (*index, *hash))
                .collect(),
        }
    }
}

/// A node out of a stored tree, which holds only nodes that read.
fn stored_node(encoded: &[u8], index: usize) -> Option<Node<'_>> {
    Node::read(&mut Reader::new(encoded), index).ok()
}

/// The tree hashes of the nodes of a tree.
pub(crate) struct Hashes<'a> {
    stored_hashes: &'a [Digest],
    changed: BTreeMap<usize, Digest>,
}

impl Hashes<'_> {
    /// The hash of a node.
    pub(crate) fn get(&self, index: usize) -> Option<&Digest> {
        self.changed
            .get(&index)
            .or_else(|| self.stored_hashes.get(index))
    }
}

/// What one Commit changed of a tree, detached from the Commit.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) width: usize,
    pub(crate) nodes: Vec<(usize, Option<Box<[u8]>>)>,
    pub(crate) hashes: Vec<(usize, Digest)>,
}
