//! Networks that damage or swallow what is sent, peers that are away, and strangers who begin handshakes by the thousand.
//!
//! The long forms take their measure from the environment:
//! `AWAY_S=3600 cargo test --test doors -- --ignored --nocapture away_for_an_hour` and
//! `HANDSHAKES=10000 cargo test --test doors -- --ignored --nocapture ten_thousand`.

use super::{A, B};
use crate::support::{
    Net, Network, Way, invite,
    raw::{self, connect},
    room, until, wait, wait_epoch,
};
use mimi_actors::{ids::RoomUri, wire::event::Epoch};
use mimi_client::member::Member;
use mimi_quic::LINK_ALPN;
use std::time::{Duration, Instant};

/// How long a peer is away, in the short form.
const AWAY: Duration = Duration::from_secs(8);
/// How long a provider that is back may take to be found: the longest wait between two dials, half as long again, and
/// what the rest of a busy machine takes.
const FOUND: Duration = Duration::from_secs(15);
/// Handshakes that are begun, in the short form.
const HANDSHAKES: usize = 500;
/// Handshakes that are under way at a time.
const HANDSHAKES_AT_A_TIME: usize = 100;
/// What a node may grow by while strangers begin handshakes, in KiB.
const GROWTH_KIB_MAX: u64 = 96 << 10;
/// The length of the longest datagram that every network must carry for QUIC (RFC 9000, section 14).
const SHORTEST_MAX_BYTES: usize = 1_200;

/// Alice of one provider and bob of another in one room, and the network between the two.
struct Pair {
    net: Net,
    network: Network,
    alice: Member,
    bob: Member,
    den: RoomUri,
}

impl Pair {
    /// Begins over a network that is like this from the first datagram on.
    async fn over(way: Way) -> Self {
        let network = Network::default();
        let mut net = Net::prepare_over(&[A, B], Some(&network));
        network.all(way);
        for name in [A, B] {
            net.node_mut(name).start().await;
        }
        net.linked().await;
        let mut alice = net.member("alice", "phone", A).await;
        let mut bob = net.guest(("bob", B), alice.client().user(), 1).await;
        let den = room("den", A);
        alice.create_room(&den).await.unwrap();
        let users = [bob.client().user().clone()];
        until("bob is invited", async || {
            invite(&mut alice, &den, &users).await.ok()
        })
        .await;
        wait_epoch(&mut bob, &den, Epoch(1)).await;
        Self {
            net,
            network,
            alice,
            bob,
            den,
        }
    }

    /// Both say this, and both receive all that was ever said, each in one order and once.
    async fn talk(&mut self, texts: &[&str]) {
        let before = self.alice.received(&self.den).len();
        assert_eq!(self.bob.received(&self.den).len(), before);
        self.alice.send(&self.den, texts).await.unwrap();
        self.bob.send(&self.den, texts).await.unwrap();
        let den = self.den.clone();
        let all = before + 2 * texts.len();
        for member in [&mut self.alice, &mut self.bob] {
            wait(member, "everything", |member| {
                member.received(&den).len() >= all && member.unresolved(&den).is_empty()
            })
            .await;
            assert_eq!(member.received(&den).len(), all);
        }
        assert_eq!(self.alice.received(&den), self.bob.received(&den));
    }

    fn end(self) {
        crate::support::agree(&[&self.alice, &self.bob], &self.den);
        assert!(self.net.errors().is_empty(), "{:?}", self.net.errors());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_damages_every_fifth_datagram_costs_time_and_nothing_else() {
    let mut pair = Pair::over(Way::default()).await;
    pair.network.all(Way {
        flipped_percent: 20,
        ..Way::default()
    });
    let text = "x".repeat(10_000);
    for _ in 0..8 {
        pair.talk(&[&text, "and some words"]).await;
    }
    let flipped = pair.network.flipped();
    println!("{flipped} datagrams were damaged");
    assert!(flipped > 10, "{flipped}");
    pair.network.heal();
    pair.talk(&["whole again"]).await;
    pair.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_for_short_datagrams_alone_carries_everything() {
    let short = Way {
        bytes_max: Some(SHORTEST_MAX_BYTES),
        ..Way::default()
    };
    let mut pair = Pair::over(short).await;
    let text = "x".repeat(100_000);
    pair.talk(&[&text, "and some words"]).await;
    // Both sides look again and again whether longer ones arrive.
    let too_long = pair.network.too_long();
    println!("{too_long} datagrams were too long");
    assert!(too_long > 0);
    pair.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_swallows_long_datagrams_from_now_on_goes_on_carrying_everything() {
    let mut pair = Pair::over(Way::default()).await;
    let text = "x".repeat(100_000);
    pair.talk(&[&text]).await;
    assert_eq!(pair.network.too_long(), 0);
    pair.network.all(Way {
        bytes_max: Some(SHORTEST_MAX_BYTES),
        ..Way::default()
    });
    pair.talk(&[&text, "and some words"]).await;
    let too_long = pair.network.too_long();
    println!("{too_long} datagrams were too long");
    assert!(too_long > 0, "none was longer before");
    pair.end();
}

/// A provider is cut off for so long while the other's members talk on.
async fn away(how_long: Duration) {
    let mut pair = Pair::over(Way::default()).await;
    let (a, b) = ([A.to_owned()], [B.to_owned()]);
    pair.network.cut(&a, &b);
    pair.network.cut(&b, &a);
    let began = Instant::now();
    let mut said = 0;
    while began.elapsed() < how_long {
        let text = format!("number {said}");
        pair.alice.send(&pair.den, &[&text]).await.unwrap();
        pair.bob.send(&pair.den, &[&text]).await.unwrap();
        said += 1;
        let listen = how_long / 20;
        for member in [&mut pair.alice, &mut pair.bob] {
            member.pump(listen / 2).await.unwrap();
        }
    }
    let den = pair.den.clone();
    assert!(said > 5 && pair.bob.unresolved(&den).len() == said);
    assert!(pair.network.dropped() > 0, "nobody was cut off");
    pair.network.heal();
    let healed = Instant::now();
    for member in [&mut pair.alice, &mut pair.bob] {
        wait(member, "everything", |member| {
            member.received(&den).len() == 2 * said && member.unresolved(&den).is_empty()
        })
        .await;
    }
    let found = healed.elapsed();
    println!("after {how_long:?} away all {said} messages each way were there within {found:?}");
    assert!(found < FOUND, "{found:?}");
    pair.talk(&["back"]).await;
    pair.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_was_cut_off_is_found_again_and_gets_everything() {
    away(AWAY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as AWAY_S says, or an hour"]
async fn a_provider_that_was_away_for_an_hour_is_found_again_and_gets_everything() {
    let seconds = std::env::var("AWAY_S").map_or(3_600, |seconds| seconds.parse().unwrap());
    away(Duration::from_secs(seconds)).await;
}

/// Resident memory of a process, in KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.unwrap().split_whitespace().nth(1);
    words.unwrap().parse().unwrap()
}

/// A stranger begins handshakes at the providers' door and finishes none, while members talk over the same door.
async fn handshakes(count: usize) {
    let mut pair = Pair::over(Way::default()).await;
    pair.talk(&["before"]).await;
    let node = pair.net.node(A);
    let (address, pid) = (node.link, node.status().await.pid);
    let before_kib = resident_kib(pid);
    let ca = pair.net.ca();
    let began = Instant::now();
    let mut begun = 0;
    let mut slowest = Duration::ZERO;
    while begun < count {
        // Whoever has no certificate gets no further than the end of the handshake, and holds it for as long as it likes.
        let strangers: Vec<_> = (0..HANDSHAKES_AT_A_TIME.min(count - begun))
            .map(|_| raw::dialer(&ca, LINK_ALPN, None))
            .collect();
        begun += strangers.len();
        let dials = strangers
            .iter()
            .map(|stranger| stranger.connect(address, A).unwrap());
        // Begun, and dropped without a word: what the other side knows of it has to end by itself.
        let under_way: Vec<_> = dials.collect();
        tokio::task::yield_now().await;
        let asked = Instant::now();
        pair.talk(&["meanwhile"]).await;
        slowest = slowest.max(asked.elapsed());
        drop(under_way);
    }
    println!(
        "{begun} handshakes in {:?}; members waited for {slowest:?} at most",
        began.elapsed()
    );
    let grown_kib = resident_kib(pid).saturating_sub(before_kib);
    println!("the node has grown by {grown_kib} KiB");
    assert!(grown_kib < GROWTH_KIB_MAX, "{grown_kib} KiB");
    assert!(slowest < FOUND, "{slowest:?}");
    // A peer that dials anew from an address of its own is let in.
    let (certificate, key) = (
        pair.net.path("b.example.crt"),
        pair.net.path("b.example.key"),
    );
    let identity = Some((certificate.as_path(), key.as_path()));
    let dialer = raw::dialer(&ca, LINK_ALPN, identity);
    until("a peer is let in", async || {
        connect(&dialer, address, A).await.ok()
    })
    .await;
    pair.talk(&["after"]).await;
    pair.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_without_an_end_hold_up_nobody() {
    handshakes(HANDSHAKES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn ten_thousand_handshakes_without_an_end_hold_up_nobody() {
    let count = std::env::var("HANDSHAKES").map_or(10_000, |count| count.parse().unwrap());
    handshakes(count).await;
}
