//! The list of Proposals of a Commit: whether it is valid, and what it makes of the tree.
//!
//! Source: RFC 9420, sections 12.1, 12.2 and 12.3.

use super::keys::Keys;
use crate::{
    machine::Millis,
    mls::{
        codec::{
            commit::{ContextExtensions, Proposal, SELF_REMOVE},
            extension::{self, Extension},
            key_package::KeyPackage,
            leaf::{Leaf, Source},
            suite::{Digest, MLS_10, Suite},
        },
        tree::{Node, Tree},
    },
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

/// A Proposal of the list, with the leaf that made it.
pub(crate) struct Item<'a> {
    pub(crate) proposal: Proposal<'a>,
    pub(crate) proposer: u32,
    /// Its ProposalRef, if the Commit names it and does not hold it.
    pub(crate) reference: Option<Bytes>,
}

/// Why a list is not valid.
#[derive(Debug)]
pub(crate) struct Flaw {
    /// Refs of the Proposals concerned; those held by the Commit have none.
    pub(crate) references: Vec<Bytes>,
    pub(crate) reason: &'static str,
}

impl Flaw {
    pub(crate) fn of(item: &Item<'_>, reason: &'static str) -> Self {
        Self {
            references: item.reference.iter().cloned().collect(),
            reason,
        }
    }

    /// Of all that bring in a leaf with this key or identity; or all that change the extensions, if `or_extensions`.
    fn of_bringers(
        items: &[Item<'_>],
        trace: &[u8],
        or_extensions: bool,
        reason: &'static str,
    ) -> Self {
        let brings = |item: &&Item<'_>| {
            let leaf = match &item.proposal {
                Proposal::Add(package) if package.init_key == trace => return true,
                Proposal::Add(package) => &package.leaf,
                Proposal::Update(leaf) => leaf,
                Proposal::Extensions(_) | Proposal::SelfRemove => return or_extensions,
                Proposal::Remove(_) | Proposal::ReInit(_) | Proposal::ExternalInit { .. } => {
                    return false;
                }
            };
            [leaf.encryption_key, leaf.signature_key, leaf.identity].contains(&trace)
        };
        Self {
            references: items
                .iter()
                .filter(brings)
                .filter_map(|item| item.reference.clone())
                .collect(),
            reason,
        }
    }
}

/// Who proposes what stands in an external Commit: no leaf has this number.
pub(crate) const NOBODY: u32 = u32::MAX;

/// The group that Proposals are checked against.
pub(crate) struct Group<'g, 'a> {
    pub(crate) suite: &'g Suite,
    pub(crate) suite_number: u16,
    pub(crate) group_id: &'a [u8],
    /// Extensions of the GroupContext.
    pub(crate) extensions: &'g [Extension<'a>],
    pub(crate) tree: &'g Tree<'a>,
    /// When whoever is added must have a KeyPackage that is good.
    pub(crate) now: Millis,
}

impl<'a> Group<'_, 'a> {
    /// What is wrong with a Proposal that is to wait. Which Commit takes it in is not known yet, and who is gone by then:
    /// what all members must support, all must support now, for OpenMLS takes in whatever waits or makes no Commit.
    pub(crate) fn flaw_of_waiting(
        &self,
        proposal: &Proposal<'a>,
        proposer: u32,
    ) -> Option<&'static str> {
        match proposal {
            Proposal::Extensions(new) => self
                .tree
                .leaves()
                .find_map(|(_, leaf)| lacks(&leaf, &new.list)),
            Proposal::SelfRemove => (!self.all_support(SELF_REMOVE))
                .then_some("a member does not declare the proposal type"),
            Proposal::Add(_)
            | Proposal::Update(_)
            | Proposal::Remove(_)
            | Proposal::ReInit(_)
            | Proposal::ExternalInit { .. } => self.flaw(proposal, proposer),
        }
    }

    /// What is wrong with a Proposal on its own, whatever else a Commit holds.
    fn flaw(&self, proposal: &Proposal<'a>, proposer: u32) -> Option<&'static str> {
        match proposal {
            Proposal::Add(package) => self.flaw_of_add(package),
            Proposal::Update(leaf) => self.flaw_of_update(leaf, proposer),
            Proposal::Remove(leaf) if self.tree.leaf(*leaf).is_none() => {
                Some("removes a leaf that is blank")
            }
            Proposal::ReInit(next) if next.version < MLS_10 => {
                Some("goes back to an older version")
            }
            Proposal::ReInit(next) if next.group_id == self.group_id => {
                Some("the group that follows has the id of this one")
            }
            Proposal::ExternalInit { .. } if proposer != NOBODY => {
                Some("ExternalInit stands in external Commits only")
            }
            // What RFC 9180 encapsulates is a public key of the same form.
            Proposal::ExternalInit { kem_output } if !self.suite.is_encryption_key(kem_output) => {
                Some("KEM output of the ExternalInit is none of the ciphersuite")
            }
            // Whether all support what comes is asked of those who are members then.
            Proposal::Remove(_)
            | Proposal::ReInit(_)
            | Proposal::ExternalInit { .. }
            | Proposal::Extensions(_)
            | Proposal::SelfRemove => None,
        }
    }

    fn all_support(&self, proposal_type: u16) -> bool {
        let mut leaves = self.tree.leaves();
        leaves.all(|(_, leaf)| leaf.supports_proposal(proposal_type))
    }

    fn flaw_of_add(&self, package: &KeyPackage<'_>) -> Option<&'static str> {
        if package.ciphersuite != self.suite_number {
            return Some("adds a KeyPackage of another ciphersuite");
        }
        if !package.leaf.is_good_at(self.now) {
            return Some("adds a KeyPackage whose lifetime does not contain the present");
        }
        package.flaw(self.suite).or_else(|| {
            package
                .wrong_signature(self.suite)
                .map(|_| "adds a KeyPackage with a wrong signature")
        })
    }

    fn flaw_of_update(&self, leaf: &Leaf<'_>, proposer: u32) -> Option<&'static str> {
        let Some(old) = self.tree.leaf(proposer) else {
            return Some("updates a leaf that is blank");
        };
        if leaf.source != Source::Update {
            Some("leaf of the update is not one of an Update")
        } else if leaf.identity != old.identity {
            Some("leaf of the update names another client")
        } else if leaf.encryption_key == old.encryption_key {
            Some("update keeps its encryption key")
        } else if !leaf.signature_is_right(self.suite, Some((self.group_id, proposer))) {
            Some("signature of the updated leaf is wrong")
        } else {
            leaf.flaw(self.suite, self.suite_number)
        }
    }
}

fn lacks(leaf: &Leaf<'_>, extensions: &[Extension<'_>]) -> Option<&'static str> {
    extension::required(extensions).map_or(Some("required capabilities do not read"), |required| {
        leaf.lacks(extensions, &required)
    })
}

/// What a valid list makes of a group.
pub(crate) struct Changed<'a> {
    pub(crate) tree: Tree<'a>,
    pub(crate) keys: Keys<'a>,
    /// New leaves with the KeyPackageRef they came from.
    pub(crate) added: BTreeMap<u32, Digest>,
    pub(crate) removed: BTreeSet<u32>,
    /// The new extensions of the GroupContext, if they change.
    pub(crate) extensions: Option<ContextExtensions<'a>>,
    /// Whether another group is to follow this one.
    pub(crate) reinit: bool,
}

/// Applies a list: extensions, then Updates, Removes and Adds.
pub(crate) fn apply<'a>(
    group: &Group<'_, 'a>,
    items: &[Item<'a>],
    committer: u32,
) -> Result<Changed<'a>, Flaw> {
    // First what is cheap: it also bounds how often the members must be asked what they support.
    let sorted = Sorted::of(items, committer)?;
    if sorted.reinit && items.len() > 1 {
        let named = items.iter().filter_map(|item| item.reference.clone());
        return Err(Flaw {
            references: named.collect(),
            reason: "a ReInit stands beside other proposals",
        });
    }
    for item in items {
        if let Some(reason) = group.flaw(&item.proposal, item.proposer) {
            return Err(Flaw::of(item, reason));
        }
    }
    let mut tree = group.tree.clone();
    for (leaf, new) in &sorted.updates {
        tree.update(*leaf, Rc::clone(new));
    }
    for leaf in &sorted.removes {
        tree.remove(*leaf);
    }
    let mut added = BTreeMap::new();
    for package in &sorted.adds {
        let leaf = Rc::new(package.leaf.clone());
        let full = || Flaw::of_bringers(items, package.leaf.identity, false, "the tree is full");
        added.insert(
            tree.add(leaf).ok_or_else(full)?,
            package.reference(group.suite),
        );
    }
    let updated = sorted.updates.keys().copied().collect();
    let keys = Keys::of(&tree, &updated).and_then(|mut keys| {
        let mut adds = sorted.adds.iter();
        adds.try_for_each(|package| keys.admit(package))?;
        Ok(keys)
    });
    let keys = keys.map_err(|(trace, reason)| Flaw::of_bringers(items, trace, false, reason))?;
    check_support(group, &sorted, &tree)
        .map_err(|(trace, reason)| Flaw::of_bringers(items, trace, true, reason))?;
    let removed = sorted.removes.clone();
    Ok(Changed {
        tree,
        keys,
        added,
        removed,
        extensions: sorted.extensions.cloned(),
        reinit: sorted.reinit,
    })
}

/// Every member supports what the group uses from then on.
fn check_support<'a>(
    group: &Group<'_, 'a>,
    sorted: &Sorted<'_, 'a>,
    tree: &Tree<'a>,
) -> Result<(), (&'a [u8], &'static str)> {
    let extensions = sorted.extensions.map_or(group.extensions, |new| &new.list);
    let lacking = |leaf: Rc<Leaf<'a>>| Some((leaf.identity, lacks(&leaf, extensions)?));
    // What a member had to support before it supports still; only what is new must be looked at.
    let new = tree.touched().filter_map(|(_, _, node)| match node {
        Some(Node::Leaf(leaf)) => Some(leaf),
        Some(Node::Parent(_)) | None => None,
    });
    let refusal = if sorted.extensions.is_some() {
        tree.leaves().map(|(_, leaf)| leaf).find_map(lacking)
    } else {
        new.into_iter().find_map(lacking)
    };
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    let mut stay = group
        .tree
        .leaves()
        .filter(|(leaf, _)| !sorted.removes.contains(leaf));
    if sorted.has_self_remove && !stay.all(|(_, leaf)| leaf.supports_proposal(SELF_REMOVE)) {
        return Err((&[], "a member does not support a proposal type"));
    }
    Ok(())
}

/// A list by kind, in the order in which it is applied.
#[derive(Default)]
struct Sorted<'i, 'a> {
    extensions: Option<&'i ContextExtensions<'a>>,
    updates: BTreeMap<u32, Rc<Leaf<'a>>>,
    removes: BTreeSet<u32>,
    adds: Vec<&'i KeyPackage<'a>>,
    has_self_remove: bool,
    reinit: bool,
}

impl<'i, 'a> Sorted<'i, 'a> {
    fn of(items: &'i [Item<'a>], committer: u32) -> Result<Self, Flaw> {
        let mut sorted = Self::default();
        for item in items {
            sorted
                .take(item, committer)
                .map_err(|reason| blame(items, item, reason))?;
        }
        Ok(sorted)
    }

    fn take(&mut self, item: &'i Item<'a>, committer: u32) -> Result<(), &'static str> {
        match &item.proposal {
            Proposal::Add(package) => self.adds.push(package),
            Proposal::Update(_) if item.proposer == committer => {
                return Err("committer updates its own leaf");
            }
            Proposal::Update(leaf) => {
                if self.removes.contains(&item.proposer)
                    || self
                        .updates
                        .insert(item.proposer, Rc::clone(leaf))
                        .is_some()
                {
                    return Err("two proposals change one leaf");
                }
            }
            Proposal::ReInit(_) => self.reinit = true,
            Proposal::ExternalInit { .. } => {}
            Proposal::SelfRemove if item.reference.is_none() => {
                return Err("SelfRemove is not by reference");
            }
            Proposal::SelfRemove => {
                self.has_self_remove = true;
                self.remove(item.proposer, committer)?;
            }
            Proposal::Remove(leaf) => self.remove(*leaf, committer)?,
            Proposal::Extensions(new) => {
                if self.extensions.replace(new).is_some() {
                    return Err("two proposals change the extensions");
                }
            }
        }
        Ok(())
    }

    fn remove(&mut self, leaf: u32, committer: u32) -> Result<(), &'static str> {
        if leaf == committer {
            return Err("committer is removed");
        }
        if self.updates.contains_key(&leaf) || !self.removes.insert(leaf) {
            return Err("two proposals change one leaf");
        }
        Ok(())
    }
}

/// The Proposals that a flaw of `item` concerns: with it, those that change the same thing.
fn blame(items: &[Item<'_>], item: &Item<'_>, reason: &'static str) -> Flaw {
    let target = |item: &Item<'_>| match &item.proposal {
        Proposal::Update(_) | Proposal::SelfRemove => Some(u64::from(item.proposer)),
        Proposal::Remove(leaf) => Some(u64::from(*leaf)),
        Proposal::Extensions(_) => Some(u64::MAX),
        Proposal::Add(_) | Proposal::ReInit(_) | Proposal::ExternalInit { .. } => None,
    };
    let same = |other: &&Item<'_>| target(other).is_some() && target(other) == target(item);
    let references = items
        .iter()
        .filter(same)
        .filter_map(|item| item.reference.clone())
        .collect();
    Flaw { references, reason }
}
