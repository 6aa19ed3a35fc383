//! The ratchet tree: reading, writing, hashing, and what Proposals do to it.
//!
//! A tree is never blank at its right end, so it has one encoding. Nodes are kept in an array padded with blanks to
//! one less than a power of two.
//!
//! Source: RFC 9420, sections 4.1, 7.7, 7.8 and 12.1.

use super::{
    bounds::KEY_BYTES_MAX,
    leaf::Leaf,
    reader::{Reader, Unreadable, put_length, put_vector},
    suite::{Digest, Suite},
    tree_math::{children, height, of_leaf, path_with_copath, root, to_leaf},
};
use crate::limits::{TREE_BYTES_MAX, TREE_NODES_MAX};
use std::{borrow::Cow, rc::Rc};

/// A node that is not a leaf.
#[derive(Clone, Debug)]
pub(super) struct Parent<'a> {
    pub(super) encryption_key: &'a [u8],
    pub(super) parent_hash: Cow<'a, [u8]>,
    /// Leaves below that do not know the node's secret, ascending.
    pub(super) unmerged: Vec<u32>,
}

/// A node that is not blank.
#[derive(Clone, Debug)]
pub(super) enum Node<'a> {
    Leaf(Rc<Leaf<'a>>),
    Parent(Parent<'a>),
}

impl<'a> Node<'a> {
    fn read(reader: &mut Reader<'a>, index: usize, nodes: usize) -> Result<Self, Unreadable> {
        match (reader.u8()?, index & 1) {
            (1, 0) => Ok(Self::Leaf(Rc::new(Leaf::read(reader)?))),
            (2, 1) => {
                let encryption_key = reader.vector("encryption key", KEY_BYTES_MAX)?;
                let parent_hash = Cow::Borrowed(reader.vector("parent hash", KEY_BYTES_MAX)?);
                let mut last = None;
                let list = reader.inner("unmerged leaves", TREE_BYTES_MAX)?;
                let unmerged = list.each("unmerged leaves", nodes, |list| {
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
    pub(super) fn encryption_key(&self) -> &'a [u8] {
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

/// A ratchet tree; cheap to copy.
#[derive(Clone, Debug)]
pub(super) struct Tree<'a> {
    /// As many as one less than a power of two.
    nodes: Vec<Option<Node<'a>>>,
}

impl<'a> Tree<'a> {
    /// Reads the vector of optional nodes that stands in a ratchet_tree extension.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::bounded(bytes, "ratchet tree", TREE_BYTES_MAX)?;
        let list = reader.inner("ratchet tree", TREE_BYTES_MAX)?;
        reader.finish()?;
        let mut index = 0;
        let mut nodes = list.each("tree nodes", TREE_NODES_MAX, |list| {
            let present = list.present()?;
            let node = present
                .then(|| Node::read(list, index, TREE_NODES_MAX))
                .transpose();
            index += 1;
            node
        })?;
        if !matches!(nodes.last(), Some(Some(Node::Leaf(_)))) {
            return Err(reader.bad_value("last node of the tree").into());
        }
        let width = (nodes.len() + 1).next_power_of_two() - 1;
        nodes.resize_with(width, || None);
        Ok(Self { nodes })
    }

    /// The one encoding of the tree.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for node in self.nodes.iter().take(self.used()) {
            body.push(u8::from(node.is_some()));
            if let Some(node) = node {
                node.write(&mut body);
            }
        }
        let mut out = Vec::with_capacity(body.len() + 4);
        put_vector(&mut out, &body);
        out
    }

    /// Nodes up to the last that is not blank.
    fn used(&self) -> usize {
        self.nodes
            .iter()
            .rposition(Option::is_some)
            .map_or(0, |last| last + 1)
    }

    /// Number of nodes, blank ones included.
    pub(super) fn width(&self) -> usize {
        self.nodes.len()
    }

    /// All nodes that are not blank, with their indices.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (usize, &Node<'a>)> {
        self.nodes
            .iter()
            .enumerate()
            .filter_map(|(index, node)| Some((index, node.as_ref()?)))
    }

    fn node(&self, index: usize) -> Option<&Node<'a>> {
        self.nodes.get(index)?.as_ref()
    }

    /// Replaces a node; an index outside the tree changes nothing.
    pub(super) fn set(&mut self, index: usize, node: Option<Node<'a>>) {
        if let Some(place) = self.nodes.get_mut(index) {
            *place = node;
        }
    }

    /// The leaf with this number, unless it is blank or outside the tree.
    pub(super) fn leaf(&self, leaf: u32) -> Option<&Rc<Leaf<'a>>> {
        match self.node(of_leaf(leaf))? {
            Node::Leaf(leaf) => Some(leaf),
            Node::Parent(_) => None,
        }
    }

    /// All leaves that are not blank, with their numbers.
    pub(super) fn leaves(&self) -> impl Iterator<Item = (u32, &Rc<Leaf<'a>>)> {
        self.nodes().filter_map(|(index, node)| match node {
            Node::Leaf(leaf) => Some((to_leaf(index)?, leaf)),
            Node::Parent(_) => None,
        })
    }

    /// Blanks all nodes above a leaf.
    pub(super) fn blank_path(&mut self, leaf: u32) {
        for (node, _) in path_with_copath(leaf, self.width()) {
            self.set(node, None);
        }
    }

    /// Puts an updated leaf in the place of an old one.
    pub(super) fn update(&mut self, leaf: u32, node: Rc<Leaf<'a>>) {
        self.blank_path(leaf);
        self.set(of_leaf(leaf), Some(Node::Leaf(node)));
    }

    /// Blanks a leaf and all above it, and cuts off the right half while it has no leaves.
    pub(super) fn remove(&mut self, leaf: u32) {
        self.blank_path(leaf);
        self.set(of_leaf(leaf), None);
        while self.width() > 1 && self.used() <= root(self.width()) {
            self.nodes.truncate(root(self.width()));
        }
    }

    /// Puts a new leaf in the leftmost blank place, and gives its number; `None` when the tree is full.
    pub(super) fn add(&mut self, node: Rc<Leaf<'a>>) -> Option<u32> {
        let free = self.nodes.iter().step_by(2).position(Option::is_none);
        let index = match free {
            Some(leaf) => leaf << 1,
            None if self.width() * 2 < TREE_NODES_MAX => {
                let index = self.width() + 1;
                self.nodes.resize_with(self.width() * 2 + 1, || None);
                index
            }
            None => return None,
        };
        let leaf = to_leaf(index)?;
        for (above, _) in path_with_copath(leaf, self.width()) {
            if let Some(Some(Node::Parent(parent))) = self.nodes.get_mut(above) {
                let place = parent.unmerged.partition_point(|unmerged| *unmerged < leaf);
                parent.unmerged.insert(place, leaf);
            }
        }
        self.set(index, Some(Node::Leaf(node)));
        Some(leaf)
    }

    /// The nodes whose keys together reach every member below `node`.
    pub(super) fn resolution(&self, node: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut open = vec![node];
        while let Some(index) = open.pop() {
            match self.node(index) {
                Some(Node::Leaf(_)) => found.push(index),
                Some(Node::Parent(parent)) => {
                    found.push(index);
                    found.extend(parent.unmerged.iter().map(|leaf| of_leaf(*leaf)));
                }
                None => open.extend(
                    children(index)
                        .into_iter()
                        .flat_map(|(left, right)| [right, left]),
                ),
            }
        }
        found
    }

    /// The tree hash of every node, by index.
    pub(super) fn hashes(&self, suite: &Suite) -> Vec<Digest> {
        let mut hashes = vec![Digest::default(); self.width()];
        for level in 0..=height(root(self.width())) {
            let first = (1_usize << level) - 1;
            for index in (first..self.width()).step_by(2 << level) {
                self.rehash(suite, &mut hashes, index);
            }
        }
        hashes
    }

    /// Computes the hashes of a leaf and all above it anew.
    pub(super) fn rehash_path(&self, suite: &Suite, hashes: &mut [Digest], leaf: u32) {
        self.rehash(suite, hashes, of_leaf(leaf));
        for (index, _) in path_with_copath(leaf, self.width()) {
            self.rehash(suite, hashes, index);
        }
    }

    fn rehash(&self, suite: &Suite, hashes: &mut [Digest], index: usize) {
        let mut input = Vec::with_capacity(256);
        let node = self.node(index);
        match children(index) {
            None => {
                input.push(1);
                input.extend(to_leaf(index).unwrap_or_default().to_be_bytes());
                input.push(u8::from(node.is_some()));
                if let Some(Node::Leaf(leaf)) = node {
                    input.extend_from_slice(leaf.encoded);
                }
            }
            Some((left, right)) => {
                input.push(2);
                input.push(u8::from(node.is_some()));
                if let Some(Node::Parent(parent)) = node {
                    parent.write(&mut input);
                }
                for child in [left, right] {
                    put_vector(&mut input, hashes.get(child).map_or(&[][..], |hash| hash));
                }
            }
        }
        if let Some(hash) = hashes.get_mut(index) {
            *hash = suite.hash(&input);
        }
    }

    /// The tree hash, out of the hashes of its nodes.
    pub(super) fn root_hash(&self, hashes: &[Digest]) -> Digest {
        hashes.get(root(self.width())).copied().unwrap_or_default()
    }

    /// The first node in which two trees differ.
    pub(super) fn first_difference(&self, other: &Self) -> Option<usize> {
        let encoded = |tree: &Self, index| {
            let mut out = Vec::new();
            if let Some(node) = tree.node(index) {
                node.write(&mut out);
            }
            out
        };
        (0..self.width().max(other.width()))
            .find(|index| encoded(self, *index) != encoded(other, *index))
    }
}
