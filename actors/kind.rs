//! The three kinds of actors of a shard, and what is said of each in one place: whose command a record holds, what an outcome is
//! recorded as, what its answer is on its way to whoever asked.
//!
//! Whatever carries commands, outcomes, orders and answers is written once, for any kind; see [`Kind`].

use crate::{
    ids::{RoomUri, UserUri},
    link::Redriven,
    machine::{CommandOf, Desk, OutcomeOf, Ticket},
    record::Command,
    room::{self, desk, follower_desk},
    shard::Done,
    shard_request::ShardReply,
    user::{self, desk as user_desk},
    wire::refusal::TryLater,
};
use std::{fmt, sync::Arc};

/// Why the log did not take a command. Nothing has happened yet; where this node leads no longer, the command may still get
/// into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAppended {
    /// The node's log has reached its limit.
    #[error("the node's log is full")]
    StorageFull,
    /// Too many commands wait already, or the shard is not led here.
    #[error("the shard cannot write now: {0}")]
    TryLater(TryLater),
}

impl From<NotAppended> for room::outcome::Refused {
    fn from(why: NotAppended) -> Self {
        match why {
            NotAppended::StorageFull => Self::StorageFull,
            NotAppended::TryLater(later) => Self::TryLater(later),
        }
    }
}

impl From<NotAppended> for user::outcome::Refused {
    fn from(why: NotAppended) -> Self {
        match why {
            NotAppended::StorageFull => Self::StorageFull,
            NotAppended::TryLater(later) => Self::TryLater(later),
        }
    }
}

impl From<NotAppended> for Redriven {
    fn from(why: NotAppended) -> Self {
        match why {
            NotAppended::StorageFull => Self::StorageFull,
            NotAppended::TryLater(later) => Self::TryLater(later),
        }
    }
}

/// A kind of actor, by its desk.
pub trait Kind: Desk<Fold: Default> {
    /// Whose actor it is.
    type Key: Ord + Clone + fmt::Debug + fmt::Display + Send + Sync + 'static;

    /// A command of it as it lies in the log.
    fn record(key: Self::Key, command: Arc<CommandOf<Self>>) -> Command;

    /// What an outcome is recorded as.
    fn done(outcome: OutcomeOf<Self>) -> Done;

    /// An answer on its way to whoever asked.
    fn reply(answer: Self::Answer) -> ShardReply;

    /// What its desk is told when the log did not take the command of a ticket.
    fn not_appended(ticket: Ticket, why: NotAppended) -> Self::Input;
}

impl Kind for desk::Desk {
    type Key = RoomUri;

    fn record(key: RoomUri, command: Arc<CommandOf<Self>>) -> Command {
        Command::Hub(key, command)
    }

    fn done(outcome: OutcomeOf<Self>) -> Done {
        Done::Room(outcome)
    }

    fn reply(answer: Self::Answer) -> ShardReply {
        ShardReply::Room(answer)
    }

    fn not_appended(ticket: Ticket, why: NotAppended) -> desk::Input {
        let refused = why.into();
        desk::Input::NotAppended { ticket, refused }
    }
}

impl Kind for follower_desk::Desk {
    type Key = RoomUri;

    fn record(key: RoomUri, command: Arc<CommandOf<Self>>) -> Command {
        Command::Follower(key, command)
    }

    fn done(outcome: OutcomeOf<Self>) -> Done {
        Done::Room(outcome)
    }

    fn reply(answer: Self::Answer) -> ShardReply {
        ShardReply::Room(answer)
    }

    fn not_appended(ticket: Ticket, why: NotAppended) -> follower_desk::Input {
        let refused = why.into();
        follower_desk::Input::NotAppended { ticket, refused }
    }
}

impl Kind for user_desk::Desk {
    type Key = UserUri;

    fn record(key: UserUri, command: Arc<CommandOf<Self>>) -> Command {
        Command::User(key, command)
    }

    fn done(outcome: OutcomeOf<Self>) -> Done {
        Done::User(outcome)
    }

    fn reply(answer: Self::Answer) -> ShardReply {
        ShardReply::User(answer)
    }

    fn not_appended(ticket: Ticket, why: NotAppended) -> user_desk::Input {
        let refused = why.into();
        user_desk::Input::NotAppended { ticket, refused }
    }
}
