//! The clients' door: who a connection is, its requests, its messages, its event stream.
//!
//! A connection is nobody until a device has proved itself over the TLS exporter; then it is that client and no other.

pub(crate) mod events;
pub(crate) mod login;
pub(crate) mod requests;
pub(crate) mod sends;

use crate::{
    admit::{Admission, Entered, Turn},
    cluster::shard::shards::Shards,
    peering::Peers,
    quic::{Door, LaneReceiver, LaneSender, code, places::Place},
};
use mimi_actors::{
    caller::{Caller, Origin},
    ids::ClientUri,
    limits::{
        ANSWER_BYTES_WAITING_MAX, EVENT_LANES_PER_CONNECTION_MAX, GREETING_FRAME_BYTES_MAX,
        REQUEST_FRAME_BYTES_MAX, SEND_LANES_PER_CONNECTION_MAX,
    },
    wire::{
        self,
        door::{DoorRefused, Open, Reply},
        refusal::TryLater,
        version::DOOR,
    },
};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicU32},
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
    admission: Arc<Admission>,
    /// The client, once its device has proved itself, and the key that it proved.
    device: OnceLock<(ClientUri, [u8; 32])>,
    /// Its place among the connections that are nobody's, until then.
    nobodys: Mutex<Option<Place<IpAddr>>>,
    /// Its place among the client's from then on.
    entered: OnceLock<Entered>,
    wrong_logins: AtomicU32,
    event_lanes: Semaphore,
    send_lanes: Semaphore,
    /// Room for answers that wait to be taken, in bytes.
    answers: Semaphore,
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
pub(crate) async fn serve(door: Door, shards: Shards, peers: Peers, admission: Arc<Admission>) {
    let Some(place) = admission.stranger(door.remote_address().ip()) else {
        door.close(code::CROWDED, "too many connections without a login");
        return;
    };
    let session = Arc::new(Session {
        door,
        shards,
        peers,
        admission,
        device: OnceLock::new(),
        nobodys: Mutex::new(Some(place)),
        entered: OnceLock::new(),
        wrong_logins: AtomicU32::new(0),
        event_lanes: Semaphore::new(EVENT_LANES_PER_CONNECTION_MAX),
        send_lanes: Semaphore::new(SEND_LANES_PER_CONNECTION_MAX),
        answers: Semaphore::new(ANSWER_BYTES_WAITING_MAX),
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
    let busy = || Reply::Refused(DoorRefused::TryLater(TryLater::BUSY));
    match (open, session.device.get()) {
        (Open::Request(request), device) if requests::greets(&request) => {
            let answer = requests::answer(session, device, *request);
            login::greet(session, answer, &mut to).await
        }
        (Open::Request(_), None) => reply(&mut to, Reply::Refused(DoorRefused::NotLoggedIn)).await,
        (Open::Request(request), Some(device)) => {
            match (session.admission).client(&device.0, requests::waits(&request)) {
                Ok(turn) => {
                    let answer = requests::answer(session, Some(device), *request).await;
                    session.reply(turn, &mut to, answer).await
                }
                Err(later) => reply(&mut to, Reply::Refused(DoorRefused::TryLater(later))).await,
            }
        }
        (Open::Sends | Open::Events(_), None) => {
            reply(&mut to, Reply::Refused(DoorRefused::NotLoggedIn)).await
        }
        (Open::Sends, Some((client, _))) => match session.send_lanes.try_acquire() {
            Ok(_place) => sends::serve(session, client, to, from).await,
            Err(_) => reply(&mut to, busy()).await,
        },
        (Open::Events(order), Some((client, _))) => match session.event_lanes.try_acquire() {
            Ok(_place) => events::serve(session, client, order, to, from).await,
            Err(_) => reply(&mut to, busy()).await,
        },
    }
}

impl Session {
    /// Writes an answer. It holds nothing that others need while it waits to be taken.
    async fn reply(
        &self,
        mut turn: Turn,
        to: &mut LaneSender,
        answer: Result<Reply, DoorRefused>,
    ) -> anyhow::Result<()> {
        turn.answered();
        let frame = to.frame(&answer.unwrap_or_else(Reply::Refused))?;
        let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let Ok(_room) = self.answers.try_acquire_many(bytes) else {
            to.reset(code::CROWDED);
            anyhow::bail!("too many bytes of answers wait to be taken");
        };
        to.send(frame).await?;
        Ok(to.finish()?)
    }

    /// The connection is a client's from now on.
    fn enter(self: &Arc<Self>, client: &ClientUri) {
        self.entered
            .get_or_init(|| self.admission.enter(client, &self.door));
        let mut nobodys = self.nobodys.lock().unwrap_or_else(PoisonError::into_inner);
        *nobodys = None;
    }
}

async fn reply(to: &mut LaneSender, reply: Reply) -> anyhow::Result<()> {
    to.write(&reply).await?;
    Ok(to.finish()?)
}
