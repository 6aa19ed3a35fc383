//! What a log entry carries, what is done with it once it is committed, and the state that comes of it.

use crate::store::snapshot::Row;
use bytes::Bytes;
use futures::future::BoxFuture;
use mimi_actors::wire::Payload;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{any::Any, collections::BTreeSet, fmt, sync::Arc};

/// One log entry: what waited, as one batch.
///
/// The bytes are what is stored; the decoded form is what apply uses, so that nothing is decoded
/// twice on the way. Only the bytes travel through serde.
#[derive(Clone)]
pub struct Batch {
    bytes: Bytes,
    decoded: Arc<dyn Any + Send + Sync>,
}

/// Stands for the decoded form where only bytes arrived.
struct Undecoded;

impl Batch {
    /// A batch of which both forms are known.
    #[must_use]
    pub fn new(bytes: Bytes, decoded: Arc<dyn Any + Send + Sync>) -> Self {
        Self { bytes, decoded }
    }

    /// What is stored.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// What apply uses; see [`Batch::is_decoded`].
    #[must_use]
    pub fn decoded(&self) -> &Arc<dyn Any + Send + Sync> {
        &self.decoded
    }

    /// False for a batch that came through serde. Such a batch is decoded before it is applied.
    #[must_use]
    pub fn is_decoded(&self) -> bool {
        !self.decoded.is::<Undecoded>()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} bytes)", self.bytes.len())
    }
}

impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.bytes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // In a frame of another node it is a slice of that frame.
        let Payload(bytes) = Payload::deserialize(deserializer)?;
        Ok(Self {
            bytes,
            decoded: Arc::new(Undecoded),
        })
    }
}

/// A stored batch that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the batch cannot be decoded: {reason}")]
pub struct DecodeError {
    /// Why.
    pub reason: String,
}

/// Why a committed batch was not applied. The shard stops, for what follows builds on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It cannot be understood.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Applying it panicked.
    #[error("applying entry {index} panicked: this is a bug; the shard stops")]
    Panicked {
        /// The entry.
        index: u64,
    },
}

/// Why the state of a shard cannot be looked at or taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Its state may be half changed.
    #[error(
        "{who} is frozen since the command at {at}: until a version that applies it replays the \
         log, the log is kept"
    )]
    Frozen {
        /// Which actor.
        who: String,
        /// The command that froze it.
        at: String,
    },
    /// The actor has ended, and its state with it.
    #[error("{who} has ended: restart the node to replay the log")]
    Gone {
        /// Which actor.
        who: String,
    },
    /// A row of a snapshot is not understood.
    #[error("{who} does not read: {reason}; run the version that wrote the snapshot")]
    Row {
        /// Of what it should be the state.
        who: String,
        /// Why.
        reason: String,
    },
}

/// What the shard does with committed batches.
pub trait Apply: Send + Sync + 'static {
    /// Decodes a stored batch after a restart.
    ///
    /// # Errors
    /// [`DecodeError`] keeps the shard from starting: an entry is never skipped.
    fn decode(&self, bytes: Bytes) -> Result<Batch, DecodeError>;

    /// Applies entry `index`; called once per entry, in order. Returns when every actor has
    /// applied it.
    fn apply(&self, index: u64, batch: Batch) -> BoxFuture<'_, ()>;

    /// The whole state as of the last entry applied. Nothing is applied meanwhile.
    ///
    /// # Errors
    /// [`StateError`] while an actor cannot give its state.
    fn pack(&self) -> BoxFuture<'_, Result<Vec<Row>, StateError>>;

    /// Takes over a state that [`Apply::pack`] gave, in place of all there was.
    ///
    /// # Errors
    /// [`StateError::Row`] when it is not understood.
    fn unpack(&self, rows: Vec<Row>) -> BoxFuture<'_, Result<(), StateError>>;

    /// The entries below `below` that a state which [`Apply::pack`] gave on another node points at.
    ///
    /// # Errors
    /// [`StateError::Row`] when it is not understood.
    fn pointed_in(&self, rows: &[Row], below: u64) -> Result<BTreeSet<u64>, StateError>;

    /// The entries below `below` that the state points at: their bytes may still be asked for. What
    /// is not among them will never be, whatever is applied later.
    ///
    /// # Errors
    /// [`StateError::Gone`] when an actor cannot be asked.
    fn pointed_at(&self, below: u64) -> BoxFuture<'_, Result<BTreeSet<u64>, StateError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_travels_as_its_bytes_alone_and_arrives_undecoded() {
        let batch = Batch::new(Bytes::from_static(b"abc"), Arc::new(7_u8));
        assert!(batch.is_decoded());
        assert_eq!(format!("{batch:?}"), "Batch(3 bytes)");
        let sent = postcard::to_stdvec(&batch).unwrap();
        assert_eq!(sent, b"\x03abc");
        let arrived: Batch = postcard::from_bytes(&sent).unwrap();
        assert_eq!(arrived.bytes(), batch.bytes());
        assert!(!arrived.is_decoded());
    }
}
