//! The newest entries of a shard, in memory, so that apply reads and decodes nothing again.

use super::types::Entry;
use openraft::EntryPayload;
use std::{collections::VecDeque, ops::Range};

/// What an entry costs beside its batch, in bytes, roughly.
const ENTRY_BYTES_OVERHEAD: usize = 256;

/// A gap-free run of entries that ends with the last one of the log.
#[derive(Debug)]
pub(crate) struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

impl Recent {
    /// Keeps up to `bytes_max` bytes, and always what is not written yet.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// The indexes that are here.
    pub(crate) fn span(&self) -> Range<u64> {
        match (self.entries.front(), self.entries.back()) {
            (Some(first), Some(last)) => first.log_id.index..last.log_id.index.saturating_add(1),
            (None, _) | (_, None) => 0..0,
        }
    }

    /// Adds the entry that follows the last one. Lets go of the oldest ones while there are too
    /// many bytes, but not of `durable_next` and later: those can be read nowhere else.
    pub(crate) fn push(&mut self, entry: Entry, durable_next: u64) {
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
        while self.bytes > self.bytes_max
            && self
                .entries
                .front()
                .is_some_and(|oldest| oldest.log_id.index < durable_next)
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= cost(&oldest);
        }
    }

    /// Forgets `next` and later.
    pub(crate) fn truncate(&mut self, next: u64) {
        while self
            .entries
            .back()
            .is_some_and(|newest| newest.log_id.index >= next)
            && let Some(newest) = self.entries.pop_back()
        {
            self.bytes -= cost(&newest);
        }
    }

    /// Forgets what is below `next`.
    pub(crate) fn discard(&mut self, next: u64) {
        while self
            .entries
            .front()
            .is_some_and(|oldest| oldest.log_id.index < next)
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= cost(&oldest);
        }
    }

    /// Those of `wanted` that are here: the later part of it.
    pub(crate) fn range(&self, wanted: Range<u64>) -> Vec<Entry> {
        self.entries
            .iter()
            .skip_while(|entry| entry.log_id.index < wanted.start)
            .take_while(|entry| entry.log_id.index < wanted.end)
            .cloned()
            .collect()
    }
}

/// About how many bytes an entry takes.
pub(crate) fn cost(entry: &Entry) -> usize {
    let batch = match &entry.payload {
        EntryPayload::Normal(batch) => batch.bytes().len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    ENTRY_BYTES_OVERHEAD + batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::log::{batch::Batch, types::LogId};
    use std::sync::Arc;

    fn entry(index: u64) -> Entry {
        let log_id = LogId {
            index,
            ..LogId::default()
        };
        let batch = Batch::new(vec![0; 744].into(), Arc::new(()));
        Entry {
            log_id,
            payload: EntryPayload::Normal(batch),
        }
    }

    #[test]
    fn the_oldest_leave_first_and_what_is_not_durable_stays() {
        let mut recent = Recent::new(3_000);
        assert!(recent.span().is_empty());
        for index in 10..20 {
            recent.push(entry(index), 12);
        }
        assert_eq!(recent.span(), 12..20);
        recent.push(entry(20), 20);
        assert_eq!(recent.span(), 18..21);
        let found: Vec<_> = recent.range(5..20).iter().map(|e| e.log_id.index).collect();
        assert_eq!(found, [18, 19]);
    }

    #[test]
    fn a_truncation_forgets_the_newest() {
        let mut recent = Recent::new(10_000);
        for index in 0..5 {
            recent.push(entry(index), 5);
        }
        recent.truncate(3);
        assert_eq!(recent.span(), 0..3);
        recent.discard(2);
        assert_eq!(recent.span(), 2..3);
        recent.truncate(0);
        assert!(recent.span().is_empty());
        assert_eq!(recent.bytes, 0);
    }
}
