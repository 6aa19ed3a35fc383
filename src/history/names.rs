//! How a history names things: clients and rooms by their URIs, epochs and events by their numbers, bytes by their hash.
//!
//! The checkers know no node and none of its types. What they ask of a name is that equal things have equal ones.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr, sync::Arc};

/// A text that names no client, or no room.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is not of the form {form}, in lower case")]
pub struct NameError {
    name: String,
    form: &'static str,
}

/// The provider of `mimi://PROVIDER/KIND/..` with so many names after the kind.
fn provider_of<'a>(name: &'a str, kind: &str, count: usize) -> Option<&'a str> {
    let mut parts = name.strip_prefix("mimi://")?.split('/');
    let provider = parts.next()?;
    let of_kind = parts.next() == Some(kind);
    let char_ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._~".contains(&b);
    let word_ok = |word: &str| !word.is_empty() && word.bytes().all(char_ok);
    let all_ok = word_ok(provider) && parts.clone().all(word_ok);
    (of_kind && all_ok && parts.count() == count).then_some(provider)
}

macro_rules! uris {
    ($($(#[$doc:meta])* $name:ident: $form:literal, $kind:literal, $count:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The provider whose it is.
            #[must_use]
            pub fn provider(&self) -> &str {
                provider_of(&self.0, $kind, $count).unwrap_or_default()
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(name: &str) -> Result<Self, NameError> {
                match provider_of(name, $kind, $count) {
                    Some(_) => Ok(Self(name.into())),
                    None => Err(NameError { name: name.to_owned(), form: $form }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = String::deserialize(deserializer)?;
                name.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

uris! {
    /// A client (one device) of a user.
    ClientUri: "mimi://PROVIDER/d/USER/CLIENT", "d", 2;
    /// A room; its provider is its hub.
    RoomUri: "mimi://PROVIDER/r/ROOM", "r", 1;
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl $name {
            /// The next number.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

numbers!(
    /// Number of an MLS epoch.
    Epoch,
    /// Number of an event in its room, gap-free from 1; 0 is before the first.
    RoomSeq,
);

/// A BLAKE3 hash, written as 64 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// A text that is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct DigestError;

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(DigestError);
        }
        for (place, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * place..2 * place + 2).ok_or(DigestError)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| DigestError)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
