//! Connections that did not come about, from where and why: told to the operator, so much and no more.

use mimi_actors::{
    bucket::{Bucket, Buckets, Rate},
    limits::ADDRESSES_COUNTED_MAX,
    machine::Millis,
};
use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Instant,
};
use tracing::warn;

/// Lines about one address.
const OF_ONE: Rate = Rate {
    burst: 3,
    per_minute: 1,
};
/// Lines about all of them.
const OF_ALL: Rate = Rate {
    burst: 20,
    per_minute: 10,
};

/// Counts lines, so that nobody outside fills the log.
#[derive(Debug)]
pub struct Strangers {
    /// Whose connection they take theirs to be.
    of: &'static str,
    since: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    of_one: Buckets<IpAddr>,
    of_all: Bucket,
    untold: u64,
}

impl Strangers {
    /// Of connections that should be `of` somebody: another provider, say.
    pub fn new(of: &'static str) -> Self {
        Self {
            of,
            since: Instant::now(),
            state: Mutex::default(),
        }
    }

    /// Tells that a connection did not come about, or counts it.
    pub fn refused(&self, address: SocketAddr, why: &impl Display) {
        let elapsed = self.since.elapsed().as_millis();
        let now = Millis(u64::try_from(elapsed).unwrap_or(u64::MAX));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(untold) = state.may_tell(address.ip(), now) {
            warn!(
                %address,
                %why,
                untold,
                "a connection of {} did not come about",
                self.of
            );
        }
    }
}

impl State {
    /// Whether one more is to be told and, if so, how many were not since the last.
    fn may_tell(&mut self, address: IpAddr, now: Millis) -> Option<u64> {
        let of_one = self.of_one.wait_ms(&address, OF_ONE, now);
        if of_one.or(self.of_all.wait_ms(OF_ALL, now)).is_some() {
            self.untold += 1;
            return None;
        }
        self.of_one
            .take(&address, 1, OF_ONE, now, ADDRESSES_COUNTED_MAX);
        self.of_all.take(1, OF_ALL, now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_fills_no_log_and_what_was_not_told_is_counted() {
        let mut state = State::default();
        let one: IpAddr = "192.0.2.1".parse().unwrap();
        let told = (0..50).filter(|_| state.may_tell(one, Millis(0)).is_some());
        assert_eq!(told.count(), 3);
        let other: IpAddr = "192.0.2.2".parse().unwrap();
        assert_eq!(state.may_tell(other, Millis(0)), Some(47));
        let many = (0..=255_u8).map(|last| IpAddr::from([198, 51, 100, last]));
        let told = many.filter(|address| state.may_tell(*address, Millis(0)).is_some());
        assert_eq!(told.count(), 16);
        assert_eq!(state.may_tell(one, Millis(60_000)), Some(240));
    }
}
