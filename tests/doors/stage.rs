//! A provider that is attacked at its doors, and the honest client that notices nothing of it.
//!
//! Loopback has as many addresses as are needed: an attack comes from 127.0.0.9, honest people from 127.0.0.1.

use crate::support::{Net, net::name_of, raw, until};
use mimi_client::member::Member;
use mimi_quic::{DOOR_ALPN, LINK_ALPN};
use quinn::Endpoint;
use std::{
    cell::Cell,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

pub(crate) const A: &str = "a.example";
pub(crate) const B: &str = "b.example";
/// Where attacks come from.
pub(crate) const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
/// How much larger a node may be during an attack, in MiB.
const RSS_MIB_MORE: u64 = 256;
/// How many more files and sockets it may have open.
const DESCRIPTORS_MORE: usize = 64;
/// How many more actors there may be, beside those of who comes: rooms and users that the attackers made.
const ACTORS_MORE: usize = 64;
/// How much longer its log may be, in bytes.
const LOG_BYTES_MORE: u64 = 256 << 20;
/// What nobody notices.
const MOMENT: Duration = Duration::from_millis(50);
/// Requests that an honest client makes while it lasts.
const HONEST: usize = 40;

/// A provider with a client at the door of one of its nodes, which is attacked.
pub(crate) struct Stage {
    pub(crate) net: Net,
    pub(crate) alice: Member,
    held: Held,
    /// Half of the answers came within this before the attack.
    usual: Duration,
    /// How many have come after alice.
    late: Cell<u32>,
}

/// a.example with so many nodes, all of this release; b.example is a peer of it, and does not run.
pub(crate) async fn provider(nodes: u64) -> Net {
    let mut net = Net::prepare_clusters(&[(A, nodes), (B, 1)], None);
    for number in 1..=nodes {
        net.node_mut(&name_of(A, number)).spawn();
    }
    for number in 1..=nodes {
        net.node_mut(&name_of(A, number)).ready().await;
    }
    net.led(A).await;
    for node in net.of(A) {
        node.is_at_level("v0.2").await;
    }
    net
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::of(1).await
    }

    /// A provider of so many nodes.
    pub(crate) async fn of(nodes: u64) -> Self {
        let net = provider(nodes).await;
        let alice = net.member("alice", "phone", A).await;
        let usual = answered_within(&alice).await;
        let held = Held::by(&net).await;
        Self {
            net,
            alice,
            held,
            usual,
            late: Cell::new(0),
        }
    }

    pub(crate) fn door(&self) -> SocketAddr {
        self.net.any(A).door
    }

    /// Dials the clients' door from elsewhere.
    pub(crate) fn dialer(&self, reads: bool) -> Endpoint {
        raw::dialer_from(ELSEWHERE, &self.net.ca(), DOOR_ALPN, None, reads)
    }

    /// Dials the providers' door as b.example.
    pub(crate) fn peer(&self, reads: bool) -> Endpoint {
        let (certificate, key) = (
            self.net.path("b.example.crt"),
            self.net.path("b.example.key"),
        );
        let identity = Some((&*certificate, &*key));
        raw::dialer_from(ELSEWHERE, &self.net.ca(), LINK_ALPN, identity, reads)
    }

    /// What the attacked node holds more than at the beginning.
    async fn more(&self) -> Held {
        let Held {
            rss_mib,
            descriptors,
            actors,
            log_bytes,
        } = Held::by(&self.net).await;
        Held {
            rss_mib: rss_mib.saturating_sub(self.held.rss_mib),
            descriptors: descriptors.saturating_sub(self.held.descriptors),
            actors: actors.saturating_sub(self.held.actors),
            log_bytes: log_bytes.saturating_sub(self.held.log_bytes),
        }
    }

    /// It is over: what the node held for it is given back.
    pub(crate) async fn over(&self) {
        until("the node holds little more than before", async || {
            let Held {
                rss_mib,
                descriptors,
                ..
            } = self.more().await;
            (rss_mib < RSS_MIB_MORE / 2 && descriptors < DESCRIPTORS_MORE / 2).then_some(())
        })
        .await;
        self.nobody_notices().await;
    }

    /// What an honest client notices: nothing.
    pub(crate) async fn nobody_notices(&self) {
        let within = answered_within(&self.alice).await;
        // A moment is nothing in a debug build, beside other tests.
        let most = 2 * self.usual.max(MOMENT);
        assert!(within < most, "{within:?}, before it was {:?}", self.usual);
        self.late.set(self.late.get() + 1);
        let late = format!("late{}", self.late.get());
        let late = self.net.member(&late, "phone", A).await;
        late.door().unwrap().hub_sender().await.unwrap();
        let more = self.more().await;
        // Each who comes late is a user.
        let late = self.late.get() as usize;
        let held = more.rss_mib < RSS_MIB_MORE
            && more.descriptors < DESCRIPTORS_MORE
            && more.actors <= late + ACTORS_MORE
            && more.log_bytes < LOG_BYTES_MORE;
        assert!(held, "{more:?}");
        let errors = self.net.errors();
        assert!(errors.is_empty(), "{errors:#?}\n{}", self.net.tails());
    }
}

/// What a node holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    rss_mib: u64,
    descriptors: usize,
    /// Awake and asleep.
    actors: usize,
    log_bytes: u64,
}

/// Half of some requests of an honest client are answered within this.
async fn answered_within(alice: &Member) -> Duration {
    let mut took = Vec::with_capacity(HONEST);
    for _ in 0..HONEST {
        let asked = Instant::now();
        alice.door().unwrap().hub_sender().await.unwrap();
        took.push(asked.elapsed());
    }
    took.sort_unstable();
    took[HONEST / 2]
}

impl Held {
    /// What the attacked node holds.
    async fn by(net: &Net) -> Self {
        let node = net.any(A);
        let process = format!("/proc/{}", node.pid());
        let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        let status = node.status().await;
        Self {
            rss_mib: kib.parse::<u64>().unwrap() / 1_024,
            descriptors: std::fs::read_dir(format!("{process}/fd")).unwrap().count(),
            actors: status.actors_awake + status.actors_asleep,
            log_bytes: status.log_bytes,
        }
    }
}
