//! Proposals of the model: those of members, checked, and the hub's own.

use super::{
    From, HUB, Proposed, base_of, content_of, decode, encode, leaf_at, public_message, reference_of,
};
use crate::{
    ids::ClientUri,
    machine::Millis,
    mls::{
        check::{
            expel::NotProposed,
            proposal::{PendingProposal, ProposalKind, ProposalRefused},
        },
        codec::message::{HandshakeKind, Sender, handshake_header},
        tree::view::GroupView,
    },
};
use bytes::Bytes;

/// The Proposals that wait, as the model reads them.
pub(super) fn read_pending(
    group_id: &[u8],
    pending: &[PendingProposal],
) -> Vec<(Bytes, u32, Proposed)> {
    pending
        .iter()
        .filter_map(|waiting| {
            let content = content_of(&waiting.message, group_id, true)?;
            let sender = match waiting.kind {
                ProposalKind::Expel(_) => HUB,
                _ => waiting.leaf,
            };
            Some((waiting.reference.clone(), sender, decode(&content)?))
        })
        .collect()
}

pub(super) fn check_proposal(
    view: &GroupView,
    message: &Bytes,
    sender: &ClientUri,
) -> Result<PendingProposal, ProposalRefused> {
    let header = handshake_header(message)?;
    let base = base_of(view).ok_or(ProposalRefused::Invalid("the view is not the model's"))?;
    let group_id = view.group_id()?;
    if header.kind != HandshakeKind::Proposal {
        return Err(ProposalRefused::Unsupported("no Proposal"));
    }
    if header.group_id != group_id {
        return Err(ProposalRefused::WrongGroup);
    }
    if header.epoch != base.epoch {
        let (proposal, current) = (header.epoch, base.epoch);
        return Err(ProposalRefused::WrongEpoch { proposal, current });
    }
    let Sender::Member(leaf) = header.sender else {
        return Err(ProposalRefused::Unsupported("sender"));
    };
    let own = leaf_at(&base.tree, leaf).ok_or(ProposalRefused::NotMember)?;
    if own.client != *sender {
        return Err(ProposalRefused::SenderNotBound);
    }
    let proposed: Proposed = content_of(message, &group_id, true)
        .and_then(|content| decode(&content))
        .ok_or(ProposalRefused::Invalid("no Proposal content"))?;
    if let Proposed::Remove { leaf } = proposed
        && leaf_at(&base.tree, leaf).is_none()
    {
        return Err(ProposalRefused::Invalid("a Remove of a blank leaf"));
    }
    Ok(PendingProposal {
        reference: reference_of(message),
        leaf,
        kind: match proposed {
            Proposed::Update { .. } => ProposalKind::Update,
            Proposed::Remove { leaf } => ProposalKind::Remove(leaf),
            Proposed::Leave => ProposalKind::SelfRemove,
        },
        message: message.clone(),
        accepted: Millis::default(),
    })
}

/// A Remove that the hub proposes.
pub(super) fn check_expel(
    view: &GroupView,
    epoch: u64,
    leaf: u32,
) -> Result<PendingProposal, NotProposed> {
    let group_id = view.group_id().map_err(|_| NotProposed::NotListed)?;
    let content = encode(&Proposed::Remove { leaf });
    let message = public_message(&group_id, epoch, From::Hub, 2, &content);
    Ok(PendingProposal {
        reference: reference_of(&message),
        leaf,
        kind: ProposalKind::Expel(leaf),
        message,
        accepted: Millis::default(),
    })
}
