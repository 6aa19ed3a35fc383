//! Bytes of RFC 9420 and what they say: bounded reading, and what is hashed, signed or sealed. Knows no group.

pub(crate) mod bounds;
pub(crate) mod commit;
pub(crate) mod context;
pub mod credential;
pub(crate) mod extension;
pub(crate) mod framing;
pub mod group_info;
pub(crate) mod key_package;
mod keys;
pub(crate) mod leaf;
pub mod message;
pub mod reader;
pub mod sealed;
pub(crate) mod suite;
pub(crate) mod welcome;
