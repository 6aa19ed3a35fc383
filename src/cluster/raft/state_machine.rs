//! Hands committed batches to the shard, in log order.
//!
//! The applied state is in memory: after a start it is the newest good snapshot and the log after it. A snapshot's
//! state is gathered while nothing is applied; it is written beside what is applied next.

use super::{
    group_error::StartError,
    sealing::{Sealing, next_of, place_of},
};
use crate::{
    cluster::log::{
        batch::{Apply, ApplyError, StateError},
        record::RecordError,
        tail::Tail,
        types::{Entry, LogId, Snapshot, SnapshotMeta, StorageError, StoredMembership, Types},
    },
    store::snapshot::{Row, Sealed, Snapshots},
};
use futures::FutureExt;
use openraft::{
    AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError,
    storage::RaftStateMachine,
};
use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{runtime::Handle, sync::OwnedMutexGuard};

/// Another node's snapshot was to be taken over, and there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum NotTaken {
    #[error("no snapshot was handed over")]
    Nothing,
    #[error("the snapshot that was handed over could not be sealed here")]
    NotSealed,
}

/// The end of the log: what was committed is applied here.
pub(crate) struct StateMachine {
    apply: Arc<dyn Apply>,
    sealing: Arc<Sealing>,
    applied: Option<LogId>,
    membership: StoredMembership,
    /// A bug was met while applying.
    bug: Arc<AtomicBool>,
}

impl StateMachine {
    /// A machine that has applied nothing.
    pub(crate) fn new(apply: Arc<dyn Apply>, sealing: Arc<Sealing>) -> Self {
        Self {
            apply,
            sealing,
            applied: None,
            membership: StoredMembership::default(),
            bug: Arc::default(),
        }
    }

    /// Set once applying an entry has panicked.
    pub(crate) fn bug(&self) -> &Arc<AtomicBool> {
        &self.bug
    }

    /// A machine with the state of the newest good snapshot that fits the log, if there is one.
    pub(crate) async fn recover(
        apply: Arc<dyn Apply>,
        snapshots: Arc<Snapshots>,
        every: u64,
        tail: &Tail,
        alone: bool,
    ) -> Result<Self, StartError> {
        let shard = tail.shard;
        let store = Arc::clone(&snapshots);
        let runtime = Handle::current();
        let recovered = store.loading(move || -> Result<Self, StartError> {
            let recovered = snapshots.recover(shard);
            let recovered = recovered.map_err(|source| StartError::Snapshots { shard, source })?;
            let newest = recovered.good.last().cloned();
            let sealing = Sealing::new(shard, snapshots, every, recovered.good);
            let mut machine = Self::new(apply, sealing);
            if let Some(newest) = &newest {
                runtime.block_on(machine.take(shard, newest, recovered.rows))?;
            }
            Ok(machine)
        });
        let machine = recovered.await.ok_or(StartError::Interrupted { shard })??;
        let (next, start) = (machine.next(), tail.start());
        if next < start {
            return Err(StartError::NoSnapshot { shard, start, next });
        }
        let end = tail.last().map_or(0, |last| last.index.saturating_add(1));
        // In a cluster the snapshot may be another node's, taken over when this process died before it began its log
        // anew; a log that lost its end is noticed by the mark beside it.
        if alone && next > end {
            return Err(StartError::OtherLog { shard, end, next });
        }
        Ok(machine)
    }

    async fn take(
        &mut self,
        shard: u16,
        sealed: &Sealed,
        rows: Vec<Row>,
    ) -> Result<(), StartError> {
        let place =
            place_of(sealed.position()).map_err(|source| StartError::Place { shard, source })?;
        let unpacked = self.apply.unpack(rows).await;
        unpacked.map_err(|source| StartError::State { shard, source })?;
        tracing::info!(
            shard,
            next = sealed.next(),
            "the state of a snapshot was taken over"
        );
        (self.applied, self.membership) = place;
        Ok(())
    }

    /// The snapshots of the shard.
    pub(crate) fn sealing(&self) -> &Arc<Sealing> {
        &self.sealing
    }

    /// One more than the last entry applied.
    fn next(&self) -> u64 {
        self.applied.map_or(0, |last| last.index.saturating_add(1))
    }

    /// Applies what the log says was committed and is not applied yet, a few megabytes at a time.
    ///
    /// openraft would do it too, but in steps of a number of entries, whatever their size.
    pub(crate) async fn replay(&mut self, tail: &Arc<Tail>) -> Result<(), StartError> {
        let shard = tail.shard;
        let end = tail
            .committed()
            .map_or(0, |log_id| log_id.index.saturating_add(1));
        let mut from = self.next();
        while from < end {
            for entry in tail.read_some(from..end).await? {
                let index = entry.log_id.index;
                self.apply_one(entry)
                    .await
                    .map_err(|source| StartError::Apply {
                        shard,
                        index,
                        source,
                    })?;
                from = index.saturating_add(1);
            }
        }
        Ok(())
    }

    async fn apply_one(&mut self, entry: Entry) -> Result<(), ApplyError> {
        let index = entry.log_id.index;
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            EntryPayload::Normal(batch) => {
                let batch = if batch.is_decoded() {
                    batch
                } else {
                    self.apply.decode(batch.bytes().clone())?
                };
                // openraft would lose the task that applies, and whoever proposed would wait for
                // ever. The call itself may panic too, before it returns a future.
                let applied = AssertUnwindSafe(async { self.apply.apply(index, batch).await });
                if applied.catch_unwind().await.is_err() {
                    self.bug.store(true, Ordering::Release);
                    return Err(ApplyError::Panicked { index });
                }
            }
        }
        self.applied = Some(entry.log_id);
        self.sealing.count();
        Ok(())
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        for entry in entries {
            let log_id = entry.log_id;
            let applied = self.apply_one(entry).await;
            applied.map_err(|error| StorageIOError::apply(log_id, AnyError::new(&error)))?;
            answers.push(());
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let sealing = Arc::clone(&self.sealing);
        // Held from here on, so that a group that has stopped writes nothing any more.
        let busy = sealing.rest().await;
        sealing.begin();
        let place = (self.applied, self.membership.clone());
        let newest = sealing
            .newest()
            .filter(|newest| newest.next() == next_of(&place));
        let found = match newest {
            Some(newest) => {
                drop(sealing.end_turn());
                Found::Sealed(newest)
            }
            None => Found::Rows(self.apply.pack().await),
        };
        Builder {
            sealing,
            busy: Some(busy),
            place,
            found: Some(found),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Option<Sealed>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Option<Sealed>>,
    ) -> Result<(), StorageError> {
        let failed = |error| StorageIOError::read_snapshot(Some(meta.signature()), error);
        let sealed = snapshot.ok_or_else(|| failed(AnyError::new(&NotTaken::Nothing)))?;
        let rows = self.sealing.load(sealed).await?;
        let place = (meta.last_log_id, meta.last_membership.clone());
        let busy = Some(self.sealing.rest().await);
        // Sealed here first: the log that it stands for may be discarded as soon as this returns.
        let ours = self
            .sealing
            .seal(busy, place.clone(), Ok(rows.clone()))
            .await;
        if ours.map(|ours| ours.next()) != Some(next_of(&place)) {
            return Err(failed(AnyError::new(&NotTaken::NotSealed)).into());
        }
        let unpacked = self.apply.unpack(rows).await;
        unpacked.map_err(|error| failed(AnyError::new(&error)))?;
        (self.applied, self.membership) = place;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let newest = self.sealing.newest();
        let described = newest.map(|newest| self.sealing.describe(Some(newest)));
        Ok(described.transpose().map_err(|error| undescribed(&error))?)
    }
}

/// Where a snapshot stands is not understood.
fn undescribed(error: &RecordError) -> StorageIOError<u64> {
    StorageIOError::read_snapshot(None, AnyError::new(error))
}

/// What a snapshot is made of.
enum Found {
    /// There is one of this place already.
    Sealed(Sealed),
    /// The state at this place.
    Rows(Result<Vec<Row>, StateError>),
}

/// Seals the state of one moment.
pub(crate) struct Builder {
    sealing: Arc<Sealing>,
    busy: Option<OwnedMutexGuard<()>>,
    place: (Option<LogId>, StoredMembership),
    found: Option<Found>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let busy = self.busy.take();
        let sealed = match self.found.take() {
            Some(Found::Sealed(sealed)) => Some(sealed),
            Some(Found::Rows(rows)) => self.sealing.seal(busy, self.place.clone(), rows).await,
            None => self.sealing.newest(),
        };
        Ok(self
            .sealing
            .describe(sealed)
            .map_err(|error| undescribed(&error))?)
    }
}
