//! A UDP forwarder on loopback that can hold what one side sends, and let it go again.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::{net::UdpSocket, sync::watch, task::JoinHandle};

/// Datagrams held, at most; the oldest are dropped, as a network would.
const HELD_MAX: usize = 4_096;
/// Largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Forwards between one dialling endpoint and its target.
pub(super) struct Proxy {
    address: SocketAddr,
    held: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Begins to forward to `target`.
    pub(super) async fn start(target: SocketAddr) -> std::io::Result<Self> {
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        back.connect(target).await?;
        let address = front.local_addr()?;
        let held = watch::Sender::new(false);
        let task = tokio::spawn(forward(Arc::new(front), Arc::new(back), held.subscribe()));
        Ok(Self {
            address,
            held,
            task,
        })
    }

    /// Where to dial.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds what the dialling side sends, or lets it go.
    pub(super) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(front: Arc<UdpSocket>, back: Arc<UdpSocket>, mut held: watch::Receiver<bool>) {
    let (mut up, mut down) = (vec![0; DATAGRAM_BYTES_MAX], vec![0; DATAGRAM_BYTES_MAX]);
    let mut dialler: Option<SocketAddr> = None;
    let mut waiting: VecDeque<Vec<u8>> = VecDeque::new();
    loop {
        tokio::select! {
            changed = held.changed() => {
                if changed.is_err() {
                    return;
                }
                if !*held.borrow_and_update() {
                    for datagram in waiting.drain(..) {
                        // What is lost here is sent again by QUIC.
                        drop(back.send(&datagram).await);
                    }
                }
            }
            received = front.recv_from(&mut up) => {
                let Ok((bytes, from)) = received else { continue };
                dialler = Some(from);
                let datagram = up.get(..bytes).unwrap_or_default();
                if *held.borrow() {
                    if waiting.len() == HELD_MAX {
                        waiting.pop_front();
                    }
                    waiting.push_back(datagram.to_vec());
                } else {
                    drop(back.send(datagram).await);
                }
            }
            received = back.recv(&mut down) => {
                let (Ok(bytes), Some(to)) = (received, dialler) else { continue };
                drop(front.send_to(down.get(..bytes).unwrap_or_default(), to).await);
            }
        }
    }
}
