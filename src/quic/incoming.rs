//! Connections that come in: whose address is its own, how many of it are under way or up, and how fast they come.
//!
//! Promises: what comes from an address that was not shown to be the sender's costs a Retry packet, and of those that are
//! taken without one only so many handshakes; no address uses up what others need. Nothing that is not proven is
//! counted against an address: anybody can write it on a packet. However many handshakes come at once, what else is ready
//! goes on between them.

use crate::{
    addresses::{Addresses, network_of},
    places::{self, Bound, Place, Places},
};
use mimi_actors::{
    bucket::Rate,
    limits::{
        CLIENT_HANDSHAKES_BURST_PER_ADDRESS, CLIENT_HANDSHAKES_PER_MINUTE_PER_ADDRESS, DOORS_MAX,
        DOORS_PER_ADDRESS_MAX, HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX, HANDSHAKES_UNPROVEN_MAX,
    },
};
use quinn::{Connecting, Connection, ConnectionError, Endpoint, Incoming};
use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

/// How long a handshake may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// Handshakes of addresses that are their own.
const PROVEN: Bound = Bound {
    each: HANDSHAKES_PER_ADDRESS_MAX,
    always: 1,
    all: HANDSHAKES_MAX,
};
/// Handshakes of whoever it may be.
const UNPROVEN: Bound = Bound {
    each: HANDSHAKES_UNPROVEN_MAX,
    always: 0,
    all: HANDSHAKES_UNPROVEN_MAX,
};

/// What a door lets an address have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfAddresses {
    /// Handshakes that one may begin.
    pub handshakes: Rate,
    /// Connections that are up.
    pub connections: Bound,
}

/// What an address of clients may have, unless the operator says otherwise.
impl Default for OfAddresses {
    fn default() -> Self {
        Self {
            handshakes: Rate {
                burst: CLIENT_HANDSHAKES_BURST_PER_ADDRESS,
                per_minute: CLIENT_HANDSHAKES_PER_MINUTE_PER_ADDRESS,
            },
            connections: Bound {
                each: DOORS_PER_ADDRESS_MAX,
                always: 0,
                all: DOORS_MAX,
            },
        }
    }
}

/// What a door has of connections, and what it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GateFigures {
    /// Connections that are up.
    pub connections: places::Figures,
    /// Handshakes under way.
    pub handshakes: places::Figures,
    /// First packets that were told to come again from an address that is their sender's.
    pub retried: u64,
    /// Handshakes that came too fast from one address.
    pub too_fast: u64,
}

/// Watches over the connections that come to one endpoint.
#[derive(Debug)]
pub(super) struct Gate {
    proven: Places<IpAddr>,
    unproven: Places<()>,
    begun: Arc<Addresses>,
    connections: Places<IpAddr>,
    retried: AtomicU64,
    turns: Turns,
}

/// Turns for beginning a handshake, which is cryptography: as many at a time as half of the cores. What waits goes on
/// between two, however many come at once.
#[derive(Clone, Debug)]
struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self(Arc::new(Semaphore::new((cores / 2).max(1))))
    }
}

impl Turns {
    /// Begins a handshake, in its turn.
    async fn begin(&self, incoming: Incoming) -> Result<Connecting, ConnectionError> {
        let turn = self.0.acquire().await;
        let begun = incoming.accept();
        // The next one begins behind everything else that is ready now.
        tokio::task::yield_now().await;
        drop(turn);
        begun
    }
}

impl Gate {
    pub(super) fn new(of: OfAddresses) -> Self {
        Self {
            proven: Places::new(PROVEN),
            unproven: Places::new(UNPROVEN),
            begun: Arc::new(Addresses::new(of.handshakes)),
            connections: Places::new(of.connections),
            retried: AtomicU64::new(0),
            turns: Turns::default(),
        }
    }

    pub(super) fn figures(&self) -> GateFigures {
        GateFigures {
            connections: self.connections.figures(),
            handshakes: self.proven.figures(),
            retried: self.retried.load(Ordering::Relaxed),
            too_fast: self.begun.refused(),
        }
    }

    /// The next handshake that is let in, or `None` when the endpoint is closed.
    pub(super) async fn next(&self, endpoint: &Endpoint) -> Option<Handshake> {
        loop {
            let incoming = endpoint.accept().await?;
            let address = network_of(incoming.remote_address().ip());
            let is_proven = incoming.remote_address_validated();
            let place = if is_proven {
                let place = self.proven.take(&address);
                place.map(|place| UnderWay::Proven { _place: place })
            } else {
                let place = self.unproven.take(&());
                place.map(|place| UnderWay::Unproven { _place: place })
            };
            let Some(place) = place else {
                if is_proven {
                    incoming.refuse();
                } else {
                    // It comes again, from an address that is its own.
                    self.retried.fetch_add(1, Ordering::Relaxed);
                    drop(incoming.retry());
                }
                continue;
            };
            if self.begun.wait_ms(address).is_some() {
                incoming.refuse();
                continue;
            }
            if is_proven {
                self.begun.count(address);
            }
            return Some(Handshake {
                incoming,
                place,
                begun: Arc::clone(&self.begun),
                connections: self.connections.clone(),
                turns: self.turns.clone(),
            });
        }
    }
}

/// A place among the handshakes.
enum UnderWay {
    /// Of an address.
    Proven { _place: Place<IpAddr> },
    /// Of nobody knows whom.
    Unproven { _place: Place<()> },
}

/// Why a handshake leads to no connection.
pub(super) enum NotUp {
    /// It failed.
    Failed(ConnectionError),
    /// There is no place for one more; this one was made in vain.
    Crowded(Connection),
}

/// A connection that came in, and its place.
pub(super) type Up = (Connection, Place<IpAddr>);

/// A handshake that came in.
pub(super) struct Handshake {
    incoming: Incoming,
    place: UnderWay,
    begun: Arc<Addresses>,
    connections: Places<IpAddr>,
    turns: Turns,
}

impl Handshake {
    pub(super) fn remote_address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    pub(super) async fn finish(self) -> Result<Up, NotUp> {
        let Self {
            incoming,
            place,
            begun,
            connections,
            turns,
        } = self;
        let address = network_of(incoming.remote_address().ip());
        let connection = match turns.begin(incoming).await {
            Ok(connecting) => in_time(connecting).await,
            Err(error) => Err(error),
        };
        let connection = connection.map_err(NotUp::Failed)?;
        if matches!(place, UnderWay::Unproven { .. }) {
            // Whoever finishes a handshake receives at its address.
            begun.count(address);
        }
        match connections.take(&address) {
            Some(seat) => Ok((connection, seat)),
            None => Err(NotUp::Crowded(connection)),
        }
    }
}

/// Finishes a handshake, or gives it up.
pub(super) async fn in_time(connecting: Connecting) -> Result<Connection, ConnectionError> {
    let connection = tokio::time::timeout(HANDSHAKE_DEADLINE, connecting).await;
    connection.unwrap_or(Err(ConnectionError::TimedOut))
}
