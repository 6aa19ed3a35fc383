//! The newest entries of a shard, decoded, in memory; older ones are read back from the log or the backlog.

use super::decoded::Decoded;
use mimi_actors::shard::read::ReadError;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

/// Bytes of entries that a shard keeps decoded, at most; the newest is kept whatever its size.
const ENTRIES_BYTES_MAX: usize = 8 << 20;

/// Reads an old entry back from the log, or the backlog.
pub(crate) type ReadEntry = Box<dyn Fn(u64) -> Result<Arc<Decoded>, ReadError> + Send + Sync>;

#[derive(Default)]
struct Recent {
    entries: VecDeque<(u64, usize, Arc<Decoded>)>,
    bytes: usize,
}

/// A shard's way back from a position to a command.
pub(crate) struct Entries {
    recent: Mutex<Recent>,
    read: ReadEntry,
}

impl Entries {
    pub(crate) fn new(read: ReadEntry) -> Self {
        Self {
            recent: Mutex::default(),
            read,
        }
    }

    /// Keeps an entry of `bytes` bytes that was just applied.
    pub(crate) fn push(&self, index: u64, bytes: usize, entry: &Arc<Decoded>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.entries.push_back((index, bytes, Arc::clone(entry)));
        recent.bytes += bytes;
        while recent.bytes > ENTRIES_BYTES_MAX
            && recent.entries.len() > 1
            && let Some((_, bytes, _)) = recent.entries.pop_front()
        {
            recent.bytes -= bytes;
        }
    }

    /// The entry at `index`. May read a file.
    ///
    /// # Errors
    /// [`ReadError`] when the log does not give it back.
    pub(crate) fn entry(&self, index: u64) -> Result<Arc<Decoded>, ReadError> {
        let recent = {
            let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            let place = recent
                .entries
                .binary_search_by_key(&index, |(index, _, _)| *index)
                .ok();
            place
                .and_then(|place| recent.entries.get(place))
                .map(|(_, _, entry)| Arc::clone(entry))
        };
        recent.map_or_else(|| (self.read)(index), Ok)
    }
}
