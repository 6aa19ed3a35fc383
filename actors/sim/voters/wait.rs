//! Somebody who waits by the time of a shard, and how long that may take.

use crate::machine::Millis;

/// How long a wait is.
const WAIT_MS: u64 = 10_000;
/// How long it may take, in milliseconds, without outages: shorter by what two clocks may differ and a slow correction,
/// longer by what the time of a shard is slower.
const WAITED_MS: std::ops::RangeInclusive<u64> = 8_000..=12_500;
/// Nothing was accepted for so long: an outage, whose length `available` bounds. A wait may see several.
const OUT_MS_MIN: u64 = 1_000;

/// Somebody waits, by the time of the shard.
pub(super) struct Wait {
    until: Millis,
    /// Since when, and for how long of that there were outages.
    since_ms: u64,
    out_ms: u64,
}

impl Wait {
    /// A wait that begins when the time of the shard is `last`.
    pub(super) fn begin(last: Millis, now_ms: u64) -> Self {
        Self {
            until: last.plus(WAIT_MS),
            since_ms: now_ms,
            out_ms: 0,
        }
    }

    /// Whether it is over when an entry was accepted after `out_ms` without one, with which the shard's time is `last`.
    ///
    /// # Errors
    /// When it took too short or too long, in words.
    pub(super) fn look(&mut self, last: Millis, now_ms: u64, out_ms: u64) -> Result<bool, String> {
        if out_ms >= OUT_MS_MIN {
            self.out_ms += out_ms;
        }
        let waited_ms = now_ms - self.since_ms;
        let too_long = waited_ms - self.out_ms > *WAITED_MS.end();
        let over = last >= self.until;
        if too_long || over && waited_ms < *WAITED_MS.start() {
            let (out_ms, left_ms) = (self.out_ms, self.until.0.saturating_sub(last.0));
            return Err(format!(
                "a wait of {WAIT_MS} ms has {left_ms} ms left after {waited_ms} ms, {out_ms} of them in outages"
            ));
        }
        Ok(over)
    }
}
