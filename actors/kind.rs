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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        caller::Caller,
        host::{InPassing, in_passing},
        machine::{Effect, Millis},
        room::{follower, hub, verdicts::AskVerdicts},
        user::{
            command::{Command as UserCommand, Consent},
            introductions::Introduction,
        },
        wire::{
            BVec, Payload,
            event::{Body, ClientSeq, Event, Hash, Item, RoomSeq},
            joining::CodesAsk,
            room::{Beginning, Request},
        },
    };

    const TICKET: Ticket = Ticket(7);

    fn eve() -> crate::ids::ClientUri {
        "mimi://a.example/d/eve/phone".parse().unwrap()
    }

    /// Whether an actor begins because of what is asked of one that never was; if none does, there is one answer.
    fn begins<D: Kind>(input: D::Input) -> bool {
        let InPassing { begins, orders } = in_passing::<D>(input, Millis(1));
        if begins.is_none() {
            let answers = orders.iter();
            let answers =
                answers.filter(|order| matches!(order, Effect::Answer { ticket: TICKET, .. }));
            assert_eq!((answers.count(), orders.len()), (1, 1));
        }
        begins.is_some()
    }

    #[test]
    fn what_is_asked_of_a_room_that_never_was_costs_no_actor_but_its_creation() {
        let asked = |request| desk::Input::Ask {
            ticket: TICKET,
            caller: Caller::of(eve()),
            request,
        };
        let message = Payload::from(vec![1]);
        assert!(!begins::<desk::Desk>(asked(Request::Propose(BVec::from(
            [message.clone()]
        )))));
        assert!(!begins::<desk::Desk>(asked(Request::Codes(CodesAsk::List))));
        let submit = hub::Submit {
            sender: eve(),
            via: hub::Via::Client(ClientSeq(1)),
            messages: BVec::from([message.clone()]),
        };
        let ticket = TICKET;
        assert!(!begins::<desk::Desk>(desk::Input::Submit {
            ticket,
            submit
        }));
        let asked_verdicts = || AskVerdicts {
            sender: eve(),
            first: ClientSeq(1),
            count: 1,
            wait_ms: 5_000,
        };
        let asked_here = desk::Input::Verdicts {
            ticket,
            asked: asked_verdicts(),
        };
        assert!(!begins::<desk::Desk>(asked_here));
        assert!(!begins::<desk::Desk>(desk::Input::Depart {
            ticket,
            client: eve(),
            why: crate::wire::post::DepartedWhy::Revoked,
        }));
        let beginning = Beginning {
            group_info: Payload::default(),
            tree: Payload::default().0.into(),
        };
        assert!(begins::<desk::Desk>(asked(Request::Create(beginning))));

        let asked_there = follower_desk::Input::Verdicts {
            ticket,
            asked: asked_verdicts(),
        };
        assert!(!begins::<follower_desk::Desk>(asked_there));
        let queue = follower::Queue {
            sender: eve(),
            first: ClientSeq(1),
            messages: BVec::from([message.clone()]),
        };
        assert!(!begins::<follower_desk::Desk>(
            follower_desk::Input::Queue { ticket, queue }
        ));
        let text = Item::Event(Event {
            seq: RoomSeq(9),
            time: Millis(1),
            body: Body::Application(Payload::default()),
        });
        let deliver = follower::Deliver {
            items: BVec::from([text]),
        };
        assert!(!begins::<follower_desk::Desk>(
            follower_desk::Input::Deliver { ticket, deliver }
        ));
    }

    #[test]
    fn what_is_asked_of_a_user_who_never_was_costs_no_actor_and_no_log() {
        let asked = |command| user_desk::Input::Ask {
            ticket: TICKET,
            command: Arc::new(command),
        };
        let resolve = Introduction::Resolve {
            peer: "b.example".parse().unwrap(),
            hash: Hash::of(b"code"),
        };
        let enrol = user::command::Enrol {
            code: Hash::of(b"code"),
            client: eve(),
            device_key: [0; 32],
        };
        let consent = Consent {
            requester: eve().user().clone().into(),
            room: None,
            grant: None,
        };
        for command in [
            UserCommand::Introduction(resolve),
            UserCommand::Enrol(enrol),
            UserCommand::Consent(consent),
            UserCommand::Delete,
            UserCommand::Deliver(crate::user::testing::delivered("club", &["phone"])),
        ] {
            assert!(!begins::<user_desk::Desk>(asked(command)));
        }
        let add = user::command::Add {
            user: eve().user().clone(),
            code: Hash::of(b"code"),
        };
        assert!(begins::<user_desk::Desk>(asked(UserCommand::Add(add))));
    }
}
