//! What one address does again and again: how often it may.

use mimi_actors::{
    bucket::{Buckets, Rate},
    limits::ADDRESSES_COUNTED_MAX,
    machine::Millis,
};
use std::{
    net::{IpAddr, Ipv6Addr},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Counts by address.
#[derive(Debug)]
pub struct Addresses {
    rate: Rate,
    since: Instant,
    counted: Mutex<Buckets<IpAddr>>,
    refused: AtomicU64,
}

impl Addresses {
    /// Each may so often.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            since: Instant::now(),
            counted: Mutex::default(),
            refused: AtomicU64::new(0),
        }
    }

    fn counted(&self) -> MutexGuard<'_, Buckets<IpAddr>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Millis {
        let elapsed = self.since.elapsed().as_millis();
        Millis(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// How long an address has to wait, in milliseconds; `None` when it need not. One that has to wait is refused.
    pub fn wait_ms(&self, address: IpAddr) -> Option<u64> {
        let wait_ms = self
            .counted()
            .wait_ms(&network_of(address), self.rate, self.now());
        if wait_ms.is_some() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        wait_ms
    }

    /// Counts one of an address.
    pub fn count(&self, address: IpAddr) {
        let (address, now) = (network_of(address), self.now());
        self.counted()
            .take(&address, 1, self.rate, now, ADDRESSES_COUNTED_MAX);
    }

    /// How often one was refused, since the start.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// What one machine may have of addresses: of IPv6 a whole /64.
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_comes_again_and_again_is_held_back_and_another_is_not() {
        let addresses = Addresses::new(Rate {
            burst: 3,
            per_minute: 1,
        });
        let admit = |address: &str| {
            let address = address.parse().unwrap();
            let may = addresses.wait_ms(address).is_none();
            if may {
                addresses.count(address);
            }
            may
        };
        for _ in 0..3 {
            assert!(admit("192.0.2.1"));
        }
        assert!(!admit("192.0.2.1"));
        assert!(
            !admit("::ffff:192.0.2.1"),
            "the same in the clothes of IPv6"
        );
        assert!(admit("192.0.2.2"));
        for host in 0..3 {
            assert!(admit(&format!("2001:db8::{host}")));
        }
        assert!(!admit("2001:db8::9"), "one network");
        assert!(admit("2001:db8:0:1::9"));
        assert_eq!(addresses.refused(), 3);
    }
}
