//! A load between a sending and a receiving client: messages of several rooms, each counted, none lost.
//!
//! Messages are encrypted before the measurement. When the pool runs out it is gone through again, and each message gets an
//! end of its own: a hub sees only ciphertext, and takes each once. Nobody decrypts them.

use super::process;
use anyhow::{Context, bail, ensure};
use mimi_actors::{
    ids::{RoomUri, UserUri},
    limits::SUBMIT_ITEMS_MAX,
    wire::{
        BVec, Payload,
        answer::Answer,
        door::{Acks, DoorItem, Send},
        event::{ClientSeq, Epoch, RoomSeq, Verdict},
    },
};
use mimi_client::{
    door::{DoorError, EventAcks, EventLane, SendReplies, SendRequests},
    member::{PackageOptions, packages},
};
use mimi_operator::{
    output,
    protocol::{Request, Response, Status},
};
use mimi_stage::{
    Stage,
    cast::{Cast, PATIENCE},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// How long the load runs before the measurement begins.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long everything acknowledged may take to arrive afterwards.
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);
/// Events after which the receiver acknowledges.
const ACK_EVENTS: u64 = 4_096;
/// Samples of memory in a measurement, at most about so many.
const RSS_SAMPLES_MAX: u64 = 60;
/// Number of a room's first message: event 1 is the Commit that adds everybody else, who read from event 2 on.
const FIRST_MESSAGE: u64 = 2;

/// A device of the cast, and its provider.
#[derive(Clone, Copy)]
pub(super) struct Seat {
    pub(super) provider: char,
    pub(super) device: &'static str,
}

/// What is sent, and how.
pub(super) struct Shape {
    pub(super) rooms: usize,
    pub(super) seconds: u64,
    /// Messages in one frame of the sender.
    pub(super) batch: usize,
    /// Length of a message on the wire, in bytes.
    pub(super) message_bytes: usize,
    /// Messages encrypted for each room.
    pub(super) pool: usize,
    /// Time between two frames; none as fast as they are taken.
    pub(super) pace: Option<Duration>,
    /// Whether the sending client reads the rooms too, as clients do: what one has not read is kept.
    pub(super) sender_reads: bool,
}

/// What loads have in common on the command line.
#[derive(Debug, clap::Args)]
pub(super) struct LoadArgs {
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 10, value_parser = super::some::<u64>)]
    pub(super) seconds: u64,
    /// Rooms
    #[arg(long, default_value_t = 16, value_parser = super::some::<usize>)]
    pub(super) rooms: usize,
    /// Messages in one frame of the sending client
    #[arg(long, default_value_t = 64, value_parser = super::some::<usize>)]
    pub(super) batch: usize,
    /// Length of a message on the wire, in bytes
    #[arg(long, default_value_t = 1_024, value_parser = super::message_bytes)]
    pub(super) message_bytes: usize,
    /// Messages encrypted for each room
    #[arg(long, default_value_t = 256, value_parser = super::some::<usize>)]
    pub(super) pool: usize,
    /// Messages a second; as many as are taken without it
    #[arg(long, value_parser = super::positive)]
    pub(super) rate: Option<f64>,
    /// Print one line of JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl LoadArgs {
    /// What is to be sent.
    pub(super) fn shape(&self) -> anyhow::Result<Shape> {
        let batch_max = SUBMIT_ITEMS_MAX.min(self.pool);
        ensure!(
            (1..=batch_max).contains(&self.batch),
            "--batch must be 1 to {batch_max}"
        );
        Ok(Shape {
            rooms: self.rooms,
            seconds: self.seconds,
            batch: self.batch,
            message_bytes: self.message_bytes,
            pool: self.pool,
            pace: pace(self.rate, self.batch)?,
            sender_reads: false,
        })
    }
}

/// Lets a user with one device enter, who lets `host` claim KeyPackages for any room.
pub(super) async fn guest(
    stage: &mut Stage,
    cast: &mut Cast,
    (provider, name, device): (char, &str, &str),
    host: &UserUri,
) -> anyhow::Result<UserUri> {
    let devices = [(device, PackageOptions::default())];
    let user = cast.enter(stage, provider, name, &devices).await?;
    let consent = Request::Consent {
        user: name.to_owned(),
        requester: host.clone().into(),
        room: None,
        grant: Some(true),
    };
    stage.ask(provider, &consent).await?;
    Ok(user)
}

/// The time between two frames of `batch` messages at a rate in messages a second.
pub(super) fn pace(rate: Option<f64>, batch: usize) -> anyhow::Result<Option<Duration>> {
    let Some(rate) = rate else { return Ok(None) };
    let seconds = batch as f64 / rate;
    let pace = Duration::try_from_secs_f64(seconds);
    let pace = pace.ok().filter(|pace| !pace.is_zero());
    pace.map(Some).context("--rate must be above 0")
}

/// Prints figures, for people one to a line.
pub(super) fn print(figures: &serde_json::Value, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(figures);
    }
    let figures = figures.as_object().context("figures are an object")?;
    for (name, value) in figures {
        output::line(&format!("{name:>28}  {value}"));
    }
    Ok(())
}

/// What was measured.
pub(super) struct Measured {
    pub(super) window_s: f64,
    pub(super) events: u64,
    pub(super) lost: u64,
    pub(super) duplicates: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Time between two samples of memory, in seconds.
    pub(super) rss_every_s: u64,
    /// Of each provider: CPU seconds for 100,000 events, and syncs.
    pub(super) providers: BTreeMap<char, Used>,
}

/// What the nodes of a provider used together.
pub(super) struct Used {
    pub(super) cpu_s_per_100k: f64,
    pub(super) syncs: u64,
    /// Whether its first node wrote entries and synced them.
    pub(super) wrote: bool,
    pub(super) peak_rss_mib: f64,
    /// What it held during the measurement, sample by sample.
    pub(super) rss_mib: Vec<f64>,
}

impl Measured {
    pub(super) fn events_per_s(&self) -> f64 {
        self.events as f64 / self.window_s
    }

    pub(super) fn synced(&self) -> bool {
        self.providers.values().all(|used| used.wrote)
    }

    pub(super) fn cpu_s_per_100k(&self) -> f64 {
        let used = self.providers.values();
        used.map(|used| used.cpu_s_per_100k).sum()
    }

    /// A figure of each provider, by its domain.
    pub(super) fn by_provider(&self, figure: fn(&Used) -> f64) -> serde_json::Value {
        let each = self.providers.iter();
        each.map(|(name, used)| (format!("{name}.example"), round(figure(used)).into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

/// The rooms of `creator` at the hub `a`, into which everybody of `users`, with their devices `stocked`, is added, with
/// messages of `sender` that are ready to be sent. Of the added, `joining` enter the group.
pub(super) async fn fill_rooms(
    cast: &mut Cast,
    creator: &str,
    (users, stocked): (&[UserUri], &[String]),
    joining: &[Seat],
    sender: Seat,
    shape: &Shape,
) -> anyhow::Result<Vec<(RoomUri, Vec<Payload>)>> {
    let mut pools = Vec::new();
    for number in 0..shape.rooms {
        let room = RoomUri::new(&"a.example".parse()?, &format!("bench-{number}"))?;
        if number % 8 == 7 {
            for device in stocked {
                cast.get(device)?.upload(8).await?;
            }
        }
        let owner = cast.get(creator)?;
        let claimed = owner.claim(Some(room.clone()), users).await?;
        owner.create_room(&room).await?;
        let claimed = packages(&claimed);
        ensure!(
            claimed.len() == users.len(),
            "a KeyPackage of everybody for {room}"
        );
        let add = owner.prepare_add(&room, &claimed)?;
        owner.commit(&add).await?;
        for seat in joining {
            let member = cast.get(seat.device)?;
            member
                .run_until(PATIENCE, |member| member.epoch(&room) == Some(Epoch(1)))
                .await?;
        }
        let pool =
            cast.get(sender.device)?
                .encrypt_batch(&room, shape.pool, shape.message_bytes)?;
        pools.push((room, pool.into_iter().map(Payload).collect()));
        output::progress(&format!("room {} of {}", number + 1, shape.rooms));
    }
    Ok(pools)
}

/// Sends from one seat, receives at the other, and measures in between.
pub(super) async fn measure(
    stage: &mut Stage,
    cast: &mut Cast,
    seats: (Seat, Seat),
    pools: Vec<(RoomUri, Vec<Payload>)>,
    shape: &Shape,
) -> anyhow::Result<Measured> {
    let running = Running::begin(stage, cast, seats, pools, shape).await?;
    tokio::time::sleep(WARM_UP).await;
    running.latencies();
    let before = Usage::take(stage, &running.seen).await?;
    let mut rss_mib: BTreeMap<char, Vec<f64>> = BTreeMap::new();
    let every = shape.seconds.div_ceil(RSS_SAMPLES_MAX).max(1);
    for second in 1..=shape.seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for name in stage.names().into_iter().filter(|_| second % every == 0) {
            let rss = sum(&stage.pids(name)?, process::rss_mib)?;
            rss_mib.entry(name).or_default().push(round(rss));
        }
        if second % 10 == 0 {
            output::progress(&format!("{second} of {} s", shape.seconds));
        }
    }
    let after = Usage::take(stage, &running.seen).await?;
    let (p50_ms, p99_ms) = running.latencies();
    let (lost, duplicates) = running.end().await?;
    let window_s = after.at.duration_since(before.at).as_secs_f64();
    let events = after.received - before.received;
    ensure!(events > 0, "nothing arrived in {window_s} s");
    let mut providers = BTreeMap::new();
    for (name, side) in after.sides {
        let begun = before.sides.get(&name).context("the same providers")?;
        let used = Used {
            cpu_s_per_100k: (side.cpu_s - begun.cpu_s) * 1e5 / events as f64,
            syncs: side.status.log_syncs - begun.status.log_syncs,
            wrote: side.status.log_entries > begun.status.log_entries
                && side.status.log_syncs > begun.status.log_syncs,
            peak_rss_mib: sum(&stage.pids(name)?, process::peak_rss_mib)?,
            rss_mib: rss_mib.remove(&name).unwrap_or_default(),
        };
        providers.insert(name, used);
    }
    Ok(Measured {
        window_s,
        events,
        lost,
        duplicates,
        p50_ms,
        p99_ms,
        rss_every_s: every,
        providers,
    })
}

/// A load under way.
pub(super) struct Running {
    load: Arc<Load>,
    seen: Arc<Mutex<Seen>>,
    sending: JoinHandle<anyhow::Result<()>>,
    counting: JoinHandle<anyhow::Result<()>>,
    receiving: JoinHandle<anyhow::Result<()>>,
    reading_along: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Running {
    /// Begins to send from one seat and to receive at the other.
    pub(super) async fn begin(
        stage: &mut Stage,
        cast: &mut Cast,
        (sender, receiver): (Seat, Seat),
        pools: Vec<(RoomUri, Vec<Payload>)>,
        shape: &Shape,
    ) -> anyhow::Result<Self> {
        output::progress("load");
        cast.reconnect(stage, receiver.provider).await?;
        let events = cast.get(receiver.device)?.door()?.events().await?;
        let reading_along = if shape.sender_reads {
            let events = cast.get(sender.device)?.door()?.events().await?;
            Some(tokio::spawn(read_along(events)))
        } else {
            None
        };
        let (requests, replies) = cast.get(sender.device)?.door()?.sends().await?.split();
        let load = Arc::new(Load {
            stop: AtomicBool::new(false),
            taken: AtomicU64::new(0),
            sent: pools
                .iter()
                .map(|(room, _)| (room.clone(), Mutex::default()))
                .collect(),
        });
        let seen = Arc::new(Mutex::new(Seen::default()));
        let sending = send(Arc::clone(&load), pools, requests, shape.batch, shape.pace);
        let receiving = receive(Arc::clone(&load), events, Arc::clone(&seen));
        Ok(Self {
            sending: tokio::spawn(sending),
            counting: tokio::spawn(count(Arc::clone(&load), replies)),
            receiving: tokio::spawn(receiving),
            reading_along,
            load,
            seen,
        })
    }

    /// The median and the 99th percentile of what arrived since the last time, in milliseconds.
    pub(super) fn latencies(&self) -> (f64, f64) {
        percentiles(std::mem::take(&mut held(&self.seen).latencies_us))
    }

    /// Events that arrived so far.
    pub(super) fn received(&self) -> u64 {
        held(&self.seen).events
    }

    /// Stops, and waits for what is under way; gives how many were lost and how many came twice.
    pub(super) async fn end(self) -> anyhow::Result<(u64, u64)> {
        self.load.stop.store(true, Ordering::Relaxed);
        self.sending.await??;
        self.counting.await??;
        let taken = self.load.taken.load(Ordering::Relaxed);
        output::progress("draining");
        let drained = Instant::now();
        while held(&self.seen).events < taken && drained.elapsed() < DRAIN_DEADLINE {
            ensure!(!self.receiving.is_finished(), "the event stream ended");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.receiving.abort();
        if let Some(reading) = self.reading_along {
            ensure!(!reading.is_finished(), "the sender's event stream ended");
            reading.abort();
        }
        let seen = held(&self.seen);
        ensure!(seen.gaps == 0, "{} gaps in the rooms' numbers", seen.gaps);
        Ok((taken.saturating_sub(seen.events), seen.duplicates))
    }
}

/// What the two ends of the load share.
struct Load {
    stop: AtomicBool,
    /// Messages that the sender's provider has, for good.
    taken: AtomicU64,
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

/// What all nodes of a provider have used together.
pub(super) fn sum(pids: &[u32], used: fn(u32) -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    pids.iter().map(|pid| used(*pid)).sum()
}

/// What the providers have used, and how far the receiver is, at one moment.
struct Usage {
    at: Instant,
    received: u64,
    sides: BTreeMap<char, Side>,
}

struct Side {
    cpu_s: f64,
    status: Status,
}

impl Usage {
    async fn take(stage: &mut Stage, seen: &Mutex<Seen>) -> anyhow::Result<Self> {
        let mut sides = BTreeMap::new();
        for name in stage.names() {
            let status = status(stage, name).await?;
            let cpu_s = sum(&stage.pids(name)?, process::cpu_s)?;
            sides.insert(name, Side { cpu_s, status });
        }
        Ok(Self {
            at: Instant::now(),
            received: held(seen).events,
            sides,
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

fn held(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn round(value: f64) -> f64 {
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
    pace: Option<Duration>,
) -> anyhow::Result<()> {
    let mut number = 1;
    let mut from = 0;
    let mut beat = pace.map(tokio::time::interval);
    loop {
        for (room, pool) in &pools {
            if load.stop.load(Ordering::Relaxed) {
                return Ok(requests.finish()?);
            }
            if let Some(beat) = &mut beat {
                beat.tick().await;
            }
            let messages = pool.iter().cycle().skip(from).take(batch);
            let numbered = (number..).zip(messages);
            let messages: Vec<Payload> = numbered.map(|(number, of)| ending(of, number)).collect();
            let messages = BVec::try_from(messages)?;
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

/// A message like this one, with its number where the tag ends.
fn ending(message: &Payload, number: u64) -> Payload {
    let mut bytes = message.to_vec();
    if let Some(end) = bytes.last_chunk_mut() {
        *end = number.to_be_bytes();
    }
    bytes.into()
}

/// Counts what the sender's provider has taken: as the hub it has accepted it, as a follower it has queued it. The load
/// sends nothing that should be refused.
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
                matches!(run.verdict, Verdict::Accepted { .. } | Verdict::Queued),
                "refused: {run:?}"
            );
            load.taken
                .fetch_add(u64::from(run.count), Ordering::Relaxed);
        }
    }
}

/// Takes what arrives and acknowledges it now and then.
async fn read_along(events: EventLane) -> anyhow::Result<()> {
    let (mut items, mut acks) = events.split();
    let mut reached: BTreeMap<RoomUri, RoomSeq> = BTreeMap::new();
    let mut unacked = 0;
    loop {
        for item in items.next().await?.items {
            if let DoorItem::Room { room, events } = item
                && let Some(last) = events.last()
            {
                unacked += events.len() as u64;
                reached.insert(room, last.seq);
            }
        }
        if unacked >= ACK_EVENTS {
            unacked = 0;
            acknowledge(&mut acks, &reached).await?;
        }
    }
}

/// Acknowledges rooms up to their last events that were read.
async fn acknowledge(
    acks: &mut EventAcks,
    reached: &BTreeMap<RoomUri, RoomSeq>,
) -> anyhow::Result<()> {
    for rooms in BVec::pieces(reached.clone()) {
        let reached = Acks {
            inbox: None,
            rooms,
            control: BVec::default(),
        };
        acks.ack(&reached).await?;
    }
    Ok(())
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
            acknowledge(&mut acks, &reached).await?;
        }
    }
}
