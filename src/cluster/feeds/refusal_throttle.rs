//! How long the lanes of a peer wait that sends what the rooms here refuse.
//!
//! A refusal costs as much as a message: it is judged in log order, synced, and told. Who sends little of it notices
//! nothing; who sends more is read as slowly as [`REFUSED_ITEMS`] says, for its unread bytes wait in its own windows.
//!
//! Source: transport requirements, section 4.

use mimi_actors::{
    bucket::{Buckets, Rate},
    ids::ProviderId,
    limits::{PEERS_COUNTED_MAX, REFUSED_ITEMS_BURST, REFUSED_ITEMS_PER_MINUTE},
    machine::Millis,
};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Submissions of one peer that are refused without making it wait.
const REFUSED_ITEMS: Rate = Rate {
    burst: REFUSED_ITEMS_BURST,
    per_minute: REFUSED_ITEMS_PER_MINUTE,
};
/// Longest wait before a frame, in milliseconds; what is refused meanwhile is not counted.
const WAIT_MS_MAX: u64 = 10_000;

/// When a node starts, by the time of this throttle, in milliseconds: what is read again of the log was refused before.
const START_MS: u64 = 3_600_000;

/// How much of what each peer sent was refused. Its time is this node's own since the start: a clock that is set, or that
/// of a leader that is ahead, makes nobody wait.
pub(crate) struct RefusalThrottle {
    since: Instant,
    used: Mutex<Buckets<ProviderId>>,
}

impl Default for RefusalThrottle {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            used: Mutex::default(),
        }
    }
}

impl RefusalThrottle {
    fn used(&self) -> MutexGuard<'_, Buckets<ProviderId>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Millis {
        let elapsed_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        Millis(START_MS).plus(elapsed_ms)
    }

    /// So many submissions of a peer were refused, so many milliseconds ago.
    pub(crate) fn use_up(&self, peer: &ProviderId, items: u32, age_ms: u64) {
        let time = Millis(self.now().0.saturating_sub(age_ms));
        self.use_up_at(peer, items, time);
    }

    fn use_up_at(&self, peer: &ProviderId, items: u32, time: Millis) {
        let mut used = self.used();
        let wait_ms = used.wait_ms(peer, REFUSED_ITEMS, time);
        if wait_ms.is_none_or(|wait_ms| wait_ms < WAIT_MS_MAX) {
            used.take(peer, items, REFUSED_ITEMS, time, PEERS_COUNTED_MAX);
        }
    }

    /// How long the next frame of a peer must wait.
    pub(crate) fn wait(&self, peer: &ProviderId) -> Duration {
        self.wait_at(peer, self.now())
    }

    fn wait_at(&self, peer: &ProviderId, time: Millis) -> Duration {
        let wait_ms = self.used().wait_ms(peer, REFUSED_ITEMS, time);
        Duration::from_millis(wait_ms.unwrap_or_default().min(WAIT_MS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_often_waits_and_nobody_else_does() {
        let throttle = RefusalThrottle::default();
        let (mallory, bob) = ("m.example".parse().unwrap(), "b.example".parse().unwrap());
        let now = Millis(1_000_000);
        throttle.use_up_at(&mallory, REFUSED_ITEMS_BURST - 1, now);
        assert_eq!(throttle.wait_at(&mallory, now), Duration::ZERO);
        throttle.use_up_at(&mallory, 501, now);
        let wait = throttle.wait_at(&mallory, now);
        assert!(
            wait > Duration::ZERO && wait < Duration::from_secs(1),
            "{wait:?}"
        );
        assert_eq!(throttle.wait_at(&mallory, now.plus(1_000)), Duration::ZERO);
        assert_eq!(throttle.wait_at(&bob, now), Duration::ZERO);
    }

    #[test]
    fn patience_comes_back_however_much_was_refused() {
        let throttle = RefusalThrottle::default();
        let mallory = "m.example".parse().unwrap();
        let now = Millis(1_000_000);
        for _ in 0..1_000 {
            throttle.use_up_at(&mallory, 4_096, now);
        }
        assert_eq!(
            throttle.wait_at(&mallory, now),
            Duration::from_millis(WAIT_MS_MAX)
        );
        let later = now.plus(2 * WAIT_MS_MAX);
        assert_eq!(throttle.wait_at(&mallory, later), Duration::ZERO);
    }

    #[test]
    fn what_was_refused_long_ago_makes_nobody_wait_and_what_is_just_refused_does() {
        let throttle = RefusalThrottle::default();
        let mallory = "m.example".parse().unwrap();
        throttle.use_up(&mallory, 2 * REFUSED_ITEMS_BURST, START_MS);
        assert_eq!(throttle.wait(&mallory), Duration::ZERO);
        throttle.use_up(&mallory, 2 * REFUSED_ITEMS_BURST, 0);
        assert!(throttle.wait(&mallory) > Duration::ZERO);
    }
}
