//! A value out of the bytes of a frame, or where and why it is not one.
//!
//! What is well formed is read once, without looking where it is. What is not is read once more to find out: that costs
//! whoever sent it as much as it costs here.

use super::trace::trace;
use postcard::{Deserializer, Error, de_flavors::Flavor};
use serde::Deserialize;
use std::{cell::Cell, rc::Rc};

/// Bytes are not the value that they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} in {field}, before byte {offset}")]
pub struct NotRead {
    /// The field, as a path from the value: `Request.Room.1.Commit.commit`.
    pub field: String,
    /// How far it could be read, in bytes.
    pub offset: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl NotRead {
    /// The same, of a value in a larger one: `rest` is what was left of `whole` when its reading began.
    #[must_use]
    pub fn after(mut self, whole: &[u8], rest: &[u8]) -> Self {
        self.offset += whole.len() - rest.len();
        self
    }
}

/// Reads a value; gives what follows it.
///
/// # Errors
/// [`NotRead`] when the bytes are not such a value.
pub fn take<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<(T, &'a [u8]), NotRead> {
    postcard::take_from_bytes(body).map_err(|error| find::<T>(body, &error))
}

/// Where the value cannot be read.
fn find<'a, T: Deserialize<'a>>(body: &'a [u8], first: &Error) -> NotRead {
    let taken = Rc::new(Cell::new(0));
    let counting = Counting {
        left: body,
        taken: Rc::clone(&taken),
    };
    let mut reader = Deserializer::from_flavor(counting);
    let found = trace::<T, _>(&mut reader);
    NotRead {
        field: found.err().unwrap_or_default(),
        offset: taken.get(),
        what: meaning(first),
    }
}

/// What an error of the encoding means to whoever wrote the bytes.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the other errors are of writing, or of encodings that are not used"
)]
const fn meaning(error: &Error) -> &'static str {
    match error {
        Error::DeserializeUnexpectedEnd => "it ends too early",
        Error::DeserializeBadVarint => "a number is too long",
        Error::DeserializeBadBool | Error::DeserializeBadOption => "a byte is neither 0 nor 1",
        Error::DeserializeBadUtf8 | Error::DeserializeBadChar => "a text is not UTF-8",
        Error::DeserializeBadEnum => "a variant is not known",
        // All else is what our own types refuse; the encoding does not keep their words.
        _ => "a value is not known, or breaks a limit",
    }
}

/// A slice that counts how much of it was taken.
struct Counting<'a> {
    left: &'a [u8],
    taken: Rc<Cell<usize>>,
}

impl<'a> Flavor<'a> for Counting<'a> {
    type Remainder = &'a [u8];
    type Source = &'a [u8];

    fn pop(&mut self) -> Result<u8, Error> {
        let [byte] = *self.try_take_n(1)? else {
            return Err(Error::DeserializeUnexpectedEnd);
        };
        Ok(byte)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }

    fn try_take_n(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let split = self.left.split_at_checked(count);
        let (taken, left) = split.ok_or(Error::DeserializeUnexpectedEnd)?;
        self.left = left;
        self.taken.set(self.taken.get() + count);
        Ok(taken)
    }

    fn finalize(self) -> Result<&'a [u8], Error> {
        Ok(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{
        BVec,
        link::{Ack, Request},
    };

    #[test]
    fn what_cannot_be_read_is_named_by_its_field_and_its_place() {
        let known = Request::Resolve(vec![1, 2, 3].into());
        let mut bytes = postcard::to_allocvec(&known).unwrap();
        assert_eq!(take::<Request>(&bytes).unwrap(), (known, &[][..]));
        bytes.pop();
        let cut = take::<Request>(&bytes).unwrap_err();
        let found = (&*cut.field, cut.what);
        assert_eq!(found, ("Request.Resolve", "it ends too early"));
        let unknown = take::<Request>(&[99, 0, 0]).unwrap_err();
        assert_eq!((&*unknown.field, unknown.offset), ("Request.99", 1));
        let too_many = take::<(u8, BVec<u8, 2>)>(&[7, 3, 1, 1, 1]).unwrap_err();
        assert_eq!((&*too_many.field, too_many.offset), (".1", 2));
        let ack = take::<Ack>(&[5, 1, 1]).unwrap_err();
        assert!(ack.field.starts_with("Ack.refused[0].room"), "{ack}");
    }
}
