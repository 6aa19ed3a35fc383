//! A log entry as apply uses it: its commands, and who waits for each on this node.

use super::batch::{Batch, DecodeError};
use bytes::Bytes;
use mimi_actors::{
    machine::Ticket,
    record::{Command, Entry},
    wire::{self, version::Level},
};
use std::sync::Arc;

/// An entry, and who waits for its commands on this node.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The entry.
    entry: Entry,
    /// One ticket for each command where this node proposed it, none after a restart.
    tickets: Vec<Option<Ticket>>,
    /// The leadership in which this node proposed it: tickets of an earlier one were given up.
    leadership: u64,
}

impl Decoded {
    /// An entry that this node is about to propose.
    pub(crate) fn proposed(entry: Entry, tickets: Vec<Option<Ticket>>, leadership: u64) -> Self {
        Self {
            entry,
            tickets,
            leadership,
        }
    }

    /// The commands, and who waits for each in this leadership.
    pub(crate) fn commands(
        &self,
        leadership: u64,
    ) -> impl Iterator<Item = (&Command, Option<Ticket>)> {
        let waiting = if self.leadership == leadership {
            self.tickets.as_slice()
        } else {
            &[]
        };
        let tickets = waiting.iter().copied().chain(std::iter::repeat(None));
        self.entry.commands.iter().zip(tickets)
    }
}

impl AsRef<Entry> for Decoded {
    fn as_ref(&self) -> &Entry {
        &self.entry
    }
}

/// The batch that carries an entry of about `bytes` bytes, for a shard of this level.
pub(crate) fn batch(decoded: &Arc<Decoded>, level: Level, bytes: usize) -> Batch {
    // Only the entry that raises the level has what the level before cannot say.
    let stored = wire::encode_in(level.record(), &decoded.entry, bytes);
    let stored = stored.unwrap_or_else(|_| wire::encode_sized(&decoded.entry, bytes));
    Batch::new(stored, Arc::clone(decoded) as _)
}

/// The batch that was stored as `bytes`.
///
/// # Errors
/// [`DecodeError`] when the bytes are not an entry that this build reads.
pub(crate) fn decode(bytes: Bytes) -> Result<Batch, DecodeError> {
    let entry: Entry = wire::decode(&bytes).map_err(|error| DecodeError {
        reason: error.to_string(),
    })?;
    let decoded = Arc::new(Decoded {
        entry,
        tickets: Vec::new(),
        leadership: 0,
    });
    Ok(Batch::new(bytes, decoded))
}

/// The entry that a batch carries, decoded if it is not yet.
///
/// # Errors
/// [`DecodeError`] when the bytes are not an entry that this build reads.
pub(crate) fn of(batch: &Batch) -> Result<Arc<Decoded>, DecodeError> {
    match Arc::clone(batch.decoded()).downcast() {
        Ok(decoded) => Ok(decoded),
        Err(_) => {
            let again = decode(batch.bytes().clone())?;
            let bug = DecodeError {
                reason: "a decoded batch holds no entry".to_owned(),
            };
            Arc::clone(again.decoded()).downcast().map_err(|_| bug)
        }
    }
}
