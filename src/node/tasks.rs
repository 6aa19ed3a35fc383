//! What a node does all the time, one task each, until it stops.

use crate::{
    admit::Admission,
    cluster::{
        log::batch::Batch,
        mesh::Mesh,
        raft::{group::Group, group_error::ProposeError},
        shard::{Shard, shards::Shards},
    },
    gateway,
    peering::{self, Peers},
    quic::{DoorEndpoint, LinkEndpoint, strangers::Strangers},
    store::Disk,
};
use mimi_actors::{
    kind::NotAppended,
    wire::{link::Hello, refusal::TryLater},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tracing::{error, warn};

/// How often idle actors are looked for, among all that there are.
const SLEEP_INTERVAL: Duration = Duration::from_secs(5);
/// The same while many are awake.
const SLEEP_INTERVAL_CROWDED: Duration = Duration::from_secs(1);
/// How often it is said that OpenMLS has something against what was taken.
const OBJECTIONS_INTERVAL: Duration = Duration::from_secs(10);
/// How often files of discarded entries are looked for.
const COLLECT_INTERVAL: Duration = Duration::from_secs(1);

/// Tells a shard who leads it. A group whose task has panicked is left alone until the next start: the other shards, and
/// this one on the other nodes, go on. Any other fault is of the disk, and stops the node.
pub(super) async fn keep_lead(group: Group, shard: Arc<Shard>, fatal: mpsc::Sender<String>) {
    match group.watch_lead(|lead| shard.take_note(lead)).await {
        None => {}
        Some(fault) if group.is_fenced() => {
            error!(
                shard = shard.id,
                %fault,
                "the shard has stopped on this node after a fault of the program: the other shards go on; start the node \
                 again, and report the panic above"
            );
        }
        // One report is enough.
        Some(fault) => drop(fatal.try_send(format!("shard {} has stopped: {fault}", shard.id))),
    }
}

/// Has a shard's answers from memory confirmed, where others could lead.
pub(super) async fn keep_confirming(group: Group, shard: Arc<Shard>) {
    if let Some(confirming) = &shard.confirming {
        confirming.run(|| group.confirm()).await;
    }
}

/// Puts one entry into the log. What becomes of a group that has stopped is decided where that is watched.
pub(super) async fn propose(group: Group, batch: Batch) -> Result<(), NotAppended> {
    match group.propose(batch).await {
        Ok(_) => Ok(()),
        Err(ProposeError::StorageFull(full)) => {
            warn!(%full, "a write is refused");
            Err(NotAppended::StorageFull)
        }
        Err(ProposeError::Unavailable { retry_after_ms }) => {
            let retry_after_ms = u32::try_from(retry_after_ms).unwrap_or(u32::MAX);
            Err(NotAppended::TryLater(TryLater::unavailable(retry_after_ms)))
        }
        Err(ProposeError::Stopped) => Err(NotAppended::TryLater(TryLater::UNANSWERED)),
    }
}

/// Waits until the other nodes say that this one must not go on.
pub(super) async fn doubted(mesh: Option<&Arc<Mesh>>) -> String {
    match mesh {
        Some(mesh) => mesh.doubted().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn put_to_sleep(shards: Shards, usual: Duration) {
    let mut turn = tokio::time::interval(SLEEP_INTERVAL_CROWDED);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked = Instant::now();
    loop {
        turn.tick().await;
        let idle = shards.environment().awake.idle(usual);
        if idle == usual && looked.elapsed() < SLEEP_INTERVAL {
            continue;
        }
        looked = Instant::now();
        for shard in shards.iter() {
            let asleep = shard.put_to_sleep(idle).await;
            if asleep > 0 {
                tracing::debug!(shard = shard.id, asleep, "idle actors were put to sleep");
            }
        }
    }
}

/// Says what OpenMLS has against things that were taken: the newest, and how many there were, no more often than that.
pub(super) async fn tell_objections(shards: Shards) {
    let objections = &shards.environment().mls.terms.objections;
    let mut turn = tokio::time::interval(OBJECTIONS_INTERVAL);
    loop {
        turn.tick().await;
        if let Some(newest) = objections.take_newest() {
            warn!(
                %newest,
                since_start = objections.count(),
                "OpenMLS would not have taken what this node took"
            );
        }
    }
}

/// Has the files of discarded entries given back; shards that keep old files in use are sealed.
pub(super) async fn collect(disk: Disk, groups: Vec<Group>) {
    let mut turn = tokio::time::interval(COLLECT_INTERVAL);
    loop {
        turn.tick().await;
        let log = Arc::clone(&disk.log);
        match tokio::task::spawn_blocking(move || log.collect()).await {
            Ok(Ok(holders)) => {
                let held = holders.into_iter().map(usize::from);
                let held = held.filter_map(|shard| groups.get(shard));
                held.for_each(Group::seal_soon);
            }
            Ok(Err(error)) => error!(%error, "the log does not shrink"),
            // The runtime is being shut down.
            Err(_) => return,
        }
    }
}

pub(super) async fn accept_links(
    endpoint: Arc<LinkEndpoint>,
    shards: Shards,
    peers: Peers,
    greeting: Hello,
    admission: Arc<Admission>,
) {
    let strangers = Arc::new(Strangers::new("another provider"));
    while let Some(incoming) = endpoint.accept().await {
        let (shards, peers, admission) = (shards.clone(), peers.clone(), Arc::clone(&admission));
        let greeting = greeting.clone();
        let (strangers, address) = (Arc::clone(&strangers), incoming.remote_address());
        tokio::spawn(async move {
            match incoming.establish().await {
                Ok(link) => {
                    let link = Arc::new(link);
                    peering::incoming::serve(link, shards, peers, greeting, admission).await;
                }
                Err(error) => strangers.refused(address, &error),
            }
        });
    }
}

pub(super) async fn accept_doors(
    endpoint: Arc<DoorEndpoint>,
    shards: Shards,
    peers: Peers,
    admission: Arc<Admission>,
) {
    while let Some(incoming) = endpoint.accept().await {
        let (shards, peers, admission) = (shards.clone(), peers.clone(), Arc::clone(&admission));
        tokio::spawn(async move {
            match incoming.establish().await {
                Ok(door) => gateway::serve(door, shards, peers, admission).await,
                Err(error) => tracing::debug!(%error, "a client was not let in"),
            }
        });
    }
}
