//! Connections between a client and its provider: the provider shows its certificate, the client proves its device
//! over the TLS exporter.

use super::{
    BindError, ConnectError, DOOR_ALPN, Identity, LaneError, LaneReceiver, LaneSender, link,
    settings, trust,
};
use mimi_actors::ids::ProviderId;
use quinn::{Connection, Endpoint, Incoming, VarInt};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

/// How long a handshake may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// Where clients come in.
pub struct DoorEndpoint(Endpoint);

impl DoorEndpoint {
    /// Listens as `identity`.
    ///
    /// # Errors
    /// [`BindError`] when the port is taken or the identity is not usable.
    pub fn bind(address: SocketAddr, identity: &Identity) -> Result<Self, BindError> {
        let tls = |error: rustls::Error| BindError::Tls(error.to_string());
        let mut server = rustls::ServerConfig::builder_with_provider(settings::crypto())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .with_no_client_auth()
            .with_single_cert(identity.chain(), identity.key())
            .map_err(tls)?;
        server.alpn_protocols = vec![DOOR_ALPN.to_vec()];
        server.max_early_data_size = 0;
        // Clients change networks: their connections may migrate.
        Ok(Self(settings::endpoint(
            address,
            Some((settings::server(server, true)?, identity)),
        )?))
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// The next handshake, or `None` when the endpoint is closed.
    pub async fn accept(&self) -> Option<DoorIncoming> {
        link::accept(&self.0).await.map(DoorIncoming)
    }

    /// Says goodbye to everybody.
    pub async fn close(&self) {
        self.0.close(VarInt::from_u32(0), b"going away");
        // Clients that do not answer are given up on.
        drop(tokio::time::timeout(Duration::from_secs(1), self.0.wait_idle()).await);
    }
}

/// A handshake under way.
pub struct DoorIncoming(Incoming);

impl DoorIncoming {
    /// Finishes the handshake.
    ///
    /// # Errors
    /// [`ConnectError`] when it fails.
    pub async fn establish(self) -> Result<Door, ConnectError> {
        let connection = tokio::time::timeout(HANDSHAKE_DEADLINE, self.0).await;
        Ok(Door(
            connection.map_err(|_| quinn::ConnectionError::TimedOut)??,
        ))
    }
}

/// A client's way to its provider.
#[derive(Clone)]
pub struct DoorDialer(Endpoint);

impl DoorDialer {
    /// Prepares to dial providers whose certificates the CA in `ca` (PEM) has issued.
    ///
    /// # Errors
    /// [`BindError`] when the file does not read or no socket can be had.
    pub fn new(ca: &Path) -> Result<Self, BindError> {
        let tls = |error: rustls::Error| BindError::Tls(error.to_string());
        let mut client = rustls::ClientConfig::builder_with_provider(settings::crypto())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .with_root_certificates(trust::roots(ca, "the client's provider")?)
            .with_no_client_auth();
        client.alpn_protocols = vec![DOOR_ALPN.to_vec()];
        client.enable_early_data = false;
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut endpoint = settings::endpoint(any, None)?;
        endpoint.set_default_client_config(settings::client(client)?);
        Ok(Self(endpoint))
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
        let connecting = self.0.connect(address, provider.as_str())?;
        let connection = tokio::time::timeout(HANDSHAKE_DEADLINE, connecting).await;
        Ok(Door(
            connection.map_err(|_| quinn::ConnectionError::TimedOut)??,
        ))
    }
}

/// A connection between a client and its provider, seen from either side.
#[derive(Clone, Debug)]
pub struct Door(Connection);

impl Door {
    /// Opens a lane.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn open_lane(&self) -> Result<(LaneSender, LaneReceiver), LaneError> {
        let (to, from) = self.0.open_bi().await?;
        Ok((LaneSender(to), LaneReceiver::new(from)))
    }

    /// Waits for the other side to open a lane.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn accept_lane(&self) -> Result<(LaneSender, LaneReceiver), LaneError> {
        let (to, from) = self.0.accept_bi().await?;
        Ok((LaneSender(to), LaneReceiver::new(from)))
    }

    /// 32 bytes that only the two ends of this very connection know.
    ///
    /// # Errors
    /// When TLS does not export (it always does after the handshake).
    pub fn exporter(&self, label: &[u8], context: &[u8]) -> Result<[u8; 32], LaneError> {
        let mut exported = [0; 32];
        let done = self.0.export_keying_material(&mut exported, label, context);
        done.map_err(|_| quinn::ConnectionError::LocallyClosed)?;
        Ok(exported)
    }

    /// Ends the connection with a code and a reason.
    pub fn close(&self, code: u32, reason: &str) {
        self.0.close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// Waits until the connection has ended.
    pub async fn closed(&self) {
        self.0.closed().await;
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.close_reason().is_some()
    }
}
