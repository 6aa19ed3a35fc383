//! A request of a peer that this provider answers.
//!
//! Promises: nothing that a request says is believed about who made it; whoever gets no answer is told when to come again.
//!
//! Source: transport requirements, sections 3 and 7.3.

use super::{Ask, Came, House, Next, Slot, Way, claim::Claiming};
use crate::{
    caller::{Caller, Origin, Principal},
    doors::{self, PeerAsk},
    ids::ProviderId,
    shard_request::{ShardReply, ShardRequest},
    user::{introductions, outcome},
    wire::{
        Payload,
        answer::{Answer, Refused},
        joining::Introduced,
        link::{LinkRefused, Reply, Request},
        refusal::TryLater,
        user,
    },
};

/// The one slot of a request that asks once.
const ONLY: Slot = Slot(0);

/// A peer's request, until it is answered.
#[derive(Debug)]
pub struct OfPeer {
    later: TryLater,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Claim(Box<Claiming>),
    /// One question, which was asked when there is none left, and what is made of what comes.
    One(Option<Box<Ask>>, Kind),
    End(Reply),
}

/// What a request is about that asks once.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Room,
    /// Whether this is a device's key.
    Key([u8; 32]),
    Introduction,
}

impl OfPeer {
    /// A request that came in from `origin`.
    #[must_use]
    pub fn new(house: &House, origin: Origin, request: Request) -> Self {
        let peer = origin.provider.clone();
        let claim = |claiming| Stage::Claim(Box::new(claiming));
        let one = |ask, kind| Stage::One(Some(Box::new(ask)), kind);
        let stage = match doors::of_peer(&house.own, &peer, request) {
            Ok(PeerAsk::Claim(request)) => claim(Claiming::of_users(house, request)),
            Ok(PeerAsk::Relay(room, request)) => {
                claim(Claiming::for_room(house, peer, room, request))
            }
            Ok(PeerAsk::Relayed(request)) => claim(Claiming::relayed(house, request)),
            Ok(PeerAsk::Vouch(client, key)) => {
                one(Ask::Shard(ShardRequest::DeviceKey(client)), Kind::Key(key))
            }
            Ok(PeerAsk::Room(room, client, request)) => {
                let caller = Caller { origin, client };
                let ask = Ask::Shard(ShardRequest::Room(room, caller, request));
                one(ask, Kind::Room)
            }
            Ok(PeerAsk::Resolve(code)) => match resolve(&house.own, origin, code) {
                Some(ask) => one(ask, Kind::Introduction),
                None => Stage::End(Reply::Introduced(Introduced::NotAuthorized)),
            },
            Err(refused) => Stage::End(Reply::Refused(refused)),
        };
        let later = house.later;
        Self { later, stage }
    }
}

impl Way for OfPeer {
    type End = Reply;

    fn next(&mut self) -> Next<Reply> {
        match &mut self.stage {
            Stage::Claim(claiming) => match claiming.next() {
                Next::Ask(slot, ask) => Next::Ask(slot, ask),
                Next::Wait => Next::Wait,
                Next::End(response) => Next::End(Reply::Claimed(response)),
            },
            Stage::One(ask, _) => match ask.take() {
                Some(ask) => Next::Ask(ONLY, *ask),
                None => Next::Wait,
            },
            Stage::End(reply) => Next::End(reply.clone()),
        }
    }

    fn came(&mut self, slot: Slot, came: Came) {
        let later = self.later;
        match &mut self.stage {
            Stage::Claim(claiming) => claiming.came(slot, came),
            Stage::One(_, kind) => self.stage = Stage::End(answer(*kind, came, later)),
            Stage::End(_) => {}
        }
    }
}

/// What a peer is answered whose request was asked of a shard.
fn answer(kind: Kind, came: Came, later: TryLater) -> Reply {
    match (kind, came) {
        (Kind::Room, Came::Shard(ShardReply::Room(answer))) => Reply::Room(answer),
        (Kind::Room, _) => Reply::Room(Answer::Refused(Refused::TryLater(later))),
        (Kind::Key(key), Came::Shard(ShardReply::DeviceKey(known))) => {
            Reply::Vouched(known == Some(key))
        }
        (Kind::Key(_), _) => Reply::Refused(LinkRefused::TryLater(later)),
        (Kind::Introduction, came) => Reply::Introduced(resolved(came, later)),
    }
}

/// Asks the user here that made a code which somebody of a provider shows; nobody when it is no code of this provider.
pub(super) fn resolve(own: &ProviderId, shown_by: Origin, code: Payload) -> Option<Ask> {
    let user = introductions::user_of(own, &code)?;
    let principal = Principal::Provider(shown_by);
    let request = ShardRequest::User(user, principal, user::Request::Resolve(code));
    Some(Ask::Shard(request))
}

/// What whoever shows a code is told.
pub(super) fn resolved(came: Came, later: TryLater) -> Introduced {
    match came {
        Came::Shard(ShardReply::User(outcome::Answer::Introduced(introduced))) => introduced,
        Came::Shard(_)
        | Came::Peer(_)
        | Came::Signatures(_)
        | Came::Packages(_)
        | Came::NoLink
        | Came::Nothing => Introduced::TryLater(later),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{ClientUri, RoomUri},
        shard::names::GroupName,
        user::command::Rules,
        wire::{Payload, joining::CodesAsk, room},
    };

    const KEY: [u8; 32] = [1; 32];
    const LATER: TryLater = TryLater::unavailable(9);

    fn begin(request: Request) -> OfPeer {
        let house = House {
            own: "a.example".parse().unwrap(),
            rules: Rules::default(),
            later: LATER,
            group_of: GroupName::in_group_info,
        };
        OfPeer::new(&house, Origin::of("b.example".parse().unwrap()), request)
    }

    /// Its one question, and what the peer is told when this comes of it.
    fn told(request: &Request, came: Came) -> (Ask, Reply) {
        let mut way = begin(request.clone());
        let Next::Ask(slot, ask) = way.next() else {
            panic!("somebody is asked")
        };
        assert!(matches!(way.next(), Next::Wait));
        way.came(slot, came);
        (ask, end(&mut way))
    }

    fn end(way: &mut OfPeer) -> Reply {
        let Next::End(reply) = way.next() else {
            panic!("it is not over")
        };
        reply
    }

    fn client(of: &str) -> ClientUri {
        format!("mimi://{of}/d/alice/phone").parse().unwrap()
    }

    fn to_room(of: &str) -> Request {
        let room: RoomUri = "mimi://a.example/r/den".parse().unwrap();
        Request::Room {
            room,
            client: client(of),
            request: room::Request::Codes(CodesAsk::List),
        }
    }

    #[test]
    fn a_key_is_vouched_for_when_the_device_has_it_and_not_otherwise() {
        let request = Request::Vouch {
            client: client("a.example"),
            key: KEY,
        };
        let later = LinkRefused::TryLater(LATER);
        for (came, expected) in [
            (
                Came::Shard(ShardReply::DeviceKey(Some(KEY))),
                Reply::Vouched(true),
            ),
            (
                Came::Shard(ShardReply::DeviceKey(Some([2; 32]))),
                Reply::Vouched(false),
            ),
            (
                Came::Shard(ShardReply::DeviceKey(None)),
                Reply::Vouched(false),
            ),
            (Came::Nothing, Reply::Refused(later)),
        ] {
            let (ask, reply) = told(&request, came);
            let device = ShardRequest::DeviceKey(client("a.example"));
            assert_eq!((ask, reply), (Ask::Shard(device), expected));
        }
    }

    #[test]
    fn a_room_is_asked_for_the_client_that_the_peer_vouches_for() {
        let request = to_room("b.example");
        let received = Came::Shard(ShardReply::Room(Answer::Received));
        let (ask, reply) = told(&request, received);
        let Ask::Shard(ShardRequest::Room(_, caller, _)) = ask else {
            panic!("the room is asked")
        };
        assert_eq!(caller.client, client("b.example"));
        assert_eq!(reply, Reply::Room(Answer::Received));
        let (_, reply) = told(&request, Came::Nothing);
        let unavailable = Refused::TryLater(LATER);
        assert_eq!(reply, Reply::Room(Answer::Refused(unavailable)));
    }

    #[test]
    fn a_peer_that_speaks_for_somebody_elses_client_is_refused_without_asking_anybody() {
        let mut way = begin(to_room("a.example"));
        let refused = Reply::Refused(LinkRefused::SenderNotBound);
        assert_eq!(end(&mut way), refused);
    }

    #[test]
    fn a_code_of_nobody_here_is_refused_without_asking_anybody() {
        let mut way = begin(Request::Resolve(Payload::from(vec![1])));
        let refused = Reply::Introduced(Introduced::NotAuthorized);
        assert_eq!(end(&mut way), refused);
    }
}
