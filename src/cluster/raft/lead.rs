//! Who leads a shard, as this node sees it.

use mimi_actors::{election::CUT_OFF_MS, way::route};
use openraft::{BasicNode, RaftMetrics, ServerState};
use std::time::Instant;
use tokio::sync::watch;

/// Who leads.
pub(crate) type Lead = route::Lead<u64>;

/// Waits until this node leads; `false` when the shard is gone.
pub(crate) async fn led_here(lead: &mut watch::Receiver<Lead>) -> bool {
    lead.wait_for(|lead| *lead == Lead::Here).await.is_ok()
}

/// Waits until this node does not lead any more.
pub(crate) async fn lost(lead: &mut watch::Receiver<Lead>) {
    // A shard that is gone is not led.
    drop(lead.wait_for(|lead| *lead != Lead::Here).await);
}

/// How long ago a majority answered a leader last, by what it showed then.
pub(crate) fn answered_ago_ms(
    shown: &RaftMetrics<u64, BasicNode>,
    shown_at: Instant,
) -> Option<u64> {
    let since_ms = u64::try_from(shown_at.elapsed().as_millis()).unwrap_or(u64::MAX);
    let answered = shown.millis_since_quorum_ack;
    answered.map(|ago_ms| ago_ms.saturating_add(since_ms))
}

/// Who leads, as `node`'s figures show it; a leader that goes `silent` leads no longer, nor does one that no majority
/// has answered.
pub(crate) fn lead_in(
    metrics: &RaftMetrics<u64, BasicNode>,
    node: u64,
    silent: bool,
    answered_ago_ms: Option<u64>,
) -> Lead {
    if metrics.running_state.is_err() {
        return Lead::Nobody;
    }
    if metrics.state != ServerState::Leader {
        let other = metrics.current_leader.filter(|leader| *leader != node);
        return other.map_or(Lead::Nobody, Lead::At);
    }
    let alone = metrics.membership_config.membership().voter_ids().count() == 1;
    let heard = answered_ago_ms.is_some_and(|ms| ms < CUT_OFF_MS);
    // Its own first entry comes after whatever any leader before it committed. Another's may be of the same term: openraft
    // tells leaders apart by term and node.
    let applied = metrics.last_applied.is_some_and(|last| {
        last.leader_id.term == metrics.current_term && last.leader_id.node_id == node
    });
    if applied && !silent && (alone || heard) {
        Lead::Here
    } else {
        Lead::Nobody
    }
}
