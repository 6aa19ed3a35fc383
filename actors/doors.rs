//! What the providers' door and the clients' door let in, and whom it is for.
//!
//! Promises: a peer speaks for its own clients and users only, a client for itself only; a claim is split and put
//! together again without anybody left out or put in. Not here: who is at the door, which the connection knows.
//!
//! Source: transport requirements, sections 3.1 to 3.3 and 7.3.

mod claims;

pub use claims::{
    claims, complete_claim, fitting, merge_claim, refuse_claim, relay_claim, split_claim,
};

use crate::{
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    machine::{Millis, Ticket},
    mls::{bundle::Bundle, key_package::check_key_package},
    room::{
        desk, follower,
        hub::{self, Via},
    },
    user::command::{Hear, StoredPackage},
    wire::{
        BText, BVec, Payload,
        claim::ClaimRequest,
        door::{self, DoorRefused, PackageRefused},
        event::Item,
        joining::{CodesAsk, CodesRequest, GroupInfoRequest},
        link::{
            self, CommitRequest, Fanout, FanoutGroup, LinkRefused, ProposeRequest, SubmitGroup,
        },
        post::Refilled,
        tree::TreeContainer,
    },
};
use bytes::Bytes;
use claims::asks_for_itself;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A request to a room at this hub, from whoever may speak for its sender.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HubAsk {
    /// Begin the room.
    Create {
        /// The creator.
        creator: ClientUri,
        /// GroupInfo of epoch 0.
        group_info: Bytes,
        /// Ratchet tree of epoch 0.
        tree: TreeContainer,
    },
    /// Open the next epoch.
    Commit {
        /// The committer.
        sender: ClientUri,
        /// The bundle.
        bundle: Bundle,
    },
    /// Let Proposals wait.
    Propose {
        /// The proposer.
        sender: ClientUri,
        /// The Proposals.
        messages: Vec<Bytes>,
    },
    /// Take application messages.
    Submit(hub::Submit),
    /// Let a client join by itself.
    GroupInfo {
        /// The request.
        request: Arc<GroupInfoRequest>,
        /// How long it waits for its turn, in milliseconds.
        wait_ms: u32,
    },
    /// Make, list or end joining codes.
    Codes {
        /// The member.
        member: ClientUri,
        /// What it wants.
        ask: CodesAsk,
    },
}

impl HubAsk {
    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Create {
                group_info, tree, ..
            } => group_info.len() + tree.carried().len(),
            Self::Commit { bundle, .. } => {
                let welcome = bundle.welcome.as_ref().map_or(0, Bytes::len);
                bundle.commit.len()
                    + welcome
                    + bundle.group_info.len()
                    + bundle.tree.carried().len()
            }
            Self::Propose { messages, .. } => {
                messages.iter().map(|message| message.len() + 8).sum()
            }
            Self::Submit(submit) => submit
                .messages
                .iter()
                .map(|message| message.len() + 8)
                .sum(),
            Self::GroupInfo { request, .. } => request.bytes(),
            Self::Codes { .. } => 0,
        }
    }

    /// The same request, which waits for its turn no longer than this: whoever asked is answered in time.
    #[must_use]
    pub fn waiting_at_most(self, wait_ms_max: u32) -> Self {
        match self {
            Self::GroupInfo { request, wait_ms } => Self::GroupInfo {
                request,
                wait_ms: wait_ms.min(wait_ms_max),
            },
            other @ (Self::Create { .. }
            | Self::Commit { .. }
            | Self::Propose { .. }
            | Self::Submit(_)
            | Self::Codes { .. }) => other,
        }
    }

    fn group_info(request: GroupInfoRequest) -> Self {
        let wait_ms = request.wait_ms;
        Self::GroupInfo {
            request: Arc::new(request),
            wait_ms,
        }
    }

    /// The input for the room's desk; `ticket` waits for the answer.
    #[must_use]
    pub fn input(self, ticket: Ticket) -> desk::Input {
        match self {
            Self::Create {
                creator,
                group_info,
                tree,
            } => desk::Input::Create {
                ticket,
                creator,
                group_info,
                tree,
            },
            Self::Commit { sender, bundle } => desk::Input::Commit {
                ticket,
                sender,
                bundle,
            },
            Self::Propose { sender, messages } => desk::Input::Propose {
                ticket,
                sender,
                messages,
            },
            Self::Submit(submit) => desk::Input::Submit { ticket, submit },
            Self::GroupInfo { request, wait_ms } => desk::Input::GroupInfo {
                ticket,
                request,
                wait_ms,
            },
            Self::Codes { member, ask } => desk::Input::Codes {
                ticket,
                member,
                ask,
            },
        }
    }
}

/// A request of a peer that is the peer's to make.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerAsk {
    /// A claim of this provider's KeyPackages, for a user of the peer.
    Claim(ClaimRequest),
    /// A claim for a room of this provider, to be passed on to those whose users are wanted.
    Relay(RoomUri, ClaimRequest),
    /// A claim of this provider's KeyPackages for a room of the peer, for a user of another provider: that provider
    /// must vouch for the key that signed.
    Relayed(ClaimRequest),
    /// Whether a client of this provider holds a key.
    Vouch(ClientUri, [u8; 32]),
    /// A request to a room.
    Hub(RoomUri, HubAsk),
    /// Who made this introduction code.
    Resolve(Payload),
}

/// Lets in what `peer` asks of the provider `own`.
///
/// # Errors
/// [`LinkRefused::SenderNotBound`] when it speaks for somebody else's clients or users, [`LinkRefused::NotOwner`] when
/// the room is not this provider's.
pub fn of_peer(
    own: &ProviderId,
    peer: &ProviderId,
    request: link::Request,
) -> Result<PeerAsk, LinkRefused> {
    let bound = |sender: &ClientUri, room: &RoomUri| {
        if sender.provider() != peer && !planted!("door_trusts_sender") {
            return Err(LinkRefused::SenderNotBound);
        }
        if room.hub() != own {
            return Err(LinkRefused::NotOwner);
        }
        Ok(())
    };
    match request {
        link::Request::Claim(claim) => {
            let trusted = planted!("door_trusts_requester");
            let bound = claim.terms.requester.provider() == peer && asks_for_itself(&claim);
            if !bound && !trusted {
                return Err(LinkRefused::SenderNotBound);
            }
            let foreign = claim.users.iter().any(|user| user.provider() != own);
            match claim.terms.room.clone() {
                Some(room) if foreign && room.hub() == own => Ok(PeerAsk::Relay(room, claim)),
                Some(_) | None => Ok(PeerAsk::Claim(claim)),
            }
        }
        link::Request::Relayed(claim) => {
            let room = claim.terms.room.as_ref();
            let owner = room.is_some_and(|room| room.hub() == peer);
            if !owner {
                return Err(LinkRefused::NotOwner);
            }
            if !asks_for_itself(&claim) {
                return Err(LinkRefused::SenderNotBound);
            }
            Ok(PeerAsk::Relayed(claim))
        }
        link::Request::Vouch { client, key } => {
            if client.provider() != own {
                return Err(LinkRefused::SenderNotBound);
            }
            Ok(PeerAsk::Vouch(client, key))
        }
        link::Request::Commit(CommitRequest {
            room,
            sender,
            commit,
            welcome,
            group_info,
            tree,
        }) => {
            bound(&sender, &room)?;
            let bundle = bundle(commit, welcome, group_info, tree);
            Ok(PeerAsk::Hub(room, HubAsk::Commit { sender, bundle }))
        }
        link::Request::Propose(ProposeRequest {
            room,
            sender,
            proposals,
        }) => {
            bound(&sender, &room)?;
            let messages = proposals.into_iter().map(|message| message.0).collect();
            Ok(PeerAsk::Hub(room, HubAsk::Propose { sender, messages }))
        }
        link::Request::GroupInfo(request) => {
            bound(&request.joiner, &request.room)?;
            let room = request.room.clone();
            Ok(PeerAsk::Hub(room, HubAsk::group_info(request)))
        }
        link::Request::Codes(CodesRequest { room, member, ask }) => {
            bound(&member, &room)?;
            Ok(PeerAsk::Hub(room, HubAsk::Codes { member, ask }))
        }
        link::Request::Resolve(code) => Ok(PeerAsk::Resolve(code)),
    }
}

/// Lets in a run of submissions of a peer; `None` when the room is not the provider `own`'s.
///
/// Whether the sender is the peer's is checked for the whole frame, by [`crate::link::session::check_submit`].
#[must_use]
pub fn submission(own: &ProviderId, group: SubmitGroup) -> Option<(RoomUri, HubAsk)> {
    let SubmitGroup {
        room,
        sender,
        first,
        undecided,
        messages,
    } = group;
    let via = Via::Provider { first, undecided };
    let submit = hub::Submit {
        sender,
        via,
        messages,
    };
    (room.hub() == own).then_some((room, HubAsk::Submit(submit)))
}

/// What a part of a peer's fan-out is, and for whom.
#[derive(Clone, Debug, PartialEq)]
pub enum Fanned {
    /// Items for a room that this provider follows.
    Room(RoomUri, follower::Deliver),
    /// A word for a user of this provider about a room, which may be anybody's.
    User(RoomUri, UserUri, Hear),
}

/// The parts of a batch that a shard of a peer fans out, in order.
#[must_use]
pub fn fanned(batch: Fanout) -> Vec<Fanned> {
    let mut parts = Vec::with_capacity(batch.groups.len());
    for FanoutGroup { room, items } in batch.groups {
        let mut for_room = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Item::Refilled { requester, client } => {
                    let refilled = Refilled {
                        requester: requester.clone(),
                        room: room.clone(),
                        client,
                    };
                    let hear = Hear {
                        from: None,
                        refilled,
                    };
                    parts.push(Fanned::User(room.clone(), requester, hear));
                }
                Item::Event(_) | Item::Refused { .. } => for_room.push(item),
            }
        }
        if !for_room.is_empty() {
            let items = BVec::truncated(for_room);
            parts.push(Fanned::Room(room, follower::Deliver { items }));
        }
    }
    parts
}

/// Where a client's request to a room goes.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientAsk {
    /// To the room, which is this provider's.
    Here(RoomUri, HubAsk),
    /// To the room's hub.
    Peer(ProviderId, link::Request),
}

/// Lets in a client's request for a new room.
///
/// # Errors
/// [`DoorRefused::SenderNotBound`] when the room would be another provider's.
pub fn create(
    own: &ProviderId,
    client: &ClientUri,
    create: door::CreateRoom,
) -> Result<(RoomUri, HubAsk), DoorRefused> {
    if create.room.hub() != own {
        let detail = BText::clipped("a room is created at the provider that its name says");
        return Err(DoorRefused::SenderNotBound { detail });
    }
    let ask = HubAsk::Create {
        creator: client.clone(),
        group_info: create.group_info.0,
        tree: create.tree,
    };
    Ok((create.room, ask))
}

/// Lets in a client's Commit bundle.
#[must_use]
pub fn commit(own: &ProviderId, client: &ClientUri, commit: door::Commit) -> ClientAsk {
    let sender = client.clone();
    let door::Commit {
        room,
        commit,
        welcome,
        group_info,
        tree,
    } = commit;
    if room.hub() == own {
        let bundle = bundle(commit, welcome, group_info, tree);
        return ClientAsk::Here(room, HubAsk::Commit { sender, bundle });
    }
    let request = CommitRequest {
        room,
        sender,
        commit,
        welcome,
        group_info,
        tree,
    };
    ClientAsk::Peer(request.room.hub().clone(), link::Request::Commit(request))
}

/// Lets in a client's Proposals.
#[must_use]
pub fn propose(own: &ProviderId, client: &ClientUri, propose: door::Propose) -> ClientAsk {
    let sender = client.clone();
    let door::Propose { room, proposals } = propose;
    if room.hub() == own {
        let messages = proposals.into_iter().map(|message| message.0).collect();
        return ClientAsk::Here(room, HubAsk::Propose { sender, messages });
    }
    let request = ProposeRequest {
        room,
        sender,
        proposals,
    };
    ClientAsk::Peer(request.room.hub().clone(), link::Request::Propose(request))
}

/// Lets in a client that wants to join a room by itself.
///
/// # Errors
/// [`DoorRefused::SenderNotBound`] when it asks for another client.
pub fn group_info(
    own: &ProviderId,
    client: &ClientUri,
    request: GroupInfoRequest,
) -> Result<ClientAsk, DoorRefused> {
    own_client(client, &request.joiner)?;
    let room = request.room.clone();
    Ok(if room.hub() == own {
        ClientAsk::Here(room, HubAsk::group_info(request))
    } else {
        ClientAsk::Peer(room.hub().clone(), link::Request::GroupInfo(request))
    })
}

/// Lets in a client's request about joining codes.
///
/// # Errors
/// [`DoorRefused::SenderNotBound`] when it asks for another client.
pub fn codes(
    own: &ProviderId,
    client: &ClientUri,
    request: CodesRequest,
) -> Result<ClientAsk, DoorRefused> {
    own_client(client, &request.member)?;
    Ok(if request.room.hub() == own {
        let CodesRequest { room, member, ask } = request;
        ClientAsk::Here(room, HubAsk::Codes { member, ask })
    } else {
        ClientAsk::Peer(request.room.hub().clone(), link::Request::Codes(request))
    })
}

fn own_client(client: &ClientUri, named: &ClientUri) -> Result<(), DoorRefused> {
    if named == client {
        return Ok(());
    }
    let detail = BText::clipped("a request names the client of this connection");
    Err(DoorRefused::SenderNotBound { detail })
}

/// What a client's messages become: a submission at their hub, or the queue in front of another one.
#[derive(Debug)]
pub enum Sending {
    /// The room is this provider's.
    Here(hub::Submit),
    /// The room is followed.
    Follower(follower::Queue),
}

impl Sending {
    /// Lets in a client's application messages.
    #[must_use]
    pub fn new(own: &ProviderId, client: &ClientUri, send: door::Send) -> (RoomUri, Self) {
        let sender = client.clone();
        let door::Send {
            room,
            first,
            messages,
        } = send;
        let sending = if room.hub() == own {
            Self::Here(hub::Submit {
                sender,
                via: Via::Client(first),
                messages,
            })
        } else {
            Self::Follower(follower::Queue {
                sender,
                first,
                messages,
            })
        };
        (room, sending)
    }
}

/// Checks a KeyPackage that a client uploads. Cryptography: for a worker.
///
/// # Errors
/// [`PackageRefused::Invalid`] when it is not a KeyPackage of the client that may be handed out.
pub fn check_package(
    package: Payload,
    client: &ClientUri,
    now: Millis,
) -> Result<StoredPackage, PackageRefused> {
    let facts = check_key_package(&package, client, now).map_err(|refused| {
        let detail = BText::clipped(&refused.to_string());
        PackageRefused::Invalid { detail }
    })?;
    Ok(StoredPackage {
        package,
        reference: Payload(facts.reference),
        init_key: Payload(facts.init_key),
        version: facts.version,
        ciphersuite: facts.ciphersuite,
        not_before_s: facts.not_before_s,
        not_after_s: facts.not_after_s,
        extensions: facts.extensions,
        proposals: facts.proposals,
        credentials: facts.credentials,
        last_resort: facts.last_resort,
    })
}

fn bundle(
    commit: Payload,
    welcome: Option<Payload>,
    group_info: Payload,
    tree: TreeContainer,
) -> Bundle {
    Bundle {
        commit: commit.0,
        welcome: welcome.map(|welcome| welcome.0),
        group_info: group_info.0,
        tree,
    }
}
