//! Hands committed batches to the shard, in log order.
//!
//! The applied state is in memory: after a start it is rebuilt from the log. There are no snapshots
//! yet, so whoever asks for one is refused.

use super::{
    batch::{Apply, ApplyError},
    group::StartError,
    raft::{Entry, LogId, StorageError, StoredMembership, Types},
    tail::Tail,
};
use futures::FutureExt;
use openraft::{
    AnyError, BasicNode, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta,
    StorageIOError, storage::RaftStateMachine,
};
use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc};

/// Somebody asked for a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are no snapshots in this version: the log is kept whole")]
struct NoSnapshots;

fn no_snapshots() -> StorageError {
    StorageIOError::read_snapshot(None, AnyError::new(&NoSnapshots)).into()
}

/// The end of the log: what was committed is applied here.
pub(crate) struct StateMachine {
    apply: Arc<dyn Apply>,
    applied: Option<LogId>,
    membership: StoredMembership,
}

impl StateMachine {
    pub(crate) fn new(apply: Arc<dyn Apply>) -> Self {
        Self {
            apply,
            applied: None,
            membership: StoredMembership::default(),
        }
    }

    /// Applies what the log says was committed, from its beginning, a few megabytes at a time.
    ///
    /// openraft would do it too, but in steps of a number of entries, whatever their size.
    pub(crate) async fn replay(&mut self, tail: &Arc<Tail>) -> Result<(), StartError> {
        let shard = tail.shard;
        let end = tail
            .committed()
            .map_or(0, |log_id| log_id.index.saturating_add(1));
        let mut from = 0;
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
                    return Err(ApplyError::Panicked { index });
                }
            }
        }
        self.applied = Some(entry.log_id);
        Ok(())
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotBuilder = NoBuilder;

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

    async fn get_snapshot_builder(&mut self) -> NoBuilder {
        NoBuilder
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Infallible>, StorageError> {
        Err(no_snapshots())
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta<u64, BasicNode>,
        snapshot: Box<Infallible>,
    ) -> Result<(), StorageError> {
        match *snapshot {}
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        Ok(None)
    }
}

/// Builds no snapshots.
pub(crate) struct NoBuilder;

impl RaftSnapshotBuilder<Types> for NoBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        Err(no_snapshots())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_asks_for_a_snapshot_is_told_that_there_are_none() {
        let error = NoBuilder.build_snapshot().await.unwrap_err();
        assert!(
            error.to_string().contains("there are no snapshots"),
            "{error}"
        );
    }
}
