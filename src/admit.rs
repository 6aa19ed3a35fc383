//! What a node lets whom have at its doors: every bound that a connection, a login, a request or a lane meets there, in one
//! place. How many handshakes and connections an address may have is decided before that (`quic::OfAddresses`).
//!
//! Promises: each is bounded by itself (an address, a client, a peer), and whoever has little is never refused because
//! others have much; strangers, clients and peers have nothing in common that they could use up for each other. Whoever
//! waits in the queue of a room holds nothing that others need, and neither does who does not read its answer. A node that
//! drains knows of every answer that is on its way.

use crate::{
    quic::{
        Door,
        addresses::{Addresses, network_of},
        code,
        counted::Counted,
        places::{Bound, Figures, Place, Places},
    },
    vain::InVain,
};
use mimi_actors::{
    bucket::Rate,
    ids::{ClientUri, ProviderId, UserUri},
    limits::{
        ASKED_IN_VAIN_BURST_PER_PEER, ASKED_IN_VAIN_PER_MINUTE_PER_PEER,
        CLAIMED_IN_VAIN_BURST_PER_USER, CLAIMED_IN_VAIN_PER_MINUTE_PER_USER,
        CONNECTIONS_PER_CLIENT_MAX, PEER_REQUESTS_MAX, PEER_WAITS_MAX, PEERS_COUNTED_MAX,
        REQUESTS_IN_FLIGHT_MAX, REQUESTS_PER_ADDRESS_MAX, REQUESTS_PER_CLIENT_ALWAYS,
        REQUESTS_PER_CLIENT_MAX, REQUESTS_PER_PEER_ALWAYS, REQUESTS_PER_PEER_MAX,
        ROOMS_CREATED_BURST_PER_USER, ROOMS_CREATED_PER_MINUTE_PER_USER, STRANGER_REQUESTS_MAX,
        STRANGERS_MAX, STRANGERS_PER_ADDRESS_ALWAYS, STRANGERS_PER_ADDRESS_MAX, USERS_COUNTED_MAX,
        WAITS_PER_CLIENT_MAX,
    },
    wire::{refusal::TryLater, room::Request},
};
use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Connections that are nobody's yet, by address.
const STRANGERS: Bound = Bound {
    each: STRANGERS_PER_ADDRESS_MAX,
    always: STRANGERS_PER_ADDRESS_ALWAYS,
    all: STRANGERS_MAX,
};
/// Logins that are looked at, by address.
const STRANGERS_ASK: Bound = Bound {
    each: REQUESTS_PER_ADDRESS_MAX,
    always: 1,
    all: STRANGER_REQUESTS_MAX,
};
/// Requests that are worked on, by client.
const CLIENTS_ASK: Bound = Bound {
    each: REQUESTS_PER_CLIENT_MAX,
    always: REQUESTS_PER_CLIENT_ALWAYS,
    all: REQUESTS_IN_FLIGHT_MAX,
};
/// Requests that are worked on, by peer.
const PEERS_ASK: Bound = Bound {
    each: REQUESTS_PER_PEER_MAX,
    always: REQUESTS_PER_PEER_ALWAYS,
    all: PEER_REQUESTS_MAX,
};
/// Requests that may stand in the queue of a room, by client, whoever its provider is. Rooms bound their queues too.
const CLIENTS_WAIT: Bound = Bound {
    each: WAITS_PER_CLIENT_MAX,
    always: WAITS_PER_CLIENT_MAX,
    all: usize::MAX,
};
/// The same, by peer.
const PEERS_WAIT: Bound = Bound {
    each: PEER_WAITS_MAX,
    always: PEER_WAITS_MAX,
    all: usize::MAX,
};

/// What a peer asks for in vain.
const PEER_IN_VAIN: Rate = Rate {
    burst: ASKED_IN_VAIN_BURST_PER_PEER,
    per_minute: ASKED_IN_VAIN_PER_MINUTE_PER_PEER,
};
/// Users of whom a user of this provider claims in vain.
const CLAIMED_IN_VAIN: Rate = Rate {
    burst: CLAIMED_IN_VAIN_BURST_PER_USER,
    per_minute: CLAIMED_IN_VAIN_PER_MINUTE_PER_USER,
};
/// Rooms that a user creates.
const ROOMS_CREATED: Rate = Rate {
    burst: ROOMS_CREATED_BURST_PER_USER,
    per_minute: ROOMS_CREATED_PER_MINUTE_PER_USER,
};

/// What is taken at the doors of a node, by whom.
#[derive(Debug)]
pub(crate) struct Admission {
    strangers: Places<IpAddr>,
    strangers_ask: Places<IpAddr>,
    wrong_logins: Addresses,
    clients: Mutex<Clients>,
    clients_ask: Places<ClientUri>,
    clients_wait: Places<ClientUri>,
    peers_ask: Places<ProviderId>,
    peers_wait: Places<ProviderId>,
    rooms_created: Counted<UserUri>,
    /// What peers ask for in vain.
    pub(crate) peers_in_vain: InVain<ProviderId>,
    /// Claims of this provider's users that get nothing.
    pub(crate) claims_in_vain: InVain<UserUri>,
    on_their_way: watch::Sender<OnTheirWay>,
}

/// The connections of each client that is logged in, the newest last.
#[derive(Debug, Default)]
struct Clients {
    of: BTreeMap<ClientUri, VecDeque<Door>>,
    replaced: u64,
}

/// Requests whose answers are not written yet.
#[derive(Clone, Copy, Debug, Default)]
struct OnTheirWay {
    count: usize,
    /// The node drains: no more are taken.
    closed: bool,
}

/// A bound and how it stands, for the operator.
pub(crate) struct BoundFigures {
    /// What it bounds.
    pub(crate) name: &'static str,
    /// How many are taken, where that is counted.
    pub(crate) taken: Option<usize>,
    /// How often it refused, since the start.
    pub(crate) refused: u64,
}

impl Admission {
    /// Nothing is taken; each address may have so many wrong logins.
    pub(crate) fn new(wrong_logins: Rate) -> Arc<Self> {
        Arc::new(Self {
            strangers: Places::new(STRANGERS),
            strangers_ask: Places::new(STRANGERS_ASK),
            wrong_logins: Addresses::new(wrong_logins),
            clients: Mutex::default(),
            clients_ask: Places::new(CLIENTS_ASK),
            clients_wait: Places::new(CLIENTS_WAIT),
            peers_ask: Places::new(PEERS_ASK),
            peers_wait: Places::new(PEERS_WAIT),
            rooms_created: Counted::new(ROOMS_CREATED, USERS_COUNTED_MAX),
            peers_in_vain: InVain::new(PEER_IN_VAIN, PEERS_COUNTED_MAX),
            claims_in_vain: InVain::new(CLAIMED_IN_VAIN, USERS_COUNTED_MAX),
            on_their_way: watch::Sender::default(),
        })
    }

    /// A place for a connection that is nobody's yet.
    pub(crate) fn stranger(&self, address: IpAddr) -> Option<Place<IpAddr>> {
        self.strangers.take(&network_of(address))
    }

    /// A turn for a login from an address.
    ///
    /// # Errors
    /// When there is none, with when to come again.
    pub(crate) fn login(self: &Arc<Self>, address: IpAddr) -> Result<Turn, TryLater> {
        if let Some(wait_ms) = self.wrong_logins.wait_ms(address) {
            let wait_ms = u32::try_from(wait_ms).unwrap_or(u32::MAX);
            return Err(TryLater::overloaded(wait_ms));
        }
        let place = self.strangers_ask.take(&network_of(address));
        self.turn(place.map(|place| Held::Stranger { _place: place }))
    }

    /// A login from an address was wrong.
    pub(crate) fn wrong_login(&self, address: IpAddr) {
        self.wrong_logins.count(address);
    }

    /// A turn for a request of a client of this provider.
    ///
    /// # Errors
    /// When there is none, with when to come again.
    pub(crate) fn client(
        self: &Arc<Self>,
        client: &ClientUri,
        waits: bool,
    ) -> Result<Turn, TryLater> {
        let places = if waits {
            &self.clients_wait
        } else {
            &self.clients_ask
        };
        let place = places.take(client);
        self.turn(place.map(|place| Held::Client { _place: place }))
    }

    /// A turn for a request of a peer, which may stand in the queue of a room for `waiting`.
    ///
    /// # Errors
    /// When there is none, with when to come again.
    pub(crate) fn peer(
        self: &Arc<Self>,
        peer: &ProviderId,
        waiting: Option<&ClientUri>,
    ) -> Result<Turn, TryLater> {
        let Some(client) = waiting else {
            let place = self.peers_ask.take(peer);
            return self.turn(place.map(|place| Held::Peer { _place: place }));
        };
        let places = self.peers_wait.take(peer);
        let places = places.and_then(|peers| Some((peers, self.clients_wait.take(client)?)));
        self.turn(places.map(|places| Held::Waiting { _places: places }))
    }

    /// Counts a room that a user wants to create: it costs memory and log for as long as it is there.
    ///
    /// # Errors
    /// When the user has created too many lately, with when to come again.
    pub(crate) fn create(&self, user: &UserUri) -> Result<(), TryLater> {
        if let Some(wait_ms) = self.rooms_created.wait_ms(user) {
            let wait_ms = u32::try_from(wait_ms).unwrap_or(u32::MAX);
            return Err(TryLater::overloaded(wait_ms));
        }
        self.rooms_created.count(user);
        Ok(())
    }

    fn turn(self: &Arc<Self>, held: Option<Held>) -> Result<Turn, TryLater> {
        let held = held.ok_or(TryLater::BUSY)?;
        let mut taken = false;
        self.on_their_way.send_if_modified(|on| {
            taken = !on.closed;
            on.count += usize::from(taken);
            // Only the last one's end is waited for.
            false
        });
        taken
            .then(|| Turn {
                admission: Arc::clone(self),
                held: Some(held),
            })
            .ok_or(TryLater::BUSY)
    }

    /// A connection becomes a client's; where that has too many, its oldest is closed.
    pub(crate) fn enter(self: &Arc<Self>, client: &ClientUri, door: &Door) -> Entered {
        let mut clients = self.clients();
        let doors = clients.of.entry(client.clone()).or_default();
        doors.push_back(door.clone());
        let oldest = (doors.len() > CONNECTIONS_PER_CLIENT_MAX).then(|| doors.pop_front());
        clients.replaced += u64::from(oldest.is_some());
        drop(clients);
        if let Some(oldest) = oldest.flatten() {
            oldest.close(code::CROWDED, "the client has too many connections");
        }
        Entered {
            admission: Arc::clone(self),
            client: client.clone(),
            number: door.number(),
        }
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes no more requests, and waits until every answer is written.
    pub(crate) async fn drain(&self) {
        self.on_their_way.send_modify(|on| on.closed = true);
        let mut on_their_way = self.on_their_way.subscribe();
        // The sender is this.
        let _ = on_their_way.wait_for(|on| on.count == 0).await;
    }

    /// Requests of clients that are worked on, and how many there may be.
    pub(crate) fn client_requests(&self) -> (usize, usize) {
        depth_and_limit(self.clients_ask.figures())
    }

    /// Requests of peers that are worked on, and how many there may be.
    pub(crate) fn peer_requests(&self) -> (usize, usize) {
        depth_and_limit(self.peers_ask.figures())
    }

    /// How each bound stands.
    pub(crate) fn figures(&self) -> Vec<BoundFigures> {
        let places = |name, figures: Figures| BoundFigures {
            name,
            taken: Some(figures.taken),
            refused: figures.refused,
        };
        let counted = |name, refused| BoundFigures {
            name,
            taken: None,
            refused,
        };
        let (connected, replaced) = {
            let clients = self.clients();
            (
                clients.of.values().map(VecDeque::len).sum(),
                clients.replaced,
            )
        };
        vec![
            places("strangers", self.strangers.figures()),
            places("logins", self.strangers_ask.figures()),
            counted("wrong_logins", self.wrong_logins.refused()),
            BoundFigures {
                name: "client_connections",
                taken: Some(connected),
                refused: replaced,
            },
            places("client_requests", self.clients_ask.figures()),
            places("client_waits", self.clients_wait.figures()),
            places("peer_requests", self.peers_ask.figures()),
            places("peer_waits", self.peers_wait.figures()),
            counted("rooms_created", self.rooms_created.refused()),
            counted("peer_in_vain", self.peers_in_vain.refused()),
            counted("claims_in_vain", self.claims_in_vain.refused()),
        ]
    }
}

fn depth_and_limit(figures: Figures) -> (usize, usize) {
    (figures.taken, figures.bound.all)
}

/// Whether a request may stand in the queue of its room.
pub(crate) fn waits(request: &Request) -> bool {
    matches!(request, Request::GroupInfo(asked) if asked.wait_ms > 0)
}

/// What a request holds of its bound.
#[derive(Debug)]
enum Held {
    Stranger {
        _place: Place<IpAddr>,
    },
    Client {
        _place: Place<ClientUri>,
    },
    Peer {
        _place: Place<ProviderId>,
    },
    Waiting {
        _places: (Place<ProviderId>, Place<ClientUri>),
    },
}

/// A request that is worked on, until its answer is written.
#[derive(Debug)]
pub(crate) struct Turn {
    admission: Arc<Admission>,
    held: Option<Held>,
}

impl Turn {
    /// The answer is there: what is left is to write it, which takes nothing from others.
    pub(crate) fn answered(&mut self) {
        self.held = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.admission.on_their_way.send_if_modified(|on| {
            on.count = on.count.saturating_sub(1);
            on.count == 0
        });
    }
}

/// A connection of a client, until it is over.
#[derive(Debug)]
pub(crate) struct Entered {
    admission: Arc<Admission>,
    client: ClientUri,
    number: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut clients = self.admission.clients();
        if let Some(doors) = clients.of.get_mut(&self.client) {
            doors.retain(|door| door.number() != self.number);
            if doors.is_empty() {
                clients.of.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const RATE: Rate = Rate {
        burst: 3,
        per_minute: 1,
    };

    fn client(name: &str) -> ClientUri {
        format!("mimi://a.example/d/{name}/phone").parse().unwrap()
    }

    fn peer(name: &str) -> ProviderId {
        name.parse().unwrap()
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// As many turns as there are.
    fn all<T>(take: impl Fn() -> Result<T, TryLater>) -> Vec<T> {
        std::iter::from_fn(|| take().ok()).collect()
    }

    #[test]
    fn a_user_creates_so_many_rooms_and_another_notices_nothing() {
        let admission = Admission::new(RATE);
        let user = |name: &str| client(name).user().clone();
        let made = (0..ROOMS_CREATED_BURST_PER_USER + 3)
            .filter(|_| admission.create(&user("eve")).is_ok());
        assert_eq!(made.count(), ROOMS_CREATED_BURST_PER_USER as usize);
        let later = admission.create(&user("eve")).unwrap_err();
        assert!((1..=1_000).contains(&later.after_ms), "{later:?}");
        assert_eq!(admission.create(&user("bob")), Ok(()));
    }

    #[test]
    fn strangers_peers_and_other_clients_take_nothing_from_a_client() {
        let admission = Admission::new(RATE);
        let strangers: Vec<_> = (0..40)
            .flat_map(|last| all(|| admission.login(address(last))))
            .collect();
        assert!(strangers.len() >= STRANGER_REQUESTS_MAX);
        let peers = [
            "b.example",
            "c.example",
            "d.example",
            "e.example",
            "f.example",
        ];
        let peers: Vec<_> = peers
            .iter()
            .flat_map(|name| all(|| admission.peer(&peer(name), None)))
            .collect();
        assert!(peers.len() >= PEER_REQUESTS_MAX);
        let others: Vec<_> = (0..100)
            .flat_map(|number| all(|| admission.client(&client(&format!("c{number}")), false)))
            .collect();
        assert!(others.len() >= REQUESTS_IN_FLIGHT_MAX);
        let own = all(|| admission.client(&client("alice"), false));
        assert_eq!(own.len(), REQUESTS_PER_CLIENT_ALWAYS);
        drop((strangers, peers, others));
        let more = all(|| admission.client(&client("alice"), false));
        assert_eq!(own.len() + more.len(), REQUESTS_PER_CLIENT_MAX);
    }

    #[test]
    fn who_waits_in_a_queue_holds_nothing_that_is_needed_to_work() {
        let admission = Admission::new(RATE);
        let (alice, b) = (client("alice"), peer("b.example"));
        let waiting = all(|| admission.client(&alice, true));
        assert_eq!(waiting.len(), WAITS_PER_CLIENT_MAX);
        assert!(admission.client(&alice, false).is_ok());
        let joiners: Vec<_> = (0..PEER_WAITS_MAX)
            .map(|number| client(&format!("j{number}")))
            .collect();
        let joiners: Vec<_> = joiners
            .iter()
            .map(|joiner| admission.peer(&b, Some(joiner)).unwrap())
            .collect();
        assert!(admission.peer(&b, Some(&client("late"))).is_err());
        assert!(
            admission
                .peer(&peer("c.example"), Some(&client("late")))
                .is_ok()
        );
        assert!(admission.peer(&b, None).is_ok());
        drop(joiners);
        assert_eq!(admission.peers_wait.figures().taken, 0);
    }

    #[test]
    fn an_answer_that_is_not_read_takes_nothing_from_others_and_is_waited_for_at_the_end() {
        let admission = Admission::new(RATE);
        let mut turns = all(|| admission.client(&client("alice"), false));
        turns.iter_mut().for_each(Turn::answered);
        assert!(admission.client(&client("alice"), false).is_ok());
        let mut draining = Box::pin(admission.drain());
        assert!(draining.as_mut().now_or_never().is_none());
        assert!(
            admission.client(&client("bob"), false).is_err(),
            "it drains"
        );
        turns.truncate(1);
        assert!(draining.as_mut().now_or_never().is_none());
        turns.clear();
        assert!(draining.now_or_never().is_some());
    }

    #[test]
    fn an_address_whose_logins_are_wrong_waits_and_another_does_not() {
        let admission = Admission::new(RATE);
        for _ in 0..RATE.burst {
            assert!(admission.login(address(1)).is_ok());
            admission.wrong_login(address(1));
        }
        let later = admission.login(address(1)).unwrap_err();
        assert!(!later.is_unavailable() && later.after_ms > 1_000, "{later}");
        assert!(admission.login(address(2)).is_ok());
    }
}
