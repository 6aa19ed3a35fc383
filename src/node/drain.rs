//! Ends a node in order: leaderships move, what is under way is finished, the doors and the store are closed.

use super::{Node, boot::Doors};
use crate::{cluster::shard::leader_balance, signals::Stop};
use std::{path::Path, time::Duration};
use tokio::task::JoinSet;
use tracing::{error, info};

/// Finishes what is under way, at most until the deadline or until the node is told to stop again. A node that stops
/// by itself keeps its leaderships: it may not be able to give them away.
pub(super) async fn finish(node: &Node, by_itself: bool, deadline: Duration, stop: &mut Stop) {
    let in_order = async {
        if let (Some(mesh), false) = (&node.mesh, by_itself) {
            info!("stopping: leaderships move to other nodes");
            leader_balance::retire(mesh, &node.shards, deadline).await;
        }
        info!("stopping: what is under way is finished, nothing new is taken");
        let drain = node.admission.drain();
        if tokio::time::timeout(deadline, drain).await.is_err() {
            info!("requests were still under way at the deadline");
        }
    };
    tokio::select! {
        () = in_order => {}
        () = stop.told() => info!("told again: what is under way is not waited for"),
    }
}

/// Closes the doors, ends all tasks, the groups and the log.
pub(super) async fn close(
    node: &Node,
    doors: &Doors,
    mut tasks: JoinSet<()>,
    deadline: Duration,
    admin_socket: &Path,
) {
    doors.links.close().await;
    doors.clients.close().await;
    if let Some(mesh) = &node.mesh {
        mesh.close().await;
    }
    tasks.shutdown().await;
    for group in &node.groups {
        if tokio::time::timeout(deadline, group.stop()).await.is_err() {
            error!("a shard did not stop in time");
        }
    }
    node.disk.writer.close().await;
    drop(std::fs::remove_file(admin_socket));
    info!("stopped");
}
