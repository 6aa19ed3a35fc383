//! A claim at the provider of the claimed users: its signatures, its split by user, its answer in the order asked.
//!
//! Every part carries the claim's id and is atomic in its user's shard; a part without an answer is `Unavailable`,
//! which is never recorded, so that a retry completes the claim. Promises: nobody is claimed whom the requester did not
//! sign for; where refusals are folded, a refusal takes as long as any other, whatever its reason.
//!
//! Source: transport requirements, section 3.1.

use crate::cluster::shard::shards::Shards;
use futures::future::join_all;
use mimi_actors::{
    doors,
    ids::UserUri,
    mls::check::claim::signed,
    user::{
        command::{Claim, Command},
        outcome::{Answer, Claimed},
    },
    wire::{
        BVec,
        claim::{ClaimRequest, ClaimResponse, ClaimedUser, UserRefused},
        refusal::TryLater,
    },
};
use std::time::Duration;
use tokio::{sync::oneshot, time::Instant};

/// Users of one claim that are asked at a time.
const USERS_AT_ONCE: usize = 128;
/// How long a claim with a folded refusal takes at least: longer than it takes to find out why.
const FOLDED_ANSWER_AFTER: Duration = Duration::from_millis(50);

/// Claims packages of users of this provider for a requester whose key is vouched for.
pub(crate) async fn claim(shards: &Shards, request: &ClaimRequest) -> ClaimResponse {
    let began = Instant::now();
    let rules = &shards.environment().rules;
    let Some(signed) = check(shards, request).await else {
        return doors::refuse_claim(&request.users, UserRefused::TryLater(TryLater::UNANSWERED));
    };
    let unsigned: Vec<&UserUri> = request
        .users
        .iter()
        .zip(signed)
        .filter_map(|(user, signed)| (!signed).then_some(user))
        .collect();
    let parts = doors::claims(&shards.environment().provider, request, rules);
    let mut users = Vec::with_capacity(parts.len());
    let mut parts = parts.into_iter().peekable();
    while parts.peek().is_some() {
        let some = parts.by_ref().take(USERS_AT_ONCE).map(|(user, claim)| {
            let claim = match claim {
                Ok(_) if unsigned.contains(&&user) => Err(UserRefused::Unsigned),
                other => other,
            };
            async move {
                let result = match claim {
                    Ok(claim) => claim_one(shards, &user, claim).await,
                    Err(refused) => Err(refused),
                };
                ClaimedUser { user, result }
            }
        });
        users.extend(join_all(some).await);
    }
    let folded = |claimed: &ClaimedUser| claimed.result == Err(UserRefused::NoConsent);
    if rules.folded && users.iter().any(folded) {
        tokio::time::sleep_until(began + FOLDED_ANSWER_AFTER).await;
    }
    ClaimResponse {
        users: BVec::truncated(doors::fitting(users)),
    }
}

/// Checks the signatures on a worker; `None` when none is free.
async fn check(shards: &Shards, request: &ClaimRequest) -> Option<Vec<bool>> {
    let (give, take) = oneshot::channel();
    let request = request.clone();
    let job = move || signed(&request);
    // Whoever asked may have stopped waiting.
    let then = move |checked: Option<Vec<bool>>| drop(give.send(checked));
    shards.environment().workers.run(job, then).ok()?;
    take.await.ok().flatten()
}

async fn claim_one(shards: &Shards, user: &UserUri, claim: Claim) -> Claimed {
    match shards.ask_user(user, Command::Claim(claim)).await {
        Ok(Answer::Claimed(result)) => result,
        Ok(_) | Err(_) => Err(UserRefused::TryLater(TryLater::UNANSWERED)),
    }
}
