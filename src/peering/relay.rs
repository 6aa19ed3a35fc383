//! Claims that pass through the hub of the room they are for: at the hub, and at the provider whose users are wanted.
//!
//! Promises: the hub passes a claim on once, for a room of its own and for a provider that is in it; the provider of the
//! users takes it only when the requester's own provider says that the key which signed is its client's.
//!
//! Source: transport requirements, section 3.1.

use super::Peers;
use crate::cluster::{feeds::claims, shard::shards::Shards};
use futures::future::join_all;
use mimi_actors::{
    doors,
    ids::{ProviderId, Requester, RoomUri},
    wire::{
        claim::{ClaimRequest, ClaimResponse, ClaimedUser, UserRefused},
        link::{Reply, Request},
        refusal::TryLater,
    },
};

const UNAVAILABLE: UserRefused = UserRefused::TryLater(TryLater::PEER_SILENT);

/// At the hub: passes a claim of `peer` on to the providers of the users, one batch for each.
pub(super) async fn pass_on(
    shards: &Shards,
    peers: &Peers,
    peer: &ProviderId,
    room: &RoomUri,
    claim: ClaimRequest,
) -> ClaimResponse {
    match shards.knows(room, peer).await {
        Ok(true) => {}
        Ok(false) => return doors::refuse_claim(&claim.users, UserRefused::NotRelayed),
        Err(_) => return doors::refuse_claim(&claim.users, UNAVAILABLE),
    }
    let asked = claim.users.clone();
    let parts = doors::relay_claim(claim)
        .into_iter()
        .map(|(provider, part)| part_of(shards, peers, provider, part, Request::Relayed));
    let claimed = join_all(parts).await.into_iter().flatten().collect();
    doors::merge_claim(&asked, claimed)
}

/// The part of a claim that one provider answers. A provider that cannot be reached is not one without these users.
pub(crate) async fn part_of(
    shards: &Shards,
    peers: &Peers,
    provider: ProviderId,
    part: ClaimRequest,
    ask: fn(ClaimRequest) -> Request,
) -> Vec<ClaimedUser> {
    if provider == shards.environment().provider {
        return claims::claim(shards, &part).await.users.into_vec();
    }
    let asked = part.users.clone();
    let claimed = match peers.request(&provider, ask(part)).await {
        Ok(Reply::Claimed(response)) => response.users.into_vec(),
        Ok(Reply::Room(_) | Reply::Vouched(_) | Reply::Introduced(_) | Reply::Refused(_))
        | Err(_) => Vec::new(),
    };
    doors::complete_claim(&asked, claimed, TryLater::PEER_SILENT)
}

/// At the provider of the users: takes a claim that the hub of the room passes on.
pub(super) async fn take(shards: &Shards, peers: &Peers, claim: ClaimRequest) -> ClaimResponse {
    match vouched(shards, peers, &claim).await {
        Some(true) => claims::claim(shards, &claim).await,
        Some(false) => doors::refuse_claim(&claim.users, UserRefused::Unsigned),
        None => doors::refuse_claim(&claim.users, UNAVAILABLE),
    }
}

/// Whether the key that signed is the requester's, as its provider says; `None` when that cannot be asked now.
async fn vouched(shards: &Shards, peers: &Peers, claim: &ClaimRequest) -> Option<bool> {
    let key = claim.proof.key;
    let Requester::User(requester) = &claim.terms.requester else {
        // A pseudonym is its key's own, which the check of the signatures sees.
        return Some(true);
    };
    let Some(client) = claim.terms.asking_client.clone() else {
        return Some(false);
    };
    if *requester.provider() == shards.environment().provider {
        let known = shards.device_key(&client).await.ok()?;
        return Some(known == Some(key));
    }
    match peers
        .request(requester.provider(), Request::Vouch { client, key })
        .await
    {
        Ok(Reply::Vouched(vouched)) => Some(vouched),
        Ok(Reply::Claimed(_) | Reply::Room(_) | Reply::Introduced(_) | Reply::Refused(_))
        | Err(_) => None,
    }
}
