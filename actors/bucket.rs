//! A token bucket in integers, on the time of the log.
//!
//! Promises: equal commands at equal times give equal buckets, whoever counts; time that goes back, or stands still,
//! refills nothing.
//!
//! Source: transport requirements, section 3.1.

use crate::machine::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Milliseconds in a minute.
const MINUTE_MS: u64 = 60_000;

/// How much may be used: so many at once, and so many more each minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// At once, after a rest.
    pub burst: u32,
    /// More, each minute.
    pub per_minute: u32,
}

impl Rate {
    /// The share of it that each of so many have who count apart: twice the even one, for what is counted is never spread
    /// quite evenly, but never more than all, and at least one.
    #[must_use]
    pub fn share_of(self, of: u16) -> Self {
        let share = |all: u32| {
            let share = (2 * u64::from(all)).div_ceil(u64::from(of.max(1)));
            u32::try_from(share).unwrap_or(all).min(all).max(1)
        };
        Self {
            burst: share(self.burst),
            per_minute: share(self.per_minute),
        }
    }

    /// Milliseconds after which one more may be used; a rate of none is one in a minute.
    fn interval_ms(self) -> u64 {
        MINUTE_MS.div_ceil(u64::from(self.per_minute.max(1)))
    }
}

/// What is left of a [`Rate`], as the moment at which nothing is used any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    full_at: Millis,
}

impl Bucket {
    /// When one may be used, in milliseconds from `now`; `None` when one may be used now.
    #[must_use]
    pub fn wait_ms(&self, rate: Rate, now: Millis) -> Option<u64> {
        let interval_ms = rate.interval_ms();
        let used_until = self.full_at.max(now).plus(interval_ms);
        let burst_ms = interval_ms.saturating_mul(u64::from(rate.burst.max(1)));
        let late_ms = used_until.0.saturating_sub(now.plus(burst_ms).0);
        (late_ms > 0).then_some(late_ms)
    }

    /// Uses so many, whether or not they are there.
    pub fn take(&mut self, count: u32, rate: Rate, now: Millis) {
        let used_ms = rate.interval_ms().saturating_mul(u64::from(count));
        self.full_at = self.full_at.max(now).plus(used_ms);
    }

    /// Gives back so many that were taken.
    pub fn give_back(&mut self, count: u32, rate: Rate) {
        let used_ms = rate.interval_ms().saturating_mul(u64::from(count));
        self.full_at = Millis(self.full_at.0.saturating_sub(used_ms));
    }

    /// Whether nothing of it is used.
    #[must_use]
    pub fn is_full(&self, now: Millis) -> bool {
        self.full_at <= now
    }

    /// When nothing of it will be used.
    #[must_use]
    pub fn full_at(&self) -> Millis {
        self.full_at
    }
}

/// A bucket for each of those who used something lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buckets<K: Ord>(BTreeMap<K, Bucket>);

impl<K: Ord> Default for Buckets<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Buckets<K> {
    /// When `who` may use one, in milliseconds from `time`; `None` when now.
    #[must_use]
    pub fn wait_ms(&self, who: &K, rate: Rate, time: Millis) -> Option<u64> {
        let bucket = self.0.get(who).copied().unwrap_or_default();
        bucket.wait_ms(rate, time)
    }

    /// Counts so many uses of `who`, where `max` are counted at most: who has rested is forgotten, then who used least.
    pub fn take(&mut self, who: &K, count: u32, rate: Rate, time: Millis, max: usize) {
        if !self.0.contains_key(who) && self.0.len() >= max {
            self.keep(time, |_| true);
            let least = self.0.iter().min_by_key(|(_, bucket)| bucket.full_at());
            if self.0.len() >= max
                && let Some(least) = least.map(|(who, _)| who.clone())
            {
                self.0.remove(&least);
            }
        }
        self.0
            .entry(who.clone())
            .or_default()
            .take(count, rate, time);
    }

    /// Gives back so many that `who` took.
    pub fn give_back(&mut self, who: &K, count: u32, rate: Rate) {
        if let Some(bucket) = self.0.get_mut(who) {
            bucket.give_back(count, rate);
        }
    }

    /// Forgets who has rested, and who does not count any more.
    pub fn keep(&mut self, time: Millis, counts: impl Fn(&K) -> bool) {
        self.0
            .retain(|who, bucket| !bucket.is_full(time) && counts(who));
    }

    /// How many are counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A wait as a refusal says it, in milliseconds.
#[must_use]
pub fn retry_after_of(wait_ms: u64) -> u32 {
    u32::try_from(wait_ms).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        per_minute: 60,
    };

    #[test]
    fn a_burst_is_there_at_once_and_the_rest_comes_with_time() {
        let (mut bucket, now) = (Bucket::default(), Millis(1_000_000));
        for _ in 0..3 {
            assert_eq!(bucket.wait_ms(RATE, now), None);
            bucket.take(1, RATE, now);
        }
        assert_eq!(bucket.wait_ms(RATE, now), Some(1_000));
        assert_eq!(bucket.wait_ms(RATE, now.plus(999)), Some(1));
        assert_eq!(bucket.wait_ms(RATE, now.plus(1_000)), None);
        bucket.take(1, RATE, now.plus(1_000));
        assert_eq!(bucket.wait_ms(RATE, now.plus(1_000)), Some(1_000));
        assert!(!bucket.is_full(now.plus(3_999)));
        assert!(bucket.is_full(now.plus(4_000)));
    }

    #[test]
    fn a_clock_that_goes_back_refills_nothing_and_a_long_rest_no_more_than_a_burst() {
        let (mut bucket, now) = (Bucket::default(), Millis(1_000_000));
        for _ in 0..3 {
            bucket.take(1, RATE, now);
        }
        assert_eq!(bucket.wait_ms(RATE, Millis(now.0 - 500)), Some(1_500));
        let later = now.plus(1_000_000);
        for _ in 0..3 {
            assert_eq!(bucket.wait_ms(RATE, later), None);
            bucket.take(1, RATE, later);
        }
        assert_eq!(bucket.wait_ms(RATE, later), Some(1_000));
    }

    #[test]
    fn what_is_given_back_may_be_used_again_and_no_more_than_that() {
        let (mut counted, now) = (Buckets::<u32>::default(), Millis(1_000_000));
        counted.take(&1, 5, RATE, now, 9);
        assert_eq!(counted.wait_ms(&1, RATE, now), Some(3_000));
        counted.give_back(&1, 3, RATE);
        counted.give_back(&2, 3, RATE);
        assert_eq!(counted.wait_ms(&1, RATE, now), None);
        counted.take(&1, 1, RATE, now, 9);
        assert_eq!(counted.wait_ms(&1, RATE, now), Some(1_000));
        counted.give_back(&1, 9, RATE);
        assert_eq!(counted.wait_ms(&1, RATE, now), None);
        counted.take(&1, 4, RATE, now, 9);
        assert_eq!(
            counted.wait_ms(&1, RATE, now),
            Some(2_000),
            "a burst, not more"
        );
    }

    #[test]
    fn those_who_count_apart_have_twice_an_even_share_and_never_more_than_all() {
        let rate = Rate {
            burst: 500,
            per_minute: 120,
        };
        let shares = |of| {
            let Rate { burst, per_minute } = rate.share_of(of);
            (burst, per_minute)
        };
        assert_eq!(shares(16), (63, 15));
        assert_eq!(shares(1_024), (1, 1));
        assert_eq!(
            (shares(0), shares(1), shares(2)),
            ((500, 120), (500, 120), (500, 120))
        );
    }

    #[test]
    fn a_rate_of_nothing_still_lets_one_through_in_a_minute() {
        let none = Rate {
            burst: 0,
            per_minute: 0,
        };
        let mut bucket = Bucket::default();
        assert_eq!(bucket.wait_ms(none, Millis(5)), None);
        bucket.take(1, none, Millis(5));
        assert_eq!(bucket.wait_ms(none, Millis(5)), Some(MINUTE_MS));
    }
    #[test]
    fn only_so_many_are_counted_and_who_used_least_goes_first() {
        let mut counted = Buckets::<u32>::default();
        let now = Millis(1_000);
        counted.take(&1, 1, RATE, now, 2);
        for _ in 0..3 {
            counted.take(&2, 1, RATE, now, 2);
        }
        counted.take(&3, 1, RATE, now, 2);
        assert_eq!(counted.len(), 2);
        assert_eq!(counted.wait_ms(&1, RATE, now), None);
        assert_eq!(counted.wait_ms(&2, RATE, now), Some(1_000));
        counted.take(&4, 1, RATE, now.plus(60_000), 2);
        assert_eq!(counted.len(), 1);
    }

    #[test]
    fn who_has_rested_or_counts_no_longer_is_forgotten() {
        let mut counted = Buckets::<u32>::default();
        let now = Millis(1_000);
        for who in 0..3 {
            counted.take(&who, 1, RATE, now.plus(u64::from(who)), 9);
        }
        counted.keep(now.plus(1_000), |who| *who != 2);
        assert_eq!(counted.len(), 1);
        counted.keep(now.plus(1_001), |_| true);
        assert!(counted.is_empty());
    }
}
