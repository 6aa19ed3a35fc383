//! How often requesters and providers claim in one shard, whoever's packages.
//!
//! Follows from the log: each claim that was counted in it counts here, so a new leader goes on where the last one was.
//! The leader looks before it takes a claim; what is under way meanwhile is let through, so the limit is met but for
//! that. Not here: the limits of a single user, which its fold keeps.
//!
//! Source: transport requirements, section 3.1.

use crate::{
    bucket::{Buckets, retry_after_of},
    ids::{ProviderId, Requester},
    limits::CLAIMANTS_COUNTED_PER_SHARD_MAX,
    machine::Millis,
    user::command::Claim,
};
use serde::{Deserialize, Serialize};

/// What is left of the claims in one shard, and how much was handed out in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spending {
    requesters: Buckets<Requester>,
    providers: Buckets<ProviderId>,
    handed_out: u64,
}

impl Spending {
    /// When the claim may be made, in milliseconds; `None` when now.
    #[must_use]
    pub fn wait_ms(&self, time: Millis, claim: &Claim) -> Option<u32> {
        let (rules, terms) = (&claim.rules, &claim.terms);
        let requester = self
            .requesters
            .wait_ms(&terms.requester, rules.requester, time);
        let provider = self.providers.wait_ms(&claim.peer, rules.provider, time);
        requester.max(provider).map(retry_after_of)
    }

    /// Counts a claim that got `packages`.
    pub(super) fn count(&mut self, time: Millis, claim: &Claim, packages: u32) {
        let (rules, terms) = (&claim.rules, &claim.terms);
        let max = CLAIMANTS_COUNTED_PER_SHARD_MAX;
        self.requesters
            .take(&terms.requester, 1, rules.requester, time, max);
        self.providers
            .take(&claim.peer, 1, rules.provider, time, max);
        self.handed_out = self.handed_out.saturating_add(u64::from(packages));
    }

    /// Packages handed out so far.
    #[must_use]
    pub fn handed_out(&self) -> u64 {
        self.handed_out
    }
}
