//! What each shard may have under way on a lane of fan-out, and has, and what the lanes carried: for the operator.

use mimi_actors::link::session::FanoutSender;
use std::sync::atomic::{AtomicU64, Ordering};

/// What each shard fans out to one peer.
pub(crate) struct Credits {
    shards: Vec<Credit>,
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
struct Credit {
    credit_bytes: AtomicU64,
    under_way_bytes: AtomicU64,
}

impl Credits {
    pub(crate) fn new(shards: u16) -> Self {
        Self {
            shards: (0..shards).map(|_| Credit::default()).collect(),
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

    /// A shard sends no longer.
    pub(super) fn clear(&self, shard: u16) {
        self.put(shard, 0, 0);
    }

    /// No shard sends any longer.
    pub(super) fn clear_all(&self) {
        for credit in &self.shards {
            credit.put(0, 0);
        }
    }

    fn put(&self, shard: u16, credit_bytes: u64, under_way_bytes: u64) {
        if let Some(credit) = self.shards.get(usize::from(shard)) {
            credit.put(credit_bytes, under_way_bytes);
        }
    }

    /// Bytes that may be under way of a shard, and that are; zero and zero while it does not send.
    pub(crate) fn of(&self, shard: u16) -> (u64, u64) {
        let load = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
        let credit = self.shards.get(usize::from(shard));
        credit.map_or((0, 0), |credit| {
            (load(&credit.credit_bytes), load(&credit.under_way_bytes))
        })
    }
}

impl Credit {
    fn put(&self, credit_bytes: u64, under_way_bytes: u64) {
        self.credit_bytes.store(credit_bytes, Ordering::Relaxed);
        self.under_way_bytes
            .store(under_way_bytes, Ordering::Relaxed);
    }
}
