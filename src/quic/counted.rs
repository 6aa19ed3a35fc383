//! What somebody does again and again: how often it may.

use mimi_actors::{
    bucket::{Buckets, Rate},
    machine::Millis,
};
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Counts by whoever does it.
#[derive(Debug)]
pub struct Counted<K: Ord> {
    rate: Rate,
    /// Of how many it is counted; who used least is forgotten first.
    max: usize,
    since: Instant,
    counted: Mutex<Buckets<K>>,
    refused: AtomicU64,
}

impl<K: Ord + Clone> Counted<K> {
    /// Each may so often; it is counted of so many at most.
    #[must_use]
    pub fn new(rate: Rate, max: usize) -> Self {
        Self {
            rate,
            max,
            since: Instant::now(),
            counted: Mutex::default(),
            refused: AtomicU64::new(0),
        }
    }

    fn counted(&self) -> MutexGuard<'_, Buckets<K>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Millis {
        let elapsed = self.since.elapsed().as_millis();
        Millis(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// How long `who` has to wait, in milliseconds; `None` when it need not. One that has to wait is refused.
    pub fn wait_ms(&self, who: &K) -> Option<u64> {
        let wait_ms = self.counted().wait_ms(who, self.rate, self.now());
        if wait_ms.is_some() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        wait_ms
    }

    /// Counts one of `who`.
    pub fn count(&self, who: &K) {
        let now = self.now();
        self.counted().take(who, 1, self.rate, now, self.max);
    }

    /// How often one was refused, since the start.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}
