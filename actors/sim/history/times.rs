//! The checker of the time of shards: it goes back never, and is ahead of what its leaders' clocks said by little.

use super::History;
use crate::{machine::Millis, shard::time::COUNTED_MS_MAX};
use std::collections::BTreeMap;

/// A stamp that is so far from where the stamp before it would be by now is a leap, in milliseconds.
const LEAP_MS: u64 = 60_000;

/// What the logs say of the time of each shard of each provider.
#[derive(Debug, Default)]
pub(in crate::sim) struct Times(BTreeMap<(u8, u16), Told>);

/// What the stamps of one shard were.
#[derive(Clone, Copy, Debug)]
struct Told {
    time: Millis,
    /// The last stamp, and the one that was furthest ahead, as distances from the true time.
    last: i64,
    furthest: i64,
    /// How often the stamps leapt.
    leaps: u64,
}

impl History {
    /// A log has an entry with this stamp, and it is so late then.
    pub(in crate::sim) fn stamped(
        &mut self,
        shard: (u8, u16),
        stamp: Millis,
        time: Millis,
        now: Millis,
    ) {
        let from_now = |at: Millis| at.0.cast_signed() - now.0.cast_signed();
        let distance = from_now(stamp);
        let told = self.times.0.entry(shard).or_insert(Told {
            time,
            last: distance,
            furthest: distance,
            leaps: 0,
        });
        let before = told.time;
        told.leaps += u64::from(told.last.abs_diff(distance) > LEAP_MS);
        told.furthest = told.furthest.max(distance);
        (told.time, told.last) = (time, distance);
        let ahead = from_now(time) - told.furthest;
        // An entry may be applied some time after it was stamped.
        let ahead_max = (LEAP_MS + told.leaps * COUNTED_MS_MAX).cast_signed();
        self.demand("time", before <= time, || {
            format!("the time of {shard:?} goes back from {before:?} to {time:?}")
        });
        self.demand("time", ahead <= ahead_max, || {
            format!("the time of {shard:?} is {ahead} ms ahead of what any leader's clock said")
        });
    }
}
