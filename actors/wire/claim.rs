//! A claim of KeyPackages for many users of one provider, and its table of results.
//!
//! Source: transport requirements, section 3.1.

use super::{BVec, Payload, event::Hash, refusal::TryLater};
use crate::{
    ids::{ClientUri, Requester, RoomUri, UserUri},
    limits::{
        CLAIM_CAPABILITIES_MAX, CLAIM_PREFERENCES_MAX, CLAIM_USERS_MAX, CLIENTS_PER_USER_MAX,
    },
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Chosen by the requester, at random; a retry carries the same one and gets the same packages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClaimId(pub [u8; 16]);

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What claimed packages must be good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimTerms {
    /// The user for whom the claim is made, or its pseudonym.
    pub requester: Requester,
    /// The client that asks, which signs: left out when its own user is claimed. None when a pseudonym asks.
    pub asking_client: Option<ClientUri>,
    /// The room the packages are meant for; consent for that room is then enough.
    pub room: Option<RoomUri>,
    /// Acceptable MLS versions; empty means mls10.
    pub versions: BVec<u16, CLAIM_PREFERENCES_MAX>,
    /// Acceptable ciphersuites, best first; empty means suite 1.
    pub ciphersuites: BVec<u16, CLAIM_PREFERENCES_MAX>,
    /// Extension types that a package must support.
    pub required_extensions: BVec<u16, CLAIM_CAPABILITIES_MAX>,
    /// Proposal types that a package must support.
    pub required_proposals: BVec<u16, CLAIM_CAPABILITIES_MAX>,
    /// Credential types that a package must support.
    pub required_credentials: BVec<u16, CLAIM_CAPABILITIES_MAX>,
}

impl ClaimTerms {
    /// Terms of `requester` with every default.
    #[must_use]
    pub fn new(requester: impl Into<Requester>) -> Self {
        Self {
            requester: requester.into(),
            asking_client: None,
            room: None,
            versions: BVec::default(),
            ciphersuites: BVec::default(),
            required_extensions: BVec::default(),
            required_proposals: BVec::default(),
            required_credentials: BVec::default(),
        }
    }
}

/// One request for all the packages wanted from one provider (from a client: from any number of them).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// Names the claim across retries.
    pub id: ClaimId,
    /// What the packages must be good for.
    pub terms: ClaimTerms,
    /// The users whose clients are wanted; one named twice counts once.
    pub users: BVec<UserUri, CLAIM_USERS_MAX>,
    /// Who signed it, and how.
    pub proof: ClaimProof,
}

/// The requester's signatures, which [`crate::mls::check::claim::sign`] makes.
///
/// Each user has one of its own, over the KeyMaterialRequestTBS of the MIMI protocol and nothing else, so that each
/// provider that gets a part of the claim can check it, and another transport can carry it. What belongs to us is
/// signed apart, once for all users.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimProof {
    /// The Ed25519 public key of the asking client's device, or of the pseudonym.
    pub key: [u8; 32],
    /// Signatures over the KeyMaterialRequestTBS of each user, in the order of the users.
    pub signatures: BVec<Payload, CLAIM_USERS_MAX>,
    /// BLAKE3 of every KeyMaterialRequestTBS of the claim, also of the users of whom a part of it does not speak.
    pub requests: BVec<Hash, CLAIM_USERS_MAX>,
    /// The signature over the claim's id, its versions and `requests`.
    pub envelope: Payload,
    /// What providers that speak version 1 of the link check instead: signatures in the order of the users.
    pub before: BVec<Payload, CLAIM_USERS_MAX>,
}

impl ClaimProof {
    /// Whether it came from a client or provider that speaks version 1 alone.
    #[must_use]
    pub fn is_of_version_1(&self) -> bool {
        self.envelope.is_empty() && self.signatures.is_empty()
    }
}

/// The results, in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimResponse {
    /// One result for each user asked for.
    pub users: BVec<ClaimedUser, CLAIM_USERS_MAX>,
}

/// What a claim got of one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedUser {
    /// The user.
    pub user: UserUri,
    /// Its clients, or why there are none.
    pub result: Result<BVec<ClaimedClient, CLIENTS_PER_USER_MAX>, UserRefused>,
}

/// What a claim got of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedClient {
    /// The client.
    pub client: ClientUri,
    /// Its KeyPackage (an MLSMessage), or why there is none.
    pub result: Result<Payload, ClientRefused>,
}

/// Why a claim gets nothing of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum UserRefused {
    /// No such user.
    #[error("user unknown")]
    Unknown,
    /// The user was deleted.
    #[error("user deleted")]
    Deleted,
    /// The user gave the requester no consent, neither at large nor for this room.
    #[error("no consent to provide KPs")]
    NoConsent,
    /// No version of MLS in common.
    #[error("no MLS version in common")]
    IncompatibleProtocol,
    /// The user is not one of the provider that was asked.
    #[error("user of another provider")]
    ForeignUser,
    /// The claim is not signed by the requester.
    #[error("the claim is not signed by the requester")]
    Unsigned,
    /// The hub of the room does not pass the claim on: no user of the requester's provider is in the room.
    #[error("the hub of the room does not pass the claim on")]
    NotRelayed,
    /// There were too many claims; nothing was used up, and the same claim may be sent again.
    #[error("too many claims, retry after {retry_after_ms} ms")]
    Limited {
        /// When to try again, in milliseconds.
        retry_after_ms: u32,
    },
    /// The answer is full; the same claim, for the users that are missing, gets the rest.
    #[error("the answer is full; claim again under the same id for the rest")]
    AnswerFull,
    /// The claim id was used before with other terms.
    #[error("claim id used before with other terms")]
    Conflict,
    /// The same request may be sent again.
    #[error("{0}")]
    TryLater(TryLater),
    /// There is no link to the provider that would have to be asked: the user's, or the requester's.
    #[error("there is no link to the provider that would have to be asked")]
    ProviderUnknown,
}

/// Why a claim gets nothing of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ClientRefused {
    /// There are packages, but none fits the terms.
    #[error("no compatible KPs")]
    NoneCompatible,
    /// There are no packages left.
    #[error("KPs exhausted")]
    Exhausted,
}
