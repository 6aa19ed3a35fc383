//! Who a connection is: a device that proves its key over this very connection.

use super::{Session, reply};
use crate::{
    cluster::feeds::wake::Wake,
    quic::{LaneSender, code},
};
use mimi_actors::{
    caller::Principal,
    ids::ClientUri,
    limits::{WRONG_LOGIN_ANSWER_MS, WRONG_LOGINS_PER_CONNECTION_MAX},
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
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep_until, timeout};

/// How long the last word to who is sent away may be on its way.
const GOODBYE: Duration = Duration::from_secs(1);

/// Answers who says who it is. A wrong login counts for the address, and is answered after a time that tells nothing of
/// what was looked up; the last one that a connection may have ends it.
pub(super) async fn greet(
    session: &Session,
    looking: impl Future<Output = Result<Reply, DoorRefused>>,
    to: &mut LaneSender,
) -> anyhow::Result<()> {
    let address = session.door.remote_address().ip();
    let turn = match session.admission.login(address) {
        Ok(turn) => turn,
        Err(later) => return reply(to, Reply::Refused(DoorRefused::TryLater(later))).await,
    };
    let asked = Instant::now();
    let answer = looking.await;
    let is_wrong = answer == Err(DoorRefused::NotKnown);
    if is_wrong {
        session.admission.wrong_login(address);
        sleep_until(asked + Duration::from_millis(WRONG_LOGIN_ANSWER_MS)).await;
    }
    session.reply(turn, to, answer).await?;
    if is_wrong {
        let before = session.wrong_logins.fetch_add(1, Ordering::Relaxed);
        if before + 1 >= WRONG_LOGINS_PER_CONNECTION_MAX {
            // Whoever does not take the answer is not waited for.
            drop(timeout(GOODBYE, to.delivered()).await);
            session.door.close(code::PROTOCOL, "too many wrong logins");
        }
    }
    Ok(())
}

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
            Ok(Answer::Enrolled) => self.log_in(enrol.client, enrol.device_key).await,
            Ok(Answer::Refused(refused)) => Err(refused.into()),
            Ok(_) | Err(_) => Err(unavailable()),
        }
    }

    /// Logs a registered device in.
    pub(super) async fn login(self: &Arc<Self>, login: Login) -> Result<Reply, DoorRefused> {
        if login.client.provider() != &self.shards.environment().provider {
            return Err(DoorRefused::NotKnown);
        }
        let key = self.key_of(&login.client).await?;
        self.prove(&login.client, &key, &login.proof)?;
        self.log_in(login.client, key).await
    }

    /// The key of a device, as whoever leads the shard of its user knows it.
    async fn key_of(&self, client: &ClientUri) -> Result<[u8; 32], DoorRefused> {
        let key = self.shards.ask(AskDeviceKey(client.clone())).await;
        key.map_err(|_| unavailable())?.ok_or(DoorRefused::NotKnown)
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

    async fn log_in(
        self: &Arc<Self>,
        client: ClientUri,
        key: [u8; 32],
    ) -> Result<Reply, DoorRefused> {
        // From here on a revocation is heard of; one before it is seen by looking once more.
        let wake = self.shards.environment().wakers.register(&client);
        if self.key_of(&client).await? != key {
            return Err(DoorRefused::NotKnown);
        }
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
            self.enter(&client);
            tokio::spawn(end_when_revoked(Arc::clone(self), client, wake));
        }
        Ok(Reply::LoggedIn)
    }
}

/// Ends a connection whose device is revoked.
async fn end_when_revoked(session: Arc<Session>, client: ClientUri, wake: Arc<Wake>) {
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
