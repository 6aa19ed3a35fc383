//! The nodes of one cluster and the connections between them: votes, entries, snapshots, requests that another node's
//! leader must answer.
//!
//! Each node dials each other one; who dials asks. Promises: only nodes of this cluster are spoken to, and only as long
//! as they are who they were (`known`); votes and heartbeats never wait behind entries; what waits for one node goes
//! together. A node that cannot be reached costs its own queues. Not here: what openraft does with an answer (`network`).

pub(crate) mod calls;
pub(crate) mod frame;
mod known;
pub(crate) mod neighbour;
#[cfg(test)]
mod tests;
mod transfer;

use super::{clock::NodeClock, group::Group, shards::Shards};
use crate::{
    directory::{self, Claimed},
    peering::code,
    quic::{ClusterEndpoint, ClusterLink, LaneReceiver, LaneSender},
    store::Disk,
};
use anyhow::Context;
use calls::{Lost, Serve};
use frame::{Control, ControlAnswer, Greeting, Hello, Open, RaftAnswer, RaftCall, Why};
use futures::future::BoxFuture;
use known::{Known, Stranger};
use mimi_actors::{
    ask::{Answered, Ask},
    clock::APART_MS_MAX,
    limits::{GREETING_FRAME_BYTES_MAX, SHARDS},
    wire::{self, BVec},
};
use neighbour::Neighbour;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;

pub(crate) use transfer::send as send_snapshot;

/// How long a lane may take to say what it is for.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// How long the rest of a frame may take.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);

/// For each shard led here how far each node had acknowledged it at one moment: one more than the last entry.
type Acknowledged = Vec<(u16, BTreeMap<u64, u64>)>;

/// The cluster, as this node sees it.
pub(crate) struct Mesh {
    me: u64,
    endpoint: ClusterEndpoint,
    claimed: Claimed,
    session: [u8; 16],
    known: Known,
    clock: Arc<NodeClock>,
    disk: Disk,
    neighbours: Mutex<BTreeMap<u64, Arc<Neighbour>>>,
    groups: OnceLock<Vec<Group>>,
    shards: OnceLock<Shards>,
    myself: Weak<Self>,
}

impl Mesh {
    /// The cluster behind `endpoint`; nobody is dialled yet.
    ///
    /// # Errors
    /// When what is remembered of the others does not read.
    pub(crate) fn new(
        me: u64,
        endpoint: ClusterEndpoint,
        claimed: Claimed,
        data_dir: &Path,
        disk: Disk,
        clock: Arc<NodeClock>,
    ) -> anyhow::Result<Arc<Self>> {
        let known = Known::open(data_dir, me, claimed.founding())?;
        Ok(Arc::new_cyclic(|myself| Self {
            me,
            endpoint,
            claimed,
            session: directory::random(),
            known,
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

    /// By how much the clock of another node is ahead of the cluster's time, in milliseconds, where that is too much for a
    /// node to be taken in: `None` where it is not, or is not known yet.
    pub(crate) fn clock_apart(&self, node: u64) -> Option<i64> {
        let ahead_ms = self.clock.ahead_ms(node)?;
        (ahead_ms.unsigned_abs() > APART_MS_MAX).then_some(ahead_ms)
    }

    /// What this node keeps.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
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
    pub(crate) fn open(&self, shards: Shards) {
        // Done once, when the node has started.
        drop(self.shards.set(shards));
    }

    /// The group of a shard, once this node has started.
    pub(crate) fn group(&self, shard: u16) -> Option<&Group> {
        self.groups.get()?.get(usize::from(shard))
    }

    /// A node and the connection to it, which is kept up from the first time that somebody asks. A node that moved is
    /// dialled at its new address.
    pub(crate) fn neighbour(&self, node: u64, address: &str) -> Arc<Neighbour> {
        let mut neighbours = self
            .neighbours
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match neighbours.get(&node) {
            Some(known) if known.address() == address => Arc::clone(known),
            Some(_) | None => {
                let new = Neighbour::new(node, address.to_owned(), &self.myself);
                neighbours.insert(node, Arc::clone(&new));
                new
            }
        }
    }

    /// Lets go of a node for good: it is not spoken to any more.
    pub(crate) fn forget(&self, node: u64) {
        if let Err(error) = self.known.leave(node) {
            tracing::error!(node, %error, "it is not written down that the node left; it is tried again");
            return;
        }
        let mut neighbours = self
            .neighbours
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        neighbours.remove(&node);
    }

    /// The other nodes that are known, and whether a connection to each is up.
    pub(crate) fn others(&self) -> Vec<(u64, String, bool)> {
        let neighbours = self
            .neighbours
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let row = |(node, is): (&u64, &Arc<Neighbour>)| {
            (*node, is.address().to_owned(), is.link().is_some())
        };
        neighbours.iter().map(row).collect()
    }

    fn known_neighbour(&self, node: u64) -> Option<Arc<Neighbour>> {
        let neighbours = self
            .neighbours
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        neighbours.get(&node).cloned()
    }

    /// Passes a request on to the node that leads a shard; requests to one shard keep their order.
    ///
    /// # Errors
    /// [`Lost`] when too many wait, or the node is not known.
    pub(crate) fn forward(
        &self,
        node: u64,
        shard: u16,
        ask: Ask,
    ) -> Result<oneshot::Receiver<Answered>, Lost> {
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

    /// Who this node is.
    fn hello(&self) -> Hello {
        let reach = (0..SHARDS).map(|shard| self.disk.log.span(shard).end);
        Hello {
            incarnation: self.claimed.incarnation(),
            starts: self.claimed.starts(),
            session: self.session,
            founding: self.claimed.founding(),
            reach: BVec::truncated(reach.collect()),
        }
    }

    /// How far the other nodes have come.
    fn acknowledged(&self) -> Acknowledged {
        let groups = (0..SHARDS).filter_map(|shard| Some((shard, self.group(shard)?)));
        groups
            .map(|(shard, group)| (shard, group.replicated()))
            .collect()
    }

    /// Lets a node in that is who it was and has what it had.
    ///
    /// What it has acknowledged is compared as it was `before` it said how far it is: it may be getting entries over
    /// another connection meanwhile.
    fn check(&self, node: u64, hello: &Hello, before: &Acknowledged) -> Result<(), Stranger> {
        self.known.check(node, hello)?;
        for (shard, replicated) in before {
            let (shard, acked) = (*shard, replicated.get(&node).copied());
            let reach = hello.reach.get(usize::from(shard)).copied();
            let reach = reach.unwrap_or_default();
            if let Some(acked) = acked.filter(|acked| reach < *acked) {
                return Err(Stranger::Shorter {
                    node,
                    shard,
                    reach,
                    acked,
                });
            }
        }
        Ok(())
    }

    /// Takes the connections of the other nodes, until the endpoint is closed.
    pub(crate) async fn serve(self: Arc<Self>) {
        while let Some(incoming) = self.endpoint.accept().await {
            let mesh = Arc::clone(&self);
            // The other side greets when the handshake is done.
            let before = Arc::new(self.acknowledged());
            tokio::spawn(async move {
                match incoming.establish().await {
                    Ok(link) => mesh.serve_link(Arc::new(link), before).await,
                    Err(error) => tracing::warn!(%error, "somebody was not let into the cluster"),
                }
            });
        }
    }

    async fn serve_link(self: Arc<Self>, link: Arc<ClusterLink>, before: Arc<Acknowledged>) {
        let greeted = Arc::new(AtomicBool::new(false));
        while let Ok(lane) = link.link().accept_lane().await {
            if greeted.load(Ordering::Acquire) && self.known.has_left(link.node()) {
                link.link()
                    .close(code::PROTOCOL, "this node has left the cluster");
                return;
            }
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
        link: &ClusterLink,
        greeted: &AtomicBool,
        before: &Acknowledged,
        (mut to, mut from): (LaneSender, LaneReceiver),
    ) -> anyhow::Result<()> {
        // Whoever has not greeted gets a small frame only.
        let frame_max = if greeted.load(Ordering::Acquire) {
            frame::FRAME_BYTES_MAX
        } else {
            GREETING_FRAME_BYTES_MAX
        };
        let opening = from.next(frame_max, Some(FRAME_DEADLINE));
        let opening = tokio::time::timeout(OPEN_DEADLINE, opening)
            .await
            .context("the lane does not say what it is for")??;
        let Some(frame) = opening else { return Ok(()) };
        let open = wire::decode::<Open>(&frame).inspect_err(|_| {
            to.reset(code::BAD_FRAME);
        })?;
        match open {
            Open::Hello(hello) => {
                let checked = self.check(link.node(), &hello, before);
                let greeting = match &checked {
                    Ok(()) => Greeting::Welcome(self.hello()),
                    Err(stranger) => Greeting::Refused(Why::clipped(&stranger.to_string())),
                };
                greeted.store(checked.is_ok(), Ordering::Release);
                if checked.is_ok()
                    && let Some(neighbour) = self.known_neighbour(link.node())
                {
                    neighbour.is_there();
                }
                to.send(wire::encode(&greeting)).await?;
                to.finish()?;
                if let Err(stranger) = checked {
                    tracing::error!(node = link.node(), %stranger, "a node was not let into the cluster");
                }
                Ok(())
            }
            _ if !greeted.load(Ordering::Acquire) => {
                link.link().close(code::PROTOCOL, "greet first");
                anyhow::bail!("it has not greeted");
            }
            Open::Raft => calls::serve(to, from, RaftCalls(Arc::clone(self))).await,
            Open::Forward { .. } => {
                let shards = self.shards.get().context("this node is starting")?;
                calls::serve(to, from, Forwards(shards.clone())).await
            }
            Open::Control(control) => {
                let answer = self.do_control(control, link.node()).await;
                to.send(wire::encode(&answer)).await?;
                Ok(to.finish()?)
            }
            Open::Snapshot(offer) => transfer::receive(self, offer, to, from).await,
        }
    }

    async fn raft(&self, call: RaftCall) -> RaftAnswer {
        match self.group(call.shard) {
            Some(group) => group.called(call.rpc).await,
            None => RaftAnswer::Refused(Why::clipped("the shard is not started here")),
        }
    }

    /// Does what another node asks about the cluster.
    async fn do_control(&self, control: Control, from: u64) -> ControlAnswer {
        let led = |shard: u16| {
            let why = Why::clipped("the shard is not started here");
            self.group(shard).ok_or(ControlAnswer::Refused(why))
        };
        match control {
            Control::Take { shard } => led(shard).map_or_else(|why| why, Group::take_over),
            Control::Give { shard } => match led(shard) {
                Ok(group) => group.give_up(from).await,
                Err(why) => why,
            },
            Control::Member { shard, change } => match led(shard) {
                Ok(group) => group.change_member(change).await,
                Err(why) => why,
            },
            Control::Clock => {
                let told = self.clock.tell();
                ControlAnswer::Clock {
                    wall: told.wall,
                    time: told.time,
                    running_ms: told.running_ms,
                }
            }
        }
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

/// Answers the requests that another node passes on.
struct Forwards(Shards);

impl Serve for Forwards {
    type Call = Ask;
    type Answer = Answered;

    async fn begin(&self, ask: Ask) -> BoxFuture<'static, Answered> {
        Box::pin(self.0.asked(ask).await)
    }
}
