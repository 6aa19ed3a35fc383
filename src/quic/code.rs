//! Codes in a QUIC CONNECTION_CLOSE or stream reset.

/// A frame was malformed or broke a limit.
pub const BAD_FRAME: u32 = 1;
/// The peer does what only a broken or hostile peer does.
pub const PROTOCOL: u32 = 2;
/// No common version of the protocol.
pub const VERSION: u32 = 3;
/// The other side was not heard of in time.
pub const DEADLINE: u32 = 4;
/// Whoever is at the other end has as many connections as it may.
pub const CROWDED: u32 = 0xffff;
