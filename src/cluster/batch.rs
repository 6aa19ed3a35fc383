//! One log entry on its way: what is stored, and what apply uses.

use bytes::Bytes;
use mimi_actors::{
    machine::Ticket,
    record::{Command, Entry},
    wire::{self, FrameError},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, sync::Arc};

/// An entry, and who waits for its commands on this node.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The entry.
    pub(crate) entry: Entry,
    /// One ticket for each command where this node proposed it, none after a restart.
    tickets: Vec<Option<Ticket>>,
}

impl Decoded {
    /// The commands, and who waits for each.
    pub(crate) fn commands(&self) -> impl Iterator<Item = (&Command, Option<Ticket>)> {
        let tickets = self.tickets.iter().copied().chain(std::iter::repeat(None));
        self.entry.commands.iter().zip(tickets)
    }
}

/// One log entry: `bytes` is what is stored, `decoded` is what apply uses.
#[derive(Clone)]
pub struct Batch {
    bytes: Bytes,
    decoded: Arc<Decoded>,
}

impl Batch {
    /// A new entry of about `bytes` bytes.
    pub(crate) fn propose(entry: Entry, tickets: Vec<Option<Ticket>>, bytes: usize) -> Self {
        let bytes = wire::encode_sized(&entry, bytes);
        Self { bytes, decoded: Arc::new(Decoded { entry, tickets }) }
    }

    /// An entry as it was stored.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes are not an entry that this build reads.
    pub fn decode(bytes: Bytes) -> Result<Self, FrameError> {
        let entry = wire::decode(&bytes)?;
        Ok(Self { bytes, decoded: Arc::new(Decoded { entry, tickets: Vec::new() }) })
    }

    /// What is stored.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What apply uses.
    pub(crate) fn decoded(&self) -> &Arc<Decoded> {
        &self.decoded
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch of {} bytes", self.bytes.len())
    }
}

// openraft asks for serde; between nodes an entry travels as the bytes it is stored as.
impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        Self::decode(bytes).map_err(de::Error::custom)
    }
}
