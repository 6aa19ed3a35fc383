//! First packets from addresses that are not their sender's, and addresses that have too much.

use super::*;
use crate::places::Bound;
use mimi_actors::{
    bucket::Rate,
    limits::{HANDSHAKES_PER_ADDRESS_MAX, HANDSHAKES_UNPROVEN_MAX},
};
use std::time::Duration;
use tokio::{net::UdpSocket, task::JoinHandle};

/// How long something may take that happens at once.
const SOON: Duration = Duration::from_secs(20);

/// The first packets of so many connections to a.example, as a client makes them.
async fn first_packets(ca: &Ca, count: usize) -> Vec<Vec<u8>> {
    let a = provider("a.example");
    let mut packets = Vec::new();
    for _ in 0..count {
        // One for each: a dialer that is given up says so.
        let nobody = UdpSocket::bind(loopback()).await.unwrap();
        let address = nobody.local_addr().unwrap();
        let dialer = DoorDialer::trusting(&[ca.trust()]).unwrap();
        let mut packet = vec![0; 2_048];
        let bytes = tokio::select! {
            bytes = nobody.recv(&mut packet) => bytes.unwrap(),
            _ = dialer.connect(address, &a) => panic!("nobody answers"),
        };
        packet.truncate(bytes);
        packets.push(packet);
    }
    packets
}

/// Takes whoever comes to a door, and keeps it.
fn serve(endpoint: DoorEndpoint) -> (std::sync::Arc<DoorEndpoint>, JoinHandle<()>) {
    let endpoint = std::sync::Arc::new(endpoint);
    let serving = std::sync::Arc::clone(&endpoint);
    let task = tokio::spawn(async move {
        let mut taken = tokio::task::JoinSet::new();
        while let Some(incoming) = serving.accept().await {
            taken.spawn(async move {
                if let Ok(door) = incoming.establish().await {
                    door.closed().await;
                }
            });
        }
    });
    (endpoint, task)
}

/// Waits until it is so.
async fn until(endpoint: &DoorEndpoint, is_so: impl Fn(GateFigures) -> bool) {
    let waiting = async {
        while !is_so(endpoint.figures()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(SOON, waiting).await;
    waited.unwrap_or_else(|_| panic!("{:?}", endpoint.figures()));
}

/// Connects, as an honest client does.
async fn connect(ca: &Ca, address: SocketAddr) -> Result<Door, ConnectError> {
    let dialer = DoorDialer::trusting(&[ca.trust()]).unwrap();
    let a = provider("a.example");
    let connected = tokio::time::timeout(SOON, dialer.connect(address, &a)).await;
    connected.expect("an answer in time")
}

#[tokio::test]
async fn packets_from_addresses_that_are_not_their_senders_cost_a_retry_and_shut_nobody_out() {
    let ca = Ca::new();
    let endpoint = DoorEndpoint::bind(
        loopback(),
        &ca.identity("a.example"),
        OfAddresses::default(),
    );
    let (endpoint, serving) = serve(endpoint.unwrap());
    let address = endpoint.local_address().unwrap();
    let count = 3 * HANDSHAKES_UNPROVEN_MAX;
    let spoofed = UdpSocket::bind(loopback()).await.unwrap();
    for packet in first_packets(&ca, count).await {
        spoofed.send_to(&packet, address).await.unwrap();
    }
    let told = (count - HANDSHAKES_UNPROVEN_MAX) as u64;
    until(&endpoint, |figures| figures.retried >= told).await;
    let figures = endpoint.figures();
    assert_eq!((figures.connections.taken, figures.too_fast), (0, 0));
    assert!(connect(&ca, address).await.is_ok());
    serving.abort();
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_is_told_so() {
    let ca = Ca::new();
    let two = OfAddresses {
        connections: Bound {
            each: 2,
            always: 0,
            all: 9,
        },
        ..OfAddresses::default()
    };
    let endpoint = DoorEndpoint::bind(loopback(), &ca.identity("a.example"), two).unwrap();
    let (endpoint, serving) = serve(endpoint);
    let address = endpoint.local_address().unwrap();
    let first = connect(&ca, address).await.unwrap();
    let _second = connect(&ca, address).await.unwrap();
    let third = connect(&ca, address).await.unwrap();
    third.closed().await;
    let reason = "too many connections".to_owned();
    let code = u64::from(code::CROWDED);
    assert_eq!(third.ended(), Some(Ended::ByPeer { code, reason }));
    assert_eq!(endpoint.figures().connections.refused, 1);
    first.close(0, "goodbye");
    until(&endpoint, |figures| figures.connections.taken == 1).await;
    let fourth = connect(&ca, address).await.unwrap();
    until(&endpoint, |figures| figures.connections.taken == 2).await;
    assert!(fourth.ended().is_none());
    serving.abort();
}

#[tokio::test]
async fn an_address_that_connects_again_and_again_is_refused_for_a_while() {
    let ca = Ca::new();
    let slow = OfAddresses {
        handshakes: Rate {
            burst: 3,
            per_minute: 1,
        },
        ..OfAddresses::default()
    };
    let endpoint = DoorEndpoint::bind(loopback(), &ca.identity("a.example"), slow).unwrap();
    let (endpoint, serving) = serve(endpoint);
    let address = endpoint.local_address().unwrap();
    for _ in 0..3 {
        // Whether it came up, its end said so.
        connect(&ca, address).await.unwrap().close(0, "goodbye");
    }
    let counted = async { while connect(&ca, address).await.is_ok() {} };
    tokio::time::timeout(SOON, counted).await.unwrap();
    assert!(endpoint.figures().too_fast > 0);
    serving.abort();
}

/// Passes packets on, and of what comes back only what asks to come again: a handshake gets as far as its second beginning.
async fn begin_only(door: SocketAddr) -> (SocketAddr, JoinHandle<()>) {
    let inside = UdpSocket::bind(loopback()).await.unwrap();
    let outside = UdpSocket::bind(loopback()).await.unwrap();
    let address = inside.local_addr().unwrap();
    let relay = tokio::spawn(async move {
        let (mut there, mut back) = (vec![0; 2_048], vec![0; 2_048]);
        let mut dialer = None;
        loop {
            tokio::select! {
                Ok((bytes, from)) = inside.recv_from(&mut there) => {
                    dialer = Some(from);
                    outside.send_to(&there[..bytes], door).await.unwrap();
                }
                Ok((bytes, _)) = outside.recv_from(&mut back) => {
                    let is_retry = back[0] & 0xf0 == 0xf0;
                    if let (true, Some(dialer)) = (is_retry, dialer) {
                        inside.send_to(&back[..bytes], dialer).await.unwrap();
                    }
                }
            }
        }
    });
    (address, relay)
}

#[tokio::test]
async fn an_address_has_only_so_many_handshakes_that_it_does_not_finish() {
    let ca = Ca::new();
    let (identity, of) = (ca.identity("a.example"), OfAddresses::default());
    let endpoint = DoorEndpoint::bind(loopback(), &identity, of).unwrap();
    let (endpoint, serving) = serve(endpoint);
    let (relay, relaying) = begin_only(endpoint.local_address().unwrap()).await;
    let a = provider("a.example");
    let dialer = DoorDialer::trusting(&[ca.trust()]).unwrap();
    let mut begun = tokio::task::JoinSet::new();
    for _ in 0..HANDSHAKES_UNPROVEN_MAX + 2 * HANDSHAKES_PER_ADDRESS_MAX {
        let (dialer, a) = (dialer.clone(), a.clone());
        begun.spawn(async move { drop(dialer.connect(relay, &a).await) });
    }
    until(&endpoint, |figures| figures.handshakes.refused > 0).await;
    let taken = endpoint.figures().handshakes.taken;
    assert!(taken <= HANDSHAKES_PER_ADDRESS_MAX, "{taken}");
    begun.abort_all();
    until(&endpoint, |figures| figures.handshakes.taken == 0).await;
    relaying.abort();
    serving.abort();
}
