//! The keys and clients of the tree that a list of Proposals makes: each is there once.
//!
//! Source: RFC 9420, sections 7.3, 10 and 12.2.

use crate::mls::{
    codec::key_package::KeyPackage,
    tree::{Node, Tree, math::to_leaf, stored::StoredTree},
};
use std::collections::BTreeSet;

/// The keys and clients of some nodes.
#[derive(Default)]
struct Traces<'a> {
    encryption_keys: BTreeSet<&'a [u8]>,
    signature_keys: BTreeSet<&'a [u8]>,
    identities: BTreeSet<&'a [u8]>,
}

/// The keys and clients of a tree; none stands there twice.
pub(crate) struct Keys<'a> {
    stored: &'a StoredTree,
    /// Of nodes that are not as they were, as they were; without the keys that a Commit takes from a member which stays.
    gone: Traces<'a>,
    /// Of the same, as they are.
    come: Traces<'a>,
    /// The signature keys that updated leaves had.
    given_up: BTreeSet<&'a [u8]>,
}

/// A key or identity that is there twice, and which.
type Twice<'a> = (&'a [u8], &'static str);

impl<'a> Keys<'a> {
    /// Looks at what a tree holds that the stored tree does not; refuses a key or client that is there twice.
    ///
    /// What `updated` leaves give up counts for the others until the Commit is over: OpenMLS does not let anybody take it
    /// up in the same one. The error holds the key or identity beside the reason.
    pub(crate) fn of(tree: &Tree<'a>, updated: &BTreeSet<u32>) -> Result<Self, Twice<'a>> {
        let mut keys = Self {
            stored: tree.stored(),
            gone: Traces::default(),
            come: Traces::default(),
            given_up: BTreeSet::new(),
        };
        let touched: Vec<_> = tree.touched().collect();
        let stays = |index: usize| to_leaf(index).is_some_and(|leaf| updated.contains(&leaf));
        for (index, before, _) in &touched {
            let Some(node) = before else {
                continue;
            };
            if !stays(*index) {
                keys.gone.encryption_keys.insert(node.encryption_key());
            }
            if let Node::Leaf(leaf) = node {
                if stays(*index) {
                    keys.given_up.insert(leaf.signature_key);
                }
                keys.gone.signature_keys.insert(leaf.signature_key);
                keys.gone.identities.insert(leaf.identity);
            }
        }
        for node in touched.iter().filter_map(|(_, _, after)| after.as_ref()) {
            keys.bring(node)?;
        }
        Ok(keys)
    }

    fn bring(&mut self, node: &Node<'a>) -> Result<(), Twice<'a>> {
        let key = node.encryption_key();
        if self.has_encryption_key(key) {
            return Err((key, "encryption key is in the group twice"));
        }
        self.come.encryption_keys.insert(key);
        if let Node::Leaf(leaf) = node {
            if self.has_signature_key(leaf.signature_key) {
                return Err((leaf.signature_key, "signature key is in the group twice"));
            }
            if self.has_identity(leaf.identity) {
                return Err((leaf.identity, "client is in the group twice"));
            }
            self.come.signature_keys.insert(leaf.signature_key);
            self.come.identities.insert(leaf.identity);
        }
        Ok(())
    }

    /// Takes in what a KeyPackage has besides its leaf: an init key is used once, and is nobody's other key.
    pub(crate) fn admit(&mut self, package: &KeyPackage<'a>) -> Result<(), Twice<'a>> {
        if self.given_up.contains(package.leaf.signature_key) {
            return Err((
                package.leaf.signature_key,
                "signature key is in the group twice",
            ));
        }
        if self.has_encryption_key(package.init_key) {
            return Err((package.init_key, "init key is in use"));
        }
        self.come.encryption_keys.insert(package.init_key);
        Ok(())
    }

    pub(crate) fn has_encryption_key(&self, key: &[u8]) -> bool {
        let stays =
            || self.stored.has_encryption_key(key) && !self.gone.encryption_keys.contains(key);
        self.come.encryption_keys.contains(key) || stays()
    }

    pub(crate) fn has_signature_key(&self, key: &[u8]) -> bool {
        let stays =
            || self.stored.has_signature_key(key) && !self.gone.signature_keys.contains(key);
        self.come.signature_keys.contains(key) || stays()
    }

    pub(crate) fn has_identity(&self, identity: &[u8]) -> bool {
        let stays =
            || self.stored.has_identity(identity) && !self.gone.identities.contains(identity);
        self.come.identities.contains(identity) || stays()
    }
}
