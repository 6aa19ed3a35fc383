//! The other nodes, as the group of a shard reaches them.

use crate::cluster::{
    log::types::{Snapshot, Vote},
    mesh::{
        calls::Lost,
        clock::NodeClock,
        frame::{RaftAnswer, RaftCall},
    },
};
use futures::future::BoxFuture;
use openraft::raft::SnapshotResponse;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The other nodes of the cluster.
pub(crate) trait Others: Send + Sync + 'static {
    /// The way to a node that is said to be at this address.
    fn way(&self, node: u64, address: &str) -> Arc<dyn Way>;

    /// This node's time, and what is known of the others'.
    fn clock(&self) -> &NodeClock;
}

/// Where calls to a voter go.
pub(crate) trait Way: Send + Sync + 'static {
    /// Whether there is a connection.
    fn is_up(&self) -> bool;

    /// Puts a call of about `bytes` bytes of entries on its way; one without entries waits behind none.
    ///
    /// # Errors
    /// [`Lost`] when too much waits already.
    fn begin(&self, call: RaftCall, bytes: usize) -> Result<oneshot::Receiver<RaftAnswer>, Lost>;

    /// Sends a snapshot of a shard; it has deadlines of its own, for each step.
    fn send_snapshot(
        &self,
        shard: u16,
        vote: Vote,
        snapshot: Snapshot,
    ) -> BoxFuture<'_, anyhow::Result<SnapshotResponse<u64>>>;
}
