//! The nodes of one cluster and the connections between them: votes, entries, snapshots, requests that another node's
//! leader must answer.
//!
//! Each node dials each other one; who dials asks. Promises: only nodes of this cluster are spoken to, and only as long
//! as they are who they were (`known`); votes and heartbeats never wait behind entries; what waits for one node goes
//! together. A node that cannot be reached costs its own queues. Not here: what openraft does with an answer (`network`).

pub(crate) mod calls;
pub(crate) mod clock;
pub(crate) mod frame;
pub(crate) mod identity;
mod known;
pub(crate) mod neighbour;
mod notes;
mod probe;
#[cfg(test)]
mod tests;
mod transfer;
mod way;

use super::raft::group::Group;
use crate::{
    directory::Claimed,
    quic::{
        ClusterEndpoint, ClusterLink, GateFigures, LaneReceiver, LaneSender, code,
        strangers::Strangers,
    },
    store::Disk,
};
use anyhow::Context;
use calls::{Lost, Serve};
use clock::NodeClock;
use frame::{Control, ControlAnswer, Greeting, Ground, Hello, Open, RaftAnswer, RaftCall, Why};
use futures::future::{BoxFuture, join_all};
use identity::{Identity, Own};
use known::{Known, Reached};
use mimi_actors::{
    limits::GREETING_FRAME_BYTES_MAX,
    membership::chain::StartId,
    shard_request::{ShardReply, ShardRequest},
    wire::{
        self, BVec,
        version::{CLUSTER, Level},
    },
};
use neighbour::Neighbour;
use notes::Notes;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};
use tokio::{sync::oneshot, task::spawn_blocking};

/// How long a lane may take to say what it is for.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// How long a node may take to write down how far the others are.
const REACHED_DEADLINE: Duration = Duration::from_secs(2);
/// How long the rest of a frame may take.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);

/// For each shard led here how far each node had acknowledged it at one moment: one more than the last entry.
type Acknowledged = Vec<(u16, BTreeMap<u64, u64>)>;

/// The cluster, as this node sees it.
pub(crate) struct Mesh {
    me: u64,
    /// How many shards the provider has.
    count: u16,
    endpoint: ClusterEndpoint,
    identity: Identity,
    known: Known,
    notes: Notes,
    clock: Arc<NodeClock>,
    disk: Disk,
    neighbours: Mutex<BTreeMap<u64, Arc<Neighbour>>>,
    groups: OnceLock<Vec<Group>>,
    shards: OnceLock<Arc<dyn Answering>>,
    myself: Weak<Self>,
}

impl Mesh {
    /// The cluster behind `endpoint`; nobody is dialled yet.
    ///
    /// # Errors
    /// When what is remembered of the others does not read.
    pub(crate) fn new(
        (me, count): (u64, u16),
        endpoint: ClusterEndpoint,
        (claimed, own): (Claimed, Own),
        data_dir: &Path,
        disk: Disk,
        clock: Arc<NodeClock>,
    ) -> anyhow::Result<Arc<Self>> {
        let known = Known::open(data_dir, me)?;
        let notes = Notes::open(data_dir)?;
        let identity = Identity::new(claimed, own);
        Ok(Arc::new_cyclic(|myself| Self {
            me,
            count,
            endpoint,
            identity,
            known,
            notes,
            clock,
            disk,
            neighbours: Mutex::default(),
            groups: OnceLock::new(),
            shards: OnceLock::new(),
            myself: myself.clone(),
        }))
    }

    /// The number of this node.
    pub(crate) fn me(&self) -> u64 {
        self.me
    }

    /// This node's time, and what it knows of the others'.
    pub(crate) fn clock(&self) -> &NodeClock {
        &self.clock
    }

    /// What this node keeps.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// How many shards the provider has.
    fn count(&self) -> u16 {
        self.count
    }

    fn endpoint(&self) -> &ClusterEndpoint {
        &self.endpoint
    }

    /// Takes note of the groups of all shards: from now on their calls are answered.
    pub(crate) fn begin(&self, groups: Vec<Group>) {
        // Done once, when the node has started.
        drop(self.groups.set(groups));
    }

    /// Takes note of the shards: from now on what other nodes pass on is answered.
    pub(crate) fn open(&self, shards: Arc<dyn Answering>) {
        // Done once, when the node has started.
        drop(self.shards.set(shards));
    }

    /// The group of a shard, once this node has started.
    pub(crate) fn group(&self, shard: u16) -> Option<&Group> {
        self.groups.get()?.get(usize::from(shard))
    }

    /// A node and the connection to it, which is kept up from the first time that somebody asks. A node that is said to
    /// be somewhere else, too, is dialled at both addresses.
    pub(crate) fn neighbour(&self, node: u64, address: &str) -> Arc<Neighbour> {
        let mut neighbours = self.neighbours();
        let neighbour = neighbours
            .entry(node)
            .or_insert_with(|| Neighbour::new(node, self.count, &self.myself));
        neighbour.told(address);
        Arc::clone(neighbour)
    }

    fn neighbours(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Neighbour>>> {
        self.neighbours
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of a node for good: it is not spoken to any more.
    pub(crate) fn forget(&self, node: u64) {
        if let Err(error) = self.known.leave(node) {
            tracing::error!(node, %error, "it is not written down that the node left; it is tried again");
            return;
        }
        self.neighbours().remove(&node);
        self.identity
            .part(node, None, "this node has left the cluster");
    }

    /// The other nodes that are known, where each is, and whether a connection to it is up.
    pub(crate) fn others(&self) -> Vec<(u64, String, bool)> {
        let row = |(node, is): (&u64, &Arc<Neighbour>)| (*node, is.address(), is.link().is_some());
        self.neighbours().iter().map(row).collect()
    }

    /// Whether a connection to a node is up.
    pub(crate) fn hears(&self, node: u64) -> bool {
        self.known_neighbour(node)
            .is_some_and(|neighbour| neighbour.link().is_some())
    }

    /// The level of the release that a node speaks as, while a connection to it is up.
    pub(crate) fn level_of(&self, node: u64) -> Option<Level> {
        let link = self.known_neighbour(node)?.link()?;
        Some(Self::spoken_on(&link))
    }

    fn spoken_on(link: &ClusterLink) -> Level {
        Level::spoken(link.link().agreed().unwrap_or(CLUSTER.oldest))
    }

    /// Why a node is not spoken to that could not read what this one writes, if it is such a node.
    fn is_too_early(&self, link: &ClusterLink) -> Option<String> {
        let (level, theirs, node) = (self.level(), Self::spoken_on(link), link.node());
        (theirs < level).then(|| {
            format!(
                "the cluster goes by the rules of release {level}, and node {node} speaks as {theirs}: run {level} or a \
                 later release there"
            )
        })
    }

    /// The latest level that a shard of this node has.
    fn level(&self) -> Level {
        let shards = self.shards.get();
        shards.map_or(Level::FIRST, |shards| shards.level())
    }

    /// Whether a node that is connected has a log of a shard.
    pub(crate) fn has_begun(&self, shard: u16) -> bool {
        let neighbours = self.neighbours();
        neighbours.values().any(|other| other.has_begun(shard))
    }

    /// Where the other nodes reach this one, as its configuration says.
    pub(crate) fn address(&self) -> &str {
        self.identity.address()
    }

    pub(crate) fn known_neighbour(&self, node: u64) -> Option<Arc<Neighbour>> {
        self.neighbours().get(&node).cloned()
    }

    /// Passes a request on to the node that leads a shard; requests to one shard keep their order.
    ///
    /// # Errors
    /// [`Lost`] when too many wait, or the node is not known.
    pub(crate) fn forward(
        &self,
        node: u64,
        shard: u16,
        ask: ShardRequest,
    ) -> Result<oneshot::Receiver<ShardReply>, Lost> {
        let neighbour = self.known_neighbour(node).ok_or(Lost)?;
        // A request that could only wait for a connection is refused at once.
        neighbour.link().ok_or(Lost)?;
        let bytes = ask.bytes();
        neighbour.forwards(shard).ok_or(Lost)?.begin(ask, bytes)
    }

    /// Asks a node for something about the cluster.
    ///
    /// # Errors
    /// [`Lost`] when it cannot be reached, or does not answer in time.
    pub(crate) async fn control(
        &self,
        node: u64,
        control: Control,
        deadline: Duration,
    ) -> Result<ControlAnswer, Lost> {
        if node == self.me {
            return Ok(self.do_control(control, self.me).await);
        }
        let neighbour = self.known_neighbour(node).ok_or(Lost)?;
        neighbour.control(control, deadline).await
    }

    /// How far the other nodes have come.
    fn acknowledged(&self) -> Acknowledged {
        let groups = (0..self.count).filter_map(|shard| Some((shard, self.group(shard)?)));
        groups
            .map(|(shard, group)| (shard, group.replicated()))
            .collect()
    }

    /// Has every node write down how far the others have come in the shards that are led here, as far as it is committed:
    /// what is not may still be cut off.
    pub(crate) async fn remember_reach(&self) {
        let mut rows = Vec::new();
        for (shard, replicated) in self.acknowledged() {
            let applied = self.group(shard).and_then(Group::applied);
            let committed = applied.map_or(0, |applied| applied.saturating_add(1));
            let reached = replicated.into_iter();
            rows.extend(reached.map(|(node, next)| (node, shard, next.min(committed))));
        }
        let everybody = self.others().into_iter().filter(|(_, _, up)| *up);
        let everybody = everybody.map(|(node, _, _)| node).chain([self.me]);
        let everybody: Vec<u64> = everybody.collect();
        let told = BVec::pieces(rows).map(Control::Reached);
        let asked = told.flat_map(|reached| {
            let each = everybody.iter();
            each.map(move |node| self.control(*node, reached.clone(), REACHED_DEADLINE))
        });
        // Whoever did not hear it hears the next.
        join_all(asked).await;
    }

    async fn reached(&self, rows: Vec<(u64, u16, u64)>) -> ControlAnswer {
        let Some(mesh) = self.myself.upgrade() else {
            return ControlAnswer::Refused(Why::clipped("the node stops"));
        };
        let mut reached = Reached::new();
        for (node, shard, next) in rows.into_iter().filter(|(node, _, _)| *node != self.me) {
            reached.entry(node).or_default().insert(shard, next);
        }
        match spawn_blocking(move || mesh.known.reach(reached)).await {
            Ok(Ok(())) => ControlAnswer::Done,
            Ok(Err(error)) => {
                tracing::warn!(%error, "how far the other nodes are is not written down; it is tried again");
                ControlAnswer::Refused(Why::clipped(&format!("{error:#}")))
            }
            // The runtime is being shut down.
            Err(_) => ControlAnswer::Refused(Why::clipped("the node stops")),
        }
    }

    /// What came to the door of the other nodes.
    pub(crate) fn door(&self) -> GateFigures {
        self.endpoint.figures()
    }

    /// Takes the connections of the other nodes, until the endpoint is closed.
    pub(crate) async fn serve(self: Arc<Self>) {
        let strangers = Arc::new(Strangers::new("a node of the cluster"));
        while let Some(incoming) = self.endpoint.accept().await {
            let (mesh, strangers) = (Arc::clone(&self), Arc::clone(&strangers));
            let address = incoming.remote_address();
            // The other side greets when the handshake is done.
            let before = Arc::new(self.acknowledged());
            tokio::spawn(async move {
                match incoming.establish().await {
                    Ok(link) => mesh.serve_link(Arc::new(link), before).await,
                    Err(error) => strangers.refused(address, &error),
                }
            });
        }
    }

    async fn serve_link(self: Arc<Self>, link: Arc<ClusterLink>, before: Arc<Acknowledged>) {
        let greeted = Arc::new(OnceLock::new());
        while let Ok(lane) = link.link().accept_lane().await {
            let (mesh, link, greeted) =
                (Arc::clone(&self), Arc::clone(&link), Arc::clone(&greeted));
            let before = Arc::clone(&before);
            tokio::spawn(async move {
                if let Err(error) = mesh.serve_lane(&link, &greeted, &before, lane).await {
                    tracing::debug!(node = link.node(), %error, "a lane of a node of the cluster ended");
                }
            });
        }
    }

    async fn serve_lane(
        self: &Arc<Self>,
        link: &Arc<ClusterLink>,
        greeted: &OnceLock<StartId>,
        before: &Acknowledged,
        (mut to, mut from): (LaneSender, LaneReceiver),
    ) -> anyhow::Result<()> {
        // Whoever has not greeted gets a small frame only.
        let frame_max = if greeted.get().is_some() {
            frame::FRAME_BYTES_MAX
        } else {
            GREETING_FRAME_BYTES_MAX
        };
        let opening = from.next(frame_max, Some(FRAME_DEADLINE));
        let opening = tokio::time::timeout(OPEN_DEADLINE, opening)
            .await
            .context("the lane does not say what it is for")??;
        let Some(frame) = opening else { return Ok(()) };
        // Answered in the version in which it begins.
        to.speak(CLUSTER.spoken(&frame));
        let open = wire::decode::<Open>(&frame).inspect_err(|_| {
            to.reset(code::BAD_FRAME);
        })?;
        match open {
            Open::Hello(hello) => {
                let greeting = self.greeted(link, greeted, &hello, before).await;
                to.write(&greeting).await?;
                Ok(to.finish()?)
            }
            _ if greeted.get().is_none() => {
                link.link().close(code::PROTOCOL, "greet first");
                anyhow::bail!("it has not greeted");
            }
            Open::Raft => calls::serve(to, from, RaftCalls(Arc::clone(self))).await,
            Open::Forward { .. } => {
                let shards = self.shards.get().context("this node is starting")?;
                calls::serve(to, from, Forwards(Arc::clone(shards))).await
            }
            Open::Control(control) => {
                let answer = self.do_control(control, link.node()).await;
                to.write(&answer).await?;
                Ok(to.finish()?)
            }
            Open::Snapshot(offer) => transfer::receive(self, offer, to, from).await,
        }
    }

    /// Answers a greeting.
    async fn greeted(
        &self,
        link: &Arc<ClusterLink>,
        greeted: &OnceLock<StartId>,
        hello: &Hello,
        before: &Acknowledged,
    ) -> Greeting {
        let node = link.node();
        if let Some(why) = self.is_too_early(link) {
            tracing::warn!(node, %why, "a node was not let into the cluster");
            let ground = Ground::Other;
            let why = Why::clipped(&why);
            return Greeting::Refused { ground, why };
        }
        if let Err(stranger) = self.check(node, hello, before).await {
            // A node speaks to itself where it is asked to look whether it is at an address.
            if Some(hello.start()) != self.identity.start() {
                tracing::error!(node, %stranger, "a node was not let into the cluster");
            }
            let (ground, why) = Self::ground_of(&stranger);
            return Greeting::Refused { ground, why };
        }
        let start = hello.start();
        // Whoever greets again in another start has to connect again.
        if *greeted.get_or_init(|| start) != start {
            link.link()
                .close(code::PROTOCOL, "one start, one connection");
        }
        self.identity.greet(node, start, link);
        if let Some(neighbour) = self.known_neighbour(node) {
            neighbour.is_there();
        }
        Greeting::Welcome(self.hello())
    }

    async fn raft(&self, call: RaftCall) -> RaftAnswer {
        match self.group(call.shard) {
            Some(group) => match group.contradicted(&call.rpc) {
                Some(why) => {
                    let refused = RaftAnswer::Refused(Why::clipped(&why));
                    self.doubt(why);
                    refused
                }
                None => group.called(call.rpc).await,
            },
            None => RaftAnswer::Refused(Why::clipped("the shard is not started here")),
        }
    }

    /// Does what another node asks about the cluster.
    async fn do_control(&self, control: Control, from: u64) -> ControlAnswer {
        let group = |shard| {
            let not_started =
                || ControlAnswer::Refused(Why::clipped("the shard is not started here"));
            self.group(shard).ok_or_else(not_started)
        };
        let done = match control {
            Control::Take { shard } => group(shard).map(Group::take_over),
            Control::Give { shard } => match group(shard) {
                Ok(group) => Ok(group.give_up(from).await),
                Err(refused) => Err(refused),
            },
            Control::Look { shard, wish } => match group(shard) {
                Ok(group) => Ok(self.look(group, &wish).await),
                Err(refused) => Err(refused),
            },
            Control::Carry { shard, wish } => match group(shard) {
                Ok(group) => Ok(self.carry(group, &wish).await),
                Err(refused) => Err(refused),
            },
            Control::View { shard } => group(shard).map(|group| self.view(group)),
            Control::Begin { note } => group(0).map(|group| self.begin_change(group, note)),
            Control::Note { id, wish } => Ok(self.note(id, wish)),
            Control::Noted => Ok(ControlAnswer::Noted(self.notes.open_change())),
            Control::Ping => Ok(ControlAnswer::Done),
            Control::WouldTake { shard } => group(shard).map(Group::would_take_over),
            Control::Reached(rows) => Ok(self.reached(rows.into_vec()).await),
            Control::Clock => {
                let told = self.clock.tell();
                Ok(ControlAnswer::Clock {
                    wall: told.wall,
                    time: told.time,
                    running_ms: told.running_ms,
                })
            }
        };
        done.unwrap_or_else(|refused| refused)
    }

    /// Says goodbye to everybody.
    pub(crate) async fn close(&self) {
        self.endpoint.close().await;
    }
}

/// Answers the groups of another node.
struct RaftCalls(Arc<Mesh>);

impl Serve for RaftCalls {
    type Call = RaftCall;
    type Answer = RaftAnswer;

    async fn begin(&self, call: RaftCall) -> BoxFuture<'static, RaftAnswer> {
        let mesh = Arc::clone(&self.0);
        Box::pin(async move { mesh.raft(call).await })
    }
}

/// The actors of the shards, as another node asks them.
pub(crate) trait Answering: Send + Sync + 'static {
    /// Begins what is asked; what is returned first ends when the next may begin, and then there is what waits for the
    /// answer.
    fn asked(&self, request: ShardRequest) -> BoxFuture<'_, BoxFuture<'static, ShardReply>>;

    /// The latest level that one of the shards has.
    fn level(&self) -> Level;
}

/// Answers the requests that another node passes on.
struct Forwards(Arc<dyn Answering>);

impl Serve for Forwards {
    type Call = ShardRequest;
    type Answer = ShardReply;

    async fn begin(&self, ask: ShardRequest) -> BoxFuture<'static, ShardReply> {
        self.0.asked(ask).await
    }
}
