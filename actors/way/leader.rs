//! What the leader of a shard does with a request.
//!
//! Promises: a claim is told, before it gets to its user, how long its requester has to wait in this shard; an answer
//! that is only read is given once it is known that the node still leads, which is the shell's to find out.

use crate::{
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    link::{self, Redriven},
    machine::{Millis, Ticket},
    room::{
        desk, follower_desk, hub,
        outcome::{Answer, Refused},
    },
    shard::{
        Derived,
        names::{self, RoomMark},
    },
    shard_request::{ShardReply, ShardRequest},
    user::{command::Command as UserCommand, desk as user_desk, fold as user, outcome, requests},
    wire::{post::Departed, refusal::TryLater, user::Request, version::Level},
};
use std::sync::Arc;

/// What is to be done with a request.
#[derive(Debug)]
pub enum Taken {
    /// The desk of a room at this hub takes it.
    Hub(RoomUri, desk::Input),
    /// The desk of a followed room takes it.
    Follower(RoomUri, follower_desk::Input),
    /// The desk of a user takes it.
    User(UserUri, user_desk::Input),
    /// The user's fold knows the answer: [`device_key`].
    DeviceKey(ClientUri),
    /// The room's fold knows the answer: [`knows`].
    Knows(RoomUri, ProviderId),
    /// This is the answer, whatever anybody's state.
    Answered(ShardReply),
    /// It goes into the log; the outcome is the answer.
    Log(link::Command),
    /// A room is to have the name of a group: it goes into the log, and the outcome is the answer.
    Name(names::Take),
    /// It goes into the log when there is a place; that it is on its way is the answer.
    LogOwn(link::Command),
}

/// Takes a request to the shard of `derived`, for whose answer `ticket` waits; `now` is the node's time.
#[must_use]
pub fn take(request: ShardRequest, ticket: Ticket, derived: &Derived, now: Millis) -> Taken {
    match request {
        ShardRequest::Room(room, caller, request) => {
            let input = desk::Input::Ask {
                ticket,
                caller,
                request,
            };
            Taken::Hub(room, input)
        }
        ShardRequest::Submit(room, submit) => {
            Taken::Hub(room, desk::Input::Submit { ticket, submit })
        }
        ShardRequest::Verdicts(room, asked) => {
            // Who asks is of this provider: so is the room, or it is followed.
            if room.hub() == asked.sender.provider() {
                return Taken::Hub(room, desk::Input::Verdicts { ticket, asked });
            }
            Taken::Follower(room, follower_desk::Input::Verdicts { ticket, asked })
        }
        ShardRequest::Follower(room, command) => {
            Taken::Follower(room, follower_desk::Input::asked(ticket, command))
        }
        // A log that goes by the rules of release 0.1 has no word for it.
        ShardRequest::User(_, _, Request::Consents(_)) if derived.level < Level::SECOND => {
            let refused = outcome::Refused::TryLater(TryLater::NOT_LED);
            Taken::Answered(ShardReply::User(outcome::Answer::Refused(refused)))
        }
        // Nor has it for what others say. Another shard comes again, for it is ahead by moments alone. Another provider may be
        // ahead by days, and nothing of it must be held up that long: what it says of consent is passed over.
        ShardRequest::UserLog(_, UserCommand::Heard(heard)) if derived.level < Level::SECOND => {
            let refused = outcome::Refused::TryLater(TryLater::NOT_LED);
            let answer = match heard.from {
                Some(_) => outcome::Answer::Refused(refused),
                None => outcome::Answer::Done,
            };
            Taken::Answered(ShardReply::User(answer))
        }
        ShardRequest::User(user, principal, request) => {
            match requests::taken(&user, principal, request, ticket) {
                Ok(input) => Taken::User(user, input),
                Err(refused) => {
                    Taken::Answered(ShardReply::User(outcome::Answer::Refused(refused)))
                }
            }
        }
        ShardRequest::UserLog(user, mut command) => {
            if let UserCommand::Claim(claim) = &mut command {
                let time = derived.time.at(now);
                claim.over_ms = derived.spending.wait_ms(time, claim);
            }
            let command = Arc::new(command);
            Taken::User(user, user_desk::Input::Ask { ticket, command })
        }
        ShardRequest::DeviceKey(client) => Taken::DeviceKey(client),
        ShardRequest::Knows(room, provider) => Taken::Knows(room, provider),
        ShardRequest::Redrive(room, provider) => {
            Taken::Log(link::Command::Redrive { provider, room })
        }
        // A log that goes by the rules of release 0.1 has no word for it.
        ShardRequest::GiveUp(..) if derived.level < Level::SECOND => {
            Taken::Answered(ShardReply::Redriven(Redriven::TryLater(TryLater::NOT_LED)))
        }
        ShardRequest::GiveUp(_, provider) => Taken::Log(link::Command::GiveUp { provider }),
        ShardRequest::Name(..) if derived.level < Level::SECOND => {
            Taken::Answered(ShardReply::Named(names::Taken::Nobodys))
        }
        ShardRequest::Name(group, room) => {
            let room = RoomMark::of(&room);
            Taken::Name(names::Take { group, room })
        }
        // A log that goes by the rules of release 0.1 has no word for it. It comes again until the shard has the next level: what
        // is behind it is late, and who departed is not forgotten.
        ShardRequest::Depart(_) if derived.level < Level::SECOND => Taken::Answered(
            ShardReply::Room(Answer::Refused(Refused::TryLater(TryLater::NOT_LED))),
        ),
        ShardRequest::Depart(Departed { room, client, why }) => {
            let input = desk::Input::Depart {
                ticket,
                client,
                why,
            };
            Taken::Hub(room, input)
        }
        ShardRequest::Read(has) => Taken::LogOwn(link::Command::Read { has }),
    }
}

/// Which key a device of a user has.
#[must_use]
pub fn device_key(user: &user::Fold, client: &ClientUri) -> ShardReply {
    ShardReply::DeviceKey(user.device_key(client))
}

/// Whether a room has, or had, members of a provider.
#[must_use]
pub fn knows(room: &hub::Fold, provider: &ProviderId) -> ShardReply {
    let room = room.room();
    ShardReply::Knows(room.is_some_and(|room| room.ever_had_member_of(provider)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        caller::{Caller, Origin, Principal},
        machine::Desk,
        shard::names::GroupName,
        user::command::Heard,
        wire::{
            BVec, Payload,
            consent::{ConsentEntry, ConsentOp, ConsentsAsk},
            event::LinkSeq,
        },
    };

    const NOW: Millis = Millis(1_000_000);
    const TICKET: Ticket = Ticket(7);

    fn taken(request: ShardRequest) -> Taken {
        take(request, TICKET, &Derived::default(), NOW)
    }

    #[test]
    fn a_users_command_goes_to_its_desk_under_the_ticket_of_whoever_asks() {
        let bob: UserUri = "mimi://a.example/u/bob".parse().unwrap();
        let request = ShardRequest::UserLog(bob.clone(), UserCommand::Delete);
        let Taken::User(user, input) = taken(request) else {
            panic!("the user's desk takes it")
        };
        assert_eq!((user, user_desk::Desk::ticket(&input)), (bob, TICKET));
    }

    #[test]
    fn a_request_that_is_not_its_principals_to_make_gets_to_no_actor() {
        let bob: UserUri = "mimi://a.example/u/bob".parse().unwrap();
        let peer = Principal::Provider(Origin::of("b.example".parse().unwrap()));
        let request = ShardRequest::User(bob, peer, Request::Delete);
        let Taken::Answered(reply) = taken(request) else {
            panic!("it is refused")
        };
        let refused = outcome::Answer::Refused(outcome::Refused::NotAuthorized);
        assert_eq!(reply, ShardReply::User(refused));
    }

    #[test]
    fn what_goes_into_the_log_waits_for_its_outcome_or_only_for_a_place() {
        let room: RoomUri = "mimi://a.example/r/den".parse().unwrap();
        let provider: ProviderId = "b.example".parse().unwrap();
        let redrive = ShardRequest::Redrive(room.clone(), provider.clone());
        assert!(matches!(taken(redrive), Taken::Log(_)));
        let give_up = ShardRequest::GiveUp(room.clone(), provider);
        assert!(matches!(taken(give_up.clone()), Taken::Answered(_)));
        let derived = Derived {
            level: Level::SECOND,
            ..Derived::default()
        };
        assert!(matches!(
            take(give_up, TICKET, &derived, NOW),
            Taken::Log(_)
        ));
        let name = ShardRequest::Name(GroupName::of(b"group"), room);
        let nobodys = ShardReply::Named(names::Taken::Nobodys);
        let Taken::Answered(reply) = taken(name.clone()) else {
            panic!("the log has no word for it")
        };
        assert_eq!(reply, nobodys);
        assert!(matches!(take(name, TICKET, &derived, NOW), Taken::Name(_)));
        let read = ShardRequest::Read(BVec::default());
        assert!(matches!(taken(read), Taken::LogOwn(_)));
    }

    #[test]
    fn a_log_of_the_first_level_takes_no_word_about_consent() {
        let bob: UserUri = "mimi://a.example/u/bob".parse().unwrap();
        let phone = "mimi://a.example/d/bob/phone".parse().unwrap();
        let principal = Principal::Device {
            caller: Caller::of(phone),
            key: [3; 32],
        };
        let list = Request::Consents(ConsentsAsk::List { after: None });
        let heard = |from| {
            let entry = ConsentEntry {
                op: ConsentOp::Request,
                requester: "mimi://b.example/u/eve".parse().unwrap(),
                target: bob.clone(),
                room: None,
                key_packages: BVec::default(),
                extensions: Payload::default(),
            };
            ShardRequest::UserLog(bob.clone(), UserCommand::Heard(Heard { from, entry }))
        };
        let later = || outcome::Answer::Refused(outcome::Refused::TryLater(TryLater::NOT_LED));
        let own = ShardRequest::User(bob.clone(), principal, list);
        let second = Derived {
            level: Level::SECOND,
            ..Derived::default()
        };
        for (request, answer) in [
            (own, later()),
            (heard(Some((3, LinkSeq(1)))), later()),
            (heard(None), outcome::Answer::Done),
        ] {
            let Taken::Answered(ShardReply::User(told)) = taken(request.clone()) else {
                panic!("it is for no actor: {request:?}")
            };
            assert_eq!(told, answer);
            assert!(matches!(
                take(request, TICKET, &second, NOW),
                Taken::User(..)
            ));
        }
    }

    #[test]
    fn a_departure_comes_again_until_the_log_has_a_word_for_it() {
        let departed = || {
            ShardRequest::Depart(Departed {
                room: "mimi://a.example/r/den".parse().unwrap(),
                client: "mimi://b.example/d/bob/phone".parse().unwrap(),
                why: crate::wire::post::DepartedWhy::Revoked,
            })
        };
        let Taken::Answered(ShardReply::Room(answer)) = taken(departed()) else {
            panic!("it is answered at once")
        };
        let later = Answer::Refused(Refused::TryLater(TryLater::NOT_LED));
        assert_eq!(answer, later);
        let derived = Derived {
            level: Level::SECOND,
            ..Derived::default()
        };
        let taken = take(departed(), TICKET, &derived, NOW);
        assert!(matches!(taken, Taken::Hub(_, desk::Input::Depart { .. })));
    }

    #[test]
    fn nobody_is_known_where_nothing_has_happened() {
        let device: ClientUri = "mimi://a.example/d/bob/phone".parse().unwrap();
        let key = device_key(&user::Fold::default(), &device);
        assert_eq!(key, ShardReply::DeviceKey(None));
        let provider: ProviderId = "b.example".parse().unwrap();
        let knows = knows(&hub::Fold::default(), &provider);
        assert_eq!(knows, ShardReply::Knows(false));
    }
}
