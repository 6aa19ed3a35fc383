//! Connections between a client and its provider: the provider shows its certificate, the client proves its device
//! over the TLS exporter.

use super::{
    BindError, ConnectError, DOOR_ALPN, Ended, Identity, LaneError, LaneReceiver, LaneSender,
    PeerTrust,
    addresses::network_of,
    code,
    incoming::{Gate, GateFigures, Handshake, NotUp, OfAddresses, in_time},
    link::{canonical, say_goodbye},
    places::Place,
    reading::Budget,
    settings,
    trust::Recognise,
};
use mimi_actors::ids::ProviderId;
use quinn::{Connection, Endpoint, VarInt};
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

/// Where clients come in.
pub struct DoorEndpoint {
    endpoint: Endpoint,
    gate: Gate,
    connections_each: usize,
}

impl DoorEndpoint {
    /// Listens as `identity`; each address may have so much.
    ///
    /// # Errors
    /// [`BindError`] when the port is taken or the identity is not usable.
    pub fn bind(
        address: SocketAddr,
        identity: &Identity,
        of_addresses: OfAddresses,
    ) -> Result<Self, BindError> {
        let server = rustls::ServerConfig::builder_with_provider(settings::crypto())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(BindError::tls)?
            .with_no_client_auth()
            .with_single_cert(identity.chain(), identity.key())
            .map_err(BindError::tls)?;
        let server = settings::server(server, &[DOOR_ALPN], &settings::DOOR)?;
        Ok(Self {
            endpoint: settings::endpoint(address, Some((server, identity)))?,
            gate: Gate::new(of_addresses),
            connections_each: of_addresses.connections.each,
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
        self.gate.figures()
    }

    /// The next handshake, or `None` when the endpoint is closed.
    pub async fn accept(&self) -> Option<DoorIncoming> {
        let handshake = self.gate.next(&self.endpoint).await?;
        Some(DoorIncoming {
            handshake,
            connections_each: self.connections_each,
        })
    }

    /// Says goodbye to everybody.
    pub async fn close(&self) {
        say_goodbye(&self.endpoint).await;
    }
}

/// A handshake under way.
pub struct DoorIncoming {
    handshake: Handshake,
    connections_each: usize,
}

impl DoorIncoming {
    /// Finishes the handshake.
    ///
    /// # Errors
    /// [`ConnectError`] when it fails, or the address has too many connections.
    pub async fn establish(self) -> Result<Door, ConnectError> {
        let address = self.handshake.remote_address().ip();
        match self.handshake.finish().await {
            Ok((connection, seat)) => Ok(Door {
                connection,
                version: None,
                _seat: Some(Arc::new(seat)),
                reading: Budget::new(settings::DOOR.reading_bytes),
            }),
            Err(NotUp::Failed(error)) => Err(error.into()),
            Err(NotUp::Crowded(connection)) => {
                connection.close(VarInt::from_u32(code::CROWDED), b"too many connections");
                let (who, max) = (network_of(address).to_string(), self.connections_each);
                Err(ConnectError::Crowded { who, max })
            }
        }
    }
}

/// A client's way to its provider.
#[derive(Clone, Debug)]
pub struct DoorDialer {
    endpoint: Endpoint,
    /// The version in which lanes are begun; the newest where none is said.
    version: Option<u8>,
}

impl DoorDialer {
    /// Prepares to dial providers whose certificates the CA in `ca` (PEM) has issued.
    ///
    /// # Errors
    /// [`BindError`] when the file does not read or no socket can be had.
    pub fn new(ca: &Path) -> Result<Self, BindError> {
        Self::trusting(&[PeerTrust::Ca(ca.to_owned())])
    }

    /// Prepares to dial providers that are recognised in one of these ways.
    ///
    /// # Errors
    /// [`BindError`] when a trust setting is not usable or no socket can be had.
    pub fn trusting(trust: &[PeerTrust]) -> Result<Self, BindError> {
        let crypto = settings::crypto();
        let recognise = Recognise::anyone(trust, &crypto)?;
        let client = rustls::ClientConfig::builder_with_provider(crypto)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(BindError::tls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(recognise))
            .with_no_client_auth();
        Self::with(settings::client(client, &[DOOR_ALPN], &settings::CLIENT)?)
    }

    pub(super) fn with(client: quinn::ClientConfig) -> Result<Self, BindError> {
        let mut endpoint = settings::dialing_endpoint()?;
        endpoint.set_default_client_config(client);
        Ok(Self {
            endpoint,
            version: None,
        })
    }

    /// The same, beginning every lane in this version, as a client does that was built when there was no other.
    #[must_use]
    pub fn speaking(self, version: u8) -> Self {
        Self {
            version: Some(version),
            ..self
        }
    }

    /// Connects to a node of `provider`.
    ///
    /// # Errors
    /// [`ConnectError`] when it cannot be reached or is somebody else.
    pub async fn connect(
        &self,
        address: SocketAddr,
        provider: &ProviderId,
    ) -> Result<Door, ConnectError> {
        let connecting = self.endpoint.connect(address, provider.as_str())?;
        let connection = in_time(connecting).await?;
        Ok(Door {
            connection,
            version: self.version,
            _seat: None,
            reading: Budget::new(settings::CLIENT.reading_bytes),
        })
    }
}

/// A connection between a client and its provider, seen from either side.
#[derive(Clone, Debug)]
pub struct Door {
    connection: Connection,
    version: Option<u8>,
    /// Its place among those of its address, at the end that accepted it.
    _seat: Option<Arc<Place<IpAddr>>>,
    /// Memory for the large frames of the lanes that the other side opens.
    reading: Budget,
}

impl Door {
    /// Where the other end is; a client may move.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        canonical(self.connection.remote_address())
    }

    /// Tells the connection from all others that are up.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.connection.stable_id() as u64
    }

    /// Opens a lane.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn open_lane(&self) -> Result<(LaneSender, LaneReceiver), LaneError> {
        let (to, from) = self.connection.open_bi().await.map_err(Ended::from)?;
        Ok((LaneSender::new(to, self.version), LaneReceiver::new(from)))
    }

    /// Waits for the other side to open a lane.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn accept_lane(&self) -> Result<(LaneSender, LaneReceiver), LaneError> {
        let (to, from) = self.connection.accept_bi().await.map_err(Ended::from)?;
        let from = LaneReceiver::new(from).within(&self.reading);
        Ok((LaneSender::new(to, None), from))
    }

    /// 32 bytes that only the two ends of this very connection know.
    ///
    /// # Errors
    /// [`LaneError::Closed`] when TLS does not export; after the handshake it always does.
    pub fn exporter(&self, label: &[u8], context: &[u8]) -> Result<[u8; 32], LaneError> {
        let mut exported = [0; 32];
        let done = self
            .connection
            .export_keying_material(&mut exported, label, context);
        done.map_err(|_| LaneError::Closed)?;
        Ok(exported)
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
