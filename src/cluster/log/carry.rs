//! Entries that are still needed when their part of the log is discarded.
//!
//! Promises: an entry leaves the log only after the backlog has it or nothing points at it; a shard that starts has
//! every entry that its state points at.

use super::tail::{LogFault, READ_BYTES_MAX, Tail};
use crate::store::backlog::BacklogError;
use bytes::Bytes;
use std::{collections::BTreeSet, ops::Range, sync::Arc};
use tokio::task;

impl Tail {
    /// Puts the entries below `below` that something points at into the backlog, and lets go of
    /// those in it that nothing points at any more.
    pub(crate) async fn carry(self: &Arc<Self>, below: u64) -> Result<(), LogFault> {
        let busy = self.rest().await;
        let needed = self.pointed_at(below).await?;
        let turn = self.backlog.turn().await;
        let tail = Arc::clone(self);
        let carried = task::spawn_blocking(move || {
            let _turn = turn;
            let carried = tail.carry_stored(below, &needed);
            // Whoever waits for this to end may open the log again.
            drop(tail);
            drop(busy);
            carried
        });
        match carried.await {
            Ok(carried) => carried,
            // The runtime is being shut down.
            Err(_) => std::future::pending().await,
        }
    }

    /// One more than the last entry that was looked at for the backlog.
    pub(crate) fn carried(&self) -> u64 {
        self.backlog.carried(self.shard)
    }

    /// Makes sure that whatever the state points at is in the log or in the backlog.
    pub(crate) async fn check_holes(self: &Arc<Self>) -> Result<(), LogFault> {
        let needed = self.pointed_at(u64::MAX).await?;
        self.none_missing(&needed, self.log.span(self.shard))
    }

    /// Makes sure that entries are in this part of the log or in the backlog.
    fn none_missing(&self, needed: &BTreeSet<u64>, log: Range<u64>) -> Result<(), LogFault> {
        let carried: BTreeSet<u64> = self.backlog.indexes(self.shard)?.into_iter().collect();
        let missing = |index: &&u64| !log.contains(*index) && !carried.contains(*index);
        let mut missing = needed.iter().filter(missing);
        match missing.next() {
            None => Ok(()),
            Some(first) => Err(LogFault::Hole {
                shard: self.shard,
                index: *first,
                count: 1 + missing.count(),
            }),
        }
    }

    /// The same while the shard is at work: of what the state points at, everything before the log is in the backlog.
    pub(crate) async fn check_carried(self: &Arc<Self>) -> Result<(), LogFault> {
        // Whatever is not needed any more must not be forgotten in between.
        let _busy = self.rest().await;
        let needed = self.pointed_at(self.start()).await?;
        self.none_missing(&needed, 0..0)
    }

    async fn pointed_at(&self, below: u64) -> Result<BTreeSet<u64>, LogFault> {
        let shard = self.shard;
        let found = self.apply.pointed_at(below).await;
        found.map_err(|source| LogFault::State { shard, source })
    }

    fn carry_stored(&self, below: u64, needed: &BTreeSet<u64>) -> Result<(), LogFault> {
        let shard = self.shard;
        let span = self.log.span(shard);
        // What lies above came with another node's snapshot. openraft discards the log while that is still taken over,
        // so the state may not point at it yet.
        let looked = self.backlog.carried(shard).min(below);
        let from = self.backlog.carried(shard).max(span.start);
        let end = below.min(span.end);
        // What came with another node's snapshot was committed; the log may hold an entry that never was.
        let here: BTreeSet<u64> = self.backlog.indexes(shard)?.into_iter().collect();
        let missing = needed.range(from..end.max(from)).copied();
        // Most of the log was read by everybody by now: nothing else of it is read again.
        for run in runs(missing.filter(|index| !here.contains(index))) {
            let mut from = run.start;
            while from < run.end {
                let stored = self
                    .log
                    .read(shard, from, run.end, READ_BYTES_MAX)
                    .map_err(|error| LogFault::Read(Arc::new(error)))?;
                let Some((last, _)) = stored.last().filter(|_| starts_at(&stored, from)) else {
                    return Err(LogFault::Missing { shard, index: from });
                };
                from = last.saturating_add(1);
                self.backlog.carry(shard, from, &stored, &[])?;
            }
        }
        let mut unneeded = self.backlog.indexes(shard)?;
        unneeded.retain(|index| *index < looked && !needed.contains(index));
        if !unneeded.is_empty() || self.backlog.carried(shard) < below {
            self.backlog.carry(shard, below, &[], &unneeded)?;
        }
        Ok(())
    }
}

/// Ascending numbers as ranges.
fn runs(indexes: impl Iterator<Item = u64>) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some(run) if run.end == index => run.end = index.saturating_add(1),
            Some(_) | None => runs.push(index..index.saturating_add(1)),
        }
    }
    runs
}

fn starts_at(stored: &[(u64, Bytes)], from: u64) -> bool {
    stored.first().is_some_and(|(index, _)| *index == from)
}

impl From<BacklogError> for LogFault {
    fn from(error: BacklogError) -> Self {
        Self::Backlog(Arc::new(error))
    }
}
