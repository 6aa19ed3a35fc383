//! What travels in the world: between clients and nodes, between the nodes of a provider, between providers.

use super::{
    led::Led,
    node::sealed::Install,
    plan::NodeRef,
    replica::{Append, Appended},
};
use crate::{
    ids::{ClientUri, RoomUri, UserUri},
    room::outcome::Answer,
    shard::read::RoomPart,
    shard_request::{ShardReply, ShardRequest},
    user::{command as user, cursors::Membership, outcome as user_outcome},
    way::{
        Slot,
        notices::Carrying,
        receive::{FanoutTaking, SubmitTaking},
        taking::SharedTaking,
    },
    wire::{
        Payload,
        claim::{ClaimId, ClaimRequest, ClaimResponse},
        door::{self, DoorRefused, Order},
        event::{InboxSeq, LaneCursor, RoomSeq},
        link::{self, Ack, Fanout, OfShard, Submit, Submitted},
        room,
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// Who sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Client(usize),
    Node(NodeRef),
}

/// What is on its way.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// A client's request.
    Ask {
        request: u64,
        ask: ClientAsk,
    },
    /// The answer.
    Reply {
        request: u64,
        reply: Reply,
    },
    /// A request for a shard that another node leads.
    Forward(ShardAsk),
    /// What a shard on another node answered to a task.
    Answered {
        life: u64,
        task: u64,
        slot: Slot,
        answer: Answered,
    },
    Append {
        shard: u16,
        append: Append,
    },
    /// A snapshot for a replica that lags behind the log.
    Install {
        shard: u16,
        install: Install,
    },
    Appended {
        /// The life of the replica that answers: a disk that was lost since has none of it.
        life: u64,
        shard: u16,
        answer: Appended,
    },
    /// A request to another provider.
    Request {
        life: u64,
        task: u64,
        slot: Slot,
        request: link::Request,
    },
    /// Its answer.
    Response {
        life: u64,
        task: u64,
        slot: Slot,
        reply: link::Reply,
    },
    /// A frame on a lane between providers.
    Lane {
        lane: u64,
        frame: Frame,
    },
}

/// What a client asks its provider.
#[derive(Clone, Debug)]
pub(super) enum ClientAsk {
    Upload(Vec<Payload>),
    Claim(ClaimRequest),
    /// Something of a room.
    To(RoomUri, room::Request),
    Send(door::Send),
    /// What became of messages.
    Verdicts(door::Verdicts),
    Ack(user::Ack),
    Delete(UserUri),
    /// What is in the inbox after this number, and the memberships.
    Inbox(InboxSeq),
    /// Events of a room.
    Room {
        room: RoomUri,
        read: (LaneCursor, Order),
        upto: Option<RoomSeq>,
    },
}

/// What a client is answered.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    Room(Answer),
    User(user_outcome::Answer),
    Claimed(ClaimResponse),
    Inbox {
        rooms: Vec<(RoomUri, Membership)>,
        items: Vec<door::DoorItem>,
    },
    Events {
        room: RoomUri,
        /// Beyond what, and in which order.
        read: (LaneCursor, Order),
        part: RoomPart,
    },
    /// The door lets it in at no time.
    Refused(DoorRefused),
    /// Nobody knows whether it was done.
    Unavailable,
}

/// A request to one shard, wherever it is led.
#[derive(Clone, Debug)]
pub(super) struct ShardAsk {
    pub(super) target: Target,
    pub(super) back: Back,
    /// How often it was passed on.
    pub(super) hops: u8,
}

/// What is asked of a shard.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// What a real node asks too.
    Shard(ShardRequest),
    /// What a client's stream reads of its user.
    LookInbox(ClientUri, InboxSeq),
    /// What a client's stream reads of a room.
    LookRoom {
        room: RoomUri,
        reader: ClientUri,
        read: (LaneCursor, Order),
        upto: Option<RoomSeq>,
    },
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Back {
    Client {
        client: usize,
        request: u64,
    },
    /// To a task on a node.
    Task {
        node: NodeRef,
        life: u64,
        task: u64,
        slot: Slot,
    },
    /// Nobody waits.
    Nobody,
}

/// What a shard answers.
#[derive(Clone, Debug)]
pub(super) enum Answered {
    Shard(ShardReply),
    Looked(Reply),
}

/// What a lane carries.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    Fanout(Arc<OfShard<Fanout>>),
    Ack(OfShard<Ack>),
    Submit(Arc<OfShard<Submit>>),
    Submitted(OfShard<Submitted>),
}

/// A lane between two providers; frames keep their order in each direction.
#[derive(Debug)]
pub(super) struct Lane {
    /// The end that opened it, and its life.
    pub(super) sender: (NodeRef, u64),
    pub(super) receiver: (NodeRef, u64),
    /// Nothing arrives before this: at the sender, at the receiver.
    pub(super) busy_until: [u64; 2],
    /// What the receiver does with its frames, once the first one has come.
    pub(super) receiving: Receiving,
    /// Of which shard and session the newest frame was that came to the receiver.
    pub(super) heard: Option<(u16, u64)>,
    /// Acknowledgements that the receiver has given.
    pub(super) acks: u64,
}

/// What the receiver of a lane does with its frames, by what the first one is.
#[derive(Debug, Default)]
pub(super) enum Receiving {
    #[default]
    Nothing,
    Fanout(SharedTaking<FanoutTaking>),
    Submissions(SharedTaking<SubmitTaking>),
}

/// Something that a node waits for, on behalf of somebody.
#[derive(Debug)]
pub(super) enum Task {
    /// Somebody's request, which is led through the node.
    Way {
        led: Led,
        /// The claim that it is, if it is one.
        claim: Option<ClaimId>,
        /// Other providers that were asked.
        peers: BTreeMap<Slot, u8>,
    },
    /// Notices on their way from a shard to another one.
    Notices { shard: u16, round: Carrying },
}

impl Body {
    /// Its kind, for the trace and the story.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ask { .. } => "ask",
            Self::Reply { .. } => "reply",
            Self::Forward(_) => "forward",
            Self::Answered { .. } => "answered",
            Self::Append { .. } => "append",
            Self::Install { .. } => "install",
            Self::Appended { .. } => "appended",
            Self::Request { .. } => "request",
            Self::Response { .. } => "response",
            Self::Lane { frame, .. } => match frame {
                Frame::Fanout(_) => "fanout",
                Frame::Ack(_) => "ack",
                Frame::Submit(_) => "submit",
                Frame::Submitted(_) => "submitted",
            },
        }
    }

    /// Whether whoever sent it may have sent it again, because no answer came.
    pub(super) fn may_come_twice(&self) -> bool {
        matches!(self, Self::Ask { .. } | Self::Request { .. })
    }
}
