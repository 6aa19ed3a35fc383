//! Who has a shard, who leads it, and how both are changed.

use super::{
    group::{Group, lead_in},
    lead::Lead,
    mesh::frame::{ControlAnswer, Place, Why},
    raft::{LEASE_MS, LogId},
};
use mimi_actors::membership::{Order, View};
use openraft::{
    BasicNode, ChangeMembers, ServerState,
    error::{ClientWriteError, RaftError},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    time::Duration,
};

/// For how long a leader is silent that gives up, in milliseconds: the lease, and time for an election.
const SILENT_MS: u64 = LEASE_MS + 1_500;
/// How often a node stands for the place of a leader that went silent, at most, a look apart.
const ELECTIONS_MAX: usize = 6;
/// Entries that a node may be behind and still take over, at most.
const BEHIND_MAX: u64 = 64;
/// How long a change of a shard's members may take.
const CHANGE_DEADLINE: Duration = Duration::from_secs(20);
/// How long a node waits between two elections that it stands for.
const ELECTION_INTERVAL: Duration = Duration::from_millis(250);

/// Who has a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    /// Who votes.
    pub(crate) voters: BTreeSet<u64>,
    /// Who gets everything and does not vote.
    pub(crate) learners: BTreeSet<u64>,
    /// Where each is.
    pub(crate) addresses: BTreeMap<u64, String>,
}

impl Group {
    /// Who votes, who only learns, and where each node is.
    pub(crate) fn members(&self) -> Members {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        Members {
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            addresses: membership
                .nodes()
                .map(|(node, is)| (*node, is.addr.clone()))
                .collect(),
        }
    }

    /// Stands for election as soon as the lease of the leader, which has gone silent, is over.
    pub(crate) fn take_over(&self) -> ControlAnswer {
        if self.is_disk_full() {
            return ControlAnswer::Refused(Why::clipped("the disk of this node is full"));
        }
        let group = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(LEASE_MS)).await;
            for _ in 0..ELECTIONS_MAX {
                let state = group.raft.metrics().borrow().state;
                if state == ServerState::Leader || group.raft.trigger().elect().await.is_err() {
                    return;
                }
                tokio::time::sleep(ELECTION_INTERVAL).await;
            }
        });
        ControlAnswer::Done
    }

    /// Goes silent, so that `to` can take over: openraft 0.9 cannot hand leadership over. Nothing is accepted
    /// meanwhile.
    pub(crate) fn give_up(&self, to: u64) -> ControlAnswer {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        if metrics.state != ServerState::Leader {
            return ControlAnswer::NotLed(metrics.current_leader);
        }
        let is_voter = metrics
            .membership_config
            .membership()
            .voter_ids()
            .any(|voter| voter == to);
        let last = metrics.last_log_index.unwrap_or_default();
        let level = self
            .replicated()
            .get(&to)
            .is_some_and(|next| next.saturating_add(BEHIND_MAX) > last);
        if !is_voter || !level {
            let why = format!("node {to} does not vote here, or is behind");
            return ControlAnswer::Refused(Why::clipped(&why));
        }
        if self.silent.swap(true, Ordering::AcqRel) {
            return ControlAnswer::Refused(Why::clipped("it is being given up already"));
        }
        self.raft.runtime_config().heartbeat(false);
        let group = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(SILENT_MS)).await;
            group.raft.runtime_config().heartbeat(true);
            group.silent.store(false, Ordering::Release);
        });
        ControlAnswer::Done
    }

    /// The voter that is furthest, beside this node, where this node leads.
    pub(crate) fn successor(&self) -> Option<u64> {
        self.successors().into_iter().next()
    }

    /// The other voters, the furthest first, where this node leads.
    pub(crate) fn successors(&self) -> Vec<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let voters: BTreeSet<u64> = metrics.membership_config.membership().voter_ids().collect();
        let mut others: Vec<_> = metrics
            .replication
            .iter()
            .flatten()
            .filter(|(node, _)| **node != self.node && voters.contains(node))
            .collect();
        others.sort_by(|(_, a), (_, b)| b.cmp(a));
        others.into_iter().map(|(node, _)| *node).collect()
    }

    /// Whether this node leads, and a majority has heard of it lately.
    pub(crate) fn leads(&self) -> bool {
        let silent = self.silent.load(Ordering::Acquire);
        lead_in(&self.raft.metrics().borrow(), self.node, silent) == Lead::Here
    }

    /// The members as this node sees them, where it leads; `hears` says whether a connection to a node is up.
    pub(crate) fn view(&self, hears: impl Fn(u64) -> bool) -> Option<View> {
        if !self.leads() {
            return None;
        }
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let stored = &metrics.membership_config;
        let membership = stored.membership();
        let last = metrics.last_log_index.unwrap_or_default();
        // Where it is not applied yet, it may still be undone.
        let settled = stored.log_id().is_none_or(|at| {
            metrics
                .last_applied
                .is_some_and(|applied| applied.index >= at.index)
        });
        let replication = metrics.replication.iter().flatten();
        let lag = |(node, matched): (&u64, &Option<LogId>)| {
            let matched = matched.map_or(0, |matched| matched.index);
            (*node, last.saturating_sub(matched))
        };
        let members = self.members();
        Some(View {
            shard: self.shard(),
            leader: self.node,
            changing: !settled || membership.get_joint_config().len() > 1,
            lag_entries: replication
                .filter(|(node, _)| **node != self.node && hears(**node))
                .map(lag)
                .collect(),
            voters: members.voters,
            learners: members.learners,
            addresses: members.addresses,
            newcomer: None,
        })
    }

    /// Changes who has this shard.
    pub(crate) async fn order(&self, order: Order) -> ControlAnswer {
        let changed = async {
            match order {
                Order::Learn { node, address } => {
                    let node_is = BasicNode::new(address.to_string());
                    self.raft.add_learner(node, node_is, false).await
                }
                Order::Vote { voters } => self.raft.change_membership(voters, true).await,
                Order::Forget { node } => {
                    let gone = ChangeMembers::RemoveNodes(BTreeSet::from([node]));
                    self.raft.change_membership(gone, true).await
                }
                Order::Readdress { node, address } => {
                    let moved = BTreeMap::from([(node, BasicNode::new(address.to_string()))]);
                    let moved = ChangeMembers::SetNodes(moved);
                    self.raft.change_membership(moved, true).await
                }
            }
        };
        match tokio::time::timeout(CHANGE_DEADLINE, changed).await {
            Ok(Ok(_)) => ControlAnswer::Done,
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => {
                ControlAnswer::NotLed(to.leader_id)
            }
            Ok(Err(error)) => ControlAnswer::Refused(Why::clipped(&error.to_string())),
            Err(_) => ControlAnswer::Refused(Why::clipped(
                "it was not done in time: see `mimi-node cluster status`, and ask again",
            )),
        }
    }

    /// Takes note of where members are: as many as are named, in one change, none of whom is a member yet or all of
    /// whom are.
    pub(crate) async fn add_learners(&self, nodes: BTreeMap<u64, String>) -> ControlAnswer {
        let nodes = nodes
            .into_iter()
            .map(|(node, address)| (node, BasicNode::new(address)));
        let added = self
            .raft
            .change_membership(ChangeMembers::AddNodes(nodes.collect()), true);
        match tokio::time::timeout(CHANGE_DEADLINE, added).await {
            Ok(Ok(_)) => ControlAnswer::Done,
            Ok(Err(error)) => ControlAnswer::Refused(Why::clipped(&error.to_string())),
            Err(_) => ControlAnswer::Refused(Why::clipped("it was not done in time")),
        }
    }

    /// Whether the members are those that the shard began with.
    pub(crate) fn is_as_founded(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let at = metrics.membership_config.log_id();
        at.is_some_and(|at| at.index == 0)
    }

    /// The last entry that this node applied.
    pub(crate) fn place(&self) -> Option<Place> {
        self.raft.metrics().borrow().last_applied.map(Place::from)
    }

    /// The entry at `index` as far as this node has applied it, and still has it.
    pub(crate) async fn place_at(&self, index: u64) -> Option<Place> {
        let applied = self.raft.metrics().borrow().last_applied?;
        if applied.index == index {
            return Some(applied.into());
        }
        if index > applied.index {
            return None;
        }
        // One that does not read is found by the scrub; nothing is concluded from it here.
        let read = self.tail.read(index..index.saturating_add(1)).await;
        let entry = read.ok()?.into_iter().next()?;
        (entry.log_id.index == index).then(|| entry.log_id.into())
    }
}
