//! A peer or client without manners: QUIC streams and bytes, below the library's own lanes.

use bytes::Bytes;
use quinn::{
    ClientConfig, Connection, Endpoint, TransportConfig, crypto::rustls::QuicClientConfig,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(8);

/// What came back on a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Back {
    /// A frame, without its length.
    Frame(Bytes),
    /// The lane ended without a frame.
    Ended,
    /// The lane was reset or stopped, with this code.
    Reset(u64),
    /// The connection was closed by the other side, with this code.
    Closed(u64),
    /// The connection was lost in another way, as a handshake is that fails.
    Lost(String),
    /// Nothing at all.
    Silence,
}

/// Dials with any ALPN, and any certificate or none.
pub fn dialer(ca: &Path, alpn: &[u8], identity: Option<(&Path, &Path)>) -> Endpoint {
    dialer_from(Ipv4Addr::LOCALHOST, ca, alpn, identity, true)
}

/// As [`dialer`], from this address of the machine; if it does not `read`, nothing can be sent to it on a stream.
pub fn dialer_from(
    from: Ipv4Addr,
    ca: &Path,
    alpn: &[u8],
    identity: Option<(&Path, &Path)>,
    reads: bool,
) -> Endpoint {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_file_iter(certificate)
                .unwrap()
                .map(Result::unwrap)
                .collect();
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    let config = QuicClientConfig::try_from(config).unwrap();
    let mut config = ClientConfig::new(Arc::new(config));
    if !reads {
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(0_u32.into());
        config.transport_config(Arc::new(transport));
    }
    let mut endpoint = Endpoint::client((from, 0).into()).unwrap();
    endpoint.set_default_client_config(config);
    endpoint
}

/// Connects; a server that refuses may say so only after the handshake.
pub async fn connect(
    endpoint: &Endpoint,
    address: SocketAddr,
    name: &str,
) -> Result<Connection, Back> {
    let connecting = endpoint.connect(address, name).unwrap();
    match tokio::time::timeout(ANSWER, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(lost(error)),
        Err(_) => Err(Back::Silence),
    }
}

fn lost(error: quinn::ConnectionError) -> Back {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            Back::Closed(close.error_code.into_inner())
        }
        other => Back::Lost(other.to_string()),
    }
}

/// A frame: a length and that many bytes.
pub fn frame(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// Opens a lane, writes bytes to it, ends it, and gives the first thing that comes back.
pub async fn say(connection: &Connection, bytes: &[u8]) -> Back {
    tokio::time::timeout(ANSWER, exchange(connection, bytes, true))
        .await
        .unwrap_or(Back::Silence)
}

/// As [`say`], but does not end the lane before the answer.
pub async fn say_and_stay(connection: &Connection, bytes: &[u8]) -> Back {
    tokio::time::timeout(ANSWER, exchange(connection, bytes, false))
        .await
        .unwrap_or(Back::Silence)
}

async fn exchange(connection: &Connection, bytes: &[u8], end: bool) -> Back {
    let (mut to, mut from) = match connection.open_bi().await {
        Ok(lane) => lane,
        Err(error) => return lost(error),
    };
    // A server that has seen enough may stop the lane before it is all written.
    let mut stopped = None;
    match to.write_all(bytes).await {
        Ok(()) if end => drop(to.finish()),
        Ok(()) => {}
        Err(quinn::WriteError::Stopped(code)) => stopped = Some(code.into_inner()),
        Err(quinn::WriteError::ConnectionLost(error)) => return lost(error),
        Err(error) => return Back::Lost(error.to_string()),
    }
    let mut back = Vec::new();
    loop {
        match from.read_chunk(1 << 20, true).await {
            Ok(Some(chunk)) => back.extend_from_slice(&chunk.bytes),
            Ok(None) => {
                return match (whole(&back), stopped) {
                    (Some(frame), _) => Back::Frame(frame),
                    (None, Some(code)) => Back::Reset(code),
                    (None, None) => closed_or_ended(connection).await,
                };
            }
            Err(quinn::ReadError::Reset(code)) => return Back::Reset(code.into_inner()),
            Err(quinn::ReadError::ConnectionLost(error)) => return lost(error),
            Err(error) => return Back::Lost(error.to_string()),
        }
        if let Some(frame) = whole(&back) {
            return Back::Frame(frame);
        }
    }
}

/// A lane that ends because its connection is about to be closed may say so a moment earlier.
async fn closed_or_ended(connection: &Connection) -> Back {
    match tokio::time::timeout(Duration::from_millis(300), connection.closed()).await {
        Ok(error) => lost(error),
        Err(_) => Back::Ended,
    }
}

fn whole(bytes: &[u8]) -> Option<Bytes> {
    let length = u32::from_be_bytes(*bytes.first_chunk::<4>()?) as usize;
    bytes.get(4..4 + length).map(Bytes::copy_from_slice)
}
