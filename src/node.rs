//! The composition root: opens the store, binds the doors, starts the shards, and ends them in order.

use crate::{
    admin::{http, local, ready::Ready},
    certificates::{Certificate, keep_telling},
    cluster::{
        self,
        feeds::{client_acks, notices, refusal_throttle::RefusalThrottle, retention, wake::Wakers},
        log::{batch::Batch, entries::Entries},
        mesh::{
            Mesh,
            clock::{self, NodeClock},
            identity::Own,
        },
        raft::{group::Group, group_error::ProposeError, lead::Lead},
        shard::{
            self, NotQueued, Shard,
            apply::ApplyToActors,
            full_disk, leader_balance, level,
            scrub::{Scrub, Scrubbed},
            shards::Shards,
        },
    },
    config::{self, Config},
    directory::{self, Founding, HubKey},
    gateway,
    peering::{self, Peers, outgoing::Peer},
    perform::{Environment, workers::Workers},
    preflight,
    private::close_to_others,
    quic::{
        BindError, ClusterEndpoint, DoorEndpoint, Identity, LinkEndpoint, strangers::Strangers,
    },
    signals::{self, Stop},
    store::{Disk, writer::StorageFull},
};
use anyhow::{Context, bail};
use futures::future::try_join_all;
use mimi_actors::{
    ids::ProviderId,
    limits::{CHECKS_WAITING_MAX, REQUESTS_IN_FLIGHT_MAX, SHARDS},
    room::checks::Mls,
    supervisor::Supervisor,
    wire::{link::Hello, refusal::TryLater, version::Release},
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tracing::{error, info, warn};

/// How often idle actors are looked for.
const SLEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How often files of discarded entries are looked for.
const COLLECT_INTERVAL: Duration = Duration::from_secs(1);

/// What to do when a shard has stopped, or an actor cannot go on.
const REPLAY: &str = "start it again to replay its log";
/// What to do when what is stored is damaged.
const REPLACE: &str = "it must not lead or vote on what it cannot read: put a new node in its place \
    (`mimi-node cluster replace`), or restore its data directory";

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

/// Runs a node until SIGTERM or SIGINT, then ends it in order.
///
/// # Errors
/// When it cannot start, or a shard stops: one line that says what to do.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(signals::ignore_the_rest().context("listen for signals")?);
    let found = preflight::look(&config)?;
    tasks.spawn(keep_telling(found.certificates.clone()));
    let (provider, identity) = (found.provider.clone(), &found.identity);
    let listening = |key| move || format!("`{key}`: choose another address, or end who has it");
    let links = LinkEndpoint::bind(config.link.listen, identity, &found.trust());
    let links = Arc::new(links.with_context(listening("link.listen"))?);
    let doors = DoorEndpoint::bind(config.door.listen, identity);
    let doors = Arc::new(doors.with_context(listening("door.listen"))?);

    let data_dir = &config.node.data_dir;
    std::fs::create_dir_all(data_dir)
        .with_context(|| format!("create the data directory {}", data_dir.display()))?;
    let opened = close_to_others(data_dir)
        .with_context(|| format!("close {} to others", data_dir.display()))?;
    if opened > 0 {
        warn!(
            files = opened,
            "the data directory was open to others; it is its owner's alone from now on"
        );
    }
    let release = config.release()?;
    let (cluster, nodes_door) = match found.cluster {
        Some((cluster, identity)) => {
            let door = bind_cluster(&config, &cluster, &identity, release);
            let door = door.with_context(listening("cluster.listen"))?;
            (Some(cluster), Some(door))
        }
        None => (None, None),
    };
    let founding = cluster.as_ref().and_then(founding);
    let name = cluster.as_ref().map(|cluster| &cluster.name);
    let claimed = directory::claim(data_dir, &provider, config.node.id, name, founding)?;
    let hub_key = directory::hub_key(data_dir, &config.node.hub_key)?;
    let ready = Arc::new(Ready::default());
    if let Some(address) = config.admin_listen()? {
        let listener = http::bind(address).await?;
        tasks.spawn(http::serve(listener, Arc::clone(&ready)));
    }
    let disk = Disk::open(data_dir, SHARDS, config.storage.log_bytes_max)?;
    let claimed = claimed.start(hub_key.public())?;
    let clock = Arc::new(NodeClock::start(config.node.id, nodes_door.is_none()));
    let mesh = match (nodes_door, &cluster) {
        (Some(door), Some(cluster)) => {
            let identity = (claimed, own(cluster, config.node.id));
            let (id, disk, clock) = (config.node.id, disk.clone(), Arc::clone(&clock));
            Some(Mesh::new(id, door, identity, data_dir, disk, clock)?)
        }
        (None, _) | (_, None) => None,
    };
    tasks.spawn(clock::keep(Arc::clone(&clock), mesh.clone()));
    let admin = local::bind(&config.node.admin_socket)?;

    let supervisor = Supervisor::start().await?;
    let environment = Arc::new(environment(
        &config,
        provider.clone(),
        hub_key,
        Arc::clone(&clock),
    ));
    let (fatal, mut failed) = mpsc::channel(1);
    let starting = (0..SHARDS)
        .map(|id| start_shard(id, &config, &environment, &disk, &supervisor, mesh.as_ref()));
    let started = try_join_all(starting).await?;
    let mut all = Vec::new();
    let mut groups = Vec::new();
    for Started {
        shard,
        group,
        waiting,
    } in started
    {
        let proposing = group.clone();
        let propose = move |batch| propose(proposing.clone(), batch);
        tasks.spawn(shard::gather(Arc::downgrade(&shard), waiting, propose));
        if mesh.is_none() {
            // Its group returned when it led.
            shard.take_note(Lead::Here).await;
        }
        tasks.spawn(keep_lead(group.clone(), Arc::clone(&shard), fatal.clone()));
        tasks.spawn(keep_confirming(group.clone(), Arc::clone(&shard)));
        all.push(shard);
        groups.push(group);
    }
    let shards = Shards::new(all, Arc::clone(&environment), mesh.clone());
    if let (Some(mesh), Some(cluster)) = (&mesh, cluster) {
        adopt(mesh, &cluster, &groups).await?;
        begin_cluster(mesh, cluster, &groups, &shards, &mut tasks);
    }
    for shard in shards.iter() {
        tasks.spawn(notices::carry(shards.clone(), Arc::clone(shard)));
    }
    let idle = Duration::from_secs(config.limits.idle_s);
    tasks.spawn(put_to_sleep(shards.clone(), idle));
    tasks.spawn(client_acks::tell(shards.clone()));
    tasks.spawn(retention::keep(shards.clone(), config.retention()));
    tasks.spawn(collect(disk.clone(), groups.clone()));
    tasks.spawn(full_disk::keep(disk.clone(), mesh.clone(), shards.clone()));
    tasks.spawn(level::keep(
        shards.clone(),
        groups.clone(),
        mesh.clone(),
        release,
        fatal.clone(),
    ));

    let peers = found.peers.into_iter().map(|(id, peer)| {
        let deadline = config.request_deadline();
        (
            id.clone(),
            Arc::new(Peer::new(id, peer.addresses, deadline)),
        )
    });
    let peers = Peers::new(peers.collect());
    let greeting = Hello::of(config.node.id, release);
    for (_, peer) in peers.iter() {
        let keep = Arc::clone(peer).keep(Arc::clone(&links), shards.clone(), greeting.clone());
        tasks.spawn(keep);
    }
    let requests = Arc::new(Semaphore::new(REQUESTS_IN_FLIGHT_MAX));
    tasks.spawn(accept_links(
        Arc::clone(&links),
        shards.clone(),
        peers.clone(),
        greeting,
        Arc::clone(&requests),
    ));
    tasks.spawn(accept_doors(
        Arc::clone(&doors),
        shards.clone(),
        peers.clone(),
        Arc::clone(&requests),
    ));
    let log_bytes_max = config.storage.log_bytes_max;
    let rate = config.storage.scrub_bytes_per_s;
    let mut scrub = Scrub::new(disk.clone(), groups.clone(), rate);
    let node = Node {
        id: config.node.id,
        clock,
        mesh: mesh.clone(),
        shards: shards.clone(),
        peers,
        groups: groups.clone(),
        scrubbed: scrub.scrubbed(),
        certificates: found.certificates,
        requests: Arc::clone(&requests),
        disk: disk.clone(),
        log_bytes_max,
    };
    let node = Arc::new(node);
    ready.open(Arc::clone(&node));
    tasks.spawn(local::serve(admin, node, Arc::clone(&ready)));
    info!(
        %provider,
        node = config.node.id,
        link = %links.local_address()?,
        door = %doors.local_address()?,
        "node ready"
    );

    let mut stop = Stop::listen();
    let why = tokio::select! {
        () = stop.told() => None,
        Some(why) = failed.recv() => Some(format!("{why}; {REPLAY}")),
        why = supervisor.failed() => Some(format!("{why}; {REPLAY}")),
        why = doubted(mesh.as_ref()) => Some(why),
        found = scrub.run() => Some(format!("{found}; {REPLACE}")),
    };
    ready.drain();
    let deadline = Duration::from_millis(config.limits.drain_deadline_ms);
    let in_order = async {
        if let (Some(mesh), None) = (&mesh, &why) {
            info!("stopping: leaderships move to other nodes");
            leader_balance::retire(mesh, &shards, deadline).await;
        }
        info!("stopping: what is under way is finished, nothing new is taken");
        let all = u32::try_from(REQUESTS_IN_FLIGHT_MAX).unwrap_or(u32::MAX);
        let drain = requests.acquire_many(all);
        if tokio::time::timeout(deadline, drain).await.is_err() {
            info!("requests were still under way at the deadline");
        }
    };
    tokio::select! {
        () = in_order => {}
        () = stop.told() => info!("told again: what is under way is not waited for"),
    }
    links.close().await;
    doors.close().await;
    if let Some(mesh) = &mesh {
        mesh.close().await;
    }
    tasks.shutdown().await;
    for group in groups {
        if tokio::time::timeout(deadline, group.stop()).await.is_err() {
            error!("a shard did not stop in time");
        }
    }
    disk.writer.close().await;
    drop(std::fs::remove_file(&config.node.admin_socket));
    info!("stopped");
    match why {
        None => Ok(()),
        Some(why) => bail!("the node stopped by itself: {why}"),
    }
}

fn environment(
    config: &Config,
    provider: ProviderId,
    hub_key: HubKey,
    clock: Arc<NodeClock>,
) -> Environment {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    Environment {
        provider,
        clock: Arc::new(move || clock.now()),
        workers: Workers::new(threads, CHECKS_WAITING_MAX),
        wakers: Wakers::default(),
        refusals: RefusalThrottle::default(),
        mls: Arc::new(Mls {
            hub_signature_key: hub_key.public(),
            hub_signer: hub_key.signer(),
            terms: config.terms(),
            lease_ms: config.limits.group_info_lease_ms,
            commit_rate: config.commits.rate(),
        }),
        hub_key,
        rules: config.claims.rules(),
        lane_credit_bytes: config.link.lane_credit_bytes,
        backlog_items_max: config.link.backlog_items_max,
        request_deadline: config.request_deadline(),
    }
}

struct Started {
    shard: Arc<Shard>,
    group: Group,
    waiting: shard::Gathering,
}

async fn start_shard(
    id: u16,
    config: &Config,
    environment: &Arc<Environment>,
    disk: &Disk,
    supervisor: &Supervisor,
    mesh: Option<&Arc<Mesh>>,
) -> anyhow::Result<Started> {
    let reading = disk.clone();
    let read = move |index| {
        let refuse = |why: String| mimi_actors::shard::read::ReadError { index, why };
        cluster::read_entry(&reading, id, index).map_err(refuse)
    };
    let entries = Entries::new(Box::new(read));
    let (shard, waiting) = Shard::new(
        id,
        Arc::clone(environment),
        entries,
        &supervisor.cell(),
        mesh.is_none(),
    );
    let apply = Arc::new(ApplyToActors(Arc::clone(&shard)));
    let (node, every) = (config.node.id, config.storage.snapshot_entries);
    let group = Group::start(id, node, disk, every, apply, mesh.cloned()).await?;
    Ok(Started {
        shard,
        group,
        waiting,
    })
}

/// Hash of the nodes that begin a cluster; a node that waits to be taken in begins none.
fn founding(cluster: &config::Cluster) -> Option<Founding> {
    (!cluster.join).then(|| founded_by(&cluster.name, cluster.nodes.keys()))
}

fn founded_by<'a>(cluster: &ProviderId, nodes: impl Iterator<Item = &'a u64>) -> Founding {
    let mut hash = blake3::Hasher::new();
    hash.update(cluster.as_str().as_bytes());
    for node in nodes {
        hash.update(format!("\n{node}").as_bytes());
    }
    *hash.finalize().as_bytes()
}

/// What a node says of itself to the others.
fn own(cluster: &config::Cluster, node: u64) -> Own {
    Own {
        cluster: cluster.name.clone(),
        address: cluster.nodes.get(&node).cloned().unwrap_or_default(),
        waits: cluster.join,
    }
}

/// A node that ran alone begins a cluster by itself and takes the others in. It must not begin one together with others,
/// for they would begin with nothing and have a majority; nor wait, for what it holds would be lost.
async fn adopt(mesh: &Mesh, cluster: &config::Cluster, groups: &[Group]) -> anyhow::Result<()> {
    let me = mesh.me();
    let mut ran_alone = false;
    for group in groups {
        ran_alone |= group.ran_alone().await?;
    }
    if !ran_alone {
        return Ok(());
    }
    if cluster.join || cluster.nodes.len() != 1 {
        bail!(
            "node {me} ran alone until now and holds rooms and users of its own, so it can neither join a cluster nor \
             begin one together with others. Set cluster.join = false and list node {me} alone in cluster.nodes; start \
             the other nodes with empty data directories and cluster.join = true; then `mimi-node cluster join` each \
             (`mimi-node cluster init --from CONFIG` writes such configurations)"
        );
    }
    mesh.belong(founded_by(&cluster.name, std::iter::once(&me)))
}

fn bind_cluster(
    config: &Config,
    cluster: &config::Cluster,
    identity: &Identity,
    release: Release,
) -> Result<ClusterEndpoint, BindError> {
    let given = &config.cluster;
    ClusterEndpoint::bind(given.listen, identity, &cluster.name, &given.ca, release)
}

/// Meets the other nodes, and begins the cluster or waits to be taken in.
fn begin_cluster(
    mesh: &Arc<Mesh>,
    cluster: config::Cluster,
    groups: &[Group],
    shards: &Shards,
    tasks: &mut JoinSet<()>,
) {
    mesh.begin(groups.to_vec());
    mesh.open(shards.clone());
    for (node, address) in cluster.nodes.iter().filter(|(node, _)| **node != mesh.me()) {
        mesh.neighbour(*node, address);
    }
    tasks.spawn(Arc::clone(mesh).serve());
    if !cluster.join {
        let found = leader_balance::found(Arc::clone(mesh), groups.to_vec(), cluster.nodes.clone());
        tasks.spawn(found);
    }
    let keep = leader_balance::keep(
        Arc::clone(mesh),
        shards.clone(),
        cluster.nodes,
        !cluster.join,
    );
    tasks.spawn(keep);
}

/// Tells a shard who leads it. A group whose task has panicked is left alone until the next start: the other shards, and
/// this one on the other nodes, go on. Any other fault is of the disk, and stops the node.
async fn keep_lead(group: Group, shard: Arc<Shard>, fatal: mpsc::Sender<String>) {
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
async fn keep_confirming(group: Group, shard: Arc<Shard>) {
    if let Some(confirming) = &shard.confirming {
        confirming.run(|| group.confirm()).await;
    }
}

/// Puts one entry into the log. What becomes of a group that has stopped is decided where that is watched.
async fn propose(group: Group, batch: Batch) -> Result<(), NotQueued> {
    match group.propose(batch).await {
        Ok(_) => Ok(()),
        Err(ProposeError::StorageFull(full)) => {
            warn!(%full, "a write is refused");
            Err(NotQueued::StorageFull)
        }
        Err(ProposeError::Unavailable { retry_after_ms }) => {
            let retry_after_ms = u32::try_from(retry_after_ms).unwrap_or(u32::MAX);
            Err(NotQueued::TryLater(TryLater::unavailable(retry_after_ms)))
        }
        Err(ProposeError::Stopped) => Err(NotQueued::TryLater(TryLater::UNANSWERED)),
    }
}

/// Waits until the other nodes say that this one must not go on.
async fn doubted(mesh: Option<&Arc<Mesh>>) -> String {
    match mesh {
        Some(mesh) => mesh.doubted().await,
        None => std::future::pending().await,
    }
}

async fn put_to_sleep(shards: Shards, idle: Duration) {
    let mut turn = tokio::time::interval(SLEEP_INTERVAL);
    loop {
        turn.tick().await;
        for shard in shards.iter() {
            let asleep = shard.put_to_sleep(idle).await;
            if asleep > 0 {
                tracing::debug!(shard = shard.id, asleep, "idle actors were put to sleep");
            }
        }
    }
}

/// Has the files of discarded entries given back; shards that keep old files in use are sealed.
async fn collect(disk: Disk, groups: Vec<Group>) {
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

async fn accept_links(
    endpoint: Arc<LinkEndpoint>,
    shards: Shards,
    peers: Peers,
    greeting: Hello,
    requests: Arc<Semaphore>,
) {
    let strangers = Arc::new(Strangers::new("another provider"));
    while let Some(incoming) = endpoint.accept().await {
        let (shards, peers, requests) = (shards.clone(), peers.clone(), Arc::clone(&requests));
        let greeting = greeting.clone();
        let (strangers, address) = (Arc::clone(&strangers), incoming.remote_address());
        tokio::spawn(async move {
            match incoming.establish().await {
                Ok(link) => {
                    let link = Arc::new(link);
                    peering::incoming::serve(link, shards, peers, greeting, requests).await;
                }
                Err(error) => strangers.refused(address, &error),
            }
        });
    }
}

async fn accept_doors(
    endpoint: Arc<DoorEndpoint>,
    shards: Shards,
    peers: Peers,
    requests: Arc<Semaphore>,
) {
    while let Some(incoming) = endpoint.accept().await {
        let (shards, peers, requests) = (shards.clone(), peers.clone(), Arc::clone(&requests));
        tokio::spawn(async move {
            match incoming.establish().await {
                Ok(door) => gateway::serve(door, shards, peers, requests).await,
                Err(error) => tracing::debug!(%error, "a client was not let in"),
            }
        });
    }
}
