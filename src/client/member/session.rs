//! A member at its provider's door: the connection, and each step as one call.
//!
//! Everything that leaves the device is saved first; what the hub answers is saved before it is reported.

use super::{Member, MemberError, store};
use crate::door::{DoorClient, EventLane, SendLane};
use mimi_quic::DoorDialer;
use std::net::SocketAddr;

/// A connection and its long lanes.
pub(super) struct Session {
    pub(super) door: DoorClient,
    pub(super) sends: Option<SendLane>,
    pub(super) events: Option<EventLane>,
}

impl Member {
    /// Connects to a node of the own provider, in place of any connection there was.
    ///
    /// # Errors
    /// [`MemberError::Door`] when it does not answer there.
    pub async fn connect(
        &mut self,
        dialer: &DoorDialer,
        addr: SocketAddr,
    ) -> Result<(), MemberError> {
        self.disconnect();
        let client = self.client().clone();
        let provider = client.provider().clone();
        let device = self.device.clone();
        let door = DoorClient::connect(dialer, addr, &provider, client, device).await?;
        self.session = Some(Session {
            door,
            sends: None,
            events: None,
        });
        Ok(())
    }

    /// Connects to the first of several nodes of the own provider that lets the device in, and logs in: to move away
    /// from a node that is gone, or cut off. Nothing is lost by it: what was held comes again.
    ///
    /// # Errors
    /// What the last of them said; [`MemberError::NotConnected`] without any.
    pub async fn connect_to_any(
        &mut self,
        dialer: &DoorDialer,
        doors: &[SocketAddr],
    ) -> Result<(), MemberError> {
        let mut refused = Err(MemberError::NotConnected);
        for door in doors {
            refused = match self.connect(dialer, *door).await {
                Ok(()) => self.login().await,
                Err(error) => Err(error),
            };
            if refused.is_ok() {
                break;
            }
        }
        refused
    }

    /// Closes the connection, if there is one. What was held comes again after the next login.
    pub fn disconnect(&mut self) {
        self.held.clear();
        if let Some(session) = self.session.take() {
            session.door.close();
        }
    }

    /// The connection, for requests that this type has no method for.
    ///
    /// # Errors
    /// [`MemberError::NotConnected`] without one.
    pub fn door(&self) -> Result<&DoorClient, MemberError> {
        self.session
            .as_ref()
            .map(|session| &session.door)
            .ok_or(MemberError::NotConnected)
    }

    /// Registers the device with a one-time code, and logs in.
    ///
    /// # Errors
    /// [`MemberError::Door`] when the provider refuses.
    pub async fn enrol(&mut self, code: &str) -> Result<(), MemberError> {
        Ok(self.door()?.enrol(code).await?)
    }

    /// Logs in.
    ///
    /// # Errors
    /// [`MemberError::Door`] when the provider refuses.
    pub async fn login(&mut self) -> Result<(), MemberError> {
        Ok(self.door()?.login().await?)
    }

    /// Saves everything, if there is a state file.
    ///
    /// # Errors
    /// [`MemberError::State`] when it cannot be written.
    pub async fn save(&self) -> Result<(), MemberError> {
        let Some((path, bytes)) = self.encoded() else {
            return Ok(());
        };
        let at = path.clone();
        tokio::task::spawn_blocking(move || store::write(&path, &bytes))
            .await
            .unwrap_or_else(|error| {
                let detail = error.to_string();
                Err(MemberError::State { path: at, detail })
            })
    }
}
