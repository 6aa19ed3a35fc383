//! The KeyPackages of one client that wait to be claimed.
//!
//! Owns: the packages the client uploaded, and which of them suits a claim. Promises: what is taken is gone from the
//! stock. Not here: consent, which the user decides first; validity of a package, which `mls` decides.
//!
//! Source: transport requirements, section 3.1.

use super::command::StoredPackage;
use crate::{
    limits::KEY_PACKAGES_PER_CLIENT_MAX,
    machine::Millis,
    wire::claim::{ClaimTerms, ClientRefused},
};
use serde::{Deserialize, Serialize};

/// The version of MLS that is meant when a claim names none, and the only one there is.
pub(super) const MLS10: u16 = 1;
/// The ciphersuite that is meant when a claim names none.
const DEFAULT_CIPHERSUITE: u16 = 1;
/// The last of the extension types that RFC 9420 makes every client support.
const DEFAULT_EXTENSION_LAST: u16 = 5;
/// The last of the proposal types that RFC 9420 makes every client support.
const DEFAULT_PROPOSAL_LAST: u16 = 7;

/// The unclaimed packages of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stock {
    /// Oldest upload first.
    packages: Vec<StoredPackage>,
    /// How many there were after the last upload.
    filled: u32,
    /// Whether the owner knows that few are left.
    warned: bool,
}

impl Stock {
    pub(super) fn len(&self) -> usize {
        self.packages.len()
    }

    pub(super) fn packages(&self) -> &[StoredPackage] {
        &self.packages
    }

    /// Whether this very package is here.
    pub(super) fn holds(&self, package: &StoredPackage) -> bool {
        self.packages
            .iter()
            .any(|held| held.package == package.package)
    }

    /// Whether a package of the same reference or init key is here.
    pub(super) fn shares_key(&self, package: &StoredPackage) -> bool {
        self.packages
            .iter()
            .any(|held| held.reference == package.reference || held.init_key == package.init_key)
    }

    pub(super) fn is_full(&self) -> bool {
        self.packages.len() >= KEY_PACKAGES_PER_CLIENT_MAX
    }

    /// Adds a package; the stock must not be full.
    pub(super) fn put(&mut self, package: StoredPackage) {
        debug_assert!(!self.is_full(), "a package was put into a full stock");
        self.packages.push(package);
    }

    /// The owner has uploaded.
    pub(super) fn refilled(&mut self) {
        self.filled = u32::try_from(self.packages.len()).unwrap_or(u32::MAX);
        self.warned = false;
    }

    /// How many packages `percent` of a full stock are.
    fn share(&self, percent: u8) -> usize {
        self.filled as usize * usize::from(percent.min(100)) / 100
    }

    /// How many packages are left, when the owner should hear that they are few and has not heard it yet.
    pub(super) fn warns(&mut self, percent: u8) -> Option<u32> {
        let low = self.filled > 0 && self.packages.len() <= self.share(percent);
        let warned = self.warned;
        self.warned |= low;
        (low && !warned).then(|| u32::try_from(self.packages.len()).unwrap_or(u32::MAX))
    }

    /// Whether a claim with these terms would get something.
    pub(super) fn has(&self, terms: &ClaimTerms, time: Millis) -> bool {
        self.packages
            .iter()
            .any(|package| package.is_valid(time) && suits(package, terms))
    }

    pub(super) fn drop_expired(&mut self, time: Millis) {
        self.packages.retain(|package| !package.is_expired(time));
    }

    /// Takes one package that fits: of the best ciphersuite, and of those the oldest. The last `reserve_percent` of the
    /// stock are not taken.
    ///
    /// # Errors
    /// [`ClientRefused`] tells a client without packages from one whose packages do not fit.
    pub(super) fn take(
        &mut self,
        terms: &ClaimTerms,
        time: Millis,
        reserve_percent: u8,
    ) -> Result<StoredPackage, ClientRefused> {
        self.drop_expired(time);
        let any = self.packages.iter().any(|package| package.is_valid(time));
        if !any || self.packages.len() <= self.share(reserve_percent) {
            return Err(ClientRefused::Exhausted);
        }
        let suites = or_default(&terms.ciphersuites, &[DEFAULT_CIPHERSUITE]);
        let rank = |suite: u16| suites.iter().position(|listed| *listed == suite);
        let fitting = self
            .packages
            .iter()
            .enumerate()
            .filter_map(|(place, package)| {
                let rank = rank(package.ciphersuite)?;
                (package.is_valid(time) && fits(package, terms)).then_some((rank, place))
            });
        let best = fitting.min();
        best.map(|(_, place)| self.packages.remove(place))
            .ok_or(ClientRefused::NoneCompatible)
    }
}

/// Whether a package has all that the terms ask for, its lifetime apart.
pub(super) fn suits(package: &StoredPackage, terms: &ClaimTerms) -> bool {
    or_default(&terms.ciphersuites, &[DEFAULT_CIPHERSUITE]).contains(&package.ciphersuite)
        && fits(package, terms)
}

/// Whether a package has what the terms ask for, its ciphersuite and lifetime apart.
fn fits(package: &StoredPackage, terms: &ClaimTerms) -> bool {
    // The lists are sorted since the upload: long ones on both sides must not cost their product.
    let lists = |kinds: &[u16], kind: &u16| kinds.binary_search(kind).is_ok();
    let extension = |kind: &u16| {
        (1..=DEFAULT_EXTENSION_LAST).contains(kind) || lists(&package.extensions, kind)
    };
    let proposal =
        |kind: &u16| (1..=DEFAULT_PROPOSAL_LAST).contains(kind) || lists(&package.proposals, kind);
    let credential = |kind: &u16| lists(&package.credentials, kind);
    or_default(&terms.versions, &[MLS10]).contains(&package.version)
        && real(&terms.required_extensions).all(extension)
        && real(&terms.required_proposals).all(proposal)
        && real(&terms.required_credentials).all(credential)
}

/// The list, or what is meant by an empty one.
pub(super) fn or_default<'a>(listed: &'a [u16], default: &'a [u16]) -> &'a [u16] {
    if listed.is_empty() { default } else { listed }
}

/// The types that are not GREASE: nobody supports those, and naming them requires nothing.
fn real(kinds: &[u16]) -> impl Iterator<Item = &u16> {
    kinds.iter().filter(|kind| !is_grease(**kind))
}

/// Whether a value is one of 0x0A0A, 0x1A1A … 0xEAEA.
fn is_grease(kind: u16) -> bool {
    let [high, low] = kind.to_be_bytes();
    high == low && low & 0x0f == 0x0a && low != 0xfa
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        limits::KEY_PACKAGE_SKEW_MS,
        user::{
            command::Claim,
            testing::{
                Log, NOW, alice, claim, client, got, none, note, package, packages, room, user,
            },
        },
        wire::{BVec, post::Note},
    };

    /// What a claim with these terms gets of a phone that holds these packages.
    fn claimed(
        stock: Vec<StoredPackage>,
        terms: impl FnOnce(&mut ClaimTerms),
    ) -> Vec<(String, Result<crate::wire::Payload, ClientRefused>)> {
        let mut bobby = Log::bobby(&["phone"]);
        assert!(
            bobby
                .upload(&client("phone"), stock)
                .iter()
                .all(Result::is_ok)
        );
        let mut wanted = ClaimTerms::new(alice());
        terms(&mut wanted);
        packages(&bobby.claim(claim(1, wanted)))
    }

    fn of_suite(number: u64, ciphersuite: u16) -> StoredPackage {
        StoredPackage {
            ciphersuite,
            ..package(number)
        }
    }

    #[test]
    fn the_order_of_ciphersuites_decides_and_then_the_oldest_package() {
        let stock = || {
            vec![
                of_suite(1, 1),
                of_suite(2, 3),
                of_suite(3, 2),
                of_suite(4, 2),
            ]
        };
        let suites = |suites: &[u16]| {
            let suites = BVec::try_from(suites.to_vec()).unwrap();
            claimed(stock(), move |terms| terms.ciphersuites = suites)
        };
        assert_eq!(suites(&[]), [got("phone", 1)]);
        assert_eq!(suites(&[2, 1]), [got("phone", 3)]);
        assert_eq!(suites(&[7, 3, 2]), [got("phone", 2)]);
        assert_eq!(suites(&[7]), [none("phone", ClientRefused::NoneCompatible)]);
    }

    #[test]
    fn a_better_suite_that_lacks_a_capability_gives_way_to_the_next() {
        let able = StoredPackage {
            extensions: vec![9],
            ..of_suite(2, 1)
        };
        let result = claimed(vec![of_suite(1, 2), able], |terms| {
            terms.ciphersuites = BVec::from([2, 1]);
            terms.required_extensions = BVec::from([9]);
        });
        assert_eq!(result, [got("phone", 2)]);
    }

    #[test]
    fn every_required_capability_must_be_there_but_grease_and_defaults() {
        let able = || StoredPackage {
            extensions: vec![0xf001, 9],
            proposals: vec![8],
            credentials: vec![2, 1],
            ..package(1)
        };
        let list = |kinds: &[u16]| BVec::try_from(kinds.to_vec()).unwrap();
        let result = claimed(vec![able()], |terms| {
            terms.required_extensions = list(&[0xf001, 0x0a0a, 3, 5, 9]);
            terms.required_proposals = list(&[8, 0xeaea, 1]);
            terms.required_credentials = list(&[2, 0x5a5a]);
        });
        assert_eq!(result, [got("phone", 1)]);
        let misses: [fn(&mut ClaimTerms); 5] = [
            |terms| terms.required_extensions = BVec::from([6]),
            |terms| terms.required_proposals = BVec::from([9]),
            |terms| terms.required_credentials = BVec::from([3]),
            |terms| terms.required_extensions = BVec::from([0xfafa]),
            |terms| terms.required_extensions = BVec::from([0x0a1a]),
        ];
        for miss in misses {
            let result = claimed(vec![able()], miss);
            assert_eq!(result, [none("phone", ClientRefused::NoneCompatible)]);
        }
    }

    #[test]
    fn a_version_must_be_listed_and_none_listed_means_the_first() {
        let versions = |versions: &[u16]| {
            let versions = BVec::try_from(versions.to_vec()).unwrap();
            claimed(vec![package(1)], move |terms| terms.versions = versions)
        };
        assert_eq!(versions(&[]), [got("phone", 1)]);
        assert_eq!(versions(&[2, 1]), [got("phone", 1)]);
    }

    #[test]
    fn a_package_is_not_handed_out_in_its_last_moments() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", [1, 2]);
        let end = package(1).not_after_s * 1_000;
        bobby.wait(end - KEY_PACKAGE_SKEW_MS - 1 - NOW.0);
        assert_eq!(packages(&bobby.claim_plain(1)), [got("phone", 1)]);
        bobby.wait(1);
        assert_eq!(
            packages(&bobby.claim_plain(2)),
            [none("phone", ClientRefused::Exhausted)]
        );
        assert_eq!(bobby.fold.stock(&client("phone")), 0);
    }

    #[test]
    fn a_package_is_not_handed_out_before_its_time() {
        let not_before_s = NOW.as_seconds() + 10;
        let early = StoredPackage {
            not_before_s,
            ..package(1)
        };
        let mut bobby = Log::bobby(&["phone"]);
        bobby.upload(&client("phone"), vec![early]);
        assert_eq!(
            packages(&bobby.claim_plain(1)),
            [none("phone", ClientRefused::Exhausted)]
        );
        bobby.wait(10_000);
        assert_eq!(packages(&bobby.claim_plain(2)), [got("phone", 1)]);
    }

    /// A claim of alice for the den, whom bobby lets add him to that room alone.
    fn for_den(id: u8) -> Claim {
        let terms = ClaimTerms {
            room: Some(room("den")),
            ..ClaimTerms::new(alice())
        };
        claim(id, terms)
    }

    #[test]
    fn the_last_tenth_of_a_stock_is_for_those_with_consent_at_large() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", 0..20);
        bobby.consent(alice(), None, None);
        bobby.consent(alice(), Some(room("den")), Some(true));
        for id in 0..18 {
            assert_eq!(
                packages(&bobby.claim(for_den(id))),
                [got("phone", id.into())]
            );
        }
        let nothing = [none("phone", ClientRefused::Exhausted)];
        assert_eq!(packages(&bobby.claim(for_den(18))), nothing);
        bobby.consent(alice(), None, Some(true));
        assert_eq!(packages(&bobby.claim(for_den(19))), [got("phone", 18)]);
        let mut own = for_den(20);
        own.terms.requester = user("bobby").into();
        assert_eq!(packages(&bobby.claim(own)), [got("phone", 19)]);
    }

    #[test]
    fn the_owner_hears_once_that_its_stock_is_low_and_again_after_a_refill() {
        let mut bobby = Log::bobby(&["phone", "tablet"]);
        bobby.stock("phone", 0..10);
        for id in 0..7 {
            bobby.claim_plain(id).unwrap();
        }
        assert_eq!(note(&bobby, "phone"), []);
        for id in 7..12 {
            bobby.claim_plain(id).unwrap();
        }
        bobby.restart();
        let low = |left| Note::LowStock { left };
        assert_eq!(note(&bobby, "phone"), [low(2)]);
        assert_eq!(note(&bobby, "tablet"), [], "it never had any");
        bobby.stock("phone", 20..25);
        for id in 12..17 {
            bobby.claim_plain(id).unwrap();
        }
        assert_eq!(note(&bobby, "phone"), [low(2), low(1)]);
    }

    #[test]
    fn an_expired_stock_is_a_low_one() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", 0..10);
        bobby.wait(25 * 3_600 * 1_000);
        bobby.claim_plain(1).unwrap();
        assert_eq!(note(&bobby, "phone"), [Note::LowStock { left: 0 }]);
    }
}
