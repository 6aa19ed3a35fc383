//! What the log can tell a user.

use super::introductions::Introduction;
use crate::{
    bucket::Rate,
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    limits::{KEY_PACKAGE_SKEW_MS, PROPOSALS_PER_BUNDLE_MAX},
    machine::Millis,
    wire::{
        BVec, Payload,
        claim::{ClaimId, ClaimTerms},
        consent::{ConsentEntry, ConsentsAsk},
        door::PackageRefused,
        event::{Hash, InboxSeq, LaneCursor, LinkSeq, RoomSeq},
        post::{Notice, Post, Refilled},
    },
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub use crate::wire::user::Consent;

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
    /// Learn that a client can be added after all.
    LearnRefilled(LearnRefilled),
    /// Remember what a client has.
    Ack(Ack),
    /// Keep, list, end or resolve introduction codes.
    Introduction(Introduction),
    /// Take a notice of a room whose Welcome lies in another command of the same entry.
    Join(Join),
    /// Say something about consent, for a device of the user.
    Consents(ConsentsAsk),
    /// Learn what somebody else says about consent.
    Heard(Heard),
}

impl Command {
    /// About how many bytes it carries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Upload(upload) => {
                let stored = upload.packages.iter().flatten();
                stored.map(|stored| stored.package.len() + 256).sum()
            }
            Self::Deliver(deliver) => match &deliver.post.notice {
                Notice::Joined {
                    welcome: Some(notice),
                    ..
                } => notice.welcome.len() + notice.tree.len(),
                Notice::Joined { welcome: None, .. } | Notice::Left { .. } => 0,
            },
            Self::Add(_)
            | Self::Delete
            | Self::Consent(_)
            | Self::Revoke(_)
            | Self::Enrol(_)
            | Self::Claim(_)
            | Self::LearnRefilled(_)
            | Self::Ack(_)
            | Self::Introduction(_)
            | Self::Join(_)
            | Self::Consents(_) => 0,
            Self::Heard(heard) => {
                let packages = heard.entry.key_packages.iter();
                let packages: usize = packages.map(|package| package.len()).sum();
                packages + heard.entry.extensions.len()
            }
        }
    }

    /// What it is, if the first version of entries does not know it.
    #[must_use]
    pub const fn is_of_second(&self) -> Option<&'static str> {
        match self {
            Self::Join(_) => Some("notice that points at another"),
            Self::Consents(_) | Self::Heard(_) => Some("consent between users"),
            Self::Add(_)
            | Self::Delete
            | Self::Consent(_)
            | Self::Revoke(_)
            | Self::Enrol(_)
            | Self::Upload(_)
            | Self::Claim(_)
            | Self::Deliver(_)
            | Self::LearnRefilled(_)
            | Self::Ack(_)
            | Self::Introduction(_) => None,
        }
    }
}

/// A user, and a code for one device of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Add {
    /// The user.
    pub user: UserUri,
    /// Hash of the one-time enrolment code.
    pub code: Hash,
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
    /// The provider of the requester, which vouches for it.
    pub peer: ProviderId,
    /// The provider that will route the Welcome: the hub of the room, or the requester's where no room is named.
    pub hub: ProviderId,
    /// What the packages must be good for.
    pub terms: ClaimTerms,
    /// Hash of the whole request in canonical form.
    pub body: Hash,
    /// The rules by which this provider gives packages, as the node that took the claim knows them.
    pub rules: Rules,
    /// When the requester, or its provider, may claim again in this shard, in milliseconds: as the shard's leader
    /// counted when it took the claim; none if it may now.
    pub over_ms: Option<u32>,
}

/// The rules by which a provider gives packages. They are its configuration, and travel with each claim so that every
/// replica decides by the same ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Whether refusals of a user are all told as missing consent.
    pub folded: bool,
    /// Whether a last-resort package is given, once to each hub, when there is nothing else.
    pub allow_last_resort: bool,
    /// The share of a stock, in percent, that only requesters with consent for every room get.
    pub reserve_percent: u8,
    /// The share of a stock, in percent, at which its owner is told.
    pub low_stock_percent: u8,
    /// Claims of one requester on one user.
    pub requester_on_user: Rate,
    /// Claims of one provider on one user.
    pub provider_on_user: Rate,
    /// Claims on one user.
    pub user: Rate,
    /// Claims of one requester in one shard: its [share](Rate::share_of) of what is configured.
    pub requester: Rate,
    /// Claims of one provider in one shard, likewise.
    pub provider: Rate,
}

impl Rules {
    /// The rules for each of so many shards.
    #[must_use]
    pub fn in_each_of(self, shards: u16) -> Self {
        Self {
            requester: self.requester.share_of(shards),
            provider: self.provider.share_of(shards),
            ..self
        }
    }
}

impl Default for Rules {
    fn default() -> Self {
        let rate = |burst, per_minute| Rate { burst, per_minute };
        Self {
            folded: false,
            allow_last_resort: false,
            reserve_percent: 10,
            low_stock_percent: 20,
            requester_on_user: rate(30, 10),
            provider_on_user: rate(200, 60),
            user: rate(400, 120),
            requester: rate(2_000, 240),
            provider: rate(100_000, 60_000),
        }
    }
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

/// A notice by which clients join a room, as the one that another user gets of the same Commit: the Welcome and the tree
/// lie in the log once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The shard of the room.
    pub from_shard: u16,
    /// Its number of the notice.
    pub seq: LinkSeq,
    /// The room.
    pub room: RoomUri,
    /// The clients of the user that it concerns.
    pub clients: BVec<ClientUri, PROPOSALS_PER_BUNDLE_MAX>,
    /// The last event that is not theirs.
    pub after: RoomSeq,
    /// Number of the command, in the same entry, that is the [`Deliver`] which holds the Welcome.
    pub as_in: u32,
}

impl Deliver {
    /// The same notice, as one that points at another of the entry which holds the same Welcome; `None` when it is not of
    /// the same.
    #[must_use]
    pub fn as_in(&self, other: &Self, number: u32) -> Option<Join> {
        let Notice::Joined {
            after,
            welcome: Some(_),
        } = self.post.notice
        else {
            return None;
        };
        let same = self.post.room == other.post.room && self.post.notice == other.post.notice;
        same.then(|| Join {
            from_shard: self.from_shard,
            seq: self.seq,
            room: self.post.room.clone(),
            clients: self.post.clients.clone(),
            after,
            as_in: number,
        })
    }
}

/// Says that a client, which once had no package for a room, can be added to it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnRefilled {
    /// The shard of the user's own provider that says so, and its number of this. What another provider says has
    /// none: it may come again, and in another order.
    pub from: Option<(u16, LinkSeq)>,
    /// Which client, for which room and requester.
    pub refilled: Refilled,
}

/// What somebody says about consent to this user, or answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The shard of the user's own provider that says so, and its number of this. What another provider says has
    /// none: it may come again.
    pub from: Option<(u16, LinkSeq)>,
    /// What is said.
    pub entry: ConsentEntry,
}

/// What a client has, durably.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The client.
    pub client: ClientUri,
    /// Up to this number of its inbox.
    pub inbox: Option<InboxSeq>,
    /// Everything up to these numbers of rooms.
    pub rooms: Vec<(RoomUri, RoomSeq)>,
    /// Control events alone up to these numbers of rooms.
    pub control: Vec<(RoomUri, RoomSeq)>,
}

impl Ack {
    /// How far it says the client is with each room.
    #[must_use]
    pub fn given(&self) -> BTreeMap<RoomUri, LaneCursor> {
        let mut given: BTreeMap<RoomUri, LaneCursor> = BTreeMap::new();
        for (room, seq) in &self.rooms {
            given.insert(room.clone(), LaneCursor::all(*seq));
        }
        for (room, seq) in &self.control {
            let given = given.entry(room.clone()).or_default();
            given.control = given.control.max(*seq);
        }
        given
    }
}
