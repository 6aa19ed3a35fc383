//! The composition root: what a running node is made of. `boot` opens the store, binds the doors and starts the shards,
//! `running` keeps it up, `drain` ends it in order.

mod boot;
mod drain;
#[cfg(feature = "tools")]
pub(crate) mod fill;
pub mod running;
mod tasks;

use crate::{
    certificates::Certificate,
    cluster::{
        mesh::{Mesh, clock::NodeClock},
        raft::group::Group,
        shard::{scrub::Scrubbed, shards::Shards},
    },
    peering::Peers,
    store::{Disk, writer::StorageFull},
};
use mimi_actors::limits::REQUESTS_IN_FLIGHT_MAX;
use std::sync::{Arc, atomic::Ordering};
use tokio::sync::Semaphore;

/// A running node.
pub(crate) struct Node {
    pub(crate) id: u64,
    /// What time it is.
    pub(crate) clock: Arc<NodeClock>,
    /// The other nodes, where there are any.
    pub(crate) mesh: Option<Arc<Mesh>>,
    pub(crate) shards: Shards,
    pub(crate) peers: Peers,
    pub(crate) groups: Vec<Group>,
    pub(crate) scrubbed: Arc<Scrubbed>,
    pub(crate) certificates: Vec<Certificate>,
    /// Permits for the requests of users and peers.
    requests: Arc<Semaphore>,
    disk: Disk,
    log_bytes_max: u64,
}

/// What the log has done since the start.
pub(crate) struct LogFigures {
    pub(crate) bytes: u64,
    pub(crate) bytes_max: u64,
    pub(crate) syncs: u64,
    pub(crate) entries: u64,
}

impl Node {
    /// How many requests of users and peers are under way, and how many may be.
    pub(crate) fn requests_in_flight(&self) -> (usize, usize) {
        let free = self.requests.available_permits();
        (REQUESTS_IN_FLIGHT_MAX - free, REQUESTS_IN_FLIGHT_MAX)
    }

    /// Why nothing new is taken here, where that is so.
    pub(crate) fn storage_full(&self) -> Option<StorageFull> {
        self.disk.writer.full()
    }

    pub(crate) fn log_figures(&self) -> LogFigures {
        let counts = self.disk.writer.counts();
        LogFigures {
            bytes: self.disk.log.bytes(),
            bytes_max: self.log_bytes_max,
            syncs: counts.rounds.load(Ordering::Relaxed),
            entries: counts.entries.load(Ordering::Relaxed),
        }
    }
}
