//! What a node does about a full disk: it lets others lead, and holds room for when it starts again.
//!
//! Promises: a leader whose disk is full gives every shard to a voter that takes it, and keeps those that nobody takes,
//! refusing what is new. Not here: when a disk is full (`store::writer`); that a voter whose disk is full does not stand
//! for election (`members`).

use super::shards::Shards;
use crate::{
    cluster::{
        mesh::{
            Mesh,
            frame::{Control, ControlAnswer},
        },
        raft::group::Group,
    },
    store::Disk,
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task;

/// How often the disk is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How long a node waits before it asks again whether somebody takes a shard.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How long a request to another node may take.
const ASK_DEADLINE: Duration = Duration::from_secs(1);

/// Looks at the disk until the node stops.
pub(crate) async fn keep(disk: Disk, mesh: Option<Arc<Mesh>>, shards: Shards) {
    let mut asked: BTreeMap<u16, Instant> = BTreeMap::new();
    let mut turn = tokio::time::interval(LOOK_INTERVAL);
    loop {
        turn.tick().await;
        let snapshots = Arc::clone(&disk.snapshots);
        if task::spawn_blocking(move || snapshots.hold_room())
            .await
            .is_err()
        {
            // The runtime is being shut down.
            return;
        }
        if !disk.writer.is_disk_full() {
            asked.clear();
            continue;
        }
        let Some(mesh) = &mesh else {
            continue;
        };
        for shard in shards.iter().filter(|shard| shard.leads()) {
            let lately = asked.get(&shard.id);
            if lately.is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
                continue;
            }
            asked.insert(shard.id, Instant::now());
            if let Some(group) = mesh.group(shard.id) {
                hand_over(mesh, group, shard.id).await;
            }
        }
    }
}

/// Gives a shard to the first voter that takes it, the furthest first.
async fn hand_over(mesh: &Mesh, group: &Group, shard: u16) {
    for to in group.successors() {
        // Asked first: one whose disk is full as well refuses, and then nobody has stepped down for nothing.
        let would = Control::WouldTake { shard };
        if mesh.control(to, would, ASK_DEADLINE).await == Ok(ControlAnswer::Done) {
            let given = mesh.hand_over(group, to).await;
            tracing::warn!(
                shard,
                to,
                ?given,
                "the disk is full: another node takes the shard's leadership over"
            );
            return;
        }
    }
    tracing::warn!(
        shard,
        "the disk is full, and no other voter takes the shard's leadership over"
    );
}
