//! The last-resort KeyPackage of a client: what is given when there is nothing else, if the provider gives it at all.
//!
//! Promises: it goes to each hub at most once, is not part of the stock, and its owner is told to make another as soon
//! as it was given. Not here: whether it may be given, which the claim's rules say.
//!
//! Source: transport requirements, section 3.1.

use super::{
    command::{Claim, StoredPackage},
    stock::suits,
};
use crate::{ids::ProviderId, limits::LAST_RESORT_HUBS_MAX, machine::Millis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A last-resort package, and who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastResort {
    package: StoredPackage,
    /// The hubs that got it.
    given: BTreeSet<ProviderId>,
}

impl LastResort {
    pub(super) fn new(package: StoredPackage) -> Self {
        Self {
            package,
            given: BTreeSet::new(),
        }
    }

    pub(super) fn package(&self) -> &StoredPackage {
        &self.package
    }

    /// Gives it for a claim, if it fits and the claim's hub has not got it; and whether it is the first time.
    pub(super) fn give(&mut self, claim: &Claim, time: Millis) -> Option<(StoredPackage, bool)> {
        let fits = claim.rules.allow_last_resort
            && self.package.is_valid(time)
            && suits(&self.package, &claim.terms);
        let given = self.given.contains(&claim.hub);
        if !fits || given || self.given.len() >= LAST_RESORT_HUBS_MAX {
            return None;
        }
        let first = self.given.is_empty();
        self.given.insert(claim.hub.clone());
        Some((self.package.clone(), first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        user::{
            command::Rules,
            testing::{Log, alice, claim, client, got, none, note, package, packages},
        },
        wire::{
            claim::{ClaimTerms, ClientRefused::Exhausted},
            door::PackageRefused,
            post::Note,
        },
    };

    fn last_resort(number: u64) -> StoredPackage {
        StoredPackage {
            last_resort: true,
            ..package(number)
        }
    }

    fn from(id: u8, hub: &str, allowed: bool) -> Claim {
        let rules = Rules {
            allow_last_resort: allowed,
            ..Rules::default()
        };
        Claim {
            hub: hub.parse().unwrap(),
            rules,
            ..claim(id, ClaimTerms::new(alice()))
        }
    }

    fn bobby() -> Log {
        let mut bobby = Log::bobby(&["phone"]);
        let taken = bobby.upload(&client("phone"), vec![last_resort(1), package(2)]);
        assert_eq!(taken, [Ok(()), Ok(())]);
        bobby
    }

    #[test]
    fn it_is_not_stock_and_not_given_unless_the_provider_allows_it() {
        let mut bobby = bobby();
        assert_eq!(bobby.fold.stock(&client("phone")), 1);
        let mut claimed = |id| packages(&bobby.claim(from(id, "a.example", false)));
        assert_eq!(claimed(1), [got("phone", 2)]);
        assert_eq!(claimed(2), [none("phone", Exhausted)]);
    }

    #[test]
    fn each_hub_gets_it_once_and_the_owner_is_told_once() {
        let mut bobby = bobby();
        let mut claimed = |id, hub| packages(&bobby.claim(from(id, hub, true)));
        assert_eq!(claimed(1, "a.example"), [got("phone", 2)]);
        assert_eq!(claimed(2, "a.example"), [got("phone", 1)]);
        assert_eq!(claimed(3, "a.example"), [none("phone", Exhausted)]);
        assert_eq!(claimed(4, "h.example"), [got("phone", 1)]);
        assert_eq!(claimed(2, "a.example"), [got("phone", 1)], "a retry");
        bobby.restart();
        let mut claimed = |id, hub| packages(&bobby.claim(from(id, hub, true)));
        assert_eq!(claimed(5, "h.example"), [none("phone", Exhausted)]);
        let used = |note: &Note| *note == Note::LastResortUsed;
        assert_eq!(note(&bobby, "phone").iter().filter(|n| used(n)).count(), 1);
    }

    #[test]
    fn a_new_one_takes_its_place_and_the_old_one_does_not_come_back() {
        let mut bobby = bobby();
        let phone = client("phone");
        assert_eq!(
            bobby.upload(&phone, vec![last_resort(1)]),
            [Ok(())],
            "a retry"
        );
        assert_eq!(bobby.upload(&phone, vec![last_resort(3)]), [Ok(())]);
        let again = bobby.upload(&phone, vec![last_resort(1), package(1), package(3)]);
        let gone = || Err(PackageRefused::Duplicate);
        assert_eq!(
            again,
            [gone(), gone(), Ok(())],
            "the last one is the same again"
        );
        bobby.claim(from(1, "a.example", true)).unwrap();
        let claimed = bobby.claim(from(2, "a.example", true));
        assert_eq!(packages(&claimed), [got("phone", 3)]);
        assert_eq!(bobby.fold.stock(&phone), 0);
    }

    #[test]
    fn it_must_fit_and_be_valid_like_any_other() {
        let mut bobby = Log::bobby(&["phone"]);
        let of_suite = StoredPackage {
            ciphersuite: 3,
            ..last_resort(1)
        };
        bobby.upload(&client("phone"), vec![of_suite]);
        let claimed = bobby.claim(from(1, "a.example", true));
        assert_eq!(packages(&claimed), [none("phone", Exhausted)]);
        bobby.upload(&client("phone"), vec![last_resort(2)]);
        bobby.wait(25 * 3_600 * 1_000);
        let claimed = bobby.claim(from(2, "a.example", true));
        assert_eq!(packages(&claimed), [none("phone", Exhausted)]);
    }
}
