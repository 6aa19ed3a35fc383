//! `bench fanout`: two providers, rooms at one, one member on each side; every event synced on both sides and counted at
//! the follower's client.
//!
//! Messages are encrypted before the measurement. When the pool runs out its ciphertexts are sent again under new
//! numbers: a hub sees only ciphertext and tells messages apart by their number.
//!
//! Source: transport requirements, section 5.

use super::{ceiling, process};
use crate::{
    admin::protocol::{Request, Response, Status},
    cli::{
        output,
        stage::{
            Stage,
            cast::{Cast, PATIENCE},
        },
    },
    client::{
        door::{DoorError, EventLane, SendReplies, SendRequests},
        member::{PackageOptions, packages},
    },
};
use anyhow::{Context, bail, ensure};
use mimi_actors::{
    ids::RoomUri,
    limits::SUBMIT_ITEMS_MAX,
    wire::{
        BVec, Payload,
        answer::Answer,
        door::{Acks, DoorItem, Send},
        event::{ClientSeq, Epoch, RoomSeq, Verdict},
    },
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long the load runs before the measurement begins.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long everything acknowledged may take to arrive afterwards.
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);
/// How long raw QUIC is measured.
const CEILING: Duration = Duration::from_secs(3);
/// Events after which the receiver acknowledges.
const ACK_EVENTS: u64 = 4_096;
/// Number of a room's first message: event 1 is the Commit that adds the receiver, who reads from event 2 on.
const FIRST_MESSAGE: u64 = 2;

/// Arguments of `bench fanout`.
#[derive(Debug, clap::Args)]
pub(super) struct Fanout {
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rooms
    #[arg(long, default_value_t = 16)]
    rooms: usize,
    /// Messages in one frame of the sending client
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Length of a message on the wire, in bytes
    #[arg(long, default_value_t = 1_024)]
    message_bytes: usize,
    /// Messages encrypted for each room
    #[arg(long, default_value_t = 256)]
    pool: usize,
    /// Nodes of each provider; with three, every event is synced on two of them
    #[arg(long, default_value_t = 1)]
    nodes: u64,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// What the two ends of the load share.
struct Load {
    stop: AtomicBool,
    accepted: AtomicU64,
    /// When each message of each room was sent, by its number.
    sent: BTreeMap<RoomUri, Mutex<Vec<Instant>>>,
}

/// What the receiver saw.
#[derive(Default)]
struct Seen {
    next: BTreeMap<RoomUri, u64>,
    events: u64,
    duplicates: u64,
    gaps: u64,
    latencies_us: Vec<u32>,
}

impl Fanout {
    /// Measures and prints.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let batch_max = SUBMIT_ITEMS_MAX.min(self.pool);
        ensure!(
            (1..=batch_max).contains(&self.batch),
            "--batch must be 1 to {batch_max}"
        );
        output::progress("raw QUIC between two processes");
        let ceiling = ceiling::measure(self.message_bytes, self.batch, CEILING).await?;
        output::progress("two providers, rooms, members, encrypted messages");
        let mut stage = Stage::build(&['a', 'b'], self.nodes, None).await?;
        let figures = self.measure(&mut stage, ceiling).await?;
        stage.end().await?;
        self.print(&figures)?;
        let lost = figures.get("lost").and_then(serde_json::Value::as_u64);
        ensure!(lost == Some(0), "acknowledged events were lost");
        Ok(())
    }

    fn print(&self, figures: &serde_json::Value) -> anyhow::Result<()> {
        if self.json {
            return output::json(figures);
        }
        let figures = figures.as_object().context("figures are an object")?;
        for (name, value) in figures {
            output::line(&format!("{name:>28}  {value}"));
        }
        Ok(())
    }

    async fn measure(&self, stage: &mut Stage, ceiling: f64) -> anyhow::Result<serde_json::Value> {
        let mut cast = Cast::default();
        let usual = PackageOptions::default;
        let alice = cast
            .enter(stage, 'a', "alice", &[("alice1", usual())])
            .await?;
        let bob = cast.enter(stage, 'b', "bob", &[("bob1", usual())]).await?;
        let consent = Request::Consent {
            user: "bob".into(),
            requester: alice.into(),
            room: None,
            grant: Some(true),
        };
        stage.ask('b', &consent).await?;
        let mut pools: Vec<(RoomUri, Vec<Payload>)> = Vec::new();
        for number in 0..self.rooms {
            let room = RoomUri::new(&"a.example".parse()?, &format!("bench-{number}"))?;
            if number % 8 == 7 {
                cast.get("bob1")?.upload(8).await?;
            }
            let sender = cast.get("alice1")?;
            let claimed = sender
                .claim(Some(room.clone()), std::slice::from_ref(&bob))
                .await?;
            sender.create_room(&room).await?;
            let add = sender.prepare_add(&room, &packages(&claimed))?;
            sender.commit(&add).await?;
            let pool = sender.encrypt_batch(&room, self.pool, self.message_bytes)?;
            let receiver = cast.get("bob1")?;
            receiver
                .run_until(PATIENCE, |member| member.epoch(&room) == Some(Epoch(1)))
                .await?;
            pools.push((room, pool.into_iter().map(Payload).collect()));
        }
        output::progress("load");
        cast.reconnect(stage, 'b').await?;
        let events = cast.get("bob1")?.door()?.events().await?;
        let (requests, replies) = cast.get("alice1")?.door()?.sends().await?.split();
        let load = Arc::new(Load {
            stop: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            sent: pools
                .iter()
                .map(|(room, _)| (room.clone(), Mutex::default()))
                .collect(),
        });
        let seen = Arc::new(Mutex::new(Seen::default()));
        let distinct = self.pool * self.rooms;
        let sending = tokio::spawn(send(Arc::clone(&load), pools, requests, self.batch));
        let counting = tokio::spawn(count(Arc::clone(&load), replies));
        let receiving = tokio::spawn(receive(Arc::clone(&load), events, Arc::clone(&seen)));

        tokio::time::sleep(WARM_UP).await;
        held(&seen).latencies_us.clear();
        let before = Usage::take(stage, &seen).await?;
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        let after = Usage::take(stage, &seen).await?;
        let latencies = std::mem::take(&mut held(&seen).latencies_us);
        load.stop.store(true, Ordering::Relaxed);
        sending.await??;
        counting.await??;
        let accepted = load.accepted.load(Ordering::Relaxed);
        output::progress("draining");
        let drained = Instant::now();
        while held(&seen).events < accepted && drained.elapsed() < DRAIN_DEADLINE {
            ensure!(!receiving.is_finished(), "the event stream ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        receiving.abort();
        let seen = std::mem::take(&mut *held(&seen));
        ensure!(seen.gaps == 0, "{} gaps in the rooms' numbers", seen.gaps);
        let window = after.at.duration_since(before.at).as_secs_f64();
        let events = after.received - before.received;
        ensure!(events > 0, "nothing arrived in {window} s");
        let events_per_s = events as f64 / window;
        let cpu = |side: fn(&Usage) -> f64| (side(&after) - side(&before)) * 1e5 / events as f64;
        let (hub_cpu, follower_cpu) = (
            cpu(|usage| usage.hub_cpu_s),
            cpu(|usage| usage.follower_cpu_s),
        );
        let (p50, p99) = percentiles(latencies);
        let synced = wrote(&before.hub, &after.hub) && wrote(&before.follower, &after.follower);
        Ok(json!({
            "bench": "fanout",
            "providers": 2,
            "nodes_per_provider": self.nodes,
            "rooms": self.rooms,
            "message_bytes": self.message_bytes,
            "seconds": round(window),
            "events": events,
            "events_per_s": events_per_s.round(),
            "latency_ms": { "p50": p50, "p99": p99 },
            "cpu_s_per_100k": round(hub_cpu + follower_cpu),
            "cpu_s_per_100k_by_side": { "hub": round(hub_cpu), "follower": round(follower_cpu) },
            "peak_rss_mib": {
                "hub": sum(&stage.pids('a')?, process::peak_rss_mib)?.round(),
                "follower": sum(&stage.pids('b')?, process::peak_rss_mib)?.round(),
            },
            "lost": accepted.saturating_sub(seen.events),
            "duplicates": seen.duplicates,
            "synced": synced,
            "syncs": {
                "hub": after.hub.log_syncs - before.hub.log_syncs,
                "follower": after.follower.log_syncs - before.follower.log_syncs,
            },
            "quic_ceiling_events_per_s": ceiling.round(),
            "ratio": round(events_per_s / ceiling),
            "distinct_messages": distinct,
            "batch": self.batch,
        }))
    }
}

/// What all nodes of a provider have used together.
fn sum(pids: &[u32], used: fn(u32) -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    pids.iter().map(|pid| used(*pid)).sum()
}

/// What the two providers have used, and how far the receiver is, at one moment.
struct Usage {
    at: Instant,
    received: u64,
    hub_cpu_s: f64,
    follower_cpu_s: f64,
    hub: Status,
    follower: Status,
}

impl Usage {
    async fn take(stage: &mut Stage, seen: &Mutex<Seen>) -> anyhow::Result<Self> {
        let hub = status(stage, 'a').await?;
        let follower = status(stage, 'b').await?;
        Ok(Self {
            at: Instant::now(),
            received: held(seen).events,
            hub_cpu_s: sum(&stage.pids('a')?, process::cpu_s)?,
            follower_cpu_s: sum(&stage.pids('b')?, process::cpu_s)?,
            hub,
            follower,
        })
    }
}

async fn status(stage: &mut Stage, name: char) -> anyhow::Result<Status> {
    let response = stage.ask(name, &Request::Status).await?;
    let Response::Status(status) = response else {
        bail!("{name}.example answered {response:?}");
    };
    Ok(status)
}

/// Whether the first node of a provider wrote entries and synced them between two moments.
fn wrote(before: &Status, after: &Status) -> bool {
    after.log_entries > before.log_entries && after.log_syncs > before.log_syncs
}

fn held(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// The median and the 99th percentile, in milliseconds.
fn percentiles(mut latencies_us: Vec<u32>) -> (f64, f64) {
    latencies_us.sort_unstable();
    let at = |percent: usize| {
        let place = latencies_us.len().saturating_sub(1) * percent / 100;
        latencies_us
            .get(place)
            .map_or(0.0, |us| f64::from(*us) / 1_000.0)
    };
    (at(50), at(99))
}

/// Sends frames to one room after another until told to stop, then ends the lane.
async fn send(
    load: Arc<Load>,
    pools: Vec<(RoomUri, Vec<Payload>)>,
    mut requests: SendRequests,
    batch: usize,
) -> anyhow::Result<()> {
    let mut number = 1;
    let mut from = 0;
    loop {
        for (room, pool) in &pools {
            if load.stop.load(Ordering::Relaxed) {
                return Ok(requests.finish()?);
            }
            let messages: Vec<Payload> = pool
                .iter()
                .cycle()
                .skip(from)
                .take(batch)
                .cloned()
                .collect();
            let messages = BVec::truncated(messages);
            let sent = load.sent.get(room).context("a room of the load")?;
            sent.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(std::iter::repeat_n(Instant::now(), batch));
            requests
                .send(&Send {
                    room: room.clone(),
                    first: ClientSeq(number),
                    messages,
                })
                .await?;
        }
        number += batch as u64;
        from = (from + batch) % pools.first().map_or(1, |(_, pool)| pool.len().max(1));
    }
}

/// Counts what the hub has accepted; the load sends nothing that it should refuse.
async fn count(load: Arc<Load>, mut replies: SendReplies) -> anyhow::Result<()> {
    loop {
        let sent = match replies.next_sent().await {
            Ok(sent) => sent,
            Err(DoorError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let answer = sent.answer?;
        let Answer::Sent(runs) = answer else {
            bail!("the hub answered {answer:?}");
        };
        for run in runs {
            ensure!(
                matches!(run.verdict, Verdict::Accepted { .. }),
                "refused: {run:?}"
            );
            load.accepted
                .fetch_add(u64::from(run.count), Ordering::Relaxed);
        }
    }
}

/// Counts what arrives, in which order, and how long it took; acknowledges now and then.
async fn receive(load: Arc<Load>, events: EventLane, seen: Arc<Mutex<Seen>>) -> anyhow::Result<()> {
    let (mut items, mut acks) = events.split();
    let mut unacked = 0;
    loop {
        let batch = items.next().await?;
        let now = Instant::now();
        for item in batch.items {
            let DoorItem::Room { room, events } = item else {
                continue;
            };
            let sent = load.sent.get(&room).context("a room of the load")?;
            let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            let mut seen = held(&seen);
            for event in &events {
                if event.seq.0 < FIRST_MESSAGE {
                    continue;
                }
                let next = seen.next.entry(room.clone()).or_insert(FIRST_MESSAGE);
                if event.seq.0 < *next {
                    seen.duplicates += 1;
                    continue;
                }
                let gap = event.seq.0 - *next;
                *next = event.seq.0 + 1;
                seen.gaps += gap;
                seen.events += 1;
                unacked += 1;
                let place = usize::try_from(event.seq.0 - FIRST_MESSAGE)?;
                if let Some(at) = sent.get(place) {
                    let us = now.duration_since(*at).as_micros();
                    seen.latencies_us
                        .push(u32::try_from(us).unwrap_or(u32::MAX));
                }
            }
        }
        if unacked >= ACK_EVENTS {
            unacked = 0;
            let reached = held(&seen)
                .next
                .iter()
                .map(|(room, next)| (room.clone(), RoomSeq(next - 1)))
                .collect();
            acks.ack(&Acks {
                inbox: None,
                rooms: BVec::truncated(reached),
            })
            .await?;
        }
    }
}
