//! The tree of an epoch as it is stored: its nodes as bytes, the hash of every subtree, and the keys in it.
//!
//! A worker can keep it from one Commit to the next ([`super::cache`]); what the next Commit changes is then all that is
//! read, hashed and compared. Not here: meaning; a stored tree is one that was checked.
//!
//! Source: RFC 9420, sections 7.8 and 12.4.3.3.

use super::{Node, Step};
use crate::{
    limits::{TREE_BYTES_MAX, TREE_NODES_MAX},
    mls::codec::{
        reader::{Reader, Unreadable},
        suite::Digest,
    },
};
use std::collections::BTreeSet;

/// A stored tree.
#[derive(Debug, Default)]
pub(crate) struct StoredTree {
    /// As many as one less than a power of two; each a Node as it is encoded.
    nodes: Vec<Option<Box<[u8]>>>,
    /// Of all nodes, or of none: they are computed when a Commit asks for them.
    hashes: Vec<Digest>,
    /// Nodes up to the last that is not blank.
    used: usize,
    /// Bytes of all nodes.
    bytes: usize,
    encryption_keys: BTreeSet<Box<[u8]>>,
    signature_keys: BTreeSet<Box<[u8]>>,
    identities: BTreeSet<Box<[u8]>>,
}

impl StoredTree {
    /// Reads the vector of optional nodes that stands in a ratchet_tree extension, each node to its end.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::bounded(bytes, "ratchet tree", TREE_BYTES_MAX)?;
        let list = reader.inner("ratchet tree", TREE_BYTES_MAX)?;
        reader.finish()?;
        let mut index = 0;
        let nodes = list.each("tree nodes", TREE_NODES_MAX, |list| {
            let present = list.present()?;
            let start = list.clone();
            let node = present.then(|| Node::read(list, index)).transpose()?;
            index += 1;
            Ok::<_, Unreadable>(node.map(|_| Box::from(list.since(&start))))
        })?;
        if !matches!(nodes.last(), Some(Some(_))) || nodes.len() & 1 == 0 {
            return Err(reader.bad_value("last node of the tree").into());
        }
        let used = nodes.len();
        let mut stored = Self {
            nodes,
            used,
            bytes: bytes.len(),
            ..Self::default()
        };
        let width = (used + 1).next_power_of_two() - 1;
        stored.nodes.resize_with(width, || None);
        Ok(stored)
    }

    /// As [`Self::read`], with the keys, which only a Commit is compared with.
    pub(crate) fn indexed(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut stored = Self::read(bytes)?;
        let nodes = std::mem::take(&mut stored.nodes);
        for (index, encoded) in nodes.iter().enumerate() {
            if let Some(encoded) = encoded {
                stored.note(&Node::read(&mut Reader::new(encoded), index)?);
            }
        }
        stored.nodes = nodes;
        Ok(stored)
    }

    /// How many leaves are not blank; of a tree with its keys.
    pub(crate) fn members(&self) -> usize {
        self.identities.len()
    }

    fn note(&mut self, node: &Node<'_>) {
        self.encryption_keys.insert(node.encryption_key().into());
        if let Node::Leaf(leaf) = node {
            self.signature_keys.insert(leaf.signature_key.into());
            self.identities.insert(leaf.identity.into());
        }
    }

    fn forget(&mut self, node: &Node<'_>) {
        self.encryption_keys.remove(node.encryption_key());
        if let Node::Leaf(leaf) = node {
            self.signature_keys.remove(leaf.signature_key);
            self.identities.remove(leaf.identity);
        }
    }

    /// Number of nodes, blank ones included.
    pub(crate) fn width(&self) -> usize {
        self.nodes.len()
    }

    /// Nodes up to the last that is not blank.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// About how many bytes the encoded tree has.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// About how much memory it takes, in bytes.
    pub(crate) fn memory(&self) -> usize {
        const NODE: usize = size_of::<Option<Box<[u8]>>>() + size_of::<Digest>();
        2 * self.bytes + self.nodes.len() * NODE + self.encryption_keys.len() * 128
    }

    /// A node that is not blank, as it is encoded.
    pub(crate) fn node(&self, index: usize) -> Option<&[u8]> {
        self.nodes.get(index)?.as_deref()
    }

    /// The hashes of all nodes; empty while they were never computed.
    pub(crate) fn hashes(&self) -> &[Digest] {
        &self.hashes
    }

    /// Whether a node has this public key.
    pub(crate) fn has_encryption_key(&self, key: &[u8]) -> bool {
        self.encryption_keys.contains(key)
    }

    /// Whether a leaf has this signature key.
    pub(crate) fn has_signature_key(&self, key: &[u8]) -> bool {
        self.signature_keys.contains(key)
    }

    /// Whether a leaf has this identity.
    pub(crate) fn has_identity(&self, identity: &[u8]) -> bool {
        self.identities.contains(identity)
    }

    /// Becomes the tree that a Commit made of it.
    pub(crate) fn take(&mut self, step: Step) {
        // All that goes first: a key may move from one place to another.
        let mut touched: BTreeSet<usize> = step.nodes.iter().map(|(index, _)| *index).collect();
        touched.extend(step.width..self.nodes.len());
        for index in touched {
            if let Some(old) = self.nodes.get_mut(index).and_then(Option::take) {
                self.bytes = self.bytes.saturating_sub(old.len());
                if let Ok(node) = Node::read(&mut Reader::new(&old), index) {
                    self.forget(&node);
                }
            }
        }
        self.nodes.resize_with(step.width, || None);
        self.hashes.resize(step.width, Digest::default());
        for (index, new) in step.nodes {
            let Some(new) = new else { continue };
            if let Ok(node) = Node::read(&mut Reader::new(&new), index) {
                self.note(&node);
            }
            self.bytes += new.len();
            if let Some(place) = self.nodes.get_mut(index) {
                *place = Some(new);
            }
        }
        for (index, hash) in step.hashes {
            if let Some(place) = self.hashes.get_mut(index) {
                *place = hash;
            }
        }
        self.used = self
            .nodes
            .iter()
            .rposition(Option::is_some)
            .map_or(0, |last| last + 1);
    }
}
