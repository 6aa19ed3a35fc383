//! A network between nodes that fails when it is told to: each node is reached through a forwarder on
//! loopback, and what one sends another can be cut, lost in part, damaged, delayed, or too long.
//!
//! A node dials from the address on which it listens, so a forwarder knows by the source of a datagram whose it is. What
//! is decided for `from` and `to` holds for every datagram on that way, whoever dialled the connection.

use rand::Rng as _;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::net::UdpSocket;

/// Largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

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

#[derive(Debug, Default)]
struct Known {
    /// The nodes by the address on which they listen, and from which they dial.
    nodes: BTreeMap<SocketAddr, String>,
    ways: BTreeMap<(String, String), Way>,
    /// Datagrams that were dropped.
    dropped: u64,
    /// Of those the ones that were too long.
    too_long: u64,
    /// Datagrams that arrived damaged.
    flipped: u64,
}

/// The network; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Network {
    known: Arc<Mutex<Known>>,
}

impl Network {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to forward to the node `name`, which listens on `target`; gives the address at which it is reached. It ends
    /// with the runtime.
    pub fn reach(&self, name: &str, target: SocketAddr) -> SocketAddr {
        let front = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        front.set_nonblocking(true).unwrap();
        let address = front.local_addr().unwrap();
        self.known().nodes.insert(target, name.to_owned());
        let front = Arc::new(UdpSocket::from_std(front).unwrap());
        tokio::spawn(self.clone().forward(front, name.to_owned(), target));
        address
    }

    /// Makes the way from one to another like this.
    pub fn set(&self, from: &str, to: &str, way: Way) {
        let way_of = (from.to_owned(), to.to_owned());
        self.known().ways.insert(way_of, way);
    }

    /// Cuts what some nodes send to others.
    pub fn cut(&self, from: &[String], to: &[String]) {
        let cut = Way {
            cut: true,
            ..Way::default()
        };
        let mut known = self.known();
        for from in from {
            for to in to {
                known.ways.insert((from.clone(), to.clone()), cut);
            }
        }
    }

    /// Makes every way between any two nodes like this.
    pub fn all(&self, way: Way) {
        let mut known = self.known();
        let names: Vec<String> = known.nodes.values().cloned().collect();
        for from in &names {
            for to in &names {
                known.ways.insert((from.clone(), to.clone()), way);
            }
        }
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.known().ways.clear();
    }

    /// Datagrams that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.known().dropped
    }

    /// Datagrams so far that were too long for their way.
    pub fn too_long(&self) -> u64 {
        self.known().too_long
    }

    /// Datagrams so far that arrived damaged.
    pub fn flipped(&self) -> u64 {
        self.known().flipped
    }

    /// What arrives of a datagram, each time that it does, and after how long; nothing when it is dropped.
    fn arrivals(
        &self,
        from: &str,
        to: &str,
        datagram: &[u8],
    ) -> impl Iterator<Item = (Duration, Vec<u8>)> + use<> {
        let mut known = self.known();
        let way = known.ways.get(&(from.to_owned(), to.to_owned()));
        let way = way.copied().unwrap_or_default();
        let mut random = rand::rng();
        let mut chance = |percent: u32| random.random_range(0..100) < percent;
        let too_long = way.bytes_max.is_some_and(|max| datagram.len() > max);
        if way.cut || too_long || chance(way.lost_percent) {
            known.dropped += 1;
            known.too_long += u64::from(too_long);
            return [None, None].into_iter().flatten();
        }
        let (flipped, doubled) = (chance(way.flipped_percent), chance(way.doubled_percent));
        let mut arrives = datagram.to_vec();
        if flipped && !arrives.is_empty() {
            known.flipped += 1;
            let bit = random.random_range(0..arrives.len() * 8);
            arrives[bit / 8] ^= 1 << (bit % 8);
        }
        let again = doubled.then(|| (way.delay_max.mul_f64(random.random()), arrives.clone()));
        let first = Some((way.delay_max.mul_f64(random.random()), arrives));
        [first, again].into_iter().flatten()
    }

    async fn forward(self, front: Arc<UdpSocket>, to: String, target: SocketAddr) {
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        let mut backs: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
        loop {
            let Ok((bytes, source)) = front.recv_from(&mut datagram).await else {
                continue;
            };
            // A node that is no part of this network is let through.
            let from = self.known().nodes.get(&source).cloned().unwrap_or_default();
            let back = match backs.get(&source) {
                Some(back) => Arc::clone(back),
                None => {
                    let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                    back.connect(target).await.unwrap();
                    let back = Arc::new(back);
                    backs.insert(source, Arc::clone(&back));
                    let way = (to.clone(), from.clone());
                    let returning =
                        self.clone()
                            .give_back(Arc::clone(&back), Arc::clone(&front), source, way);
                    tokio::spawn(returning);
                    back
                }
            };
            for (delay, datagram) in self.arrivals(&from, &to, &datagram[..bytes]) {
                let back = Arc::clone(&back);
                // What is lost here is sent again by QUIC.
                later(delay, async move { drop(back.send(&datagram).await) }).await;
            }
        }
    }

    /// Carries what a node answers back to the one that dialled.
    async fn give_back(
        self,
        back: Arc<UdpSocket>,
        front: Arc<UdpSocket>,
        source: SocketAddr,
        (from, to): (String, String),
    ) {
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            // A node that is down refuses datagrams; it may come back.
            let Ok(bytes) = back.recv(&mut datagram).await else {
                tokio::task::yield_now().await;
                continue;
            };
            for (delay, datagram) in self.arrivals(&from, &to, &datagram[..bytes]) {
                let front = Arc::clone(&front);
                later(delay, async move {
                    drop(front.send_to(&datagram, source).await);
                })
                .await;
            }
        }
    }
}

/// Does something after a while; at once, and in order, without one.
async fn later(delay: Duration, done: impl Future<Output = ()> + Send + 'static) {
    if delay.is_zero() {
        done.await;
        return;
    }
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        done.await;
    });
}
