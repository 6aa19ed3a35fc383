//! When a voter stands for election by itself, beside openraft's own timing.

use super::raft;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How long after its first election a voter stands for a second.
const STAND_AGAIN: Duration = Duration::from_millis(250);
/// How long a leader that was heard of is not contested.
const LEASE: Duration = Duration::from_millis(raft::LEASE_MS);

/// When one voter of a shard stands for election, unless it hears of a leader before.
pub(super) struct Election {
    next: Mutex<Next>,
    bell: Notify,
}

impl Election {
    /// Of the voter that `node` is in `shard`; it counts as having heard of a leader now.
    pub(super) fn new(shard: u16, node: u64) -> Self {
        Self {
            next: Mutex::new(Next::new(raft::overdue(shard, node), Instant::now())),
            bell: Notify::new(),
        }
    }

    fn next(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that a leader was heard of, or that somebody else may become one now: who got this voter's vote, or
    /// who refused it his own because his log is longer. To stand in between would only undo what they are about to do.
    pub(super) fn hear(&self) {
        self.next().hear(Instant::now());
    }

    /// Takes note that a voter asked for a vote that it cannot win, because its log is shorter than this voter's: this
    /// one stands in its place, at once, unless a leader's lease may last.
    pub(super) fn stand_instead(&self) {
        if self.next().stand_instead(Instant::now()) {
            self.bell.notify_one();
        }
    }

    /// Waits until it should be looked whether an election is due, and `interval` at most.
    pub(super) async fn called(&self, interval: Duration) {
        // Both say the same: look.
        drop(tokio::time::timeout(interval, self.bell.notified()).await);
    }

    /// Whether this voter should stand now.
    pub(super) fn is_due(&self) -> bool {
        self.next().is_due(Instant::now())
    }
}

/// The next election of a voter.
struct Next {
    /// How long it waits for openraft.
    overdue: Duration,
    /// When it last heard of a leader, or began.
    heard: Instant,
    at: Instant,
    /// It has stood once since it last heard of a leader.
    again: bool,
}

impl Next {
    fn new(overdue: Duration, now: Instant) -> Self {
        Self {
            overdue,
            heard: now,
            at: now + overdue,
            again: false,
        }
    }

    fn hear(&mut self, now: Instant) {
        *self = Self::new(self.overdue, now);
    }

    fn stand_instead(&mut self, now: Instant) -> bool {
        let stands = now.duration_since(self.heard) >= LEASE && !self.again;
        if stands {
            self.at = now;
        }
        stands
    }

    /// Twice, one shortly after the other: a voter with a shorter log may have stood before in a later term than this
    /// one knows, and the first refusal tells of that term. Two that stood once in turn would go past each other for ever.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.at;
        if due && self.again {
            self.at = now + self.overdue;
            self.again = false;
        } else if due {
            self.at = now + STAND_AGAIN;
            self.again = true;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERDUE: Duration = Duration::from_secs(3);
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_voter_stands_twice_when_its_time_has_come_and_then_waits_again() {
        let mut now = Instant::now();
        let mut next = Next::new(OVERDUE, now);
        assert!(!next.is_due(now + OVERDUE - MS));
        for wait in [OVERDUE, STAND_AGAIN, OVERDUE] {
            now += wait;
            assert!(next.is_due(now) && !next.is_due(now));
        }
        next.hear(now);
        assert!(
            !next.is_due(now + STAND_AGAIN),
            "whoever hears of a leader stays seated"
        );
    }

    #[test]
    fn a_voter_with_the_longer_log_stands_at_once_but_never_within_a_lease() {
        let began = Instant::now();
        let mut next = Next::new(OVERDUE, began);
        assert!(!next.stand_instead(began + LEASE - MS));
        assert!(!next.is_due(began + LEASE - MS));
        assert!(next.stand_instead(began + LEASE));
        assert!(next.is_due(began + LEASE));
        // The same candidate asks again while the first election is under way.
        assert!(!next.stand_instead(began + LEASE));
        assert!(!next.is_due(began + LEASE));
    }

    #[tokio::test]
    async fn whoever_should_stand_at_once_is_called_at_once() {
        let election = Election::new(0, 1);
        election.next().heard -= LEASE;
        election.stand_instead();
        election.called(Duration::MAX).await;
        assert!(election.is_due());
    }
}
