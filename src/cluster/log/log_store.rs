//! What openraft asks of a log, answered from a shard's [`Tail`].

use super::{
    record,
    tail::{LogFault, Tail},
    types::{Entry, LogId, StorageError, Types, Vote},
};
use crate::store::round::ShardWrite;
use openraft::{
    AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};
use std::{
    error::Error,
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::Arc,
    time::Duration,
};

/// How long entries that could not be carried over wait before that is tried again.
const CARRY_AGAIN: Duration = Duration::from_secs(1);
/// Bytes of entries in one message to a voter, at most, unless a single entry is larger.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// The log of one shard, as openraft sees it.
#[derive(Clone)]
pub(crate) struct LogStore {
    tail: Arc<Tail>,
}

impl LogStore {
    pub(crate) fn new(tail: Arc<Tail>) -> Self {
        Self { tail }
    }
}

fn reading(error: &(impl Error + 'static)) -> StorageError {
    StorageIOError::read_logs(AnyError::new(error)).into()
}

fn writing(error: &(impl Error + 'static)) -> StorageError {
    StorageIOError::write_logs(AnyError::new(error)).into()
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        self.tail
            .read(start..end)
            .await
            .map_err(|fault| reading(&fault))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        let entries = self.tail.read(start..end).await;
        Ok(limited(entries.map_err(|fault| reading(&fault))?))
    }
}

/// As many of the first entries as one message to a voter may carry, the first whatever its size.
fn limited(mut entries: Vec<Entry>) -> Vec<Entry> {
    let mut bytes = 0;
    let fits = |entry: &Entry| {
        let before = bytes;
        bytes += super::recent::cost(entry);
        before == 0 || bytes <= MESSAGE_BYTES_MAX
    };
    let count = entries.iter().map(fits).take_while(|fits| *fits).count();
    entries.truncate(count);
    entries
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        Ok(LogState {
            last_purged_log_id: self.tail.discarded(),
            last_log_id: self.tail.last(),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let failed = |error: &dyn Error| StorageIOError::write_vote(AnyError::error(error));
        let vote = Some(record::encode_small(vote).map_err(|e| failed(&e))?);
        let write = ShardWrite {
            shard: self.tail.shard,
            vote,
            ..ShardWrite::default()
        };
        self.tail
            .writer
            .write_durably(write)
            .await
            .map_err(|e| failed(&e).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.tail
            .vote()
            .map_err(|fault| StorageIOError::read_vote(AnyError::new(&fault)).into())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.tail.commit(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.tail.committed())
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let committed = self
            .tail
            .committed()
            .map(|log_id| record::encode_small(&log_id));
        let write = ShardWrite {
            shard: self.tail.shard,
            entries: self.tail.push(entries).map_err(|fault| writing(&fault))?,
            vote: None,
            committed: committed.transpose().map_err(|error| writing(&error))?,
        };
        let next = write
            .entries
            .last()
            .map_or(0, |(index, _)| index.saturating_add(1));
        let tail = self.tail.clone();
        let done = Box::new(move |written: Result<(), _>| {
            if written.is_ok() {
                tail.durable(next);
            }
            callback.log_io_completed(written.map_err(io::Error::other));
        });
        self.tail
            .writer
            .write(write, done)
            .await
            .map_err(|error| writing(&error))
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let before = log_id.index.saturating_sub(1)..log_id.index;
        let last = self
            .tail
            .read(before)
            .await
            .map_err(|fault| reading(&fault))?;
        let cut = self
            .tail
            .writer
            .truncate(self.tail.shard, log_id.index)
            .await;
        cut.map_err(|error| writing(&error))?;
        self.tail
            .truncate(log_id.index, last.last().map(|entry| entry.log_id));
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let below = log_id.index.saturating_add(1);
        while self.tail.carried() < below {
            match self.tail.carry(below).await {
                Ok(()) => {}
                // As on a full disk. openraft would take an error for the end of the shard.
                Err(LogFault::Backlog(error)) if !error.is_damage() => {
                    tracing::error!(shard = self.tail.shard, %error, "nothing is discarded until this works");
                    tokio::time::sleep(CARRY_AGAIN).await;
                }
                Err(fault) => return Err(writing(&fault)),
            }
        }
        let last = record::encode_small(&log_id).map_err(|error| writing(&error))?;
        let discarded = self.tail.writer.discard(self.tail.shard, below, last).await;
        discarded.map_err(|error| writing(&error))?;
        self.tail.discard(log_id);
        Ok(())
    }
}

#[cfg(test)]
#[path = "log_store_tests.rs"]
mod tests;
