//! The hot parts: a frame out and in, a batch of messages through a room, a link's runs, the log.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "benches, where a panic is the report"
)]

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mimi_actors::{
    ids::{ClientUri, RoomUri},
    limits::{LINK_RUNS_MAX, SUBMIT_ITEMS_MAX},
    link::outgoing::{Outgoing, Owed},
    machine::{Fold as _, Millis, Position},
    mls::view::{GroupView, Member},
    room::hub::{Command, Create, Fold, Submit, Via},
    wire::{
        self, BVec, Payload,
        event::{Body, ClientSeq, Copy, Event, Item, LinkSeq, RoomSeq},
        link::{Fanout, FanoutGroup},
    },
};
use mimi_node::store::{log::Log, round::ShardWrite};
use std::hint::black_box;

const MESSAGE_BYTES: usize = 1_024;
const BATCH: usize = SUBMIT_ITEMS_MAX;
const AT: Position = Position {
    entry: 1,
    command: 0,
};

fn room() -> RoomUri {
    "mimi://a.example/r/clubhouse".parse().unwrap()
}

fn alice() -> ClientUri {
    "mimi://a.example/d/alice/phone".parse().unwrap()
}

/// A PrivateMessage of group "g", epoch 0, application.
fn message() -> Payload {
    let mut bytes = vec![0, 1, 0, 2, 1, b'g', 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 5];
    let length = u16::try_from(MESSAGE_BYTES).unwrap() | 0x4000;
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.resize(bytes.len() + MESSAGE_BYTES, 6);
    bytes.into()
}

fn frames(c: &mut Criterion) {
    let event = |seq| {
        Item::Event(Event {
            seq: RoomSeq(seq),
            time: Millis(1),
            body: Body::Application(message()),
        })
    };
    let items = BVec::truncated((1..=BATCH as u64).map(event).collect());
    let group = FanoutGroup {
        room: room(),
        items,
    };
    let fanout = Fanout {
        first: LinkSeq(1),
        groups: BVec::truncated(vec![group]),
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
    fold.apply(AT, Millis(1), &Command::Create(create));
    fold
}

fn hub(c: &mut Criterion) {
    let submit = Command::Submit(Submit {
        sender: alice(),
        via: Via::Client(ClientSeq(1)),
        messages: BVec::truncated(vec![message(); BATCH]),
    });
    let fold = a_room();
    let mut group = c.benchmark_group("hub");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("apply 512 messages", |b| {
        b.iter_batched(
            || fold.clone(),
            |mut fold| {
                let outcome = fold.apply(AT, Millis(2), black_box(&submit));
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

criterion_group!(benches, frames, hub, link, log);
criterion_main!(benches);
