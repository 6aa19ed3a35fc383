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
    wire::{
        BVec, Payload,
        refusal::{Flaw, RefusalCode},
    },
};
use bytes::Bytes;

pub(super) fn bundle_refused(refused: BundleRefused, fold: &Fold) -> Refused {
    let detail = refused.to_string();
    let references = |references: Vec<Bytes>| -> BVec<Payload, PROPOSALS_PER_BUNDLE_MAX> {
        BVec::first_max(references.into_iter().map(Payload))
    };
    match (refused, fold.room()) {
        (BundleRefused::WrongEpoch { .. }, Some(room)) => room.wrong_epoch(),
        (BundleRefused::Sender(SenderRefused::NotMember), _) => Refused::NotMember,
        (BundleRefused::NoLink(provider), _) => Refused::ProviderUnknown { provider },
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
        (other, _) => {
            let mut flaw = Flaw::new(bundle_code(&other), &detail);
            if let Some(field) = bundle_field(&other) {
                flaw = flaw.in_field(field);
            }
            if let BundleRefused::Malformed { cause, .. } = other {
                flaw = flaw.at_byte(cause.at());
            }
            Refused::Invalid(flaw)
        }
    }
}

pub(super) fn proposal_refused(refused: &ProposalRefused, fold: &Fold) -> Refused {
    match (refused, fold.room()) {
        (ProposalRefused::WrongEpoch { .. }, Some(room)) => room.wrong_epoch(),
        (ProposalRefused::NotMember, _) => Refused::NotMember,
        (other, _) => {
            let mut flaw =
                Flaw::new(proposal_code(other), &other.to_string()).in_field("proposals");
            if let ProposalRefused::Malformed(cause) = other {
                flaw = flaw.at_byte(cause.at());
            }
            Refused::Invalid(flaw)
        }
    }
}

/// The field of a bundle that is at fault.
fn bundle_field(refused: &BundleRefused) -> Option<&'static str> {
    Some(match refused {
        BundleRefused::Malformed { part, .. } => match *part {
            "Commit" => "commit",
            "Welcome" => "welcome",
            "GroupInfo" | "next GroupContext" => "group_info",
            "ratchet tree" => "tree",
            // What is known of the room itself is no part of the request.
            _ => return None,
        },
        BundleRefused::WrongGroup
        | BundleRefused::WrongEpoch { .. }
        | BundleRefused::Sender(_)
        | BundleRefused::Signature { .. }
        | BundleRefused::InvalidProposals { .. }
        | BundleRefused::OmittedProposals { .. }
        | BundleRefused::UnknownProposals { .. }
        | BundleRefused::NoLink(_) => "commit",
        BundleRefused::Tree(_) | BundleRefused::Container(_) => "tree",
        BundleRefused::GroupInfoMismatch { .. } => "group_info",
        BundleRefused::WelcomeMismatch { .. } => "welcome",
        BundleRefused::Unsupported(_) => return None,
    })
}

/// The stable code of a refused bundle, as it travels.
fn bundle_code(refused: &BundleRefused) -> RefusalCode {
    match refused {
        BundleRefused::Malformed { .. } => RefusalCode::Malformed,
        BundleRefused::Unsupported(_) => RefusalCode::Unsupported,
        BundleRefused::WrongGroup => RefusalCode::WrongGroup,
        BundleRefused::WrongEpoch { .. } => RefusalCode::WrongEpoch,
        BundleRefused::Sender(_) => RefusalCode::SenderNotBound,
        BundleRefused::Signature { .. } => RefusalCode::Signature,
        BundleRefused::InvalidProposals { .. } => RefusalCode::InvalidProposals,
        BundleRefused::OmittedProposals { .. } => RefusalCode::OmittedProposals,
        BundleRefused::UnknownProposals { .. } => RefusalCode::UnknownProposals,
        BundleRefused::Tree(_) => RefusalCode::TreeMismatch,
        BundleRefused::Container(refused) => container_code(refused),
        BundleRefused::GroupInfoMismatch { .. } => RefusalCode::GroupInfoMismatch,
        BundleRefused::WelcomeMismatch { .. } => RefusalCode::WelcomeMismatch,
        BundleRefused::NoLink(_) => RefusalCode::ProviderUnknown,
    }
}

/// The stable code of a refused Proposal, as it travels.
fn proposal_code(refused: &ProposalRefused) -> RefusalCode {
    match refused {
        ProposalRefused::Malformed(_) => RefusalCode::Malformed,
        ProposalRefused::Unsupported(_) => RefusalCode::Unsupported,
        ProposalRefused::WrongGroup => RefusalCode::WrongGroup,
        ProposalRefused::WrongEpoch { .. } => RefusalCode::WrongEpoch,
        ProposalRefused::NotMember => RefusalCode::NotMember,
        ProposalRefused::SenderNotBound => RefusalCode::SenderNotBound,
        ProposalRefused::Signature => RefusalCode::Signature,
        ProposalRefused::Invalid(_) => RefusalCode::InvalidProposals,
    }
}

/// The stable code of a refused tree container, as it travels.
fn container_code(refused: &ContainerRefused) -> RefusalCode {
    match refused {
        ContainerRefused::NotForNewGroups(_) => RefusalCode::TreeNotWhole,
        ContainerRefused::TooLarge { .. } => RefusalCode::TreeTooLarge,
        ContainerRefused::Zstd(_) => RefusalCode::BadTreeZstd,
        ContainerRefused::Delta(_) => RefusalCode::BadTreeDelta,
        ContainerRefused::Host => RefusalCode::TreeHostUnknown,
    }
}
