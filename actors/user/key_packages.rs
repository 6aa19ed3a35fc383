//! Uploads of KeyPackages: what is taken into the stock of a client.
//!
//! Promises: neither a package nor an init key is taken twice among all clients of the user, also when it is gone; the
//! same upload again is fine as long as its packages lie in the stock. Not here: validity, which `mls` decides first.
//!
//! Source: transport requirements, section 3.1.

use super::{
    Device, User,
    command::{StoredPackage, Upload},
    last_resort::LastResort,
    outcome::{Answer, Outcome, Refused},
};
use crate::{
    ids::ClientUri,
    limits::KEY_PACKAGES_PER_CLIENT_MAX,
    machine::Millis,
    wire::{BText, door::PackageRefused},
};

impl User {
    pub(super) fn upload(&mut self, time: Millis, upload: &Upload) -> Outcome {
        let Some(device) = self.devices.get_mut(&upload.client) else {
            return Outcome::refused(Refused::NotKnown);
        };
        device.stock.drop_expired(time);
        self.spent.forget_expired(time);
        let before = device.stock.len();
        let mut results = Vec::with_capacity(upload.packages.len());
        for checked in &upload.packages {
            let stored = match checked {
                Ok(package) => self.store(time, &upload.client, package),
                Err(refused) => Err(refused.clone()),
            };
            results.push(stored);
        }
        if let Some(device) = self.devices.get_mut(&upload.client)
            && device.stock.len() > before
        {
            device.stock.refilled();
        }
        Outcome {
            refilled: self.heard_of_upload(time, upload),
            ..Outcome::answer(Answer::Uploaded(results))
        }
    }

    fn store(
        &mut self,
        time: Millis,
        client: &ClientUri,
        package: &StoredPackage,
    ) -> Result<(), PackageRefused> {
        // Also the stock of other clients: two packages with one init key are never both used.
        let in_stock = self
            .devices
            .values()
            .any(|device| device.shares_key(package));
        let used = in_stock || self.spent.knows(package);
        let Some(device) = self.devices.get_mut(client) else {
            return Err(invalid("the client is not enrolled"));
        };
        if device.holds(package) {
            return Ok(());
        }
        if used {
            return Err(PackageRefused::Duplicate);
        }
        if !package.last_resort && device.stock.is_full() {
            let max = u32::try_from(KEY_PACKAGES_PER_CLIENT_MAX).unwrap_or(u32::MAX);
            return Err(PackageRefused::Full { max });
        }
        if package.is_expired(time) {
            return Err(invalid("its lifetime is over"));
        }
        if !package.last_resort {
            device.stock.put(package.shelved());
            return Ok(());
        }
        let fresh = LastResort::new(package.shelved());
        if let Some(old) = device.last_resort.replace(fresh) {
            self.spent.add(old.package());
        }
        Ok(())
    }
}

impl Device {
    /// Whether this very package is here.
    fn holds(&self, package: &StoredPackage) -> bool {
        let last_resort = self.last_resort.as_ref().map(LastResort::package);
        self.stock.holds(package) || last_resort.is_some_and(|held| held.package == package.package)
    }

    /// Whether a package of the same reference or init key is here.
    fn shares_key(&self, package: &StoredPackage) -> bool {
        let last_resort = self.last_resort.as_ref().map(LastResort::package);
        self.stock.shares_key(package)
            || last_resort.is_some_and(|held| {
                held.reference == package.reference || held.init_key == package.init_key
            })
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
    use crate::user::{
        command::Command,
        testing::{Log, NOW, client, package},
    };

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
            Ok(()),
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
    fn an_upload_that_comes_again_is_taken_until_its_packages_are_gone() {
        let mut bobby = Log::bobby(&["phone"]);
        let last_resort = |number| StoredPackage {
            last_resort: true,
            ..package(number)
        };
        let upload = || vec![package(1), package(2), last_resort(3)];
        let phone = client("phone");
        assert_eq!(bobby.upload(&phone, upload()), [Ok(()), Ok(()), Ok(())]);
        assert_eq!(bobby.upload(&phone, upload()), [Ok(()), Ok(()), Ok(())]);
        assert_eq!(bobby.fold.stock(&phone), 2, "each is there once");
        bobby.claim_plain(1).unwrap();
        let gone = || Err(PackageRefused::Duplicate);
        assert_eq!(bobby.upload(&phone, upload()), [gone(), Ok(()), Ok(())]);
        assert_eq!(bobby.upload(&phone, vec![last_resort(4)]), [Ok(())]);
        assert_eq!(bobby.upload(&phone, upload()), [gone(), Ok(()), gone()]);
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
