//! QUIC endpoints, identities from certificates, and lanes of frames. Bytes only.
//!
//! The only importer of quinn and rustls. Promises: TLS 1.3 with ring; a [`Link`]'s peer is the one DNS name of its
//! certificate; a frame's length is checked before memory is taken; no 0-RTT, no datagrams. Not here: what a frame means.

mod door;
mod identity;
mod lane;
mod link;
mod settings;
mod trust;

pub use door::{Door, DoorDialer, DoorEndpoint, DoorIncoming};
pub use identity::{Identity, IdentityError, spki_pin};
pub use lane::{LaneError, LaneReceiver, LaneSender};
pub use link::{Link, LinkEndpoint, LinkIncoming};
pub use trust::{PeerTrust, TrustError};

use std::{net::SocketAddr, path::PathBuf};

/// Protocol between providers.
pub const LINK_ALPN: &[u8] = b"mimi-link/1";
/// Protocol between a client and its provider.
pub const DOOR_ALPN: &[u8] = b"mimi-client/1";

/// Why an endpoint cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port is taken, or the address is not this machine's.
    #[error("listen on UDP {address}: {source}")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The certificate or key is not usable for TLS.
    #[error("prepare TLS: {0}")]
    Tls(String),
    /// A trust setting is not usable.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It could not be begun.
    #[error("begin to connect: {0}")]
    Begin(#[from] quinn::ConnectError),
    /// The handshake failed, or the connection was lost.
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
    /// The peer's certificate does not say who it is.
    #[error("the peer's certificate does not name exactly one provider")]
    Nameless,
}

/// A file that holds a certificate or key.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}", path = path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub why: String,
}

#[cfg(test)]
mod tests;
