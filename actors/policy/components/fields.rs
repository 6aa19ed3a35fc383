//! Reading a component field by field, so that an error names both.

use super::ComponentId;
use crate::mls::codec::reader::{Malformed, Reader, put_length, put_vector};

/// Why a component is not what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{component}, {field}: {why}")]
pub struct BadComponent {
    /// Which component.
    pub component: ComponentId,
    /// Which of its fields, as the drafts name it.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It does not read, or exceeds a limit.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It reads, and may not be so.
    #[error("{0}")]
    Not(&'static str),
}

impl BadComponent {
    /// A field that reads, and may not be so.
    #[must_use]
    pub const fn not(component: ComponentId, field: &'static str, why: &'static str) -> Self {
        let why = Why::Not(why);
        Self {
            component,
            field,
            why,
        }
    }
}

/// A component that is being read.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    component: ComponentId,
    reader: Reader<'a>,
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(component: ComponentId, data: &'a [u8]) -> Self {
        let reader = Reader::new(data);
        Self { component, reader }
    }

    fn read<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
    ) -> Result<T, BadComponent> {
        let component = self.component;
        read(&mut self.reader).map_err(|cause| BadComponent {
            component,
            field,
            why: cause.into(),
        })
    }

    pub(crate) const fn refuse(&self, field: &'static str, why: &'static str) -> BadComponent {
        BadComponent::not(self.component, field, why)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, BadComponent> {
        self.read(field, Reader::u8)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, BadComponent> {
        self.read(field, Reader::u16)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, BadComponent> {
        self.read(field, Reader::u32)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, BadComponent> {
        self.read(field, Reader::u64)
    }

    /// An octet that is 0 or 1.
    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, BadComponent> {
        self.read(field, Reader::present)
    }

    /// A number that may be absent: an octet says whether it follows.
    pub(crate) fn optional_u32(
        &mut self,
        field: &'static str,
    ) -> Result<Option<u32>, BadComponent> {
        let present = self.bool(field)?;
        present.then(|| self.u32(field)).transpose()
    }

    pub(crate) fn bytes(
        &mut self,
        field: &'static str,
        max: usize,
    ) -> Result<&'a [u8], BadComponent> {
        self.read(field, |reader| reader.vector(field, max))
    }

    /// UTF-8 without NUL.
    pub(crate) fn text(&mut self, field: &'static str, max: usize) -> Result<String, BadComponent> {
        let bytes = self.bytes(field, max)?;
        let text = std::str::from_utf8(bytes);
        match text {
            Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
            Ok(_) | Err(_) => Err(self.refuse(field, "is not UTF-8 without NUL")),
        }
    }

    /// A vector of at most `max` elements, in at most `bytes_max` bytes.
    pub(crate) fn list<T>(
        &mut self,
        field: &'static str,
        (max, bytes_max): (usize, usize),
        mut element: impl FnMut(&mut Self) -> Result<T, BadComponent>,
    ) -> Result<Vec<T>, BadComponent> {
        let component = self.component;
        let inner = self.read(field, |reader| reader.inner(field, bytes_max))?;
        let mut inner = Self {
            component,
            reader: inner,
        };
        let mut elements = Vec::new();
        while !inner.reader.is_empty() {
            if elements.len() == max {
                let why = Malformed::TooMany { what: field, max }.into();
                return Err(BadComponent {
                    component,
                    field,
                    why,
                });
            }
            elements.push(element(&mut inner)?);
        }
        Ok(elements)
    }

    /// What is left, of at most `max` bytes.
    pub(crate) fn rest(
        &mut self,
        field: &'static str,
        max: usize,
    ) -> Result<&'a [u8], BadComponent> {
        let bytes = self.reader.left();
        self.read(field, |reader| match bytes > max {
            true => Err(Malformed::TooLarge {
                what: field,
                bytes,
                max,
            }),
            false => reader.take(bytes),
        })
    }

    pub(crate) fn finish(&mut self) -> Result<(), BadComponent> {
        self.read("end", |reader| reader.finish())
    }
}

/// Appends an optional number.
pub(super) fn put_optional_u32(out: &mut Vec<u8>, number: Option<u32>) {
    out.push(u8::from(number.is_some()));
    out.extend(number.into_iter().flat_map(u32::to_be_bytes));
}

/// Appends a vector of what `element` appends of each.
pub(super) fn put_list<T>(out: &mut Vec<u8>, all: &[T], element: impl Fn(&mut Vec<u8>, &T)) {
    let mut inner = Vec::new();
    all.iter().for_each(|one| element(&mut inner, one));
    put_vector(out, &inner);
}

/// Appends a vector of 32-bit numbers.
pub(super) fn put_u32s(out: &mut Vec<u8>, all: &[u32]) {
    put_length(out, all.len() * 4);
    out.extend(all.iter().flat_map(|number| number.to_be_bytes()));
}
