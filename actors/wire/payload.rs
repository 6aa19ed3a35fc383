//! Opaque bytes that are decoded without a copy.

use crate::wire::BVec;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{cell::RefCell, fmt, ops::Deref};

thread_local! {
    /// The frame that is being decoded on this thread.
    static FRAME: RefCell<Option<Bytes>> = const { RefCell::new(None) };
}

/// Runs `decode` with `frame` as the buffer that payloads are sliced from.
pub(super) fn slicing<T>(frame: &Bytes, decode: impl FnOnce() -> T) -> T {
    let outer = FRAME.with(|slot| slot.borrow_mut().replace(frame.clone()));
    let value = decode();
    FRAME.with(|slot| *slot.borrow_mut() = outer);
    value
}

/// Bytes as they arrived: hashed, stored and forwarded, never encoded again.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Payload(pub Bytes);

impl Deref for Payload {
    type Target = Bytes;
    fn deref(&self) -> &Bytes {
        &self.0
    }
}

impl<const MAX: usize> BVec<Payload, MAX> {
    /// About how many bytes all of them take, each with its length.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.iter().map(|payload| payload.len() + 8).sum()
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Slicer)
    }
}

struct Slicer;

impl de::Visitor<'_> for Slicer {
    type Value = Payload;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Payload, E> {
        let sliced = FRAME.with(|slot| {
            slot.borrow()
                .as_ref()
                .filter(|frame| lies_within(frame, bytes))
                .map(|frame| frame.slice_ref(bytes))
        });
        Ok(Payload(
            sliced.unwrap_or_else(|| Bytes::copy_from_slice(bytes)),
        ))
    }
}

/// Whether `part` is a piece of `whole`: `Bytes::slice_ref` panics when it is not.
fn lies_within(whole: &[u8], part: &[u8]) -> bool {
    let whole = whole.as_ptr_range();
    let part = part.as_ptr_range();
    whole.start <= part.start && part.end <= whole.end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{decode, encode, version::testing::Sample};

    #[test]
    fn a_decoded_payload_is_a_slice_of_its_frame() {
        let frame = encode(&Sample((7_u32, Payload::from(vec![1_u8; 100]))));
        let Sample((number, payload)): Sample<(u32, Payload)> = decode(&frame).unwrap();
        assert_eq!((number, payload.len()), (7, 100));
        assert!(lies_within(&frame, &payload));
    }

    #[test]
    fn a_payload_that_claims_more_than_there_is_is_refused() {
        let frame = Bytes::from_static(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2]);
        assert!(decode::<Sample<Payload>>(&frame).is_err());
    }
}
