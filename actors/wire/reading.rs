//! A value out of the bytes of a frame, or where and why it is not one.
//!
//! What is well formed is read once, without looking where it is. What is not is read once more to find out: that costs
//! whoever sent it as much as it costs here.

use super::reader::{Path, Reader, Unasked, Wrong};
use serde::Deserialize;

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
    let mut reader = Reader {
        left: body,
        place: Unasked,
    };
    match T::deserialize(&mut reader) {
        Ok(value) => Ok((value, reader.left)),
        Err(wrong) => Err(find::<T>(body, wrong)),
    }
}

/// Where the value cannot be read.
fn find<'a, T: Deserialize<'a>>(body: &'a [u8], wrong: Wrong) -> NotRead {
    let mut reader = Reader {
        left: body,
        place: Path::default(),
    };
    // What was refused once is refused again.
    let _ = T::deserialize(&mut reader);
    NotRead {
        field: reader.place.0,
        offset: body.len() - reader.left.len(),
        what: wrong.meaning(),
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
