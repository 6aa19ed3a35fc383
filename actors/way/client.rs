//! A request of a client that this provider answers, or another one: a room's, a claim, an introduction code's.
//!
//! Promises: nothing is queued here; a hub that cannot be reached is unavailable, and a shard that does not answer too.
//!
//! Source: transport requirements, sections 3 and 7.3.

use super::{Ask, Came, House, Next, Slot, Way, claim::Claiming, peer};
use crate::{
    caller::{Caller, Origin, Principal},
    doors::{self, ClientAsk, Sending},
    ids::{ClientUri, ProviderId, RoomUri},
    limits::{KEY_PACKAGES_PER_UPLOAD_MAX, SUBMIT_ITEMS_MAX},
    room::{follower, verdicts::AskVerdicts},
    shard::names::{GroupName, Taken},
    shard_request::{ShardReply, ShardRequest},
    user::{
        command::{Command, Upload},
        outcome,
    },
    wire::{
        BVec, Payload,
        answer::{Answer, Refused},
        claim::ClaimRequest,
        door::{self, DoorRefused, Reply},
        joining::Introduced,
        link::{self, LinkRefused},
        refusal::{Flaw, RefusalCode, TryLater},
        room, user,
    },
};

/// The one slot of a request that asks once.
const ONLY: Slot = Slot(0);

/// A client's request, until it is answered.
#[derive(Debug)]
pub struct OfClient {
    later: TryLater,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Claim(Box<Claiming>),
    /// KeyPackages that a client uploads, to be checked.
    Packages(ClientUri, Option<Vec<Payload>>),
    /// A room that is to be made, and before it the name that its group has: no other room may have that.
    Naming(Option<(GroupName, RoomUri)>, Option<Box<Ask>>),
    /// One question, which was asked when there is none left, and what is made of what comes.
    One(Option<Box<Ask>>, To),
    End(Result<Reply, DoorRefused>),
}

/// Who is asked once.
#[derive(Clone, Debug)]
enum To {
    /// A room here.
    Room,
    /// A room's hub.
    Hub(ProviderId),
    /// The client's own user.
    OwnUser,
    /// The same, for its stock of KeyPackages.
    Stock,
    /// The user here that made an introduction code.
    Introducer,
    /// The provider of the user that made an introduction code.
    Provider(ProviderId),
}

impl OfClient {
    fn new(house: &House, stage: Stage) -> Self {
        Self {
            later: house.later,
            stage,
        }
    }

    fn once(house: &House, to: To, ask: Ask) -> Self {
        Self::new(house, Stage::One(Some(Box::new(ask)), to))
    }

    /// A claim of a client, which proved `key` on its connection; see [`Claiming::of_client`].
    ///
    /// # Errors
    /// When the claim is not the client's to make.
    pub fn claim(
        house: &House,
        client: &ClientUri,
        key: Option<&[u8; 32]>,
        request: ClaimRequest,
    ) -> Result<Self, DoorRefused> {
        let claiming = Claiming::of_client(house, client, key, request)?;
        Ok(Self::new(house, Stage::Claim(Box::new(claiming))))
    }

    /// A request to a room, here or at its hub.
    ///
    /// # Errors
    /// When the request is not the client's to make; see [`doors::of_client`].
    pub fn room(
        house: &House,
        caller: Caller,
        room: RoomUri,
        request: room::Request,
    ) -> Result<Self, DoorRefused> {
        Ok(
            match doors::of_client(&house.own, &caller.client, room, request)? {
                ClientAsk::Here(room, request) => {
                    let group = match &request {
                        room::Request::Create(begins) => (house.group_of)(&begins.group_info),
                        room::Request::Commit(_)
                        | room::Request::Propose(_)
                        | room::Request::GroupInfo(_)
                        | room::Request::Codes(_) => None,
                    };
                    // A GroupInfo that has no group in it is the room's to refuse.
                    let name = group.map(|group| (group, room.clone()));
                    let ask = Ask::Shard(ShardRequest::Room(room, caller, request));
                    if name.is_some() {
                        let create = Some(Box::new(ask));
                        return Ok(Self::new(house, Stage::Naming(name, create)));
                    }
                    Self::once(house, To::Room, ask)
                }
                ClientAsk::Peer(hub, request) => {
                    Self::once(house, To::Hub(hub.clone()), Ask::Peer(hub, request))
                }
            },
        )
    }

    /// KeyPackages for the stock of a client. Any node can check them, so this one does.
    #[must_use]
    pub fn upload(
        house: &House,
        client: ClientUri,
        packages: BVec<Payload, KEY_PACKAGES_PER_UPLOAD_MAX>,
    ) -> Self {
        let packages = Some(packages.into_vec());
        Self::new(house, Stage::Packages(client, packages))
    }

    /// A request of a device to its own user.
    #[must_use]
    pub fn user(house: &House, caller: Caller, key: [u8; 32], request: user::Request) -> Self {
        let user = caller.client.user().clone();
        let principal = Principal::Device { caller, key };
        let ask = Ask::Shard(ShardRequest::User(user, principal, request));
        Self::once(house, To::OwnUser, ask)
    }

    /// What became of messages of a client, which it has sent to a room here or elsewhere.
    ///
    /// # Errors
    /// [`DoorRefused::BadFrame`] when they are more than one frame of messages can hold.
    pub fn verdicts(
        house: &House,
        sender: ClientUri,
        asked: door::Verdicts,
    ) -> Result<Self, DoorRefused> {
        let door::Verdicts {
            room,
            first,
            count,
            wait_ms,
        } = asked;
        if count as usize > SUBMIT_ITEMS_MAX {
            let detail = format!("{count} messages, the limit is {SUBMIT_ITEMS_MAX}");
            let flaw = Flaw::new(RefusalCode::BadFrame, &detail);
            return Err(DoorRefused::BadFrame(flaw.in_field("count")));
        }
        let asked = AskVerdicts {
            sender,
            first,
            count,
            wait_ms,
        };
        let ask = Ask::Shard(ShardRequest::Verdicts(room, asked));
        Ok(Self::once(house, To::Room, ask))
    }

    /// Who made an introduction code that somebody at this door shows, as its provider says.
    #[must_use]
    pub fn resolve(house: &House, shown_by: Origin, provider: ProviderId, code: Payload) -> Self {
        if provider != house.own {
            let ask = Ask::Peer(provider.clone(), link::Request::Resolve(code));
            return Self::once(house, To::Provider(provider), ask);
        }
        match peer::resolve(&house.own, shown_by, code) {
            Some(ask) => Self::once(house, To::Introducer, ask),
            None => Self::new(house, Stage::End(Ok(introduced(Introduced::NotAuthorized)))),
        }
    }
}

impl Way for OfClient {
    type End = Result<Reply, DoorRefused>;

    fn next(&mut self) -> Next<Self::End> {
        match &mut self.stage {
            Stage::Claim(claiming) => match claiming.next() {
                Next::Ask(slot, ask) => Next::Ask(slot, ask),
                Next::Wait => Next::Wait,
                Next::End(response) => Next::End(Ok(Reply::Claimed(response))),
            },
            Stage::Packages(client, packages) => match packages.take() {
                Some(packages) => Next::Ask(ONLY, Ask::Packages(client.clone(), packages)),
                None => Next::Wait,
            },
            Stage::Naming(name, _) => match name.take() {
                Some((group, room)) => Next::Ask(ONLY, Ask::Shard(ShardRequest::Name(group, room))),
                None => Next::Wait,
            },
            Stage::One(ask, _) => match ask.take() {
                Some(ask) => Next::Ask(ONLY, *ask),
                None => Next::Wait,
            },
            Stage::End(end) => Next::End(end.clone()),
        }
    }

    fn came(&mut self, slot: Slot, came: Came) {
        let later = self.later;
        match &mut self.stage {
            Stage::Claim(claiming) => claiming.came(slot, came),
            Stage::Packages(client, _) => {
                self.stage = match came {
                    Came::Packages(packages) => {
                        let client = client.clone();
                        let user = client.user().clone();
                        let upload = Command::Upload(Upload { client, packages });
                        let ask = Ask::Shard(ShardRequest::UserLog(user, upload));
                        Stage::One(Some(Box::new(ask)), To::Stock)
                    }
                    // No worker was free.
                    Came::Shard(_)
                    | Came::Peer(_)
                    | Came::Signatures(_)
                    | Came::NoLink
                    | Came::Nothing => Stage::End(Err(DoorRefused::TryLater(TryLater::BUSY))),
                };
            }
            Stage::Naming(_, create) => {
                let create = create.take();
                self.stage = match named(came, later) {
                    Ok(()) => Stage::One(create, To::Room),
                    Err(answer) => Stage::End(Ok(Reply::Room(answer))),
                };
            }
            Stage::One(_, to) => self.stage = Stage::End(answer(to, came, later)),
            Stage::End(_) => {}
        }
    }
}

/// Whether a room may be made whose group was to have a name.
///
/// # Errors
/// The answer where it may not, or not now.
fn named(came: Came, later: TryLater) -> Result<(), Answer> {
    match came {
        Came::Shard(ShardReply::Named(Taken::Its | Taken::Nobodys)) => Ok(()),
        Came::Shard(ShardReply::Named(Taken::Anothers)) => {
            let detail = "another room has, or was to have, a group with this id";
            let flaw = Flaw::new(RefusalCode::GroupTaken, detail).in_field("group_id");
            Err(Answer::Refused(Refused::Invalid(flaw)))
        }
        // The log did not take it.
        Came::Shard(ShardReply::Room(answer)) => Err(answer),
        Came::Shard(_)
        | Came::Peer(_)
        | Came::Signatures(_)
        | Came::Packages(_)
        | Came::NoLink
        | Came::Nothing => Err(Answer::Refused(Refused::TryLater(later))),
    }
}

/// What a client is answered whose request was asked of somebody.
fn answer(to: &To, came: Came, later: TryLater) -> Result<Reply, DoorRefused> {
    match (to, came) {
        (To::Room, Came::Shard(ShardReply::Room(answer)))
        | (To::Hub(_), Came::Peer(link::Reply::Room(answer))) => Ok(Reply::Room(answer)),
        (To::Room, _) => Ok(Reply::Room(Answer::Refused(Refused::TryLater(later)))),
        (To::Hub(provider) | To::Provider(provider), Came::NoLink) => {
            let provider = provider.clone();
            Err(DoorRefused::ProviderUnknown { provider })
        }
        (To::Hub(_), Came::Peer(link::Reply::Refused(LinkRefused::TryLater(later)))) => {
            Err(DoorRefused::TryLater(later))
        }
        (To::Hub(_), _) => Err(DoorRefused::TryLater(later)),
        (To::OwnUser, Came::Shard(ShardReply::User(answer))) => match answer.to_request() {
            Some(answer) => Ok(Reply::User(answer)),
            None => Err(DoorRefused::TryLater(later)),
        },
        (To::Stock, Came::Shard(ShardReply::User(outcome::Answer::Uploaded(results)))) => {
            // There is one for each package; another number is no answer.
            let results = BVec::try_from(results);
            let results = results.map_err(|_| DoorRefused::TryLater(later))?;
            Ok(Reply::Uploaded(results))
        }
        (To::Stock, Came::Shard(ShardReply::User(outcome::Answer::Refused(refused)))) => {
            Err(refused.into())
        }
        (To::OwnUser | To::Stock, _) => Err(DoorRefused::TryLater(later)),
        (To::Introducer, came) => Ok(introduced(peer::resolved(came, later))),
        (To::Provider(provider), Came::Peer(link::Reply::Introduced(said))) => {
            // A peer speaks of its own users only.
            if let Introduced::Resolved(user) = &said
                && user.provider() != provider
            {
                return Ok(introduced(Introduced::NotAuthorized));
            }
            Ok(introduced(said))
        }
        (To::Provider(_), _) => Ok(introduced(Introduced::TryLater(later))),
    }
}

fn introduced(introduced: Introduced) -> Reply {
    Reply::User(user::Answer::Introduced(introduced))
}

/// Whom a client's application messages are put before: the room, or this provider's follower of it.
#[must_use]
pub fn send(own: &ProviderId, client: &ClientUri, send: door::Send) -> ShardRequest {
    match Sending::new(own, client, send) {
        (room, Sending::Here(submit)) => ShardRequest::Submit(room, submit),
        (room, Sending::Follower(queue)) => {
            ShardRequest::Follower(room, follower::Command::Queue(queue))
        }
    }
}

/// What became of a client's application messages.
///
/// # Errors
/// When they were not looked at, or nobody knows whether they were taken.
pub fn sent(reply: ShardReply, later: TryLater) -> Result<Answer, DoorRefused> {
    if let ShardReply::Room(answer) = reply {
        if answer == Answer::Refused(Refused::StorageFull) {
            return Err(DoorRefused::StorageFull);
        }
        return Ok(answer);
    }
    Err(DoorRefused::TryLater(later))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::UserUri,
        user::command::Rules,
        wire::{BVec, joining::CodesAsk},
    };

    const LATER: TryLater = TryLater::unavailable(9);

    fn house() -> House {
        House {
            own: "a.example".parse().unwrap(),
            rules: Rules::default(),
            later: LATER,
            group_of: GroupName::in_group_info,
        }
    }

    fn alice() -> Caller {
        Caller::of("mimi://a.example/d/alice/phone".parse().unwrap())
    }

    fn room(provider: &str) -> RoomUri {
        format!("mimi://{provider}/r/den").parse().unwrap()
    }

    fn ask_for_codes(at: &str) -> (OfClient, Slot, Ask) {
        let codes = room::Request::Codes(CodesAsk::List);
        let mut way = OfClient::room(&house(), alice(), room(at), codes).unwrap();
        let Next::Ask(slot, ask) = way.next() else {
            panic!("somebody is asked")
        };
        assert!(matches!(way.next(), Next::Wait));
        (way, slot, ask)
    }

    fn end(way: &mut OfClient) -> Result<Reply, DoorRefused> {
        let Next::End(end) = way.next() else {
            panic!("it is not over")
        };
        end
    }

    fn codes() -> Answer {
        Answer::Codes(BVec::default())
    }

    #[test]
    fn a_room_here_is_asked_at_its_shard_and_says_itself_that_it_is_unavailable() {
        let (mut way, slot, ask) = ask_for_codes("a.example");
        let codes_ask = room::Request::Codes(CodesAsk::List);
        let request = ShardRequest::Room(room("a.example"), alice(), codes_ask);
        assert_eq!(ask, Ask::Shard(request));
        way.came(slot, Came::Shard(ShardReply::Room(codes())));
        assert_eq!(end(&mut way), Ok(Reply::Room(codes())));

        let (mut way, slot, _) = ask_for_codes("a.example");
        way.came(slot, Came::Nothing);
        let unavailable = Refused::TryLater(LATER);
        assert_eq!(end(&mut way), Ok(Reply::Room(Answer::Refused(unavailable))));
    }

    /// A room that is to be made, up to the question whose its group's name is.
    fn create() -> (OfClient, Slot) {
        let house = House {
            group_of: |id| Some(GroupName::of(id)),
            ..house()
        };
        let beginning = room::Beginning {
            group_info: Payload::from(b"group".to_vec()),
            tree: Payload::default().0.into(),
        };
        let request = room::Request::Create(beginning);
        let mut way = OfClient::room(&house, alice(), room("a.example"), request).unwrap();
        let Next::Ask(slot, ask) = way.next() else {
            panic!("the name is asked for")
        };
        let name = ShardRequest::Name(GroupName::of(b"group"), room("a.example"));
        assert_eq!(ask, Ask::Shard(name));
        assert!(matches!(way.next(), Next::Wait));
        (way, slot)
    }

    #[test]
    fn a_room_is_made_once_its_group_is_no_other_rooms() {
        for taken in [Taken::Its, Taken::Nobodys] {
            let (mut way, slot) = create();
            way.came(slot, Came::Shard(ShardReply::Named(taken)));
            let Next::Ask(slot, Ask::Shard(ShardRequest::Room(..))) = way.next() else {
                panic!("the room is asked")
            };
            way.came(slot, Came::Shard(ShardReply::Room(Answer::Created)));
            assert_eq!(end(&mut way), Ok(Reply::Room(Answer::Created)));
        }
    }

    #[test]
    fn a_room_is_not_made_whose_group_is_anothers_or_perhaps_is() {
        let (mut way, slot) = create();
        way.came(slot, Came::Shard(ShardReply::Named(Taken::Anothers)));
        let Ok(Reply::Room(Answer::Refused(Refused::Invalid(flaw)))) = end(&mut way) else {
            panic!("it is refused")
        };
        assert_eq!(flaw.code, RefusalCode::GroupTaken);
        assert_eq!(flaw.field.as_deref(), Some("group_id"));
        let full = || Answer::Refused(Refused::StorageFull);
        for (came, answer) in [
            (Came::Nothing, Answer::Refused(Refused::TryLater(LATER))),
            (Came::Shard(ShardReply::Room(full())), full()),
        ] {
            let (mut way, slot) = create();
            way.came(slot, came);
            assert_eq!(end(&mut way), Ok(Reply::Room(answer)));
        }
    }

    #[test]
    fn a_room_elsewhere_is_asked_at_its_hub_and_nothing_is_queued() {
        let busy = TryLater::overloaded(4);
        let later = link::LinkRefused::TryLater(busy);
        let unavailable = DoorRefused::TryLater(LATER);
        for (came, expected) in [
            (
                Came::Peer(link::Reply::Room(codes())),
                Ok(Reply::Room(codes())),
            ),
            (
                Came::Peer(link::Reply::Refused(later)),
                Err(DoorRefused::TryLater(busy)),
            ),
            (
                Came::Peer(link::Reply::Refused(LinkRefused::NotOwner)),
                Err(unavailable.clone()),
            ),
            (
                Came::Peer(link::Reply::Vouched(true)),
                Err(unavailable.clone()),
            ),
            (Came::Nothing, Err(unavailable)),
            (
                Came::NoLink,
                Err(DoorRefused::ProviderUnknown {
                    provider: "b.example".parse().unwrap(),
                }),
            ),
        ] {
            let (mut way, slot, ask) = ask_for_codes("b.example");
            let hub: ProviderId = "b.example".parse().unwrap();
            assert!(matches!(ask, Ask::Peer(whom, _) if whom == hub));
            way.came(slot, came);
            assert_eq!(end(&mut way), expected);
        }
    }

    #[test]
    fn a_provider_says_of_its_own_users_only_that_they_made_a_code() {
        let bob: UserUri = "mimi://b.example/u/bob".parse().unwrap();
        let carl: UserUri = "mimi://c.example/u/carl".parse().unwrap();
        for (said, expected) in [
            (Introduced::Resolved(bob.clone()), Introduced::Resolved(bob)),
            (Introduced::Resolved(carl), Introduced::NotAuthorized),
        ] {
            let provider = "b.example".parse().unwrap();
            let mut way =
                OfClient::resolve(&house(), alice().origin, provider, Payload::from(vec![1]));
            let Next::Ask(slot, Ask::Peer(..)) = way.next() else {
                panic!("b.example is asked")
            };
            way.came(slot, Came::Peer(link::Reply::Introduced(said)));
            assert_eq!(end(&mut way), Ok(introduced(expected)));
        }
    }

    #[test]
    fn a_code_of_a_provider_without_a_link_is_refused_for_good() {
        let provider: ProviderId = "x.example".parse().unwrap();
        let code = Payload::from(vec![1]);
        let mut way = OfClient::resolve(&house(), alice().origin, provider.clone(), code);
        let Next::Ask(slot, Ask::Peer(..)) = way.next() else {
            panic!("x.example is asked")
        };
        way.came(slot, Came::NoLink);
        assert_eq!(
            end(&mut way),
            Err(DoorRefused::ProviderUnknown { provider })
        );
    }

    #[test]
    fn a_code_that_is_none_of_this_provider_is_refused_without_asking_anybody() {
        let own = house().own;
        let mut way = OfClient::resolve(&house(), alice().origin, own, Payload::from(vec![1]));
        let refused = introduced(Introduced::NotAuthorized);
        assert_eq!(end(&mut way), Ok(refused));
    }

    #[test]
    fn messages_go_to_the_room_here_or_to_the_follower_and_are_open_without_an_answer() {
        let send = |at| door::Send {
            room: room(at),
            first: crate::wire::event::ClientSeq(1),
            messages: BVec::default(),
        };
        let (own, client) = (house().own, alice().client);
        let here = super::send(&own, &client, send("a.example"));
        assert!(matches!(here, ShardRequest::Submit(..)));
        let elsewhere = super::send(&own, &client, send("b.example"));
        assert!(matches!(elsewhere, ShardRequest::Follower(..)));
        let unavailable = DoorRefused::TryLater(LATER);
        assert_eq!(sent(ShardReply::Nobody, LATER), Err(unavailable));
        let full = ShardReply::Room(Answer::Refused(Refused::StorageFull));
        assert_eq!(sent(full, LATER), Err(DoorRefused::StorageFull));
        let received = ShardReply::Room(Answer::Received);
        assert_eq!(sent(received, LATER), Ok(Answer::Received));
    }
}
