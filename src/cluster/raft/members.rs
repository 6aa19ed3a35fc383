//! Who has a shard, and how that is changed.

use super::group::Group;
use crate::cluster::{
    log::types::LogId,
    mesh::frame::{ControlAnswer, Place, Why},
};
use mimi_actors::membership::{Order, View};
use openraft::{
    BasicNode, ChangeMembers,
    error::{ChangeMembershipError, ClientWriteError, Fatal, RaftError},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How long a change of a shard's members may take.
const CHANGE_DEADLINE: Duration = Duration::from_secs(20);

/// Why the members of a shard were not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotChanged {
    /// Somebody else changes them at this moment.
    Again,
    /// The answer to whoever asked.
    Answer(ControlAnswer),
}

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
        let configs = membership.get_joint_config();
        let (voters, before) = match configs.as_slice() {
            [before, voters] => (voters.clone(), before.clone()),
            _ => (members.voters, BTreeSet::new()),
        };
        Some(View {
            shard: self.shard(),
            leader: self.node,
            changing: !settled,
            lag_entries: replication
                .filter(|(node, _)| **node != self.node && hears(**node))
                .map(lag)
                .collect(),
            voters,
            before,
            learners: members.learners,
            addresses: members.addresses,
            newcomer: None,
        })
    }

    /// Changes who has this shard.
    ///
    /// # Errors
    /// [`NotChanged`] says whether it should be tried again.
    pub(crate) async fn order(&self, order: Order) -> Result<(), NotChanged> {
        let change = match order {
            // Two nodes do that together: see [`crate::cluster::mesh::Mesh::hand_over`].
            Order::HandOver { .. } => return Err(NotChanged::Again),
            Order::Learn { node, address } => {
                ChangeMembers::AddNodes(BTreeMap::from([(node, BasicNode::new(&*address))]))
            }
            Order::Vote { voters } => ChangeMembers::ReplaceAllVoters(voters),
            Order::Forget { node } => ChangeMembers::RemoveNodes(BTreeSet::from([node])),
            Order::Readdress { node, address } => {
                ChangeMembers::SetNodes(BTreeMap::from([(node, BasicNode::new(&*address))]))
            }
        };
        self.change(change).await
    }

    async fn change(&self, change: ChangeMembers<u64, BasicNode>) -> Result<(), NotChanged> {
        // Whoever does not vote any more goes on learning until it is forgotten.
        let changed = self.raft.change_membership(change, true);
        let answer = match tokio::time::timeout(CHANGE_DEADLINE, changed).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => {
                ControlAnswer::NotLed(to.leader_id)
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            )))) => return Err(NotChanged::Again),
            Ok(Err(error)) => ControlAnswer::Refused(Why::clipped(&error.to_string())),
            Err(_) => ControlAnswer::Refused(Why::clipped(
                "it was not done in time: see `mimi-node cluster status`, and ask again",
            )),
        };
        Err(NotChanged::Answer(answer))
    }

    /// Takes nodes in that do not vote, all in one change.
    ///
    /// # Errors
    /// [`NotChanged`] when it was not done.
    pub(crate) async fn add_learners(
        &self,
        nodes: BTreeMap<u64, String>,
    ) -> Result<(), NotChanged> {
        let nodes = nodes
            .into_iter()
            .map(|(node, address)| (node, BasicNode::new(address)));
        self.change(ChangeMembers::AddNodes(nodes.collect())).await
    }

    /// Whether this node ran alone in this shard: then it has no address. Asked of the group itself, for its figures may
    /// not be there yet.
    ///
    /// # Errors
    /// When the group has stopped.
    pub(crate) async fn ran_alone(&self) -> Result<bool, Fatal<u64>> {
        let me = self.node;
        let alone = move |state: &openraft::RaftState<u64, BasicNode, _>| {
            let effective = state.membership_state.effective();
            let mut nodes = effective.membership().nodes();
            nodes.any(|(node, is)| *node == me && is.addr.is_empty())
        };
        self.raft.with_raft_state(alone).await
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
