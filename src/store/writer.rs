//! The one thread that writes the log of a node.
//!
//! Owns: the order of writes and the moment of the sync. It takes everything that waits, of all
//! shards, writes it in one round, syncs once, raises the high-water marks and only then tells each
//! waiter, in the order they came. While it syncs, the next round gathers.
//!
//! A sync that fails ends the process: after it nobody knows what the disk holds.
//!
//! [`LogWriter::admit`] refuses before the disk is full, so that there is room for what Raft itself writes, and for sealing
//! and discarding, which make room. A disk that is full all the same makes the writer give back the room that is held for
//! that, and when that is used up wait for more; nothing already accepted is lost or answered meanwhile.

use super::{
    files::FileError,
    log::Log,
    room::Room,
    round::{Round, ShardWrite, WriteFault, WriteRefused},
};
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
    time,
};

/// Orders that wait for the writer, at most; the next one waits to be let in.
const ORDERS_WAITING_MAX: usize = 1_024;
/// How often the high-water mark is synced and the size of the log looked up, in milliseconds.
const UPKEEP_INTERVAL_MS: u64 = 1_000;
/// How often the free space of the disk is looked at, in milliseconds.
const SPACE_POLL_MS: u64 = 250;
/// Room that must be free beyond the round itself before a full disk is tried again, in bytes.
const SPACE_HEADROOM_BYTES: u64 = 1 << 20;
/// What a request may need of the log, in bytes.
const REQUEST_BYTES: u64 = 64 << 10;

/// The log is as large as it may be, or its disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.what_to_do())]
pub struct StorageFull {
    /// Size of the log.
    pub bytes: u64,
    /// Its limit.
    pub max: u64,
    /// What the disk has left, where that is too little.
    pub disk_bytes_free: Option<u64>,
}

impl StorageFull {
    fn what_to_do(&self) -> String {
        let Self { bytes, max, .. } = self;
        match self.disk_bytes_free {
            Some(free) => format!(
                "the disk of the log is full, {free} bytes are free: free space on it, at least {} bytes",
                Room::BYTES_ENOUGH
            ),
            None => format!(
                "the log has {bytes} bytes and the limit is {max}: raise storage.log_bytes_max"
            ),
        }
    }
}

/// What the writer has done since it started.
#[derive(Debug, Default)]
pub struct WriterCounts {
    /// Rounds written; each is one sync of the log.
    pub rounds: AtomicU64,
    /// Entries written.
    pub entries: AtomicU64,
    /// Bytes of these entries.
    pub entry_bytes: AtomicU64,
    /// Syncs of the high-water mark beside the log.
    pub mark_syncs: AtomicU64,
    /// Writes refused because they would have left a gap.
    pub refused: AtomicU64,
    /// Times the writer found the disk full.
    pub disk_full: AtomicU64,
}

/// Called once, when a write is durable or refused.
pub type Done = Box<dyn FnOnce(Result<(), WriteRefused>) + Send>;

enum Order {
    Write(ShardWrite, Done),
    Truncate {
        shard: u16,
        next: u64,
        done: Done,
    },
    Discard {
        shard: u16,
        below: u64,
        last: Vec<u8>,
        done: Done,
    },
    Close(oneshot::Sender<()>),
}

struct Shared {
    log: Arc<Log>,
    log_bytes_max: u64,
    counts: WriterCounts,
    /// The disk has too little room.
    disk_full: AtomicBool,
    /// What the disk had left when it was last looked at, in bytes.
    disk_bytes_free: AtomicU64,
    /// Somebody wants the writer to end, even if it waits for room.
    closing: AtomicBool,
}

/// A handle of the writer. The thread ends when it is closed or the last handle is dropped.
#[derive(Clone)]
pub struct LogWriter {
    orders: mpsc::Sender<Order>,
    shared: Arc<Shared>,
}

impl LogWriter {
    /// Starts the writer of `log`. Above `log_bytes_max` bytes, [`LogWriter::admit`] refuses.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(log: Arc<Log>, log_bytes_max: u64) -> io::Result<Self> {
        let (orders, waiting) = mpsc::channel(ORDERS_WAITING_MAX);
        let shared = Arc::new(Shared {
            log,
            log_bytes_max,
            counts: WriterCounts::default(),
            disk_full: AtomicBool::new(false),
            disk_bytes_free: AtomicU64::new(u64::MAX),
            closing: AtomicBool::new(false),
        });
        let timer = runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let mut scribe = Scribe {
            shared: shared.clone(),
            waiting,
            room: Room::default(),
        };
        scribe.look();
        thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| scribe.run(&timer))).is_err() {
                    end_process("the log writer panicked, as it does when a sync fails");
                }
            })?;
        Ok(Self { orders, shared })
    }

    /// Whether there is room for `bytes` more. Asked before a proposal: Raft itself must never be
    /// refused, for it takes a failed append as the end of the node.
    ///
    /// # Errors
    /// [`StorageFull`] above the limit, and while the disk is full.
    pub fn admit(&self, bytes: u64) -> Result<(), StorageFull> {
        let used = self.shared.log.bytes();
        let max = self.shared.log_bytes_max;
        let disk_bytes_free = self.is_disk_full().then(|| {
            let free = &self.shared.disk_bytes_free;
            free.load(Ordering::Relaxed)
        });
        if disk_bytes_free.is_some() || used.saturating_add(bytes) > max {
            return Err(StorageFull {
                bytes: used,
                max,
                disk_bytes_free,
            });
        }
        Ok(())
    }

    /// Why requests are refused, where they are.
    #[must_use]
    pub fn full(&self) -> Option<StorageFull> {
        self.admit(REQUEST_BYTES).err()
    }

    /// Whether the disk of the log has too little room to lead with.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.shared.disk_full.load(Ordering::Relaxed)
    }

    /// Queues a write; `done` is called once it is durable. Returns when it is queued.
    ///
    /// # Errors
    /// [`WriteRefused::Stopped`] when the writer has ended; then `done` is never called.
    pub async fn write(&self, write: ShardWrite, done: Done) -> Result<(), WriteRefused> {
        self.order(Order::Write(write, done)).await
    }

    /// Writes and waits until it is durable.
    ///
    /// # Errors
    /// [`WriteRefused`] when nothing was written.
    pub async fn write_durably(&self, write: ShardWrite) -> Result<(), WriteRefused> {
        let (done, answer) = wait();
        self.order(Order::Write(write, done)).await?;
        answer.await.unwrap_or(Err(WriteRefused::Stopped))
    }

    /// Cuts the log of a shard after everything queued before. See [`Log::truncate`].
    ///
    /// # Errors
    /// [`WriteRefused::Stopped`] when the writer has ended.
    pub async fn truncate(&self, shard: u16, next: u64) -> Result<(), WriteRefused> {
        let (done, answer) = wait();
        self.order(Order::Truncate { shard, next, done }).await?;
        answer.await.unwrap_or(Err(WriteRefused::Stopped))
    }

    /// Forgets the beginning of the log of a shard, after everything queued before. See [`Log::discard`].
    ///
    /// # Errors
    /// [`WriteRefused::Stopped`] when the writer has ended.
    pub async fn discard(&self, shard: u16, below: u64, last: Vec<u8>) -> Result<(), WriteRefused> {
        let (done, answer) = wait();
        self.order(Order::Discard {
            shard,
            below,
            last,
            done,
        })
        .await?;
        answer.await.unwrap_or(Err(WriteRefused::Stopped))
    }

    /// Writes what is queued, syncs the high-water mark and ends the thread. On a full disk, what
    /// is queued is refused instead.
    pub async fn close(&self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        let (done, ended) = oneshot::channel();
        if self.order(Order::Close(done)).await.is_ok() {
            // An error means that the thread has ended, which is what was asked for.
            let _ = ended.await;
        }
    }

    /// What the writer has done since it started.
    #[must_use]
    pub fn counts(&self) -> &WriterCounts {
        &self.shared.counts
    }

    async fn order(&self, order: Order) -> Result<(), WriteRefused> {
        self.orders
            .send(order)
            .await
            .map_err(|_| WriteRefused::Stopped)
    }
}

fn wait() -> (Done, oneshot::Receiver<Result<(), WriteRefused>>) {
    let (sender, receiver) = oneshot::channel();
    let done: Done = Box::new(move |result| {
        // The waiter may be gone; the write is durable all the same.
        let _ = sender.send(result);
    });
    (done, receiver)
}

/// The thread's side.
struct Scribe {
    shared: Arc<Shared>,
    waiting: mpsc::Receiver<Order>,
    room: Room,
}

impl Scribe {
    fn run(mut self, timer: &runtime::Runtime) {
        let interval = Duration::from_millis(UPKEEP_INTERVAL_MS);
        let poll = Duration::from_millis(SPACE_POLL_MS);
        let (mut upkeep, mut looked) = (Instant::now(), Instant::now());
        loop {
            let next = timer.block_on(async { time::timeout(poll, self.waiting.recv()).await });
            match next {
                Ok(Some(order)) => {
                    let mut orders = vec![order];
                    while let Ok(order) = self.waiting.try_recv() {
                        orders.push(order);
                    }
                    if let Some(closed) = self.perform(orders) {
                        self.tidy();
                        // Dropped before the answer, so that what comes later is refused.
                        drop(self);
                        let _ = closed.send(());
                        return;
                    }
                }
                Ok(None) => {
                    self.tidy();
                    return;
                }
                Err(_) => {}
            }
            if looked.elapsed() >= poll {
                self.look();
                looked = Instant::now();
            }
            if upkeep.elapsed() >= interval {
                self.tidy();
                upkeep = Instant::now();
            }
        }
    }

    /// Carries out orders; answers who asked to close.
    fn perform(&mut self, orders: Vec<Order>) -> Option<oneshot::Sender<()>> {
        let log = self.shared.log.clone();
        let mut round = log.round();
        let mut waiters = Vec::new();
        let mut closing = None;
        for order in orders {
            match order {
                Order::Write(write, done) => {
                    let taken = round.push(write);
                    if let Err(refused) = &taken {
                        tracing::error!(%refused, "a write to the log was refused");
                        self.shared.counts.refused.fetch_add(1, Ordering::Relaxed);
                    }
                    waiters.push((done, taken));
                }
                Order::Truncate { shard, next, done } => {
                    self.finish(std::mem::replace(&mut round, log.round()), &mut waiters);
                    let truncate = || log.truncate(shard, next).map_err(WriteFault::from);
                    done(self.until_written(0, truncate));
                }
                Order::Discard {
                    shard,
                    below,
                    last,
                    done,
                } => {
                    self.finish(std::mem::replace(&mut round, log.round()), &mut waiters);
                    let discard = || log.discard(shard, below, &last);
                    done(self.until_written(last.len() as u64, discard));
                }
                Order::Close(done) => closing = Some(done),
            }
        }
        self.finish(round, &mut waiters);
        closing
    }

    /// Writes a round, then tells all who wait for it, in order.
    fn finish(&mut self, round: Round<'_>, waiters: &mut Vec<(Done, Result<(), WriteRefused>)>) {
        let written = self.write(&round);
        for (done, taken) in waiters.drain(..) {
            done(taken.and(written.clone()));
        }
    }

    fn write(&mut self, round: &Round<'_>) -> Result<(), WriteRefused> {
        if round.is_empty() {
            return Ok(());
        }
        self.until_written(round.bytes() as u64, || round.write())?;
        let counts = &self.shared.counts;
        counts.rounds.fetch_add(1, Ordering::Relaxed);
        counts
            .entries
            .fetch_add(round.entries() as u64, Ordering::Relaxed);
        counts
            .entry_bytes
            .fetch_add(round.bytes() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Writes `bytes` bytes, waiting for room where there is none.
    fn until_written(
        &mut self,
        bytes: u64,
        write: impl Fn() -> Result<(), WriteFault>,
    ) -> Result<(), WriteRefused> {
        loop {
            match write() {
                Ok(()) => return Ok(()),
                Err(WriteFault::Later(error)) => self.make_room(bytes, &error)?,
                Err(error @ (WriteFault::Mark(_) | WriteFault::Engine(_))) => {
                    end_process(&error.to_string());
                }
            }
        }
    }

    /// Gives the room back that is held for this moment, or waits until it may be tried again to write `bytes`.
    fn make_room(&mut self, bytes: u64, error: &io::Error) -> Result<(), WriteRefused> {
        self.shared.counts.disk_full.fetch_add(1, Ordering::Relaxed);
        self.room.exhausted();
        self.look();
        let of_space = error.kind() == io::ErrorKind::StorageFull;
        if of_space && self.shared.log.give_room() {
            return Ok(());
        }
        tracing::warn!(%error, bytes, "a write to the log waits");
        let wanted = bytes.saturating_add(SPACE_HEADROOM_BYTES);
        loop {
            if self.shared.closing.load(Ordering::Relaxed) {
                return Err(WriteRefused::Stopped);
            }
            thread::sleep(Duration::from_millis(SPACE_POLL_MS));
            // Of anything else nobody says whether there is enough.
            if !of_space || self.look() >= wanted {
                return Ok(());
            }
        }
    }

    /// Looks how much room there is; holds some of it for when there is none.
    fn look(&mut self) -> u64 {
        let log = &self.shared.log;
        let last = &self.shared.disk_bytes_free;
        let free = log.bytes_free().unwrap_or_else(|error| {
            tracing::warn!(%error, "how much room the disk has is not known");
            last.load(Ordering::Relaxed)
        });
        last.store(free, Ordering::Relaxed);
        let full = self.room.look(free);
        if self.shared.disk_full.swap(full, Ordering::Relaxed) != full {
            if full {
                tracing::error!(
                    free_bytes = free,
                    wanted_bytes = Room::BYTES_ENOUGH,
                    "the disk of the log is full: writes are refused until there is room, reading goes on"
                );
            } else {
                tracing::info!(free_bytes = free, "the disk of the log has room again");
            }
        }
        if !full {
            log.hold_room();
        }
        free
    }

    fn tidy(&self) {
        if self.shared.log.is_broken() {
            end_process("a sync failed while files of the log were given back");
        }
        if self.must(self.shared.log.sync_mark()) {
            self.shared
                .counts
                .mark_syncs
                .fetch_add(1, Ordering::Relaxed);
        }
        if let Err(error) = self.shared.log.measure() {
            tracing::warn!(%error, "the size of the log is an estimate until this works again");
        }
    }

    fn must<T>(&self, result: Result<T, FileError>) -> T {
        result.unwrap_or_else(|error| end_process(&error.to_string()))
    }
}

fn end_process(reason: &str) -> ! {
    tracing::error!(
        reason,
        "the log cannot be written any more; the process ends"
    );
    std::process::abort();
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
