//! Frames between a client and its provider, ALPN `mimi-client/1`. For any MLS library: every MLS object is bytes.
//!
//! A frame is a four-byte big-endian length and that many bytes: a version byte and one postcard value. The client chooses
//! the version of a lane by that of its first frame, and is answered in it. The first
//! frame of a lane (a bidirectional QUIC stream) is an [`Open`]. A connection begins with [`Request::Enrol`] or
//! [`Request::Login`] on a lane of its own; nothing else is heard before.
//!
//! The proof of a device is an Ed25519 signature over `mimi-client/1 device`, a zero byte, the client's URI, a zero
//! byte and 32 bytes of the TLS exporter with label `EXPORTER-mimi-client/1` and the client's URI as context: a proof
//! cannot be relayed to another connection.
//!
//! Every MLS object is an MLSMessage, handshakes are PublicMessages, and a ratchet tree is the bare vector
//! `optional<Node> ratchet_tree<V>` of RFC 9420, in a [`TreeContainer`](super::tree::TreeContainer) where a client sends one.

use super::{
    BText, BVec, Payload,
    answer::Answer,
    claim::{ClaimRequest, ClaimResponse},
    event::{ClientSeq, Epoch, InboxSeq, RoomSeq, VerdictRun},
    post::{Note, Notice},
    refusal::{Flaw, TryLater},
    room, user,
    version::DOOR,
};
use crate::{
    ids::{ClientUri, ProviderId, RoomUri},
    limits::{
        BATCH_EVENTS_MAX, BATCH_ROOMS_MAX, EPOCH_TOLERANCE_EPOCHS, KEY_PACKAGES_PER_UPLOAD_MAX,
        PROPOSALS_PER_BUNDLE_MAX, REFUSAL_DETAIL_BYTES_MAX, SUBMIT_ITEMS_MAX,
    },
    machine::Millis,
};
use serde::{Deserialize, Serialize};

/// Label of the TLS exporter that device proofs are bound to.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-mimi-client/1";

/// The bytes that a device signs to prove that it holds its key.
#[must_use]
pub fn proof_input(client: &ClientUri, exported: &[u8; 32]) -> Vec<u8> {
    let mut input = b"mimi-client/1 device\0".to_vec();
    input.extend_from_slice(client.to_string().as_bytes());
    input.push(0);
    input.extend_from_slice(exported);
    input
}

/// The first frame of a lane: what the lane is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Open {
    /// One request, answered by one [`Reply`].
    Request(Box<Request>),
    /// Application messages: [`Send`] frames, each answered by one [`Sent`], in order.
    Sends,
    /// The client's event stream: [`Events`] frames in this order, answered by [`Acks`] frames whenever it likes.
    Events(Order),
}

/// In which order a client is given the events of a room.
///
/// Commits and Proposals are control events; what is in the inbox comes at once in any order. Whatever the order, control
/// events come in theirs without a gap, an application message never before a control event of a smaller number, the
/// Commit that removes the reader after all application messages before it, and no Commit that opens an epoch more than
/// [`PAST_EPOCHS`] after that of an application message still to come: who keeps so many epochs can read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// As they happened.
    #[default]
    InOrder,
    /// Control events as far as that goes, then application messages as they happened.
    ControlFirst,
    /// Control events as far as that goes, then application messages in windows, oldest window first and newest message
    /// first in it. A window is one [`DoorItem::Room`], of [`WINDOW_EVENTS_MAX`](crate::limits::WINDOW_EVENTS_MAX) messages at most: who keeps so many
    /// generations of a sender can read it. Its greatest number is what to acknowledge, when all of it is safe.
    ControlThenNewest,
}

/// Past epochs whose messages a member must be able to read, whatever the order.
pub const PAST_EPOCHS: u64 = EPOCH_TOLERANCE_EPOCHS;

/// A request on a lane of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "requests travel in a box, see Open"
)]
pub enum Request {
    /// Register a device with a one-time code, and log in.
    Enrol(Enrol),
    /// Log in with a registered device.
    Login(Login),
    /// Ask for the key that rooms of this provider must list in external_senders.
    HubSender,
    /// Add KeyPackages to the stock of this client.
    Upload(BVec<Payload, KEY_PACKAGES_PER_UPLOAD_MAX>),
    /// Claim KeyPackages of users of any providers.
    Claim(ClaimRequest),
    /// Ask a room, at whichever provider it is; only a room of this provider can be made.
    Room(RoomUri, room::Request),
    /// Ask what became of messages of this client, once all of them have a verdict or the time is over.
    Verdicts(Verdicts),
    /// Ask this device's own user.
    User(user::Request),
    /// Ask who made this introduction code.
    Resolve {
        /// The provider of whoever made it.
        provider: ProviderId,
        /// The code.
        code: Payload,
    },
}

/// Registers a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrol {
    /// The one-time code that the provider gave to the user.
    pub code: BText<64>,
    /// The client.
    pub client: ClientUri,
    /// The device's Ed25519 public key.
    pub device_key: [u8; 32],
    /// Its proof, see the module.
    pub proof: Payload,
}

/// Proves a registered device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The client.
    pub client: ClientUri,
    /// Its proof, see the module.
    pub proof: Payload,
}

/// A question about messages that were sent before, to a room at any provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// The room.
    pub room: RoomUri,
    /// The client's number of the first.
    pub first: ClientSeq,
    /// How many; at most [`SUBMIT_ITEMS_MAX`].
    pub count: u32,
    /// How long to wait for those that have no verdict yet, in milliseconds; the node may wait shorter.
    pub wait_ms: u32,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Logged in.
    LoggedIn,
    /// To [`Request::HubSender`].
    HubSender(HubSender),
    /// To an upload: for each package whether it was taken, in order.
    Uploaded(BVec<Result<(), PackageRefused>, KEY_PACKAGES_PER_UPLOAD_MAX>),
    /// To a claim.
    Claimed(ClaimResponse),
    /// To [`Request::Room`]; to [`Request::Verdicts`] an [`Answer::Sent`].
    Room(Answer),
    /// To [`Request::User`] and [`Request::Resolve`].
    User(user::Answer),
    /// The request was not looked at.
    Refused(DoorRefused),
}

/// The hub as an external sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubSender {
    /// The provider; the credential is a basic one whose identity is `mimi://PROVIDER`.
    pub provider: ProviderId,
    /// Its Ed25519 public key.
    pub signature_key: [u8; 32],
}

/// Why a KeyPackage is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PackageRefused {
    /// It is not a valid KeyPackage of this client.
    #[error("invalid KeyPackage: {detail}")]
    Invalid {
        /// What is wrong.
        detail: BText<REFUSAL_DETAIL_BYTES_MAX>,
    },
    /// It is gone (given away, or a last-resort one whose place another took), or its init key is that of another one of the
    /// user. The same KeyPackage of the same client again, while that has it, is taken: an upload may be repeated.
    #[error(
        "the KeyPackage was given away or replaced already, or its init key was uploaded before"
    )]
    Duplicate,
    /// The stock is full.
    #[error("the stock is full at {max} packages")]
    Full {
        /// Packages of one client, at most.
        max: u32,
    },
}

/// Why a request of a client is not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DoorRefused {
    /// The connection has not proved a device.
    #[error("log in first")]
    NotLoggedIn,
    /// The device, the proof or the code is not right; which, is not said.
    #[error("the device is not known by this proof")]
    NotKnown,
    /// A device of this name exists with another key, or the user has too many.
    #[error("the device cannot be enrolled: {detail}")]
    NotEnrolled {
        /// What is wrong.
        detail: BText<REFUSAL_DETAIL_BYTES_MAX>,
    },
    /// The request names a user, client or room that is not this connection's to use.
    #[error("the request names somebody or something else's: {detail}")]
    SenderNotBound {
        /// What is wrong.
        detail: BText<REFUSAL_DETAIL_BYTES_MAX>,
    },
    /// The frame does not decode, or breaks a limit.
    #[error("{0}")]
    BadFrame(Flaw),
    /// The same request may be sent again.
    #[error("{0}")]
    TryLater(TryLater),
    /// The provider's log is full.
    #[error("the provider's log is full; it accepts nothing until its operator makes room")]
    StorageFull,
    /// It is for another provider, to which this one has no link.
    #[error("there is no link to {provider}: the operator would have to list it")]
    ProviderUnknown {
        /// The other provider.
        provider: ProviderId,
    },
}

/// What a client is told whose user refused something that has an answer of its own: a login, an upload.
impl From<user::Refused> for DoorRefused {
    fn from(refused: user::Refused) -> Self {
        let clipped = |refused: user::Refused| BText::clipped(&refused.to_string());
        match refused {
            user::Refused::Unknown | user::Refused::Deleted | user::Refused::NotKnown => {
                Self::NotKnown
            }
            user::Refused::Taken | user::Refused::TooMany { .. } | user::Refused::Poisoned => {
                let detail = clipped(refused);
                Self::NotEnrolled { detail }
            }
            user::Refused::NotAuthorized => {
                let detail = clipped(refused);
                Self::SenderNotBound { detail }
            }
            user::Refused::TryLater(later) => Self::TryLater(later),
            user::Refused::Limited { retry_after_ms } => {
                Self::TryLater(TryLater::overloaded(retry_after_ms))
            }
            user::Refused::StorageFull => Self::StorageFull,
        }
    }
}

/// Application messages of this client, numbered on from `first`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// The room.
    pub room: RoomUri,
    /// The client's number of the first: gap-free from 1 in each room. The same number again gets its first verdict.
    pub first: ClientSeq,
    /// The messages, each a PrivateMessage.
    pub messages: BVec<Payload, SUBMIT_ITEMS_MAX>,
}

/// What became of a [`Send`] so far; at a follower that is `Queued`, and the verdicts come as events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The room.
    pub room: RoomUri,
    /// The first number of the frame.
    pub first: ClientSeq,
    /// The answer, or why the frame was not looked at.
    pub answer: Result<Answer, DoorRefused>,
}

/// A batch of the client's event stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// The items, in order.
    pub items: BVec<DoorItem, BATCH_EVENTS_MAX>,
}

/// An item of the client's event stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DoorItem {
    /// Consecutive events of a room.
    Room {
        /// The room.
        room: RoomUri,
        /// Its events.
        events: BVec<RoomEvent, BATCH_EVENTS_MAX>,
    },
    /// Events of a room that the client was not given and that are not kept any more, by the provider's retention. It
    /// goes on after them; if a Commit was among them, only by joining anew (an external Commit).
    Gap {
        /// The room.
        room: RoomUri,
        /// The first of them.
        from: RoomSeq,
        /// The last of them, to be acknowledged.
        upto: RoomSeq,
    },
    /// A notice in the inbox: a Welcome, or the end of a membership.
    Inbox {
        /// Its number, to be acknowledged.
        seq: InboxSeq,
        /// The room.
        room: RoomUri,
        /// The notice.
        notice: Notice,
    },
    /// What the provider has to say in the inbox.
    Note {
        /// Its number, to be acknowledged.
        seq: InboxSeq,
        /// What it says.
        note: Note,
    },
    /// The verdict on messages of this client. Not stored: after a reconnect, send the numbers again.
    Verdict {
        /// The room.
        room: RoomUri,
        /// The verdict.
        run: VerdictRun,
    },
}

/// An event of a room, as a member sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomEvent {
    /// Its number in the room.
    pub seq: RoomSeq,
    /// When the hub accepted it.
    pub time: Millis,
    /// The client's own number, when the event is its own message.
    pub own: Option<ClientSeq>,
    /// What happened.
    pub body: RoomBody,
}

/// What happened in a room, as a member sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoomBody {
    /// A PrivateMessage of content type application.
    Application(Payload),
    /// Proposals that were accepted together, each an MLSMessage.
    Proposals(BVec<Payload, PROPOSALS_PER_BUNDLE_MAX>),
    /// The Commit that opens an epoch.
    Commit {
        /// The epoch it opens.
        epoch: Epoch,
        /// The MLSMessage.
        commit: Payload,
    },
}

/// What a client has, durably: it is not sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acks {
    /// Up to this number of the inbox.
    pub inbox: Option<InboxSeq>,
    /// Everything up to these numbers of rooms.
    pub rooms: BVec<(RoomUri, RoomSeq), BATCH_ROOMS_MAX>,
    /// Control events alone up to these numbers of rooms, for who gets them first.
    pub control: BVec<(RoomUri, RoomSeq), BATCH_ROOMS_MAX>,
}

crate::versioned!(DOOR; Send, Acks);
