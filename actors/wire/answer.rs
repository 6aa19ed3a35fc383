//! Answers of a room, and its refusals: part of the protocol, each with its own shape.
//!
//! Source: transport requirements, sections 3.2, 3.3, 4 and 7.3.

use super::{
    BText, BVec, Payload,
    event::{Epoch, Hash, RoomSeq, VerdictRun},
    joining::{CodeList, MadeCode, SealedGroupInfo},
    refusal::{Flaw, RefusalCode, TryLater},
};
use crate::{
    ids::ProviderId,
    limits::{PROPOSALS_PER_BUNDLE_MAX, REFUSAL_DETAIL_BYTES_MAX, SUBMIT_ITEMS_MAX},
    machine::Millis,
};
use serde::{Deserialize, Serialize};

/// The answer to a request to a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The room exists.
    Created,
    /// The Commit opened an epoch.
    Committed(Accepted),
    /// The Proposals wait for a Commit; their references.
    Proposed(BVec<Payload, PROPOSALS_PER_BUNDLE_MAX>),
    /// What became of each message so far, in the sender's numbers.
    Sent(BVec<VerdictRun, SUBMIT_ITEMS_MAX>),
    /// Submissions of a provider, or events of a hub, are taken.
    Received,
    /// A number is missing before these; the sender goes back to it.
    Gap {
        /// The number expected next.
        expected: u64,
    },
    /// What an external Commit is built on.
    GroupInfo(Box<SealedGroupInfo>),
    /// The joining code is made.
    CodeMade(MadeCode),
    /// The joining codes of the room.
    Codes(CodeList),
    /// The joining code is ended.
    CodeRevoked,
    /// Nothing was done.
    Refused(Refused),
}

/// How a Commit was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The epoch it opened.
    pub epoch: Epoch,
    /// Its number in the room.
    pub seq: RoomSeq,
    /// When it was accepted.
    pub time: Millis,
}

/// Why a room refuses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// The room does not exist, or its existence is not the asker's business.
    #[error("not authorized for this room")]
    NotAuthorized,
    /// The group was ended by a ReInit; another one follows it.
    #[error("the room's group has ended; another follows it")]
    Ended,
    /// The sender is no member.
    #[error("the sender is not a member of the room")]
    NotMember,
    /// The room exists already.
    #[error("the room exists already; choose another name")]
    Exists,
    /// The epoch has advanced; build the Commit again on the current one.
    #[error("wrong epoch: the room is at epoch {current}, opened by Commit {winner}")]
    WrongEpoch {
        /// The room's epoch.
        current: Epoch,
        /// BLAKE3 of the Commit (as MLSMessage) that opened it; zero for epoch 0.
        winner: Hash,
    },
    /// Proposals named by the Commit are not pending in this epoch.
    #[error("the Commit names {} proposals that are not pending", references.len())]
    UnknownProposals {
        /// Their references.
        references: BVec<Payload, PROPOSALS_PER_BUNDLE_MAX>,
    },
    /// Members are leaving whom the Commit leaves in.
    #[error("the Commit omits {} proposals that it must take in", references.len())]
    OmittedProposals {
        /// The references of their SelfRemoves.
        references: BVec<Payload, PROPOSALS_PER_BUNDLE_MAX>,
    },
    /// Proposals are invalid, alone or together.
    #[error("invalid proposals: {detail}")]
    InvalidProposals {
        /// Their references, as far as they have any.
        references: BVec<Payload, PROPOSALS_PER_BUNDLE_MAX>,
        /// What is wrong.
        detail: BText<REFUSAL_DETAIL_BYTES_MAX>,
    },
    /// A part of the request is not what it must be.
    #[error("{0}")]
    Invalid(Flaw),
    /// A limit of the room is reached.
    #[error("too many {what}, the limit is {max}")]
    TooMany {
        /// Of what.
        what: BText<64>,
        /// The limit.
        max: u32,
    },
    /// Another joiner has the room's lease; ask again with a new request.
    #[error("place {place} in the queue of joiners, whose turn is in about {expected_wait_ms} ms")]
    Busy {
        /// The place in the queue, from 1.
        place: u32,
        /// How long it will take, if every joiner before uses all of its time.
        expected_wait_ms: u32,
    },
    /// The joiner had too many leases without a Commit, or the member opened too many epochs.
    #[error(
        "too many leases without a Commit, or too many Commits, retry after {retry_after_ms} ms"
    )]
    Limited {
        /// When to try again, in milliseconds.
        retry_after_ms: u32,
    },
    /// The Commit brings in the first clients of a provider that takes nothing: too much waits for it already. The same
    /// bundle may be sent again.
    #[error(
        "too much waits for {provider} already, so it is brought into no more rooms, retry after {retry_after_ms} ms"
    )]
    PeerBehind {
        /// The provider.
        provider: ProviderId,
        /// When to try again, in milliseconds.
        retry_after_ms: u32,
    },
    /// An external Commit by somebody who does not have the room's lease.
    #[error("an external Commit needs the lease that comes with a GroupInfo")]
    LeaseRequired,
    /// An external Commit by somebody whose lease is over.
    #[error("the lease is over; ask for the GroupInfo again")]
    LeaseExpired,
    /// The same request may be sent again.
    #[error("{0}")]
    TryLater(TryLater),
    /// The node's log is full; the operator must make room.
    #[error("the provider's log is full; it accepts nothing until its operator makes room")]
    StorageFull,
    /// The room is frozen after a failure and waits for its operator.
    #[error("the room is frozen and waits for its operator")]
    Poisoned,
    /// The Commit brings in clients of a provider that the hub has no link to.
    #[error("this hub has no link to {provider}: its operator would have to list it")]
    ProviderUnknown {
        /// The provider.
        provider: ProviderId,
    },
}

impl Refused {
    /// A refusal of a part of the request, with an explanation.
    #[must_use]
    pub fn invalid(code: RefusalCode, detail: &str) -> Self {
        Self::Invalid(Flaw::new(code, detail))
    }
}
