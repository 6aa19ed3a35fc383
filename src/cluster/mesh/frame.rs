//! What two nodes of a cluster say to each other.
//!
//! ```text
//! lane            first frame            then
//! hello           Open::Hello            one Greeting back
//! raft            Open::Raft             Calls<RaftCall>  ⇄  Answers<RaftAnswer>, many at a time
//! forward         Open::Forward{shard}   Calls<ShardRequest>       ⇄  Answers<ShardReply>, asked in order
//! control         Open::Control          one ControlAnswer back
//! snapshot        Open::Snapshot         see `transfer`
//! ```
//!
//! postcard behind a version byte, as everywhere: the version that the handshake agreed. The types of openraft are bounded
//! by the frame they come in.

use crate::{
    cluster::log::{
        record::{self, RecordError},
        types::{LogId, SnapshotMeta, Types, Vote},
    },
    directory::Founding,
};
use mimi_actors::{
    limits::{CLUSTER_FRAME_BYTES_MAX, SHARDS_MAX},
    machine::Millis,
    membership::{
        Address, ChangeId, Next, View, Wish,
        chain::{STARTS_MAX, StartId},
    },
    versioned,
    wire::{
        BText, BVec, Unwritten, Versioned,
        reading::{self, NotRead},
        version::{CLUSTER, Format},
    },
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};

/// Largest frame between two nodes, in bytes: as many entries as one message may carry, the largest of them last.
pub(super) const FRAME_BYTES_MAX: usize = CLUSTER_FRAME_BYTES_MAX;
/// Calls in one frame, at most.
pub(super) const CALLS_MAX: usize = 1_024;
/// Nodes that have left which a greeting names, at most: the highest numbers.
pub(super) const LEFT_MAX: usize = 256;
/// Rows of who has been how far in one request, at most; the others come with the next leader's.
const REACHED_MAX: usize = 4_096;
/// Longest explanation of a refusal, in bytes.
const WHY_BYTES_MAX: usize = 512;

/// Words of a refusal.
pub(crate) type Why = BText<WHY_BYTES_MAX>;

/// The first frame of a lane.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// The starts that its data directory has been in, the present one last.
    pub(crate) starts: BVec<StartId, STARTS_MAX>,
    /// Hash of the nodes that its cluster began with; none for one that nobody took in yet.
    pub(crate) founding: Option<Founding>,
    /// The public half of the hub's key, the same on every node.
    pub(crate) hub_key: [u8; 32],
    /// Where the other nodes reach it, as its configuration says.
    pub(crate) address: Address,
    /// It is configured to wait until it is taken in.
    pub(crate) waits: bool,
    /// Nodes that it knows to have left.
    pub(crate) left: BVec<u64, LEFT_MAX>,
    /// For each shard one more than the last entry on its disk.
    pub(crate) reach: BVec<u64, { SHARDS_MAX as usize }>,
    /// For each shard the last entry that it applied.
    pub(crate) applied: BVec<Option<Place>, { SHARDS_MAX as usize }>,
}

impl Hello {
    /// The start that the node is in.
    pub(crate) fn start(&self) -> StartId {
        self.starts.last().copied().unwrap_or_default()
    }

    /// One more than the last entry of a shard on its disk.
    pub(crate) fn reach_of(&self, shard: u16) -> u64 {
        let reach = self.reach.get(usize::from(shard)).copied();
        reach.unwrap_or_default()
    }
}

/// An entry, and the leader that wrote it: two logs with the same place are the same up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) leader: u64,
}

impl From<LogId> for Place {
    fn from(log_id: LogId) -> Self {
        Self {
            index: log_id.index,
            term: log_id.leader_id.term,
            leader: log_id.leader_id.node_id,
        }
    }
}

/// The answer to a greeting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Greeting {
    /// Who is dialled.
    Welcome(Hello),
    /// Not spoken to.
    Refused {
        /// What the node that dials has to think of itself.
        ground: Ground,
        /// Why, and what to do.
        why: Why,
    },
}

/// Why a node is not spoken to, as far as that node itself must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ground {
    /// It was let go.
    Left,
    /// Its data directory is not the one that was known.
    NotTheOne,
    /// Its log holds something else than this node's where both have applied it.
    Diverged {
        /// In this shard.
        shard: u16,
    },
    /// Anything else, which may be this node's own fault.
    Other,
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
    /// Do you follow the leader whose vote this is? Answered by the node itself: its engine may wait for the disk.
    Follow(Vote),
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
    /// Whether it follows that leader; it has heard of it now.
    Follows(bool),
}

/// A request about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Control {
    /// Take over the leadership of a shard: its leader has gone silent.
    Take { shard: u16 },
    /// Give up the leadership of a shard to the node that asks.
    Give { shard: u16 },
    /// To the leader of a shard: say what the next step of a wish would be.
    Look { shard: u16, wish: Wish },
    /// To the leader of a shard: carry a wish out.
    Carry { shard: u16, wish: Wish },
    /// To the leader of a shard: say who its members are.
    View { shard: u16 },
    /// To the leader of the first shard: no other change begins while this one goes on.
    Begin { note: Note },
    /// Write down that a change has begun; or, without one, that this one is over.
    Note { id: ChangeId, wish: Option<Wish> },
    /// Say which change was written down and is not over.
    Noted,
    /// Say that you are there.
    Ping,
    /// What time is it there?
    Clock,
    /// Write down how far nodes have been: node, shard, one more than the last committed entry.
    Reached(BVec<(u64, u16, u64), REACHED_MAX>),
    /// Say whether you would take over the leadership of a shard.
    WouldTake { shard: u16 },
}

/// A change of the members of all shards that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Random.
    pub(crate) id: ChangeId,
    /// What is wished.
    pub(crate) wish: Wish,
}

/// The answer to a request about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ControlAnswer {
    Done,
    /// The node that leads the shard, if it is known; ask there.
    NotLed(Option<u64>),
    Refused(Why),
    /// The next step.
    Next(Next),
    /// The members of a shard.
    View(Box<View>),
    /// The change that was written down.
    Noted(Option<Note>),
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

versioned!(CLUSTER; Open, Greeting, ControlAnswer, Want, Give, RaftCall, RaftAnswer);

impl<Q: Versioned> Versioned for Calls<Q> {
    const FORMAT: Format = CLUSTER;

    fn read(version: u8, body: &[u8]) -> Result<(Self, &[u8]), NotRead> {
        let (calls, rest) = read_numbered(version, body)?;
        Ok((Self(calls), rest))
    }

    fn write(&self, version: u8, out: Vec<u8>) -> Result<Vec<u8>, Unwritten> {
        write_numbered(&self.0, version, out)
    }
}

impl<A: Versioned> Versioned for Answers<A> {
    const FORMAT: Format = CLUSTER;

    fn read(version: u8, body: &[u8]) -> Result<(Self, &[u8]), NotRead> {
        let (answers, rest) = read_numbered(version, body)?;
        Ok((Self(answers), rest))
    }

    fn write(&self, version: u8, out: Vec<u8>) -> Result<Vec<u8>, Unwritten> {
        write_numbered(&self.0, version, out)
    }
}

/// Values with their numbers, and what follows them.
type Numbered<'body, T> = (Vec<(u64, T)>, &'body [u8]);

/// Values with their numbers, each as its version has it.
fn read_numbered<T: Versioned>(version: u8, body: &[u8]) -> Result<Numbered<'_, T>, NotRead> {
    let (count, mut rest): (usize, _) = reading::take(body)?;
    // As many as are announced may not come: memory grows with those that do.
    let mut numbered = Vec::with_capacity(count.min(CALLS_MAX));
    for _ in 0..count {
        let (number, after) = reading::take(rest).map_err(|error| error.after(body, rest))?;
        let read = T::read(version, after);
        let (value, after) = read.map_err(|error| error.after(body, after))?;
        numbered.push((number, value));
        rest = after;
    }
    Ok((numbered, rest))
}

fn write_numbered<T: Versioned>(
    numbered: &[(u64, T)],
    version: u8,
    out: Vec<u8>,
) -> Result<Vec<u8>, Unwritten> {
    let mut out = postcard::to_extend(&numbered.len(), out)?;
    for (number, value) in numbered {
        out = value.write(version, postcard::to_extend(number, out)?)?;
    }
    Ok(out)
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
