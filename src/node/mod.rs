//! The composition root: what a running node is made of. `boot` opens the store, binds the doors and starts the shards,
//! `running` keeps it up, `drain` ends it in order.

mod boot;
mod drain;
#[cfg(feature = "tools")]
pub(crate) mod fill;
pub mod running;
mod tasks;

use crate::{
    admit::Admission,
    certificates::Certificate,
    cluster::{
        mesh::{Mesh, clock::NodeClock},
        raft::group::Group,
        shard::{scrub::Scrubbed, shards::Shards},
    },
    peering::Peers,
    quic::{DoorEndpoint, GateFigures, LinkEndpoint},
    store::{Disk, writer::StorageFull},
};
use std::sync::{Arc, atomic::Ordering};

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
    /// What its doors let whom have.
    pub(crate) admission: Arc<Admission>,
    links: Arc<LinkEndpoint>,
    clients: Arc<DoorEndpoint>,
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
    /// What came to each of its doors: their names, and what each has and refused.
    pub(crate) fn doors(&self) -> [(&'static str, Option<GateFigures>); 3] {
        let mesh = self.mesh.as_ref();
        [
            ("clients", Some(self.clients.figures())),
            ("peers", Some(self.links.figures())),
            ("nodes", mesh.map(|mesh| mesh.door())),
        ]
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
