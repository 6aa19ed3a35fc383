//! Proposals that wait for a Commit: whether one may.
//!
//! A Proposal is checked on its own against the group as it is; whether several fit together, the Commit decides.
//!
//! Source: transport requirements, section 4; RFC 9420, section 12.1.

use super::{change::Group, hub_senders::HubSenders};
use crate::{
    ids::ClientUri,
    limits::PROPOSAL_BYTES_MAX,
    machine::Millis,
    mls::{
        codec::{
            commit::Proposal,
            context::Context,
            framing::Framed,
            message::{HandshakeKind, Sender, handshake_header},
            reader::{Malformed, Unreadable},
            suite::{Digest, Suite},
        },
        tree::{Tree, cache::TreeCache, view::GroupView},
    },
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A Proposal that waits for a Commit of its epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingProposal {
    /// Its ProposalRef.
    pub reference: Bytes,
    /// The leaf that sent it; of one that the hub made, the leaf that it is about.
    pub leaf: u32,
    /// What it proposes.
    pub kind: ProposalKind,
    /// The MLSMessage exactly as it was sent.
    pub message: Bytes,
    /// When the hub accepted it; zero until it has.
    pub accepted: Millis,
}

/// What a Proposal is for, as far as a room must know it to choose among Commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProposalKind {
    /// Add a client.
    Add,
    /// Renew the proposer's leaf.
    Update,
    /// Remove the client at this leaf.
    Remove(u32),
    /// The proposer leaves: a Commit must take it in.
    SelfRemove,
    /// Change the extensions of the GroupContext.
    Extensions,
    /// Let another group follow this one.
    ReInit,
    /// The hub proposes to remove the client at this leaf: a Commit must take it in.
    Expel(u32),
}

impl PendingProposal {
    /// Whether the client at its leaf leaves by it: of its own will, in either of the two ways there are, or of the hub's.
    #[must_use]
    pub fn leaves(&self) -> bool {
        match self.kind {
            ProposalKind::SelfRemove | ProposalKind::Expel(_) => true,
            ProposalKind::Remove(leaf) => leaf == self.leaf,
            ProposalKind::Add
            | ProposalKind::Update
            | ProposalKind::Extensions
            | ProposalKind::ReInit => false,
        }
    }
}

/// Those of `covered` that contradict each other: two members that remove one another. No Commit may take in both.
#[must_use]
pub fn contradicting(covered: &[&PendingProposal]) -> Vec<Bytes> {
    let removed = |one: &PendingProposal| match one.kind {
        ProposalKind::Remove(leaf) => Some(leaf),
        ProposalKind::Add
        | ProposalKind::Update
        | ProposalKind::SelfRemove
        | ProposalKind::Extensions
        | ProposalKind::ReInit
        | ProposalKind::Expel(_) => None,
    };
    let edges: BTreeSet<(u32, u32)> = covered
        .iter()
        .filter_map(|one| Some((one.leaf, removed(one)?)))
        .collect();
    covered
        .iter()
        .filter(|one| !one.leaves())
        .filter(|one| removed(one).is_some_and(|leaf| edges.contains(&(leaf, one.leaf))))
        .map(|one| one.reference.clone())
        .collect()
}

/// Those of `pending` by which a member leaves, or by which the hub removes it, whom a Commit that removes `removed` leaves
/// in: every Commit must let it go. An external Commit cannot take in a Remove, which then is void with its epoch; what the
/// hub proposed it proposes anew.
#[must_use]
pub fn omitted(pending: &[PendingProposal], removed: &BTreeSet<u32>, external: bool) -> Vec<Bytes> {
    pending
        .iter()
        .filter(|one| one.kind == ProposalKind::SelfRemove || !external)
        .filter(|one| one.leaves() && !removed.contains(&one.leaf))
        .map(|one| one.reference.clone())
        .collect()
}

/// The leaves that the hub proposes to remove.
pub fn expelled(pending: &[PendingProposal]) -> impl Iterator<Item = u32> {
    pending.iter().filter_map(|one| match one.kind {
        ProposalKind::Expel(leaf) => Some(leaf),
        ProposalKind::Add
        | ProposalKind::Update
        | ProposalKind::Remove(_)
        | ProposalKind::SelfRemove
        | ProposalKind::Extensions
        | ProposalKind::ReInit => None,
    })
}

/// Why a Proposal is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposalRefused {
    /// The bytes are not a well-formed Proposal, or the view is not one.
    #[error("malformed Proposal: {0}")]
    Malformed(Malformed),
    /// It is of a kind that this hub does not take.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// It is for another group.
    #[error("the Proposal is for another group")]
    WrongGroup,
    /// It is for another epoch.
    #[error("the Proposal is for epoch {proposal}, the group is in epoch {current}")]
    WrongEpoch {
        /// Epoch of the Proposal.
        proposal: u64,
        /// Epoch of the group.
        current: u64,
    },
    /// The leaf that sent it is blank.
    #[error("the sender is not a member")]
    NotMember,
    /// The leaf that sent it belongs to another client.
    #[error("the sending leaf belongs to another client")]
    SenderNotBound,
    /// Its signature is wrong.
    #[error("the signature of the Proposal is wrong")]
    Signature,
    /// It breaks a rule of RFC 9420.
    #[error("invalid Proposal: {0}")]
    Invalid(&'static str),
}

impl From<Unreadable> for ProposalRefused {
    fn from(cause: Unreadable) -> Self {
        match cause {
            Unreadable::Malformed(cause) => Self::Malformed(cause),
            Unreadable::Unsupported(what) => Self::Unsupported(what),
        }
    }
}

/// Decides whether a Proposal (as an MLSMessage) by a member may wait for a Commit; `trees` may hold the group's. By `now`
/// a KeyPackage that it adds must be good.
///
/// The membership tag cannot be checked without the group's secrets.
///
/// # Errors
/// [`ProposalRefused`] says which rule it breaks.
pub fn check_proposal(
    view: &GroupView,
    message: &Bytes,
    sender: &ClientUri,
    now: Millis,
    trees: &TreeCache,
    hub: &HubSenders,
) -> Result<PendingProposal, ProposalRefused> {
    let context = view.context()?;
    let header = handshake_header(message)?;
    if header.group_id != context.group_id {
        return Err(ProposalRefused::WrongGroup);
    }
    if header.epoch != context.epoch {
        return Err(ProposalRefused::WrongEpoch {
            proposal: header.epoch,
            current: context.epoch,
        });
    }
    let Sender::Member(proposer) = header.sender else {
        return Err(ProposalRefused::Unsupported(
            "Proposal from outside the group",
        ));
    };
    let framed = read(message)?;
    let stored = trees.take(context.tree_hash, &view.tree)?;
    let judged = judge(
        view,
        &context,
        &Tree::of(&stored),
        &framed,
        (proposer, sender),
        (hub, now),
    );
    trees.put(context.tree_hash, stored, None);
    let reference = judged?;
    Ok(PendingProposal {
        reference: Bytes::copy_from_slice(&reference),
        leaf: proposer,
        kind: kind_of(&framed.body),
        message: message.clone(),
        accepted: Millis::default(),
    })
}

/// The ProposalRef of a Proposal that may wait.
fn judge(
    view: &GroupView,
    context: &Context<'_>,
    tree: &Tree<'_>,
    framed: &Framed<'_, Proposal<'_>>,
    (proposer, sender): (u32, &ClientUri),
    (hub, now): (&HubSenders, Millis),
) -> Result<Digest, ProposalRefused> {
    let suite =
        Suite::new(context.ciphersuite).ok_or(ProposalRefused::Unsupported("ciphersuite"))?;
    let leaf = tree.leaf(proposer).ok_or(ProposalRefused::NotMember)?;
    if leaf.client().as_ref() != Some(sender) {
        return Err(ProposalRefused::SenderNotBound);
    }
    if !framed.signature_is_right(&suite, leaf.signature_key, &view.group_context) {
        return Err(ProposalRefused::Signature);
    }
    let group = Group {
        suite: &suite,
        suite_number: context.ciphersuite,
        group_id: context.group_id,
        extensions: &context.extensions.list,
        tree,
        now,
    };
    if let Some(flaw) = group.flaw_of_waiting(&framed.body, proposer) {
        return Err(ProposalRefused::Invalid(flaw));
    }
    if let Proposal::Extensions(next) = &framed.body
        && let Some(flaw) = hub.flaw(&context.extensions.list, &next.list)?
    {
        return Err(ProposalRefused::Invalid(flaw));
    }
    Ok(framed.reference(&suite))
}

/// What a Proposal that may wait is for.
const fn kind_of(proposal: &Proposal<'_>) -> ProposalKind {
    match proposal {
        Proposal::Add(_) => ProposalKind::Add,
        Proposal::Update(_) => ProposalKind::Update,
        Proposal::Remove(leaf) => ProposalKind::Remove(*leaf),
        Proposal::SelfRemove => ProposalKind::SelfRemove,
        // An ExternalInit does not get this far.
        Proposal::Extensions(_) | Proposal::ExternalInit { .. } => ProposalKind::Extensions,
        Proposal::ReInit(_) => ProposalKind::ReInit,
    }
}

/// Reads a whole MLSMessage that holds a Proposal.
pub(crate) fn read(message: &[u8]) -> Result<Framed<'_, Proposal<'_>>, Unreadable> {
    Framed::read(
        message,
        HandshakeKind::Proposal,
        PROPOSAL_BYTES_MAX,
        Proposal::read,
    )
}
