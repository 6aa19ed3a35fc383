//! Who a connection is: a device that proves its key over this very connection.

use super::Session;
use crate::quic::code;
use mimi_actors::{
    caller::Principal,
    ids::ClientUri,
    shard_request::{AskDeviceKey, AskUser},
    user::{desk as user_desk, fold::Fold},
    wire::{
        BText,
        door::{DoorRefused, EXPORTER_LABEL, Enrol, Login, Reply, proof_input},
        event::Hash,
        refusal::TryLater,
        user::{Answer, Request},
    },
};
use ring::signature::{ED25519, UnparsedPublicKey};
use std::sync::Arc;

impl Session {
    /// Registers a device and logs it in.
    pub(super) async fn enrol(self: &Arc<Self>, enrol: Enrol) -> Result<Reply, DoorRefused> {
        self.prove(&enrol.client, &enrol.device_key, &enrol.proof)?;
        let user = enrol.client.user().clone();
        let principal = Principal::Device {
            caller: self.caller(&enrol.client),
            key: enrol.device_key,
        };
        let request = Request::Enrol {
            code: Hash::of(enrol.code.as_bytes()),
        };
        let answer = self.shards.ask(AskUser(user, principal, request)).await;
        match answer {
            Ok(Answer::Enrolled) => self.log_in(enrol.client, enrol.device_key),
            Ok(Answer::Refused(refused)) => Err(refused.into()),
            Ok(_) | Err(_) => Err(unavailable()),
        }
    }

    /// Logs a registered device in.
    pub(super) async fn login(self: &Arc<Self>, login: Login) -> Result<Reply, DoorRefused> {
        if login.client.provider() != &self.shards.environment().provider {
            return Err(DoorRefused::NotKnown);
        }
        let asked = AskDeviceKey(login.client.clone());
        let key = self.shards.ask(asked).await;
        let key = key
            .map_err(|_| unavailable())?
            .ok_or(DoorRefused::NotKnown)?;
        self.prove(&login.client, &key, &login.proof)?;
        self.log_in(login.client, key)
    }

    /// Checks the proof of a device of this provider.
    fn prove(&self, client: &ClientUri, key: &[u8; 32], proof: &[u8]) -> Result<(), DoorRefused> {
        if client.provider() != &self.shards.environment().provider {
            return Err(DoorRefused::NotKnown);
        }
        let context = client.to_string();
        let exported = self.door.exporter(EXPORTER_LABEL, context.as_bytes());
        let exported = exported.map_err(|_| DoorRefused::NotKnown)?;
        let input = proof_input(client, &exported);
        UnparsedPublicKey::new(&ED25519, key)
            .verify(&input, proof)
            .map_err(|_| DoorRefused::NotKnown)
    }

    fn log_in(self: &Arc<Self>, client: ClientUri, key: [u8; 32]) -> Result<Reply, DoorRefused> {
        let mut first = false;
        let (is, _) = self.device.get_or_init(|| {
            first = true;
            (client.clone(), key)
        });
        if *is != client {
            let detail = BText::clipped("this connection is another client's; open a new one");
            return Err(DoorRefused::SenderNotBound { detail });
        }
        if first {
            tokio::spawn(end_when_revoked(Arc::clone(self), client));
        }
        Ok(Reply::LoggedIn)
    }
}

/// Ends a connection whose device is revoked.
async fn end_when_revoked(session: Arc<Session>, client: ClientUri) {
    let wake = session.shards.environment().wakers.register(&client);
    loop {
        tokio::select! {
            () = session.door.closed() => return,
            () = wake.woken() => {}
        }
        wake.take();
        let Ok(shard) = session.shards.of_user(client.user()) else {
            return;
        };
        let device = client.clone();
        let is_revoked = move |fold: &Fold| fold.device_key(&device).is_none();
        let looked = shard.look::<user_desk::Desk, _>(client.user(), is_revoked);
        let Ok(is_revoked) = looked.await else { return };
        if is_revoked {
            session.door.close(code::PROTOCOL, "the device was revoked");
            return;
        }
    }
}

fn unavailable() -> DoorRefused {
    DoorRefused::TryLater(TryLater::UNANSWERED)
}
