//! Who leads a shard: giving leadership up, and taking it over from a leader that gives it up.
//!
//! Not here: standing for election where no leader is heard (`standing`), and who votes (`members`).

use super::{
    group::Group,
    lead::{Lead, lead_in},
};
use crate::cluster::{
    log::types::{LogId, Vote},
    mesh::frame::{ControlAnswer, Why},
};
use mimi_actors::election::{CUT_OFF_MS, Election, LEASE_MS};
use openraft::{CommittedLeaderId, ServerState, error::RaftError, raft::VoteRequest};
use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

/// Entries that a node may be behind and still take over, at most.
const BEHIND_MAX: u64 = 64;
/// How long the node that is to take over may take to have everything.
const LEVEL_DEADLINE: Duration = Duration::from_secs(1);
/// How long a leader tries to step down: openraft lets none go within its lease's first term.
const STEP_DOWN_DEADLINE: Duration = Duration::from_millis(LEASE_MS + 250);
/// How often that is tried and looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A node that came back from being away so lately does not ask for leaderships.
const STEADY_MS: u64 = 20_000;
/// For whom a voter votes that votes for nobody: nodes are numbered from one.
const NOBODY: u64 = 0;

impl Group {
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
        let standing = async move {
            group.stand().await;
            if group.raft.metrics().borrow().state != ServerState::Leader {
                group.stand_soon();
            }
        };
        if !self.act(standing) {
            self.stand_soon();
        }
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

    /// Ceases to lead: votes for nobody, in the next term. Whether it leads no longer. On a disk that is full or hangs that
    /// vote is never kept; then the others hear nothing of this leader any more, and elect another.
    pub(crate) async fn step_down(&self) -> bool {
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
                if self.vote_for_nobody(term).await.is_err() {
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

    /// Whether no leader was heard of for so long that none leads.
    pub(crate) fn is_leaderless(&self) -> bool {
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
        let engine_ago_ms = metrics.millis_since_quorum_ack;
        let answered_ago_ms = self
            .election
            .at(|rules, now_ms| rules.answered_ago_ms(now_ms, engine_ago_ms));
        lead_in(&metrics, self.node, silent, answered_ago_ms) == Lead::Here
    }

    /// Votes for nobody, in this term: whoever is elected in it outranks nobody.
    pub(crate) async fn vote_for_nobody(&self, term: u64) -> Result<(), RaftError<u64>> {
        // However long its log is, it must not refuse itself.
        let last = LogId::new(CommittedLeaderId::new(term, NOBODY), u64::MAX);
        let nobody = VoteRequest::new(Vote::new(term, NOBODY), Some(last));
        self.raft.vote(nobody).await.map(drop)
    }
}
