//! The rules of `mimi_actors::election` on this node's monotonic clock, and the bell that calls for a look.

use mimi_actors::election::{self, patience_ms};
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// When one voter of a shard stands for election, and for whom it votes.
pub(crate) struct Election {
    began: Instant,
    rules: Mutex<election::Election>,
    bell: Notify,
}

impl Election {
    /// Of the voter that `node` is in `shard`; `followed` where it had a leader before this start.
    pub(crate) fn new(shard: u16, node: u64, followed: bool) -> Self {
        let rules = election::Election::new(patience_ms(shard, node), followed, 0);
        Self {
            began: Instant::now(),
            rules: Mutex::new(rules),
            bell: Notify::new(),
        }
    }

    /// Applies a rule now.
    pub(crate) fn at<R>(&self, rule: impl FnOnce(&mut election::Election, u64) -> R) -> R {
        let now_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rule(&mut rules, now_ms)
    }

    /// Has the next look made now.
    pub(crate) fn call(&self) {
        self.bell.notify_one();
    }

    /// Waits until it should be looked, and `interval` at most.
    pub(crate) async fn called(&self, interval: Duration) {
        // Both say the same: look.
        drop(tokio::time::timeout(interval, self.bell.notified()).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_is_called_looks_at_once() {
        let election = Election::new(0, 1, true);
        election.call();
        election.called(Duration::MAX).await;
        assert!(!election.at(election::Election::look));
        election.at(election::Election::stand_soon);
        assert!(election.at(election::Election::look));
    }
}
