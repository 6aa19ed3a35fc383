//! The clustered node of a messaging provider.

pub mod quic;
