//! The clients' door: who a connection is, its requests, its messages, its event stream.
//!
//! A connection is nobody until a device has proved itself over the TLS exporter; then it is that client and no other.

pub(crate) mod events;
pub(crate) mod login;
pub(crate) mod requests;
pub(crate) mod sends;

use crate::{
    cluster::shard::shards::Shards,
    peering::Peers,
    quic::{Door, LaneReceiver, LaneSender, code},
};
use mimi_actors::{
    caller::{Caller, Origin},
    ids::ClientUri,
    limits::{GREETING_FRAME_BYTES_MAX, REQUEST_FRAME_BYTES_MAX},
    wire::{
        self,
        door::{DoorRefused, Open, Reply},
        refusal::TryLater,
        version::DOOR,
    },
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::sync::Semaphore;
use tracing::{Instrument, debug, info_span};

/// How long a frame that has begun may take.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// How long a lane may take to say what it is for.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// How long a connection may take to prove a device.
const LOGIN_DEADLINE: Duration = Duration::from_secs(10);

/// What a connection's lanes share.
pub(crate) struct Session {
    door: Door,
    shards: Shards,
    peers: Peers,
    requests: Arc<Semaphore>,
    /// The client, once its device has proved itself, and the key that it proved.
    device: OnceLock<(ClientUri, [u8; 32])>,
}

impl Session {
    /// The client of this connection as whoever decides sees it.
    fn caller(&self, client: &ClientUri) -> Caller {
        let origin = Origin {
            provider: client.provider().clone(),
            address: Some(self.door.remote_address().ip()),
            connection: Some(self.door.number()),
        };
        let client = client.clone();
        Caller { origin, client }
    }
}

/// Serves a client's connection until it ends.
pub(crate) async fn serve(door: Door, shards: Shards, peers: Peers, requests: Arc<Semaphore>) {
    let session = Arc::new(Session {
        door,
        shards,
        peers,
        requests,
        device: OnceLock::new(),
    });
    let watched = Arc::clone(&session);
    let login = tokio::spawn(async move {
        tokio::time::sleep(LOGIN_DEADLINE).await;
        if watched.device.get().is_none() {
            watched.door.close(code::DEADLINE, "no login in time");
        }
    });
    async {
        while let Ok((to, from)) = session.door.accept_lane().await {
            let session = Arc::clone(&session);
            let lane = async move {
                if let Err(error) = serve_lane(&session, to, from).await {
                    debug!(%error, "a lane of a client ended");
                }
            };
            tokio::spawn(lane.in_current_span());
        }
    }
    .instrument(info_span!("gateway"))
    .await;
    login.abort();
}

async fn serve_lane(
    session: &Arc<Session>,
    mut to: LaneSender,
    mut from: LaneReceiver,
) -> anyhow::Result<()> {
    // A stranger gets a small frame only.
    let known = session.device.get().is_some();
    let frame_max = if known {
        REQUEST_FRAME_BYTES_MAX
    } else {
        GREETING_FRAME_BYTES_MAX
    };
    let opening = from.next(frame_max, Some(FRAME_DEADLINE));
    let frame = match tokio::time::timeout(OPEN_DEADLINE, opening).await {
        Ok(Ok(Some(frame))) => frame,
        Ok(Ok(None)) => return Ok(()),
        Ok(Err(error)) => {
            to.reset(code::BAD_FRAME);
            from.stop(code::BAD_FRAME);
            return Err(error.into());
        }
        Err(_) => {
            to.reset(code::DEADLINE);
            from.stop(code::DEADLINE);
            return Ok(());
        }
    };
    // A lane is answered in the version in which it begins, if that is one; anything else in the oldest.
    to.speak(DOOR.spoken(&frame));
    let open = match wire::decode::<Open>(&frame) {
        Ok(open) => open,
        Err(error) => {
            return reply(&mut to, Reply::Refused(DoorRefused::BadFrame(error.flaw()))).await;
        }
    };
    match (open, session.device.get()) {
        (Open::Request(request), device) => {
            // Held until the answer is on its way: a node that drains waits for it.
            let permit = session.requests.try_acquire();
            let answer = if permit.is_ok() {
                requests::answer(session, device, *request).await
            } else {
                Err(DoorRefused::TryLater(TryLater::BUSY))
            };
            reply(&mut to, answer.unwrap_or_else(Reply::Refused)).await
        }
        (Open::Sends | Open::Events(_), None) => {
            reply(&mut to, Reply::Refused(DoorRefused::NotLoggedIn)).await
        }
        (Open::Sends, Some((client, _))) => sends::serve(session, client, to, from).await,
        (Open::Events(order), Some((client, _))) => {
            events::serve(session, client, order, to, from).await
        }
    }
}

async fn reply(to: &mut LaneSender, reply: Reply) -> anyhow::Result<()> {
    to.write(&reply).await?;
    Ok(to.finish()?)
}
