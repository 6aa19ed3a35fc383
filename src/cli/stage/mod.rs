//! The stage of `demo` and `bench`: `serve` processes on loopback with certificates and configurations of their own, and
//! a way to hold what one provider sends to another.

pub(crate) mod cast;
pub(crate) mod proxy;

use crate::{
    admin::{
        local::ask,
        protocol::{ClusterStatus, Request, Response},
    },
    cli::{
        cluster_init::{self, Place},
        pki::{create_ca, create_certificate},
    },
    quic::DoorDialer,
};
use anyhow::{Context, bail};
use mimi_actors::{ids::ProviderId, limits::SHARDS_DEFAULT, shard::place};
use proxy::{Cuts, Proxy};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::Instant,
};

/// How long a node may take to be ready.
const READY_DEADLINE: Duration = Duration::from_secs(20);
/// How often a node is asked whether it is ready.
const ASK_INTERVAL: Duration = Duration::from_millis(25);

/// One node of a provider.
struct Node {
    number: u64,
    config: PathBuf,
    /// Where it listens for the other nodes, and where it dials them from.
    cluster: SocketAddr,
    door: SocketAddr,
    link: SocketAddr,
    admin: PathBuf,
    log: PathBuf,
    /// While it runs.
    process: Option<Child>,
}

/// One provider's processes.
struct Provider {
    domain: ProviderId,
    nodes: Vec<Node>,
}

/// Some providers of this machine.
pub(crate) struct Stage {
    directory: TempDir,
    providers: BTreeMap<char, Provider>,
    proxy: Option<Proxy>,
    /// What lies between the nodes of a provider.
    _between: Vec<Proxy>,
    /// Connects members to the doors.
    pub(crate) dialer: DoorDialer,
}

impl Stage {
    /// Writes configurations, starts `nodes` processes for each of `names`, waits until they are connected.
    /// `held` names a provider, and another whose datagrams to it can be held.
    pub(crate) async fn build(
        names: &[char],
        nodes: u64,
        held: Option<(char, char)>,
    ) -> anyhow::Result<Self> {
        Self::build_with(names, nodes, held, "").await
    }

    /// As [`Self::build`]; every configuration has `more` besides.
    pub(crate) async fn build_with(
        names: &[char],
        nodes: u64,
        held: Option<(char, char)>,
        more: &str,
    ) -> anyhow::Result<Self> {
        let (more, prepare) = (more.to_owned(), |_: &Path| {});
        Self::raise(names, nodes, held, more, (None, prepare)).await
    }

    /// A provider of several nodes: the ways between them can be cut, and `prepare` sees each node's data directory before
    /// the node starts.
    pub(crate) async fn build_cuttable(
        name: char,
        nodes: u64,
        cuts: &Cuts,
        prepare: impl Fn(&Path),
    ) -> anyhow::Result<Self> {
        let with = (Some(cuts), prepare);
        Self::raise(&[name], nodes, None, String::new(), with).await
    }

    async fn raise(
        names: &[char],
        nodes: u64,
        held: Option<(char, char)>,
        more: String,
        (cuts, prepare): (Option<&Cuts>, impl Fn(&Path)),
    ) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("mimi-node-").tempdir()?;
        let root = directory.path();
        create_ca(root)?;
        let mut places = BTreeMap::new();
        for name in names {
            create_certificate(root, &domain(*name)?, root)?;
            let of: anyhow::Result<Vec<Place>> = (1..=nodes).map(free_place).collect();
            places.insert(*name, of?);
        }
        let mut between = Vec::new();
        for place in places.values_mut().flatten() {
            if let Some(cuts) = cuts {
                let proxy = Proxy::start(place.cluster.0, cuts.clone()).await?;
                place.cluster.1 = proxy.address();
                between.push(proxy);
            }
        }
        let proxy = match held {
            Some((to, _)) => {
                let target = places.get(&to).and_then(|places| places.first());
                let target = target.context("the held provider is on stage")?;
                Some(Proxy::start(target.link, Cuts::default()).await?)
            }
            None => None,
        };
        let mut providers = BTreeMap::new();
        for (name, own) in &places {
            let mut peers = more.clone();
            for (peer, theirs) in places.iter().filter(|(peer, _)| *peer != name) {
                let through = proxy.as_ref().filter(|_| held == Some((*peer, *name)));
                let addresses: Vec<String> = match through {
                    Some(proxy) => vec![format!("\"{}\"", proxy.address())],
                    None => theirs
                        .iter()
                        .map(|place| format!("\"{}\"", place.link))
                        .collect(),
                };
                write!(
                    peers,
                    "[[peer]]\ndomain = \"{peer}.example\"\naddresses = [{}]\n\
                     trust = {{ ca = \"ca.crt\" }}\n",
                    addresses.join(", ")
                )?;
            }
            let configs = configs(root, *name, own, &peers)?;
            let mut nodes = Vec::new();
            for (place, (config, data)) in own.iter().zip(configs) {
                let number = place.node;
                let log = root.join(format!("{name}{number}.log"));
                prepare(&data);
                let process = start(&config, &log)?;
                nodes.push(Node {
                    number,
                    config,
                    cluster: place.cluster.0,
                    door: place.door,
                    link: place.link,
                    admin: data.join("admin.sock"),
                    log,
                    process: Some(process),
                });
            }
            let domain = domain(*name)?;
            providers.insert(*name, Provider { domain, nodes });
        }
        let dialer = DoorDialer::new(&root.join("ca.crt"))?;
        let mut stage = Self {
            directory,
            providers,
            proxy,
            _between: between,
            dialer,
        };
        for name in names {
            stage.ready(*name).await?;
        }
        Ok(stage)
    }

    /// Waits until every running node of a provider answers and is connected to all other providers, and every shard
    /// is led by one that runs.
    pub(crate) async fn ready(&mut self, name: char) -> anyhow::Result<()> {
        self.ready_within(name, READY_DEADLINE).await
    }

    async fn ready_within(&mut self, name: char, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        while let Err(why) = self.provider(name)?.is_ready().await? {
            if Instant::now() > deadline {
                let domain = &self.provider(name)?.domain;
                bail!("{domain} was not ready in time: {why}");
            }
            tokio::time::sleep(ASK_INTERVAL).await;
        }
        Ok(())
    }

    fn provider(&mut self, name: char) -> anyhow::Result<&mut Provider> {
        self.providers
            .get_mut(&name)
            .with_context(|| format!("{name}.example is on stage"))
    }

    /// The first running node of a provider.
    fn node(&mut self, name: char) -> anyhow::Result<&mut Node> {
        let mut nodes = self.provider(name)?.nodes.iter_mut();
        let node = nodes.find(|node| node.process.is_some());
        node.with_context(|| format!("a node of {name}.example runs"))
    }

    /// Asks a provider's operator socket.
    pub(crate) async fn ask(&mut self, name: char, request: &Request) -> anyhow::Result<Response> {
        let response = ask(&self.node(name)?.admin, request).await?;
        if let Response::Refused { why, .. } = response {
            bail!("{name}.example: {why}");
        }
        Ok(response)
    }

    /// Where a provider's peers come in; its process may have ended.
    pub(crate) fn link(&mut self, name: char) -> anyhow::Result<SocketAddr> {
        let node = self.provider(name)?.nodes.first();
        Ok(node.context("a provider has a node")?.link)
    }

    /// The directory of the certificates.
    pub(crate) fn pki(&self) -> &Path {
        self.directory.path()
    }

    /// Where a provider's clients come in.
    pub(crate) fn door(&mut self, name: char) -> anyhow::Result<SocketAddr> {
        Ok(self.node(name)?.door)
    }

    /// The doors of a provider's nodes that run.
    pub(crate) fn doors(&mut self, name: char) -> anyhow::Result<Vec<SocketAddr>> {
        let nodes = self.provider(name)?.nodes.iter();
        let running = nodes.filter(|node| node.process.is_some());
        Ok(running.map(|node| node.door).collect())
    }

    /// The doors of a provider's nodes other than `number` that run.
    pub(crate) fn doors_beside(
        &mut self,
        name: char,
        number: u64,
    ) -> anyhow::Result<Vec<SocketAddr>> {
        let nodes = self.provider(name)?.nodes.iter();
        let others = nodes.filter(|node| node.number != number && node.process.is_some());
        Ok(others.map(|node| node.door).collect())
    }

    /// Holds what the one provider sends to the held one, or lets it go.
    pub(crate) fn hold(&self, held: bool) {
        if let Some(proxy) = &self.proxy {
            proxy.hold(held);
        }
    }

    /// The providers.
    pub(crate) fn names(&self) -> Vec<char> {
        self.providers.keys().copied().collect()
    }

    /// The process ids of a provider.
    pub(crate) fn pids(&mut self, name: char) -> anyhow::Result<Vec<u32>> {
        let nodes = self.provider(name)?.nodes.iter();
        let running = nodes.filter_map(|node| node.process.as_ref());
        Ok(running.filter_map(Child::id).collect())
    }

    /// Kills a provider's processes with SIGKILL.
    pub(crate) async fn kill(&mut self, name: char) -> anyhow::Result<()> {
        for node in &mut self.provider(name)?.nodes {
            node.kill().await?;
        }
        Ok(())
    }

    /// Starts what was killed of a provider again, on the same data.
    pub(crate) async fn restart(&mut self, name: char) -> anyhow::Result<()> {
        self.restart_within(name, READY_DEADLINE).await
    }

    /// As [`Self::restart`], for nodes that may need longer.
    pub(crate) async fn restart_within(
        &mut self,
        name: char,
        patience: Duration,
    ) -> anyhow::Result<()> {
        for node in &mut self.provider(name)?.nodes {
            if node.process.is_none() {
                node.process = Some(start(&node.config, &node.log)?);
            }
        }
        self.ready_within(name, patience).await
    }

    /// The first node of a provider, whether it runs or not.
    fn first(&mut self, name: char) -> anyhow::Result<&Node> {
        let first = self.provider(name)?.nodes.first();
        first.with_context(|| format!("{name}.example has a node"))
    }

    /// The configuration file of a provider's first node.
    pub(crate) fn config(&mut self, name: char) -> anyhow::Result<&Path> {
        Ok(&self.first(name)?.config)
    }

    /// The data directory of a provider's first node.
    pub(crate) fn data(&mut self, name: char) -> anyhow::Result<PathBuf> {
        let data = self.first(name)?.admin.parent();
        Ok(data.context("the socket is in the directory")?.to_owned())
    }

    /// Kills one node of a provider with SIGKILL.
    pub(crate) async fn kill_node(&mut self, name: char, number: u64) -> anyhow::Result<()> {
        self.numbered(name, number)?.kill().await
    }

    /// Where a provider's node listens for the other nodes.
    pub(crate) fn cluster_address(
        &mut self,
        name: char,
        number: u64,
    ) -> anyhow::Result<SocketAddr> {
        Ok(self.numbered(name, number)?.cluster)
    }

    /// The data directory of a provider's node.
    pub(crate) fn data_of(&mut self, name: char, number: u64) -> anyhow::Result<PathBuf> {
        let data = self.numbered(name, number)?.admin.parent();
        Ok(data.context("the socket is in the directory")?.to_owned())
    }

    /// Stops one node where it is, or lets it go on.
    pub(crate) fn pause_node(
        &mut self,
        name: char,
        number: u64,
        paused: bool,
    ) -> anyhow::Result<()> {
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        let process = self.numbered(name, number)?.process.as_ref();
        let pid = process.and_then(Child::id).context("the node runs")?;
        let pid = Pid::from_raw(i32::try_from(pid)?).context("a process has a number")?;
        Ok(kill_process(pid, signal)?)
    }

    fn numbered(&mut self, name: char, number: u64) -> anyhow::Result<&mut Node> {
        let mut nodes = self.provider(name)?.nodes.iter_mut();
        let node = nodes.find(|node| node.number == number);
        node.context("the node is on stage")
    }

    /// The number of the node that leads the shard of a room or user.
    pub(crate) async fn leader_of(&mut self, name: char, uri: &str) -> anyhow::Result<u64> {
        let shard = place(uri, SHARDS_DEFAULT);
        let Response::Cluster(status) = self.ask(name, &Request::Cluster).await? else {
            bail!("the node answered something else");
        };
        let mut rows = status.shards.into_iter();
        let row = rows.find(|row| row.shard == shard);
        row.and_then(|row| row.leader).context("the shard is led")
    }

    /// The commands that show what is going on.
    pub(crate) fn how_to_look_around(&self) -> String {
        let me = std::env::current_exe().unwrap_or_else(|_| "mimi-node".into());
        let mut text = "the providers keep running; Ctrl-C ends them. Look around:\n".to_owned();
        for provider in self.providers.values() {
            let mut commands = vec!["status", "user list"];
            if provider.nodes.len() > 1 {
                commands.push("cluster status");
            }
            let configs = provider.nodes.iter().map(|node| node.config.display());
            for (command, config) in commands.into_iter().zip(configs.cycle()) {
                // Writing to a String does not fail.
                let _ = writeln!(text, "{} {command} --config {config}", me.display());
            }
        }
        text
    }

    /// Keeps the files of a story that broke off.
    pub(crate) fn keep_files(&mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        self.directory.path().to_owned()
    }

    /// Stops the providers in order; each must end cleanly.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        let nodes = |providers: &BTreeMap<char, Provider>| -> usize {
            providers
                .values()
                .map(|provider| provider.nodes.len())
                .sum()
        };
        let count = nodes(&self.providers);
        let mut ending = Vec::with_capacity(count);
        for provider in self.providers.values_mut() {
            for node in &mut provider.nodes {
                let Some(process) = node.process.take() else {
                    continue;
                };
                let pid = process.id().and_then(|pid| i32::try_from(pid).ok());
                let pid = pid.and_then(Pid::from_raw).context("the process runs")?;
                kill_process(pid, Signal::TERM)?;
                ending.push((provider.domain.clone(), process));
            }
        }
        for (domain, mut process) in ending {
            let ended = tokio::time::timeout(READY_DEADLINE, process.wait()).await;
            let status = ended.with_context(|| format!("{domain} did not end in time"))??;
            if !status.success() {
                bail!("{domain} ended with {status}");
            }
        }
        Ok(())
    }
}

impl Provider {
    /// Whether it is, and what is missing.
    async fn is_ready(&mut self) -> anyhow::Result<Result<(), String>> {
        let mut running = BTreeSet::new();
        let mut leaders: BTreeSet<Vec<Option<u64>>> = BTreeSet::new();
        let several = self.nodes.len() > 1;
        for node in &mut self.nodes {
            let Some(process) = &mut node.process else {
                continue;
            };
            if let Some(status) = process.try_wait()? {
                let log = std::fs::read_to_string(&node.log).unwrap_or_default();
                bail!(
                    "a node of {} ended with {status}: {}",
                    self.domain,
                    log.lines().last().unwrap_or("")
                );
            }
            let Ok(Response::Status(status)) = ask(&node.admin, &Request::Status).await else {
                return Ok(Err(format!("node {} does not answer", node.number)));
            };
            if !status.peers.iter().all(|peer| peer.connected) {
                return Ok(Err(format!("node {} is not connected", node.number)));
            }
            running.insert(Some(node.number));
            if several {
                let Response::Cluster(ClusterStatus { shards, .. }) =
                    ask(&node.admin, &Request::Cluster).await?
                else {
                    bail!("the node answered something else");
                };
                leaders.insert(shards.into_iter().map(|row| row.leader).collect());
            }
        }
        let agreed = leaders.len() <= 1;
        let led = leaders
            .iter()
            .flatten()
            .all(|leader| running.contains(leader));
        if agreed && led {
            return Ok(Ok(()));
        }
        Ok(Err(format!("the nodes see as leaders {leaders:?}")))
    }
}

impl Node {
    async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.start_kill()?;
            process.wait().await?;
        }
        Ok(())
    }
}

fn domain(name: char) -> anyhow::Result<ProviderId> {
    Ok(format!("{name}.example").parse()?)
}

/// A UDP port that is free now.
fn free_address() -> std::io::Result<SocketAddr> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn free_place(node: u64) -> anyhow::Result<Place> {
    let cluster = free_address()?;
    Ok(Place {
        node,
        cluster: (cluster, cluster),
        link: free_address()?,
        door: free_address()?,
    })
}

/// The configuration and the data directory of each node of a provider.
fn configs(
    root: &Path,
    name: char,
    places: &[Place],
    peers: &str,
) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let domain = domain(name)?;
    if let [alone] = places {
        let text = format!(
            "[node]\nprovider = \"{domain}\"\ndata_dir = \"{name}-data\"\n\
             [tls]\ncertificate = \"{domain}.crt\"\nkey = \"{domain}.key\"\n\
             [link]\nlisten = \"{}\"\n[door]\nlisten = \"{}\"\n{peers}",
            alone.link, alone.door
        );
        let path = root.join(format!("{name}.toml"));
        std::fs::write(&path, text)?;
        return Ok(vec![(path, root.join(format!("{name}-data")))]);
    }
    let configs = cluster_init::write(root, &domain, places, peers)?;
    let data = |place: &Place| root.join(cluster_init::data_dir(&domain, place.node));
    Ok(configs.into_iter().zip(places.iter().map(data)).collect())
}

/// Starts a node; what it says goes to a file.
fn start(config: &Path, log: &Path) -> anyhow::Result<Child> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)?;
    Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("start a node")
}
