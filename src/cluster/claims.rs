//! A claim at the provider of the claimed users: split by user, merged in the order of the request.
//!
//! Every part carries the claim's id and is atomic in its user's shard; a part without an answer is `Unavailable`,
//! which is never recorded, so that a retry completes the claim.
//!
//! Source: transport requirements, section 3.1.

use super::shards::{Shards, UNANSWERED_RETRY_AFTER_MS};
use futures::future::join_all;
use mimi_actors::{
    ids::{ProviderId, UserUri},
    limits::CLAIM_USERS_MAX,
    user::{
        command::{Claim, Command},
        outcome::Answer,
    },
    wire::{
        self, BVec,
        claim::{ClaimRequest, ClaimResponse, ClaimedUser, UserRefused},
        event::Hash,
    },
};

/// Claims packages of users of this provider for `peer`, who is authenticated.
pub(crate) async fn claim(
    shards: &Shards,
    peer: &ProviderId,
    request: &ClaimRequest,
) -> ClaimResponse {
    let body = Hash::of(&wire::encode(&request.terms));
    let mut asked: Vec<&UserUri> = Vec::new();
    for user in &request.users {
        if !asked.contains(&user) {
            asked.push(user);
        }
    }
    let parts = asked.into_iter().map(|user| async move {
        let claim = Claim {
            id: request.id,
            peer: peer.clone(),
            terms: request.terms.clone(),
            body,
        };
        ClaimedUser {
            user: user.clone(),
            result: claim_one(shards, user, claim).await,
        }
    });
    let users: BVec<ClaimedUser, CLAIM_USERS_MAX> = BVec::truncated(join_all(parts).await);
    ClaimResponse { users }
}

async fn claim_one<const MAX: usize>(
    shards: &Shards,
    user: &UserUri,
    claim: Claim,
) -> Result<BVec<mimi_actors::wire::claim::ClaimedClient, MAX>, UserRefused> {
    if *user.provider() != shards.world().provider {
        return Err(UserRefused::ForeignUser);
    }
    let unavailable = UserRefused::Unavailable {
        retry_after_ms: UNANSWERED_RETRY_AFTER_MS,
    };
    match shards.ask_user(user, Command::Claim(claim)).await {
        Ok(Answer::Claimed(result)) => result.map(|clients| BVec::truncated(clients.into_vec())),
        Ok(_) | Err(_) => Err(unavailable),
    }
}
