//! Frames and records: what crosses a lane or lies in the log, and how it is encoded.
//!
//! A frame is a version byte, see [`version`], and one postcard value. Promises: bounded types only, lengths checked before memory is
//! taken, no trailing bytes, payloads sliced out of the frame without a copy. Canonical objects (MLS messages) travel
//! as opaque bytes and are never encoded again.

pub mod answer;
pub mod bounded;
pub mod claim;
pub mod consent;
pub mod door;
pub mod event;
pub mod joining;
pub mod link;
pub mod payload;
pub mod post;
mod reader;
pub mod reading;
pub mod refusal;
mod refuses;
pub mod room;
pub mod tree;
pub mod user;
pub mod version;

pub use bounded::{BText, BVec, TooMany};
pub use payload::Payload;
pub use reading::NotRead;
pub use version::{Unwritten, Versioned};

use bytes::Bytes;
use refusal::{Flaw, RefusalCode};
use serde::Serialize;

/// Why bytes are not the frame they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte names a version that this build does not read.
    #[error("{format} version {found} is not readable, this build reads {oldest} to {newest}")]
    Version {
        /// What should have come.
        format: &'static str,
        /// The version found.
        found: u8,
        /// The oldest that is read.
        oldest: u8,
        /// The newest that is read.
        newest: u8,
    },
    /// There is no first byte.
    #[error("the frame is empty")]
    Empty,
    /// The rest is not the expected value, or breaks a bound.
    #[error("the frame does not decode: {0}")]
    Shape(NotRead),
    /// Bytes follow the value.
    #[error("{count} bytes follow the value, from byte {offset} on")]
    Trailing {
        /// How many.
        count: usize,
        /// Where they begin in the frame.
        offset: usize,
    },
}

impl FrameError {
    /// What whoever sent the frame is told.
    #[must_use]
    pub fn flaw(&self) -> Flaw {
        let flaw = Flaw::new(RefusalCode::BadFrame, &self.to_string());
        match self {
            Self::Version { .. } => flaw.in_field("version").at_byte(Some(0)),
            Self::Empty => flaw,
            Self::Shape(not_read) => flaw
                .in_field(&not_read.field)
                .at_byte(Some(not_read.offset)),
            Self::Trailing { offset, .. } => flaw.at_byte(Some(*offset)),
        }
    }
}

/// Encodes a value in the newest version of its format.
#[must_use]
pub fn encode<T: Versioned>(value: &T) -> Bytes {
    encode_sized(value, 256)
}

/// As [`encode`], with room for about `bytes` from the start.
#[must_use]
pub fn encode_sized<T: Versioned>(value: &T, bytes: usize) -> Bytes {
    // The newest version has a word for everything, and every type here serialises without errors: lengths are known,
    // there are no maps and no custom failures.
    let out = encode_in(T::FORMAT.newest, value, bytes).unwrap_or_default();
    debug_assert!(!out.is_empty(), "a frame type refused to serialise");
    out
}

/// Encodes a value that is stored, in the oldest version that has a word for it: as long as nothing of a release is in it,
/// the release before reads it.
#[must_use]
pub fn encode_stored<T: Versioned>(value: &T) -> Vec<u8> {
    let format = T::FORMAT;
    let mut versions = format.oldest..format.newest;
    let version = versions.find(|version| value.is_in(*version).is_ok());
    let version = version.unwrap_or(format.newest);
    let out = value.write(version, vec![version]).unwrap_or_default();
    debug_assert!(!out.is_empty(), "a stored type refused to serialise");
    out
}

/// Encodes a value in the version that was agreed with whoever reads it, with room for about `bytes` from the start.
///
/// # Errors
/// [`Unwritten`] when that version has no word for it.
pub fn encode_in<T: Versioned>(version: u8, value: &T, bytes: usize) -> Result<Bytes, Unwritten> {
    let mut out = Vec::with_capacity(bytes);
    out.push(version);
    Ok(value.write(version, out)?.into())
}

/// Bytes of a value that are hashed or signed: the same whatever versions come.
#[must_use]
pub fn canonical<T: Serialize>(value: &T) -> Bytes {
    /// What was in front when there was one version of everything.
    const FRONT: u8 = 1;
    let bytes = postcard::to_extend(value, vec![FRONT]).unwrap_or_default();
    debug_assert!(!bytes.is_empty(), "a type refused to serialise");
    bytes.into()
}

/// Decodes a value of any version that is read; [`Payload`]s inside it are slices of `frame`.
///
/// # Errors
/// [`FrameError`] when the version is unknown, the value is malformed or out of bounds, or bytes remain.
pub fn decode<T: Versioned>(frame: &Bytes) -> Result<T, FrameError> {
    let (&found, body) = frame.split_first().ok_or(FrameError::Empty)?;
    let format = T::FORMAT;
    if !format.reads(found) {
        return Err(FrameError::Version {
            format: format.name,
            found,
            oldest: format.oldest,
            newest: format.newest,
        });
    }
    let (value, rest) = payload::slicing(frame, || T::read(found, body)).map_err(|mut error| {
        // The version is a byte of the frame.
        error.offset += 1;
        FrameError::Shape(error)
    })?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(FrameError::Trailing {
            count: rest.len(),
            offset: frame.len() - rest.len(),
        })
    }
}
