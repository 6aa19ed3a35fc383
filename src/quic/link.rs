//! Connections between providers: mutual TLS, each side the one domain that its certificate names.

use super::{
    BindError, ConnectError, Ended, Identity, LINK_ALPN, LaneError, LaneReceiver, LaneSender,
    PeerTrust, code,
    identity::provider_of,
    incoming::{Gate, GateFigures, Handshake, NotUp, OfAddresses, in_time},
    places::{Bound, Place, Places},
    reading::{Budget, Budgets},
    settings,
    trust::Recognise,
};
use mimi_actors::{
    bucket::Rate,
    ids::ProviderId,
    limits::{HANDSHAKES_BURST_PER_ADDRESS, HANDSHAKES_PER_MINUTE_PER_ADDRESS, LINKS_PER_PEER_MAX},
};
use quinn::{Connection, Endpoint, VarInt};
use rustls::pki_types::CertificateDer;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// Connections of addresses: of whoever has proved to be a peer, and peers are counted by who they are.
const OF_ADDRESSES: OfAddresses = OfAddresses {
    handshakes: Rate {
        burst: HANDSHAKES_BURST_PER_ADDRESS,
        per_minute: HANDSHAKES_PER_MINUTE_PER_ADDRESS,
    },
    connections: Bound {
        each: usize::MAX,
        always: usize::MAX,
        all: usize::MAX,
    },
};
/// Connections of peers, each of which its operator lists.
const OF_PEERS: Bound = Bound {
    each: LINKS_PER_PEER_MAX,
    always: LINKS_PER_PEER_MAX,
    all: usize::MAX,
};
/// How long the goodbye to everybody may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Where links come in, and go out from.
pub struct LinkEndpoint {
    endpoint: Endpoint,
    gate: Gate,
    seats: Places<ProviderId>,
    reading: Arc<Budgets<ProviderId>>,
}

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
        let recognise = Recognise::listed(peers, &crypto)?;
        Self::begin(
            address,
            identity,
            recognise,
            (&[LINK_ALPN], &settings::LINK),
        )
    }

    /// Listens, and prepares to dial, for one protocol among whoever is recognised.
    pub(super) fn begin(
        address: SocketAddr,
        identity: &Identity,
        recognise: Recognise,
        (alpns, grant): (&[&[u8]], &settings::Grant),
    ) -> Result<Self, BindError> {
        let crypto = settings::crypto();
        let recognise = Arc::new(recognise);
        let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&crypto))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(BindError::tls)?
            .with_client_cert_verifier(Arc::clone(&recognise) as _)
            .with_single_cert(identity.chain(), identity.key())
            .map_err(BindError::tls)?;
        let client = rustls::ClientConfig::builder_with_provider(crypto)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(BindError::tls)?
            .dangerous()
            .with_custom_certificate_verifier(recognise)
            .with_client_auth_cert(identity.chain(), identity.key())
            .map_err(BindError::tls)?;
        let server = settings::server(server, alpns, grant)?;
        let client = settings::client(client, alpns, grant)?;
        let mut endpoint = settings::endpoint(address, Some((server, identity)))?;
        endpoint.set_default_client_config(client);
        Ok(Self {
            endpoint,
            gate: Gate::new(OF_ADDRESSES),
            seats: Places::new(OF_PEERS),
            reading: Arc::new(Budgets::new(grant.reading_bytes)),
        })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// What it has of connections, and what it refused.
    #[must_use]
    pub fn figures(&self) -> GateFigures {
        GateFigures {
            connections: self.seats.figures(),
            ..self.gate.figures()
        }
    }

    /// The next handshake, or `None` when the endpoint is closed.
    pub async fn accept(&self) -> Option<LinkIncoming> {
        let handshake = self.gate.next(&self.endpoint).await?;
        Some(LinkIncoming {
            handshake,
            seats: self.seats.clone(),
            reading: Arc::clone(&self.reading),
        })
    }

    /// Connects to a peer, which must prove to be `provider`.
    ///
    /// The peer looks at this side's certificate last: if it refuses it, the link comes up here and ends at once.
    ///
    /// # Errors
    /// [`ConnectError`] when it cannot be reached or is somebody else.
    pub async fn connect(
        &self,
        address: SocketAddr,
        provider: &ProviderId,
    ) -> Result<Link, ConnectError> {
        let connecting = self.endpoint.connect(address, provider.as_str())?;
        let connection = in_time(connecting).await?;
        let peer = peer_of(&connection)?;
        Ok(Link {
            version: OnceLock::new(),
            connection,
            peer,
            _seat: None,
            reading: self.reading.of(provider),
        })
    }

    /// Says goodbye to everybody.
    pub async fn close(&self) {
        say_goodbye(&self.endpoint).await;
    }
}

/// Closes an endpoint and its connections.
pub(super) async fn say_goodbye(endpoint: &Endpoint) {
    endpoint.close(VarInt::from_u32(0), b"going away");
    // Those that do not answer are given up on.
    drop(tokio::time::timeout(GOODBYE, endpoint.wait_idle()).await);
}

/// A handshake under way.
pub struct LinkIncoming {
    handshake: Handshake,
    seats: Places<ProviderId>,
    reading: Arc<Budgets<ProviderId>>,
}

impl LinkIncoming {
    /// Where it comes from.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        canonical(self.handshake.remote_address())
    }

    /// Finishes the handshake.
    ///
    /// # Errors
    /// [`ConnectError`] when the peer does not prove to be a listed provider, or has too many connections.
    pub async fn establish(self) -> Result<Link, ConnectError> {
        let connection = match self.handshake.finish().await {
            // A peer is counted by who it is.
            Ok((connection, _)) | Err(NotUp::Crowded(connection)) => connection,
            Err(NotUp::Failed(error)) => return Err(error.into()),
        };
        let peer = peer_of(&connection)?;
        let Some(seat) = self.seats.take(&peer) else {
            connection.close(VarInt::from_u32(code::CROWDED), b"too many connections");
            let (who, max) = (peer.to_string(), LINKS_PER_PEER_MAX);
            return Err(ConnectError::Crowded { who, max });
        };
        Ok(Link {
            version: OnceLock::new(),
            connection,
            reading: self.reading.of(&peer),
            peer,
            _seat: Some(seat),
        })
    }
}

/// The provider that the other side has proved to be.
fn peer_of(connection: &Connection) -> Result<ProviderId, ConnectError> {
    let identity = connection.peer_identity();
    let chain = identity.and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let leaf = chain.as_ref().and_then(|chain| chain.first());
    leaf.and_then(|leaf| provider_of(leaf).ok())
        .ok_or(ConnectError::Nameless)
}

/// A connection to another provider.
#[derive(Debug)]
pub struct Link {
    connection: Connection,
    peer: ProviderId,
    /// The version that both sides speak, once it is agreed.
    version: OnceLock<u8>,
    _seat: Option<Place<ProviderId>>,
    /// Memory for the large frames of the lanes that the other side opens, on all its connections.
    reading: Budget,
}

impl Link {
    /// The provider at the other end, as its certificate says.
    #[must_use]
    pub fn peer(&self) -> &ProviderId {
        &self.peer
    }

    /// Where the other end is.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        canonical(self.connection.remote_address())
    }

    /// The protocol that was agreed in the handshake.
    pub(super) fn protocol(&self) -> Option<Vec<u8>> {
        let data = self.connection.handshake_data()?;
        let data = data.downcast::<quinn::crypto::rustls::HandshakeData>();
        data.ok()?.protocol
    }

    /// Tells the connection from all others that are up.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.connection.stable_id() as u64
    }

    /// Values on lanes opened from now on are written in this version. What was agreed once stays.
    pub fn agree(&self, version: u8) {
        // The handshake may have agreed it.
        let _ = self.version.set(version);
    }

    /// The version that was agreed, if one was.
    #[must_use]
    pub fn agreed(&self) -> Option<u8> {
        self.version.get().copied()
    }

    /// Opens a lane.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn open_lane(&self) -> Result<(LaneSender, LaneReceiver), LaneError> {
        let opened = self.connection.open_bi().await;
        let (to, from) = opened.map_err(Ended::from)?;
        let version = self.version.get().copied();
        Ok((LaneSender::new(to, version), LaneReceiver::new(from)))
    }

    /// Waits for the peer to open a lane.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn accept_lane(&self) -> Result<(LaneSender, LaneReceiver), LaneError> {
        let opened = self.connection.accept_bi().await;
        let (to, from) = opened.map_err(Ended::from)?;
        let from = LaneReceiver::new(from).within(&self.reading);
        Ok((LaneSender::new(to, None), from))
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

    /// Why the connection has ended, or `None` while it has not.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.connection.close_reason().map(Ended::from)
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some()
    }
}

/// An address as people write it: not an IPv4 address in the clothes of IPv6.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
