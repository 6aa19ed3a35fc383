//! A claim at the provider of the claimed users: split by user, merged in the order of the request.
//!
//! Every part carries the claim's id and is atomic in its user's shard; a part without an answer is `Unavailable`,
//! which is never recorded, so that a retry completes the claim.
//!
//! Source: transport requirements, section 3.1.

use super::shards::{Shards, UNANSWERED_RETRY_AFTER_MS};
use futures::future::join_all;
use mimi_actors::{
    doors,
    ids::{ProviderId, UserUri},
    limits::CLAIM_USERS_MAX,
    user::{
        command::{Claim, Command},
        outcome::{Answer, Claimed},
    },
    wire::{
        BVec,
        claim::{ClaimRequest, ClaimResponse, ClaimedUser, UserRefused},
    },
};

/// Claims packages of users of this provider for `peer`, who is authenticated.
pub(crate) async fn claim(
    shards: &Shards,
    peer: &ProviderId,
    request: &ClaimRequest,
) -> ClaimResponse {
    let parts = doors::claims(&shards.world().provider, peer, request)
        .into_iter()
        .map(|(user, claim)| async move {
            let result = match claim {
                Ok(claim) => claim_one(shards, &user, claim).await,
                Err(refused) => Err(refused),
            };
            ClaimedUser { user, result }
        });
    let users: BVec<ClaimedUser, CLAIM_USERS_MAX> = BVec::truncated(join_all(parts).await);
    ClaimResponse { users }
}

async fn claim_one(shards: &Shards, user: &UserUri, claim: Claim) -> Claimed {
    match shards.ask_user(user, Command::Claim(claim)).await {
        Ok(Answer::Claimed(result)) => result,
        Ok(_) | Err(_) => Err(UserRefused::Unavailable {
            retry_after_ms: UNANSWERED_RETRY_AFTER_MS,
        }),
    }
}
