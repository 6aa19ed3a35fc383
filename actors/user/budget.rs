//! How often a user may be claimed: by one requester, through one provider, in all.
//!
//! Promises: the count is part of the user and outlives whoever leads; a claim that is refused here uses nothing up.
//! Not here: how often one requester or provider claims of all users, which the shard counts.
//!
//! Source: transport requirements, section 3.1.

use super::command::Claim;
use crate::{
    bucket::{Bucket, Buckets, retry_after_of},
    ids::{ProviderId, Requester},
    limits::CLAIMANTS_COUNTED_PER_USER_MAX,
    machine::Millis,
};
use serde::{Deserialize, Serialize};

/// What is left of the claims on one user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Budgets {
    requesters: Buckets<Requester>,
    providers: Buckets<ProviderId>,
    all: Bucket,
}

impl Budgets {
    /// When the claim may be made, in milliseconds; `None` when now.
    pub(super) fn wait_ms(&self, time: Millis, claim: &Claim) -> Option<u32> {
        let rules = &claim.rules;
        let requester =
            self.requesters
                .wait_ms(&claim.terms.requester, rules.requester_on_user, time);
        let provider = self
            .providers
            .wait_ms(&claim.peer, rules.provider_on_user, time);
        let all = self.all.wait_ms(rules.user, time);
        let here = [requester, provider, all].into_iter().flatten().max();
        here.map(retry_after_of).max(claim.over_ms)
    }

    /// Counts a claim.
    pub(super) fn count(&mut self, time: Millis, claim: &Claim) {
        let (rules, max) = (&claim.rules, CLAIMANTS_COUNTED_PER_USER_MAX);
        self.requesters.take(
            &claim.terms.requester,
            1,
            rules.requester_on_user,
            time,
            max,
        );
        self.providers
            .take(&claim.peer, 1, rules.provider_on_user, time, max);
        self.all.take(1, rules.user, time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bucket::Rate,
        ids::UserUri,
        user::{
            command::Rules,
            testing::{Log, alice, claim, client, user},
        },
        wire::claim::{ClaimTerms, UserRefused},
    };

    const RATE: Rate = Rate {
        burst: 2,
        per_minute: 6,
    };
    const PLENTY: Rate = Rate {
        burst: 1_000,
        per_minute: 60_000,
    };

    fn plenty() -> Rules {
        Rules {
            requester_on_user: PLENTY,
            provider_on_user: PLENTY,
            user: PLENTY,
            ..Rules::default()
        }
    }

    /// What the claims of these requesters got, one after the other, under these rules: packages, or a wait.
    fn claims(bobby: &mut Log, rules: Rules, ids: std::ops::Range<u8>, who: &[&str]) -> Vec<u32> {
        let mut waits = Vec::new();
        for (id, who) in ids.zip(who.iter().cycle()) {
            let requester: UserUri = who.parse().unwrap();
            let claim = Claim {
                rules,
                ..claim(id, ClaimTerms::new(requester))
            };
            waits.push(match bobby.claim(claim) {
                Ok(_) => 0,
                Err(UserRefused::Limited { retry_after_ms }) => retry_after_ms,
                Err(refused) => panic!("{refused}"),
            });
        }
        waits
    }

    fn bobby(requesters: &[&str]) -> Log {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", 0..100);
        for requester in requesters {
            let requester: UserUri = requester.parse().unwrap();
            bobby.consent(requester, None, Some(true));
        }
        bobby
    }

    const ALICE: &str = "mimi://a.example/u/alice";
    const AMY: &str = "mimi://a.example/u/amy";
    const CATHY: &str = "mimi://c.example/u/cathy";

    #[test]
    fn a_requester_that_claims_too_often_waits_and_the_others_do_not() {
        let mut bobby = bobby(&[ALICE, AMY]);
        let rules = Rules {
            requester_on_user: RATE,
            ..plenty()
        };
        assert_eq!(claims(&mut bobby, rules, 0..3, &[ALICE]), [0, 0, 10_000]);
        assert_eq!(bobby.fold.stock(&client("phone")), 98);
        assert_eq!(claims(&mut bobby, rules, 3..4, &[AMY]), [0]);
        bobby.wait(10_000);
        assert_eq!(claims(&mut bobby, rules, 4..6, &[ALICE]), [0, 10_000]);
    }

    #[test]
    fn a_provider_that_claims_too_often_waits_whoever_asks() {
        let mut bobby = bobby(&[ALICE, AMY, CATHY]);
        let rules = Rules {
            provider_on_user: RATE,
            ..plenty()
        };
        assert_eq!(
            claims(&mut bobby, rules, 0..3, &[ALICE, AMY]),
            [0, 0, 10_000]
        );
        assert_eq!(claims(&mut bobby, rules, 3..4, &[CATHY]), [0]);
    }

    #[test]
    fn a_user_is_claimed_only_so_often_by_all_together() {
        let mut bobby = bobby(&[ALICE, CATHY]);
        let rules = Rules {
            user: RATE,
            ..plenty()
        };
        assert_eq!(
            claims(&mut bobby, rules, 0..3, &[ALICE, CATHY]),
            [0, 0, 10_000]
        );
    }

    #[test]
    fn a_retry_costs_nothing_and_gets_its_packages_also_above_the_limit() {
        let mut bobby = bobby(&[ALICE]);
        let rules = Rules {
            requester_on_user: RATE,
            ..plenty()
        };
        let first = Claim {
            rules,
            ..claim(0, ClaimTerms::new(alice()))
        };
        let got = bobby.claim(first.clone());
        assert_eq!(claims(&mut bobby, rules, 1..3, &[ALICE]), [0, 10_000]);
        assert_eq!(bobby.claim(first), got);
    }

    #[test]
    fn what_was_used_is_used_after_a_restart_too() {
        let mut bobby = bobby(&[ALICE]);
        let rules = Rules {
            requester_on_user: RATE,
            ..plenty()
        };
        claims(&mut bobby, rules, 0..2, &[ALICE]);
        bobby.restart();
        assert_eq!(claims(&mut bobby, rules, 2..3, &[ALICE]), [10_000]);
    }

    #[test]
    fn own_clients_are_claimed_without_a_limit() {
        let mut bobby = bobby(&[]);
        let rules = Rules {
            user: RATE,
            requester_on_user: RATE,
            provider_on_user: RATE,
            ..plenty()
        };
        let own = user("bobby").to_string();
        assert_eq!(claims(&mut bobby, rules, 0..5, &[&own]), [0; 5]);
    }

    #[test]
    fn what_the_shard_has_counted_holds_too() {
        let mut bobby = bobby(&[ALICE]);
        let over = Claim {
            over_ms: Some(70),
            ..claim(0, ClaimTerms::new(alice()))
        };
        let limited = Err(UserRefused::Limited { retry_after_ms: 70 });
        assert_eq!(bobby.claim(over), limited);
        assert_eq!(bobby.fold.stock(&client("phone")), 100);
    }
}
