//! Connections that come in: how many at a time, how many of one peer, and how fast from one address.

use mimi_actors::{
    bucket::{Buckets, Rate},
    ids::ProviderId,
    limits::ADDRESSES_COUNTED_MAX,
    machine::Millis,
};
use quinn::{Connecting, Connection, ConnectionError, Endpoint, Incoming};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a handshake may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Handshakes under way at a time.
pub(super) const HANDSHAKES_MAX: usize = 1_024;
/// Handshakes under way after which strangers must first show that they own their address.
const HANDSHAKES_UNPROVEN_MAX: usize = HANDSHAKES_MAX / 2;

/// Counts the handshakes of one endpoint.
#[derive(Debug)]
pub(super) struct Gate {
    under_way: Arc<AtomicUsize>,
    connections_max: usize,
    addresses: Option<Addresses>,
}

/// Counts the handshakes of each address.
#[derive(Debug)]
struct Addresses {
    rate: Rate,
    since: Instant,
    begun: Mutex<Buckets<IpAddr>>,
}

impl Addresses {
    /// Counts a handshake, unless there were too many of this address lately: then it says `false`.
    fn admit(&self, address: IpAddr) -> bool {
        let elapsed = self.since.elapsed().as_millis();
        let now = Millis(u64::try_from(elapsed).unwrap_or(u64::MAX));
        let address = network_of(address);
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let may = begun.wait_ms(&address, self.rate, now).is_none();
        if may {
            begun.take(&address, 1, self.rate, now, ADDRESSES_COUNTED_MAX);
        }
        may
    }
}

/// What one machine may have of addresses: of IPv6 a whole /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Gate {
    pub(super) fn new(connections_max: usize) -> Self {
        Self {
            under_way: Arc::default(),
            connections_max,
            addresses: None,
        }
    }

    /// Lets each address begin only so many handshakes: peers are few, and keep their connections.
    pub(super) fn with_rate(self, rate: Rate) -> Self {
        let addresses = Addresses {
            rate,
            since: Instant::now(),
            begun: Mutex::default(),
        };
        Self {
            addresses: Some(addresses),
            ..self
        }
    }

    /// The next handshake that is let in, or `None` when the endpoint is closed.
    pub(super) async fn next(&self, endpoint: &Endpoint) -> Option<Handshake> {
        loop {
            let incoming = endpoint.accept().await?;
            let under_way = self.under_way.load(Ordering::Relaxed);
            if under_way >= HANDSHAKES_MAX || endpoint.open_connections() >= self.connections_max {
                incoming.refuse();
            } else if under_way >= HANDSHAKES_UNPROVEN_MAX && incoming.may_retry() {
                // It comes again, from an address that is its own.
                drop(incoming.retry());
            } else if let Some(addresses) = &self.addresses
                && !addresses.admit(incoming.remote_address().ip())
            {
                incoming.refuse();
            } else {
                self.under_way.fetch_add(1, Ordering::Relaxed);
                let counted = Counted(Arc::clone(&self.under_way));
                return Some(Handshake { incoming, counted });
            }
        }
    }
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A handshake that came in.
pub(super) struct Handshake {
    incoming: Incoming,
    counted: Counted,
}

impl Handshake {
    pub(super) fn remote_address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    pub(super) async fn finish(self) -> Result<Connection, ConnectionError> {
        let Self { incoming, counted } = self;
        let connection = in_time(incoming.accept()?).await;
        drop(counted);
        connection
    }
}

/// Finishes a handshake, or gives it up.
pub(super) async fn in_time(connecting: Connecting) -> Result<Connection, ConnectionError> {
    let connection = tokio::time::timeout(HANDSHAKE_DEADLINE, connecting).await;
    connection.unwrap_or(Err(ConnectionError::TimedOut))
}

/// Counts the connections of each peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Arc<Mutex<BTreeMap<ProviderId, usize>>>);

impl Seats {
    /// A place for one more connection of `peer`, kept until it is dropped; `None` when it has `max`.
    pub(super) fn take(&self, peer: &ProviderId, max: usize) -> Option<Seat> {
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = seats.entry(peer.clone()).or_default();
        if *taken >= max {
            return None;
        }
        *taken += 1;
        let (seats, peer) = (self.clone(), peer.clone());
        Some(Seat { seats, peer })
    }
}

/// A peer's place for one connection.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    peer: ProviderId,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = seats.get_mut(&self.peer) {
            *taken -= 1;
            if *taken == 0 {
                seats.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_connects_again_and_again_is_held_back_and_another_is_not() {
        let rate = Rate {
            burst: 3,
            per_minute: 1,
        };
        let gate = Gate::new(1).with_rate(rate);
        let addresses = gate.addresses.unwrap();
        let admit = |address: &str| addresses.admit(address.parse().unwrap());
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
    }

    #[test]
    fn a_seat_is_free_again_when_it_is_dropped() {
        let (seats, peer) = (Seats::default(), "b.example".parse().unwrap());
        let first = seats.take(&peer, 2).unwrap();
        let _second = seats.take(&peer, 2).unwrap();
        assert!(seats.take(&peer, 2).is_none());
        assert!(seats.take(&"c.example".parse().unwrap(), 2).is_some());
        drop(first);
        assert!(seats.take(&peer, 2).is_some());
    }
}
