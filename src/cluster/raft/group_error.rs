//! Why a shard's group does not start, and why it does not take a batch.

use crate::{
    cluster::log::{
        batch::{ApplyError, StateError},
        record::RecordError,
        tail::LogFault,
    },
    store::{snapshot::SnapshotError, writer::StorageFull},
};
use openraft::{
    BasicNode, ConfigError,
    error::{Fatal, InitializeError},
};
use std::collections::BTreeSet;

/// Why a group does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The timing is contradictory.
    #[error("shard {shard}: {source}")]
    Config {
        /// The shard.
        shard: u16,
        /// What openraft found.
        source: Box<ConfigError>,
    },
    /// The node has no such shard.
    #[error("there is no shard {shard}: this node has {shards}")]
    UnknownShard {
        /// The shard.
        shard: u16,
        /// How many there are, from zero.
        shards: u16,
    },
    /// The log of the shard cannot be used.
    #[error(transparent)]
    Log(#[from] LogFault),
    /// The snapshots of the shard cannot be read, though they may be sound.
    #[error("shard {shard}: {source}")]
    Snapshots {
        /// The shard.
        shard: u16,
        /// What is wrong.
        source: SnapshotError,
    },
    /// Where the newest snapshot stands is not understood.
    #[error(
        "shard {shard}: where its snapshot stands cannot be used: {source}; run the version that wrote it"
    )]
    Place {
        /// The shard.
        shard: u16,
        /// What is wrong with it.
        source: RecordError,
    },
    /// The state in the newest snapshot is not understood.
    #[error("shard {shard}: {source}")]
    State {
        /// The shard.
        shard: u16,
        /// What is wrong with it.
        source: StateError,
    },
    /// The beginning of the log was discarded, and no good snapshot reaches that far.
    #[error(
        "shard {shard}: the log starts at {start}, and the newest good snapshot ends before {next}: \
         restore a snapshot of this node, or rebuild it from its peers"
    )]
    NoSnapshot {
        /// The shard.
        shard: u16,
        /// The first entry of the log.
        start: u64,
        /// The first entry that is not in the snapshot; zero without one.
        next: u64,
    },
    /// The snapshot holds entries that the log has never had.
    #[error(
        "shard {shard}: the log ends before {end}, but the newest snapshot ends before {next}: \
         log and snapshots are not of the same time; restore both together, or rebuild this node from its peers"
    )]
    OtherLog {
        /// The shard.
        shard: u16,
        /// One more than the last entry of the log.
        end: u64,
        /// The first entry that is not in the snapshot.
        next: u64,
    },
    /// The node is stopping.
    #[error("shard {shard}: the node stopped while it started")]
    Interrupted {
        /// The shard.
        shard: u16,
    },
    /// An entry could not be applied. It is never skipped.
    #[error("shard {shard}: entry {index}: {source}")]
    Apply {
        /// The shard.
        shard: u16,
        /// The entry.
        index: u64,
        /// What went wrong.
        source: ApplyError,
    },
    /// The log names other voters than this node.
    #[error(
        "shard {shard}: its log belongs to the voters {voters:?}, and this is node {node}: \
         start the node under its own number, or with its own directory"
    )]
    OtherVoters {
        /// The shard.
        shard: u16,
        /// This node.
        node: u64,
        /// Who may vote, as the log says.
        voters: BTreeSet<u64>,
    },
    /// openraft refused to begin.
    #[error("shard {shard}: begin the group: {source}")]
    Begin {
        /// The shard.
        shard: u16,
        /// What it said.
        source: Box<InitializeError<u64, BasicNode>>,
    },
    /// The group stopped while it started.
    #[error("shard {shard}: the group stopped while it started: {source}")]
    Stopped {
        /// The shard.
        shard: u16,
        /// Why.
        source: Box<Fatal<u64>>,
    },
}

/// Why a batch was not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The log is as large as it may be, or its disk is full. Reading goes on.
    #[error(transparent)]
    StorageFull(#[from] StorageFull),
    /// This node does not lead the shard.
    #[error("the shard has no leader here, ask again in {retry_after_ms} ms")]
    Unavailable {
        /// When to ask again.
        retry_after_ms: u64,
    },
    /// The group has stopped, on request or because its log failed. The batch may be in the log.
    #[error("the shard has stopped")]
    Stopped,
}
