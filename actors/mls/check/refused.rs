//! Why a bundle or a new group is refused.

use super::change::Flaw;
use crate::{
    ids::ProviderId,
    mls::{
        codec::reader::{Malformed, Unreadable},
        tree::container::ContainerRefused,
    },
};
use bytes::Bytes;

/// Why the sender of a bundle is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SenderRefused {
    /// Its leaf is blank or outside the tree.
    #[error("the sender is not a member")]
    NotMember,
    /// Its leaf belongs to another client.
    #[error("the sending leaf belongs to another client")]
    NotBound,
}

/// Why the tree of a bundle is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeRefused {
    /// The Commit's path is missing or wrong.
    #[error("invalid path: {0}")]
    Path(&'static str),
    /// The tree sent is not the one that the Commit makes.
    #[error("the tree is not what the Commit makes: {0}")]
    Mismatch(&'static str),
    /// The GroupInfo names another tree hash.
    #[error("the GroupInfo names another tree hash")]
    Hash,
}

/// Why a bundle is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleRefused {
    /// A part is not a well-formed MLS object, or exceeds a limit.
    #[error("malformed {part}: {cause}")]
    Malformed {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        cause: Malformed,
    },
    /// It uses what this hub does not take.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// The Commit is for another group.
    #[error("the Commit is for another group")]
    WrongGroup,
    /// The Commit is for another epoch.
    #[error("the Commit is for epoch {commit}, the group is in epoch {current}")]
    WrongEpoch {
        /// Epoch of the Commit.
        commit: u64,
        /// Epoch of the group.
        current: u64,
    },
    /// The sender is not a member, or not the one it says.
    #[error(transparent)]
    Sender(#[from] SenderRefused),
    /// A signature is wrong.
    #[error("the signature of the {of} is wrong")]
    Signature {
        /// Of what.
        of: &'static str,
    },
    /// The list of Proposals breaks a rule.
    #[error("invalid list of Proposals: {reason}")]
    InvalidProposals {
        /// ProposalRefs of those concerned; the ones inside the Commit have none.
        references: Vec<Bytes>,
        /// The rule.
        reason: &'static str,
    },
    /// The Commit leaves members in who are leaving.
    #[error("{} Proposals by which members leave are not taken in", references.len())]
    OmittedProposals {
        /// Their ProposalRefs.
        references: Vec<Bytes>,
    },
    /// The Commit names Proposals that do not wait.
    #[error("{} Proposals are not known in this epoch", references.len())]
    UnknownProposals {
        /// Their ProposalRefs.
        references: Vec<Bytes>,
    },
    /// The container of the tree is one that this hub does not take.
    #[error(transparent)]
    Container(#[from] ContainerRefused),
    /// The path or the tree is wrong.
    #[error(transparent)]
    Tree(#[from] TreeRefused),
    /// A field of the GroupInfo is not what the Commit makes it.
    #[error("{field} of the GroupInfo is not what the Commit makes it")]
    GroupInfoMismatch {
        /// The field, as RFC 9420 names it.
        field: &'static str,
    },
    /// The Welcome does not fit the Adds.
    #[error("the Welcome does not fit the Commit: {reason}")]
    WelcomeMismatch {
        /// How.
        reason: &'static str,
    },
    /// The Commit brings in a client of a provider that cannot be told.
    #[error("there is no link to {0}")]
    NoLink(ProviderId),
}

/// Says in which part the reader stopped.
pub(crate) fn in_part(part: &'static str) -> impl Fn(Unreadable) -> BundleRefused {
    move |cause| match cause {
        Unreadable::Malformed(cause) => BundleRefused::Malformed { part, cause },
        Unreadable::Unsupported(what) => BundleRefused::Unsupported(what),
    }
}

impl From<Flaw> for BundleRefused {
    fn from(Flaw { references, reason }: Flaw) -> Self {
        Self::InvalidProposals { references, reason }
    }
}
