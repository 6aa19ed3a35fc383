//! Who has a shard, who leads it, and how both are changed.

use super::{
    group::Group,
    mesh::frame::{ControlAnswer, MemberChange, Why},
    raft::LEASE_MS,
};
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
const CHANGE_DEADLINE: Duration = Duration::from_secs(60);
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

    /// Changes who has this shard. Asked for again, it is done already.
    pub(crate) async fn change_member(&self, change: MemberChange) -> ControlAnswer {
        let changed = async {
            match change {
                MemberChange::Learn { node, address } => {
                    let node_is = BasicNode::new(address.to_string());
                    self.raft.add_learner(node, node_is, true).await
                }
                MemberChange::Vote { voters } => {
                    let voters: BTreeSet<u64> = voters.iter().copied().collect();
                    self.raft.change_membership(voters, true).await
                }
                MemberChange::Forget { node } => {
                    let gone = ChangeMembers::RemoveNodes(BTreeSet::from([node]));
                    self.raft.change_membership(gone, true).await
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
                "it was not done in time: the node cannot be reached, or lags far behind; ask again",
            )),
        }
    }
}
