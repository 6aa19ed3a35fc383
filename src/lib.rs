//! The clustered node of a messaging provider.

pub mod client;
pub mod quic;
