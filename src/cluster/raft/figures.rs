//! What the Raft group of a shard is doing, in words that the rest of the node may use.

use mimi_actors::election::LEASE_MS;
use openraft::{BasicNode, RaftMetrics, ServerState};

/// A node's part in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes proposals.
    Leader,
    /// It has a vote.
    Voter,
    /// It has a copy of the log and no vote.
    Learner,
    /// None any more: the group has stopped on this node.
    Stopped,
}

/// What a group is doing at one moment, as this node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupFigures {
    /// This node's part.
    pub role: Role,
    /// The newest term it has heard of.
    pub term: u64,
    /// The last entry in its log, zero without one.
    pub last: u64,
    /// The last entry it has applied, zero without one.
    pub applied: u64,
    /// The term of that entry, zero without one.
    pub applied_term: u64,
    /// Who leads; nobody where this node leads and no majority has answered it for as long as voters are patient.
    pub leader: Option<u64>,
}

impl GroupFigures {
    /// The same, where the group does nothing any more.
    pub(crate) fn stopped(self) -> Self {
        Self {
            role: Role::Stopped,
            leader: None,
            ..self
        }
    }

    pub(crate) fn of(metrics: &RaftMetrics<u64, BasicNode>) -> Self {
        let role = match metrics.state {
            _ if metrics.running_state.is_err() => Role::Stopped,
            ServerState::Leader => Role::Leader,
            ServerState::Follower | ServerState::Candidate => Role::Voter,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Stopped,
        };
        let heard = metrics.millis_since_quorum_ack;
        let followed = match role {
            Role::Leader => heard.is_some_and(|since_ms| since_ms <= LEASE_MS),
            Role::Voter | Role::Learner => true,
            Role::Stopped => false,
        };
        Self {
            role,
            term: metrics.current_term,
            last: metrics.last_log_index.unwrap_or_default(),
            applied: metrics.last_applied.map_or(0, |log_id| log_id.index),
            applied_term: metrics
                .last_applied
                .map_or(0, |log_id| log_id.leader_id.term),
            leader: metrics.current_leader.filter(|_| followed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{self, Node, batch};
    use openraft::error::Fatal;

    fn metrics(state: ServerState) -> RaftMetrics<u64, BasicNode> {
        RaftMetrics {
            state,
            current_leader: Some(2),
            current_term: 7,
            ..RaftMetrics::new_initial(1)
        }
    }

    #[test]
    fn a_leader_that_no_majority_answers_is_not_called_one() {
        let answered = |millis_since_quorum_ack| {
            GroupFigures::of(&RaftMetrics {
                millis_since_quorum_ack,
                ..metrics(ServerState::Leader)
            })
        };
        assert_eq!(answered(Some(LEASE_MS)).leader, Some(2));
        for silent in [answered(Some(LEASE_MS + 1)), answered(None)] {
            assert_eq!((silent.leader, silent.role), (None, Role::Leader));
        }
    }

    #[test]
    fn whoever_does_not_lead_believes_what_it_has_heard_until_its_group_has_stopped() {
        for (state, role) in [
            (ServerState::Follower, Role::Voter),
            (ServerState::Candidate, Role::Voter),
            (ServerState::Learner, Role::Learner),
        ] {
            let figures = GroupFigures::of(&metrics(state));
            assert_eq!((figures.role, figures.leader), (role, Some(2)));
            assert_eq!((figures.term, figures.last, figures.applied), (7, 0, 0));
        }
        let stopped = GroupFigures::of(&RaftMetrics {
            running_state: Err(Fatal::Stopped),
            ..metrics(ServerState::Follower)
        });
        assert_eq!((stopped.role, stopped.leader), (Role::Stopped, None));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_running_group_leads_and_has_applied_what_it_has_committed() {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(dir.path(), 1, u64::MAX).await;
        let group = node.groups[0].0.clone();
        let committed = group.propose(batch("one")).await.unwrap();
        // openraft publishes its figures shortly after it has answered.
        testing::until("it is applied", || group.figures().applied == committed).await;
        let figures = group.figures();
        assert_eq!((figures.role, figures.leader), (Role::Leader, Some(1)));
        assert_eq!(figures.last, committed);
        group.stop().await;
        assert_eq!(group.figures().role, Role::Stopped);
        drop(group);
        node.stop().await;
    }
}
