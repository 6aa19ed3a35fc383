//! Hands committed batches to the shard, in log order.
//!
//! The applied state is in memory: after a start it is rebuilt from the log. There are no snapshots
//! yet, so whoever asks for one is refused.

use super::{
    batch::{Apply, DecodeError},
    raft::{Entry, LogId, StorageError, StoredMembership, Types},
};
use openraft::{
    AnyError, BasicNode, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta,
    StorageIOError, storage::RaftStateMachine,
};
use std::{convert::Infallible, sync::Arc};

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

    async fn apply_one(&mut self, entry: Entry) -> Result<(), DecodeError> {
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
                self.apply.apply(entry.log_id.index, batch).await;
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
