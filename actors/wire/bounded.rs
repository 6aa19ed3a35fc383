//! Lists and texts that cannot grow past their bound, on the way out or in.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{
    collections::BTreeSet,
    fmt::{self, Write},
    marker::PhantomData,
    ops::Deref,
};

/// A list of at most `MAX` elements. The claimed length is checked before memory is taken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BVec<T, const MAX: usize>(Vec<T>);

/// A list with more elements than its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} elements, the limit is {max}")]
pub struct TooMany {
    /// Elements found.
    pub len: usize,
    /// Elements accepted, at most.
    pub max: usize,
}

impl<T, const MAX: usize> BVec<T, MAX> {
    /// The elements, given away.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }

    /// The first of the elements; what is beyond the bound is left out, and of an iterator not even taken. For answers
    /// that lose nothing by it, or that say elsewhere that there is more.
    #[must_use]
    pub fn first_max(elements: impl IntoIterator<Item = T>) -> Self {
        Self(elements.into_iter().take(MAX).collect())
    }

    /// All the elements, as lists that are within the bound each, in order; no list when there are none.
    pub fn pieces(elements: impl IntoIterator<Item = T>) -> impl Iterator<Item = Self> {
        let mut elements = elements.into_iter();
        std::iter::from_fn(move || {
            let piece = Self::first_max(elements.by_ref());
            (!piece.is_empty()).then_some(piece)
        })
    }

    /// Adds an element at the end.
    ///
    /// # Errors
    /// Gives it back when the list is full.
    pub fn push(&mut self, element: T) -> Result<(), T> {
        if self.is_full() {
            return Err(element);
        }
        self.0.push(element);
        Ok(())
    }

    /// Whether no element can be added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.len() >= MAX
    }

    /// References to the elements.
    #[must_use]
    pub fn refs(&self) -> BVec<&T, MAX> {
        BVec(self.0.iter().collect())
    }

    /// Another element for each.
    #[must_use]
    pub fn map<U>(self, other: impl FnMut(T) -> U) -> BVec<U, MAX> {
        BVec(self.0.into_iter().map(other).collect())
    }

    /// Another element for each that has one.
    #[must_use]
    pub fn filter_map<U>(self, other: impl FnMut(T) -> Option<U>) -> BVec<U, MAX> {
        BVec(self.0.into_iter().filter_map(other).collect())
    }

    /// Another element for each.
    ///
    /// # Errors
    /// The first error of `other`.
    pub fn try_map<U, E>(self, other: impl FnMut(T) -> Result<U, E>) -> Result<BVec<U, MAX>, E> {
        let others: Result<_, E> = self.0.into_iter().map(other).collect();
        others.map(BVec)
    }

    /// The elements, the last first.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.0.reverse();
        self
    }

    /// At most `count` of the elements, from the one at `from` on.
    #[must_use]
    pub fn part(&self, from: usize, count: usize) -> Self
    where
        T: Clone,
    {
        Self(self.0.iter().skip(from).take(count).cloned().collect())
    }

    /// The elements at these places, as far as there are any.
    #[must_use]
    pub fn at(&self, places: &BTreeSet<usize>) -> Self
    where
        T: Clone,
    {
        let there = places.iter().filter_map(|place| self.0.get(*place));
        Self(there.cloned().collect())
    }
}

impl<T, const MAX: usize, const N: usize> From<[T; N]> for BVec<T, MAX> {
    fn from(elements: [T; N]) -> Self {
        const { assert!(N <= MAX, "more elements than the bound") };
        Self(elements.into())
    }
}

impl<T, const MAX: usize> TryFrom<Vec<T>> for BVec<T, MAX> {
    type Error = TooMany;
    fn try_from(elements: Vec<T>) -> Result<Self, TooMany> {
        if elements.len() > MAX {
            Err(TooMany {
                len: elements.len(),
                max: MAX,
            })
        } else {
            Ok(Self(elements))
        }
    }
}

impl<T, const MAX: usize> Default for BVec<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> Deref for BVec<T, MAX> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const MAX: usize> IntoIterator for BVec<T, MAX> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T, const MAX: usize> IntoIterator for &'a BVec<T, MAX> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: fmt::Debug, const MAX: usize> fmt::Debug for BVec<T, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Serialize, const MAX: usize> Serialize for BVec<T, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for BVec<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Elements::<T, MAX>(PhantomData))
    }
}

struct Elements<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> de::Visitor<'de> for Elements<T, MAX> {
    type Value = BVec<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX} elements")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        // postcard says how many elements are claimed before it reads the first.
        if let Some(len) = seq.size_hint().filter(|len| *len > MAX) {
            return Err(de::Error::custom(TooMany { len, max: MAX }));
        }
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element()? {
            if elements.len() == MAX {
                return Err(de::Error::custom(TooMany {
                    len: MAX + 1,
                    max: MAX,
                }));
            }
            elements.push(element);
        }
        Ok(BVec(elements))
    }
}

/// A text of at most `MAX` bytes of UTF-8, without control characters when it is made here.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BText<const MAX: usize>(String);

impl<const MAX: usize> BText<MAX> {
    /// The text as it is; `None` when it is too long or holds control characters.
    #[must_use]
    pub fn exact(text: &str) -> Option<Self> {
        let clipped = Self::clipped(text);
        (*clipped == *text).then_some(clipped)
    }

    /// The beginning of `text` that fits; control characters become spaces.
    #[must_use]
    pub fn clipped(text: &str) -> Self {
        let mut out = String::new();
        for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
            if out.len() + c.len_utf8() > MAX {
                break;
            }
            out.push(c);
        }
        Self(out)
    }
}

impl<const MAX: usize> Deref for BText<MAX> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

/// As people may see it: whoever wrote it cannot move the cursor of a terminal, nor turn the line around.
impl<const MAX: usize> fmt::Display for BText<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            f.write_char(if is_unseen(c) { '?' } else { c })?;
        }
        Ok(())
    }
}

/// Whether a character is none, but changes how others are shown.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl<const MAX: usize> fmt::Debug for BText<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MAX: usize> Serialize for BText<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for BText<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        if text.len() > MAX {
            return Err(de::Error::custom(TooMany {
                len: text.len(),
                max: MAX,
            }));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{decode, encode, version::testing::Sample};
    use bytes::Bytes;

    #[test]
    fn a_list_reads_back_up_to_its_bound_and_not_past_it() {
        let three = encode(&Sample(vec![1_u8, 2, 3]));
        let Sample(read) = decode::<Sample<BVec<u8, 3>>>(&three).unwrap();
        assert_eq!(read.into_vec(), [1, 2, 3]);
        assert!(decode::<Sample<BVec<u8, 2>>>(&three).is_err());
    }

    #[test]
    fn a_list_takes_what_fits_and_says_what_does_not() {
        let mut list = BVec::<u8, 2>::from([1]);
        assert_eq!((list.push(2), list.is_full()), (Ok(()), true));
        assert_eq!(list.push(3), Err(3));
        assert_eq!(BVec::<u8, 2>::try_from(vec![1, 2]), Ok(list));
        let refused = BVec::<u8, 2>::try_from(vec![1, 2, 3]);
        assert_eq!(refused, Err(TooMany { len: 3, max: 2 }));
        assert_eq!(BVec::<u8, 2>::first_max(1..).into_vec(), [1, 2]);
    }

    #[test]
    fn pieces_leave_nothing_out() {
        let pieces: Vec<_> = BVec::<u8, 2>::pieces(1..=5).map(BVec::into_vec).collect();
        assert_eq!(pieces, [vec![1, 2], vec![3, 4], vec![5]]);
        assert_eq!(BVec::<u8, 2>::pieces([]).count(), 0);
    }

    #[test]
    fn a_length_bomb_is_refused_before_memory_is_taken() {
        let bomb = Bytes::from_static(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(decode::<Sample<BVec<u64, 4096>>>(&bomb).is_err());
    }

    #[test]
    fn trailing_bytes_and_unknown_versions_are_refused() {
        assert!(decode::<Sample<BVec<u8, 3>>>(&Bytes::from_static(&[1, 1, 9, 9])).is_err());
        assert!(decode::<Sample<BVec<u8, 3>>>(&Bytes::from_static(&[2, 1, 9])).is_err());
        assert!(decode::<Sample<BVec<u8, 3>>>(&Bytes::new()).is_err());
    }

    #[test]
    fn a_clipped_text_keeps_whole_characters_and_drops_control_characters() {
        assert_eq!(&*BText::<4>::clipped("a\n\u{e4}bc"), "a \u{e4}");
    }

    #[test]
    fn a_text_of_a_stranger_reads_back_as_it_is_and_is_shown_without_what_moves_a_terminal() {
        let written = Sample("\u{1b}[2J\r\u{9b}b\u{202e}\u{e4}\n".to_owned());
        let Sample(read) = decode::<Sample<BText<32>>>(&encode(&written)).unwrap();
        assert_eq!(&*read, written.0);
        assert_eq!(read.to_string(), "?[2J??b?\u{e4}?");
        assert!(!format!("{read:?}").contains('\u{1b}'));
    }
}
