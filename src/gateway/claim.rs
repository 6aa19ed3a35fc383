//! A client's claim: one request to each provider that is named, one table of results.
//!
//! Source: transport requirements, section 3.1.

use super::Session;
use crate::{cluster::claims, peering::PEER_RETRY_AFTER_MS};
use futures::future::join_all;
use mimi_actors::{
    ids::{ClientUri, ProviderId, UserUri},
    wire::{
        BText, BVec,
        claim::{ClaimRequest, ClaimResponse, ClaimedUser, UserRefused},
        door::{DoorRefused, Reply},
        link,
    },
};
use std::collections::BTreeMap;

/// Answers a claim for users of any providers, in the order of the request.
pub(super) async fn answer(
    session: &Session,
    client: &ClientUri,
    mut request: ClaimRequest,
) -> Result<Reply, DoorRefused> {
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
    let parts = providers.into_iter().map(|(provider, users)| {
        let part = ClaimRequest {
            users: BVec::truncated(users),
            ..request.clone()
        };
        claim_of(session, provider, part)
    });
    let mut results: BTreeMap<UserUri, ClaimedUser> = join_all(parts)
        .await
        .into_iter()
        .flatten()
        .map(|claimed| (claimed.user.clone(), claimed))
        .collect();
    let users = request
        .users
        .iter()
        .filter_map(|user| results.remove(user))
        .collect();
    Ok(Reply::Claimed(ClaimResponse {
        users: BVec::truncated(users),
    }))
}

/// The part of a claim that one provider answers. A provider that cannot be reached is not one without these users.
async fn claim_of(session: &Session, provider: ProviderId, part: ClaimRequest) -> Vec<ClaimedUser> {
    if provider == session.shards.world().provider {
        return claims::claim(&session.shards, &provider, &part)
            .await
            .users
            .into_vec();
    }
    let asked = part.users.clone();
    let reply = session
        .peers
        .request(&provider, link::Request::Claim(part))
        .await;
    let mut claimed = match reply {
        Ok(link::Reply::Claimed(response)) => response.users.into_vec(),
        Ok(link::Reply::Room(_) | link::Reply::Refused(_)) | Err(_) => Vec::new(),
    };
    // Nobody is left out, and nobody is put in.
    claimed.retain(|claimed| asked.contains(&claimed.user) && names_its_own(claimed));
    for user in &asked {
        if !claimed.iter().any(|claimed| claimed.user == *user) {
            let unavailable = UserRefused::Unavailable {
                retry_after_ms: PEER_RETRY_AFTER_MS,
            };
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
