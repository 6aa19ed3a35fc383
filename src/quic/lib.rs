//! QUIC endpoints, identities from certificates, and lanes of frames. Bytes only.
//!
//! The only importer of quinn and rustls. Promises: TLS 1.3 with ring; a [`Link`]'s peer is the one DNS name of its
//! certificate, and a listed one; a [`ClusterLink`]'s is a node of the same cluster; a frame's length is checked before memory is taken; no 0-RTT, no resumption, no
//! datagrams. Not here: what a frame means; who of the listed peers may ask for what.

pub mod addresses;
mod cluster;
pub mod code;
pub mod counted;
mod door;
mod error;
pub mod holder;
mod identity;
mod incoming;
pub mod issue;
mod lane;
mod link;
pub mod places;
pub mod private;
mod reading;
mod settings;
pub mod strangers;
#[cfg(test)]
mod tests;
mod trust;

pub use cluster::{ClusterEndpoint, ClusterIncoming, ClusterLink};
pub use door::{Door, DoorDialer, DoorEndpoint, DoorIncoming};
pub use error::{BindError, ConnectError, Ended, FileError, TrustError};
pub use identity::{Identity, IdentityError, cluster_member, ends_at, spki_pin};
pub use incoming::{GateFigures, OfAddresses};
pub use lane::{LaneError, LaneSender};
pub use link::{Link, LinkEndpoint, LinkIncoming};
pub use reading::LaneReceiver;
pub use trust::{PeerTrust, usable};

/// Protocol between providers.
pub const LINK_ALPN: &[u8] = b"mimi-link/1";
/// Protocols between the nodes of one provider, with the version of their frames, best first: the handshake agrees on one.
pub const CLUSTER_ALPNS: [(u8, &[u8]); 2] = [(2, b"mimi-cluster/2"), (1, b"mimi-cluster/1")];
/// Protocol between a client and its provider.
pub const DOOR_ALPN: &[u8] = b"mimi-client/1";
