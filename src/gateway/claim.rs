//! A client's claim: one request to each provider that is named, one table of results.
//!
//! Source: transport requirements, section 3.1.

use super::Session;
use crate::{cluster::claims, peering::PEER_RETRY_AFTER_MS};
use futures::future::join_all;
use mimi_actors::{
    doors,
    ids::{ClientUri, ProviderId},
    wire::{
        claim::{ClaimRequest, ClaimedUser},
        door::{DoorRefused, Reply},
        link,
    },
};

/// Answers a claim for users of any providers, in the order of the request.
pub(super) async fn answer(
    session: &Session,
    client: &ClientUri,
    request: ClaimRequest,
) -> Result<Reply, DoorRefused> {
    let asked = request.users.clone();
    let parts = doors::split_claim(client, request)?
        .into_iter()
        .map(|(provider, part)| claim_of(session, provider, part));
    let claimed = join_all(parts).await.into_iter().flatten().collect();
    Ok(Reply::Claimed(doors::merge_claim(&asked, claimed)))
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
    let claimed = match reply {
        Ok(link::Reply::Claimed(response)) => response.users.into_vec(),
        Ok(link::Reply::Room(_) | link::Reply::Introduced(_) | link::Reply::Refused(_))
        | Err(_) => Vec::new(),
    };
    doors::complete_claim(&asked, claimed, PEER_RETRY_AFTER_MS)
}
