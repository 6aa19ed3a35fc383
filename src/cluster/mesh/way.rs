//! The mesh as the groups of the shards use it.

use super::{
    Mesh,
    calls::Lost,
    clock::NodeClock,
    frame::{RaftAnswer, RaftCall},
    neighbour::Neighbour,
    transfer,
};
use crate::{
    cluster::{
        log::types::{Snapshot, Vote},
        raft::way::{Others, Way},
    },
    store::Disk,
};
use futures::{FutureExt, future::BoxFuture};
use openraft::raft::SnapshotResponse;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What a call costs beside its entries, in bytes, about.
const CALL_BYTES: usize = 256;

impl Others for Mesh {
    fn way(&self, node: u64, address: &str) -> Arc<dyn Way> {
        Arc::new(ToNeighbour {
            neighbour: self.neighbour(node, address),
            disk: self.disk().clone(),
        })
    }

    fn clock(&self) -> &NodeClock {
        self.clock()
    }
}

/// The way to a neighbour, and what its snapshots are read from.
struct ToNeighbour {
    neighbour: Arc<Neighbour>,
    disk: Disk,
}

impl Way for ToNeighbour {
    fn is_up(&self) -> bool {
        self.neighbour.link().is_some()
    }

    fn begin(&self, call: RaftCall, bytes: usize) -> Result<oneshot::Receiver<RaftAnswer>, Lost> {
        let caller = if bytes > 0 {
            self.neighbour.bulk()
        } else {
            self.neighbour.urgent()
        };
        caller.begin(call, CALL_BYTES + bytes)
    }

    fn send_snapshot(
        &self,
        shard: u16,
        vote: Vote,
        snapshot: Snapshot,
    ) -> BoxFuture<'_, anyhow::Result<SnapshotResponse<u64>>> {
        async move { transfer::send(&self.neighbour, &self.disk, shard, &vote, snapshot).await }
            .boxed()
    }
}
