//! Another node of the cluster: the connection to it is kept up, and everything this node asks it goes over that.

use super::{
    Mesh,
    calls::{Caller, Lost},
    frame::{Control, ControlAnswer, FRAME_BYTES_MAX, Greeting, Hello, Open, RaftAnswer, RaftCall},
};
use crate::quic::ClusterLink;
use anyhow::{Context, bail};
use mimi_actors::{
    ask::{Answered, Ask},
    limits::{GREETING_FRAME_BYTES_MAX, SHARDS},
    wire,
};
use rand::Rng;
use std::{
    sync::{Arc, Weak},
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
/// Votes and heartbeats go before everything else.
const URGENT: i32 = 2;
/// Entries go before requests, which are waiting for them.
const BULK: i32 = 1;

/// Another node.
pub(crate) struct Neighbour {
    node: u64,
    address: String,
    link: watch::Sender<Option<Arc<ClusterLink>>>,
    /// It was heard of: it can be dialled now.
    there: Notify,
    urgent: Caller<RaftCall, RaftAnswer>,
    bulk: Caller<RaftCall, RaftAnswer>,
    forwards: Vec<Caller<Ask, Answered>>,
}

impl Neighbour {
    /// A node that is dialled at `address` from now on.
    pub(super) fn new(node: u64, address: String, mesh: &Weak<Mesh>) -> Arc<Self> {
        let neighbour = Arc::new_cyclic(|over: &Weak<Self>| {
            let raft = wire::encode(&Open::Raft);
            let forward = |shard| {
                let open = wire::encode(&Open::Forward { shard });
                Caller::new(over.clone(), open, 0)
            };
            Self {
                node,
                address,
                link: watch::Sender::new(None),
                there: Notify::new(),
                urgent: Caller::new(over.clone(), raft.clone(), URGENT),
                bulk: Caller::new(over.clone(), raft, BULK),
                forwards: (0..SHARDS).map(forward).collect(),
            }
        });
        tokio::spawn(keep(Arc::downgrade(&neighbour), mesh.clone()));
        neighbour
    }

    /// Where it is dialled.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The connection, while there is one.
    pub(crate) fn link(&self) -> Option<Arc<ClusterLink>> {
        self.link.borrow().clone()
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
    pub(super) fn forwards(&self, shard: u16) -> Option<&Caller<Ask, Answered>> {
        self.forwards.get(usize::from(shard))
    }

    /// Asks for something about the cluster, on a lane of its own.
    ///
    /// # Errors
    /// [`Lost`] when there is no connection, or it is lost, or nothing comes back in time.
    pub(super) async fn control(
        &self,
        control: Control,
        deadline: Duration,
    ) -> Result<ControlAnswer, Lost> {
        let link = self.link().ok_or(Lost)?;
        let asked = async {
            let (mut to, mut from) = link.link().open_lane().await.ok()?;
            to.send(wire::encode(&Open::Control(control))).await.ok()?;
            to.finish().ok()?;
            let answer = from.next(FRAME_BYTES_MAX, None).await.ok()??;
            wire::decode(&answer).ok()
        };
        let answer = tokio::time::timeout(deadline, asked).await;
        answer.ok().flatten().ok_or(Lost)
    }
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
            Ok(link) => {
                told.clear();
                backoff = BACKOFF_MIN;
                tracing::info!(node = is.node, address = %is.address, "node of the cluster connected");
                let link = Arc::new(link);
                is.link.send_replace(Some(Arc::clone(&link)));
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
                    tracing::warn!(node = is.node, address = %is.address, error = %why, "a node of the cluster is not connected");
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

async fn dial(neighbour: &Neighbour, mesh: &Mesh) -> anyhow::Result<ClusterLink> {
    let address = &neighbour.address;
    let mut last = anyhow::anyhow!("the name {address} has no address");
    for resolved in tokio::net::lookup_host(address).await? {
        let before = mesh.acknowledged();
        match mesh.endpoint().connect(resolved, neighbour.node).await {
            Ok(link) => {
                let theirs = greet(&link, mesh.hello()).await?;
                mesh.check(neighbour.node, &theirs, &before)?;
                return Ok(link);
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

async fn greet(link: &ClusterLink, hello: Hello) -> anyhow::Result<Hello> {
    let (mut to, mut from) = link.link().open_lane().await?;
    to.send(wire::encode(&Open::Hello(hello))).await?;
    to.finish()?;
    let greeting = from.next(GREETING_FRAME_BYTES_MAX, Some(FRAME_DEADLINE));
    let greeting = tokio::time::timeout(GREETING_DEADLINE, greeting)
        .await
        .context("no greeting in time")??;
    match wire::decode(&greeting.unwrap_or_default())? {
        Greeting::Welcome(theirs) => Ok(theirs),
        Greeting::Refused(why) => bail!("it refuses this node: {why}"),
    }
}
