//! The log of a shard: what lies in it, as bytes and read again; what is kept of it in memory, and what outlives it.

pub mod batch;
pub(crate) mod carry;
pub(crate) mod decoded;
pub(crate) mod entries;
pub(crate) mod log_store;
pub(crate) mod recent;
pub(crate) mod record;
pub(crate) mod tail;
pub(crate) mod types;
