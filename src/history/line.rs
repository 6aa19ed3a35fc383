//! The lines of a history, as they are written and read.

use crate::names::{ClientUri, Digest, Epoch, RoomSeq, RoomUri};
use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Its number, from 0 without a gap.
    pub i: u64,
    /// When it was written, in nanoseconds of a clock that never goes back.
    pub t_mono_ns: u64,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// A process begins an operation.
    Invoke(Invoke),
    /// Its operation happened.
    Ok {
        /// The process.
        proc: String,
        /// The answer.
        ret: Ret,
    },
    /// Its operation certainly did not happen, and never will.
    Fail {
        /// The process.
        proc: String,
        /// The refusal, for people.
        why: String,
    },
    /// Nobody knows whether its operation happened or will.
    Info {
        /// The process.
        proc: String,
        /// What is known, for people.
        why: String,
    },
    /// A device has taken an event of a room.
    Deliver(Delivered),
    /// A sender was told the verdict on one of its messages.
    Verdict(Told),
    /// A fault begins or stops.
    Nemesis(Nemesis),
    /// A replica's state at a place of its log.
    Apply(Applied),
    /// How a node came up.
    Node(Start),
    /// A hub has the acknowledgement of all that it owed to a provider.
    Acked(Acked),
}

/// The beginning of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invoke {
    /// The process; for a device its client URI.
    pub proc: String,
    /// The node that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The operation.
    pub op: Op,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// Open a room; the process is its first member.
    Create {
        /// The room.
        room: RoomUri,
    },
    /// Commit in a room.
    Commit {
        /// The room.
        room: RoomUri,
        /// The epoch it would open.
        epoch: Epoch,
        /// The Commit.
        id: Digest,
        /// Clients that join with it.
        #[serde(default)]
        added: Vec<ClientUri>,
        /// Clients that leave with it.
        #[serde(default)]
        removed: Vec<ClientUri>,
        /// References of the Proposals that it names.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        covers: Vec<Digest>,
    },
    /// Propose in a room.
    Propose {
        /// The room.
        room: RoomUri,
        /// The Proposals: one event.
        id: Digest,
        /// The reference of each.
        references: Vec<Digest>,
    },
    /// Send messages to a room.
    Send {
        /// The room.
        room: RoomUri,
        /// The messages, in order.
        ids: Vec<Digest>,
    },
    /// Claim KeyPackages.
    Claim {
        /// The claim's id; a retry carries the same one.
        id: String,
    },
}

/// The answer to an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ret {
    /// The room exists.
    Created,
    /// The Commit opened an epoch.
    Committed {
        /// The epoch.
        epoch: Epoch,
        /// Its number in the room.
        seq: RoomSeq,
    },
    /// The Proposals wait for a Commit.
    Proposed,
    /// The messages are acknowledged: durable, though perhaps only on their way.
    Sent,
    /// KeyPackages were handed out.
    Claimed {
        /// Each of them.
        packages: Vec<Package>,
    },
}

/// A KeyPackage that was handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Whose.
    pub client: ClientUri,
    /// The KeyPackage.
    pub package: Digest,
}

/// An event of a room at a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivered {
    /// The device.
    pub client: ClientUri,
    /// The room.
    pub room: RoomUri,
    /// The event's number in the room.
    pub seq: RoomSeq,
    /// The event.
    pub id: Digest,
    /// The epoch that it opens, when it is a Commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The device had it already and dropped it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub again: bool,
}

/// The verdict on a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// The sender.
    pub client: ClientUri,
    /// The room.
    pub room: RoomUri,
    /// The message.
    pub id: Digest,
    /// Its number in the room; `None` when it is refused for good.
    pub seq: Option<RoomSeq>,
}

/// A fault that begins or stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nemesis {
    /// The fault.
    pub what: Fault,
    /// The nodes it is done to; of a partition, those that are cut off from the majority.
    pub target: Vec<String>,
    /// Whether it begins.
    pub phase: Phase,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// What was not synced is gone.
    PowerLoss,
    /// SIGTERM: the process ends in order.
    Stop,
    /// The process stands still.
    Pause,
    /// The network between nodes is cut.
    Partition,
    /// Stored bytes are changed.
    Corrupt,
    /// The disk takes no more.
    DiskFull,
    /// The disk takes its time.
    SlowDisk,
}

impl Fault {
    /// Whether a process ends by it.
    pub(super) fn is_crash(self) -> bool {
        matches!(self, Self::Kill | Self::PowerLoss)
    }
}

/// Whether a fault begins or stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It begins.
    Start,
    /// It is over.
    Stop,
}

/// A replica's state at a place of its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// The provider.
    pub provider: String,
    /// The shard.
    pub shard: u16,
    /// The node, named as everywhere in the history.
    pub node: String,
    /// The term of the entry, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// The entry.
    pub index: u64,
    /// Hash of everything folded up to it.
    pub hash: Digest,
    /// Whether the node led the shard in that term.
    #[serde(default, skip_serializing_if = "is_false")]
    pub leads: bool,
}

/// A hub owes a provider nothing more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acked {
    /// The hub.
    pub hub: String,
    /// The provider, named as its nodes are.
    pub peer: String,
}

/// How a node came up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The node.
    pub node: String,
    /// What it does.
    pub is: NodeState,
    /// Whether it raised an alarm: an error in its log, or on standard error.
    #[serde(default, skip_serializing_if = "is_false")]
    pub alarm: bool,
}

/// What a node does after its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It serves.
    Ready,
    /// It waits for what it lacks from other nodes, and does not vote.
    Repairing,
    /// It ended with an error.
    Refused,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}
