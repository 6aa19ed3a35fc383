//! Transport settings and sockets.
//!
//! Bounds are for hostile peers; windows and buffers are those that were measured to carry a gigabyte a second on
//! loopback. A door's own windows are smaller: its clients are many, and each may fill its window.

use super::{BindError, Identity};
use mimi_actors::limits::{DOOR_READING_BYTES_MAX, HANDSHAKES_MAX, LINK_READING_BYTES_MAX};
use quinn::{EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::crypto::CryptoProvider;
use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

/// Kernel buffer of a UDP socket, asked for; the system may give less.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;
/// A connection that is silent for this long is lost.
const IDLE_MS: u32 = 30_000;
/// Silence is broken this often.
const KEEP_ALIVE_MS: u64 = 10_000;
/// As [`IDLE_MS`], for a client of ours: it moves to another node when its own is gone.
const CLIENT_IDLE_MS: u32 = 10_000;
/// As [`KEEP_ALIVE_MS`], for a client of ours.
const CLIENT_KEEP_ALIVE_MS: u64 = 3_000;
/// As [`IDLE_MS`], between the nodes of a cluster: a node that is gone must not be waited for longer than for an
/// election.
const CLUSTER_IDLE_MS: u32 = 3_000;
/// As [`KEEP_ALIVE_MS`], between the nodes of a cluster.
const CLUSTER_KEEP_ALIVE_MS: u64 = 700;
/// Handshake bytes that wait to be put in order, at most.
const CRYPTO_BUFFER_BYTES: usize = 16 << 10;
/// Early bytes kept for one handshake.
const INCOMING_BUFFER_BYTES: u64 = 64 << 10;
/// Early bytes kept for all handshakes.
const INCOMING_BUFFER_TOTAL_BYTES: u64 = 16 << 20;

/// What one side of a connection grants the other.
pub(super) struct Grant {
    /// Bidirectional lanes that the other side may have open.
    lanes_max: u32,
    /// Unread bytes of one lane, at most.
    lane_window_bytes: u32,
    /// Unread bytes of one connection, at most.
    connection_window_bytes: u32,
    /// Bytes of large frames of one connection that are read and looked at, at most.
    pub(super) reading_bytes: u32,
    /// Unacknowledged bytes sent on one connection, at most.
    send_window_bytes: u64,
    /// Whether the other side may move to another address.
    migration: bool,
    /// A connection that is silent for this long is lost, in milliseconds.
    idle_ms: u32,
    /// Silence is broken this often, in milliseconds.
    keep_alive_ms: u64,
}

/// Between providers: few, with fixed addresses.
pub(super) const LINK: Grant = Grant {
    lanes_max: 256,
    lane_window_bytes: 8 << 20,
    connection_window_bytes: 16 << 20,
    reading_bytes: LINK_READING_BYTES_MAX,
    send_window_bytes: 16 << 20,
    migration: false,
    idle_ms: IDLE_MS,
    keep_alive_ms: KEEP_ALIVE_MS,
};

/// Between the nodes of a cluster.
pub(super) const CLUSTER: Grant = Grant {
    // The nodes of a provider trust each other with their memory.
    reading_bytes: u32::MAX,
    idle_ms: CLUSTER_IDLE_MS,
    keep_alive_ms: CLUSTER_KEEP_ALIVE_MS,
    ..LINK
};

/// A door to its clients: many, and they change networks.
pub(super) const DOOR: Grant = Grant {
    lanes_max: 64,
    lane_window_bytes: 4 << 20,
    connection_window_bytes: 8 << 20,
    reading_bytes: DOOR_READING_BYTES_MAX,
    send_window_bytes: 8 << 20,
    migration: true,
    idle_ms: IDLE_MS,
    keep_alive_ms: KEEP_ALIVE_MS,
};

/// A client to the door of its provider.
pub(super) const CLIENT: Grant = Grant {
    lanes_max: 64,
    idle_ms: CLIENT_IDLE_MS,
    keep_alive_ms: CLIENT_KEEP_ALIVE_MS,
    ..LINK
};

/// The one crypto provider.
pub(super) fn crypto() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn transport(grant: &Grant) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(grant.lanes_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(grant.lane_window_bytes))
        .receive_window(VarInt::from_u32(grant.connection_window_bytes))
        .send_window(grant.send_window_bytes)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(grant.idle_ms))))
        .keep_alive_interval(Some(Duration::from_millis(grant.keep_alive_ms)))
        .crypto_buffer_size(CRYPTO_BUFFER_BYTES)
        .datagram_receive_buffer_size(None)
        .enable_segmentation_offload(true);
    Arc::new(transport)
}

/// How a server takes connections: without early data and without tickets for later ones.
pub(super) fn server(
    mut tls: rustls::ServerConfig,
    alpns: &[&[u8]],
    grant: &Grant,
) -> Result<quinn::ServerConfig, BindError> {
    tls.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
    tls.max_early_data_size = 0;
    tls.send_tls13_tickets = 0;
    let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).map_err(BindError::tls)?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls));
    server
        .transport_config(transport(grant))
        .migration(grant.migration)
        .max_incoming(HANDSHAKES_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL_BYTES);
    Ok(server)
}

/// How a client connects: without early data, each time from the beginning.
pub(super) fn client(
    mut tls: rustls::ClientConfig,
    alpns: &[&[u8]],
    grant: &Grant,
) -> Result<quinn::ClientConfig, BindError> {
    tls.alpn_protocols = alpns.iter().map(|alpn| alpn.to_vec()).collect();
    tls.enable_early_data = false;
    tls.resumption = rustls::client::Resumption::disabled();
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).map_err(BindError::tls)?;
    let mut client = quinn::ClientConfig::new(Arc::new(tls));
    client.transport_config(transport(grant));
    Ok(client)
}

/// An endpoint on a socket with large buffers.
pub(super) fn endpoint(
    address: SocketAddr,
    server: Option<(quinn::ServerConfig, &Identity)>,
) -> Result<quinn::Endpoint, BindError> {
    let failed = |source| BindError::socket(address, source);
    let socket = UdpSocket::bind(address).map_err(failed)?;
    enlarge(&socket);
    let (server, config) = match server {
        Some((server, identity)) => (Some(server), lasting_config(identity)),
        None => (None, EndpointConfig::default()),
    };
    quinn::Endpoint::new(config, server, socket, Arc::new(quinn::TokioRuntime)).map_err(failed)
}

/// An endpoint whose connection ids and stateless resets are recognised by the next process of the same node: whoever
/// still talks to a process that was killed learns at once that it is gone, rather than after [`IDLE_MS`].
fn lasting_config(identity: &Identity) -> EndpointConfig {
    let secret = |label: &[u8]| {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(label);
        context.update(identity.key().secret_der());
        context.finish()
    };
    let reset = secret(b"mimi-node stateless reset");
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, reset.as_ref());
    let mut config = EndpointConfig::new(Arc::new(reset));
    let ids = secret(b"mimi-node connection ids");
    let key = ids
        .as_ref()
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
    config
}

/// An endpoint that only dials, to either family of addresses where the machine has both.
pub(super) fn dialing_endpoint() -> Result<quinn::Endpoint, BindError> {
    endpoint(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), None)
        .or_else(|_| endpoint(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), None))
}

/// Asks for large buffers: by force where the process may, by request otherwise. Small ones cost packets, not safety.
fn enlarge(socket: &UdpSocket) {
    use rustix::net::sockopt;
    let bytes = SOCKET_BUFFER_BYTES;
    let receive = sockopt::set_socket_recv_buffer_size_force(socket, bytes)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(socket, bytes));
    let send = sockopt::set_socket_send_buffer_size_force(socket, bytes)
        .or_else(|_| sockopt::set_socket_send_buffer_size(socket, bytes));
    if let Err(error) = receive.and(send) {
        tracing::debug!(bytes, %error, "socket buffers stay small");
    }
}
