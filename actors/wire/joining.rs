//! How a client joins a room by itself: the GroupInfo exchange, and the codes that admit to it.
//!
//! **The exchange.** The joiner makes a fresh HPKE key pair of a ciphersuite of RFC 9420 and sends a
//! [`GroupInfoRequest`], signed with the MLS signature key that its leaf will have: once over what the MIMI protocol
//! signs, byte for byte, and once over all of it, under a label of ours. The hub grants it the room's lease,
//! for `lease_ms` or until the epoch changes, and answers with a [`SealedGroupInfo`], which only the joiner can read.
//! In the presentation language of RFC 9420, all lists with its variable-size lengths:
//!
//! ```text
//! struct {                                struct {
//!   opaque room<V>;      // URI             opaque room<V>;
//!   opaque joiner<V>;    // URI             opaque joiner<V>;
//!   opaque id[16];                          opaque request[32];  // BLAKE3 of RequestTBS
//!   uint64 time_ms;                         uint64 epoch;
//!   uint16 ciphersuite;                   } GroupInfoContext;
//!   opaque hpke_key<V>;
//!   opaque signature_key<V>;              struct {
//!   uint8 container;                        MLSMessage proposal;  // as opaque<V>
//!   optional<opaque code<V>>;               uint64 accepted_ms;   // the hub's clock
//!   optional<opaque passphrase<V>>;       } PendingProposal;
//! } RequestTBS;
//!                                         struct {
//! struct {                                  opaque group_info<V>;    // MLSMessage
//!   GroupInfoContext context;               uint8 container;
//!   uint64 time_ms;                         opaque ratchet_tree<V>;
//!   uint32 lease_ms;                        PendingProposal pending<V>;
//!   uint16 ciphersuite;                   } GroupInfoRatchetTreeTBE;
//!   opaque kem_output<V>;
//!   opaque ciphertext<V>;                 struct {                 // as the MIMI protocol has it
//! } GroupInfoResponseTBS;                   uint8 protocol = 1;    // mls10
//!                                           uint16 ciphersuite;
//!                                           opaque signature_key<V>;
//!                                           Credential credential; // basic, the joiner's URI
//!                                           opaque hpke_key<V>;
//!                                           optional<opaque code<V>>;
//!                                         } GroupInfoRequestTBS;
//!
//! request.signature  = SignWithLabel(joiner's MLS key, "GroupInfoRequestTBS", GroupInfoRequestTBS)
//! request.envelope   = SignWithLabel(joiner's MLS key, "mimi-node GroupInfoRequestTBS", RequestTBS)
//! request.before     = SignWithLabel(joiner's MLS key, "GroupInfoRequestTBS", RequestTBS)      // until 0.1 is gone
//! kem_output, ciphertext = EncryptWithLabel(hpke_key, "GroupInfo and ratchet_tree encryption",
//!                                           GroupInfoContext, GroupInfoRatchetTreeTBE)
//! response.signature = SignWithLabel(hub's key in external_senders, "GroupInfoResponseTBS", GroupInfoResponseTBS)
//! ```
//!
//! `EncryptWithLabel` is RFC 9180's single shot in base mode with an empty aad (RFC 9420, section 5.1.3).
//!
//! **The tree** comes in the container that the joiner asks for, and `ratchet_tree` is what that carries: 0 the full tree,
//! the bare vector `optional<Node> ratchet_tree<V>`; 1 the same as one zstd frame; 2 the delta from the epoch before,
//! for whoever has that epoch's tree, because it asked then and was too late; 3 nothing, for whoever has the tree; 4 the
//! URI at which the last committer said that it lies. Where the hub has no delta or no URI, the tree comes in full.
//!
//! **Codes** are bytes from the hub's random generator. A link carries them as base64url, see [`crate::links`].
//!
//! Source: transport requirements, sections 3.3 and 7.3.

use super::{BText, BVec, Payload, event::Epoch, tree::TreeKind};
use crate::{
    ids::{ClientUri, RoomUri, UserUri},
    limits::{CODES_PER_ROOM_MAX, INTRODUCTIONS_PER_USER_MAX, PASSPHRASE_BYTES_MAX},
    machine::Millis,
    wire::refusal::TryLater,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A request for what an external Commit is built on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfoRequest {
    /// The room.
    pub room: RoomUri,
    /// The client that wants to join; at the clients' door it is the connection's.
    pub joiner: ClientUri,
    /// Chosen at random; the same request again, as long as its lease lasts, gets the same lease.
    pub id: [u8; 16],
    /// The joiner's clock; a request is good for a minute.
    pub time: Millis,
    /// The ciphersuite of RFC 9420 whose HPKE and signature scheme are used here: 1, 2 or 3.
    pub ciphersuite: u16,
    /// The joiner's fresh HPKE public key.
    pub hpke_key: Payload,
    /// The signature key that its leaf will have.
    pub signature_key: Payload,
    /// The container in which it wants the ratchet tree, see the module.
    pub container: TreeKind,
    /// How long it will wait for its turn, in milliseconds; not signed.
    pub wait_ms: u32,
    /// A joining code, for whoever has no other right to join.
    pub code: Option<Payload>,
    /// The passphrase that belongs to the code.
    pub passphrase: Option<BText<PASSPHRASE_BYTES_MAX>>,
    /// The signature over the protocol's own part, see the module.
    pub signature: Payload,
    /// The signature over all of it, see the module.
    pub envelope: Payload,
    /// The signature that a hub of version 1 checks.
    pub before: Payload,
}

impl GroupInfoRequest {
    /// Whether it came from a client or provider that speaks version 1 alone.
    #[must_use]
    pub fn is_of_version_1(&self) -> bool {
        self.envelope.is_empty() && self.signature.is_empty()
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let code = self.code.as_ref().map_or(0, |code| code.len());
        1_024 + self.hpke_key.len() + self.signature_key.len() + self.signature.len() + code
    }
}

/// What an external Commit is built on, for the joiner alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedGroupInfo {
    /// The epoch that it is of.
    pub epoch: Epoch,
    /// The hub's clock.
    pub time: Millis,
    /// How long the joiner has the room's lease, in milliseconds from `time`.
    pub lease_ms: u32,
    /// HPKE's encapsulated key.
    pub kem_output: Payload,
    /// The sealed GroupInfo, tree and pending Proposals.
    pub ciphertext: Payload,
    /// The hub's signature, see the module.
    pub signature: Payload,
}

/// Names a joining code in its room, or an introduction code at its user; of no use to whoever wants to join.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct CodeId(pub u32);

impl fmt::Display for CodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a member does with the joining codes of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CodesAsk {
    /// Makes one.
    Create(CodeTerms),
    /// Lists those there are.
    List,
    /// Ends one; also the lease of whoever holds it right now.
    Revoke(CodeId),
}

/// What a code is good for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeTerms {
    /// How many joins; absent for any number.
    pub uses: Option<u32>,
    /// For how long from now, in milliseconds; absent for ever.
    pub lifetime_ms: Option<u64>,
    /// The role that whoever joins with it gets where the room has a policy; without one it is kept and told.
    pub role_index: Option<u32>,
    /// What must be known besides the code.
    pub passphrase: Option<BText<PASSPHRASE_BYTES_MAX>>,
}

/// A joining code just made. Only here it is in the clear: the hub keeps a hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeCode {
    /// Its name.
    pub id: CodeId,
    /// The code.
    pub code: Payload,
}

/// The joining codes of a room.
pub type CodeList = BVec<CodeFacts, CODES_PER_ROOM_MAX>;

/// What members are told of a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeFacts {
    /// Its name.
    pub id: CodeId,
    /// Who made it.
    pub creator: ClientUri,
    /// Joins left; absent for any number.
    pub uses_left: Option<u32>,
    /// When it ends; absent for never.
    pub not_after: Option<Millis>,
    /// The role that whoever joins with it gets.
    pub role_index: Option<u32>,
    /// Whether a passphrase belongs to it.
    pub has_passphrase: bool,
    /// Whether it was ended before its time.
    pub revoked: bool,
}

/// What a user does with its introduction codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IntroductionsAsk {
    /// Makes one, good for so many milliseconds; absent for ever.
    Create {
        /// For how long from now.
        lifetime_ms: Option<u64>,
    },
    /// Lists those there are.
    List,
    /// Ends one.
    Revoke(CodeId),
}

/// What became of an [`IntroductionsAsk`], or of an introduction code that somebody showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Introduced {
    /// It is made.
    Created(MadeCode),
    /// Those there are.
    Listed(BVec<IntroductionFacts, INTRODUCTIONS_PER_USER_MAX>),
    /// It is ended.
    Revoked,
    /// The user who made it.
    Resolved(UserUri),
    /// There is no such code, it was used too long ago, or too many wrong ones were tried; which, is not said.
    NotAuthorized,
    /// The user has as many as it may have.
    TooMany {
        /// How many.
        max: u32,
    },
    /// The same request may be sent again.
    TryLater(TryLater),
}

/// What a user is told of an introduction code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntroductionFacts {
    /// Its name.
    pub id: CodeId,
    /// When it ends; absent for never.
    pub not_after: Option<Millis>,
}
