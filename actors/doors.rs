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
    machine::Millis,
    mls::check::{bundle::Terms, key_package::check_key_package},
    room::{
        follower,
        hub::{self, Via},
    },
    user::command::{LearnRefilled, StoredPackage},
    wire::{
        BText, Payload,
        claim::ClaimRequest,
        consent::ConsentEntry,
        door::{self, DoorRefused, PackageRefused},
        event::Item,
        link::{self, Fanout, FanoutGroup, LinkRefused, SubmitGroup},
        post::{Departed, Refilled},
        room,
    },
};
use claims::asks_for_itself;

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
    /// A request of one of the peer's clients to a room.
    Room(RoomUri, ClientUri, room::Request),
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
    match request {
        link::Request::Claim(claim) => {
            let bound = claim.terms.requester.provider() == peer && asks_for_itself(&claim);
            if !bound {
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
        link::Request::Room {
            room,
            client,
            request,
        } => {
            if client.provider() != peer {
                return Err(LinkRefused::SenderNotBound);
            }
            // A room is made at the provider of whoever makes it.
            if room.hub() != own || matches!(request, room::Request::Create(_)) {
                return Err(LinkRefused::NotOwner);
            }
            if !is_of(&request, &room, &client) {
                return Err(LinkRefused::SenderNotBound);
            }
            Ok(PeerAsk::Room(room, client, request))
        }
        link::Request::Resolve(code) => Ok(PeerAsk::Resolve(code)),
    }
}

/// Lets in a run of submissions of a peer; `None` when the room is not the provider `own`'s.
///
/// Whether the sender is the peer's is checked for the whole frame, by [`crate::link::session::check_submit`].
#[must_use]
pub fn submission(own: &ProviderId, group: SubmitGroup) -> Option<(RoomUri, hub::Submit)> {
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
    (room.hub() == own).then_some((room, submit))
}

/// What a part of a peer's fan-out is, and for whom.
#[derive(Clone, Debug, PartialEq)]
pub enum Fanned {
    /// Items for a room that this provider follows.
    Room(RoomUri, follower::Deliver),
    /// A refill, for a user of this provider; the room may be anybody's.
    User(RoomUri, UserUri, LearnRefilled),
    /// A client that is none any more, for a room of this provider.
    Departed(Departed),
    /// What is said to a user of this provider about consent.
    Consent(RoomUri, ConsentEntry),
}

/// The parts of a batch that a shard of a peer fans out, in order.
#[must_use]
pub fn fanned(batch: Fanout) -> Vec<Fanned> {
    let mut parts = Vec::with_capacity(batch.groups.len());
    for FanoutGroup { room, items } in batch.groups {
        let items = items.filter_map(|item| match item {
            Item::Refilled { requester, client } => {
                let refilled = Refilled {
                    requester: requester.clone(),
                    room: room.clone(),
                    client,
                };
                let learn = LearnRefilled {
                    from: None,
                    refilled,
                };
                parts.push(Fanned::User(room.clone(), requester, learn));
                None
            }
            Item::Departed { client, why } => {
                let room = room.clone();
                parts.push(Fanned::Departed(Departed { room, client, why }));
                None
            }
            Item::Consent(entry) => {
                // Whoever took the batch has read it: nothing else is in one.
                let read = ConsentEntry::read(&entry).ok();
                parts.extend(read.map(|entry| Fanned::Consent(room.clone(), entry)));
                None
            }
            Item::Event(_) | Item::Refused { .. } => Some(item),
        });
        if !items.is_empty() {
            parts.push(Fanned::Room(room, follower::Deliver { items }));
        }
    }
    parts
}

/// Where a client's request to a room goes.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made, and never kept"
)]
pub enum ClientAsk {
    /// To the room, which is this provider's.
    Here(RoomUri, room::Request),
    /// To the room's hub.
    Peer(ProviderId, link::Request),
}

/// Lets in a client's request to a room.
///
/// # Errors
/// [`DoorRefused::SenderNotBound`] when it makes a room that would be another provider's, or asks for another client or
/// about another room than it says.
pub fn of_client(
    own: &ProviderId,
    client: &ClientUri,
    room: RoomUri,
    request: room::Request,
) -> Result<ClientAsk, DoorRefused> {
    let here = room.hub() == own;
    let flaw = if !here && matches!(request, room::Request::Create(_)) {
        Some("a room is created at the provider that its name says")
    } else if !is_of(&request, &room, client) {
        Some("a request names the client of this connection, and the room that it goes to")
    } else {
        None
    };
    if let Some(flaw) = flaw {
        let detail = BText::clipped(flaw);
        return Err(DoorRefused::SenderNotBound { detail });
    }
    if here {
        return Ok(ClientAsk::Here(room, request));
    }
    let hub = room.hub().clone();
    let client = client.clone();
    let request = link::Request::Room {
        room,
        client,
        request,
    };
    Ok(ClientAsk::Peer(hub, request))
}

/// Whether whoever a request names, under a signature of its own, is who makes it, and the room the one that it goes to.
fn is_of(request: &room::Request, room: &RoomUri, client: &ClientUri) -> bool {
    match request {
        room::Request::GroupInfo(request) => request.joiner == *client && request.room == *room,
        room::Request::Create(_)
        | room::Request::Commit(_)
        | room::Request::Propose(_)
        | room::Request::Codes(_) => true,
    }
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
    terms: &Terms,
) -> Result<StoredPackage, PackageRefused> {
    let facts = check_key_package(&package, client, now, terms).map_err(|refused| {
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
