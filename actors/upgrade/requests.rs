//! Requests as version 1 of the three doors had them: each kind of request to a room by itself, with its room and its
//! sender inside, and what a client signs for others in one piece with what is ours.

use super::Before;
use crate::{
    caller::Caller,
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    limits::{CLAIM_USERS_MAX, KEY_PACKAGES_PER_UPLOAD_MAX, PASSPHRASE_BYTES_MAX, READS_TOLD_MAX},
    link::ReadProgress,
    machine::Millis,
    room::{follower, hub},
    shard_request::ShardRequest,
    user::{command, requests as user_requests},
    wire::{
        BText, BVec, Payload,
        claim::{ClaimId, ClaimProof, ClaimRequest, ClaimTerms},
        door::{self, Enrol, Login, Order},
        joining::{CodeId, CodesAsk, GroupInfoRequest, IntroductionsAsk},
        link::{self, Hello},
        room::{Beginning, Bundle, Proposals, Request},
        tree::TreeKind,
        user,
        version::NotInVersion,
    },
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A claim, each of whose signatures was over its id and versions too.
#[derive(Serialize, Deserialize)]
pub(super) struct ClaimRequestOf1 {
    id: ClaimId,
    terms: ClaimTerms,
    users: BVec<UserUri, CLAIM_USERS_MAX>,
    proof: ClaimProofOf1,
}

#[derive(Serialize, Deserialize)]
struct ClaimProofOf1 {
    key: [u8; 32],
    signatures: BVec<Payload, CLAIM_USERS_MAX>,
}

impl Before<ClaimRequest> for ClaimRequestOf1 {
    fn today(self) -> ClaimRequest {
        ClaimRequest {
            id: self.id,
            terms: self.terms,
            users: self.users,
            proof: ClaimProof {
                key: self.proof.key,
                before: self.proof.signatures,
                ..ClaimProof::default()
            },
        }
    }

    fn of(today: &ClaimRequest) -> Result<Self, NotInVersion> {
        Ok(Self {
            id: today.id,
            terms: today.terms.clone(),
            users: today.users.clone(),
            proof: ClaimProofOf1 {
                key: today.proof.key,
                signatures: today.proof.before.clone(),
            },
        })
    }
}

/// A request for the GroupInfo, all of which was signed under the protocol's label.
#[derive(Serialize, Deserialize)]
pub(super) struct GroupInfoRequestOf1 {
    room: RoomUri,
    joiner: ClientUri,
    id: [u8; 16],
    time: Millis,
    ciphersuite: u16,
    hpke_key: Payload,
    signature_key: Payload,
    container: TreeKind,
    wait_ms: u32,
    code: Option<Payload>,
    passphrase: Option<BText<PASSPHRASE_BYTES_MAX>>,
    signature: Payload,
}

impl Before<GroupInfoRequest> for GroupInfoRequestOf1 {
    fn today(self) -> GroupInfoRequest {
        GroupInfoRequest {
            room: self.room,
            joiner: self.joiner,
            id: self.id,
            time: self.time,
            ciphersuite: self.ciphersuite,
            hpke_key: self.hpke_key,
            signature_key: self.signature_key,
            container: self.container,
            wait_ms: self.wait_ms,
            code: self.code,
            passphrase: self.passphrase,
            signature: Payload::default(),
            envelope: Payload::default(),
            before: self.signature,
        }
    }

    fn of(today: &GroupInfoRequest) -> Result<Self, NotInVersion> {
        let today = today.clone();
        Ok(Self {
            room: today.room,
            joiner: today.joiner,
            id: today.id,
            time: today.time,
            ciphersuite: today.ciphersuite,
            hpke_key: today.hpke_key,
            signature_key: today.signature_key,
            container: today.container,
            wait_ms: today.wait_ms,
            code: today.code,
            passphrase: today.passphrase,
            signature: today.before,
        })
    }
}

/// What users and others did with introduction codes.
#[derive(Serialize, Deserialize)]
pub(super) enum IntroductionAsk {
    Create { lifetime_ms: Option<u64> },
    List,
    Revoke(CodeId),
    Resolve { provider: ProviderId, code: Payload },
}

impl IntroductionAsk {
    fn today(self) -> door::Request {
        let ask = match self {
            Self::Create { lifetime_ms } => IntroductionsAsk::Create { lifetime_ms },
            Self::List => IntroductionsAsk::List,
            Self::Revoke(id) => IntroductionsAsk::Revoke(id),
            Self::Resolve { provider, code } => return door::Request::Resolve { provider, code },
        };
        door::Request::User(user::Request::Introductions(ask))
    }

    fn of(ask: IntroductionsAsk) -> Self {
        match ask {
            IntroductionsAsk::Create { lifetime_ms } => Self::Create { lifetime_ms },
            IntroductionsAsk::List => Self::List,
            IntroductionsAsk::Revoke(id) => Self::Revoke(id),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum DoorOpen {
    Request(Box<DoorRequest>),
    Sends,
    Events(Order),
}

#[derive(Serialize, Deserialize)]
pub(super) enum DoorRequest {
    Enrol(Enrol),
    Login(Login),
    HubSender,
    Upload(BVec<Payload, KEY_PACKAGES_PER_UPLOAD_MAX>),
    Claim(ClaimRequestOf1),
    Create(RoomUri, Beginning),
    Commit(RoomUri, Bundle),
    Propose(RoomUri, Proposals),
    GroupInfo(Box<GroupInfoRequestOf1>),
    /// With the client, which is the connection's whatever stands here.
    Codes(RoomUri, ClientUri, CodesAsk),
    Introduction(IntroductionAsk),
}

impl Before<door::Open> for DoorOpen {
    fn today(self) -> door::Open {
        match self {
            Self::Request(request) => door::Open::Request(Box::new(request.today())),
            Self::Sends => door::Open::Sends,
            Self::Events(order) => door::Open::Events(order),
        }
    }

    fn of(today: &door::Open) -> Result<Self, NotInVersion> {
        Ok(match today {
            door::Open::Request(request) => Self::Request(Box::new(DoorRequest::of(request)?)),
            door::Open::Sends => Self::Sends,
            door::Open::Events(order) => Self::Events(*order),
        })
    }
}

impl Before<door::Request> for DoorRequest {
    fn today(self) -> door::Request {
        let (room, request) = match self {
            Self::Enrol(enrol) => return door::Request::Enrol(enrol),
            Self::Login(login) => return door::Request::Login(login),
            Self::HubSender => return door::Request::HubSender,
            Self::Upload(packages) => return door::Request::Upload(packages),
            Self::Claim(claim) => return door::Request::Claim(claim.today()),
            Self::Introduction(ask) => return ask.today(),
            Self::Create(room, beginning) => (room, Request::Create(beginning)),
            Self::Commit(room, bundle) => (room, Request::Commit(bundle)),
            Self::Propose(room, proposals) => (room, Request::Propose(proposals)),
            Self::GroupInfo(request) => {
                let request = request.today();
                (request.room.clone(), Request::GroupInfo(Arc::new(request)))
            }
            Self::Codes(room, _, ask) => (room, Request::Codes(ask)),
        };
        door::Request::Room(room, request)
    }

    fn of(today: &door::Request) -> Result<Self, NotInVersion> {
        Ok(match today.clone() {
            door::Request::Enrol(enrol) => Self::Enrol(enrol),
            door::Request::Login(login) => Self::Login(login),
            door::Request::HubSender => Self::HubSender,
            door::Request::Upload(packages) => Self::Upload(packages),
            door::Request::Claim(claim) => Self::Claim(ClaimRequestOf1::of(&claim)?),
            door::Request::Resolve { provider, code } => {
                Self::Introduction(IntroductionAsk::Resolve { provider, code })
            }
            door::Request::User(user::Request::Introductions(ask)) => {
                Self::Introduction(IntroductionAsk::of(ask))
            }
            door::Request::Verdicts(_) => {
                return Err(NotInVersion {
                    version: 1,
                    what: "question about verdicts",
                });
            }
            door::Request::User(_) => {
                return Err(NotInVersion {
                    version: 1,
                    what: "request of a device to its user",
                });
            }
            door::Request::Room(room, request) => match request {
                Request::Create(beginning) => Self::Create(room, beginning),
                Request::Commit(bundle) => Self::Commit(room, bundle),
                Request::Propose(proposals) => Self::Propose(room, proposals),
                Request::GroupInfo(request) => {
                    Self::GroupInfo(Box::new(GroupInfoRequestOf1::of(&request)?))
                }
                Request::Codes(_) => {
                    return Err(NotInVersion {
                        version: 1,
                        what: "request about joining codes that does not name its client",
                    });
                }
            },
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum LinkOpen {
    Control(Hello),
    Request(Box<LinkRequest>),
    Fanout { shard: u16 },
    Submit,
}

#[derive(Serialize, Deserialize)]
pub(super) enum LinkRequest {
    Claim(ClaimRequestOf1),
    Relayed(ClaimRequestOf1),
    Vouch { client: ClientUri, key: [u8; 32] },
    Commit(RoomUri, ClientUri, Bundle),
    Propose(RoomUri, ClientUri, Proposals),
    GroupInfo(Box<GroupInfoRequestOf1>),
    Codes(RoomUri, ClientUri, CodesAsk),
    Resolve(Payload),
}

impl Before<link::Open> for LinkOpen {
    fn today(self) -> link::Open {
        match self {
            Self::Control(hello) => link::Open::Control(hello),
            Self::Request(request) => link::Open::Request(Box::new(request.today())),
            Self::Fanout { shard } => link::Open::OneShard { shard },
            Self::Submit => link::Open::OneShardSubmits,
        }
    }

    fn of(today: &link::Open) -> Result<Self, NotInVersion> {
        Ok(match today {
            link::Open::Control(hello) => Self::Control(hello.clone()),
            link::Open::Request(request) => Self::Request(Box::new(LinkRequest::of(request)?)),
            link::Open::OneShard { shard } => Self::Fanout { shard: *shard },
            link::Open::OneShardSubmits => Self::Submit,
            link::Open::Fanout | link::Open::Submit => {
                return Err(NotInVersion {
                    version: 1,
                    what: "lane that shards share",
                });
            }
        })
    }
}

impl Before<link::Request> for LinkRequest {
    fn today(self) -> link::Request {
        let (room, client, request) = match self {
            Self::Claim(claim) => return link::Request::Claim(claim.today()),
            Self::Relayed(claim) => return link::Request::Relayed(claim.today()),
            Self::Vouch { client, key } => return link::Request::Vouch { client, key },
            Self::Resolve(code) => return link::Request::Resolve(code),
            Self::Commit(room, client, bundle) => (room, client, Request::Commit(bundle)),
            Self::Propose(room, client, proposals) => (room, client, Request::Propose(proposals)),
            Self::GroupInfo(request) => {
                let request = request.today();
                let (room, client) = (request.room.clone(), request.joiner.clone());
                (room, client, Request::GroupInfo(Arc::new(request)))
            }
            Self::Codes(room, client, ask) => (room, client, Request::Codes(ask)),
        };
        link::Request::Room {
            room,
            client,
            request,
        }
    }

    fn of(today: &link::Request) -> Result<Self, NotInVersion> {
        Ok(match today.clone() {
            link::Request::Claim(claim) => Self::Claim(ClaimRequestOf1::of(&claim)?),
            link::Request::Relayed(claim) => Self::Relayed(ClaimRequestOf1::of(&claim)?),
            link::Request::Vouch { client, key } => Self::Vouch { client, key },
            link::Request::Resolve(code) => Self::Resolve(code),
            link::Request::Room {
                room,
                client,
                request,
            } => match request {
                Request::Create(_) => {
                    return Err(NotInVersion {
                        version: 1,
                        what: "request to make a room",
                    });
                }
                Request::Commit(bundle) => Self::Commit(room, client, bundle),
                Request::Propose(proposals) => Self::Propose(room, client, proposals),
                Request::GroupInfo(request) => {
                    Self::GroupInfo(Box::new(GroupInfoRequestOf1::of(&request)?))
                }
                Request::Codes(ask) => Self::Codes(room, client, ask),
            },
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) enum NodeAsk {
    Hub(RoomUri, HubAsk),
    Follower(RoomUri, follower::Command),
    User(UserUri, command::Command),
    DeviceKey(ClientUri),
    Knows(RoomUri, ProviderId),
    Redrive(RoomUri, ProviderId),
    Read(BVec<ReadProgress, READS_TOLD_MAX>),
}

#[derive(Serialize, Deserialize)]
pub(super) enum HubAsk {
    Create {
        creator: ClientUri,
        beginning: Beginning,
    },
    Commit {
        sender: ClientUri,
        bundle: Bundle,
    },
    Propose {
        sender: ClientUri,
        messages: Proposals,
    },
    Submit(hub::Submit),
    GroupInfo {
        request: Box<GroupInfoRequestOf1>,
        wait_ms: u32,
    },
    Codes {
        member: ClientUri,
        ask: CodesAsk,
    },
}

impl HubAsk {
    fn today(self, room: RoomUri) -> ShardRequest {
        let (client, request) = match self {
            Self::Submit(submit) => return ShardRequest::Submit(room, submit),
            Self::Create { creator, beginning } => (creator, Request::Create(beginning)),
            Self::Commit { sender, bundle } => (sender, Request::Commit(bundle)),
            Self::Propose { sender, messages } => (sender, Request::Propose(messages)),
            Self::GroupInfo { request, wait_ms } => {
                let request = request.today();
                let joiner = request.joiner.clone();
                let request = Request::GroupInfo(Arc::new(request));
                (joiner, request.waiting_at_most(wait_ms))
            }
            Self::Codes { member, ask } => (member, Request::Codes(ask)),
        };
        ShardRequest::Room(room, Caller::of(client), request)
    }

    fn of(caller: Caller, request: Request) -> Result<Self, NotInVersion> {
        let sender = caller.client;
        Ok(match request {
            Request::Create(beginning) => Self::Create {
                creator: sender,
                beginning,
            },
            Request::Commit(bundle) => Self::Commit { sender, bundle },
            Request::Propose(messages) => Self::Propose { sender, messages },
            Request::GroupInfo(request) => Self::GroupInfo {
                wait_ms: request.wait_ms,
                request: Box::new(GroupInfoRequestOf1::of(&request)?),
            },
            Request::Codes(ask) => Self::Codes {
                member: sender,
                ask,
            },
        })
    }
}

impl Before<ShardRequest> for NodeAsk {
    fn today(self) -> ShardRequest {
        match self {
            Self::Hub(room, ask) => ask.today(room),
            Self::Follower(room, command) => ShardRequest::Follower(room, command),
            Self::User(user, command) => ShardRequest::UserLog(user, command),
            Self::DeviceKey(client) => ShardRequest::DeviceKey(client),
            Self::Knows(room, provider) => ShardRequest::Knows(room, provider),
            Self::Redrive(room, provider) => ShardRequest::Redrive(room, provider),
            Self::Read(has) => ShardRequest::Read(has),
        }
    }

    fn of(today: &ShardRequest) -> Result<Self, NotInVersion> {
        Ok(match today.clone() {
            ShardRequest::Room(room, caller, request) => {
                Self::Hub(room, HubAsk::of(caller, request)?)
            }
            ShardRequest::Submit(room, submit) => Self::Hub(room, HubAsk::Submit(submit)),
            ShardRequest::Follower(room, command) => Self::Follower(room, command),
            ShardRequest::Verdicts(..) => {
                return Err(NotInVersion {
                    version: 1,
                    what: "question about verdicts",
                });
            }
            ShardRequest::GiveUp(..) => {
                return Err(NotInVersion {
                    version: 1,
                    what: "end of what is owed to a provider",
                });
            }
            ShardRequest::Name(..) => {
                return Err(NotInVersion {
                    version: 1,
                    what: "name of a group",
                });
            }
            ShardRequest::Depart(_) => {
                return Err(NotInVersion {
                    version: 1,
                    what: "departure of a client",
                });
            }
            ShardRequest::UserLog(user, command) => {
                if let Some(what) = command.is_of_second() {
                    return Err(NotInVersion { version: 1, what });
                }
                Self::User(user, command)
            }
            ShardRequest::User(user, principal, request) => {
                let command = user_requests::command(&user, principal, request);
                let command = command.map_err(|_| NotInVersion {
                    version: 1,
                    what: "request to a user",
                })?;
                if let Some(what) = command.is_of_second() {
                    return Err(NotInVersion { version: 1, what });
                }
                Self::User(user, command)
            }
            ShardRequest::DeviceKey(client) => Self::DeviceKey(client),
            ShardRequest::Knows(room, provider) => Self::Knows(room, provider),
            ShardRequest::Redrive(room, provider) => Self::Redrive(room, provider),
            ShardRequest::Read(has) => Self::Read(has),
        })
    }
}
