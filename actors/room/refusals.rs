//! What a check found, as the room says it: refusals with stable codes.
//!
//! Source: transport requirements, section 3.2.

use super::{hub::Fold, outcome::Refused};
use crate::{
    limits::PROPOSALS_PER_BUNDLE_MAX,
    mls::{
        check::{
            bundle::{BundleRefused, SenderRefused},
            proposal::ProposalRefused,
        },
        tree::container::ContainerRefused,
    },
    wire::{BVec, Payload},
};
use bytes::Bytes;

pub(super) fn bundle_refused(refused: BundleRefused, fold: &Fold) -> Refused {
    let detail = refused.to_string();
    let references = |references: Vec<Bytes>| -> BVec<Payload, PROPOSALS_PER_BUNDLE_MAX> {
        BVec::truncated(references.into_iter().map(Payload).collect())
    };
    match (refused, fold.room()) {
        (BundleRefused::WrongEpoch { .. }, Some(room)) => room.wrong_epoch(),
        (BundleRefused::Sender(SenderRefused::NotMember), _) => Refused::NotMember,
        (
            BundleRefused::OmittedProposals {
                references: omitted,
            },
            _,
        ) => Refused::OmittedProposals {
            references: references(omitted),
        },
        (
            BundleRefused::UnknownProposals {
                references: unknown,
            },
            _,
        ) => Refused::UnknownProposals {
            references: references(unknown),
        },
        (
            BundleRefused::InvalidProposals {
                references: invalid,
                ..
            },
            _,
        ) => {
            let detail = crate::wire::BText::clipped(&detail);
            Refused::InvalidProposals {
                references: references(invalid),
                detail,
            }
        }
        (other, _) => Refused::invalid(bundle_code(&other), &detail),
    }
}

pub(super) fn proposal_refused(refused: &ProposalRefused, fold: &Fold) -> Refused {
    match (refused, fold.room()) {
        (ProposalRefused::WrongEpoch { .. }, Some(room)) => room.wrong_epoch(),
        (ProposalRefused::NotMember, _) => Refused::NotMember,
        (other, _) => Refused::invalid(proposal_code(other), &other.to_string()),
    }
}

/// The stable code of a refused bundle, as it travels.
fn bundle_code(refused: &BundleRefused) -> &'static str {
    match refused {
        BundleRefused::Malformed { .. } => "malformed",
        BundleRefused::Unsupported(_) => "unsupported",
        BundleRefused::WrongGroup => "wrong_group",
        BundleRefused::WrongEpoch { .. } => "wrong_epoch",
        BundleRefused::Sender(_) => "sender_not_bound",
        BundleRefused::Signature { .. } => "signature",
        BundleRefused::InvalidProposals { .. } => "invalid_proposals",
        BundleRefused::OmittedProposals { .. } => "omitted_proposals",
        BundleRefused::UnknownProposals { .. } => "unknown_proposals",
        BundleRefused::Tree(_) => "tree_mismatch",
        BundleRefused::Container(refused) => container_code(refused),
        BundleRefused::GroupInfoMismatch { .. } => "group_info_mismatch",
        BundleRefused::WelcomeMismatch { .. } => "welcome_mismatch",
        BundleRefused::Audit(_) => "audit",
    }
}

/// The stable code of a refused Proposal, as it travels.
fn proposal_code(refused: &ProposalRefused) -> &'static str {
    match refused {
        ProposalRefused::Malformed(_) => "malformed",
        ProposalRefused::Unsupported(_) => "unsupported",
        ProposalRefused::WrongGroup => "wrong_group",
        ProposalRefused::WrongEpoch { .. } => "wrong_epoch",
        ProposalRefused::NotMember => "not_member",
        ProposalRefused::SenderNotBound => "sender_not_bound",
        ProposalRefused::Signature => "signature",
        ProposalRefused::Invalid(_) => "invalid_proposals",
    }
}

/// The stable code of a refused tree container, as it travels.
fn container_code(refused: &ContainerRefused) -> &'static str {
    match refused {
        ContainerRefused::NotForNewGroups(_) => "tree_not_whole",
        ContainerRefused::TooLarge { .. } => "tree_too_large",
        ContainerRefused::Zstd(_) => "bad_tree_zstd",
        ContainerRefused::Delta(_) => "bad_tree_delta",
        ContainerRefused::Host => "tree_host_unknown",
    }
}
