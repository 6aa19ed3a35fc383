//! External Commits: a client adds itself, with nothing but the public state of the group.
//!
//! Source: RFC 9420, section 12.4.3.2; transport requirements, sections 3.2 and 3.3.

use super::{
    change::{Changed, Flaw, Group, Item},
    refused::{BundleRefused, SenderRefused, TreeRefused},
};
use crate::{
    ids::ClientUri,
    mls::codec::{
        commit::{Commit, Proposal},
        leaf::Leaf,
    },
};
use std::rc::Rc;

/// The leaf that an external Commit brings, which must be one of `sender`.
pub(crate) fn own_leaf<'c, 'a>(
    commit: &'c Commit<'a>,
    sender: &ClientUri,
) -> Result<&'c Rc<Leaf<'a>>, BundleRefused> {
    let path = commit.path.as_ref();
    let path = path.ok_or(TreeRefused::Path("an external Commit must have one"))?;
    if path.leaf.client().as_ref() == Some(sender) {
        Ok(&path.leaf)
    } else {
        Err(SenderRefused::NotBound.into())
    }
}

/// An external Commit holds one ExternalInit, at most one Remove, which is of the sender's own former leaf, and
/// nothing else but SelfRemoves that wait.
pub(crate) fn check_list(
    group: &Group<'_, '_>,
    items: &[Item<'_>],
    sender: &ClientUri,
) -> Result<(), Flaw> {
    let (mut inits, mut removes) = (0, 0);
    for item in items {
        match (&item.proposal, &item.reference) {
            (Proposal::ExternalInit { .. }, None) => inits += 1,
            (Proposal::Remove(leaf), None) => {
                removes += 1;
                let former = group.tree.leaf(*leaf).and_then(|leaf| leaf.client());
                if former.as_ref() != Some(sender) {
                    return Err(Flaw::of(item, "an external Commit removes another client"));
                }
            }
            (Proposal::SelfRemove, Some(_)) => {}
            (
                Proposal::ExternalInit { .. }
                | Proposal::Remove(_)
                | Proposal::SelfRemove
                | Proposal::Add(_)
                | Proposal::Update(_)
                | Proposal::ReInit(_)
                | Proposal::Extensions(_),
                _,
            ) => return Err(Flaw::of(item, "an external Commit may not hold this")),
        }
    }
    let flaw = |reason| {
        Err(Flaw {
            references: vec![],
            reason,
        })
    };
    if inits != 1 {
        return flaw("an external Commit must hold exactly one ExternalInit");
    }
    if removes > 1 {
        return flaw("an external Commit removes more than one leaf");
    }
    Ok(())
}

/// Gives the joiner its place in the tree that the Proposals made, and tells it.
pub(crate) fn enter<'a>(
    changed: &mut Changed<'a>,
    leaf: &Rc<Leaf<'a>>,
) -> Result<u32, BundleRefused> {
    let flaw = |reason| BundleRefused::InvalidProposals {
        references: vec![],
        reason,
    };
    if changed.keys.has_identity(leaf.identity) {
        return Err(flaw("client is in the group twice"));
    }
    if changed.keys.has_signature_key(leaf.signature_key) {
        return Err(flaw("signature key is in the group twice"));
    }
    let place = changed.tree.add(Rc::clone(leaf));
    place.ok_or_else(|| flaw("the tree is full"))
}
