//! The client door in bytes, for any MLS library.
//!
//! A connection begins with [`DoorClient::connect`] and one of [`DoorClient::enrol`] and [`DoorClient::login`]; then:
//!
//! | method | frames on a lane of its own |
//! | --- | --- |
//! | `hub_sender`, `upload`, `claim`, `ask` (a room), `introduction` | one request, one reply |
//! | [`DoorClient::sends`] | many `Send`s, a `Sent` for each, in order |
//! | [`DoorClient::events`] | `Events` from the provider, `Acks` whenever the client likes |
//!
//! The frames are [`mimi_actors::wire::door`]'s, which documents them: a client in another language needs that page, a
//! QUIC library and postcard. A device that logs in, sends and reads, in short: `connect`; `login`; `sends` and on it
//! `send(Send { room, first, messages })`, whose `next_sent` says what became of the numbers; `events` and on it `next`,
//! then, once the state is safe, `ack`.
//!
//! Promises: each request has a deadline; nothing is queued without a bound; a request whose fate is unknown may be sent
//! again as it was. Not here: MLS, and when to try again.

mod device;
mod lanes;

pub use device::{BadDeviceKey, DeviceKey};
pub use lanes::{EventAcks, EventItems, EventLane, SendLane, SendReplies, SendRequests};

use bytes::Bytes;
use mimi_actors::{
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    limits::REQUEST_FRAME_BYTES_MAX,
    wire::{
        self, BText, BVec, FrameError, Payload, TooMany, Versioned,
        answer::Answer,
        claim::{ClaimId, ClaimRequest, ClaimResponse, ClaimTerms},
        door::{
            DoorRefused, EXPORTER_LABEL, Enrol, HubSender, Login, Open, Order, PackageRefused,
            Reply, Request, Verdicts,
        },
        room, user,
    },
};
use mimi_quic::{ConnectError, Door, DoorDialer, LaneError, LaneReceiver, LaneSender};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// How long a request may take.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// How long a frame that has begun may take to end.
const FRAME_DEADLINE: Duration = Duration::from_secs(30);

/// Why the door gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// It does not look at the request.
    #[error("refused: {0}")]
    Refused(#[source] DoorRefused),
    /// There is no connection.
    #[error("connect: {0}")]
    Connect(#[from] ConnectError),
    /// The connection or a lane on it failed.
    #[error("lane: {0}")]
    Lane(#[from] LaneError),
    /// A frame does not decode.
    #[error("frame: {0}")]
    Frame(#[from] FrameError),
    /// The provider ended the lane.
    #[error("the provider ended the lane")]
    Closed,
    /// No answer came in time; what became of the request is not known.
    #[error("no answer in time")]
    Deadline,
    /// The answer is not one to this request.
    #[error("an answer to something else")]
    Unexpected,
    /// A claim holds no more users than that; make several.
    #[error("users of a claim: {0}")]
    TooManyUsers(TooMany),
}

/// A connection of one device to its provider's door.
pub struct DoorClient {
    door: Door,
    client: ClientUri,
    device: Arc<DeviceKey>,
}

impl DoorClient {
    /// Connects; the connection proves no device yet.
    ///
    /// # Errors
    /// [`DoorError::Connect`] when nobody answers there, or another provider.
    pub async fn connect(
        dialer: &DoorDialer,
        addr: SocketAddr,
        provider: &ProviderId,
        client: ClientUri,
        device: Arc<DeviceKey>,
    ) -> Result<Self, DoorError> {
        let door = dialer.connect(addr, provider).await?;
        Ok(Self {
            door,
            client,
            device,
        })
    }

    /// Registers the device with a one-time code, and logs in.
    ///
    /// # Errors
    /// [`DoorError::Refused`] when the code or the name is not free to use.
    pub async fn enrol(&self, code: &str) -> Result<(), DoorError> {
        // No code is longer than a request holds.
        let code = BText::exact(code).ok_or(DoorError::Refused(DoorRefused::NotKnown))?;
        let request = Request::Enrol(Enrol {
            code,
            client: self.client.clone(),
            device_key: self.device.public(),
            proof: self.proof()?,
        });
        self.greet(request).await
    }

    /// Logs a registered device in.
    ///
    /// # Errors
    /// [`DoorError::Refused`] when the provider does not know the device by this key.
    pub async fn login(&self) -> Result<(), DoorError> {
        let request = Request::Login(Login {
            client: self.client.clone(),
            proof: self.proof()?,
        });
        self.greet(request).await
    }

    /// Asks for the key that rooms of this provider must list in external_senders.
    ///
    /// # Errors
    /// As every request: see [`DoorError`].
    pub async fn hub_sender(&self) -> Result<HubSender, DoorError> {
        let Reply::HubSender(sender) = self.request(Request::HubSender).await? else {
            return Err(DoorError::Unexpected);
        };
        Ok(sender)
    }

    /// Uploads KeyPackages; for each, in order, whether it was taken.
    ///
    /// # Errors
    /// As every request: see [`DoorError`]. Those of the requests before it are uploaded then.
    pub async fn upload(
        &self,
        packages: Vec<Bytes>,
    ) -> Result<Vec<Result<(), PackageRefused>>, DoorError> {
        let mut results = Vec::with_capacity(packages.len());
        for some in BVec::pieces(packages.into_iter().map(Payload::from)) {
            let request = Request::Upload(some);
            let Reply::Uploaded(taken) = self.request(request).await? else {
                return Err(DoorError::Unexpected);
            };
            results.extend(taken);
        }
        Ok(results)
    }

    /// Claims KeyPackages of users of any providers, signed with the key of this device.
    ///
    /// # Errors
    /// [`DoorError::TooManyUsers`] for more users than a claim holds; otherwise as every request: see [`DoorError`]. The
    /// same claim may be sent again.
    pub async fn claim(
        &self,
        id: ClaimId,
        terms: ClaimTerms,
        users: &[UserUri],
    ) -> Result<ClaimResponse, DoorError> {
        let users = BVec::try_from(users.to_vec()).map_err(DoorError::TooManyUsers)?;
        let mut terms = terms;
        terms.asking_client = Some(self.client.clone());
        let proof = self.device.sign_claim(id, &terms, &users);
        self.claim_signed(ClaimRequest {
            id,
            terms,
            users,
            proof,
        })
        .await
    }

    /// Claims KeyPackages with a request as it is: under a pseudonym, say, which signs with a key of its own.
    ///
    /// # Errors
    /// As [`Self::claim`].
    pub async fn claim_signed(&self, claim: ClaimRequest) -> Result<ClaimResponse, DoorError> {
        let Reply::Claimed(response) = self.request(Request::Claim(claim)).await? else {
            return Err(DoorError::Unexpected);
        };
        Ok(response)
    }

    /// Asks a room, at whichever provider it is. The same request again gets the first answer where that matters.
    ///
    /// # Errors
    /// As every request: see [`DoorError`]. A refusal of the room is an [`Answer`].
    pub async fn ask(&self, room: RoomUri, request: room::Request) -> Result<Answer, DoorError> {
        let Reply::Room(answer) = self.request(Request::Room(room, request)).await? else {
            return Err(DoorError::Unexpected);
        };
        Ok(answer)
    }

    /// Asks what became of messages of this client, waiting for those that have no verdict yet. Of messages in a room of
    /// another provider that is known later than they are taken.
    ///
    /// # Errors
    /// As every request: see [`DoorError`]. A refusal of the room is an [`Answer`].
    pub async fn verdicts(&self, asked: Verdicts) -> Result<Answer, DoorError> {
        let Reply::Room(answer) = self.request(Request::Verdicts(asked)).await? else {
            return Err(DoorError::Unexpected);
        };
        Ok(answer)
    }

    /// Asks this device's own user.
    ///
    /// # Errors
    /// As every request: see [`DoorError`]. A refusal of the user is a [`user::Answer`].
    pub async fn ask_user(&self, request: user::Request) -> Result<user::Answer, DoorError> {
        self.of_user(Request::User(request)).await
    }

    /// Asks who made an introduction code.
    ///
    /// # Errors
    /// As [`Self::ask_user`].
    pub async fn resolve(
        &self,
        provider: ProviderId,
        code: Payload,
    ) -> Result<user::Answer, DoorError> {
        self.of_user(Request::Resolve { provider, code }).await
    }

    async fn of_user(&self, request: Request) -> Result<user::Answer, DoorError> {
        let Reply::User(answer) = self.request(request).await? else {
            return Err(DoorError::Unexpected);
        };
        Ok(answer)
    }

    /// Opens a lane for application messages.
    ///
    /// # Errors
    /// [`DoorError::Lane`] when the connection is gone.
    pub async fn sends(&self) -> Result<SendLane, DoorError> {
        Ok(SendLane::new(self.open(&Open::Sends).await?))
    }

    /// Opens the event stream, everything as it happened. It begins after what was acknowledged last.
    ///
    /// # Errors
    /// [`DoorError::Lane`] when the connection is gone.
    pub async fn events(&self) -> Result<EventLane, DoorError> {
        self.events_in(Order::InOrder).await
    }

    /// Opens the event stream in this order.
    ///
    /// # Errors
    /// As [`Self::events`].
    pub async fn events_in(&self, order: Order) -> Result<EventLane, DoorError> {
        Ok(EventLane::new(self.open(&Open::Events(order)).await?))
    }

    /// The client whose connection it is.
    #[must_use]
    pub fn client(&self) -> &ClientUri {
        &self.client
    }

    /// Waits until the connection has ended.
    pub async fn closed(&self) {
        self.door.closed().await;
    }

    /// Closes the connection.
    pub fn close(&self) {
        self.door.close(0, "goodbye");
    }

    /// The device's proof, good on this connection only.
    fn proof(&self) -> Result<Payload, DoorError> {
        let context = self.client.to_string();
        let exported = self.door.exporter(EXPORTER_LABEL, context.as_bytes())?;
        Ok(self.device.prove(&self.client, &exported).into())
    }

    async fn greet(&self, request: Request) -> Result<(), DoorError> {
        let Reply::LoggedIn = self.request(request).await? else {
            return Err(DoorError::Unexpected);
        };
        Ok(())
    }

    async fn request(&self, request: Request) -> Result<Reply, DoorError> {
        in_time(async {
            let (mut sender, mut receiver) = self.open(&Open::Request(Box::new(request))).await?;
            sender.finish()?;
            let reply = read(&mut receiver, REQUEST_FRAME_BYTES_MAX).await?;
            if let Reply::Refused(refused) = reply {
                return Err(DoorError::Refused(refused));
            }
            Ok(reply)
        })
        .await
    }

    async fn open(&self, first: &Open) -> Result<(LaneSender, LaneReceiver), DoorError> {
        let (mut sender, receiver) = self.door.open_lane().await?;
        write(&mut sender, first).await?;
        Ok((sender, receiver))
    }
}

/// Runs one exchange within the deadline of a request.
async fn in_time<T>(exchange: impl Future<Output = Result<T, DoorError>>) -> Result<T, DoorError> {
    tokio::time::timeout(REQUEST_DEADLINE, exchange)
        .await
        .map_err(|_| DoorError::Deadline)?
}

/// Sends one frame.
async fn write<T: Versioned>(lane: &mut LaneSender, frame: &T) -> Result<(), DoorError> {
    Ok(lane.write(frame).await?)
}

/// Receives one frame of at most `bytes_max`. Waits as long as it takes; may be dropped and called again.
async fn read<T: Versioned>(lane: &mut LaneReceiver, bytes_max: usize) -> Result<T, DoorError> {
    let frame = lane.next(bytes_max, Some(FRAME_DEADLINE)).await?;
    Ok(wire::decode(&frame.ok_or(DoorError::Closed)?)?)
}
