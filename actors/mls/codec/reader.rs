//! A bounded reader of the RFC 9420 presentation language.
//!
//! Promises: never panics, never allocates before a length is checked against what is left and against a limit,
//! refuses whatever has two spellings (over-long lengths, optional octets other than 0 and 1, bytes after the end).
//! Not here: meaning.

use super::bounds;

/// Why bytes are not the MLS object they are said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end before the object does, or a length leads past what holds it.
    #[error("ends too early at byte {at}")]
    Truncated {
        /// Offset of what could not be read.
        at: usize,
    },
    /// A length is not in its shortest form, or has the prefix that does not exist.
    #[error("length at byte {at} is not in its shortest form")]
    Length {
        /// Offset of the length.
        at: usize,
    },
    /// Bytes follow the end of the object.
    #[error("bytes follow the end of the object at byte {at}")]
    Trailing {
        /// Offset of the first byte too many.
        at: usize,
    },
    /// A part is longer than its limit.
    #[error("{what} has {bytes} bytes, the limit is {max}")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Length found, in bytes.
        bytes: usize,
        /// Longest accepted, in bytes.
        max: usize,
    },
    /// A list has more elements than its limit.
    #[error("more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// Most accepted.
        max: usize,
    },
    /// A field has a value that it may not have.
    #[error("{what} has a value that is not allowed, before byte {at}")]
    Value {
        /// Which field.
        what: &'static str,
        /// Offset just behind the field.
        at: usize,
    },
}

impl Malformed {
    /// The byte at which it stops being well formed, where there is one.
    #[must_use]
    pub const fn at(&self) -> Option<usize> {
        match *self {
            Self::Truncated { at }
            | Self::Length { at }
            | Self::Trailing { at }
            | Self::Value { at, .. } => Some(at),
            Self::TooLarge { .. } | Self::TooMany { .. } => None,
        }
    }
}

/// Why an object cannot be read: it is broken, or of a kind that this hub does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The bytes are not a well-formed MLS object.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Well formed as far as it was read, but of a kind that is not taken here.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

/// Reads one object from the front of a slice; slices it hands out borrow from the input.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    all: &'a [u8],
    /// Offset of the next byte in `all`.
    next: usize,
    /// Offset of `all` in the outermost object, so that errors speak of one coordinate.
    base: usize,
}

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            all: bytes,
            next: 0,
            base: 0,
        }
    }

    /// A reader of an object that may be at most `max` bytes long.
    ///
    /// # Errors
    /// [`Malformed::TooLarge`] when it is longer.
    pub const fn bounded(
        bytes: &'a [u8],
        what: &'static str,
        max: usize,
    ) -> Result<Self, Malformed> {
        if bytes.len() > max {
            return Err(Malformed::TooLarge {
                what,
                bytes: bytes.len(),
                max,
            });
        }
        Ok(Self::new(bytes))
    }

    /// Offset of the next byte in the outermost object.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.base.saturating_add(self.next)
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.all.len().saturating_sub(self.next)
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.left() == 0
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] when fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let taken = self
            .next
            .checked_add(count)
            .and_then(|end| self.all.get(self.next..end))
            .ok_or(Malformed::Truncated { at: self.at() })?;
        self.next += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let at = self.at();
        self.take(N)?
            .try_into()
            .map_err(|_| Malformed::Truncated { at })
    }

    /// One octet.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_be_bytes)
    }

    /// Two octets, big-endian.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] when fewer are left.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four octets, big-endian.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] when fewer are left.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight octets, big-endian.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] when fewer are left.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// The length in front of a vector: one, two or four octets, in the shortest form that holds it.
    fn length(&mut self) -> Result<usize, Malformed> {
        let at = self.at();
        let first = self.u8()?;
        let rest_bytes = match first >> 6 {
            0 => 0,
            1 => 1,
            2 => 3,
            _ => return Err(Malformed::Length { at }),
        };
        let mut length = usize::from(first & 0x3f);
        for byte in self.take(rest_bytes)? {
            length = (length << 8) | usize::from(*byte);
        }
        let shortest = match rest_bytes {
            0 => true,
            1 => length > 0x3f,
            _ => length > 0x3fff,
        };
        if shortest {
            Ok(length)
        } else {
            Err(Malformed::Length { at })
        }
    }

    /// The bytes of a vector `<V>`, without its length; at most `max` of them.
    ///
    /// # Errors
    /// [`Malformed`] when the length is not in its shortest form, above `max`, or leads past the end.
    pub fn vector(&mut self, what: &'static str, max: usize) -> Result<&'a [u8], Malformed> {
        let bytes = self.length()?;
        if bytes > self.left() {
            return Err(Malformed::Truncated { at: self.at() });
        }
        if bytes > max {
            return Err(Malformed::TooLarge { what, bytes, max });
        }
        self.take(bytes)
    }

    /// A reader of the bytes of a vector `<V>`; at most `max` of them.
    ///
    /// # Errors
    /// As [`Reader::vector`].
    pub fn inner(&mut self, what: &'static str, max: usize) -> Result<Self, Malformed> {
        let all = self.vector(what, max)?;
        let base = self.at().saturating_sub(all.len());
        Ok(Self { all, next: 0, base })
    }

    /// The octet in front of an optional value: whether the value follows.
    ///
    /// # Errors
    /// [`Malformed::Value`] when the octet is neither 0 nor 1.
    pub fn present(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.bad_value("optional octet")),
        }
    }

    /// A vector of 16-bit numbers.
    ///
    /// # Errors
    /// As [`Reader::vector`], and [`Malformed::Truncated`] when its length is odd.
    pub fn u16_list(&mut self, what: &'static str) -> Result<Vec<u16>, Malformed> {
        let mut inner = self.inner(what, bounds::CAPABILITY_LIST_BYTES_MAX)?;
        let mut list = Vec::with_capacity(inner.left() / 2);
        while !inner.is_empty() {
            list.push(inner.u16()?);
        }
        Ok(list)
    }

    /// Reads elements until nothing is left; at most `max` of them.
    ///
    /// # Errors
    /// [`Malformed::TooMany`] when there are more, or whatever `element` refuses.
    pub fn each<T, E: From<Malformed>>(
        mut self,
        what: &'static str,
        max: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        let mut elements = Vec::new();
        while !self.is_empty() {
            if elements.len() == max {
                return Err(Malformed::TooMany { what, max }.into());
            }
            elements.push(element(&mut self)?);
        }
        Ok(elements)
    }

    /// What was read since `mark`, an earlier copy of this reader.
    #[must_use]
    pub fn since(&self, mark: &Self) -> &'a [u8] {
        self.all.get(mark.next..self.next).unwrap_or_default()
    }

    /// Refuses bytes after the end of the object.
    ///
    /// # Errors
    /// [`Malformed::Trailing`] when something is left.
    pub const fn finish(&self) -> Result<(), Malformed> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Trailing { at: self.at() })
        }
    }

    /// The error for a field just read whose value is not allowed.
    #[must_use]
    pub const fn bad_value(&self, what: &'static str) -> Malformed {
        Malformed::Value {
            what,
            at: self.at(),
        }
    }
}

/// Appends the length in front of a vector, in its shortest form.
pub(crate) fn put_length(out: &mut Vec<u8>, length: usize) {
    debug_assert!(length < 1 << 30, "no object of this size passes the reader");
    let [.., a, b, c, d] = length.to_be_bytes();
    match length {
        0..=0x3f => out.push(d),
        0x40..=0x3fff => out.extend([c | 0x40, d]),
        _ => out.extend([a | 0x80, b, c, d]),
    }
}

/// Appends a vector `<V>`.
pub(crate) fn put_vector(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_that_have_a_shorter_form_are_refused() {
        for bytes in [
            &[0x40, 0x00][..],
            &[0x40, 0x3f],
            &[0x80, 0, 0, 1],
            &[0x80, 0, 0x3f, 0xff],
        ] {
            let mut reader = Reader::new(bytes);
            assert_eq!(
                reader.vector("x", 1 << 20),
                Err(Malformed::Length { at: 0 })
            );
        }
        for first in 0xc0..=0xff {
            let bytes = [first, 0, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(
                Reader::new(&bytes).vector("x", 9),
                Err(Malformed::Length { at: 0 })
            );
        }
    }

    #[test]
    fn a_length_past_the_end_or_the_limit_is_refused_before_anything_is_taken() {
        let mut reader = Reader::new(&[5, 1, 2]);
        assert_eq!(reader.vector("x", 9), Err(Malformed::Truncated { at: 1 }));
        let mut reader = Reader::new(&[0xbf, 0xff, 0xff, 0xff, 0]);
        assert_eq!(
            reader.vector("x", usize::MAX),
            Err(Malformed::Truncated { at: 4 })
        );
        let mut reader = Reader::new(&[2, 1, 2]);
        let max = 1;
        assert_eq!(
            reader.vector("x", max),
            Err(Malformed::TooLarge {
                what: "x",
                bytes: 2,
                max
            })
        );
    }

    #[test]
    fn an_optional_octet_is_zero_or_one() {
        assert_eq!(Reader::new(&[0]).present(), Ok(false));
        assert_eq!(Reader::new(&[1]).present(), Ok(true));
        for octet in 2..=255 {
            assert!(matches!(
                Reader::new(&[octet]).present(),
                Err(Malformed::Value { .. })
            ));
        }
    }

    #[test]
    fn offsets_count_from_the_outermost_object() {
        let mut reader = Reader::new(&[9, 3, 1, 7, 2]);
        assert_eq!(reader.u8(), Ok(9));
        let mut inner = reader.inner("x", 9).unwrap();
        assert_eq!(inner.vector("y", 9), Ok(&[7][..]));
        assert_eq!(inner.finish(), Err(Malformed::Trailing { at: 4 }));
        assert_eq!(reader.finish(), Ok(()));
    }

    proptest! {
        #[test]
        fn a_written_vector_reads_back(bytes in proptest::collection::vec(any::<u8>(), 0..40_000)) {
            let mut out = Vec::new();
            put_vector(&mut out, &bytes);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.vector("x", 1 << 20), Ok(&bytes[..]));
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn whatever_vector_is_read_has_no_other_spelling(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(vector) = reader.vector("x", 200) {
                let mut out = Vec::new();
                put_vector(&mut out, vector);
                prop_assert_eq!(&out[..], &bytes[..reader.at()]);
            }
        }

        #[test]
        fn no_sequence_of_reads_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), steps in proptest::collection::vec(0..8_u8, 0..20)) {
            let mut reader = Reader::new(&bytes);
            for step in steps {
                let at = reader.at();
                let failed = match step {
                    0 => reader.u8().is_err(),
                    1 => reader.u16().is_err(),
                    2 => reader.u32().is_err(),
                    3 => reader.u64().is_err(),
                    4 => reader.vector("x", 16).is_err(),
                    5 => reader.present().is_err(),
                    6 => reader.u16_list("x").is_err(),
                    _ => reader.take(usize::from(step) * 1_000_000_007).is_err(),
                };
                prop_assert!(failed || reader.at() >= at);
                prop_assert!(reader.at() <= bytes.len());
            }
        }
    }
}
