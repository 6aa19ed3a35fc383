//! A node: its files, its process and its log.

use super::{LOOK_INTERVAL, WAIT, until};
use mimi_actors::ids::{ProviderId, RoomUri, UserUri};
use mimi_operator::{
    ask::ask,
    protocol::{ClusterStatus, Request, Response, Status},
};
use mimi_quic::DoorDialer;
use mimi_stage::ground::Spot;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Lines of a node's log that a failure shows.
const TAIL_LINES: usize = 40;

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
    /// A node that has its files and does not run.
    pub fn new(spot: &Spot) -> Self {
        Self {
            provider: spot.provider.clone(),
            door: spot.place.door,
            link: spot.place.link,
            config: spot.config.clone(),
            data: spot.data.clone(),
            env: Vec::new(),
            before: false,
            running: None,
            log: Arc::default(),
        }
    }

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
            if let Ok(Response::Status(status)) = ask(&self.socket(), &Request::Status).await
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

    /// Ends the process, if it runs.
    pub fn end(&mut self) {
        self.running = None;
    }

    pub fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// What the operator's socket answers.
    pub async fn ask(&self, request: &Request) -> Response {
        ask(&self.socket(), request).await.unwrap()
    }

    pub async fn status(&self) -> Status {
        match self.ask(&Request::Status).await {
            Response::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    /// The cluster, as this node sees it.
    pub async fn cluster(&self) -> ClusterStatus {
        match self.ask(&Request::Cluster).await {
            Response::Cluster(status) => status,
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

    /// The release by whose rules each shard goes on.
    pub async fn levels(&self) -> Vec<String> {
        let shards = self.status().await.shards;
        shards.into_iter().map(|shard| shard.level).collect()
    }

    /// Waits until every shard goes on by the rules of a release.
    pub async fn is_at_level(&self, release: &str) {
        let all = async || {
            let levels = self.levels().await;
            levels.iter().all(|level| level == release).then_some(())
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
