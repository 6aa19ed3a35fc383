//! One shard's part of the node's log, as entries.
//!
//! Owns: the newest entries in memory, and the translation between entries and stored bytes.
//! A stored entry that cannot be understood is kept here as a [`LogFault`], for openraft passes on
//! only its text.

use super::{
    batch::{Apply, StateError},
    recent::Recent,
    record::{self, RecordError},
    types::{Entry, LogId},
};
use crate::store::{
    Disk,
    backlog::{Backlog, BacklogError},
    log::{Log, ReadError},
    writer::LogWriter,
};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::{
    ops::Range,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::OwnedMutexGuard, task};

/// Newest entries that each shard keeps in memory, in bytes.
const RECENT_BYTES_MAX: usize = 4 << 20;
/// Bytes that one read of the disk returns, about.
pub(crate) const READ_BYTES_MAX: usize = 4 << 20;

/// Why the log of a shard cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogFault {
    /// A stored entry cannot be understood. It is never skipped.
    #[error(
        "shard {shard}: entry {index} cannot be used: {source}; \
         run the version that wrote it, or rebuild this node from its peers"
    )]
    Entry {
        /// The shard.
        shard: u16,
        /// The entry.
        index: u64,
        /// What is wrong with it.
        source: RecordError,
    },
    /// The stored vote, or what is stored as committed, cannot be understood.
    #[error(
        "shard {shard}: the stored {what} cannot be used: {source}; \
         run the version that wrote it, or rebuild this node from its peers"
    )]
    Value {
        /// The shard.
        shard: u16,
        /// Which value.
        what: &'static str,
        /// What is wrong with it.
        source: RecordError,
    },
    /// Entries that the log should hold are not there.
    #[error("shard {shard}: entry {index} is missing: rebuild this node from its peers")]
    Missing {
        /// The shard.
        shard: u16,
        /// The first that is missing.
        index: u64,
    },
    /// The log could not be read.
    #[error(transparent)]
    Read(Arc<ReadError>),
    /// Entries that the state points at are neither in the log nor in the backlog.
    #[error(
        "shard {shard}: entry {index} and {} others that are still owed to somebody are neither in the log nor in \
         the backlog: restore the backlog, or rebuild this node from its peers", count - 1
    )]
    Hole {
        /// The shard.
        shard: u16,
        /// The first that is missing.
        index: u64,
        /// How many are.
        count: usize,
    },
    /// The backlog cannot be used.
    #[error(transparent)]
    Backlog(Arc<BacklogError>),
    /// The state does not say what it points at.
    #[error("shard {shard}: {source}")]
    State {
        /// The shard.
        shard: u16,
        /// Why.
        source: StateError,
    },
}

/// What changes as entries come.
struct State {
    recent: Recent,
    /// The last entry, written or still waiting for the writer; that discarded last where none is left.
    last: Option<LogId>,
    /// The last entry that was discarded.
    discarded: Option<LogId>,
    /// One more than the last entry known to be durable.
    durable_next: u64,
    /// What openraft last said is committed.
    committed: Option<LogId>,
    fault: Option<LogFault>,
}

/// One shard's part of the log. All that openraft holds of a shard's log shares one.
pub(crate) struct Tail {
    pub(crate) shard: u16,
    pub(crate) writer: LogWriter,
    pub(crate) log: Arc<Log>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) apply: Arc<dyn Apply>,
    state: Mutex<State>,
    /// Held while the backlog is written.
    busy: Arc<tokio::sync::Mutex<()>>,
}

impl Tail {
    /// Looks at the end of a shard's log.
    pub(crate) async fn open(
        shard: u16,
        disk: &Disk,
        apply: Arc<dyn Apply>,
    ) -> Result<Arc<Self>, LogFault> {
        let log = Arc::clone(&disk.log);
        let span = log.span(shard);
        let discarded = small(shard, "end of what was discarded", log.discarded(shard))?;
        let committed = small(shard, "commit position", log.committed(shard))?;
        let state = Mutex::new(State {
            recent: Recent::new(RECENT_BYTES_MAX),
            last: None,
            discarded,
            durable_next: span.end,
            committed,
            fault: None,
        });
        let tail = Arc::new(Self {
            shard,
            writer: disk.writer.clone(),
            log,
            backlog: Arc::clone(&disk.backlog),
            apply,
            state,
            busy: Arc::default(),
        });
        if let Some(index) = span.end.checked_sub(1).filter(|index| span.contains(index)) {
            let last = tail.read(index..span.end).await?;
            tail.state().last = last.last().map(|entry| entry.log_id);
        } else {
            tail.state().last = discarded;
        }
        Ok(tail)
    }

    /// The first entry of the log.
    pub(crate) fn start(&self) -> u64 {
        self.log.span(self.shard).start
    }

    /// Waits until the backlog is not being written, and keeps it so.
    pub(crate) async fn rest(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.busy).lock_owned().await
    }

    /// The last entry that was discarded.
    pub(crate) fn discarded(&self) -> Option<LogId> {
        self.state().discarded
    }

    /// Takes note that the entries up to `upto` are discarded.
    pub(crate) fn discard(&self, upto: LogId) {
        let mut state = self.state();
        let next = upto.index.saturating_add(1);
        state.recent.discard(next);
        state.durable_next = state.durable_next.max(next);
        state.discarded = state.discarded.max(Some(upto));
        if state.last.is_none_or(|last| last.index < next) {
            state.last = Some(upto);
        }
    }

    /// The last entry, written or still waiting for the writer; that discarded last where none is left.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.state().last
    }

    /// The stored vote, if it is one.
    pub(crate) fn vote(&self) -> Result<Option<super::types::Vote>, LogFault> {
        small(self.shard, "vote", self.log.vote(self.shard)).inspect_err(|fault| self.keep(fault))
    }

    /// What openraft last said is committed.
    pub(crate) fn committed(&self) -> Option<LogId> {
        self.state().committed
    }

    /// Takes note of what is committed. It is stored with later entries, so it may lag.
    pub(crate) fn commit(&self, committed: Option<LogId>) {
        self.state().committed = committed;
    }

    /// Makes entries readable, before they are written, and returns their stored form. Those at or
    /// below what was discarded are passed over.
    pub(crate) fn push(
        &self,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<Vec<(u64, Bytes)>, LogFault> {
        let mut stored = Vec::new();
        let mut state = self.state();
        for entry in entries {
            let index = entry.log_id.index;
            // What was discarded is applied, and in a snapshot.
            if state.discarded.is_some_and(|upto| index <= upto.index) {
                continue;
            }
            let bytes = record::encode(&entry).map_err(|source| LogFault::Entry {
                shard: self.shard,
                index,
                source,
            })?;
            stored.push((index, bytes));
            let durable_next = state.durable_next;
            state.last = Some(entry.log_id);
            state.recent.push(entry, durable_next);
        }
        Ok(stored)
    }

    /// Takes note that everything below `next` is durable.
    pub(crate) fn durable(&self, next: u64) {
        let mut state = self.state();
        state.durable_next = state.durable_next.max(next);
    }

    /// Forgets `next` and later; `last` is what remains before.
    pub(crate) fn truncate(&self, next: u64, last: Option<LogId>) {
        let mut state = self.state();
        state.recent.truncate(next);
        state.durable_next = state.durable_next.min(next);
        state.last = last.or(state.discarded);
    }

    /// The entries of `wanted` that exist, all of them, from memory where they are there.
    pub(crate) async fn read(self: &Arc<Self>, wanted: Range<u64>) -> Result<Vec<Entry>, LogFault> {
        let (stored, recent) = {
            let state = self.state();
            let span = self.log.span(self.shard);
            let end = state
                .last
                .map_or(span.end, |last| last.index.saturating_add(1));
            let wanted = wanted.start.max(span.start)..wanted.end.min(end);
            let kept = state.recent.span();
            let disk_end = if kept.is_empty() {
                wanted.end
            } else {
                wanted.end.min(kept.start)
            };
            (wanted.start..disk_end, state.recent.range(wanted))
        };
        let mut entries = Vec::new();
        let mut from = stored.start;
        while from < stored.end {
            let some = self.read_some(from..stored.end).await?;
            from = from.saturating_add(some.len() as u64);
            entries.extend(some);
        }
        entries.extend(recent);
        Ok(entries)
    }

    /// The first entries of `wanted`, which is not empty, from the disk: at least one of them, and
    /// no more than a bounded number of bytes.
    pub(crate) async fn read_some(
        self: &Arc<Self>,
        wanted: Range<u64>,
    ) -> Result<Vec<Entry>, LogFault> {
        let tail = self.clone();
        let read = task::spawn_blocking(move || tail.read_stored(wanted)).await;
        match read {
            Ok(entries) => entries.inspect_err(|fault| self.keep(fault)),
            Err(stopped) => match stopped.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime is being shut down, and with it whoever waits here.
                Err(_) => std::future::pending().await,
            },
        }
    }

    fn read_stored(&self, wanted: Range<u64>) -> Result<Vec<Entry>, LogFault> {
        let shard = self.shard;
        let stored = self
            .log
            .read(shard, wanted.start, wanted.end, READ_BYTES_MAX)
            .map_err(|error| LogFault::Read(Arc::new(error)))?;
        // What is below the start of the log is not there, though the log begins with an entry.
        if stored.first().map(|(index, _)| *index) != Some(wanted.start) {
            return Err(LogFault::Missing {
                shard,
                index: wanted.start,
            });
        }
        let decode = |(index, bytes): (u64, Bytes)| {
            record::decode(index, &bytes, |batch| self.apply.decode(batch)).map_err(|source| {
                LogFault::Entry {
                    shard,
                    index,
                    source,
                }
            })
        };
        stored.into_iter().map(decode).collect()
    }

    /// The first fault that was met, if any.
    pub(crate) fn fault(&self) -> Option<LogFault> {
        self.state().fault.clone()
    }

    fn keep(&self, fault: &LogFault) {
        self.state().fault.get_or_insert_with(|| fault.clone());
    }

    /// A panic of another thread leaves the state whole: it is changed without a call in between.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn small<T: DeserializeOwned>(
    shard: u16,
    what: &'static str,
    bytes: Option<Vec<u8>>,
) -> Result<Option<T>, LogFault> {
    bytes
        .map(|bytes| record::decode_small(&bytes))
        .transpose()
        .map_err(|source| LogFault::Value {
            shard,
            what,
            source,
        })
}
