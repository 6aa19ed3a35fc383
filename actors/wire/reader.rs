//! Reads what postcard writes, and nothing else: each value has one encoding.
//!
//! postcard itself also takes a number with bytes that say nothing (`80 00` for 0): then two frames are one value, and what is
//! compared or hashed by its bytes is not what was said. Only here is it known which bytes are a number and which are themselves:
//! a list of bytes may well end in `80 00`.
//!
//! The encoding holds no names. A [`Place`] that follows the reader knows them: by the place of a field, the number of a variant.

use serde::{
    Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
        Visitor,
    },
};
use std::fmt::{self, Write as _};

/// Why bytes are not the value that they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The bytes end before the value does.
    Ends,
    /// A number has more bits than its type.
    TooLarge,
    /// A number has bytes that say nothing.
    NotShortest,
    /// A byte that stands for yes or no is neither.
    NeitherZeroNorOne,
    /// A text is not UTF-8.
    NotUtf8,
    /// A type refuses what was read.
    Refused,
    /// No format has such a type.
    NotRead,
}

impl Wrong {
    /// What it means to whoever wrote the bytes.
    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Self::Ends => "it ends too early",
            Self::TooLarge => "a number is too large",
            Self::NotShortest => "a number is longer than it has to be",
            Self::NeitherZeroNorOne => "a byte is neither 0 nor 1",
            Self::NotUtf8 => "a text is not UTF-8",
            Self::Refused => "a value is not known, or breaks a limit",
            Self::NotRead => "no format has such a value",
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.meaning())
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(_words: T) -> Self {
        Self::Refused
    }
}

/// What the parts of something are called.
#[derive(Clone, Copy)]
pub(super) enum Names {
    Fields(&'static [&'static str]),
    Places,
    Elements,
}

/// Follows where in a value the reader is.
pub(super) trait Place {
    /// A value of that type begins.
    fn begin(&mut self, name: &str);
    /// A variant begins; `None` if there is no such number.
    fn variant(&mut self, name: Option<&str>, number: u32);
    /// A part begins: how to come back from it.
    fn enter(&mut self, names: Names, place: usize) -> usize;
    /// A part ends.
    fn leave(&mut self, above: usize);
}

/// Nobody asks where the reader is.
pub(super) struct Unasked;

impl Place for Unasked {
    fn begin(&mut self, _name: &str) {}
    fn variant(&mut self, _name: Option<&str>, _number: u32) {}
    fn enter(&mut self, _names: Names, _place: usize) -> usize {
        0
    }
    fn leave(&mut self, _above: usize) {}
}

/// The path to where the reader is, from the value's own name on: `Request.Room.1.Commit.commit`, `Ack.refused[0].room`.
#[derive(Default)]
pub(super) struct Path(pub(super) String);

impl Place for Path {
    fn begin(&mut self, name: &str) {
        if self.0.is_empty() {
            self.0.push_str(name);
        }
    }

    fn variant(&mut self, name: Option<&str>, number: u32) {
        let written = match name {
            Some(name) => write!(self.0, ".{name}"),
            None => write!(self.0, ".{number}"),
        };
        // A text in memory takes all that is written.
        let _ = written;
    }

    fn enter(&mut self, names: Names, place: usize) -> usize {
        let above = self.0.len();
        let written = match names {
            Names::Fields(fields) => {
                let name = fields.get(place).copied().unwrap_or_default();
                write!(self.0, ".{name}")
            }
            Names::Places => write!(self.0, ".{place}"),
            Names::Elements => write!(self.0, "[{place}]"),
        };
        let _ = written;
        above
    }

    fn leave(&mut self, above: usize) {
        self.0.truncate(above);
    }
}

/// The bytes that are left, and where in the value they begin.
pub(super) struct Reader<'de, P> {
    pub(super) left: &'de [u8],
    pub(super) place: P,
}

/// A number in groups of seven bits, the lowest first; all bytes but the last have their highest bit set.
macro_rules! number {
    ($method:ident $type:ty) => {
        #[inline]
        fn $method(&mut self) -> Result<$type, Wrong> {
            let mut number: $type = 0;
            let mut shift = 0;
            while shift < <$type>::BITS {
                let byte = self.byte()?;
                let bits = <$type>::from(byte & 0x7f);
                if (bits << shift) >> shift != bits {
                    return Err(Wrong::TooLarge);
                }
                number |= bits << shift;
                if byte & 0x80 == 0 {
                    // Where another byte came before, the last one must say something.
                    let shortest = byte != 0 || shift == 0;
                    return if shortest {
                        Ok(number)
                    } else {
                        Err(Wrong::NotShortest)
                    };
                }
                shift += 7;
            }
            Err(Wrong::TooLarge)
        }
    };
}

impl<'de, P: Place> Reader<'de, P> {
    number!(number_16 u16);
    number!(number_32 u32);
    number!(number_64 u64);
    number!(number_128 u128);

    #[inline]
    fn byte(&mut self) -> Result<u8, Wrong> {
        let (byte, left) = self.left.split_first().ok_or(Wrong::Ends)?;
        self.left = left;
        Ok(*byte)
    }

    /// Whether a byte says yes.
    #[inline]
    fn yes(&mut self) -> Result<bool, Wrong> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Wrong::NeitherZeroNorOne),
        }
    }

    #[inline]
    fn len(&mut self) -> Result<usize, Wrong> {
        let len = self.number_64()?;
        usize::try_from(len).map_err(|_| Wrong::TooLarge)
    }

    /// As many bytes as the number in front says.
    #[inline]
    fn bytes(&mut self) -> Result<&'de [u8], Wrong> {
        let len = self.len()?;
        let split = self.left.split_at_checked(len);
        let (bytes, left) = split.ok_or(Wrong::Ends)?;
        self.left = left;
        Ok(bytes)
    }

    fn parts(&mut self, names: Names, len: usize) -> Parts<'_, 'de, P> {
        let (of, next) = (self, 0);
        Parts {
            of,
            names,
            next,
            len,
        }
    }
}

/// The parts of something, one after the other.
struct Parts<'r, 'de, P> {
    of: &'r mut Reader<'de, P>,
    names: Names,
    next: usize,
    len: usize,
}

impl<'de, P: Place> Parts<'_, 'de, P> {
    #[inline]
    fn part<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Wrong> {
        let above = self.of.place.enter(self.names, self.next);
        let read = seed.deserialize(&mut *self.of)?;
        self.of.place.leave(above);
        Ok(read)
    }
}

impl<'de, P: Place> SeqAccess<'de> for Parts<'_, 'de, P> {
    type Error = Wrong;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Wrong> {
        if self.next == self.len {
            return Ok(None);
        }
        let read = self.part(seed)?;
        self.next += 1;
        Ok(Some(read))
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.len - self.next)
    }
}

impl<'de, P: Place> MapAccess<'de> for Parts<'_, 'de, P> {
    type Error = Wrong;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Wrong> {
        if self.next == self.len {
            return Ok(None);
        }
        self.part(seed).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let read = self.part(seed)?;
        self.next += 1;
        Ok(read)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.len - self.next)
    }
}

/// One variant of an enum.
struct Variant<'r, 'de, P> {
    of: &'r mut Reader<'de, P>,
    variants: &'static [&'static str],
}

impl<'r, 'de, P: Place> EnumAccess<'de> for Variant<'r, 'de, P> {
    type Error = Wrong;
    type Variant = &'r mut Reader<'de, P>;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Wrong> {
        let number = self.of.number_32()?;
        let name = usize::try_from(number).ok();
        let name = name.and_then(|number| self.variants.get(number).copied());
        self.of.place.variant(name, number);
        let read = seed.deserialize(IntoDeserializer::<Wrong>::into_deserializer(number))?;
        Ok((read, self.of))
    }
}

impl<'de, P: Place> VariantAccess<'de> for &mut Reader<'de, P> {
    type Error = Wrong;

    #[inline]
    fn unit_variant(self) -> Result<(), Wrong> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Wrong> {
        seed.deserialize(self)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_seq(self.parts(Names::Places, len))
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_seq(self.parts(Names::Fields(fields), fields.len()))
    }
}

/// Numbers without a sign, as they are.
macro_rules! unsigned {
    ($($deserialize:ident $number:ident $visit:ident)+) => {
        $(#[inline]
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            visitor.$visit(self.$number()?)
        })+
    };
}

/// Numbers with a sign: 0, -1, 1, -2 and so on.
macro_rules! signed {
    ($($deserialize:ident $number:ident $visit:ident)+) => {
        $(#[inline]
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            let number = self.$number()?;
            let size = (number >> 1).cast_signed();
            visitor.$visit(if number & 1 == 0 { size } else { !size })
        })+
    };
}

macro_rules! in_no_format {
    ($($deserialize:ident)+) => {
        $(fn $deserialize<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Wrong> {
            Err(Wrong::NotRead)
        })+
    };
}

impl<'de, P: Place> Deserializer<'de> for &mut Reader<'de, P> {
    type Error = Wrong;

    unsigned! {
        deserialize_u8 byte visit_u8
        deserialize_u16 number_16 visit_u16
        deserialize_u32 number_32 visit_u32
        deserialize_u64 number_64 visit_u64
        deserialize_u128 number_128 visit_u128
        deserialize_bool yes visit_bool
        deserialize_bytes bytes visit_borrowed_bytes
        deserialize_byte_buf bytes visit_borrowed_bytes
    }

    signed! {
        deserialize_i16 number_16 visit_i16
        deserialize_i32 number_32 visit_i32
        deserialize_i64 number_64 visit_i64
        deserialize_i128 number_128 visit_i128
    }

    in_no_format! {
        deserialize_any deserialize_identifier deserialize_ignored_any deserialize_f32 deserialize_f64 deserialize_char
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_i8(self.byte()?.cast_signed())
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| Wrong::NotUtf8)?;
        visitor.visit_borrowed_str(text)
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.yes()? {
            visitor.visit_some(self)
        } else {
            visitor.visit_none()
        }
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.place.begin(name);
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let len = self.len()?;
        visitor.visit_seq(self.parts(Names::Elements, len))
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_seq(self.parts(Names::Places, len))
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.place.begin(name);
        visitor.visit_seq(self.parts(Names::Places, len))
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let len = self.len()?;
        visitor.visit_map(self.parts(Names::Elements, len))
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.place.begin(name);
        visitor.visit_seq(self.parts(Names::Fields(fields), fields.len()))
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.place.begin(name);
        visitor.visit_enum(Variant { of: self, variants })
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
