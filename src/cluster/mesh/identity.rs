//! Who this node says that it is, whom it believes, and what it does when it is not believed itself.
//!
//! Every connection begins with a greeting of both sides; nothing else is taken before. Promises: a node is spoken to
//! only as long as it is who it was (`known`), runs once, signs with the same hub key, and has applied the same entries;
//! all of that is looked at before any call of consensus. A node that nobody lets in, or whose past differs from that of
//! most others, stops: it must not serve what it holds. One that has left takes note of it and is not ready any more.

use super::{
    Acknowledged, Mesh,
    frame::{Control, ControlAnswer, Ground, Hello},
    known::Stranger,
};
use crate::{
    directory::{Claimed, Founding},
    quic::{ClusterLink, code},
};
use mimi_actors::{
    ids::ProviderId,
    membership::{
        Address,
        chain::{Shown, StartId},
    },
    wire::{BText, BVec},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How long a node that is not let in by one waits for another to let it in, before it stops.
const DOUBT_AFTER: Duration = Duration::from_secs(5);
/// How long a process may take to show that it is there.
const PING_DEADLINE: Duration = Duration::from_secs(1);

/// What this node says of itself, beside what its disk says.
pub(crate) struct Own {
    /// The name of the cluster.
    pub(crate) cluster: ProviderId,
    /// Where the others reach it.
    pub(crate) address: Address,
    /// It is configured to wait until it is taken in.
    pub(crate) waits: bool,
}

/// What this node has to think of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing speaks against it.
    #[default]
    Member,
    /// It was let go: nothing is asked of it any more.
    Left,
    /// It must not go on; why, and what to do.
    Doubted(String),
}

/// Who this node is.
pub(super) struct Identity {
    claimed: Mutex<Claimed>,
    own: Own,
    standing: watch::Sender<Standing>,
    doubts: Mutex<Doubts>,
    /// Connections that other nodes made, with the start in which they were let in.
    guests: Mutex<BTreeMap<u64, Vec<Guest>>>,
}

/// A connection that another node made, and the start in which it was let in.
type Guest = (StartId, Weak<ClusterLink>);

/// What others have against this node.
#[derive(Default)]
struct Doubts {
    /// Somebody has let this process in.
    let_in: bool,
    /// When it was first refused for what it is.
    refused: Option<Instant>,
    /// The nodes that have applied something else.
    diverged: BTreeMap<u64, u16>,
}

impl Identity {
    pub(super) fn new(claimed: Claimed, own: Own) -> Self {
        Self {
            claimed: Mutex::new(claimed),
            own,
            standing: watch::Sender::default(),
            doubts: Mutex::default(),
            guests: Mutex::default(),
        }
    }

    fn claimed(&self) -> MutexGuard<'_, Claimed> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The start that this node is in.
    pub(super) fn start(&self) -> Option<StartId> {
        self.claimed().starts().last().copied()
    }

    /// Where the others reach this node, as its configuration says.
    pub(super) fn address(&self) -> &str {
        &self.own.address
    }

    fn doubts(&self) -> MutexGuard<'_, Doubts> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doubt(&self, why: String) {
        self.standing.send_if_modified(|standing| {
            let first = *standing == Standing::Member;
            if first {
                *standing = Standing::Doubted(why);
            }
            first
        });
    }

    /// Remembers a connection of a node that was let in.
    pub(super) fn greet(&self, node: u64, start: StartId, link: &Arc<ClusterLink>) {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let of_node = guests.entry(node).or_default();
        of_node.retain(|(_, link)| link.strong_count() > 0);
        of_node.push((start, Arc::downgrade(link)));
    }

    /// Ends the connections of a node, but for those of the start `but`.
    pub(super) fn part(&self, node: u64, but: Option<StartId>, why: &str) {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of_node) = guests.get_mut(&node) else {
            return;
        };
        of_node.retain(|(start, link)| {
            let stays = but == Some(*start);
            if !stays && let Some(link) = link.upgrade() {
                link.link().close(code::PROTOCOL, why);
            }
            stays
        });
    }
}

impl Mesh {
    /// What this node has to think of itself; changes are told.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.identity.standing.subscribe()
    }

    /// Waits until this node must not go on, and says why and what to do.
    pub(crate) async fn doubted(&self) -> String {
        let mut standing = self.standing();
        let doubted = standing.wait_for(|standing| matches!(standing, Standing::Doubted(_)));
        match doubted.await.map(|standing| standing.clone()) {
            Ok(Standing::Doubted(why)) => why,
            Ok(Standing::Member | Standing::Left) | Err(_) => std::future::pending().await,
        }
    }

    /// Stops this node, for what it holds is not what the others do.
    pub(crate) fn doubt(&self, why: String) {
        self.identity.doubt(why);
    }

    /// Takes note that this node was let go.
    fn has_left(&self) {
        if *self.identity.standing.borrow() == Standing::Left {
            return;
        }
        tracing::error!(
            "this node has left the cluster: nothing is asked of it any more; stop it, its number and its data \
             directory are not used again"
        );
        if let Err(error) = self.identity.claimed().leave() {
            tracing::error!(%error, "it is not written down that this node left");
        }
        self.identity.standing.send_replace(Standing::Left);
    }

    /// Takes note of what its cluster began with.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(crate) fn belong(&self, founding: Founding) -> anyhow::Result<()> {
        let cluster = &self.identity.own.cluster;
        self.identity.claimed().belong(cluster, founding)
    }

    /// Who this node is.
    pub(super) fn hello(&self) -> Hello {
        let reach = (0..self.count()).map(|shard| self.disk.log.span(shard).end);
        let mut applied = Vec::new();
        for shard in 0..self.count() {
            let group = self.group(shard);
            applied.push(group.and_then(|group| group.place()));
        }
        let claimed = self.identity.claimed();
        Hello {
            incarnation: claimed.incarnation(),
            // A directory remembers no more starts than a greeting may name.
            starts: BVec::first_max(claimed.starts().iter().copied()),
            founding: claimed.founding(),
            hub_key: claimed.hub_key(),
            address: self.identity.own.address.clone(),
            waits: self.identity.own.waits,
            left: self.known.left(),
            // A cluster has no more shards than that.
            reach: BVec::first_max(reach),
            applied: BVec::first_max(applied),
        }
    }

    /// Lets a node in that is who it was and has what it had, and remembers it before it is spoken to.
    ///
    /// What it has acknowledged is compared as it was `before` it said how far it is: it may be getting entries over
    /// another connection meanwhile.
    pub(super) async fn check(
        &self,
        node: u64,
        hello: &Hello,
        before: &Acknowledged,
    ) -> Result<(), Stranger> {
        let (shards, theirs) = (usize::from(self.count()), hello.reach.len());
        if theirs != shards {
            return Err(Stranger::OtherShards {
                node,
                theirs,
                shards,
            });
        }
        let ours = {
            let claimed = self.identity.claimed();
            (claimed.founding(), claimed.hub_keys().to_vec())
        };
        let shown = self.known.judge(node, hello, (ours.0, &ours.1))?;
        for (shard, replicated) in before {
            let shard = *shard;
            let acked = replicated.get(&node).copied().unwrap_or_default();
            let acked = acked.max(self.known.reached_by(node, shard));
            let reach = hello.reach_of(shard);
            if reach < acked {
                return Err(Stranger::Shorter {
                    node,
                    shard,
                    reach,
                    acked,
                });
            }
        }
        self.compare(node, hello).await?;
        if shown != Shown::Same && self.runs_already(node, hello.start()).await {
            return Err(Stranger::Twice { node });
        }
        self.known.keep(node, shown)?;
        self.leave_behind(node, hello);
        if let (None, Some(founding)) = (ours.0, hello.founding)
            && let Err(error) = self.belong(founding)
        {
            let why = format!("{error:#}");
            return Err(Stranger::Disk { node, why });
        }
        Ok(())
    }

    /// Ends what an earlier start of a node has open, and takes note of whom it knows to have left.
    fn leave_behind(&self, node: u64, hello: &Hello) {
        let start = hello.start();
        let why = "another process of this node was let in";
        self.identity.part(node, Some(start), why);
        if let Some(neighbour) = self.known_neighbour(node) {
            neighbour.part_unless(start, why);
            neighbour.told(&hello.address);
        }
        for gone in &hello.left {
            if *gone == self.me {
                self.has_left();
            } else if !self.known.has_left(*gone) {
                self.forget(*gone);
            }
        }
    }

    /// Compares what a node has applied with what this one has, as far as both still have it.
    async fn compare(&self, node: u64, hello: &Hello) -> Result<(), Stranger> {
        for (shard, theirs) in (0..self.count()).zip(&hello.applied) {
            let (Some(theirs), Some(group)) = (theirs, self.group(shard)) else {
                continue;
            };
            let ours = group.place_at(theirs.index).await;
            if ours.is_some_and(|ours| ours != *theirs) {
                self.diverged(node, shard);
                let index = theirs.index;
                return Err(Stranger::Diverged { node, shard, index });
            }
        }
        Ok(())
    }

    /// Takes note that a node has applied something else than this one. Whoever differs from most others stops.
    fn diverged(&self, node: u64, shard: u16) {
        let differing: BTreeSet<u64> = {
            let mut doubts = self.identity.doubts();
            doubts.diverged.insert(node, shard);
            doubts.diverged.keys().copied().collect()
        };
        let mut voters = self
            .group(shard)
            .map(|group| group.members().voters)
            .unwrap_or_default();
        voters.remove(&self.me);
        let differ = voters.intersection(&differing).count();
        if !voters.is_empty() && differ * 2 > voters.len() {
            self.identity.doubt(format!(
                "in shard {shard} the nodes {differing:?} have applied other entries than this node: it, or they, ran on \
                 an older copy of the data directory. Nothing was deleted; keep this directory, and put a new node in \
                 this one's place (`mimi-node cluster replace --node {} --with NUMBER`)",
                self.me
            ));
        }
    }

    /// Whether the process of a node that was let in before is still there.
    async fn runs_already(&self, node: u64, start: StartId) -> bool {
        let Some(neighbour) = self.known_neighbour(node) else {
            return false;
        };
        if neighbour.start().is_none_or(|before| before == start) {
            return false;
        }
        let ping = neighbour.control(Control::Ping, PING_DEADLINE).await;
        ping == Ok(ControlAnswer::Done)
    }

    /// Takes note that a node has let this one in.
    pub(super) fn let_in(&self) {
        self.identity.doubts().let_in = true;
    }

    /// Takes note that a node does not speak to this one. If that is for what this node is, and nobody else lets it in,
    /// it stops.
    pub(super) fn refused(&self, node: u64, ground: Ground, why: &str) {
        match ground {
            Ground::Left => self.has_left(),
            Ground::Diverged { shard } => self.diverged(node, shard),
            Ground::NotTheOne => {
                let mut doubts = self.identity.doubts();
                let since = *doubts.refused.get_or_insert_with(Instant::now);
                if !doubts.let_in && since.elapsed() >= DOUBT_AFTER {
                    let why = format!(
                        "node {node} does not let it into the cluster, and nobody else does: {why}"
                    );
                    self.identity.doubt(why);
                }
            }
            Ground::Other => {}
        }
    }

    /// The refusal of a node, in the words of a greeting.
    pub(super) fn ground_of(stranger: &Stranger) -> (Ground, BText<512>) {
        (stranger.ground(), BText::clipped(&stranger.to_string()))
    }
}
