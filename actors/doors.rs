//! What the providers' door and the clients' door let in, and whom it is for.
//!
//! Promises: a peer speaks for its own clients and users only, a client for itself only; a claim is split and put
//! together again without anybody left out or put in. Not here: who is at the door, which the connection knows.
//!
//! Source: transport requirements, sections 3.1 and 3.2.

use crate::{
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    machine::{Millis, Ticket},
    mls::{bundle::Bundle, key_package::check_key_package},
    room::{
        desk, follower,
        hub::{self, Via},
    },
    user::command::{Claim, StoredPackage},
    wire::{
        self, BText, BVec, Payload,
        claim::{ClaimRequest, ClaimResponse, ClaimedUser, UserRefused},
        door::{self, DoorRefused, PackageRefused},
        event::Hash,
        link::{self, CommitRequest, LinkRefused, ProposeRequest, SubmitGroup},
        tree::TreeContainer,
    },
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
        }
    }
}

/// A request of a peer that is the peer's to make.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerAsk {
    /// A claim of this provider's KeyPackages.
    Claim(ClaimRequest),
    /// A request to a room.
    Hub(RoomUri, HubAsk),
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
            let asking = claim.terms.asking_client.as_ref();
            let own_client = asking.is_none_or(|client| *client.user() == claim.terms.requester);
            let trusted = planted!("door_trusts_requester");
            if (claim.terms.requester.provider() != peer || !own_client) && !trusted {
                return Err(LinkRefused::SenderNotBound);
            }
            Ok(PeerAsk::Claim(claim))
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

/// A client's claim, one part for each provider that is named.
///
/// # Errors
/// [`DoorRefused::SenderNotBound`] when it is made for another user.
pub fn split_claim(
    client: &ClientUri,
    mut request: ClaimRequest,
) -> Result<BTreeMap<ProviderId, ClaimRequest>, DoorRefused> {
    if request.terms.requester != *client.user() {
        let detail = BText::clipped("a claim is made for the user of this connection");
        return Err(DoorRefused::SenderNotBound { detail });
    }
    request.terms.asking_client = Some(client.clone());
    let mut providers: BTreeMap<ProviderId, Vec<UserUri>> = BTreeMap::new();
    for user in &request.users {
        let users = providers.entry(user.provider().clone()).or_default();
        if !users.contains(user) {
            users.push(user.clone());
        }
    }
    let part = |users| ClaimRequest {
        users: BVec::truncated(users),
        ..request.clone()
    };
    let parts = providers.into_iter();
    Ok(parts
        .map(|(provider, users)| (provider, part(users)))
        .collect())
}

/// A provider's answer to its part of a claim: nobody is left out, and nobody is put in.
#[must_use]
pub fn complete_claim(
    part: &[UserUri],
    mut claimed: Vec<ClaimedUser>,
    retry_after_ms: u32,
) -> Vec<ClaimedUser> {
    claimed.retain(|claimed| part.contains(&claimed.user) && names_its_own(claimed));
    for user in part {
        if !claimed.iter().any(|claimed| claimed.user == *user) {
            let unavailable = UserRefused::Unavailable { retry_after_ms };
            claimed.push(ClaimedUser {
                user: user.clone(),
                result: Err(unavailable),
            });
        }
    }
    claimed
}

/// Whether every client of a result is one of its user.
fn names_its_own(claimed: &ClaimedUser) -> bool {
    let Ok(clients) = &claimed.result else {
        return true;
    };
    clients
        .iter()
        .all(|client| *client.client.user() == claimed.user)
}

/// The parts of a claim as one table, in the order of the request.
#[must_use]
pub fn merge_claim(asked: &[UserUri], parts: Vec<ClaimedUser>) -> ClaimResponse {
    let mut results: BTreeMap<UserUri, ClaimedUser> = parts
        .into_iter()
        .map(|claimed| (claimed.user.clone(), claimed))
        .collect();
    let users = asked.iter().filter_map(|user| results.remove(user));
    ClaimResponse {
        users: BVec::truncated(users.collect()),
    }
}

/// The commands that a claim of `peer`, who is authenticated, becomes: one for each user named, in order.
///
/// A user of another provider gets its refusal at once.
#[must_use]
pub fn claims(
    own: &ProviderId,
    peer: &ProviderId,
    request: &ClaimRequest,
) -> Vec<(UserUri, Result<Claim, UserRefused>)> {
    let body = Hash::of(&wire::encode(&request.terms));
    let mut asked: Vec<&UserUri> = Vec::new();
    for user in &request.users {
        if !asked.contains(&user) {
            asked.push(user);
        }
    }
    let part = |user: &UserUri| {
        if user.provider() != own {
            return Err(UserRefused::ForeignUser);
        }
        Ok(Claim {
            id: request.id,
            peer: peer.clone(),
            terms: request.terms.clone(),
            body,
        })
    };
    let parts = asked.into_iter();
    parts.map(|user| (user.clone(), part(user))).collect()
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
