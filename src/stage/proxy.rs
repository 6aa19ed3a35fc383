//! A network between nodes on this machine that fails when it is told to: each node is reached through a forwarder on
//! loopback, and what one sends another can be cut, held back, lost in part, doubled, damaged, delayed, or too long.
//!
//! A node dials from the address on which it listens, so a forwarder knows by the source of a datagram whose it is. What
//! is decided for `from` and `to` holds for every datagram on that way, whoever dialled the connection. What is lost here
//! is sent again by QUIC.

use rand::Rng as _;
use std::{
    collections::{BTreeMap, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::UdpSocket, task::JoinSet};

/// Datagrams held on one way, at most; the oldest are dropped, as a network would.
const HELD_MAX: usize = 4_096;
/// Largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Endpoints that may dial one node, at most; a story has fewer.
const DIALLERS_MAX: usize = 64;

/// What happens to datagrams on one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Nothing arrives.
    pub cut: bool,
    /// Of a hundred datagrams about so many are lost.
    pub lost_percent: u32,
    /// Of a hundred datagrams that arrive about so many arrive twice.
    pub doubled_percent: u32,
    /// The others arrive so much later, at most; they overtake one another.
    pub delay_max: Duration,
    /// Of a hundred datagrams that arrive about so many have one bit that is another.
    pub flipped_percent: u32,
    /// Longer datagrams are lost; nothing for any length.
    pub bytes_max: Option<usize>,
}

/// From whom, to whom.
type Ends = (String, String);

/// Where datagrams of one way leave the forwarder.
#[derive(Clone, Debug)]
struct Exit {
    socket: Arc<UdpSocket>,
    /// None where the socket is connected.
    to: Option<SocketAddr>,
}

impl Exit {
    async fn send(&self, datagram: &[u8]) {
        match self.to {
            Some(to) => drop(self.socket.send_to(datagram, to).await),
            None => drop(self.socket.send(datagram).await),
        }
    }

    /// Sends after a while; at once, and in order, without one.
    async fn send_later(&self, delay: Duration, datagram: Vec<u8>) {
        if delay.is_zero() {
            self.send(&datagram).await;
            return;
        }
        let exit = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            exit.send(&datagram).await;
        });
    }
}

#[derive(Debug, Default)]
struct State {
    /// The nodes by the address on which they listen, and from which they dial.
    nodes: BTreeMap<SocketAddr, String>,
    ways: BTreeMap<Ends, Way>,
    /// What waits on the ways that are held.
    held: BTreeMap<Ends, VecDeque<(Exit, Vec<u8>)>>,
    /// Datagrams that were dropped.
    dropped: u64,
    /// Of those the ones that were too long.
    too_long: u64,
    /// Datagrams that arrived damaged.
    flipped: u64,
}

/// What becomes of a datagram.
enum Fate {
    /// It arrives as it is.
    Passes,
    /// It arrives in these forms, each after a while; in none where it is lost or held.
    Arrives([Option<(Duration, Vec<u8>)>; 2]),
}

/// The state that forwarders look at.
#[derive(Clone, Debug, Default)]
struct Known(Arc<Mutex<State>>);

/// The network; clones are the same one. Its forwarders end with the last of them.
#[derive(Clone, Debug, Default)]
pub struct Network {
    known: Known,
    forwarders: Arc<Mutex<JoinSet<()>>>,
}

impl Network {
    /// Begins to forward to the node `name`, which listens on `target`; gives the address at which it is reached.
    ///
    /// # Errors
    /// When there is no socket left.
    pub fn reach(&self, name: &str, target: SocketAddr) -> std::io::Result<SocketAddr> {
        let front = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        front.set_nonblocking(true)?;
        let address = front.local_addr()?;
        self.is_at(name, target);
        let front = Arc::new(UdpSocket::from_std(front)?);
        let forwarding = forward(self.known.clone(), front, name.to_owned(), target);
        let mut forwarders = self.forwarders.lock();
        let forwarders = forwarders
            .as_mut()
            .unwrap_or_else(|poisoned| poisoned.get_mut());
        forwarders.spawn(forwarding);
        Ok(address)
    }

    /// Whatever comes from this address is sent by `name`.
    pub fn is_at(&self, name: &str, address: SocketAddr) {
        self.known.state().nodes.insert(address, name.to_owned());
    }

    /// Cuts what some nodes send to others.
    pub fn cut(&self, from: &[String], to: &[String]) {
        let cut = Way {
            cut: true,
            ..Way::default()
        };
        let mut state = self.known.state();
        for from in from {
            for to in to {
                state.ways.insert((from.clone(), to.clone()), cut);
            }
        }
    }

    /// Makes every way between any two nodes like this.
    pub fn all(&self, way: Way) {
        let mut state = self.known.state();
        let names: Vec<String> = state.nodes.values().cloned().collect();
        for from in &names {
            for to in &names {
                state.ways.insert((from.clone(), to.clone()), way);
            }
        }
    }

    /// Lets everything through again that is not held.
    pub fn heal(&self) {
        self.known.state().ways.clear();
    }

    /// From now on keeps what the one sends to the other, in order.
    pub fn hold(&self, from: &str, to: &str) {
        let ends = (from.to_owned(), to.to_owned());
        self.known.state().held.entry(ends).or_default();
    }

    /// Lets go what was held.
    pub async fn release(&self, from: &str, to: &str) {
        let ends = (from.to_owned(), to.to_owned());
        let held = self.known.state().held.remove(&ends);
        for (exit, datagram) in held.into_iter().flatten() {
            exit.send(&datagram).await;
        }
    }

    /// Datagrams that were dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.known.state().dropped
    }

    /// Datagrams so far that were too long for their way.
    #[must_use]
    pub fn too_long(&self) -> u64 {
        self.known.state().too_long
    }

    /// Datagrams so far that arrived damaged.
    #[must_use]
    pub fn flipped(&self) -> u64 {
        self.known.state().flipped
    }
}

impl Known {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node that dials from an address; a nameless one, which nothing happens to, is no part of this network.
    fn name_at(&self, address: SocketAddr) -> String {
        self.state()
            .nodes
            .get(&address)
            .cloned()
            .unwrap_or_default()
    }

    /// Carries a datagram of one way, or does with it what that way does.
    async fn carry(&self, ends: &Ends, datagram: &[u8], exit: &Exit) {
        let arrivals = match self.fate(ends, datagram, exit) {
            Fate::Passes => return exit.send(datagram).await,
            Fate::Arrives(arrivals) => arrivals,
        };
        for (delay, datagram) in arrivals.into_iter().flatten() {
            exit.send_later(delay, datagram).await;
        }
    }

    fn fate(&self, ends: &Ends, datagram: &[u8], exit: &Exit) -> Fate {
        let mut state = self.state();
        if let Some(held) = state.held.get_mut(ends) {
            if held.len() == HELD_MAX {
                held.pop_front();
            }
            held.push_back((exit.clone(), datagram.to_vec()));
            return Fate::Arrives([None, None]);
        }
        let Some(way) = state.ways.get(ends).copied() else {
            return Fate::Passes;
        };
        let mut random = rand::rng();
        let mut chance = |percent: u32| random.random_range(0..100) < percent;
        let too_long = way.bytes_max.is_some_and(|max| datagram.len() > max);
        if way.cut || too_long || chance(way.lost_percent) {
            state.dropped += 1;
            state.too_long += u64::from(too_long);
            return Fate::Arrives([None, None]);
        }
        let (flipped, doubled) = (chance(way.flipped_percent), chance(way.doubled_percent));
        let mut arrives = datagram.to_vec();
        if flipped && !arrives.is_empty() {
            state.flipped += 1;
            let bit = random.random_range(0..arrives.len() * 8);
            if let Some(byte) = arrives.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
        let again = doubled.then(|| (way.delay_max.mul_f64(random.random()), arrives.clone()));
        Fate::Arrives([
            Some((way.delay_max.mul_f64(random.random()), arrives)),
            again,
        ])
    }
}

async fn forward(known: Known, front: Arc<UdpSocket>, name: String, target: SocketAddr) {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    let mut backs: BTreeMap<SocketAddr, Exit> = BTreeMap::new();
    let mut returning = JoinSet::new();
    loop {
        let Ok((bytes, source)) = front.recv_from(&mut datagram).await else {
            continue;
        };
        let from = known.name_at(source);
        let back = match backs.get(&source) {
            Some(back) => back.clone(),
            None if backs.len() == DIALLERS_MAX => continue,
            None => {
                let Some(back) = open(target).await else {
                    continue;
                };
                let (ends, to) = ((name.clone(), from.clone()), Some(source));
                let socket = Arc::clone(&front);
                let exit = Exit { socket, to };
                returning.spawn(give_back(
                    known.clone(),
                    Arc::clone(&back.socket),
                    ends,
                    exit,
                ));
                backs.insert(source, back.clone());
                back
            }
        };
        let datagram = datagram.get(..bytes).unwrap_or_default();
        known.carry(&(from, name.clone()), datagram, &back).await;
    }
}

/// A way of its own to the target for one dialling endpoint.
async fn open(target: SocketAddr) -> Option<Exit> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
    socket.connect(target).await.ok()?;
    let socket = Arc::new(socket);
    Some(Exit { socket, to: None })
}

/// Carries what a node answers back to the one that dialled.
async fn give_back(known: Known, back: Arc<UdpSocket>, ends: Ends, exit: Exit) {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // A node that is down refuses datagrams; it may come back.
        let Ok(bytes) = back.recv(&mut datagram).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let datagram = datagram.get(..bytes).unwrap_or_default();
        known.carry(&ends, datagram, &exit).await;
    }
}
