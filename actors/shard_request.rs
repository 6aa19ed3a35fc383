//! What the actors of one shard are asked, wherever it is led: it travels between the nodes of a provider.
//!
//! Whoever is named in a request was authenticated at a door of the provider, on the node that passes it on.

use crate::{
    caller::{Caller, Principal},
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    limits::READS_TOLD_MAX,
    link::{ReadProgress, Redriven},
    room::{follower, hub, verdicts::AskVerdicts},
    shard::names::{GroupName, Taken},
    user::{command, outcome as user},
    wire::{BVec, answer::Answer, post::Departed, room, user as wire},
};
use serde::{Deserialize, Serialize};

/// A request to an actor of a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ShardRequest {
    /// To a room at this hub.
    Room(RoomUri, Caller, room::Request),
    /// Application messages for a room at this hub; they say themselves whose they are, and who numbered them.
    Submit(RoomUri, hub::Submit),
    /// What became of messages of a client of this provider: to the room, at this hub or as it is followed here.
    Verdicts(RoomUri, AskVerdicts),
    /// To a room that this provider follows: from its hub, or from the client that the command names.
    Follower(RoomUri, follower::Command),
    /// To a user of this provider; see [`crate::user::requests`] for whose it is to make.
    User(UserUri, Principal, wire::Request),
    /// What this provider itself has for the log of a user: its part of a claim, KeyPackages that were checked, notices of
    /// rooms, what a client has.
    UserLog(UserUri, command::Command),
    /// Which key a device of a user has.
    DeviceKey(ClientUri),
    /// Whether a room at this hub has, or had, members of a provider.
    Knows(RoomUri, ProviderId),
    /// Send what waits of a room that a provider refused.
    Redrive(RoomUri, ProviderId),
    /// What clients have acknowledged of rooms of one shard, the first of which tells which.
    Read(BVec<ReadProgress, READS_TOLD_MAX>),
    /// Give up what a provider is owed by the shard of a room.
    GiveUp(RoomUri, ProviderId),
    /// Give a room the name of a group; to the shard of the name.
    Name(GroupName, RoomUri),
    /// To a room at this hub: a member is a client of its provider no longer, as that says.
    Depart(Departed),
}

impl ShardRequest {
    /// The URI by which the shard is found.
    #[must_use]
    pub fn whose(&self) -> String {
        match self {
            Self::Room(room, ..)
            | Self::Submit(room, _)
            | Self::Verdicts(room, _)
            | Self::Follower(room, _)
            | Self::Knows(room, _)
            | Self::GiveUp(room, _)
            | Self::Redrive(room, _) => room.to_string(),
            Self::User(user, ..) | Self::UserLog(user, _) => user.to_string(),
            Self::DeviceKey(client) => client.user().to_string(),
            Self::Name(group, _) => group.to_string(),
            Self::Depart(departed) => departed.room.to_string(),
            Self::Read(has) => {
                let first = has.iter().next();
                first.map_or_else(String::new, |has| has.room.to_string())
            }
        }
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const FRAME: usize = 256;
        let carried = match self {
            Self::Room(_, _, request) => request.bytes(),
            Self::Submit(_, submit) => submit.bytes(),
            Self::Follower(_, command) => command.bytes(),
            Self::UserLog(_, command) => command.bytes(),
            Self::Verdicts(..)
            | Self::User(..)
            | Self::DeviceKey(_)
            | Self::Knows(..)
            | Self::GiveUp(..)
            | Self::Name(..)
            | Self::Depart(_)
            | Self::Redrive(..) => 0,
            Self::Read(has) => has.iter().map(ReadProgress::bytes).sum(),
        };
        FRAME + carried
    }

    /// The same request, which waits for its turn no longer than this.
    #[must_use]
    pub fn waiting_at_most(self, wait_ms_max: u32) -> Self {
        if let Self::Room(room, caller, request) = self {
            return Self::Room(room, caller, request.waiting_at_most(wait_ms_max));
        }
        if let Self::Verdicts(room, mut asked) = self {
            asked.wait_ms = asked.wait_ms.min(wait_ms_max);
            return Self::Verdicts(room, asked);
        }
        self
    }
}

/// What the shard answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ShardReply {
    /// A room.
    Room(Answer),
    /// A user.
    User(user::Answer),
    /// The key of a device; none of one that is not known.
    DeviceKey(Option<[u8; 32]>),
    /// Whether a room knows a provider.
    Knows(bool),
    /// It is on its way into the log.
    Done,
    /// Nobody: the shard is not led there, or no answer came in time. Whether it was done is not known.
    Nobody,
    /// What became of a redrive, or of what was to be given up.
    Redriven(Redriven),
    /// Whose the name of a group is.
    Named(Taken),
}

/// A request whose answer is of one kind.
pub trait Asked {
    /// What is answered.
    type Answer;

    /// The request as it travels.
    fn into_request(self) -> ShardRequest;

    /// The answer, if the reply is one to such a request.
    fn read(reply: ShardReply) -> Option<Self::Answer>;
}

/// Names a request to a shard and the one kind of reply that answers it.
macro_rules! asked {
    ($(#[$doc:meta])* $name:ident($($field:ty),*) is $request:ident($($part:ident),*),
     $reply:pat => $answer:expr, $kind:ty) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name($(pub $field),*);

        impl Asked for $name {
            type Answer = $kind;

            fn into_request(self) -> ShardRequest {
                let Self($($part),*) = self;
                ShardRequest::$request($($part),*)
            }

            fn read(reply: ShardReply) -> Option<$kind> {
                if let $reply = reply { Some($answer) } else { None }
            }
        }
    };
}

asked!(
    /// See [`ShardRequest::User`].
    AskUser(UserUri, Principal, wire::Request) is User(user, principal, request),
    ShardReply::User(answer) => answer.to_request()?, wire::Answer
);
asked!(
    /// See [`ShardRequest::UserLog`].
    AskUserLog(UserUri, command::Command) is UserLog(user, command),
    ShardReply::User(answer) => answer, user::Answer
);
asked!(
    /// See [`ShardRequest::DeviceKey`].
    AskDeviceKey(ClientUri) is DeviceKey(client),
    ShardReply::DeviceKey(key) => key, Option<[u8; 32]>
);
asked!(
    /// See [`ShardRequest::Redrive`].
    AskRedrive(RoomUri, ProviderId) is Redrive(room, provider),
    ShardReply::Redriven(redriven) => redriven, Redriven
);
asked!(
    /// See [`ShardRequest::GiveUp`].
    AskGiveUp(RoomUri, ProviderId) is GiveUp(room, provider),
    ShardReply::Redriven(redriven) => redriven, Redriven
);
asked!(
    /// See [`ShardRequest::Read`].
    TellRead(BVec<ReadProgress, READS_TOLD_MAX>) is Read(has),
    ShardReply::Done => (), ()
);
