//! Runs a node: from its start to its end.

use super::{
    Node,
    boot::{self, Doors, Opened, Started},
    drain, tasks,
};
use crate::{
    admin::local,
    admit::Admission,
    certificates::keep_telling,
    cluster::{
        feeds::{notices, retention, tell_acks},
        shard::{full_disk, level, scrub::Scrub, shards::Shards},
    },
    config::Config,
    peering::{Peers, led::led, outgoing::Peer},
    preflight::{self, Found},
    signals::{self, Stop},
};
use anyhow::{Context, bail};
use mimi_actors::wire::{link::Hello, version::Release};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tracing::info;

/// What to do when a shard has stopped, or an actor cannot go on.
const REPLAY: &str = "start it again to replay its log";
/// What to do when what is stored is damaged.
const REPLACE: &str = "it must not lead or vote on what it cannot read: put a new node in its place \
    (`mimi-node cluster replace`), or restore its data directory";

/// Runs a node until SIGTERM or SIGINT, then ends it in order.
///
/// # Errors
/// When it cannot start, or a shard stops: one line that says what to do.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(signals::ignore_the_rest().context("listen for signals")?);
    let mut found = preflight::look(&config)?;
    tasks.spawn(keep_telling(found.certificates.clone()));
    let doors = boot::bind(&config, &found)?;
    let release = config.release()?;
    let mut opened = boot::open(&config, &mut found, release, &mut tasks).await?;
    let provider = found.provider.clone();
    let started = boot::start(&config, provider.clone(), &mut opened, &mut tasks).await?;
    keep_up(&config, &opened, &started, release, &mut tasks);
    let peers = open_doors(
        &config,
        &mut found,
        &doors,
        release,
        &started.shards,
        &mut tasks,
    );

    let Opened {
        disk,
        clock,
        mesh,
        ready,
        admin,
        ..
    } = opened;
    let Started {
        shards,
        groups,
        supervisor,
        mut failed,
        fatal: _,
    } = started;
    let rate = config.storage.scrub_bytes_per_s;
    let mut scrub = Scrub::new(disk.clone(), groups.clone(), rate);
    let (peers, admission) = peers;
    let node = Arc::new(Node {
        id: config.node.id,
        clock,
        mesh,
        shards,
        peers,
        groups,
        scrubbed: scrub.scrubbed(),
        certificates: found.certificates,
        admission,
        links: Arc::clone(&doors.links),
        clients: Arc::clone(&doors.clients),
        disk,
        log_bytes_max: config.storage.log_bytes_max,
    });
    // Whoever is told that the node is ready may tell it to stop.
    let mut stop = Stop::listen();
    ready.open(Arc::clone(&node));
    tasks.spawn(local::serve(admin, Arc::clone(&node), Arc::clone(&ready)));
    info!(
        %provider,
        node = config.node.id,
        link = %doors.links.local_address()?,
        door = %doors.clients.local_address()?,
        "node ready"
    );

    let why = tokio::select! {
        () = stop.told() => None,
        Some(why) = failed.recv() => Some(format!("{why}; {REPLAY}")),
        why = supervisor.failed() => Some(format!("{why}; {REPLAY}")),
        why = tasks::doubted(node.mesh.as_ref()) => Some(why),
        found = scrub.run() => Some(format!("{found}; {REPLACE}")),
    };
    ready.drain();
    let deadline = Duration::from_millis(config.limits.drain_deadline_ms);
    drain::finish(&node, why.is_some(), deadline, &mut stop).await;
    drain::close(&node, &doors, tasks, deadline, &config.node.admin_socket).await;
    match why {
        None => Ok(()),
        Some(why) => bail!("the node stopped by itself: {why}"),
    }
}

/// Keeps up what goes on beside requests.
fn keep_up(
    config: &Config,
    opened: &Opened,
    started: &Started,
    release: Release,
    tasks: &mut JoinSet<()>,
) {
    let (disk, shards) = (&opened.disk, &started.shards);
    for shard in shards.iter() {
        tasks.spawn(notices::carry(shards.clone(), Arc::clone(shard)));
    }
    let idle = Duration::from_secs(config.limits.idle_s);
    tasks.spawn(tasks::put_to_sleep(shards.clone(), idle));
    tasks.spawn(tasks::tell_objections(shards.clone()));
    tasks.spawn(tell_acks::tell(shards.clone()));
    tasks.spawn(retention::keep(shards.clone(), config.retention()));
    tasks.spawn(tasks::collect(disk.clone(), started.groups.clone()));
    let mesh = opened.mesh.clone();
    tasks.spawn(full_disk::keep(disk.clone(), mesh.clone(), shards.clone()));
    let (groups, fatal) = (started.groups.clone(), started.fatal.clone());
    tasks.spawn(level::keep(shards.clone(), groups, mesh, release, fatal));
}

/// Serves peers and clients from now on; gives the peers, and what the doors let whom have.
fn open_doors(
    config: &Config,
    found: &mut Found,
    doors: &Doors,
    release: Release,
    shards: &Shards,
    tasks: &mut JoinSet<()>,
) -> (Peers, Arc<Admission>) {
    let deadline = config.request_deadline();
    let peers = std::mem::take(&mut found.peers);
    let peers = peers.into_iter().map(|(id, peer)| {
        let peer = Peer::new(id.clone(), peer.addresses, deadline, shards.count());
        (id, Arc::new(peer))
    });
    let peers = Peers::new(peers.collect());
    let greeting = Hello::of(config.node.id, release);
    let (led, keep_led) = led(shards);
    tasks.spawn(keep_led);
    for (_, peer) in peers.iter() {
        let links = Arc::clone(&doors.links);
        let (shards, greeting) = (shards.clone(), greeting.clone());
        let keep = Arc::clone(peer).keep(links, shards, led.clone(), greeting);
        tasks.spawn(keep);
    }
    let admission = Admission::new(config.door.wrong_logins());
    tasks.spawn(tasks::accept_links(
        Arc::clone(&doors.links),
        shards.clone(),
        peers.clone(),
        greeting,
        Arc::clone(&admission),
    ));
    tasks.spawn(tasks::accept_doors(
        Arc::clone(&doors.clients),
        shards.clone(),
        peers.clone(),
        Arc::clone(&admission),
    ));
    (peers, admission)
}
