//! What comes of a command to a user: an answer, and which clients have something to read.

use crate::{
    ids::ClientUri,
    limits::CLIENTS_PER_USER_MAX,
    wire::{
        BVec,
        claim::{ClaimedClient, UserRefused},
        consent::{ConsentEntry, Consents},
        door::PackageRefused,
        joining::{CodeId, Introduced},
        post::{Departed, Refilled},
        user,
    },
};
use serde::{Deserialize, Serialize};

pub use crate::wire::user::{Counted, Refused};

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
    /// What the hubs of rooms are to hear of clients that are none any more.
    pub departed: Vec<Departed>,
    /// Packages that were handed out; none for a claim that was refused, or answered from memory.
    pub handed_out: Option<u32>,
    /// What others are to hear about consent.
    pub told: Vec<ConsentEntry>,
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
            departed: Vec::new(),
            handed_out: None,
            told: Vec::new(),
        }
    }

    /// An outcome that is only a refusal.
    #[must_use]
    pub fn refused(refused: Refused) -> Self {
        Self::answer(Answer::Refused(refused))
    }
}

/// What a command came to, for whoever asked; nodes of one provider tell each other so.
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
    /// What there is about consent.
    Consents(Box<Consents>),
}

impl Answer {
    /// What whoever made a [`user::Request`] is answered; nothing when this is no answer to one.
    #[must_use]
    pub fn to_request(self) -> Option<user::Answer> {
        match self {
            Self::Done => Some(user::Answer::Done),
            Self::Unchanged => Some(user::Answer::Unchanged),
            Self::Enrolled => Some(user::Answer::Enrolled),
            Self::Introduced(introduced) => Some(user::Answer::Introduced(introduced)),
            Self::Refused(refused) => Some(user::Answer::Refused(refused)),
            Self::Consents(consents) => Some(user::Answer::Consents(consents)),
            Self::Uploaded(_) | Self::Claimed(_) | Self::IntroductionKept(_) => None,
        }
    }
}
