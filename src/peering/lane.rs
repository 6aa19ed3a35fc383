//! The shards on a lane that this node has to a peer, and what wakes it: something applied, a shard that has rested, one
//! that begins or ceases to be led here.
//!
//! Which shard sends next is [`mimi_actors::way::lane`]'s.

use super::{connection::Connection, credits::Credits, led::Led};
use crate::cluster::shard::shards::Shards;
use futures::{
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use mimi_actors::way::lane::{Session, SharedSender};
use rand::Rng;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// Shortest wait before what has failed is tried again.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest wait before what has failed is tried again.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// What lasted this long was good: the next wait is the shortest again.
pub(super) const GOOD: Duration = Duration::from_secs(10);

/// How long to wait before the next attempt; each that fails soon doubles it.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    began: Instant,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self {
            next: BACKOFF_MIN,
            began: Instant::now(),
        }
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// Whether the attempt has lasted.
    pub(super) fn is_good(&self) -> bool {
        self.began.elapsed() >= GOOD
    }

    /// How long to wait now that the attempt has failed.
    pub(super) fn wait(&mut self) -> Duration {
        if self.is_good() {
            self.next = BACKOFF_MIN;
        }
        let wait = self.next.mul_f64(rand::rng().random_range(0.5..1.5));
        self.next = (self.next * 2).min(BACKOFF_MAX);
        wait
    }
}

/// Which shards speak on a lane.
#[derive(Clone, Debug)]
pub(super) enum Speaks {
    /// All that this node leads, as they change.
    Together(Led),
    /// One, as version 1 has it.
    Alone(u16),
}

impl Speaks {
    /// The only one, if there is only one.
    pub(super) fn alone(&self) -> Option<u16> {
        match self {
            Self::Together(_) => None,
            Self::Alone(shard) => Some(*shard),
        }
    }
}

/// The shards on a lane.
pub(super) struct OnLane<'a, S> {
    over: &'a Connection,
    shards: &'a Shards,
    speaks: Speaks,
    /// Where it is noted how shards stand that have credit.
    credits: Option<&'a Credits>,
    pub(super) sender: SharedSender<S>,
    /// Which are watched for what they apply; one that is led no longer may be among them until it applies something.
    watched: BTreeSet<u16>,
    applied: FuturesUnordered<BoxFuture<'static, Applied>>,
    resting: FuturesUnordered<BoxFuture<'static, (u16, u64)>>,
    backoffs: BTreeMap<u16, Backoff>,
}

/// A shard that has applied something, and how to wait for more; nothing when it is gone.
type Applied = (u16, Option<watch::Receiver<u64>>);

async fn applied(shard: u16, mut applied: watch::Receiver<u64>) -> Applied {
    let told = applied.changed().await;
    (shard, told.is_ok().then_some(applied))
}

impl<'a, S: Session> OnLane<'a, S> {
    pub(super) fn new(
        over: &'a Connection,
        shards: &'a Shards,
        speaks: Speaks,
        credits: Option<&'a Credits>,
    ) -> Self {
        let mut on = Self {
            over,
            shards,
            credits,
            sender: SharedSender::new(over.peer().clone()),
            watched: BTreeSet::new(),
            applied: FuturesUnordered::new(),
            resting: FuturesUnordered::new(),
            backoffs: BTreeMap::new(),
            speaks,
        };
        on.join();
        on
    }

    /// Has join and leave who should.
    fn join(&mut self) {
        let led = match &mut self.speaks {
            Speaks::Together(led) => led.borrow_and_update().clone(),
            Speaks::Alone(shard) => BTreeSet::from([*shard]),
        };
        let left: Vec<u16> = self
            .sender
            .joined()
            .filter(|shard| !led.contains(shard))
            .collect();
        for shard in left {
            self.sender.leave(shard);
            self.backoffs.remove(&shard);
            self.clear(shard);
        }
        for shard in led {
            // The watch comes first: what is applied from now on is seen.
            if let Some(own) = self.shards.get(shard)
                && self.watched.insert(shard)
            {
                let watch = applied(shard, own.applied.subscribe());
                self.applied.push(Box::pin(watch));
            }
            self.backoffs.entry(shard).or_insert_with(Backoff::new);
            self.sender.join(shard);
        }
    }

    /// A shard sends no longer.
    fn clear(&self, shard: u16) {
        if let Some(credits) = self.credits {
            credits.clear(shard);
        }
    }

    /// Waits for something that may give a shard its turn. May be dropped and called again.
    pub(super) async fn changed(&mut self) {
        let led = async {
            match &mut self.speaks {
                Speaks::Together(led) => led.changed().await.is_ok(),
                Speaks::Alone(_) => false,
            }
        };
        tokio::select! {
            Some((shard, watch)) = self.applied.next(), if !self.applied.is_empty() => {
                self.watched.remove(&shard);
                if let Some(watch) = watch
                    && self.sender.is_joined(shard)
                {
                    self.watched.insert(shard);
                    self.applied.push(Box::pin(applied(shard, watch)));
                    self.sender.may_have(shard);
                }
            }
            Some((shard, number)) = self.resting.next(), if !self.resting.is_empty() => {
                if let Some(backoff) = self.backoffs.get_mut(&shard) {
                    backoff.begin();
                }
                self.sender.again(shard, number);
            }
            true = led => self.join(),
            else => std::future::pending().await,
        }
    }

    /// A shard's session is over; it begins another after this time, or later if that has failed before.
    pub(super) fn rest(&mut self, shard: u16, wait: Duration) {
        let Some(number) = self.sender.rest(shard) else {
            return;
        };
        self.clear(shard);
        let backoff = self.backoffs.entry(shard).or_insert_with(Backoff::new);
        self.over.note(backoff.is_good() || !wait.is_zero());
        let wait = wait.max(backoff.wait());
        self.resting.push(Box::pin(async move {
            tokio::time::sleep(wait).await;
            (shard, number)
        }));
    }
}
