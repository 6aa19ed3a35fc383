//! Frames and records: what crosses a lane or lies in the log, and how it is encoded.
//!
//! A frame is a version byte and one postcard value. Promises: bounded types only, lengths checked before memory is
//! taken, no trailing bytes, payloads sliced out of the frame without a copy. Canonical objects (MLS messages) travel
//! as opaque bytes and are never encoded again.

pub mod answer;
pub mod bounded;
pub mod claim;
pub mod door;
pub mod event;
pub mod joining;
pub mod link;
pub mod payload;
pub mod post;
pub mod tree;

pub use bounded::{BText, BVec};
pub use payload::Payload;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Version of every frame and record written by this build.
pub const VERSION: u8 = 1;

/// Why bytes are not the frame they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte names a version that this build does not read.
    #[error("version {found} is not readable, this build reads {VERSION}")]
    Version {
        /// The version found.
        found: u8,
    },
    /// There is no first byte.
    #[error("the frame is empty")]
    Empty,
    /// The rest is not the expected value, or breaks a bound.
    #[error("the frame does not decode: {0}")]
    Shape(String),
    /// Bytes follow the value.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
}

/// Encodes a value behind the version byte.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    encode_sized(value, 256)
}

/// As [`encode`], with room for about `bytes` from the start.
#[must_use]
pub fn encode_sized<T: Serialize>(value: &T, bytes: usize) -> Bytes {
    let mut out = Vec::with_capacity(bytes);
    out.push(VERSION);
    // Every type here serialises without errors: lengths are known, there are no maps and no custom failures.
    let out = postcard::to_extend(value, out).unwrap_or_default();
    debug_assert!(!out.is_empty(), "a frame type refused to serialise");
    out.into()
}

/// Decodes a value; [`Payload`]s inside it are slices of `frame`.
///
/// # Errors
/// [`FrameError`] when the version is unknown, the value is malformed or out of bounds, or bytes remain.
pub fn decode<T: DeserializeOwned>(frame: &Bytes) -> Result<T, FrameError> {
    let (&found, body) = frame.split_first().ok_or(FrameError::Empty)?;
    if found != VERSION {
        return Err(FrameError::Version { found });
    }
    let (value, rest) = payload::slicing(frame, || postcard::take_from_bytes::<T>(body))
        .map_err(|error| FrameError::Shape(error.to_string()))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(FrameError::Trailing(rest.len()))
    }
}
