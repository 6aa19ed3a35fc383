//! A UDP forwarder on loopback that can hold what is sent to its target, and let it go again; and ways between nodes
//! that can be cut, each in one direction.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    net::UdpSocket,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Datagrams held, at most; the oldest are dropped, as a network would.
const HELD_MAX: usize = 4_096;
/// Largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Endpoints that may dial, at most; the story has fewer.
const DIALLERS_MAX: usize = 16;

/// The ways between nodes that are cut: from where, to where. A node dials from the address on which it listens, so the
/// source of a datagram says whose it is. Clones are the same ways.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cuts(Arc<Mutex<BTreeSet<(SocketAddr, SocketAddr)>>>);

impl Cuts {
    fn ways(&self) -> MutexGuard<'_, BTreeSet<(SocketAddr, SocketAddr)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing that `from` sends arrives at `to`.
    pub(crate) fn cut(&self, from: SocketAddr, to: SocketAddr) {
        self.ways().insert((from, to));
    }

    /// From now on everything arrives.
    pub(crate) fn heal(&self) {
        self.ways().clear();
    }

    fn is_cut(&self, from: SocketAddr, to: SocketAddr) -> bool {
        self.ways().contains(&(from, to))
    }
}

/// Forwards between some dialling endpoints and their target.
pub(crate) struct Proxy {
    address: SocketAddr,
    held: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Begins to forward to `target` what is not cut.
    pub(crate) async fn start(target: SocketAddr, cuts: Cuts) -> std::io::Result<Self> {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = front.local_addr()?;
        let held = watch::Sender::new(false);
        let task = tokio::spawn(forward(Arc::new(front), target, held.subscribe(), cuts));
        Ok(Self {
            address,
            held,
            task,
        })
    }

    /// Where to dial.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds what the dialling sides send, or lets it go.
    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(
    front: Arc<UdpSocket>,
    target: SocketAddr,
    mut held: watch::Receiver<bool>,
    cuts: Cuts,
) {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    let mut backs: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut returning = JoinSet::new();
    let mut waiting: VecDeque<(Arc<UdpSocket>, Vec<u8>)> = VecDeque::new();
    loop {
        tokio::select! {
            changed = held.changed() => {
                if changed.is_err() {
                    return;
                }
                if !*held.borrow_and_update() {
                    for (back, datagram) in waiting.drain(..) {
                        // What is lost here is sent again by QUIC.
                        drop(back.send(&datagram).await);
                    }
                }
            }
            received = front.recv_from(&mut datagram) => {
                let Ok((bytes, from)) = received else { continue };
                if cuts.is_cut(from, target) {
                    continue;
                }
                let back = match backs.get(&from) {
                    Some(back) => Arc::clone(back),
                    None if backs.len() == DIALLERS_MAX => continue,
                    None => {
                        let Some(back) = open(target).await else { continue };
                        backs.insert(from, Arc::clone(&back));
                        let ways = (cuts.clone(), target, from);
                        returning.spawn(give_back(Arc::clone(&back), Arc::clone(&front), ways));
                        back
                    }
                };
                let datagram = datagram.get(..bytes).unwrap_or_default();
                if *held.borrow() {
                    if waiting.len() == HELD_MAX {
                        waiting.pop_front();
                    }
                    waiting.push_back((back, datagram.to_vec()));
                } else {
                    drop(back.send(datagram).await);
                }
            }
        }
    }
}

/// A way of its own to the target for one dialling endpoint.
async fn open(target: SocketAddr) -> Option<Arc<UdpSocket>> {
    let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
    back.connect(target).await.ok()?;
    Some(Arc::new(back))
}

/// Carries what the target answers back to who dialled, unless that way is cut.
async fn give_back(
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    (cuts, target, to): (Cuts, SocketAddr, SocketAddr),
) {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // A target that is down refuses datagrams; it may come back.
        let Ok(bytes) = back.recv(&mut datagram).await else {
            tokio::task::yield_now().await;
            continue;
        };
        if !cuts.is_cut(target, to) {
            let datagram = datagram.get(..bytes).unwrap_or_default();
            drop(front.send_to(datagram, to).await);
        }
    }
}
