//! How long the lanes of a peer wait that sends more of something than a rate allows: what the rooms here refuse, rooms
//! into which it brings clients of this provider, and what it brings them in with.
//!
//! A refusal costs as much as a message: it is judged in log order, synced, and told. A room that begins here costs memory and
//! log for as long as it is there. A Welcome and its tree are written whole, and again for who gets them. Who sends little of
//! all that notices nothing; who sends more is read as slowly as the rate says, for its unread bytes wait in its own windows.
//!
//! Source: transport requirements, section 4.

use mimi_actors::{
    bucket::{Buckets, Rate},
    ids::ProviderId,
    limits::{
        INVITED_BURST_PER_PEER, INVITED_PER_MINUTE_PER_PEER, PEERS_COUNTED_MAX,
        REFUSED_ITEMS_BURST, REFUSED_ITEMS_PER_MINUTE, ROOMS_BEGUN_BURST_PER_PEER,
        ROOMS_BEGUN_PER_MINUTE_PER_PEER,
    },
    machine::Millis,
};
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Submissions of one peer that are refused without making it wait.
const REFUSED_ITEMS: Rate = Rate {
    burst: REFUSED_ITEMS_BURST,
    per_minute: REFUSED_ITEMS_PER_MINUTE,
};
/// Rooms that begin here because one peer brings clients in, without making it wait.
const ROOMS_BEGUN: Rate = Rate {
    burst: ROOMS_BEGUN_BURST_PER_PEER,
    per_minute: ROOMS_BEGUN_PER_MINUTE_PER_PEER,
};
/// Units of Welcomes and trees that one peer may send without having to wait.
const INVITED: Rate = Rate {
    burst: INVITED_BURST_PER_PEER,
    per_minute: INVITED_PER_MINUTE_PER_PEER,
};
/// Longest wait before a frame, in milliseconds; what is used meanwhile is not counted.
const WAIT_MS_MAX: u64 = 10_000;

/// When a node starts, by the time of this throttle, in milliseconds: what is read again of the log was refused before.
const START_MS: u64 = 3_600_000;

/// All that makes the lanes of peers wait.
pub(crate) struct PeerThrottles {
    /// Submissions that are refused.
    pub(crate) refusals: PeerThrottle,
    /// Rooms into which a peer brings clients.
    pub(crate) rooms_begun: PeerThrottle,
    /// What it brings them in with.
    pub(crate) invited: PeerThrottle,
}

impl Default for PeerThrottles {
    fn default() -> Self {
        Self {
            refusals: PeerThrottle::of(REFUSED_ITEMS),
            rooms_begun: PeerThrottle::of(ROOMS_BEGUN),
            invited: PeerThrottle::of(INVITED),
        }
    }
}

/// How much each peer used of something. Its time is this node's own since the start: a clock that is set, or that
/// of a leader that is ahead, makes nobody wait.
pub(crate) struct PeerThrottle {
    rate: Rate,
    since: Instant,
    used: Mutex<Buckets<ProviderId>>,
    /// How often a lane had to wait.
    waits: AtomicU64,
}

impl PeerThrottle {
    fn of(rate: Rate) -> Self {
        Self {
            rate,
            since: Instant::now(),
            used: Mutex::default(),
            waits: AtomicU64::new(0),
        }
    }

    fn used(&self) -> MutexGuard<'_, Buckets<ProviderId>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Millis {
        let elapsed_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        Millis(START_MS).plus(elapsed_ms)
    }

    /// A peer used so many, so many milliseconds ago.
    pub(crate) fn use_up(&self, peer: &ProviderId, items: u32, age_ms: u64) {
        let time = Millis(self.now().0.saturating_sub(age_ms));
        self.use_up_at(peer, items, time);
    }

    fn use_up_at(&self, peer: &ProviderId, items: u32, time: Millis) {
        let mut used = self.used();
        let wait_ms = used.wait_ms(peer, self.rate, time);
        if wait_ms.is_none_or(|wait_ms| wait_ms < WAIT_MS_MAX) {
            used.take(peer, items, self.rate, time, PEERS_COUNTED_MAX);
        }
    }

    /// How long the next frame of a peer must wait.
    pub(crate) fn wait(&self, peer: &ProviderId) -> Duration {
        let wait = self.wait_at(peer, self.now());
        if !wait.is_zero() {
            self.waits.fetch_add(1, Ordering::Relaxed);
        }
        wait
    }

    /// How often a lane had to wait, since the start.
    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    fn wait_at(&self, peer: &ProviderId, time: Millis) -> Duration {
        let wait_ms = self.used().wait_ms(peer, self.rate, time);
        Duration::from_millis(wait_ms.unwrap_or_default().min(WAIT_MS_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_often_waits_and_nobody_else_does() {
        let throttle = PeerThrottle::of(REFUSED_ITEMS);
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
        let throttle = PeerThrottle::of(REFUSED_ITEMS);
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
        let throttle = PeerThrottle::of(REFUSED_ITEMS);
        let mallory = "m.example".parse().unwrap();
        throttle.use_up(&mallory, 2 * REFUSED_ITEMS_BURST, START_MS);
        assert_eq!(throttle.wait(&mallory), Duration::ZERO);
        throttle.use_up(&mallory, 2 * REFUSED_ITEMS_BURST, 0);
        assert!(throttle.wait(&mallory) > Duration::ZERO);
        assert_eq!(throttle.waits(), 1);
    }
}
