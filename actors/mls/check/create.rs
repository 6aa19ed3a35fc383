//! New groups: whether a client may found a room with this one.
//!
//! Source: transport requirements, section 3.3; RFC 9420, section 11.

use super::{
    audit,
    hub_senders::HubSenders,
    keys::Keys,
    refused::{BundleRefused, SenderRefused, TreeRefused, in_part},
    terms::Terms,
};
use crate::{
    ids::ClientUri,
    mls::{
        codec::{
            extension,
            framing::interim_transcript_hash,
            group_info::GroupInfo,
            leaf::{Leaf, Source},
            suite::Suite,
        },
        tree::{
            Tree, container,
            stored::StoredTree,
            view::{GroupView, Member, members_of},
        },
    },
    wire::tree::TreeContainer,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A new group that may be a room's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedCreate {
    /// Its public state in epoch 0.
    pub view: GroupView,
    /// Its only member.
    pub members: Vec<Member>,
}

/// Decides whether a new group (GroupInfo as an MLSMessage, tree full or zstd) may be a room's.
///
/// It must have a name, be in epoch 0, hold nobody but its creator, and let the hub propose under its own name. The
/// confirmation tag cannot be checked without the group's secrets.
///
/// # Errors
/// [`BundleRefused`] says which rule it breaks.
pub fn check_create(
    group_info: &Bytes,
    container: &TreeContainer,
    hub: &HubSenders,
    creator: &ClientUri,
    terms: &Terms,
) -> Result<CheckedCreate, BundleRefused> {
    const FIELD: fn(&'static str) -> BundleRefused =
        |field| BundleRefused::GroupInfoMismatch { field };
    let info = GroupInfo::read(group_info).map_err(in_part("GroupInfo"))?;
    let tree = container::founding(container)?;
    let stored = StoredTree::indexed(&tree).map_err(in_part("ratchet tree"))?;
    let members = Tree::of(&stored);
    let context = &info.context;
    let suite = Suite::new(context.ciphersuite).ok_or(BundleRefused::Unsupported("ciphersuite"))?;
    if context.epoch != 0 {
        return Err(BundleRefused::WrongEpoch {
            commit: context.epoch,
            current: 0,
        });
    }
    let leaf = members
        .leaf(0)
        .ok_or(BundleRefused::Sender(SenderRefused::NotMember))?;
    if members.width() != 1 {
        return Err(TreeRefused::Mismatch("a new group has one member").into());
    }
    if leaf.client().as_ref() != Some(creator) {
        return Err(BundleRefused::Sender(SenderRefused::NotBound));
    }
    Keys::of(&members, &BTreeSet::new()).map_err(|(_, reason)| TreeRefused::Mismatch(reason))?;
    check_leaf(&leaf, &info, &suite)?;
    if context.tree_hash != members.root_hash(&members.hashes(&suite)) {
        return Err(TreeRefused::Hash.into());
    }
    if context.group_id.is_empty() {
        return Err(FIELD("group_id"));
    }
    if !context.confirmed_transcript_hash.is_empty() {
        return Err(FIELD("confirmed_transcript_hash"));
    }
    let hub_is_in = hub.is_in(&context.extensions.list);
    if !hub_is_in.map_err(in_part("GroupInfo"))? {
        return Err(FIELD("external_senders"));
    }
    if info.signer != 0 {
        return Err(FIELD("signer"));
    }
    if let Some(field) = info.flaw(&suite) {
        return Err(FIELD(field));
    }
    if !info.signature_is_right(&suite, leaf.signature_key) {
        return Err(BundleRefused::Signature { of: "GroupInfo" });
    }
    audit::group(context.group_id, &tree, group_info, terms);
    let interim = interim_transcript_hash(
        &suite,
        context.confirmed_transcript_hash,
        info.confirmation_tag,
    );
    let view = GroupView {
        group_context: Bytes::copy_from_slice(context.encoded),
        confirmation_tag: Bytes::copy_from_slice(info.confirmation_tag),
        interim_transcript_hash: Bytes::copy_from_slice(&interim),
        group_info: group_info.clone(),
        tree: tree.clone(),
    };
    let members = members_of(&members).map_err(in_part("ratchet tree"))?;
    Ok(CheckedCreate { view, members })
}

/// The creator's leaf is valid in its own group.
fn check_leaf(leaf: &Leaf<'_>, info: &GroupInfo<'_>, suite: &Suite) -> Result<(), BundleRefused> {
    let context = &info.context;
    let extensions = &context.extensions.list;
    let required =
        extension::required(extensions).map_err(|cause| in_part("GroupInfo")(cause.into()))?;
    let place = match leaf.source {
        Source::KeyPackage { .. } => None,
        Source::Update | Source::Commit { .. } => Some((context.group_id, 0)),
    };
    if let Some(flaw) = leaf
        .flaw(suite, context.ciphersuite)
        .or_else(|| leaf.lacks(extensions, &required))
    {
        return Err(TreeRefused::Mismatch(flaw).into());
    }
    if !leaf.signature_is_right(suite, place) {
        return Err(BundleRefused::Signature { of: "leaf" });
    }
    Ok(())
}
