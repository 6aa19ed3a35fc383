//! Where a request to a shard goes: to the node that leads it.
//!
//! Promises: it is passed on once only, for whoever leads may be gone by the time a circle is closed; nobody waits for a
//! leader that leads no longer.

/// Who leads a shard, as a node sees it; nodes are told apart by an `N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead<N> {
    /// This node: a majority heard of it lately, and it has applied whatever any leader before it committed.
    Here,
    /// Another node.
    At(N),
    /// Nobody who is known.
    Nobody,
}

/// Nodes that a request is passed on to before it is given up.
const HOPS_MAX: u8 = 1;

/// What a node does with a request to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<N> {
    /// It asks its own actors.
    Here,
    /// It passes the request on.
    PassOn(N),
    /// It answers that nobody leads, as far as it knows: nothing was done.
    NoLeader,
}

/// What a node does with a request to a shard that was passed on so often before.
#[must_use]
pub fn route<N>(lead: Lead<N>, hops: u8) -> Route<N> {
    match lead {
        Lead::Here => Route::Here,
        Lead::At(node) if hops < HOPS_MAX => Route::PassOn(node),
        Lead::At(_) | Lead::Nobody => Route::NoLeader,
    }
}

/// Whether the answer to a request that was passed on may never come, so that it is not waited for: whoever led when it
/// was passed on leads no longer. Nobody knows what became of it.
#[must_use]
pub fn is_lost<N: PartialEq>(asked: N, lead: &Lead<N>) -> bool {
    *lead != Lead::At(asked)
}

/// How long an actor may keep a request waiting, so that whoever waits for it no longer than `deadline_ms` is answered in
/// time; both in milliseconds.
#[must_use]
pub fn wait_ms_max(deadline_ms: u64) -> u32 {
    u32::try_from(deadline_ms / 5 * 4).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_to_the_leader_and_is_passed_on_once_only() {
        assert_eq!(route(Lead::<u8>::Here, 0), Route::Here);
        assert_eq!(route(Lead::At(3), 0), Route::PassOn(3));
        assert_eq!(route(Lead::<u8>::Here, 1), Route::Here);
        assert_eq!(route(Lead::At(3), 1), Route::NoLeader);
        assert_eq!(route(Lead::<u8>::Nobody, 0), Route::NoLeader);
    }

    #[test]
    fn nobody_waits_for_a_leader_that_leads_no_longer() {
        assert!(!is_lost(3, &Lead::At(3)));
        for now in [Lead::At(4), Lead::Nobody, Lead::Here] {
            assert!(is_lost(3, &now), "{now:?}");
        }
    }

    #[test]
    fn a_request_waits_for_its_turn_less_long_than_whoever_asked() {
        assert_eq!(wait_ms_max(10_000), 8_000);
        assert_eq!(wait_ms_max(u64::MAX), u32::MAX);
    }
}
