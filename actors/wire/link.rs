//! Frames between two providers, ALPN `mimi-link/1`.
//!
//! The provider that dials sends: its connection carries its requests, its fan-out (as a hub) and its submissions (as a
//! follower); what it receives comes on the connection that the other one dials. The first frame of a lane is an
//! [`Open`]. The peer's identity is its certificate's, never a field.
//!
//! # Long lanes
//!
//! A node has one lane of fan-out and one of submissions to a peer, on which all shards speak that it leads, each for
//! itself: [`OfShard`] says of which shard a frame is, and of which session. A session begins at the shard's last
//! acknowledgement in the sender's log. Credit, the number of frames that are not answered
//! ([`LANE_FRAMES_UNACKED_MAX`](crate::limits::LANE_FRAMES_UNACKED_MAX)) and [`Ack::retry_after_ms`] are of the session
//! alone. The sender begins another with a higher number when the receiver has ended one, or when it leads the shard
//! anew; what is still said about an older session counts for nothing, on either side. A receiver that has ended a
//! session drops what comes of it. It must read on past a shard that it can do nothing with; how much it holds of all
//! shards together is its own to say, by the credit that it gives.
//!
//! In version 1 each shard has two lanes of its own ([`Open::OneShard`], [`Open::OneShardSubmits`]), whose frames are
//! the same without the [`OfShard`] around them.
//!
//! Source: transport requirements, sections 3 to 5.

use super::{
    BText, BVec, Payload,
    answer::Answer,
    claim::{ClaimRequest, ClaimResponse},
    event::{Item, LinkSeq, SubmitRefused, SubmitSeq},
    joining::Introduced,
    refusal::{Flaw, TryLater},
    room,
    version::{LINK, Release},
};
use crate::{
    ids::{ClientUri, RoomUri},
    limits::{BATCH_EVENTS_MAX, BATCH_ROOMS_MAX, REFUSAL_DETAIL_BYTES_MAX, SUBMIT_ITEMS_MAX},
};
use serde::{Deserialize, Serialize};

/// The first frame of a lane: what the lane is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Open {
    /// The one control lane: a [`Hello`] each way.
    Control(Hello),
    /// One exclusive or immediate request, answered by one [`Reply`].
    Request(Box<Request>),
    /// Events of the sender's rooms: each shard's [`Fanout`] frames, answered by its [`Ack`] frames.
    Fanout,
    /// Submissions to the receiver's rooms: each shard's [`Submit`] frames, each answered by one [`Submitted`], in order.
    Submit,
    /// Version 1 in place of [`Fanout`](Self::Fanout): the events of one shard.
    OneShard {
        /// The sender's shard; its items are numbered by themselves.
        shard: u16,
    },
    /// Version 1 in place of [`Submit`](Self::Submit): the submissions of one shard, which is not said.
    OneShardSubmits,
}

/// A frame of one of the shards that share a lane. Version 1 has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfShard<T> {
    /// The shard of the lane's sender, below [`SHARDS_MAX`](crate::limits::SHARDS_MAX).
    pub shard: u16,
    /// Counts the shard's sessions on this lane, from 1.
    pub session: u64,
    /// The frame.
    pub said: T,
}

/// What a node says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Versions of the link protocol it speaks, best first.
    pub versions: BVec<u16, 16>,
    /// Its node id within its provider.
    pub node: u64,
    /// Optional features it speaks; unknown ones are ignored.
    pub features: BVec<BText<32>, 64>,
}

/// A request on a lane of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Claim KeyPackages for a user of the sender: of the receiver's users, or, for a room of the receiver, of any.
    Claim(ClaimRequest),
    /// Claim KeyPackages of the receiver's users for a room of the sender: a claim that the sender passes on.
    Relayed(ClaimRequest),
    /// Ask whether a client of the receiver holds a key.
    Vouch {
        /// The client.
        client: ClientUri,
        /// The Ed25519 public key that is said to be its device's.
        key: [u8; 32],
    },
    /// Ask a room of the receiver. No room is made over a link.
    Room {
        /// The room.
        room: RoomUri,
        /// The client of the sender that asks.
        client: ClientUri,
        /// What it asks.
        request: room::Request,
    },
    /// Ask which user of the receiver made this introduction code.
    Resolve(Payload),
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To a claim.
    Claimed(ClaimResponse),
    /// To [`Request::Vouch`].
    Vouched(bool),
    /// To [`Request::Room`].
    Room(Answer),
    /// To a request about an introduction code.
    Introduced(Introduced),
    /// The request was not looked at.
    Refused(LinkRefused),
}

/// Why a request of a peer is not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LinkRefused {
    /// It names a sender or requester that is not a user of the peer.
    #[error("the named sender does not belong to the provider of this connection")]
    SenderNotBound,
    /// It names a room that this provider does not own.
    #[error("this provider does not own the room")]
    NotOwner,
    /// The frame does not decode, or breaks a limit.
    #[error("{0}")]
    BadFrame(Flaw),
    /// The same request may be sent again.
    #[error("{0}")]
    TryLater(TryLater),
}

/// A batch of items for many rooms, numbered on from `first`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fanout {
    /// Number of the first item.
    pub first: LinkSeq,
    /// The items, in order; one room may have several groups.
    pub groups: BVec<FanoutGroup, BATCH_ROOMS_MAX>,
}

/// Consecutive items of one room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FanoutGroup {
    /// The room.
    pub room: RoomUri,
    /// Its items.
    pub items: BVec<Item, BATCH_EVENTS_MAX>,
}

/// The receiver has everything up to a number, durably.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The last item.
    pub upto: LinkSeq,
    /// Rooms whose items, from a number on, were not taken.
    pub refused: BVec<RoomRefused, BATCH_ROOMS_MAX>,
    /// Payload bytes that may be under way in this session from now on. One frame always may, also when this is less; before
    /// the first acknowledgement it is [`CREDIT_BYTES_FIRST`](crate::limits::CREDIT_BYTES_FIRST).
    pub credit_bytes: u32,
    /// The receiver takes nothing more now and ends the session, in version 1 with its lane; when to begin another, in
    /// milliseconds.
    pub retry_after_ms: Option<u32>,
}

/// A room whose items a receiver did not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRefused {
    /// The room.
    pub room: RoomUri,
    /// Why.
    pub detail: BText<REFUSAL_DETAIL_BYTES_MAX>,
}

/// A batch of submissions for many rooms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submit {
    /// The submissions.
    pub groups: BVec<SubmitGroup, BATCH_ROOMS_MAX>,
}

/// Consecutive submissions of one client to one room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitGroup {
    /// The room.
    pub room: RoomUri,
    /// The client.
    pub sender: ClientUri,
    /// Number of the first.
    pub first: SubmitSeq,
    /// The sender's oldest number in the room without a verdict: no earlier one will be sent.
    pub undecided: SubmitSeq,
    /// The messages, each an MLSMessage.
    pub messages: BVec<Payload, SUBMIT_ITEMS_MAX>,
}

/// The hub has judged a [`Submit`], durably; the verdicts follow on its fan-out lane, except for these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Runs that were refused without being numbered in the room.
    pub refused: BVec<SubmitRejected, BATCH_ROOMS_MAX>,
    /// Rooms in which an earlier number is missing.
    pub gaps: BVec<SubmitGap, BATCH_ROOMS_MAX>,
    /// When to send those again that were neither taken nor refused, in milliseconds.
    pub retry_after_ms: Option<u32>,
}

/// A run of submissions that the hub did not number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitRejected {
    /// The room.
    pub room: RoomUri,
    /// Number of the first.
    pub first: SubmitSeq,
    /// How many.
    pub count: u32,
    /// Why.
    pub reason: SubmitRefused,
}

/// The number that the hub expects next of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitGap {
    /// The room.
    pub room: RoomUri,
    /// The number.
    pub expected: SubmitSeq,
}

impl Hello {
    /// What a node says that speaks as `release` does.
    #[must_use]
    pub fn of(node: u64, release: Release) -> Self {
        let versions = LINK.versions().filter(|version| *version <= release.link);
        Self {
            versions: BVec::first_max(versions.map(u16::from)),
            node,
            features: BVec::default(),
        }
    }

    /// The newest version that both sides speak, if there is one.
    #[must_use]
    pub fn common(&self, theirs: &Self) -> Option<u8> {
        LINK.versions().find(|version| {
            let spoken = u16::from(*version);
            self.versions.contains(&spoken) && theirs.versions.contains(&spoken)
        })
    }
}

crate::versioned!(LINK; Hello, Ack, Submit, Submitted);
