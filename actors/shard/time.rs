//! The time of a shard: a clock that follows from its log, never goes back, and never stands still.
//!
//! Each entry is stamped by its leader. While stamps go up, the time is the stamp. A leader whose clock was ahead leaves a
//! time behind that is ahead of the next leader's stamps, for an hour or for days. If the time stood still until the stamps
//! have come that far, every lease, lock, budget and retention would be longer by as much. So the time goes on with
//! the stamps, a little slower than they: by [`KEEPS`] milliseconds in [`OF`]. A wait that began in the wrong hour, or in the
//! right one, takes about as long as it should, and in the end the time is the stamp again.
//!
//! A leader whose clock was behind looks the same at first: the stamps go back. But when it is put right, or another leads,
//! they leap ahead, and that is no time that went by. So where the stamps pass the time, the time is the stamp, and
//! where they do not, no more than [`COUNTED_MS_MAX`] are counted from one entry to the next.
//!
//! Everything is computed from the log, so that all replicas have one time. What is told to clients is computed with
//! [`ShardTime::at`] too: on another clock a wait would be untrue by as much as the time is ahead.

use crate::machine::Millis;
use serde::{Deserialize, Serialize};

/// So many milliseconds the time goes on, where it is ahead ...
pub const KEEPS: u64 = 7;
/// ... while the stamps go on by so many.
pub const OF: u64 = 8;
/// Of the time between two entries no more is counted where the time is ahead, in milliseconds: the longest wait of somebody
/// who asks again. More may be a clock that was put right.
pub const COUNTED_MS_MAX: u64 = 3_600_000;
/// Stamps may go back by so much without being taken for a clock that was put right, in milliseconds: two leaders never
/// agree to the millisecond, and what each change adds would add up.
const WAVERS_MS: u64 = 2_000;

/// The time of a shard after some entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardTime {
    time: Millis,
    /// The stamp up to which the time has gone on.
    stamp: Millis,
}

impl ShardTime {
    /// The time of the last entry.
    #[must_use]
    pub fn last(self) -> Millis {
        self.time
    }

    /// What the time would be for an entry with this stamp.
    #[must_use]
    pub fn at(self, stamp: Millis) -> Millis {
        self.after(stamp).time
    }

    /// The time after an entry with this stamp.
    #[must_use]
    pub fn after(self, stamp: Millis) -> Self {
        if stamp.plus(WAVERS_MS) < self.stamp {
            // The clock was put right: from here on it is counted anew.
            return Self {
                stamp,
                time: self.time,
            };
        }
        let passed_ms = stamp.0.saturating_sub(self.stamp.0);
        if stamp >= self.time {
            return Self { time: stamp, stamp };
        }
        if passed_ms > COUNTED_MS_MAX {
            let time = self.time.plus(COUNTED_MS_MAX / OF * KEEPS);
            return Self { time, stamp };
        }
        // What is left over is counted with the next entry: many come within one step.
        let steps = passed_ms / OF;
        Self {
            time: self.time.plus(steps * KEEPS),
            stamp: self.stamp.plus(steps * OF),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const BEGAN: Millis = Millis(1_700_000_000_000);

    fn began() -> ShardTime {
        ShardTime::default().after(BEGAN)
    }

    #[test]
    fn while_stamps_go_up_the_time_is_the_stamp() {
        let mut time = began();
        for ms in [0, 1, 7, 8, 9, 40, HOUR_MS, 40 * 24 * HOUR_MS] {
            time = time.after(BEGAN.plus(ms));
            assert_eq!(time.last(), BEGAN.plus(ms));
        }
    }

    #[test]
    fn after_a_leap_and_back_waits_take_about_as_long_as_they_should() {
        for ahead in [HOUR_MS, 24 * HOUR_MS, 40 * 24 * HOUR_MS] {
            for every in [1, 3, 250, 9_000] {
                let mut time = began().after(BEGAN.plus(ahead)).after(BEGAN.plus(1));
                let until = time.last().plus(10_000);
                let mut waited = 1;
                while time.last() < until {
                    waited += every;
                    time = time.after(BEGAN.plus(waited));
                }
                let longest = 10_000 * OF / KEEPS + every + 2 * OF;
                assert!(
                    (10_000..=longest).contains(&waited),
                    "{ahead} {every}: {waited}"
                );
            }
        }
    }

    #[test]
    fn a_clock_that_was_behind_and_is_put_right_does_not_take_the_time_along() {
        for behind in [HOUR_MS, 24 * HOUR_MS, 50 * 365 * 24 * HOUR_MS] {
            let mut time = began();
            for turn in 0..100 {
                let stamp = BEGAN.plus(turn * 1_000);
                time = time.after(Millis(stamp.0 - behind)).after(stamp);
                assert_eq!(time.last(), stamp);
            }
        }
    }

    #[test]
    fn of_three_clocks_that_are_far_apart_none_takes_the_time_further_than_it_says_by_more_than_what_is_counted()
     {
        let day_ms = 24 * HOUR_MS;
        let mut time = began();
        let changes = 20;
        for _ in 0..changes {
            time = time.after(Millis(BEGAN.0 - 7 * day_ms));
            time = time.after(Millis(BEGAN.0 - 3 * day_ms));
        }
        assert!(time.last() <= BEGAN.plus(changes * COUNTED_MS_MAX));
        assert_eq!(time.after(BEGAN.plus(day_ms)).last(), BEGAN.plus(day_ms));
    }

    #[test]
    fn a_wait_of_an_hour_is_over_after_little_more_where_nobody_asked_meanwhile() {
        let ahead = began().after(BEGAN.plus(40 * 24 * HOUR_MS));
        let put_right = ahead.after(BEGAN.plus(1));
        let until = put_right.last().plus(HOUR_MS * 3 / 4);
        assert!(put_right.at(BEGAN.plus(HOUR_MS)) >= until);
    }

    #[test]
    fn in_the_end_the_time_is_the_stamp_again_and_it_never_goes_back() {
        let mut time = began().after(BEGAN.plus(HOUR_MS)).after(BEGAN);
        let mut last = time.last();
        let mut now = 0;
        while time.last() != BEGAN.plus(now) {
            now += 60_000;
            assert_eq!(time.at(BEGAN.plus(now)), time.after(BEGAN.plus(now)).last());
            time = time.after(BEGAN.plus(now));
            assert!(time.last() >= last);
            last = time.last();
        }
        assert!((7 * HOUR_MS..=9 * HOUR_MS).contains(&now), "{now}");
    }

    #[test]
    fn leaders_that_do_not_agree_to_the_millisecond_do_not_make_the_time_run() {
        let mut time = began();
        for turn in 0..10_000 {
            let off = if turn % 2 == 0 { 900 } else { 0 };
            time = time.after(BEGAN.plus(turn + off));
        }
        assert_eq!(time.last(), BEGAN.plus(9_998 + 900));
    }
}
