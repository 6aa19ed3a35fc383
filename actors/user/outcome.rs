//! What comes of a command to a user: an answer, and which clients have something to read.

use crate::{
    ids::ClientUri,
    limits::CLIENTS_PER_USER_MAX,
    wire::{
        BVec,
        claim::{ClaimedClient, UserRefused},
        door::PackageRefused,
        joining::{CodeId, Introduced},
        post::Refilled,
        refusal::TryLater,
    },
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a claim gets of one user.
pub type Claimed = Result<BVec<ClaimedClient, CLIENTS_PER_USER_MAX>, UserRefused>;

/// What one command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For whoever asked.
    pub answer: Answer,
    /// Clients whose event stream has something new, or whose memberships changed; each once.
    pub woken: Vec<ClientUri>,
    /// Clients that are at a limit: something of a notice was not stored for them.
    pub inbox_full: Vec<ClientUri>,
    /// Who is to hear that a client has packages again.
    pub refilled: Vec<Refilled>,
    /// Packages that were handed out; none for a claim that was refused, or answered from memory.
    pub handed_out: Option<u32>,
}

impl Outcome {
    /// An outcome that is only an answer.
    #[must_use]
    pub fn answer(answer: Answer) -> Self {
        Self {
            answer,
            woken: Vec::new(),
            inbox_full: Vec::new(),
            refilled: Vec::new(),
            handed_out: None,
        }
    }

    /// An outcome that is only a refusal.
    #[must_use]
    pub fn refused(refused: Refused) -> Self {
        Self::answer(Answer::Refused(refused))
    }
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is so.
    Done,
    /// The device is enrolled.
    Enrolled,
    /// For each package whether it was taken, in order.
    Uploaded(Vec<Result<(), PackageRefused>>),
    /// What a claim got.
    Claimed(Claimed),
    /// The introduction code is kept under this name.
    IntroductionKept(CodeId),
    /// What became of a request about introduction codes.
    Introduced(Introduced),
    /// Nothing was done.
    Refused(Refused),
    /// It was so before.
    Unchanged,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// No such user.
    #[error("user unknown")]
    Unknown,
    /// The user was deleted.
    #[error("user deleted")]
    Deleted,
    /// The device or the code is not right; which, is not said.
    #[error("the device or the code is not known")]
    NotKnown,
    /// The client is enrolled with another key.
    #[error("the client is enrolled with another key")]
    Taken,
    /// The user has as many as it may have.
    #[error("too many {what}, the limit is {max}")]
    TooMany {
        /// Of what.
        what: Counted,
        /// How many it may have.
        max: u32,
    },
    /// The same request may be sent again.
    #[error("{0}")]
    TryLater(TryLater),
    /// The provider's log is full.
    #[error("the provider's log is full; it accepts nothing until its operator makes room")]
    StorageFull,
    /// The user is frozen after a failure and waits for its operator.
    #[error("the user is frozen and waits for its operator")]
    Poisoned,
}

impl Refused {
    /// The refusal of one more of what is limited to `max`.
    pub(super) fn too_many(what: Counted, max: usize) -> Self {
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        Self::TooMany { what, max }
    }
}

/// What a user may have only so many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Counted {
    /// Enrolled clients.
    Clients,
    /// Enrolment codes that wait to be used.
    EnrolmentCodes,
    /// Consent entries.
    Consents,
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clients => "clients",
            Self::EnrolmentCodes => "enrolment codes",
            Self::Consents => "consent entries",
        })
    }
}
