//! Who has a shard, who leads it, and how both are changed.

use super::{
    group::Group,
    lead::Lead,
    lead::lead_in,
    mesh::{
        frame::{ControlAnswer, Place, RaftAnswer, RaftCall, Rpc, Why},
        neighbour::Neighbour,
    },
    raft::{LogId, Vote},
};
use futures::stream::{FuturesUnordered, StreamExt};
use mimi_actors::{
    election::{ASK_AGAIN_MS, CUT_OFF_MS, Election, LEASE_MS, is_majority},
    membership::{Order, View},
};
use openraft::{
    BasicNode, ChangeMembers, CommittedLeaderId, RaftMetrics, ServerState,
    error::{ChangeMembershipError, ClientWriteError, Fatal, RaftError},
    raft::{VoteRequest, VoteResponse},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Entries that a node may be behind and still take over, at most.
const BEHIND_MAX: u64 = 64;
/// How long a change of a shard's members may take.
const CHANGE_DEADLINE: Duration = Duration::from_secs(20);
/// How long the node that is to take over may take to have everything.
const LEVEL_DEADLINE: Duration = Duration::from_secs(1);
/// How long a leader may take to step down: openraft lets none go within its lease's first term.
const STEP_DOWN_DEADLINE: Duration = Duration::from_millis(LEASE_MS + 250);
/// How often that is tried and looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long an election may take before the node asks for votes like any other.
const ELECTION_DEADLINE: Duration = Duration::from_millis(400);
/// A node that came back from being away so lately does not ask for leaderships.
const STEADY_MS: u64 = 20_000;
/// By how much a node stands later whose clock is apart from the others'.
const APART_STANDS_LATER: Duration = Duration::from_secs(1);
/// For whom a leader votes that steps down: nodes are numbered from one.
const NOBODY: u64 = 0;

/// About how many bytes a call has that carries a vote, or asks for one.
const SMALL_CALL_BYTES: usize = 128;

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

    /// Whether this node would take the leadership over.
    pub(crate) fn would_take_over(&self) -> ControlAnswer {
        if self.is_disk_full() {
            return ControlAnswer::Refused(Why::clipped("the disk of this node is full"));
        }
        ControlAnswer::Done
    }

    /// Takes the leadership that its holder gave up in this node's favour: stands at once, for that holder votes for it.
    pub(crate) fn take_over(&self) -> ControlAnswer {
        if self.is_disk_full() {
            return self.would_take_over();
        }
        let group = self.clone();
        tokio::spawn(async move {
            if group.raft.trigger().elect().await.is_err() {
                return;
            }
            tokio::time::sleep(ELECTION_DEADLINE).await;
            if group.raft.metrics().borrow().state != ServerState::Leader {
                group.election.at(Election::stand_soon);
                group.election.call();
            }
        });
        ControlAnswer::Done
    }

    /// Steps down, so that `to` can take over: openraft 0.9 cannot hand leadership over. Nothing new is accepted from
    /// the beginning, and `to` has everything before the end.
    pub(crate) async fn give_up(&self, to: u64) -> ControlAnswer {
        if let Err(answer) = self.may_give_up(to) {
            return answer;
        }
        if self.silent.swap(true, Ordering::AcqRel) {
            return ControlAnswer::Refused(Why::clipped("it is being given up already"));
        }
        self.election.call();
        let level = self.until(LEVEL_DEADLINE, |group| group.is_level(to)).await;
        let stepped_down = level && self.step_down().await;
        self.silent.store(false, Ordering::Release);
        self.election.call();
        if stepped_down {
            return ControlAnswer::Done;
        }
        let why = format!("node {to} is behind, or this one became the leader only now");
        ControlAnswer::Refused(Why::clipped(&why))
    }

    fn may_give_up(&self, to: u64) -> Result<(), ControlAnswer> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        if metrics.state != ServerState::Leader {
            return Err(ControlAnswer::NotLed(metrics.current_leader));
        }
        let membership = metrics.membership_config.membership();
        let is_voter = membership.voter_ids().any(|voter| voter == to);
        let last = metrics.last_log_index.unwrap_or_default();
        let near = self
            .replicated()
            .get(&to)
            .is_some_and(|next| next.saturating_add(BEHIND_MAX) > last);
        if is_voter && near {
            return Ok(());
        }
        let why = format!("node {to} does not vote here, or is behind");
        Err(ControlAnswer::Refused(Why::clipped(&why)))
    }

    /// Whether a node has all that this leader has.
    fn is_level(&self, node: u64) -> bool {
        let last = self.raft.metrics().borrow().last_log_index;
        self.replicated().get(&node).copied() >= last.map(|last| last.saturating_add(1))
    }

    async fn until(&self, deadline: Duration, is_true: impl Fn(&Self) -> bool) -> bool {
        let waited = async {
            // What was under way when nothing new was taken any more is in the log after a look.
            loop {
                tokio::time::sleep(LOOK_INTERVAL).await;
                if is_true(self) {
                    return;
                }
            }
        };
        tokio::time::timeout(deadline, waited).await.is_ok()
    }

    /// Ceases to lead: votes for nobody, in the next term. Whoever is elected in that term outranks nobody. Whether it
    /// leads no longer.
    pub(super) async fn step_down(&self) -> bool {
        let stepping = async {
            loop {
                let (state, term) = {
                    let metrics = self.raft.metrics();
                    let metrics = metrics.borrow();
                    (metrics.state, metrics.current_term.saturating_add(1))
                };
                if state != ServerState::Leader {
                    return true;
                }
                // However long its log is, it must not refuse itself.
                let last = LogId::new(CommittedLeaderId::new(term, NOBODY), u64::MAX);
                let nobody = VoteRequest::new(Vote::new(term, NOBODY), Some(last));
                if self.raft.vote(nobody).await.is_err() {
                    return false;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        let stepped = tokio::time::timeout(STEP_DOWN_DEADLINE, stepping).await;
        let stepped = stepped.unwrap_or(false);
        if stepped {
            self.election.at(Election::step_down);
        }
        stepped
    }

    /// Asks for votes, or steps down, where the rules say that it is time; does not wait for what becomes of it.
    pub(super) fn stand_or_step_down(
        &self,
        metrics: &RaftMetrics<u64, BasicNode>,
        answered_ago_ms: Option<u64>,
    ) {
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let leads = metrics.state == ServerState::Leader;
        let alone = voters.len() == 1 && voters.contains(&self.node);
        let (stand, cut_off) = self.election.at(|rules, now_ms| match (leads, alone) {
            (true, true) => (false, rules.lead_alone(now_ms)),
            (true, false) => (false, rules.lead(now_ms, answered_ago_ms)),
            (false, _) => (rules.look(now_ms), false),
        });
        // As a leader whose disk is full it would only refuse.
        let stand = stand && voters.contains(&self.node) && (alone || !self.is_disk_full());
        if !(stand || cut_off) || self.acting.swap(true, Ordering::AcqRel) {
            return;
        }
        let group = self.clone();
        tokio::spawn(async move {
            if cut_off {
                tracing::warn!(
                    shard = group.tail.shard,
                    "no majority answers this node: it leads the shard no longer"
                );
                let voters = group.others();
                let own = group.raft.metrics().borrow().vote;
                if group.step_down().await {
                    group.tell_released(voters, own);
                }
            } else if group.is_wanted().await {
                // A group that has stopped is noticed elsewhere.
                drop(group.raft.trigger().elect().await);
            }
            group.acting.store(false, Ordering::Release);
        });
    }

    /// Asks the other voters whether they would vote for this node; whether a majority would.
    async fn is_wanted(&self) -> bool {
        if let Some(mesh) = self.mesh.upgrade()
            && mesh.clock().apart_ms().is_some()
        {
            // Whose clock is right stands before this node; where nobody else can lead, it does.
            tokio::time::sleep(APART_STANDS_LATER).await;
        }
        let last = self.tail.last();
        let sets = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            let membership = metrics.membership_config.membership();
            membership.get_joint_config().clone()
        };
        let mut asked: FuturesUnordered<_> = self
            .others()
            .into_iter()
            .map(|other| self.would_other_vote(other, last))
            .collect();
        let mut yes = BTreeSet::from([self.node]);
        let answering = async {
            while !is_majority(&sets, &yes) {
                match asked.next().await {
                    Some((node, true)) => drop(yes.insert(node)),
                    Some((_, false)) => {}
                    None => return false,
                }
            }
            true
        };
        let deadline = Duration::from_millis(ASK_AGAIN_MS);
        tokio::time::timeout(deadline, answering)
            .await
            .unwrap_or(false)
    }

    /// The other voters that can be spoken to.
    fn others(&self) -> Vec<(u64, Arc<Neighbour>)> {
        let Some(mesh) = self.mesh.upgrade() else {
            return Vec::new();
        };
        let members = self.members();
        let others = members.voters.iter().filter(|node| **node != self.node);
        others
            .filter_map(|node| Some((*node, mesh.neighbour(*node, members.addresses.get(node)?))))
            .collect()
    }

    fn call_of(&self, rpc: Rpc) -> RaftCall {
        let shard = self.tail.shard;
        RaftCall { shard, rpc }
    }

    async fn would_other_vote(
        &self,
        (node, other): (u64, Arc<Neighbour>),
        last: Option<LogId>,
    ) -> (u64, bool) {
        let call = self.call_of(Rpc::PreVote(last));
        let answer = other.urgent().call(call, SMALL_CALL_BYTES).await;
        (node, matches!(answer, Ok(RaftAnswer::PreVote(true))))
    }

    /// Tells the other voters that the leader whose vote this was has stepped down; some may hear it, and need not wait.
    fn tell_released(&self, others: Vec<(u64, Arc<Neighbour>)>, own: Vote) {
        for (_, other) in others {
            let call = self.call_of(Rpc::Released(own));
            // Whoever does not hear it waits for the lease.
            drop(other.urgent().begin(call, SMALL_CALL_BYTES));
        }
    }

    /// Takes note that a leader has stepped down.
    pub(super) fn released(&self, leader: Vote) {
        if self.raft.metrics().borrow().vote == leader {
            self.election.at(Election::release);
            self.election.call();
        }
    }

    /// Whether this node would vote for one whose last entry is `last`.
    pub(super) fn would_vote(&self, last: Option<LogId>) -> bool {
        let shorter = last < self.tail.last();
        let would = self
            .election
            .at(|rules, now_ms| rules.would_vote(now_ms, shorter));
        if shorter {
            self.election.call();
        }
        would
    }

    /// What a voter answers that votes for nobody now.
    pub(super) fn no_vote(&self) -> VoteResponse<u64> {
        VoteResponse {
            vote: self.raft.metrics().borrow().vote,
            vote_granted: false,
            last_log_id: self.tail.last(),
        }
    }

    /// Whether no leader was heard of for so long that none leads.
    pub(super) fn is_leaderless(&self) -> bool {
        let silence_ms = self.election.at(|rules, now_ms| rules.silence_ms(now_ms));
        silence_ms.is_some_and(|silence_ms| silence_ms >= CUT_OFF_MS)
    }

    /// Whether this node was not away lately (stopped, suspended, starved): only then should it ask for leaderships.
    pub(crate) fn is_steady(&self) -> bool {
        let back_for_ms = self.election.at(|rules, now_ms| rules.back_for_ms(now_ms));
        back_for_ms.is_none_or(|back_for_ms| back_for_ms >= STEADY_MS)
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
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let answered_ago_ms = metrics.millis_since_quorum_ack;
        lead_in(&metrics, self.node, silent, answered_ago_ms) == Lead::Here
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
            // Two nodes do that together: see [`super::mesh::Mesh::hand_over`].
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
