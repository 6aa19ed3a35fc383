//! `bench hostile`: how long messages take between two honest providers while a third, to which the hub owes the same
//! messages, misbehaves; each way for a while, after a while in which it behaves. All in one run.
//!
//! Source: transport requirements, section 5; reliability notes, fault rows 16, 17, 21 to 26, 28.

use super::{
    load::{self, Running, Seat, Shape, round},
    process,
};
use anyhow::{Context, ensure};
use bytes::Bytes;
use mimi_actors::{
    ids::{ClientUri, ProviderId, RoomUri},
    limits::BATCH_FRAME_BYTES_MAX,
    wire::{
        self, BVec, Payload,
        event::{LinkSeq, SubmitSeq},
        link::{Ack, Fanout, Hello, OfShard, Open, Submit, SubmitGroup},
        version::{LINK, Release},
    },
};
use mimi_client::member::PackageOptions;
use mimi_operator::output;
use mimi_quic::{Identity, LaneReceiver, LaneSender, Link, LinkEndpoint, PeerTrust};
use mimi_stage::{Stage, cast::Cast};
use serde_json::json;
use std::{collections::BTreeMap, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};

const ALICE: Seat = Seat {
    provider: 'a',
    device: "alice1",
};
const BOB: Seat = Seat {
    provider: 'b',
    device: "bob1",
};
const CAROL: Seat = Seat {
    provider: 'c',
    device: "carol1",
};
/// How long each window runs before it is measured.
const SETTLE: Duration = Duration::from_secs(1);
/// How long a slow peer takes for each acknowledgement.
const SLOW: Duration = Duration::from_secs(1);
/// Rest of the peer between two turns of what it does again and again.
const REST: Duration = Duration::from_millis(5);
/// Messages in a frame of a flood.
const FLOOD_MESSAGES: usize = 64;
/// Length of each of them, in bytes.
const FLOOD_BYTES: usize = 1_024;

/// Ways to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It takes everything and acknowledges nothing.
    Silent,
    /// It acknowledges late, and allows nothing more.
    NoCredit,
    /// It resets every lane.
    Resets,
    /// It answers with bytes that are no frame.
    Garbage,
    /// It sends messages for a room of the hub in which it is, all of them unreadable.
    Floods,
    /// It connects and goes, without end.
    Reconnects,
}

const WAYS: [Way; 6] = [
    Way::Silent,
    Way::NoCredit,
    Way::Resets,
    Way::Garbage,
    Way::Floods,
    Way::Reconnects,
];

/// Arguments of `bench hostile`.
#[derive(Debug, clap::Args)]
pub(super) struct Hostile {
    /// How long to measure each way, and the baseline, in seconds
    #[arg(long, default_value_t = 10, value_parser = super::some::<u64>)]
    seconds: u64,
    /// Messages a second between the honest two
    #[arg(long, default_value_t = 100.0, value_parser = super::positive)]
    rate: f64,
    /// Rooms, with members of all three
    #[arg(long, default_value_t = 16, value_parser = super::some::<usize>)]
    rooms: usize,
    /// Length of a message on the wire, in bytes
    #[arg(long, default_value_t = 1_024, value_parser = super::message_bytes)]
    message_bytes: usize,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// What was measured in a window.
struct Window {
    p50_ms: f64,
    p99_ms: f64,
    rss_mib: f64,
}

impl Hostile {
    /// Measures and prints.
    pub(super) async fn run(self, program: &Path) -> anyhow::Result<()> {
        let shape = Shape {
            rooms: self.rooms,
            seconds: self.seconds,
            batch: 1,
            message_bytes: self.message_bytes,
            pool: 64,
            pace: load::pace(Some(self.rate), 1)?,
            sender_reads: false,
        };
        output::progress("three providers, rooms, members, encrypted messages");
        let mut stage = Stage::build(program, &['a', 'b', 'c'], 1, None).await?;
        let mut cast = Cast::default();
        let alice = [(ALICE.device, PackageOptions::default())];
        let alice = cast.enter(&mut stage, 'a', "alice", &alice).await?;
        let mut users = Vec::new();
        for (name, seat) in [("bob", BOB), ("carol", CAROL)] {
            let who = (seat.provider, name, seat.device);
            users.push(load::guest(&mut stage, &mut cast, who, &alice).await?);
        }
        let stocked = [BOB.device.to_owned(), CAROL.device.to_owned()];
        let added = (users.as_slice(), stocked.as_slice());
        let joining = [BOB, CAROL];
        let pools =
            load::fill_rooms(&mut cast, ALICE.device, added, &joining, ALICE, &shape).await?;
        let flood = Flood {
            room: pools.first().context("a room")?.0.clone(),
            sender: cast.get(CAROL.device)?.client().clone(),
            next: 1,
        };
        let seats = (ALICE, BOB);
        let running = Running::begin(&mut stage, &mut cast, seats, pools, &shape).await?;
        let baseline = self.window(&mut stage, &running).await?;

        stage.kill('c').await?;
        let mut peer = Peer::start(&mut stage, flood)?;
        let mut windows = Vec::new();
        for way in WAYS {
            output::progress(&format!("{way:?}"));
            peer.way.send_replace(way);
            let window = self.window(&mut stage, &running).await?;
            ensure!(!peer.has_ended(), "the hostile peer gave up");
            windows.push((way, window));
        }
        let received = running.received();
        let (lost, duplicates) = running.end().await?;
        drop(peer);
        stage.end().await?;
        let worst = windows.iter().map(|(_, window)| window.p99_ms);
        let worst = worst.fold(0.0, f64::max);
        let each = windows.iter().map(|(way, window)| {
            let ratio = round(window.p99_ms / baseline.p99_ms);
            let figures = json!({
                "p50": window.p50_ms,
                "p99": window.p99_ms,
                "ratio_p99": ratio,
                "rss_mib": window.rss_mib,
            });
            (format!("{way:?}"), figures)
        });
        let figures = json!({
            "bench": "hostile",
            "rooms": self.rooms,
            "rate_per_s": self.rate,
            "seconds_each": self.seconds,
            "events": received,
            "baseline_ms": { "p50": baseline.p50_ms, "p99": baseline.p99_ms },
            "baseline_rss_mib": baseline.rss_mib,
            "hostile_ms": each.collect::<serde_json::Map<_, _>>(),
            "ratio_p99": round(worst / baseline.p99_ms),
            "lost": lost,
            "duplicates": duplicates,
        });
        load::print(&figures, self.json)?;
        ensure!(lost == 0, "acknowledged events were lost");
        Ok(())
    }

    /// Measures for a while; the memory is the hub's.
    async fn window(&self, stage: &mut Stage, running: &Running) -> anyhow::Result<Window> {
        tokio::time::sleep(SETTLE).await;
        running.latencies();
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        let (p50_ms, p99_ms) = running.latencies();
        let rss_mib = round(load::sum(&stage.pids('a')?, process::rss_mib)?);
        Ok(Window {
            p50_ms,
            p99_ms,
            rss_mib,
        })
    }
}

/// The hostile peer: what the hub reaches where the third provider was, and what dials the hub in its name.
struct Peer {
    way: watch::Sender<Way>,
    accepting: JoinHandle<()>,
    dialling: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.accepting.abort();
        self.dialling.abort();
    }
}

impl Peer {
    fn start(stage: &mut Stage, flood: Flood) -> anyhow::Result<Self> {
        let (own, hub) = (stage.link('c')?, stage.link('a')?);
        let endpoint = Arc::new(endpoint(stage.pki(), own)?);
        let way = watch::Sender::new(Way::Silent);
        let accepting = accept(Arc::clone(&endpoint), way.subscribe());
        let dialling = dial(endpoint, hub, way.subscribe(), flood);
        Ok(Self {
            accepting: tokio::spawn(accepting),
            dialling: tokio::spawn(dialling),
            way,
        })
    }

    fn has_ended(&mut self) -> bool {
        self.accepting.is_finished() || self.dialling.is_finished()
    }
}

fn endpoint(pki: &Path, own: SocketAddr) -> anyhow::Result<LinkEndpoint> {
    let identity = Identity::load(&pki.join("c.example.crt"), &pki.join("c.example.key"))?;
    let trust = PeerTrust::Ca(pki.join("ca.crt"));
    let peers = BTreeMap::from([
        ("a.example".parse()?, trust.clone()),
        ("b.example".parse()?, trust),
    ]);
    Ok(LinkEndpoint::bind(own, &identity, &peers)?)
}

async fn accept(endpoint: Arc<LinkEndpoint>, way: watch::Receiver<Way>) {
    let mut links = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        let way = way.clone();
        links.spawn(async move {
            let Ok(link) = incoming.establish().await else {
                return;
            };
            let mut lanes = JoinSet::new();
            while let Ok((to, from)) = link.accept_lane().await {
                let way = way.clone();
                // A lane that ends early has nobody who waits for it.
                lanes.spawn(async move { drop(lane(to, from, way).await) });
            }
        });
        while links.try_join_next().is_some() {}
    }
}

/// Answers a lane of the hub.
async fn lane(
    mut to: LaneSender,
    mut from: LaneReceiver,
    way: watch::Receiver<Way>,
) -> anyhow::Result<()> {
    let open = from.next(BATCH_FRAME_BYTES_MAX, None).await?;
    let open = open.context("a lane begins")?;
    to.speak(LINK.spoken(&open));
    match wire::decode::<Open>(&open)? {
        Open::Control(_) => {
            to.write(&Hello::of(1, Release::OWN)).await?;
            while from.next(BATCH_FRAME_BYTES_MAX, None).await?.is_some() {}
        }
        Open::Fanout => take(to, from, way).await?,
        // The hub is of this release.
        Open::Request(_) | Open::Submit | Open::OneShard { .. } | Open::OneShardSubmits => {}
    }
    Ok(())
}

/// Takes fan-out in the way of the moment.
async fn take(
    mut to: LaneSender,
    mut from: LaneReceiver,
    way: watch::Receiver<Way>,
) -> anyhow::Result<()> {
    while let Some(frame) = from.next(BATCH_FRAME_BYTES_MAX, None).await? {
        let now = *way.borrow();
        match now {
            Way::Silent | Way::Floods | Way::Reconnects => {}
            Way::NoCredit => {
                tokio::time::sleep(SLOW).await;
                let OfShard {
                    shard,
                    session,
                    said: batch,
                } = wire::decode::<OfShard<Fanout>>(&frame)?;
                let items = batch.groups.iter().map(|group| group.items.len() as u64);
                let said = Ack {
                    upto: LinkSeq((batch.first.0 + items.sum::<u64>()).saturating_sub(1)),
                    refused: BVec::default(),
                    credit_bytes: 0,
                    retry_after_ms: None,
                };
                let ack = OfShard {
                    shard,
                    session,
                    said,
                };
                to.write(&ack).await?;
            }
            Way::Resets => {
                to.reset(1);
                from.stop(1);
                return Ok(());
            }
            Way::Garbage => to.send(Bytes::from(vec![0xff; 64])).await?,
        }
    }
    Ok(())
}

/// Messages that no room takes, frame after frame.
struct Flood {
    room: RoomUri,
    sender: ClientUri,
    next: u64,
}

impl Flood {
    fn frame(&mut self) -> Bytes {
        let first = SubmitSeq(self.next);
        self.next += FLOOD_MESSAGES as u64;
        let group = SubmitGroup {
            room: self.room.clone(),
            sender: self.sender.clone(),
            first,
            undecided: first,
            messages: BVec::first_max(vec![Payload::from(vec![6; FLOOD_BYTES]); FLOOD_MESSAGES]),
        };
        let submit = OfShard {
            shard: 0,
            session: 1,
            said: Submit {
                groups: BVec::from([group]),
            },
        };
        wire::encode(&submit)
    }
}

/// Dials the hub and does there what the way of the moment asks for.
async fn dial(
    endpoint: Arc<LinkEndpoint>,
    hub: SocketAddr,
    mut way: watch::Receiver<Way>,
    mut flood: Flood,
) {
    let Ok(peer) = "a.example".parse::<ProviderId>() else {
        return;
    };
    loop {
        let now = *way.borrow_and_update();
        if !matches!(now, Way::Floods | Way::Garbage | Way::Reconnects) {
            if way.changed().await.is_err() {
                return;
            }
            continue;
        }
        if let Ok(link) = endpoint.connect(hub, &peer).await {
            // The hub may end a link that misbehaves; then it dials again.
            drop(attack(&link, now, &way, &mut flood).await);
            link.close(0, "gone");
        }
        tokio::time::sleep(REST).await;
    }
}

async fn attack(
    link: &Link,
    now: Way,
    way: &watch::Receiver<Way>,
    flood: &mut Flood,
) -> anyhow::Result<()> {
    while now != Way::Reconnects && *way.borrow() == now {
        let (mut to, mut from) = link.open_lane().await?;
        if now == Way::Garbage {
            to.send(Bytes::from(vec![0xff; 64])).await?;
            to.finish()?;
            from.next(BATCH_FRAME_BYTES_MAX, None).await?;
            tokio::time::sleep(REST).await;
            continue;
        }
        to.write(&Open::Submit).await?;
        while *way.borrow() == now {
            to.send(flood.frame()).await?;
            from.next(BATCH_FRAME_BYTES_MAX, None)
                .await?
                .context("the hub ended the lane")?;
        }
    }
    Ok(())
}
