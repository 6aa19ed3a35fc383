//! What two nodes of a cluster say to each other.
//!
//! ```text
//! lane            first frame            then
//! hello           Open::Hello            one Greeting back
//! raft            Open::Raft             Calls<RaftCall>  ⇄  Answers<RaftAnswer>, many at a time
//! forward         Open::Forward{shard}   Calls<Ask>       ⇄  Answers<Answered>, asked in order
//! control         Open::Control          one ControlAnswer back
//! snapshot        Open::Snapshot         see `transfer`
//! ```
//!
//! postcard behind a version byte, as everywhere. The types of openraft are bounded by the frame they come in.

use crate::cluster::{
    raft::{LogId, SnapshotMeta, Types, Vote},
    record::{self, RecordError},
};
use mimi_actors::{
    machine::Millis,
    wire::{BText, BVec},
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

/// Largest frame between two nodes, in bytes: as many entries as one message may carry, the largest of them last.
pub(super) const FRAME_BYTES_MAX: usize = 16 << 20;
/// Calls in one frame, at most.
pub(super) const CALLS_MAX: usize = 1_024;
/// Shards that a greeting speaks of, at most.
const SHARDS_MAX: usize = 1_024;
/// Longest explanation of a refusal, in bytes.
const WHY_BYTES_MAX: usize = 512;

/// Words of a refusal.
pub(crate) type Why = BText<WHY_BYTES_MAX>;

/// The first frame of a lane.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Open {
    /// Who dials.
    Hello(Hello),
    /// Votes and appends of all shards.
    Raft,
    /// Requests for the actors of one shard, which the other node leads.
    Forward { shard: u16 },
    /// One request about the cluster itself.
    Control(Control),
    /// A shard's state for one that lags behind the log.
    Snapshot(Offer),
}

/// Who a node is, beside what its certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Made with its data directory: another one is another disk.
    pub(crate) incarnation: [u8; 16],
    /// How often it was started on that directory.
    pub(crate) starts: u64,
    /// Made with its process.
    pub(crate) session: [u8; 16],
    /// Hash of the nodes that it began a cluster with; none for one that joined.
    pub(crate) founding: Option<[u8; 32]>,
    /// For each shard one more than the last entry on its disk.
    pub(crate) reach: BVec<u64, SHARDS_MAX>,
}

/// The answer to a greeting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Greeting {
    /// Who is dialled.
    Welcome(Hello),
    /// Not spoken to.
    Refused(Why),
}

/// Calls with their numbers, which the lane's caller gives.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Calls<Q>(pub(super) Vec<(u64, Q)>);

/// Answers with the numbers of their calls, in any order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answers<A>(pub(super) Vec<(u64, A)>);

/// A call of one shard's group.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RaftCall {
    /// The shard.
    pub(crate) shard: u16,
    /// The call.
    pub(crate) rpc: Rpc,
}

/// Calls of one group to another: openraft's beside snapshots, and what is asked before a vote.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Rpc {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<u64>),
    /// Would you vote for the caller, whose last entry is this? Nothing changes by it.
    PreVote(Option<LogId>),
    /// The leader whose vote this is leads no longer.
    Released(Vote),
}

/// Their answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum RaftAnswer {
    Append(AppendEntriesResponse<u64>),
    Vote(VoteResponse<u64>),
    /// The shard does not run there.
    Refused(Why),
    /// Whether it would.
    PreVote(bool),
    /// Heard.
    Released,
}

/// A request about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Control {
    /// Take over the leadership of a shard: its leader has gone silent.
    Take { shard: u16 },
    /// Give up the leadership of a shard to the node that asks.
    Give { shard: u16 },
    /// To the leader of a shard: let a node learn, or make it a voter in place of others.
    Member { shard: u16, change: MemberChange },
    /// What time is it there?
    Clock,
}

/// A change of one shard's members, idempotent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MemberChange {
    /// A node that gets everything and does not vote; returns when it is level.
    Learn { node: u64, address: BText<256> },
    /// Exactly these vote.
    Vote { voters: BVec<u64, 7> },
    /// A node that does not vote is forgotten.
    Forget { node: u64 },
}

/// The answer to a request about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ControlAnswer {
    Done,
    /// The node that leads the shard, if it is known; ask there.
    NotLed(Option<u64>),
    Refused(Why),
    /// What the node's own clock says, what it takes the time to be, and for how many milliseconds it has run.
    Clock {
        wall: Millis,
        time: Millis,
        running_ms: u64,
    },
}

/// A snapshot that a leader offers. openraft's parts are encoded as on the disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Offer {
    pub(super) shard: u16,
    vote: BVec<u8, 256>,
    meta: BVec<u8, { 64 << 10 }>,
    /// The sealed manifest, as its file holds it.
    pub(super) manifest: BVec<u8, { 4 << 20 }>,
}

/// A part of an offer that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum OfferError {
    #[error("it does not read: {0}")]
    Record(#[from] RecordError),
    #[error("it is too large")]
    TooLarge(#[from] mimi_actors::wire::bounded::TooMany),
}

impl Offer {
    pub(super) fn new(
        shard: u16,
        vote: &Vote,
        meta: &SnapshotMeta,
        manifest: Vec<u8>,
    ) -> Result<Self, OfferError> {
        Ok(Self {
            shard,
            vote: record::encode_small(vote)?.try_into()?,
            meta: record::encode_small(meta)?.try_into()?,
            manifest: manifest.try_into()?,
        })
    }

    pub(super) fn vote(&self) -> Result<Vote, OfferError> {
        Ok(record::decode_small(&self.vote)?)
    }

    pub(super) fn meta(&self) -> Result<SnapshotMeta, OfferError> {
        Ok(record::decode_small(&self.meta)?)
    }
}

/// From the node that lags: what it wants next.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Want {
    /// A part of a file, from an offset: what was kept of an earlier attempt is not sent again.
    Piece { file: u32, offset: u64 },
    /// Entries before the snapshot that its state still points at.
    Entries(BVec<u64, 4_096>),
    /// Nothing more: what became of it.
    Installed(InstallAnswer),
    /// It is not taken.
    Refused(Why),
}

/// What became of an offer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InstallAnswer(pub(super) SnapshotResponse<u64>);

/// From the leader: what was wanted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Give {
    /// Bytes of a file; none at its end.
    Piece(mimi_actors::wire::Payload),
    /// Entries as they lie in the log; one that nobody needs any more is left out.
    Entries(Vec<(u64, mimi_actors::wire::Payload)>),
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
