//! Another node of the cluster: the connection to it is kept up, and everything this node asks it goes over that.

use super::{
    Mesh,
    calls::{Caller, Lost},
    frame::{
        Control, ControlAnswer, FRAME_BYTES_MAX, Greeting, Ground, Hello, Open, RaftAnswer,
        RaftCall, Why,
    },
};
use crate::quic::{ClusterLink, code};
use anyhow::{Context, bail};
use mimi_actors::{
    limits::GREETING_FRAME_BYTES_MAX,
    membership::chain::StartId,
    shard_request::{ShardReply, ShardRequest},
    wire,
};
use rand::Rng;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::sync::{Notify, watch};

/// Shortest wait before a node is dialled again.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest wait before a node is dialled again: short, for elections wait for it.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// For how long an attempt to dial is not given up for a new one.
const FRESH: Duration = Duration::from_secs(1);
/// How long a node may take to greet.
const GREETING_DEADLINE: Duration = Duration::from_secs(5);
/// How long the rest of a frame may take.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// Addresses of one node that are dialled, at most.
const ADDRESSES_MAX: usize = 4;
/// Votes and heartbeats go before everything else.
const URGENT: i32 = 2;
/// Entries go before requests, which are waiting for them.
const BULK: i32 = 1;

/// Another node.
pub(crate) struct Neighbour {
    node: u64,
    /// Where it is said to be, the last word first.
    addresses: Mutex<Vec<String>>,
    link: watch::Sender<Option<Up>>,
    /// It was heard of: it can be dialled now.
    there: Notify,
    urgent: Caller<RaftCall, RaftAnswer>,
    bulk: Caller<RaftCall, RaftAnswer>,
    forwards: Vec<Caller<ShardRequest, ShardReply>>,
}

/// A connection that is up.
#[derive(Clone)]
struct Up {
    link: Arc<ClusterLink>,
    /// Where the node was reached.
    address: String,
    /// The start in which it was let in.
    start: StartId,
    /// Shards of which it had a log when it was let in.
    begun: Vec<u16>,
}

impl Neighbour {
    /// A node that is dialled from now on, once it is told where.
    pub(super) fn new(node: u64, shards: u16, mesh: &Weak<Mesh>) -> Arc<Self> {
        let neighbour = Arc::new_cyclic(|over: &Weak<Self>| {
            let forward = |shard| Caller::new(over.clone(), Open::Forward { shard }, 0);
            Self {
                node,
                addresses: Mutex::default(),
                link: watch::Sender::new(None),
                there: Notify::new(),
                urgent: Caller::new(over.clone(), Open::Raft, URGENT),
                bulk: Caller::new(over.clone(), Open::Raft, BULK),
                forwards: (0..shards).map(forward).collect(),
            }
        });
        tokio::spawn(keep(Arc::downgrade(&neighbour), mesh.clone()));
        neighbour
    }

    fn addresses(&self) -> MutexGuard<'_, Vec<String>> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of where the node is said to be. Nobody is believed before the node answered there: all addresses are
    /// dialled, the oldest word is forgotten when there are too many.
    pub(super) fn told(&self, address: &str) {
        if address.is_empty() {
            return;
        }
        let mut addresses = self.addresses();
        if !addresses.iter().any(|known| known == address) {
            addresses.insert(0, address.to_owned());
            addresses.truncate(ADDRESSES_MAX);
            drop(addresses);
            self.there.notify_one();
        }
    }

    /// Where it was reached, or is said to be.
    pub(crate) fn address(&self) -> String {
        if let Some(up) = &*self.link.borrow() {
            return up.address.clone();
        }
        self.addresses().first().cloned().unwrap_or_default()
    }

    /// Where it was reached, while there is a connection.
    pub(crate) fn reached_at(&self) -> Option<String> {
        self.link.borrow().as_ref().map(|up| up.address.clone())
    }

    /// The connection, while there is one.
    pub(crate) fn link(&self) -> Option<Arc<ClusterLink>> {
        self.link.borrow().as_ref().map(|up| Arc::clone(&up.link))
    }

    /// The start in which the node at the other end of the connection was let in.
    pub(super) fn start(&self) -> Option<StartId> {
        self.link.borrow().as_ref().map(|up| up.start)
    }

    /// Whether it had a log of a shard when it was let in.
    pub(super) fn has_begun(&self, shard: u16) -> bool {
        let up = self.link.borrow();
        up.as_ref().is_some_and(|up| up.begun.contains(&shard))
    }

    /// Ends the connection, unless it is to the start `but`.
    pub(super) fn part_unless(&self, but: StartId, why: &str) {
        if let Some(up) = &*self.link.borrow()
            && up.start != but
        {
            up.link.link().close(code::PROTOCOL, why);
        }
    }

    /// Takes note that the node was heard of. Whoever still waits for an answer from before it was started dials anew:
    /// its vote may be waited for.
    pub(super) fn is_there(&self) {
        if self.link.borrow().is_none() {
            self.there.notify_one();
        }
    }

    /// The lane for calls that others wait for: votes, heartbeats.
    pub(crate) fn urgent(&self) -> &Caller<RaftCall, RaftAnswer> {
        &self.urgent
    }

    /// The lane for calls that carry entries.
    pub(crate) fn bulk(&self) -> &Caller<RaftCall, RaftAnswer> {
        &self.bulk
    }

    /// The lane for requests to the actors of a shard.
    pub(super) fn forwards(&self, shard: u16) -> Option<&Caller<ShardRequest, ShardReply>> {
        self.forwards.get(usize::from(shard))
    }

    /// Asks for something about the cluster, on a lane of its own.
    ///
    /// # Errors
    /// [`Lost`] when there is no connection, or it is lost, or nothing comes back in time.
    pub(crate) async fn control(
        &self,
        control: Control,
        deadline: Duration,
    ) -> Result<ControlAnswer, Lost> {
        let link = self.link().ok_or(Lost)?;
        ask(&link, control, deadline).await
    }
}

/// Asks a node that was greeted for something about the cluster, on a lane of its own.
///
/// # Errors
/// [`Lost`] when the connection is lost, or nothing comes back in time.
pub(super) async fn ask(
    link: &ClusterLink,
    control: Control,
    deadline: Duration,
) -> Result<ControlAnswer, Lost> {
    let asked = async {
        let (mut to, mut from) = link.link().open_lane().await.ok()?;
        to.write(&Open::Control(control)).await.ok()?;
        to.finish().ok()?;
        let answer = from.next(FRAME_BYTES_MAX, None).await.ok()??;
        wire::decode(&answer).ok()
    };
    let answer = tokio::time::timeout(deadline, asked).await;
    answer.ok().flatten().ok_or(Lost)
}

/// Dials a node again and again, for as long as somebody holds it.
async fn keep(neighbour: Weak<Neighbour>, mesh: Weak<Mesh>) {
    let mut backoff = BACKOFF_MIN;
    let mut told = String::new();
    loop {
        let (Some(is), Some(mesh)) = (neighbour.upgrade(), mesh.upgrade()) else {
            return;
        };
        // Two nodes that dial each other must not break off each other's fresh attempts for ever.
        let heard_of = async {
            tokio::time::sleep(FRESH).await;
            is.there.notified().await;
        };
        let dialled = tokio::select! {
            dialled = dial(&is, &mesh) => dialled,
            () = heard_of => continue,
        };
        match dialled {
            Ok(up) => {
                told.clear();
                backoff = BACKOFF_MIN;
                tracing::info!(node = is.node, address = %up.address, "node of the cluster connected");
                let link = Arc::clone(&up.link);
                is.link.send_replace(Some(up));
                let shown = is.link.clone();
                drop((is, mesh));
                link.link().closed().await;
                shown.send_replace(None);
                tracing::info!(node = link.node(), "node of the cluster disconnected");
            }
            Err(error) => {
                // The same refusal again and again is told once.
                let why = format!("{error:#}");
                if why != told {
                    tracing::warn!(node = is.node, address = %is.address(), error = %why, "a node of the cluster is not connected");
                    told = why;
                }
                drop((is, mesh));
            }
        }
        let jitter = rand::rng().random_range(0.5..1.5);
        let Some(is) = neighbour.upgrade() else {
            return;
        };
        // Heard of meanwhile, it is dialled at once.
        let waited = tokio::time::timeout(backoff.mul_f64(jitter), is.there.notified());
        drop(waited.await);
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Dials a node wherever it is said to be, everywhere at once; the first place where it proves to be that node is taken.
async fn dial(neighbour: &Neighbour, mesh: &Mesh) -> anyhow::Result<Up> {
    let addresses = neighbour.addresses().clone();
    let attempts = addresses
        .into_iter()
        .map(|address| Box::pin(dial_at(neighbour, mesh, address)));
    let attempts: Vec<_> = attempts.collect();
    if attempts.is_empty() {
        bail!("nobody has said where it is: list it in cluster.nodes");
    }
    let (up, _) = futures::future::select_ok(attempts).await?;
    Ok(up)
}

async fn dial_at(neighbour: &Neighbour, mesh: &Mesh, address: String) -> anyhow::Result<Up> {
    let mut last = anyhow::anyhow!("the name {address} has no address");
    let resolved: Vec<_> = tokio::net::lookup_host(&address).await?.collect();
    for resolved in resolved {
        let before = mesh.acknowledged();
        match mesh.endpoint().connect(resolved, neighbour.node).await {
            Ok(link) => {
                let theirs = match greet(&link, mesh.hello()).await? {
                    Ok(theirs) => theirs,
                    Err((ground, why)) => {
                        mesh.refused(neighbour.node, ground, &why);
                        bail!("it refuses this node: {why}");
                    }
                };
                if let Some(why) = mesh.is_too_early(&link) {
                    bail!(why);
                }
                mesh.let_in();
                mesh.check(neighbour.node, &theirs, &before).await?;
                let begun = (0..mesh.count()).filter(|shard| theirs.reach_of(*shard) > 0);
                return Ok(Up {
                    link: Arc::new(link),
                    address,
                    start: theirs.start(),
                    begun: begun.collect(),
                });
            }
            Err(error) => last = anyhow::Error::from(error).context(format!("at {address}")),
        }
    }
    Err(last)
}

/// Greets a node; the inner error is its refusal.
pub(super) async fn greet(
    link: &ClusterLink,
    hello: Hello,
) -> anyhow::Result<Result<Hello, (Ground, Why)>> {
    let (mut to, mut from) = link.link().open_lane().await?;
    to.write(&Open::Hello(hello)).await?;
    to.finish()?;
    let greeting = from.next(GREETING_FRAME_BYTES_MAX, Some(FRAME_DEADLINE));
    let greeting = tokio::time::timeout(GREETING_DEADLINE, greeting)
        .await
        .context("no greeting in time")??;
    Ok(match wire::decode(&greeting.unwrap_or_default())? {
        Greeting::Welcome(theirs) => Ok(theirs),
        Greeting::Refused { ground, why } => Err((ground, why)),
    })
}
