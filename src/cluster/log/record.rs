//! An entry, a vote and a log id as bytes on the disk.
//!
//! ```text
//! entry      version u8 | postcard (log id, kind) | for a batch: its bytes, to the end
//! vote       version u8 | postcard vote
//! committed  version u8 | postcard log id
//! ```
//!
//! The bytes of a batch are stored as they are and handed out as a slice of what was read.

use super::{
    batch::{Batch, DecodeError},
    types::{Entry, LogId, Membership},
};
use bytes::Bytes;
use openraft::EntryPayload;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Version of everything this file writes.
const VERSION: u8 = 1;
/// Bytes in front of a batch, usually.
const HEAD_BYTES_EXPECTED: usize = 32;

/// What comes in front of the bytes of a batch.
#[derive(Deserialize, Serialize)]
enum Kind {
    Blank,
    Membership(Membership),
    Batch,
}

/// Why stored bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// It was written by a later version of this program.
    #[error("it has version {found}, this program knows {VERSION}: run a newer one")]
    Version {
        /// The version in it.
        found: u8,
    },
    /// The part that is ours is damaged.
    #[error("it is damaged: {0}")]
    Damaged(#[from] postcard::Error),
    /// Something follows that does not belong there.
    #[error("{bytes} bytes too many")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// It says that it is another entry.
    #[error("it says it is entry {found}")]
    OtherIndex {
        /// The index in it.
        found: u64,
    },
    /// The batch in it cannot be understood.
    #[error(transparent)]
    Batch(#[from] DecodeError),
}

/// The stored form of an entry.
pub(crate) fn encode(entry: &Entry) -> Result<Bytes, RecordError> {
    let (kind, batch) = match &entry.payload {
        EntryPayload::Blank => (Kind::Blank, None),
        EntryPayload::Membership(membership) => (Kind::Membership(membership.clone()), None),
        EntryPayload::Normal(batch) => (Kind::Batch, Some(batch.bytes())),
    };
    let batch_bytes = batch.map_or(0, Bytes::len);
    let mut bytes = Vec::with_capacity(HEAD_BYTES_EXPECTED + batch_bytes);
    bytes.push(VERSION);
    let mut bytes = postcard::to_extend(&(entry.log_id, kind), bytes)?;
    bytes.extend_from_slice(batch.map_or(&[], |batch| batch));
    Ok(bytes.into())
}

/// The entry that was stored as `index`; `decode` understands the bytes of its batch.
pub(crate) fn decode(
    index: u64,
    bytes: &Bytes,
    decode: impl FnOnce(Bytes) -> Result<Batch, DecodeError>,
) -> Result<Entry, RecordError> {
    let ((log_id, kind), rest): ((LogId, Kind), _) = postcard::take_from_bytes(body(bytes)?)?;
    if log_id.index != index {
        return Err(RecordError::OtherIndex {
            found: log_id.index,
        });
    }
    let payload = match kind {
        Kind::Batch => EntryPayload::Normal(decode(bytes.slice_ref(rest))?),
        Kind::Blank | Kind::Membership(_) if !rest.is_empty() => {
            return Err(RecordError::TrailingBytes { bytes: rest.len() });
        }
        Kind::Blank => EntryPayload::Blank,
        Kind::Membership(membership) => EntryPayload::Membership(membership),
    };
    Ok(Entry { log_id, payload })
}

/// The stored form of a vote or a log id.
pub(crate) fn encode_small<T: Serialize>(value: &T) -> Result<Vec<u8>, RecordError> {
    Ok(postcard::to_extend(value, vec![VERSION])?)
}

/// The vote or log id that was stored.
pub(crate) fn decode_small<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    let (value, rest) = postcard::take_from_bytes(body(bytes)?)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(RecordError::TrailingBytes { bytes: rest.len() })
    }
}

fn body(bytes: &[u8]) -> Result<&[u8], RecordError> {
    match bytes.split_first() {
        None => Err(RecordError::Empty),
        Some((&VERSION, body)) => Ok(body),
        Some((&found, _)) => Err(RecordError::Version { found }),
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
