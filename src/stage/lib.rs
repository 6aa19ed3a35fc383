//! Providers on this machine, for `demo`, `bench` and the tests: `serve` processes of a program that is given, on loopback
//! with certificates and configurations of their own, and a way to hold what one provider sends to another.

pub mod cast;
pub mod ground;
pub mod proxy;

use anyhow::{Context, bail};
use ground::{Nodes, Spot, free_place};
use mimi_actors::{ids::ProviderId, limits::SHARDS_DEFAULT, shard::place};
use mimi_operator::{
    ask::ask,
    cluster_files::Place,
    protocol::{ClusterStatus, Request, Response},
};
use mimi_quic::DoorDialer;
use proxy::Network;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::SocketAddr,
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

/// A provider whose datagrams can be held, before another one.
struct Held {
    from: ProviderId,
    to: ProviderId,
    /// Where the one reaches the other.
    door: SocketAddr,
}

impl Held {
    fn begin(
        network: &Network,
        laid: &[(ProviderId, Nodes)],
        (to, from): (char, char),
    ) -> anyhow::Result<Self> {
        let (from, to) = (domain(from)?, domain(to)?);
        let of = |whose: &ProviderId| {
            let found = laid.iter().find(|(provider, _)| provider == whose);
            let nodes = found.map(|(_, nodes)| nodes.places());
            nodes.with_context(|| format!("{whose} is on stage"))
        };
        for place in of(&from)? {
            network.is_at(from.as_str(), place.link);
        }
        let first = of(&to)?.first().context("a provider has a node")?;
        let door = network.reach(to.as_str(), first.link)?;
        Ok(Self { from, to, door })
    }
}

/// What is laid before anything runs.
struct Plan<'a> {
    places: &'a BTreeMap<char, Vec<Place>>,
    network: &'a Network,
    held: Option<(char, char)>,
    /// Stands in every configuration besides.
    more: &'a str,
}

/// Some providers of this machine.
pub struct Stage {
    /// What each node is a process of.
    program: PathBuf,
    directory: TempDir,
    providers: BTreeMap<char, Provider>,
    /// What lies between the nodes.
    network: Network,
    held: Option<Held>,
    /// Connects members to the doors.
    pub dialer: DoorDialer,
}

impl Stage {
    /// Writes configurations, starts `nodes` processes of `program` for each of `names`, waits until they are connected.
    /// `held` names a provider, and another whose datagrams to it can be held.
    ///
    /// # Errors
    /// When a file cannot be written, or a node does not start in time.
    pub async fn build(
        program: &Path,
        names: &[char],
        nodes: u64,
        held: Option<(char, char)>,
    ) -> anyhow::Result<Self> {
        Self::build_with(program, names, nodes, held, "").await
    }

    /// As [`Self::build`]; every configuration has `more` besides.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub async fn build_with(
        program: &Path,
        names: &[char],
        nodes: u64,
        held: Option<(char, char)>,
        more: &str,
    ) -> anyhow::Result<Self> {
        let places = places(names, nodes);
        let plan = Plan {
            places: &places,
            network: &Network::default(),
            held,
            more,
        };
        Self::raise(program, plan, |_| {}).await
    }

    /// A provider of several nodes: `network` lies between them, which knows each as [`Self::name_of`] says, and `prepare`
    /// sees each node's data directory before the node starts.
    ///
    /// # Errors
    /// As [`Self::build`].
    pub async fn build_over(
        program: &Path,
        name: char,
        nodes: u64,
        network: &Network,
        prepare: impl Fn(&Path),
    ) -> anyhow::Result<Self> {
        let mut places = places(&[name], nodes);
        for place in places.values_mut().flatten() {
            let (listens, reached) = &mut place.cluster;
            *reached = network.reach(&Self::name_of(name, place.node), *listens)?;
        }
        let plan = Plan {
            places: &places,
            network,
            held: None,
            more: "",
        };
        Self::raise(program, plan, prepare).await
    }

    /// How the network calls a node.
    #[must_use]
    pub fn name_of(name: char, number: u64) -> String {
        format!("{name}{number}")
    }

    async fn raise(
        program: &Path,
        plan: Plan<'_>,
        prepare: impl Fn(&Path),
    ) -> anyhow::Result<Self> {
        let Plan {
            places,
            network,
            held,
            more,
        } = plan;
        let directory = tempfile::Builder::new().prefix("mimi-node-").tempdir()?;
        let root = directory.path();
        let mut laid = Vec::new();
        for (name, places) in places {
            let nodes = match places.as_slice() {
                [alone] => Nodes::Alone(*alone),
                several => Nodes::Cluster(several.to_vec()),
            };
            laid.push((domain(*name)?, nodes));
        }
        let held = held.map(|ends| Held::begin(network, &laid, ends));
        let held = held.transpose()?;
        let reached = |by: &ProviderId, whom: &ProviderId, theirs: &[Place]| match &held {
            Some(held) if (&held.from, &held.to) == (by, whom) => vec![held.door],
            _ => theirs.iter().map(|place| place.link).collect(),
        };
        let spots = ground::lay(root, &laid, reached, more)?;
        let mut providers = BTreeMap::new();
        for name in places.keys() {
            let domain = domain(*name)?;
            let mut nodes = Vec::new();
            for spot in spots.iter().filter(|spot| spot.provider == domain) {
                prepare(&spot.data);
                let log = root.join(format!("{}.log", Self::name_of(*name, spot.place.node)));
                nodes.push(Node::start(program, spot, log)?);
            }
            providers.insert(*name, Provider { domain, nodes });
        }
        let dialer = DoorDialer::new(&root.join("ca.crt"))?;
        let mut stage = Self {
            program: program.to_owned(),
            directory,
            providers,
            network: network.clone(),
            held,
            dialer,
        };
        for name in places.keys() {
            stage.ready(*name).await?;
        }
        Ok(stage)
    }

    /// Waits until every running node of a provider answers and is connected to all other providers, and every shard
    /// is led by one that runs.
    ///
    /// # Errors
    /// When that takes too long, or a node has ended.
    pub async fn ready(&mut self, name: char) -> anyhow::Result<()> {
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
    ///
    /// # Errors
    /// When no node of it runs, or the node refuses.
    pub async fn ask(&mut self, name: char, request: &Request) -> anyhow::Result<Response> {
        let response = ask(&self.node(name)?.admin, request).await?;
        if let Response::Refused { why, .. } = response {
            bail!("{name}.example: {why}");
        }
        Ok(response)
    }

    /// Where a provider's peers come in; its process may have ended.
    ///
    /// # Errors
    /// When it is not on stage.
    pub fn link(&mut self, name: char) -> anyhow::Result<SocketAddr> {
        let node = self.provider(name)?.nodes.first();
        Ok(node.context("a provider has a node")?.link)
    }

    /// The directory of the certificates.
    #[must_use]
    pub fn pki(&self) -> &Path {
        self.directory.path()
    }

    /// Where a provider's clients come in.
    ///
    /// # Errors
    /// When no node of it runs.
    pub fn door(&mut self, name: char) -> anyhow::Result<SocketAddr> {
        Ok(self.node(name)?.door)
    }

    /// The doors of a provider's nodes that run.
    ///
    /// # Errors
    /// When it is not on stage.
    pub fn doors(&mut self, name: char) -> anyhow::Result<Vec<SocketAddr>> {
        let nodes = self.provider(name)?.nodes.iter();
        let running = nodes.filter(|node| node.process.is_some());
        Ok(running.map(|node| node.door).collect())
    }

    /// The doors of a provider's nodes other than `number` that run.
    ///
    /// # Errors
    /// When it is not on stage.
    pub fn doors_beside(&mut self, name: char, number: u64) -> anyhow::Result<Vec<SocketAddr>> {
        let nodes = self.provider(name)?.nodes.iter();
        let others = nodes.filter(|node| node.number != number && node.process.is_some());
        Ok(others.map(|node| node.door).collect())
    }

    /// Holds what the one provider sends to the held one, or lets it go.
    pub async fn hold(&self, held: bool) {
        let Some(Held { from, to, .. }) = &self.held else {
            return;
        };
        match held {
            true => self.network.hold(from.as_str(), to.as_str()),
            false => self.network.release(from.as_str(), to.as_str()).await,
        }
    }

    /// The providers.
    #[must_use]
    pub fn names(&self) -> Vec<char> {
        self.providers.keys().copied().collect()
    }

    /// The process ids of a provider.
    ///
    /// # Errors
    /// When it is not on stage.
    pub fn pids(&mut self, name: char) -> anyhow::Result<Vec<u32>> {
        let nodes = self.provider(name)?.nodes.iter();
        let running = nodes.filter_map(|node| node.process.as_ref());
        Ok(running.filter_map(Child::id).collect())
    }

    /// Kills a provider's processes with SIGKILL.
    ///
    /// # Errors
    /// When it is not on stage, or the system refuses.
    pub async fn kill(&mut self, name: char) -> anyhow::Result<()> {
        for node in &mut self.provider(name)?.nodes {
            node.kill().await?;
        }
        Ok(())
    }

    /// Starts what was killed of a provider again, on the same data.
    ///
    /// # Errors
    /// As [`Self::ready`].
    pub async fn restart(&mut self, name: char) -> anyhow::Result<()> {
        self.restart_within(name, READY_DEADLINE).await
    }

    /// As [`Self::restart`], for nodes that may need longer.
    ///
    /// # Errors
    /// As [`Self::ready`].
    pub async fn restart_within(&mut self, name: char, patience: Duration) -> anyhow::Result<()> {
        let program = self.program.clone();
        for node in &mut self.provider(name)?.nodes {
            if node.process.is_none() {
                node.process = Some(start(&program, &node.config, &node.log)?);
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
    ///
    /// # Errors
    /// When it is not on stage.
    pub fn config(&mut self, name: char) -> anyhow::Result<&Path> {
        Ok(&self.first(name)?.config)
    }

    /// The data directory of a provider's first node.
    ///
    /// # Errors
    /// When it is not on stage.
    pub fn data(&mut self, name: char) -> anyhow::Result<PathBuf> {
        let data = self.first(name)?.admin.parent();
        Ok(data.context("the socket is in the directory")?.to_owned())
    }

    /// Kills one node of a provider with SIGKILL.
    ///
    /// # Errors
    /// When it is not on stage, or the system refuses.
    pub async fn kill_node(&mut self, name: char, number: u64) -> anyhow::Result<()> {
        self.numbered(name, number)?.kill().await
    }

    /// The data directory of a provider's node.
    ///
    /// # Errors
    /// When it is not on stage.
    pub fn data_of(&mut self, name: char, number: u64) -> anyhow::Result<PathBuf> {
        let data = self.numbered(name, number)?.admin.parent();
        Ok(data.context("the socket is in the directory")?.to_owned())
    }

    /// Stops one node where it is, or lets it go on.
    ///
    /// # Errors
    /// When it does not run, or the system refuses.
    pub fn pause_node(&mut self, name: char, number: u64, paused: bool) -> anyhow::Result<()> {
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
    ///
    /// # Errors
    /// When nobody leads it, as far as the node that is asked knows.
    pub async fn leader_of(&mut self, name: char, uri: &str) -> anyhow::Result<u64> {
        let shard = place(uri, SHARDS_DEFAULT);
        let Response::Cluster(status) = self.ask(name, &Request::Cluster).await? else {
            bail!("the node answered something else");
        };
        let mut rows = status.shards.into_iter();
        let row = rows.find(|row| row.shard == shard);
        row.and_then(|row| row.leader).context("the shard is led")
    }

    /// The commands that show what is going on.
    #[must_use]
    pub fn how_to_look_around(&self) -> String {
        let mut text = "the providers keep running; Ctrl-C ends them. Look around:\n".to_owned();
        for provider in self.providers.values() {
            let mut commands = vec!["status", "user list"];
            if provider.nodes.len() > 1 {
                commands.push("cluster status");
            }
            let configs = provider.nodes.iter().map(|node| node.config.display());
            for (command, config) in commands.into_iter().zip(configs.cycle()) {
                // Writing to a String does not fail.
                let _ = writeln!(
                    text,
                    "{} {command} --config {config}",
                    self.program.display()
                );
            }
        }
        text
    }

    /// Keeps the files of a story that broke off.
    pub fn keep_files(&mut self) -> PathBuf {
        self.directory.disable_cleanup(true);
        self.directory.path().to_owned()
    }

    /// Stops the providers in order; each must end cleanly.
    ///
    /// # Errors
    /// When one does not.
    pub async fn end(mut self) -> anyhow::Result<()> {
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
    /// Starts a node that has its files.
    fn start(program: &Path, spot: &Spot, log: PathBuf) -> anyhow::Result<Self> {
        Ok(Self {
            number: spot.place.node,
            config: spot.config.clone(),
            door: spot.place.door,
            link: spot.place.link,
            admin: spot.data.join("admin.sock"),
            process: Some(start(program, &spot.config, &log)?),
            log,
        })
    }

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

/// Free addresses for so many nodes of each provider.
fn places(names: &[char], nodes: u64) -> BTreeMap<char, Vec<Place>> {
    let of = |name: &char| (*name, (1..=nodes).map(free_place).collect());
    names.iter().map(of).collect()
}

/// Starts a node; what it says goes to a file.
fn start(program: &Path, config: &Path, log: &Path) -> anyhow::Result<Child> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)?;
    Command::new(program)
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
