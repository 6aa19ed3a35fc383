//! What the log can tell a user.

use super::introductions::Introduction;
use crate::{
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    limits::KEY_PACKAGE_SKEW_MS,
    machine::Millis,
    wire::{
        Payload,
        claim::{ClaimId, ClaimTerms},
        door::PackageRefused,
        event::{Hash, InboxSeq, LinkSeq, RoomSeq},
        post::Post,
    },
};
use serde::{Deserialize, Serialize};

/// What the log can tell a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Create the user, or let it enrol a further device.
    Add(Add),
    /// Delete the user, for good.
    Delete,
    /// Grant, deny or forget consent.
    Consent(Consent),
    /// Take a device away.
    Revoke(Revoke),
    /// Register a device.
    Enrol(Enrol),
    /// Add KeyPackages to the stock of a client.
    Upload(Upload),
    /// Take one KeyPackage of every client.
    Claim(Claim),
    /// Take a notice of a room.
    Deliver(Deliver),
    /// Remember what a client has.
    Ack(Ack),
    /// Keep, list, end or resolve introduction codes.
    Introduction(Introduction),
}

/// A user, and a code for one device of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Add {
    /// The user.
    pub user: UserUri,
    /// Hash of the one-time enrolment code.
    pub code: Hash,
}

/// What a user says about somebody who may want its KeyPackages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// Who may or may not claim.
    pub requester: UserUri,
    /// For this room alone; absent for any room.
    pub room: Option<RoomUri>,
    /// Granted or denied; absent to forget what was said.
    pub grant: Option<bool>,
}

/// A device that is lost, or no longer trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// The client.
    pub client: ClientUri,
}

/// A device that proved its key and holds a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrol {
    /// Hash of the code.
    pub code: Hash,
    /// The client.
    pub client: ClientUri,
    /// Its Ed25519 public key.
    pub device_key: [u8; 32],
}

/// KeyPackages of one client, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// The client.
    pub client: ClientUri,
    /// What the check found of each, in the order they were sent.
    pub packages: Vec<Result<StoredPackage, PackageRefused>>,
}

/// A KeyPackage, and what a claim must know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPackage {
    /// The MLSMessage.
    pub package: Payload,
    /// Its KeyPackageRef.
    pub reference: Payload,
    /// Its init key.
    pub init_key: Payload,
    /// Its MLS version.
    pub version: u16,
    /// Its ciphersuite.
    pub ciphersuite: u16,
    /// Beginning of its lifetime, in seconds since 1970 (UTC).
    pub not_before_s: u64,
    /// End of its lifetime, in seconds since 1970 (UTC).
    pub not_after_s: u64,
    /// Extension types that the client supports.
    pub extensions: Vec<u16>,
    /// Proposal types that the client supports.
    pub proposals: Vec<u16>,
    /// Credential types that the client supports.
    pub credentials: Vec<u16>,
    /// Whether it is marked for use more than once.
    pub last_resort: bool,
}

impl StoredPackage {
    /// Whether its life is over, or so nearly that it would be over when it is used.
    #[must_use]
    pub fn is_expired(&self, time: Millis) -> bool {
        self.not_after_s.saturating_mul(1_000) <= time.plus(KEY_PACKAGE_SKEW_MS).0
    }

    /// Whether it may be handed out.
    #[must_use]
    pub fn is_valid(&self, time: Millis) -> bool {
        !self.is_expired(time) && self.not_before_s <= time.as_seconds()
    }

    /// The same package as it lies in a stock: in memory of its own, its lists sorted.
    ///
    /// The bytes of a command are slices of its log entry; a package kept for months would hold on to all of that.
    pub(super) fn shelved(&self) -> Self {
        let copy = |payload: &Payload| Payload::from(payload.to_vec());
        let sorted = |kinds: &[u16]| {
            let mut kinds = kinds.to_vec();
            kinds.sort_unstable();
            kinds.dedup();
            kinds
        };
        Self {
            package: copy(&self.package),
            reference: copy(&self.reference),
            init_key: copy(&self.init_key),
            extensions: sorted(&self.extensions),
            proposals: sorted(&self.proposals),
            credentials: sorted(&self.credentials),
            ..*self
        }
    }
}

/// A claim, as far as it concerns this user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Names the claim across retries.
    pub id: ClaimId,
    /// The provider that asks, authenticated.
    pub peer: ProviderId,
    /// What the packages must be good for.
    pub terms: ClaimTerms,
    /// Hash of the whole request in canonical form.
    pub body: Hash,
}

/// A notice of a room, and its place on the way from the room's shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliver {
    /// The shard of the room.
    pub from_shard: u16,
    /// Its number of the notice.
    pub seq: LinkSeq,
    /// The notice.
    pub post: Post,
}

/// What a client has, durably.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The client.
    pub client: ClientUri,
    /// Up to this number of its inbox.
    pub inbox: Option<InboxSeq>,
    /// Up to these numbers of rooms.
    pub rooms: Vec<(RoomUri, RoomSeq)>,
}
