//! The hot parts: a frame out and in, a batch of messages through a room, a link's runs, a batch out of the log, the log.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "benches, where a panic is the report"
)]

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mimi_actors::{
    ids::{ClientUri, RoomUri},
    limits::{LINK_RUNS_MAX, SUBMIT_ITEMS_MAX},
    link::{
        Peer,
        outgoing::{Outgoing, Owed},
    },
    machine::{Fold as _, Millis, Moment, Position},
    mls::tree::view::{GroupView, Member},
    record::{Command as Record, Entry},
    room::{
        hub::{Command, Create, Fold, Submit, Via},
        outcome::Emission,
    },
    shard::{
        Derived, owing,
        read::{ReadError, Source},
    },
    wire::{
        self, BVec, Payload,
        event::{Body, ClientSeq, Copy, Epoch, Event, Item, Lane, LinkSeq, RoomSeq},
        link::{Fanout, FanoutGroup},
        version::Release,
    },
};
use mimi_node::store::{log::Log, round::ShardWrite};
use std::{hint::black_box, sync::Arc};

const MESSAGE_BYTES: usize = 1_024;
const BATCH: usize = SUBMIT_ITEMS_MAX;
/// A moment of the log, so many milliseconds after its beginning.
fn after(ms: u64) -> Moment {
    Moment {
        at: Position {
            entry: 1,
            command: 0,
        },
        time: Millis(ms),
        level: Release::OWN.level,
    }
}

fn room() -> RoomUri {
    "mimi://a.example/r/clubhouse".parse().unwrap()
}

fn alice() -> ClientUri {
    "mimi://a.example/d/alice/phone".parse().unwrap()
}

/// A PrivateMessage of group "g", epoch 0, application; each number is another.
fn message(number: u64) -> Payload {
    let mut bytes = vec![0, 1, 0, 2, 1, b'g', 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 5];
    let length = u16::try_from(MESSAGE_BYTES).unwrap() | 0x4000;
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.resize(bytes.len() + MESSAGE_BYTES - 8, 6);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.into()
}

fn frames(c: &mut Criterion) {
    let event = |seq| {
        Item::Event(Event {
            seq: RoomSeq(seq),
            time: Millis(1),
            body: Body::Application(message(seq)),
        })
    };
    let items = BVec::try_from((1..=BATCH as u64).map(event).collect::<Vec<_>>()).unwrap();
    let group = FanoutGroup {
        room: room(),
        items,
    };
    let fanout = Fanout {
        first: LinkSeq(1),
        groups: BVec::from([group]),
    };
    let frame = wire::encode(&fanout);
    let mut group = c.benchmark_group("frame of 512 events of 1 KiB");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("encode", |b| {
        b.iter(|| wire::encode_sized(black_box(&fanout), frame.len()));
    });
    group.bench_function("decode", |b| {
        b.iter(|| wire::decode::<Fanout>(black_box(&frame)).unwrap());
    });
    group.finish();
}

fn a_room() -> Fold {
    let context = [0, 1, 0, 1, 1, b'g', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let view = GroupView {
        group_context: Bytes::copy_from_slice(&context),
        confirmation_tag: Bytes::new(),
        interim_transcript_hash: Bytes::new(),
        group_info: Bytes::new(),
        tree: Bytes::new(),
    };
    let creator = Member {
        leaf: 0,
        client: alice(),
        signature_key: Bytes::new(),
    };
    let mut fold = Fold::default();
    let create = Create {
        creator: alice(),
        view,
        members: vec![creator],
    };
    fold.apply(after(1), &Command::Create(create));
    fold
}

fn hub(c: &mut Criterion) {
    let submit = Command::Submit(Submit {
        sender: alice(),
        via: Via::Client(ClientSeq(1)),
        messages: BVec::first_max((0..).map(message)),
    });
    let fold = a_room();
    let mut group = c.benchmark_group("hub");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("apply 512 messages", |b| {
        b.iter_batched(
            || fold.clone(),
            |mut fold| {
                let outcome = fold.apply(after(2), black_box(&submit));
                assert_eq!(outcome.emitted.len(), 1);
                outcome
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn link(c: &mut Criterion) {
    let rooms: Vec<RoomUri> = (0..256)
        .map(|i| format!("mimi://a.example/r/room{i}").parse().unwrap())
        .collect();
    let owe = |link: &mut Outgoing| {
        for seq in 0..4 {
            for room in &rooms {
                let (room, first, copy) = (room.clone(), RoomSeq(1 + seq * 512), Copy::Full);
                link.push(Owed::Events { room, first, copy }, 512);
            }
        }
    };
    let mut full = Outgoing::new(LINK_RUNS_MAX);
    owe(&mut full);
    let mut group = c.benchmark_group("link of 1024 runs");
    group.bench_function("fill", |b| {
        b.iter(|| {
            let mut link = Outgoing::new(LINK_RUNS_MAX);
            owe(&mut link);
            link
        });
    });
    group.bench_function("read a batch from the middle", |b| {
        let middle = LinkSeq(full.last().0 / 2);
        b.iter(|| full.from(black_box(middle)).take(16).count());
    });
    group.finish();
}

fn log(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), 1).unwrap();
    let entry = Bytes::from(vec![7; 64 * MESSAGE_BYTES]);
    let mut next = 0;
    let mut group = c.benchmark_group("log");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(entry.len() as u64));
    group.bench_function("append 64 KiB and sync", |b| {
        b.iter(|| {
            let mut round = log.round();
            let entries = vec![(next, entry.clone())];
            let write = ShardWrite {
                shard: 0,
                entries,
                ..ShardWrite::default()
            };
            round.push(write).unwrap();
            round.write().unwrap();
            next += 1;
        });
    });
    group.finish();
}

/// A shard's log in memory.
struct Shard {
    derived: Derived,
    entries: Vec<Arc<Held>>,
}

struct Held(Entry);

impl AsRef<Entry> for Held {
    fn as_ref(&self) -> &Entry {
        &self.0
    }
}

impl Source for Shard {
    type Held = Held;

    fn derived<R>(&self, look: impl FnOnce(&Derived) -> R) -> R {
        look(&self.derived)
    }

    fn entry(&self, index: u64) -> Result<Arc<Held>, ReadError> {
        let place = usize::try_from(index - 1).unwrap();
        Ok(Arc::clone(&self.entries[place]))
    }
}

impl Shard {
    /// A shard that owes `b.example` what was sent to 16 rooms by turns, 64 messages at a time, `turns` times.
    fn owing(turns: u64) -> Self {
        let mut shard = Self {
            derived: Derived::default(),
            entries: Vec::new(),
        };
        let peer = Peer::Provider("b.example".parse().unwrap());
        for turn in 0..turns {
            for number in 0..16 {
                let room: RoomUri = format!("mimi://a.example/r/room{number}").parse().unwrap();
                let submit = Submit {
                    sender: alice(),
                    via: Via::Client(ClientSeq(1 + 64 * turn)),
                    messages: BVec::first_max((0..64).map(message)),
                };
                let command = Record::Hub(room.clone(), Arc::new(Command::Submit(submit)));
                shard.entries.push(Arc::new(Held(Entry {
                    stamp: Millis(1),
                    commands: BVec::from([command]),
                })));
                let (first, count) = (RoomSeq(1 + 64 * turn), 64);
                let emission = Emission {
                    first,
                    count,
                    at: Position {
                        entry: shard.entries.len() as u64,
                        command: 0,
                    },
                    item: 0,
                    time: Millis(1),
                    origin: None,
                    lane: Lane::Application(Epoch(0)),
                    recipients: Vec::new(),
                };
                shard.derived.index.push(&room, &emission);
                let copy = Copy::Full;
                let owed = Owed::Events { room, first, copy };
                shard.derived.links.to(&peer).push(owed, count);
            }
        }
        shard
    }
}

fn fill(c: &mut Criterion) {
    let provider = "b.example".parse().unwrap();
    let mut group = c.benchmark_group("batch for a peer, read out of the log");
    for (name, turns) in [
        ("a peer that keeps up", 1),
        ("a peer that is far behind", 64),
    ] {
        let shard = Shard::owing(turns);
        let batch = || owing::batch(&shard, &provider, LinkSeq(1)).unwrap();
        let owing::Owing::Batch { after, .. } = batch() else {
            panic!("something is owed");
        };
        group.throughput(Throughput::Elements(after.0 - 1));
        group.bench_function(name, |b| b.iter(batch));
    }
    group.finish();
}

criterion_group!(benches, frames, hub, link, fill, log);
criterion_main!(benches);
