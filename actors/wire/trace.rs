//! A reader that knows where in a value it is: by the names of fields and variants, which the encoding itself does not
//! hold.
//!
//! It reads what postcard reads: structs, tuples and variants by their place, lists by a count in front.

use postcard::{Deserializer as Plain, Error, de_flavors::Flavor};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, EnumAccess, IntoDeserializer, SeqAccess, VariantAccess, Visitor},
};
use std::fmt::Write as _;

/// Reads a value and forgets it.
///
/// # Errors
/// The path to what cannot be read, from the value's own name on: `Request.Room.1.Commit.commit`, `Ack.refused[0].room`.
pub(super) fn trace<'de, T: Deserialize<'de>, F: Flavor<'de>>(
    plain: &mut Plain<'de, F>,
) -> Result<(), String> {
    let mut path = String::new();
    let read = T::deserialize(Traced {
        plain,
        path: &mut path,
    });
    read.map(drop).map_err(|_| path)
}

struct Traced<'a, 'de, F: Flavor<'de>> {
    plain: &'a mut Plain<'de, F>,
    path: &'a mut String,
}

impl<'de, F: Flavor<'de>> Traced<'_, 'de, F> {
    /// The same reader, for a part of the value.
    fn part(&mut self) -> Traced<'_, 'de, F> {
        Traced {
            plain: self.plain,
            path: self.path,
        }
    }

    /// The name of the outermost type is where a path begins.
    fn begin(&mut self, name: &str) {
        if self.path.is_empty() {
            self.path.push_str(name);
        }
    }
}

/// What the parts of something are called.
#[derive(Clone, Copy)]
enum Names {
    Fields(&'static [&'static str]),
    Places,
    Elements,
}

/// The parts of something, one after the other.
struct Parts<'a, 'de, F: Flavor<'de>> {
    of: Traced<'a, 'de, F>,
    names: Names,
    next: usize,
    len: usize,
}

impl<'de, F: Flavor<'de>> SeqAccess<'de> for Parts<'_, 'de, F> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if self.next == self.len {
            return Ok(None);
        }
        let (above, place) = (self.of.path.len(), self.next);
        self.next += 1;
        let written = match self.names {
            Names::Fields(fields) => {
                let name = fields.get(place).copied().unwrap_or_default();
                write!(self.of.path, ".{name}")
            }
            Names::Places => write!(self.of.path, ".{place}"),
            Names::Elements => write!(self.of.path, "[{place}]"),
        };
        // A text in memory takes all that is written.
        let _ = written;
        let read = seed.deserialize(self.of.part())?;
        self.of.path.truncate(above);
        Ok(Some(read))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.len - self.next)
    }
}

/// One variant of an enum.
struct Variant<'a, 'de, F: Flavor<'de>> {
    of: Traced<'a, 'de, F>,
    variants: &'static [&'static str],
}

impl<'a, 'de, F: Flavor<'de>> EnumAccess<'de> for Variant<'a, 'de, F> {
    type Error = Error;
    type Variant = Traced<'a, 'de, F>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Self::Variant), Error> {
        let number = u32::deserialize(&mut *self.of.plain)?;
        let name = usize::try_from(number).ok();
        let name = name.and_then(|number| self.variants.get(number).copied());
        let written = match name {
            Some(name) => write!(self.of.path, ".{name}"),
            None => write!(self.of.path, ".{number}"),
        };
        let _ = written;
        let read = seed.deserialize(IntoDeserializer::<Error>::into_deserializer(number))?;
        Ok((read, self.of))
    }
}

impl<'de, F: Flavor<'de>> VariantAccess<'de> for Traced<'_, 'de, F> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_struct("", fields, visitor)
    }
}

macro_rules! as_it_is {
    ($($method:ident)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.plain.$method(visitor)
        })+
    };
}

impl<'de, F: Flavor<'de>> Deserializer<'de> for Traced<'_, 'de, F> {
    type Error = Error;

    as_it_is! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit
        deserialize_identifier deserialize_ignored_any deserialize_map
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match u8::deserialize(&mut *self.plain)? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self),
            _ => Err(Error::DeserializeBadOption),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.begin(name);
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let len = usize::deserialize(&mut *self.plain)?;
        let (of, names, next) = (self, Names::Elements, 0);
        visitor.visit_seq(Parts {
            of,
            names,
            next,
            len,
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        let (of, names, next) = (self, Names::Places, 0);
        visitor.visit_seq(Parts {
            of,
            names,
            next,
            len,
        })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.begin(name);
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.begin(name);
        let (of, names, next, len) = (self, Names::Fields(fields), 0, fields.len());
        visitor.visit_seq(Parts {
            of,
            names,
            next,
            len,
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.begin(name);
        visitor.visit_enum(Variant { of: self, variants })
    }
}
