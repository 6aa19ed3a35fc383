//! Starts a node: looks at everything, binds the doors, opens the store, starts the shards.

use super::tasks;
use crate::{
    admin::{http, local, ready::Ready},
    cluster::{
        self,
        feeds::{peer_throttle::PeerThrottles, wake::Wakers},
        log::entries::Entries,
        mesh::{
            Mesh,
            clock::{self, NodeClock},
            identity::Own,
        },
        raft::{group::Group, lead::Lead, way::Others},
        shard::{
            self, Shard, apply::ApplyToActors, directory::Awake, leader_balance, shards::Shards,
        },
    },
    config::{self, Config, ConfigError},
    directory::{self, Founding},
    hub_keys::{self, HubKeys},
    perform::{Environment, workers::Workers},
    preflight::Found,
    quic::{
        BindError, ClusterEndpoint, DoorEndpoint, Identity, LinkEndpoint, private::close_to_others,
    },
    store::Disk,
};
use anyhow::{Context, bail};
use futures::future::try_join_all;
use mimi_actors::{
    ids::ProviderId, limits::CHECKS_WAITING_MAX, membership::Address,
    mls::check::hub_senders::HubSenders, room::checks::Mls, supervisor::Supervisor,
    wire::version::Release,
};
use std::{path::Path, sync::Arc};
use tokio::{net::UnixListener, sync::mpsc, task::JoinSet};
use tracing::warn;

/// The doors, bound: whoever knocks waits until they are served.
pub(super) struct Doors {
    pub(super) links: Arc<LinkEndpoint>,
    pub(super) clients: Arc<DoorEndpoint>,
}

/// What the node keeps, and what it knows of itself and of the other nodes.
pub(super) struct Opened {
    pub(super) disk: Disk,
    pub(super) clock: Arc<NodeClock>,
    pub(super) mesh: Option<Arc<Mesh>>,
    pub(super) ready: Arc<Ready>,
    pub(super) admin: UnixListener,
    cluster: Option<config::Cluster>,
    hub_keys: HubKeys,
}

/// The shards, with their groups.
pub(super) struct Started {
    pub(super) shards: Shards,
    pub(super) groups: Vec<Group>,
    pub(super) supervisor: Supervisor,
    /// Says why a shard has stopped.
    pub(super) failed: mpsc::Receiver<String>,
    /// To say so.
    pub(super) fatal: mpsc::Sender<String>,
}

/// Binds the doors of the peers and of the clients.
pub(super) fn bind(config: &Config, found: &Found) -> anyhow::Result<Doors> {
    let links = LinkEndpoint::bind(config.link.listen, &found.identity, &found.trust());
    let links = Arc::new(links.with_context(listening("link.listen"))?);
    let clients = DoorEndpoint::bind(
        config.door.listen,
        &found.identity,
        config.door.of_addresses(),
    );
    let clients = Arc::new(clients.with_context(listening("door.listen"))?);
    Ok(Doors { links, clients })
}

fn listening(key: &str) -> impl Fn() -> String {
    move || format!("`{key}`: choose another address, or end who has it")
}

/// Opens the data directory and what the node answers from before its shards have started.
pub(super) async fn open(
    config: &Config,
    found: &mut Found,
    release: Release,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<Opened> {
    let data_dir = &config.node.data_dir;
    keep_to_owner(data_dir)?;
    let (cluster, nodes_door) = match found.cluster.take() {
        Some((cluster, identity)) => {
            let door = bind_cluster(config, &cluster, &identity, release);
            let door = door.with_context(listening("cluster.listen"))?;
            (Some(cluster), Some(door))
        }
        None => (None, None),
    };
    let founding = cluster.as_ref().and_then(founding);
    let name = cluster.as_ref().map(|cluster| &cluster.name);
    let shards = config.shards()?;
    let (provider, id) = (&found.provider, config.node.id);
    let claimed = directory::claim(data_dir, provider, id, name, founding, shards)?;
    let hub_keys = hub_keys::open(&config.node)?;
    let ready = Arc::new(Ready::default());
    if let Some(address) = config.admin_listen()? {
        let listener = http::bind(address).await?;
        tasks.spawn(http::serve(listener, Arc::clone(&ready)));
    }
    let disk = Disk::open(data_dir, shards, config.storage.log_bytes_max)?;
    let claimed = claimed.start(hub_keys.public())?;
    let clock = Arc::new(NodeClock::start(config.node.id, nodes_door.is_none()));
    let mesh = match (nodes_door, &cluster) {
        (Some(door), Some(cluster)) => {
            let identity = (claimed, own(cluster, config.node.id));
            let (disk, clock) = (disk.clone(), Arc::clone(&clock));
            Some(Mesh::new(
                (config.node.id, shards),
                door,
                identity,
                data_dir,
                disk,
                clock,
            )?)
        }
        (None, _) | (_, None) => None,
    };
    tasks.spawn(clock::keep(Arc::clone(&clock), mesh.clone()));
    let admin = local::bind(&config.node.admin_socket)?;
    Ok(Opened {
        disk,
        clock,
        mesh,
        ready,
        admin,
        cluster,
        hub_keys,
    })
}

/// Makes the data directory, or closes the one that is there to others.
fn keep_to_owner(data_dir: &Path) -> anyhow::Result<()> {
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
    Ok(())
}

/// Starts all shards and, where there are other nodes, meets them.
pub(super) async fn start(
    config: &Config,
    provider: ProviderId,
    opened: &mut Opened,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<Started> {
    let supervisor = Supervisor::start().await?;
    let environment = Arc::new(environment(
        config,
        provider,
        opened.hub_keys.clone(),
        Arc::clone(&opened.clock),
    )?);
    let mesh = opened.mesh.as_ref();
    let (fatal, failed) = mpsc::channel(1);
    let starting = (0..environment.shards)
        .map(|id| start_shard(id, config, &environment, &opened.disk, &supervisor, mesh));
    let started = try_join_all(starting).await?;
    let mut all = Vec::new();
    let mut groups = Vec::new();
    for StartedShard {
        shard,
        group,
        waiting,
    } in started
    {
        let proposing = group.clone();
        let propose = move |batch| tasks::propose(proposing.clone(), batch);
        tasks.spawn(shard::gather(Arc::downgrade(&shard), waiting, propose));
        if mesh.is_none() {
            // Its group returned when it led.
            shard.take_note(Lead::Here).await;
        }
        tasks.spawn(tasks::keep_lead(
            group.clone(),
            Arc::clone(&shard),
            fatal.clone(),
        ));
        tasks.spawn(tasks::keep_confirming(group.clone(), Arc::clone(&shard)));
        all.push(shard);
        groups.push(group);
    }
    let shards = Shards::new(all, environment, opened.mesh.clone());
    if let (Some(mesh), Some(cluster)) = (&opened.mesh, opened.cluster.take()) {
        adopt(mesh, &cluster, &groups).await?;
        begin_cluster(mesh, cluster, &groups, &shards, tasks);
    }
    Ok(Started {
        shards,
        groups,
        supervisor,
        failed,
        fatal,
    })
}

fn environment(
    config: &Config,
    provider: ProviderId,
    hub_keys: HubKeys,
    clock: Arc<NodeClock>,
) -> Result<Environment, ConfigError> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let keys = hub_keys.public();
    let hub_key = keys.first().copied().unwrap_or_default();
    let hub = HubSenders::new(&provider, keys);
    let peers = config.peers()?.into_keys();
    let providers = peers.chain([provider.clone()]).collect();
    Ok(Environment {
        provider,
        shards: config.node.shards,
        clock: Arc::new(move || clock.now()),
        awake: Awake::at_most(config.limits.actors_awake_max),
        workers: Workers::new(threads, CHECKS_WAITING_MAX),
        wakers: Wakers::default(),
        throttles: PeerThrottles::default(),
        mls: Arc::new(Mls {
            hub_signer: hub_keys.signer(),
            terms: config.terms(providers, hub),
            lease_ms: config.limits.group_info_lease_ms,
            commit_rate: config.commits.rate(),
        }),
        hub_key,
        rules: config.claims.rules().in_each_of(config.node.shards),
        lane_credit_bytes: config.link.lane_credit_bytes,
        backlog_items_max: config.link.backlog_items_max,
        request_deadline: config.request_deadline(),
    })
}

struct StartedShard {
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
) -> anyhow::Result<StartedShard> {
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
    let others = mesh.cloned().map(|mesh| mesh as Arc<dyn Others>);
    let group = Group::start(id, node, disk, every, apply, others).await?;
    Ok(StartedShard {
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
    let address = cluster.nodes.get(&node);
    Own {
        cluster: cluster.name.clone(),
        // A configuration names each node of its cluster, at what is an address.
        address: address
            .and_then(|address| Address::exact(address))
            .unwrap_or_default(),
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
    mesh.open(Arc::new(shards.clone()));
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
