//! What each lane of a link may have under way, and has, and what the lanes carried: for the operator.

use mimi_actors::link::session::FanoutSender;
use std::sync::atomic::{AtomicU64, Ordering};

/// The fan-out lanes to one peer, one for each shard.
pub(crate) struct Credits {
    lanes: Vec<Lane>,
    fanned_out: Sent,
    submitted: Sent,
}

/// Frames sent, and the items in them.
#[derive(Default)]
struct Sent {
    frames: AtomicU64,
    items: AtomicU64,
}

impl Sent {
    /// A frame with so many items was sent.
    fn count(&self, items: u64) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.items.fetch_add(items, Ordering::Relaxed);
    }

    fn so_far(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.frames), load(&self.items))
    }
}

#[derive(Default)]
struct Lane {
    credit_bytes: AtomicU64,
    under_way_bytes: AtomicU64,
}

impl Credits {
    pub(crate) fn new(shards: u16) -> Self {
        Self {
            lanes: (0..shards).map(|_| Lane::default()).collect(),
            fanned_out: Sent::default(),
            submitted: Sent::default(),
        }
    }

    /// Takes note of how a session stands.
    pub(super) fn note(&self, shard: u16, session: &FanoutSender) {
        let under_way = session.bytes_under_way() as u64;
        self.put(shard, session.credit_bytes().into(), under_way);
    }

    /// A fan-out frame with so many items was sent.
    pub(super) fn count(&self, items: u64) {
        self.fanned_out.count(items);
    }

    /// A frame with so many submissions was sent.
    pub(super) fn count_submitted(&self, submissions: u64) {
        self.submitted.count(submissions);
    }

    /// Fan-out frames sent on all lanes, and the items in them.
    pub(crate) fn sent(&self) -> (u64, u64) {
        self.fanned_out.so_far()
    }

    /// Frames of submissions sent on all lanes, and the submissions in them.
    pub(crate) fn submitted(&self) -> (u64, u64) {
        self.submitted.so_far()
    }

    /// A lane has ended.
    pub(super) fn clear(&self, shard: u16) {
        self.put(shard, 0, 0);
    }

    fn put(&self, shard: u16, credit_bytes: u64, under_way_bytes: u64) {
        if let Some(lane) = self.lanes.get(usize::from(shard)) {
            lane.credit_bytes.store(credit_bytes, Ordering::Relaxed);
            lane.under_way_bytes
                .store(under_way_bytes, Ordering::Relaxed);
        }
    }

    /// Bytes that may be under way on a lane, and that are; zero and zero while it is closed.
    pub(crate) fn of(&self, shard: u16) -> (u64, u64) {
        let load = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
        self.lanes.get(usize::from(shard)).map_or((0, 0), |lane| {
            (load(&lane.credit_bytes), load(&lane.under_way_bytes))
        })
    }
}
