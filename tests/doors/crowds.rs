//! Crowds at the doors of a real node: many connections, many lanes, first packets in other people's names, clients that do not
//! read. What an honest client notices is nothing: each of its requests is answered, and whoever else comes is let in. What
//! the node holds is bounded while it lasts, and little when it is over.

use crate::{
    stage::{A, B, ELSEWHERE, Stage},
    support::{client, net::name_of, raw, until},
};
use mimi_actors::{
    ids::RoomUri,
    limits::{
        BATCH_ROOMS_MAX, CONNECTIONS_PER_CLIENT_MAX, EVENT_LANES_PER_CONNECTION_MAX,
        REQUESTS_PER_ADDRESS_MAX, STRANGERS_PER_ADDRESS_MAX, WRONG_LOGIN_ANSWER_MS,
        WRONG_LOGINS_BURST_PER_ADDRESS,
    },
    wire::{
        self, BVec, Versioned,
        door::{self, Acks, DoorRefused, EXPORTER_LABEL, Login, Order, Reply, Request},
        event::RoomSeq,
        link,
    },
};
use mimi_client::member::Member;
use mimi_quic::DOOR_ALPN;
use quinn::{Connection, Endpoint};
use raw::Back;
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::{net::UdpSocket, task::JoinSet};

fn framed(value: &impl Versioned) -> Vec<u8> {
    raw::frame(&wire::encode(value))
}

fn ask(request: Request) -> Vec<u8> {
    framed(&door::Open::Request(Box::new(request)))
}

/// The login of a member on a connection, or a wrong one.
fn login(connection: &Connection, member: &Member, right: bool) -> Vec<u8> {
    let client = member.client().clone();
    let mut exported = [0; 32];
    let context = client.to_string();
    let exporting =
        connection.export_keying_material(&mut exported, EXPORTER_LABEL, context.as_bytes());
    exporting.unwrap();
    exported[0] ^= u8::from(!right);
    let proof = member.device().prove(&client, &exported).into();
    ask(Request::Login(Login { client, proof }))
}

fn reply(back: &Back) -> Option<Reply> {
    match back {
        Back::Frame(bytes) => wire::decode::<Reply>(bytes).ok(),
        _ => None,
    }
}

/// Opens lanes with these bytes, as many as the other side lets one open without waiting, and leaves them open.
async fn fill(
    connection: &Connection,
    bytes: &[u8],
) -> Vec<(quinn::SendStream, quinn::RecvStream)> {
    let mut lanes = Vec::new();
    let soon = Duration::from_millis(200);
    while let Ok(Ok((mut to, from))) = tokio::time::timeout(soon, connection.open_bi()).await {
        if to.write_all(bytes).await.is_err() || to.finish().is_err() {
            break;
        }
        lanes.push((to, from));
    }
    lanes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_and_peers_that_do_not_read_their_answers_take_none_from_others() {
    not_read_at(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_and_peers_that_do_not_read_their_answers_take_none_from_others_at_three_nodes() {
    not_read_at(3).await;
}

async fn not_read_at(nodes: u64) {
    let stage = Stage::of(nodes).await;
    let mallory = stage.net.member("mallory", "phone", A).await;
    let (strangers, peers) = (stage.dialer(false), stage.peer(false));
    let mut held = Vec::new();
    for number in 0..24 {
        let connection = raw::connect(&strangers, stage.door(), A).await.unwrap();
        if number < CONNECTIONS_PER_CLIENT_MAX {
            // What it is answered it cannot read either.
            let hello = login(&connection, &mallory, true);
            let (mut to, _) = connection.open_bi().await.unwrap();
            to.write_all(&hello).await.unwrap();
        }
        let lanes = fill(&connection, &ask(Request::HubSender)).await;
        assert!(lanes.len() > 30, "{}", lanes.len());
        held.push((connection, lanes));
    }
    let code = link::Request::Resolve(vec![7; 60].into());
    let resolve = framed(&link::Open::Request(Box::new(code)));
    let mut full = 0;
    for _ in 0..16 {
        let link = stage.net.any(A).link;
        let connection = raw::connect(&peers, link, A).await.unwrap();
        let lanes = fill(&connection, &resolve).await;
        full += lanes.len();
        held.push((connection, lanes));
    }
    assert!(full > 3_000, "{full} lanes of the peer");
    stage.nobody_notices().await;
    drop(held);
    stage.over().await;
}

/// First packets of connections, as a client makes them.
async fn first_packets(dialer: &Endpoint, count: usize) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for _ in 0..count {
        let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = nobody.local_addr().unwrap();
        let _connecting = dialer.connect(address, A).unwrap();
        let mut packet = vec![0; 2_048];
        let bytes = nobody.recv(&mut packet).await.unwrap();
        packet.truncate(bytes);
        packets.push(packet);
    }
    packets
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_in_other_peoples_names_close_neither_door() {
    let mut stage = Stage::new().await;
    let (door, link) = (stage.door(), stage.net.any(A).link);
    let to_door = first_packets(&stage.dialer(true), 300).await;
    let to_link = first_packets(&stage.peer(true), 300).await;
    let sending = tokio::spawn(async move {
        let mut sockets = Vec::new();
        for last in 10..30 {
            let address = Ipv4Addr::new(127, 0, 0, last);
            sockets.push(UdpSocket::bind((address, 0)).await.unwrap());
        }
        // The same ones again are as good as new ones: none is answered.
        for number in 0.. {
            let socket = &sockets[number % sockets.len()];
            let place = number % to_door.len();
            socket.send_to(&to_door[place], door).await.unwrap();
            socket.send_to(&to_link[place], link).await.unwrap();
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    });
    stage.nobody_notices().await;
    // A peer gets in meanwhile, and so does this node at the peer.
    stage.net.node_mut(&name_of(B, 1)).start().await;
    stage.net.linked().await;
    sending.abort();
    stage.over().await;
}

/// Passes packets on from an address, and of what comes back only what asks to come again: a handshake gets as far as its
/// second beginning, and no further.
async fn begin_only(door: SocketAddr) -> SocketAddr {
    let inside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let outside = UdpSocket::bind((ELSEWHERE, 0)).await.unwrap();
    let address = inside.local_addr().unwrap();
    tokio::spawn(async move {
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
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_one_address_begins_and_leaves_are_its_own_loss() {
    let stage = Stage::new().await;
    let relay = begin_only(stage.door()).await;
    let dialer = raw::dialer(&stage.net.ca(), DOOR_ALPN, None);
    let mut begun = JoinSet::new();
    for _ in 0..600 {
        let connecting = dialer.connect(relay, A).unwrap();
        begun.spawn(async move { connecting.await.is_ok() });
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stage.nobody_notices().await;
    begun.abort_all();
    while let Some(came) = begun.join_next().await {
        assert!(!came.unwrap_or(false), "it came through");
    }
    stage.over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_logins_end_their_connection_count_for_their_address_and_change_nothing() {
    wrong_logins_at(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_logins_end_their_connection_count_for_their_address_and_change_nothing_at_three_nodes()
 {
    wrong_logins_at(3).await;
}

async fn wrong_logins_at(nodes: u64) {
    let stage = Stage::of(nodes).await;
    let before = stage.net.any(A).settled().await;
    let dialer = stage.dialer(true);
    let connection = raw::connect(&dialer, stage.door(), A).await.unwrap();
    for _ in 0..3 {
        let back = raw::say(&connection, &login(&connection, &stage.alice, false)).await;
        let refused = Reply::Refused(DoorRefused::NotKnown);
        assert_eq!(reply(&back), Some(refused), "{back:?}");
    }
    // It is closed once the last answer is on its way; what is asked before that is refused.
    until("the connection is closed", async || {
        let back = raw::say(&connection, &ask(Request::HubSender)).await;
        let refused = reply(&back) == Some(Reply::Refused(DoorRefused::NotLoggedIn));
        assert!(refused || back == Back::Closed(2), "{back:?}");
        (!refused).then_some(())
    })
    .await;
    let mut guessing = JoinSet::new();
    for _ in 0..WRONG_LOGINS_BURST_PER_ADDRESS {
        let connection = raw::connect(&dialer, stage.door(), A).await.unwrap();
        let wrong = login(&connection, &stage.alice, false);
        guessing.spawn(async move { raw::say(&connection, &wrong).await });
        // So many are looked at at a time.
        if guessing.len() == REQUESTS_PER_ADDRESS_MAX {
            guessing.join_next().await.unwrap().unwrap();
        }
    }
    while guessing.join_next().await.is_some() {}
    // Not even a right one is looked at from there now.
    let connection = raw::connect(&dialer, stage.door(), A).await.unwrap();
    let back = raw::say(&connection, &login(&connection, &stage.alice, true)).await;
    let later = matches!(reply(&back), Some(Reply::Refused(DoorRefused::TryLater(_))));
    assert!(later, "{back:?}");
    assert_eq!(stage.net.any(A).hashes().await, before);
    stage.nobody_notices().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_has_so_many_connections_and_streams_and_fills_no_memory_with_acknowledgements() {
    let stage = Stage::new().await;
    let mallory = stage.net.member("mallory", "phone", A).await;
    // The member's own connection is the oldest.
    let dialer = stage.dialer(false);
    let rooms = (0..BATCH_ROOMS_MAX).map(|number| {
        let name = format!("{number:-<100}");
        let room: RoomUri = format!("mimi://{A}/r/{name}").parse().unwrap();
        (room, RoomSeq(1))
    });
    let rooms: BVec<_, BATCH_ROOMS_MAX> = BVec::try_from(rooms.collect::<Vec<_>>()).unwrap();
    let acks = framed(&Acks {
        inbox: None,
        rooms: rooms.clone(),
        control: rooms,
    });
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_PER_CLIENT_MAX {
        let connection = raw::connect(&dialer, stage.door(), A).await.unwrap();
        let (mut to, _) = connection.open_bi().await.unwrap();
        to.write_all(&login(&connection, &mallory, true))
            .await
            .unwrap();
        held.push((connection, to));
    }
    let replaced = async { mallory.door().unwrap().closed().await };
    tokio::time::timeout(Duration::from_secs(10), replaced)
        .await
        .expect("the oldest is closed");
    let mut writing = JoinSet::new();
    for (connection, _) in &held {
        for _ in 0..40 {
            let (connection, acks) = (connection.clone(), acks.clone());
            writing.spawn(async move {
                let (mut to, _from) = connection.open_bi().await.unwrap();
                let open = framed(&door::Open::Events(Order::InOrder));
                let mut next = to.write_all(&open).await;
                while next.is_ok() {
                    next = to.write_all(&acks).await;
                }
            });
        }
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    stage.nobody_notices().await;
    drop((writing, held));
    stage.over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_event_stream_too_many_is_told_to_come_again_and_the_others_go_on() {
    let stage = Stage::new().await;
    let dialer = stage.dialer(true);
    let connection = raw::connect(&dialer, stage.door(), A).await.unwrap();
    let back = raw::say(&connection, &login(&connection, &stage.alice, true)).await;
    assert_eq!(reply(&back), Some(Reply::LoggedIn));
    let open = framed(&door::Open::Events(Order::InOrder));
    let mut streams = JoinSet::new();
    for _ in 0..=EVENT_LANES_PER_CONNECTION_MAX {
        let (connection, open) = (connection.clone(), open.clone());
        streams.spawn(async move { raw::say_and_stay(&connection, &open).await });
    }
    // A stream without news says nothing, so the first answer is the refusal.
    let back = streams.join_next().await.unwrap().unwrap();
    let refused = matches!(reply(&back), Some(Reply::Refused(DoorRefused::TryLater(_))));
    assert!(refused, "{back:?}");
    let soon = Duration::from_millis(300);
    let another = tokio::time::timeout(soon, streams.join_next()).await;
    assert!(another.is_err(), "{another:?}");
    drop(streams);
    until("there is room again", async || {
        let opened = raw::say_and_stay(&connection, &open);
        tokio::time::timeout(soon, opened)
            .await
            .is_err()
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_nobodys_have_so_many_places_of_one_address_and_others_come_in() {
    let stage = Stage::new().await;
    let dialer = stage.dialer(true);
    let mut held = Vec::new();
    for _ in 0..STRANGERS_PER_ADDRESS_MAX {
        held.push(raw::connect(&dialer, stage.door(), A).await.unwrap());
    }
    // It hears of it once it is up.
    let crowded = raw::connect(&dialer, stage.door(), A).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(10), crowded.closed()).await;
    assert!(closed.is_ok(), "there is no place for it");
    stage.nobody_notices().await;
    held.clear();
    stage.over().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_login_takes_as_long_whoever_it_is_for() {
    let stage = Stage::new().await;
    let dialer = stage.dialer(true);
    let nobody = client("nobody", "phone", A);
    let elsewhere = client("alice", "phone", B);
    for wrong in [stage.alice.client(), &nobody, &elsewhere] {
        let connection = raw::connect(&dialer, stage.door(), A).await.unwrap();
        let (client, proof) = (wrong.clone(), vec![7; 64].into());
        let asked = Instant::now();
        let back = raw::say(&connection, &ask(Request::Login(Login { client, proof }))).await;
        let refused = matches!(reply(&back), Some(Reply::Refused(DoorRefused::NotKnown)));
        assert!(refused, "{wrong}: {back:?}");
        assert!(
            asked.elapsed() >= Duration::from_millis(WRONG_LOGIN_ANSWER_MS),
            "{wrong}"
        );
    }
}
