//! Transport settings and sockets.
//!
//! Bounds are those of reliability work on hostile peers; windows and buffers are those that were measured to carry a
//! gigabyte a second on loopback.

use super::{BindError, Identity};
use quinn::{EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::crypto::CryptoProvider;
use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

/// Bidirectional lanes that a peer may have open.
const LANES_MAX: u32 = 256;
/// Unread bytes of one lane, at most.
const LANE_WINDOW_BYTES: u32 = 8 << 20;
/// Unread bytes of one connection, at most.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Unacknowledged bytes sent on one connection, at most.
const SEND_WINDOW_BYTES: u64 = 16 << 20;
/// Kernel buffer of a UDP socket, asked for; the system may give less.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;
/// A connection that is silent for this long is lost.
const IDLE_MS: u32 = 30_000;
/// Silence is broken this often.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Handshakes under way at a time.
pub(super) const INCOMING_MAX: usize = 1_024;
/// Early bytes kept for one handshake.
const INCOMING_BUFFER_BYTES: u64 = 64 << 10;
/// Early bytes kept for all handshakes.
const INCOMING_BUFFER_TOTAL_BYTES: u64 = 16 << 20;

/// The one crypto provider.
pub(super) fn crypto() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// How connections behave.
pub(super) fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(LANES_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(LANE_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .datagram_receive_buffer_size(None)
        .enable_segmentation_offload(true);
    Arc::new(transport)
}

/// How a server takes connections.
pub(super) fn server(
    tls: rustls::ServerConfig,
    migration: bool,
) -> Result<quinn::ServerConfig, BindError> {
    let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls)
        .map_err(|error| BindError::Tls(error.to_string()))?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls));
    server
        .transport_config(transport())
        .migration(migration)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER_BYTES)
        .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL_BYTES);
    Ok(server)
}

/// How a client connects.
pub(super) fn client(tls: rustls::ClientConfig) -> Result<quinn::ClientConfig, BindError> {
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls)
        .map_err(|error| BindError::Tls(error.to_string()))?;
    let mut client = quinn::ClientConfig::new(Arc::new(tls));
    client.transport_config(transport());
    Ok(client)
}

/// An endpoint on a socket with large buffers.
pub(super) fn endpoint(
    address: SocketAddr,
    server: Option<(quinn::ServerConfig, &Identity)>,
) -> Result<quinn::Endpoint, BindError> {
    let failed = |source| BindError::Socket { address, source };
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

/// Asks for large buffers: by force where the process may, by request otherwise. Small ones cost packets, not safety.
fn enlarge(socket: &UdpSocket) {
    use rustix::net::sockopt;
    if sockopt::set_socket_recv_buffer_size_force(socket, SOCKET_BUFFER_BYTES).is_err() {
        let _ = sockopt::set_socket_recv_buffer_size(socket, SOCKET_BUFFER_BYTES);
    }
    let _ = sockopt::set_socket_send_buffer_size(socket, SOCKET_BUFFER_BYTES);
}
