//! The KeyPackages of one client that wait to be claimed.
//!
//! Owns: the packages the client uploaded. Promises: what is taken is gone from the stock. Not here: consent, which
//! the user decides first; validity of a package, which `mls` decides.
//!
//! Source: transport requirements, section 3.1.

use super::{
    command::{StoredPackage, Upload},
    fold::User,
    outcome::{Answer, Outcome, Refused},
};
use crate::{
    ids::ClientUri,
    limits::KEY_PACKAGES_PER_CLIENT_MAX,
    machine::Millis,
    wire::{
        BText,
        claim::{ClaimTerms, ClientRefused},
        door::PackageRefused,
    },
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
}

impl Stock {
    pub(super) fn len(&self) -> usize {
        self.packages.len()
    }

    pub(super) fn packages(&self) -> &[StoredPackage] {
        &self.packages
    }

    /// Whether this very package is here.
    fn holds(&self, package: &StoredPackage) -> bool {
        self.packages
            .iter()
            .any(|held| held.package == package.package)
    }

    /// Whether a package of the same reference or init key is here.
    fn shares_key(&self, package: &StoredPackage) -> bool {
        self.packages
            .iter()
            .any(|held| held.reference == package.reference || held.init_key == package.init_key)
    }

    fn drop_expired(&mut self, time: Millis) {
        self.packages.retain(|package| !package.is_expired(time));
    }

    /// Takes one package that fits: of the best ciphersuite, and of those the oldest.
    ///
    /// # Errors
    /// [`ClientRefused`] tells a client without packages from one whose packages do not fit.
    pub(super) fn take(
        &mut self,
        terms: &ClaimTerms,
        time: Millis,
    ) -> Result<StoredPackage, ClientRefused> {
        self.drop_expired(time);
        if !self.packages.iter().any(|package| package.is_valid(time)) {
            return Err(ClientRefused::Exhausted);
        }
        let suites = or_default(&terms.ciphersuites, &[DEFAULT_CIPHERSUITE]);
        let best = suites.iter().find_map(|suite| {
            self.packages.iter().position(|package| {
                package.ciphersuite == *suite && package.is_valid(time) && fits(package, terms)
            })
        });
        best.map(|place| self.packages.remove(place))
            .ok_or(ClientRefused::NoneCompatible)
    }
}

/// Whether a package has what the terms ask for, its ciphersuite and lifetime apart.
fn fits(package: &StoredPackage, terms: &ClaimTerms) -> bool {
    let extension = |kind: &u16| {
        (1..=DEFAULT_EXTENSION_LAST).contains(kind) || package.extensions.contains(kind)
    };
    let proposal =
        |kind: &u16| (1..=DEFAULT_PROPOSAL_LAST).contains(kind) || package.proposals.contains(kind);
    let credential = |kind: &u16| package.credentials.contains(kind);
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

impl User {
    pub(super) fn upload(&mut self, time: Millis, upload: &Upload) -> Outcome {
        let Some(device) = self.devices.get_mut(&upload.client) else {
            return Outcome::refused(Refused::NotKnown);
        };
        device.stock.drop_expired(time);
        self.spent.forget_expired(time);
        let mut results = Vec::with_capacity(upload.packages.len());
        for checked in &upload.packages {
            let stored = match checked {
                Ok(package) => self.store(time, &upload.client, package),
                Err(refused) => Err(refused.clone()),
            };
            results.push(stored);
        }
        Outcome::answer(Answer::Uploaded(results))
    }

    fn store(
        &mut self,
        time: Millis,
        client: &ClientUri,
        package: &StoredPackage,
    ) -> Result<(), PackageRefused> {
        if package.last_resort {
            return Err(PackageRefused::LastResort);
        }
        // Also the stock of other clients: two packages with one init key are never both used.
        let in_stock = self
            .devices
            .values()
            .any(|device| device.stock.shares_key(package));
        let used = in_stock || self.spent.knows(package);
        let Some(device) = self.devices.get_mut(client) else {
            return Err(invalid("the client is not enrolled"));
        };
        let stock = &mut device.stock;
        if stock.holds(package) {
            return Ok(());
        }
        if used {
            return Err(PackageRefused::Duplicate);
        }
        if stock.len() >= KEY_PACKAGES_PER_CLIENT_MAX {
            let max = u32::try_from(KEY_PACKAGES_PER_CLIENT_MAX).unwrap_or(u32::MAX);
            return Err(PackageRefused::Full { max });
        }
        if package.is_expired(time) {
            return Err(invalid("its lifetime is over"));
        }
        stock.packages.push(package.detached());
        Ok(())
    }
}

fn invalid(detail: &str) -> PackageRefused {
    PackageRefused::Invalid {
        detail: BText::clipped(detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        limits::KEY_PACKAGE_SKEW_MS,
        user::{
            command::Command,
            testing::{Log, NOW, alice, claim, client, got, none, package, packages},
        },
        wire::BVec,
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
            let suites = BVec::truncated(suites.to_vec());
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
            terms.ciphersuites = BVec::truncated(vec![2, 1]);
            terms.required_extensions = BVec::truncated(vec![9]);
        });
        assert_eq!(result, [got("phone", 2)]);
    }

    #[test]
    fn every_required_capability_must_be_there_but_grease_and_defaults() {
        let able = || StoredPackage {
            extensions: vec![0xf001],
            proposals: vec![8],
            credentials: vec![1, 2],
            ..package(1)
        };
        let list = |kinds: &[u16]| BVec::truncated(kinds.to_vec());
        let result = claimed(vec![able()], |terms| {
            terms.required_extensions = list(&[0xf001, 0x0a0a, 3, 5]);
            terms.required_proposals = list(&[8, 0xeaea, 1]);
            terms.required_credentials = list(&[2, 0x5a5a]);
        });
        assert_eq!(result, [got("phone", 1)]);
        let misses: [fn(&mut ClaimTerms); 5] = [
            |terms| terms.required_extensions = BVec::truncated(vec![6]),
            |terms| terms.required_proposals = BVec::truncated(vec![9]),
            |terms| terms.required_credentials = BVec::truncated(vec![3]),
            |terms| terms.required_extensions = BVec::truncated(vec![0xfafa]),
            |terms| terms.required_extensions = BVec::truncated(vec![0x0a1a]),
        ];
        for miss in misses {
            let result = claimed(vec![able()], miss);
            assert_eq!(result, [none("phone", ClientRefused::NoneCompatible)]);
        }
    }

    #[test]
    fn a_version_must_be_listed_and_none_listed_means_the_first() {
        let versions = |versions: &[u16]| {
            let versions = BVec::truncated(versions.to_vec());
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

    #[test]
    fn each_package_of_an_upload_has_its_own_result() {
        let mut bobby = Log::bobby(&["phone"]);
        let bad = || invalid("bad signature");
        let last_resort = StoredPackage {
            last_resort: true,
            ..package(2)
        };
        let expired = StoredPackage {
            not_after_s: NOW.as_seconds(),
            ..package(3)
        };
        let packages = vec![
            Err(bad()),
            Ok(package(1)),
            Ok(last_resort),
            Ok(package(1)),
            Ok(expired),
        ];
        let upload = Upload {
            client: client("phone"),
            packages,
        };
        let results = vec![
            Err(bad()),
            Ok(()),
            Err(PackageRefused::LastResort),
            Ok(()),
            Err(invalid("its lifetime is over")),
        ];
        assert_eq!(
            bobby.apply(Command::Upload(upload)).answer,
            Answer::Uploaded(results)
        );
        assert_eq!(bobby.fold.stock(&client("phone")), 1);
    }

    #[test]
    fn an_init_key_or_reference_in_stock_is_taken_once_for_all_clients_of_the_user() {
        let mut bobby = Log::bobby(&["phone", "tablet"]);
        bobby.stock("phone", [1]);
        let same_key = StoredPackage {
            init_key: package(1).init_key,
            ..package(2)
        };
        let same_reference = StoredPackage {
            reference: package(1).reference,
            ..package(3)
        };
        let again = vec![same_key, same_reference];
        for name in ["phone", "tablet"] {
            let results = bobby.upload(&client(name), again.clone());
            assert_eq!(results, vec![Err(PackageRefused::Duplicate); 2]);
        }
        let theirs = bobby.upload(&client("tablet"), vec![package(1)]);
        assert_eq!(theirs, [Err(PackageRefused::Duplicate)]);
    }

    #[test]
    fn a_claimed_package_or_its_init_key_cannot_come_back() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", [1]);
        bobby.claim_plain(1).unwrap();
        bobby.restart();
        let same_key = StoredPackage {
            init_key: package(1).init_key,
            ..package(2)
        };
        let results = bobby.upload(&client("phone"), vec![package(1), same_key]);
        assert_eq!(results, vec![Err(PackageRefused::Duplicate); 2]);
    }

    #[test]
    fn a_full_stock_takes_no_more_but_a_retry_is_still_fine() {
        let mut bobby = Log::bobby(&["phone", "tablet"]);
        let full = KEY_PACKAGES_PER_CLIENT_MAX as u64;
        bobby.stock("phone", 0..full);
        let results = bobby.upload(&client("phone"), vec![package(full), package(5)]);
        assert_eq!(results, [Err(PackageRefused::Full { max: 200 }), Ok(())]);
        bobby.stock("tablet", [full]);
        assert_eq!(
            bobby.fold.stock(&client("phone")),
            KEY_PACKAGES_PER_CLIENT_MAX
        );
    }

    #[test]
    fn expired_packages_make_room_for_others() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", 0..200);
        bobby.wait(25 * 3_600 * 1_000);
        let not_after_s = bobby.time.as_seconds() + 3_600;
        let fresh = StoredPackage {
            not_after_s,
            ..package(300)
        };
        assert_eq!(bobby.upload(&client("phone"), vec![fresh]), [Ok(())]);
        assert_eq!(bobby.fold.stock(&client("phone")), 1);
    }

    #[test]
    fn packages_of_a_client_that_is_not_enrolled_are_not_looked_at() {
        let mut bobby = Log::bobby(&["phone"]);
        let upload = Upload {
            client: client("ghost"),
            packages: vec![Ok(package(1))],
        };
        let answer = bobby.apply(Command::Upload(upload)).answer;
        assert_eq!(answer, Answer::Refused(Refused::NotKnown));
    }
}
