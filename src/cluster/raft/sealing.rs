//! When a shard's snapshots are sealed, and what of its log may go then.
//!
//! Owns: the good snapshots of one shard and the count of entries since the last. Promises: only what the snapshot
//! before the newest holds is discarded, so a newest one that turns out damaged loses nothing; what is discarded was
//! looked through for entries that are still needed. A snapshot that cannot be sealed is told and tried again later:
//! the log is kept meanwhile. Not here: the files (`store::snapshot`), and what the state is (`packed`).

use crate::{
    cluster::log::{
        batch::StateError,
        record::{self, RecordError},
        tail::Tail,
        types::{LogId, Snapshot, SnapshotMeta, StorageError, StoredMembership, Types},
    },
    store::snapshot::{Row, Sealed, SnapshotError, Snapshots},
};
use openraft::{AnyError, Raft, StorageIOError};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, OwnedMutexGuard},
    task::{self, AbortHandle, JoinHandle},
    time,
};

/// How long a snapshot that is due waits before it is asked for again, in milliseconds. openraft passes over a
/// request that comes while it still sees to the snapshot before.
const ASK_AGAIN_MS: u64 = 1_000;
/// How long entries that could not be carried over wait before that is tried again, in milliseconds.
const CARRY_AGAIN_MS: u64 = 5_000;

/// Where a snapshot stands: the last entry in it, and who may vote.
pub(crate) type Place = (Option<LogId>, StoredMembership);

/// Why a snapshot was not sealed.
#[derive(Debug, thiserror::Error)]
enum NotSealed {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Place(#[from] RecordError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the node is stopping")]
    Stopping,
}

/// The snapshots of one shard.
pub(crate) struct Sealing {
    shard: u16,
    store: Arc<Snapshots>,
    /// Entries applied after which another snapshot is due.
    every: u64,
    since: AtomicU64,
    /// A snapshot was asked for and is not begun yet.
    due: AtomicBool,
    /// Rung when a snapshot is due, and when one was sealed.
    bell: Notify,
    /// The good ones, oldest first.
    good: Mutex<Vec<Sealed>>,
    /// Held while files are written.
    busy: Arc<tokio::sync::Mutex<()>>,
    /// The node's turn to seal, from before the state is gathered: shards that wait for theirs hold no copy of their rows.
    turn: Mutex<Option<OwnedMutexGuard<()>>>,
}

impl Sealing {
    pub(crate) fn new(
        shard: u16,
        store: Arc<Snapshots>,
        every: u64,
        good: Vec<Sealed>,
    ) -> Arc<Self> {
        Arc::new(Self {
            shard,
            store,
            every,
            since: AtomicU64::new(0),
            due: AtomicBool::new(false),
            bell: Notify::new(),
            good: Mutex::new(good),
            busy: Arc::default(),
            turn: Mutex::default(),
        })
    }

    /// Waits for the node's turn to seal, and keeps it for the snapshot that is asked for next.
    async fn take_turn(&self) {
        let turn = self.store.turn().await;
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = Some(turn);
    }

    /// The turn that was taken, to be ended by whoever has it; none when the snapshot was not asked for here.
    pub(crate) fn end_turn(&self) -> Option<OwnedMutexGuard<()>> {
        self.turn
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Takes note of an applied entry.
    pub(crate) fn count(&self) {
        if self.since.fetch_add(1, Ordering::Relaxed) + 1 >= self.every {
            self.ask();
        }
    }

    /// Makes a snapshot due.
    pub(crate) fn ask(&self) {
        self.since.store(0, Ordering::Relaxed);
        self.due.store(true, Ordering::Relaxed);
        self.bell.notify_one();
    }

    /// Takes note that a snapshot of everything applied is being made.
    pub(crate) fn begin(&self) {
        self.due.store(false, Ordering::Relaxed);
    }

    /// Waits until nothing is being written, and keeps it so.
    pub(crate) async fn rest(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.busy).lock_owned().await
    }

    /// Whether no snapshot is due, and none is being made.
    #[cfg(test)]
    pub(crate) fn is_at_rest(&self) -> bool {
        !self.due.load(Ordering::Relaxed) && self.busy.try_lock().is_ok()
    }

    /// The newest good snapshot.
    pub(crate) fn newest(&self) -> Option<Sealed> {
        self.good().last().cloned()
    }

    /// The first entry that is not in the snapshot before the newest: what is below may be discarded.
    fn discardable(&self) -> Option<u64> {
        let good = self.good();
        let before = good.len().checked_sub(2)?;
        good.get(before).map(Sealed::next)
    }

    /// The good snapshots, oldest first.
    pub(crate) fn snapshots(&self) -> Vec<Sealed> {
        self.good().clone()
    }

    /// Looks through a snapshot in which something was found. If it is damaged it is set aside and another is due; then
    /// this is true. One that was forgotten meanwhile is nobody's concern.
    pub(crate) async fn doubt(self: &Arc<Self>, suspect: Sealed) -> Result<bool, SnapshotError> {
        let busy = self.rest().await;
        if !self.good().contains(&suspect) {
            return Ok(false);
        }
        let sealing = Arc::clone(self);
        let looked = task::spawn_blocking(move || {
            let damaged = sealing.store.doubt(sealing.shard, &suspect)?;
            if damaged {
                sealing.good().retain(|other| *other != suspect);
                sealing.ask();
            }
            drop(busy);
            Ok(damaged)
        });
        match looked.await {
            Ok(looked) => looked,
            // The runtime is being shut down.
            Err(_) => std::future::pending().await,
        }
    }

    /// What openraft is told of a snapshot.
    pub(crate) fn describe(&self, sealed: Option<Sealed>) -> Result<Snapshot, RecordError> {
        let place = sealed.as_ref().map(|sealed| place_of(sealed.position()));
        let (last_log_id, last_membership) = place.transpose()?.unwrap_or_default();
        let next = sealed.as_ref().map_or(0, Sealed::next);
        Ok(Snapshot {
            meta: SnapshotMeta {
                last_log_id,
                last_membership,
                snapshot_id: format!("{}-{next}", self.shard),
            },
            snapshot: Box::new(sealed),
        })
    }

    /// Seals the state at `place`. When that fails, it is told, and the newest there is comes back.
    pub(crate) async fn seal(
        self: &Arc<Self>,
        busy: Option<OwnedMutexGuard<()>>,
        place: Place,
        rows: Result<Vec<Row>, StateError>,
    ) -> Option<Sealed> {
        match self.try_seal(busy, place, rows).await {
            Ok(sealed) => Some(sealed),
            Err(error) => {
                tracing::error!(shard = self.shard, %error, "no snapshot was sealed; the log is kept");
                self.newest()
            }
        }
    }

    async fn try_seal(
        self: &Arc<Self>,
        busy: Option<OwnedMutexGuard<()>>,
        place: Place,
        rows: Result<Vec<Row>, StateError>,
    ) -> Result<Sealed, NotSealed> {
        let taken = self.end_turn();
        let rows = rows?;
        let next = next_of(&place);
        let position = record::encode_small(&place)?;
        let turn = match taken {
            Some(turn) => turn,
            None => self.store.turn().await,
        };
        let sealing = Arc::clone(self);
        let sealed = task::spawn_blocking(move || {
            let _turn = turn;
            let sealed = sealing
                .store
                .seal(sealing.shard, next, position, &rows)
                .map_err(NotSealed::from)?;
            let mut good = sealing.good().clone();
            good.retain(|other| other.next() != sealed.next());
            good.push(sealed.clone());
            if let Err(error) = sealing.store.retire(&mut good) {
                tracing::warn!(shard = sealing.shard, %error, "an old snapshot is left; the next start deletes it");
            }
            *sealing.good() = good;
            drop(busy);
            Ok::<_, NotSealed>(sealed)
        })
        .await
        .map_err(|_| NotSealed::Stopping)??;
        tracing::info!(shard = self.shard, next, "a snapshot was sealed");
        self.bell.notify_one();
        Ok(sealed)
    }

    /// All rows of a snapshot.
    pub(crate) async fn load(&self, sealed: Sealed) -> Result<Vec<Row>, StorageError> {
        let store = Arc::clone(&self.store);
        let failed = |error| StorageIOError::read_snapshot(None, error);
        let rows = task::spawn_blocking(move || store.load(&sealed))
            .await
            .map_err(|error| failed(AnyError::new(&error)))?;
        rows.map_err(|error| failed(AnyError::new(&error)).into())
    }

    fn good(&self) -> MutexGuard<'_, Vec<Sealed>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place that was stored with a snapshot.
pub(crate) fn place_of(position: &[u8]) -> Result<Place, RecordError> {
    record::decode_small(position)
}

/// One more than the last entry at a place.
pub(crate) fn next_of((last, _): &Place) -> u64 {
    last.map_or(0, |last| last.index.saturating_add(1))
}

/// The task that has snapshots sealed and entries discarded. It ends when this is dropped.
pub(crate) struct Keeper {
    sealing: Arc<Sealing>,
    abort: AbortHandle,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    pub(crate) fn start(raft: Raft<Types>, sealing: Arc<Sealing>, tail: Arc<Tail>) -> Self {
        // What a process that died had not discarded yet is discarded by the next.
        sealing.bell.notify_one();
        let task = tokio::spawn(keep(raft, Arc::clone(&sealing), tail));
        Self {
            sealing,
            abort: task.abort_handle(),
            task: tokio::sync::Mutex::new(Some(task)),
        }
    }

    /// Ends the task; returns when it has let go of everything.
    pub(crate) async fn stop(&self) {
        self.abort.abort();
        if let Some(task) = self.task.lock().await.take() {
            // An error says that it was ended, which is what was asked for.
            let _ = task.await;
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.abort.abort();
        // Other shards may seal.
        drop(self.sealing.end_turn());
    }
}

async fn keep(raft: Raft<Types>, sealing: Arc<Sealing>, tail: Arc<Tail>) {
    loop {
        let rung = sealing.bell.notified();
        if sealing.due.load(Ordering::Relaxed) {
            // An error is the end of the wait, after which it is asked again.
            let _ = time::timeout(Duration::from_millis(ASK_AGAIN_MS), rung).await;
        } else {
            rung.await;
        }
        // A snapshot that was asked for and not begun must not keep other shards from theirs.
        if sealing.due.load(Ordering::Relaxed) {
            drop(sealing.end_turn());
            sealing.take_turn().await;
            if raft.trigger().snapshot().await.is_err() {
                drop(sealing.end_turn());
                return;
            }
        }
        let Some(next) = sealing.discardable().filter(|next| *next > tail.start()) else {
            continue;
        };
        // Done here already, because openraft waits while it discards.
        if let Err(error) = tail.carry(next).await {
            tracing::error!(shard = sealing.shard, %error, "nothing is discarded; the log is kept, and it is tried again");
            time::sleep(Duration::from_millis(CARRY_AGAIN_MS)).await;
            sealing.bell.notify_one();
            continue;
        }
        if raft.trigger().purge_log(next - 1).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
#[path = "sealing_tests.rs"]
mod tests;
