//! What a user is asked by somebody who waits for its answer: by one of its devices, by another provider, by the operator
//! of its own. The user's desk takes the request as it is; who makes it is authenticated where it comes in and travels
//! beside it ([`Principal`](crate::caller::Principal)), never inside.
//!
//! KeyPackages that are uploaded or claimed go ways of their own: each is checked, or split by user, on its way.
//!
//! Source: transport requirements, sections 3.1 and 7.3.

use super::{
    Payload,
    consent::{Consents, ConsentsAsk},
    event::Hash,
    joining::{Introduced, IntroductionsAsk},
    refusal::TryLater,
};
use crate::ids::{ClientUri, Requester, RoomUri};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A request to a user of this provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Register the device that makes the request, with the key that it proved.
    Enrol {
        /// Hash of the one-time code that the provider gave to the user.
        code: Hash,
    },
    /// Make, list or end introduction codes; from a device of the user.
    Introductions(IntroductionsAsk),
    /// Say whether the user made this introduction code; from anybody.
    Resolve(Payload),
    /// Create the user, or let it enrol a further device with the code of this hash; from the operator.
    Add {
        /// Hash of the one-time code.
        code: Hash,
    },
    /// Delete the user, for good; from the operator.
    Delete,
    /// Grant, deny or forget consent; from the operator.
    Consent(Consent),
    /// Take a device away; from the operator.
    Revoke(ClientUri),
    /// Ask others for consent, answer those who ask, say what there is; from a device of the user.
    Consents(ConsentsAsk),
}

/// What a user says about somebody who may want its KeyPackages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// Who may or may not claim.
    pub requester: Requester,
    /// For this room alone; absent for any room.
    pub room: Option<RoomUri>,
    /// Granted or denied; absent to forget what was said.
    pub grant: Option<bool>,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It is so.
    Done,
    /// It was so before.
    Unchanged,
    /// The device is enrolled.
    Enrolled,
    /// What became of a request about introduction codes.
    Introduced(Introduced),
    /// Nothing was done.
    Refused(Refused),
    /// What there is about consent.
    Consents(Box<Consents>),
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
    /// The request is somebody else's to make.
    #[error("the request is somebody else's to make")]
    NotAuthorized,
    /// The user has said so much to others that it has to wait.
    #[error("too much was said to others lately, again in {retry_after_ms} ms")]
    Limited {
        /// How long, in milliseconds.
        retry_after_ms: u32,
    },
}

impl Refused {
    /// The refusal of one more of what is limited to `max`.
    pub(crate) fn too_many(what: Counted, max: usize) -> Self {
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
