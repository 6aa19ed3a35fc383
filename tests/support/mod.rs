//! Real nodes for the tests: certificates, configurations, processes, members at their doors.
//!
//! Promises: only processes that were started here are ended, by their id, also when a test panics; every wait has a
//! deadline and a condition.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "tests stop at what they did not expect, and each suite uses a part of this"
)]

pub mod clocks;
pub mod cluster;
pub mod faults;
pub mod forger;
pub mod full_disk;
pub mod history;
pub mod raw;
pub mod scripted;
pub mod slow_disk;

use mimi_actors::{
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    wire::event::Epoch,
};
use mimi_node::{
    admin::{
        local,
        protocol::{Request, Response, Status},
    },
    cli::pki::{create_ca, create_certificate},
    client::member::{Member, MemberError},
    quic::DoorDialer,
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long anything may take that should be quick; generous, because two cores are shared.
pub const WAIT: Duration = Duration::from_secs(20);
/// How often a condition is looked at that cannot be waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Lines of a node's log that a failure shows.
const TAIL_LINES: usize = 40;

/// Looks until there is something to see.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "not within {WAIT:?}: {what}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Ports that nodes listen on. The kernel gives none of them to a socket that asks for any port, so that none is taken
/// between the choice and the node's start, nor while a node is down.
const PORTS: RangeInclusive<u16> = 10_000..=32_000;

/// Addresses of this machine that nobody uses, for UDP or TCP; none is given out twice.
pub fn free_address() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(PORTS)));
        let free = UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok();
        if free && GIVEN.lock().unwrap().insert(address.port()) {
            return address;
        }
    }
}

/// Does something that holds up its thread on another one: several stories share one.
pub async fn aside<T: Send + 'static>(doing: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(doing).await.unwrap()
}

pub fn user(name: &str, provider: &str) -> UserUri {
    format!("mimi://{provider}/u/{name}").parse().unwrap()
}

pub fn client(name: &str, device: &str, provider: &str) -> ClientUri {
    format!("mimi://{provider}/d/{name}/{device}")
        .parse()
        .unwrap()
}

pub fn room(name: &str, provider: &str) -> RoomUri {
    format!("mimi://{provider}/r/{name}").parse().unwrap()
}

/// A node: its files, and its process while it runs.
pub struct Node {
    pub provider: ProviderId,
    pub door: SocketAddr,
    pub link: SocketAddr,
    pub config: PathBuf,
    pub data: PathBuf,
    pub env: Vec<(String, String)>,
    /// It runs the release before: that one's program if [`OLD_BINARY`] names it, or else this one, speaking as that does.
    pub before: bool,
    running: Option<Running>,
    log: Arc<Mutex<Vec<String>>>,
}

struct Running {
    child: Child,
    reader: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It is our own child and was not waited for: the id is still its.
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}

/// A program of the version before, in the environment: with it, stories are played by nodes of two versions, and by members
/// that speak the one before.
const OLD_BINARY: &str = "OLD_BINARY";
/// The nodes that run it, by the names of their configurations: `a.example-n1,b.example`.
const OLD_NODES: &str = "OLD_NODES";

/// The release before.
const BEFORE: &str = "v0.1";

/// How members reach their providers.
pub fn dialer(ca: &Path) -> DoorDialer {
    let dialer = DoorDialer::new(ca).unwrap();
    match std::env::var_os(OLD_BINARY) {
        Some(_) => dialer.speaking(1),
        None => dialer,
    }
}

impl Node {
    pub fn socket(&self) -> PathBuf {
        self.data.join("admin.sock")
    }

    /// Starts the process; it is not ready yet.
    pub fn spawn(&mut self) {
        assert!(self.running.is_none(), "{} runs", self.provider);
        let mut child = self.command().spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = Arc::clone(&self.log);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                log.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
        self.running = Some(Running {
            child,
            reader: Some(reader),
        });
    }

    /// The program that the node runs: an earlier one, if [`OLD_BINARY`] and [`OLD_NODES`] say so.
    fn old_binary(&self) -> Option<PathBuf> {
        let file = self.config.file_stem().unwrap().to_string_lossy();
        let old = std::env::var(OLD_NODES).unwrap_or_default();
        let is_old = self.before || old.split(',').any(|node| *node == *file);
        std::env::var_os(OLD_BINARY)
            .filter(|_| is_old)
            .map(PathBuf::from)
    }

    pub fn command(&self) -> Command {
        let mut command = match self.old_binary() {
            Some(old) => Command::new(old),
            None => Command::new(env!("CARGO_BIN_EXE_mimi-node")),
        };
        if self.before && self.old_binary().is_none() {
            command.env("MIMI_NODE__NODE__SPEAK_RELEASE", BEFORE);
        }
        command
            .arg("serve")
            .arg("--config")
            .arg(&self.config)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Starts the process and waits until it answers.
    pub async fn start(&mut self) -> Status {
        self.spawn();
        self.ready().await
    }

    /// Waits until the process answers.
    pub async fn ready(&mut self) -> Status {
        let deadline = Instant::now() + WAIT;
        let pid = self.running.as_ref().unwrap().child.id();
        loop {
            if let Ok(Response::Status(status)) = local::ask(&self.socket(), &Request::Status).await
                && status.pid == pid
            {
                return status;
            }
            let ended = self.running.as_mut().unwrap().child.try_wait().unwrap();
            let late = Instant::now() > deadline;
            assert!(
                ended.is_none() && !late,
                "{} is not ready ({ended:?})\n{}",
                self.provider,
                self.tail()
            );
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// SIGKILL: nothing can be put in order.
    pub fn kill(&mut self) {
        drop(self.running.take().expect("the node runs"));
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: Signal) {
        let running = self.running.as_ref().expect("the node runs");
        kill_process(Pid::from_child(&running.child), signal).unwrap();
    }

    /// SIGSTOP, and waits until every thread stands still: some may run on after the signal was sent.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let child = &self.running.as_ref().expect("the node runs").child;
        let stopped = waitpid(Some(Pid::from_child(child)), WaitOptions::UNTRACED).unwrap();
        assert!(stopped.is_some_and(|(_, status)| status.stopped()));
    }

    /// SIGTERM, and how the process ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits until the process ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut running = self.running.take().expect("the node runs");
        let status = until("the node ends", || {
            let ended = running.child.try_wait().unwrap();
            async move { ended }
        })
        .await;
        drop(running);
        status
    }

    /// The id of the process, which runs.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("the node runs").child.id()
    }

    pub fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// What the operator's socket answers.
    pub async fn ask(&self, request: &Request) -> Response {
        local::ask(&self.socket(), request).await.unwrap()
    }

    pub async fn status(&self) -> Status {
        match self.ask(&Request::Status).await {
            Response::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// The hash of each shard's state.
    pub async fn hashes(&self) -> Vec<String> {
        let shards = self.status().await.shards;
        assert!(
            !shards.is_empty(),
            "a state without shards is like any other"
        );
        shards.into_iter().map(|shard| shard.state_hash).collect()
    }

    /// Waits until every shard goes by the rules of a release.
    pub async fn is_at_level(&self, release: &str) {
        let all = async || {
            let shards = self.status().await.shards;
            shards
                .iter()
                .all(|shard| shard.level == release)
                .then_some(())
        };
        until(&format!("every shard at {release}"), all).await;
    }

    /// The hashes, once two looks have found the same: what is recorded late has been recorded.
    pub async fn settled(&self) -> Vec<String> {
        let deadline = Instant::now() + WAIT;
        let mut before = self.status().await;
        loop {
            // Longer than the intervals at which acknowledgements, and what clients have read, are recorded.
            tokio::time::sleep(Duration::from_millis(1_300)).await;
            let now = self.status().await;
            assert!(
                !now.shards.is_empty(),
                "a state without shards never changes"
            );
            if now.shards == before.shards {
                return now.shards.into_iter().map(|row| row.state_hash).collect();
            }
            assert!(Instant::now() < deadline, "the state never settles");
            before = now;
        }
    }

    /// Adds a user, or an enrolment code for it; gives the code.
    pub async fn add_user(&self, name: &str) -> String {
        let request = Request::AddUser {
            user: name.to_owned(),
        };
        match self.ask(&request).await {
            Response::UserAdded { enrolment_code, .. } => enrolment_code,
            other => panic!("{other:?}"),
        }
    }

    pub async fn consent(&self, name: &str, requester: &UserUri, room: Option<&RoomUri>) {
        let request = Request::Consent {
            user: name.to_owned(),
            requester: requester.clone().into(),
            room: room.cloned(),
            grant: Some(true),
        };
        let answer = self.ask(&request).await;
        let given = matches!(answer, Response::Done | Response::Unchanged);
        assert!(given, "{answer:?}");
    }

    pub async fn delete_user(&self, name: &str) {
        let request = Request::DeleteUser {
            user: name.to_owned(),
        };
        assert_eq!(self.ask(&request).await, Response::Done);
    }

    pub fn log(&self) -> Vec<String> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The end of the log, for people.
    pub fn tail(&self) -> String {
        let log = self.log();
        let mut text = format!("--- log of {}\n", self.provider);
        for line in &log[log.len().saturating_sub(TAIL_LINES)..] {
            writeln!(text, "{line}").unwrap();
        }
        text
    }

    /// Lines that say that something broke: none may be there.
    pub fn errors(&self) -> Vec<String> {
        let log = self.log();
        log.into_iter()
            .filter(|line| line.contains("\"level\":\"ERROR\"") || line.contains("panicked"))
            .collect()
    }
}

/// Some providers of one node each, all peers of each other, in a directory that is removed at the end.
pub struct Net {
    pub dir: tempfile::TempDir,
    pub nodes: BTreeMap<String, Node>,
    pub dialer: DoorDialer,
}

/// Where members may say that their trees lie.
pub const TREE_HOST: &str = "trees.a.example";

impl Net {
    /// Makes the files; starts nothing.
    pub fn prepare(providers: &[&str]) -> Self {
        Self::prepare_over(providers, None)
    }

    /// The same for providers that reach each other over `network` if there is one.
    pub fn prepare_over(providers: &[&str], network: Option<&faults::Network>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path();
        create_ca(ca).unwrap();
        let mut nodes = BTreeMap::new();
        for name in providers {
            let provider: ProviderId = name.parse().unwrap();
            create_certificate(ca, &provider, ca).unwrap();
            let node = Node {
                provider,
                door: free_address(),
                link: free_address(),
                config: ca.join(format!("{name}.toml")),
                data: ca.join(format!("{name}-data")),
                env: Vec::new(),
                before: false,
                running: None,
                log: Arc::default(),
            };
            nodes.insert((*name).to_owned(), node);
        }
        let dialer = dialer(&ca.join("ca.crt"));
        let net = Self { dir, nodes, dialer };
        let reach = |(name, node): (&String, &Node)| {
            let reached = network.map_or(node.link, |network| network.reach(name, node.link));
            (name.clone(), reached)
        };
        let reached: BTreeMap<String, SocketAddr> = net.nodes.iter().map(reach).collect();
        for name in providers {
            std::fs::write(&net.nodes[*name].config, net.config(name, &reached)).unwrap();
        }
        net
    }

    fn config(&self, name: &str, reached: &BTreeMap<String, SocketAddr>) -> String {
        let node = &self.nodes[name];
        let mut text = format!(
            "[node]\nprovider = \"{name}\"\ndata_dir = \"{name}-data\"\n\
             [tls]\ncertificate = \"{name}.crt\"\nkey = \"{name}.key\"\n\
             [link]\nlisten = \"{}\"\n[door]\nlisten = \"{}\"\n\
             [limits]\ntree_hosts = [\"{TREE_HOST}\"]\n",
            node.link, node.door
        );
        for (domain, address) in reached.iter().filter(|(domain, _)| *domain != name) {
            writeln!(
                text,
                "[[peer]]\ndomain = \"{domain}\"\naddresses = [\"{}\"]\ntrust = {{ ca = \"ca.crt\" }}",
                address
            )
            .unwrap();
        }
        text
    }

    /// Starts providers that know each other, and waits until they are connected.
    pub async fn start(providers: &[&str]) -> Self {
        let mut net = Self::prepare(providers);
        for node in net.nodes.values_mut() {
            node.spawn();
        }
        for node in net.nodes.values_mut() {
            node.ready().await;
        }
        net.linked().await;
        net
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn ca(&self) -> PathBuf {
        self.path("ca.crt")
    }

    pub fn node(&self, name: &str) -> &Node {
        self.nodes.get(name).expect("a node of this net")
    }

    /// A running node of a provider; of several the first.
    pub fn any(&self, provider: &str) -> &Node {
        let mut nodes = self.of(provider);
        nodes.next().expect("a running node of this provider")
    }

    /// The running nodes of a provider.
    pub fn of(&self, provider: &str) -> impl Iterator<Item = &Node> {
        let nodes = self.nodes.values();
        nodes.filter(move |node| node.provider.as_str() == provider && node.runs())
    }

    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).expect("a node of this net")
    }

    /// Waits until all running nodes are connected to each other, both ways.
    pub async fn linked(&self) {
        let running: Vec<_> = self.nodes.values().filter(|node| node.runs()).collect();
        for node in &running {
            until(&format!("{} has its peers", node.provider), async || {
                let status = node.status().await;
                let all = running.iter().all(|other| {
                    other.provider == node.provider
                        || status
                            .peers
                            .iter()
                            .any(|peer| peer.provider == other.provider.as_str() && peer.connected)
                });
                all.then_some(())
            })
            .await;
        }
    }

    /// Starts a node again and waits until it has its peers back.
    pub async fn restart(&mut self, name: &str) {
        self.node_mut(name).start().await;
        self.linked().await;
    }

    /// A fresh device of a user, who is made if need be; enrolled, logged in, with a state file.
    pub async fn member(&self, name: &str, device: &str, provider: &str) -> Member {
        let node = self.any(provider);
        let code = node.add_user(name).await;
        let state = self.path(&format!("{provider}-{name}-{device}.state"));
        let mut member = Member::create(client(name, device, provider), Some(state)).unwrap();
        member.connect(&self.dialer, node.door).await.unwrap();
        member.enrol(&code).await.unwrap();
        member
    }

    /// Connects a member again, until it works.
    pub async fn reconnect(&self, member: &mut Member) {
        let doors: Vec<_> = self
            .of(member.client().provider().as_str())
            .map(|node| node.door)
            .collect();
        let deadline = Instant::now() + WAIT;
        while let Err(error) = member.connect_to_any(&self.dialer, &doors).await {
            assert!(Instant::now() < deadline, "{}: {error}", member.client());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    pub fn tails(&self) -> String {
        self.nodes.values().map(Node::tail).collect()
    }

    /// Lines of all nodes that say that something broke.
    pub fn errors(&self) -> Vec<String> {
        self.nodes.values().flat_map(Node::errors).collect()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for node in self.nodes.values_mut() {
            node.running = None;
        }
        if std::thread::panicking() {
            println!("{}", self.tails());
        }
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.nodes.keys()).finish()
    }
}

/// Processes events until the condition holds; says who waited in vain for what.
pub async fn wait(member: &mut Member, what: &str, condition: impl Fn(&Member) -> bool) {
    let waited = member.run_until(WAIT, condition).await;
    if let Err(error) = waited {
        let faults: Vec<_> = member.faults().collect();
        panic!(
            "{} waited for {what}: {error}; {:?} {faults:?}",
            member.client(),
            member.counts()
        );
    }
}

/// Waits until the member is in an epoch of a room.
pub async fn wait_epoch(member: &mut Member, room: &RoomUri, epoch: Epoch) {
    wait(member, &format!("epoch {epoch} of {room}"), |member| {
        member.epoch(room) >= Some(epoch)
    })
    .await;
    assert_eq!(member.epoch(room), Some(epoch), "{}", member.client());
}

/// Checks that the members have one state, and that nothing was lost, doubled or broken on the way.
pub fn agree(members: &[&Member], room: &RoomUri) {
    let [first, others @ ..] = members else {
        panic!("nobody is there to agree");
    };
    assert!(
        first.epoch(room).is_some(),
        "{} is not in it",
        first.client()
    );
    for member in others {
        let who = member.client();
        assert_eq!(member.epoch(room), first.epoch(room), "{who}");
        assert_eq!(
            member.epoch_authenticator(room),
            first.epoch_authenticator(room),
            "{who}"
        );
        assert_eq!(member.tree_hash(room), first.tree_hash(room), "{who}");
    }
    for member in members {
        unhurt(member);
    }
}

/// Checks that nothing came to a member that should not have come, and that no number was left out.
pub fn unhurt(member: &Member) {
    let faults: Vec<_> = member.faults().collect();
    assert!(faults.is_empty(), "{}: {faults:?}", member.client());
    assert_eq!(member.counts().gaps, 0, "{}", member.client());
    assert_eq!(member.counts().dropped, 0, "{}", member.client());
}

/// Claims one KeyPackage of each client of these users and adds them all.
pub async fn invite(
    member: &mut Member,
    room: &RoomUri,
    users: &[UserUri],
) -> Result<Epoch, MemberError> {
    let claimed = member.claim(Some(room.clone()), users).await?;
    let packages = mimi_node::client::member::packages(&claimed);
    let add = member.prepare_add(room, &packages)?;
    Ok(member.commit(&add).await?.epoch)
}

/// Runs the node's binary to its end; gives its code and what it said on standard error.
pub fn run_to_end(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap());
    let deadline = Instant::now() + WAIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it did not end: {}", reader.join().unwrap());
        }
        std::thread::sleep(LOOK_INTERVAL);
    };
    (status.code(), reader.join().unwrap())
}

/// The permission bits of a file.
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
