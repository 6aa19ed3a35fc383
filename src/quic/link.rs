//! Connections between providers: mutual TLS, each side the one domain that its certificate names.

use super::{
    BindError, ConnectError, Identity, LINK_ALPN, LaneError, LaneReceiver, LaneSender, PeerTrust,
    identity::provider_of,
    settings::{self, INCOMING_MAX},
    trust::Recognise,
};
use mimi_actors::ids::ProviderId;
use quinn::{Connection, Endpoint, Incoming, VarInt};
use rustls::pki_types::CertificateDer;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

/// How long a handshake may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// Where links come in, and go out from.
pub struct LinkEndpoint(Endpoint);

impl LinkEndpoint {
    /// Listens, and prepares to dial, as `identity`; only `peers` are spoken to.
    ///
    /// # Errors
    /// [`BindError`] when the port is taken or the identity or a trust setting is not usable.
    pub fn bind(
        address: SocketAddr,
        identity: &Identity,
        peers: &BTreeMap<ProviderId, PeerTrust>,
    ) -> Result<Self, BindError> {
        let crypto = settings::crypto();
        let recognise = Arc::new(Recognise::new(peers, Arc::clone(&crypto))?);
        let tls = |error: rustls::Error| BindError::Tls(error.to_string());
        let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&crypto))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .with_client_cert_verifier(Arc::clone(&recognise) as _)
            .with_single_cert(identity.chain(), identity.key())
            .map_err(tls)?;
        server.alpn_protocols = vec![LINK_ALPN.to_vec()];
        server.max_early_data_size = 0;
        server.send_tls13_tickets = 0;
        let mut client = rustls::ClientConfig::builder_with_provider(crypto)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .dangerous()
            .with_custom_certificate_verifier(recognise)
            .with_client_auth_cert(identity.chain(), identity.key())
            .map_err(tls)?;
        client.alpn_protocols = vec![LINK_ALPN.to_vec()];
        client.enable_early_data = false;
        client.resumption = rustls::client::Resumption::disabled();
        let mut endpoint =
            settings::endpoint(address, Some((settings::server(server, false)?, identity)))?;
        endpoint.set_default_client_config(settings::client(client)?);
        Ok(Self(endpoint))
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// The next handshake, or `None` when the endpoint is closed.
    pub async fn accept(&self) -> Option<LinkIncoming> {
        accept(&self.0).await.map(LinkIncoming)
    }

    /// Connects to a peer, which must prove to be `provider`.
    ///
    /// # Errors
    /// [`ConnectError`] when it cannot be reached or is somebody else.
    pub async fn connect(
        &self,
        address: SocketAddr,
        provider: &ProviderId,
    ) -> Result<Link, ConnectError> {
        let connecting = self.0.connect(address, provider.as_str())?;
        let connection = tokio::time::timeout(HANDSHAKE_DEADLINE, connecting).await;
        Link::new(connection.map_err(|_| quinn::ConnectionError::TimedOut)??)
    }

    /// Says goodbye to everybody.
    pub async fn close(&self) {
        self.0.close(VarInt::from_u32(0), b"going away");
        // Peers that do not answer are given up on.
        drop(tokio::time::timeout(Duration::from_secs(1), self.0.wait_idle()).await);
    }
}

/// Takes the next handshake; when many are under way, strangers must first show that they own their address.
pub(super) async fn accept(endpoint: &Endpoint) -> Option<Incoming> {
    loop {
        let incoming = endpoint.accept().await?;
        let crowded = endpoint.open_connections() > INCOMING_MAX / 2;
        if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
            drop(incoming.retry());
            continue;
        }
        return Some(incoming);
    }
}

/// A handshake under way.
pub struct LinkIncoming(Incoming);

impl LinkIncoming {
    /// Finishes the handshake.
    ///
    /// # Errors
    /// [`ConnectError`] when the peer does not prove to be a listed provider.
    pub async fn establish(self) -> Result<Link, ConnectError> {
        let connection = tokio::time::timeout(HANDSHAKE_DEADLINE, self.0).await;
        Link::new(connection.map_err(|_| quinn::ConnectionError::TimedOut)??)
    }
}

/// A connection to another provider.
#[derive(Debug)]
pub struct Link {
    connection: Connection,
    peer: ProviderId,
}

impl Link {
    fn new(connection: Connection) -> Result<Self, ConnectError> {
        let identity = connection.peer_identity();
        let chain = identity.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        let leaf = chain.as_ref().and_then(|chain| chain.first());
        let peer = leaf
            .and_then(|leaf| provider_of(leaf).ok())
            .ok_or(ConnectError::Nameless)?;
        Ok(Self { connection, peer })
    }

    /// The provider at the other end, as its certificate says.
    #[must_use]
    pub fn peer(&self) -> &ProviderId {
        &self.peer
    }

    /// Opens a lane.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn open_lane(&self) -> Result<(LaneSender, LaneReceiver), LaneError> {
        let (to, from) = self.connection.open_bi().await?;
        Ok((LaneSender(to), LaneReceiver::new(from)))
    }

    /// Waits for the peer to open a lane.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn accept_lane(&self) -> Result<(LaneSender, LaneReceiver), LaneError> {
        let (to, from) = self.connection.accept_bi().await?;
        Ok((LaneSender(to), LaneReceiver::new(from)))
    }

    /// Ends the connection with a code and a reason.
    pub fn close(&self, code: u32, reason: &str) {
        self.connection
            .close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// Waits until the connection has ended.
    pub async fn closed(&self) {
        self.connection.closed().await;
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some()
    }
}
