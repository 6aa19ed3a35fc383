//! What one address does again and again: how often it may.

use super::counted::Counted;
use mimi_actors::{bucket::Rate, limits::ADDRESSES_COUNTED_MAX};
use std::net::{IpAddr, Ipv6Addr};

/// Counts by address.
#[derive(Debug)]
pub struct Addresses(Counted<IpAddr>);

impl Addresses {
    /// Each may so often.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self(Counted::new(rate, ADDRESSES_COUNTED_MAX))
    }

    /// How long an address has to wait, in milliseconds; `None` when it need not. One that has to wait is refused.
    pub fn wait_ms(&self, address: IpAddr) -> Option<u64> {
        self.0.wait_ms(&network_of(address))
    }

    /// Counts one of an address.
    pub fn count(&self, address: IpAddr) {
        self.0.count(&network_of(address));
    }

    /// How often one was refused, since the start.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused()
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
