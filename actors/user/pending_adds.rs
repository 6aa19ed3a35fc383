//! Pending adds: clients that somebody claimed for a room, and that had no KeyPackage; the requester is told of the refill.
//!
//! Promises: who claimed for a room and got nothing of a client hears once that it has a package that fits, unless too
//! many others are pending, or it has been for too long. Not here: how the requester is told.
//!
//! Source: transport requirements, section 3.1.

use super::{
    User,
    command::{Claim, Upload},
    stock::Stock,
};
use crate::{
    ids::{ClientUri, Requester},
    limits::{PENDING_ADDS_KEPT_MS, PENDING_ADDS_PER_USER_MAX},
    machine::Millis,
    wire::{claim::ClaimTerms, post::Refilled},
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Adds that wait for a KeyPackage, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PendingAdds {
    entries: VecDeque<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    who: Refilled,
    /// What the package must be good for.
    terms: ClaimTerms,
    since: Millis,
}

impl PendingAdds {
    /// Remembers that `client` had nothing for a claim. A pseudonym has no inbox, and a claim for no room adds nobody.
    pub(super) fn add(&mut self, time: Millis, claim: &Claim, client: &ClientUri) {
        let terms = &claim.terms;
        let (Requester::User(requester), Some(room)) = (&terms.requester, &terms.room) else {
            return;
        };
        let who = Refilled {
            requester: requester.clone(),
            room: room.clone(),
            client: client.clone(),
        };
        self.entries
            .retain(|entry| entry.who != who && entry.is_kept(time));
        if self.entries.len() >= PENDING_ADDS_PER_USER_MAX {
            self.entries.pop_front();
        }
        let terms = terms.clone();
        let since = time;
        self.entries.push_back(Entry { who, terms, since });
    }

    /// `client` was given out for a claim: the add is pending no longer.
    pub(super) fn served(&mut self, claim: &Claim, client: &ClientUri) {
        let (requester, room) = (&claim.terms.requester, &claim.terms.room);
        self.entries.retain(|entry| {
            entry.who.client != *client
                || Some(&entry.who.requester) != requester.user()
                || Some(&entry.who.room) != room.as_ref()
        });
    }

    /// Takes out the adds of `client` for which its stock has a package now.
    fn refilled(&mut self, time: Millis, client: &ClientUri, stock: &Stock) -> Vec<Refilled> {
        self.entries.retain(|entry| entry.is_kept(time));
        let ready = |entry: &Entry| entry.who.client == *client && stock.has(&entry.terms, time);
        let (ready, waiting): (VecDeque<Entry>, _) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(ready);
        self.entries = waiting;
        ready.into_iter().map(|entry| entry.who).collect()
    }

    /// Nobody waits for a client that is gone.
    pub(super) fn forget(&mut self, client: &ClientUri) {
        self.entries.retain(|entry| entry.who.client != *client);
    }
}

impl Entry {
    fn is_kept(&self, time: Millis) -> bool {
        time <= self.since.plus(PENDING_ADDS_KEPT_MS)
    }
}

impl User {
    /// Who is to hear that the client of an upload has packages again.
    pub(super) fn heard_of_upload(&mut self, time: Millis, upload: &Upload) -> Vec<Refilled> {
        let Some(device) = self.devices.get(&upload.client) else {
            return Vec::new();
        };
        self.pending_adds
            .refilled(time, &upload.client, &device.stock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::PseudonymUri,
        user::{
            command::{Command, StoredPackage, Upload},
            testing::{Log, alice, claim, client, package, room},
        },
        wire::BVec,
    };

    fn for_room(id: u8, name: &str) -> Claim {
        claim(
            id,
            ClaimTerms {
                room: Some(room(name)),
                ..ClaimTerms::new(alice())
            },
        )
    }

    /// Who hears of an upload of these packages.
    fn heard(bobby: &mut Log, name: &str, packages: Vec<StoredPackage>) -> Vec<(String, String)> {
        let upload = Upload {
            client: client(name),
            packages: packages.into_iter().map(Ok).collect(),
        };
        let outcome = bobby.apply(Command::Upload(upload));
        let named = |refilled: &Refilled| {
            assert_eq!(refilled.requester, alice());
            let (room, client) = (&refilled.room, &refilled.client);
            (room.room().to_owned(), client.client().to_owned())
        };
        outcome.refilled.iter().map(named).collect()
    }

    fn pair(room: &str, client: &str) -> (String, String) {
        (room.to_owned(), client.to_owned())
    }

    #[test]
    fn who_got_nothing_for_a_room_hears_once_when_the_client_refills() {
        let mut bobby = Log::bobby(&["phone", "tablet"]);
        bobby.stock("tablet", [1]);
        bobby.claim(for_room(1, "den")).unwrap();
        bobby.claim(for_room(2, "den")).unwrap();
        bobby.claim(for_room(3, "club")).unwrap();
        bobby.restart();
        let all = [pair("den", "phone"), pair("club", "phone")];
        assert_eq!(heard(&mut bobby, "phone", vec![package(2)]), all);
        assert_eq!(heard(&mut bobby, "phone", vec![package(3)]), []);
        let tablet = [pair("den", "tablet"), pair("club", "tablet")];
        assert_eq!(heard(&mut bobby, "tablet", vec![package(4)]), tablet);
    }

    #[test]
    fn a_package_that_does_not_fit_is_no_refill() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", [1]);
        let mut wanted = for_room(1, "den");
        wanted.terms.ciphersuites = BVec::from([3]);
        bobby.claim(wanted).unwrap();
        assert_eq!(heard(&mut bobby, "phone", vec![package(2)]), []);
        let fitting = StoredPackage {
            ciphersuite: 3,
            ..package(3)
        };
        let den = [pair("den", "phone")];
        assert_eq!(heard(&mut bobby, "phone", vec![fitting]), den);
    }

    #[test]
    fn nobody_hears_who_has_been_served_or_has_no_room_or_no_name() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.claim_plain(1).unwrap();
        let nameless = PseudonymUri::new(alice().provider(), "owl").unwrap();
        bobby.consent_to(nameless.clone().into(), None, Some(true));
        let mut hidden = for_room(2, "den");
        hidden.terms.requester = nameless.into();
        bobby.claim(hidden).unwrap();
        assert_eq!(heard(&mut bobby, "phone", vec![package(1)]), []);

        bobby.claim(for_room(3, "den")).unwrap();
        bobby.claim(for_room(4, "den")).unwrap();
        bobby.revoke("phone");
        bobby.enrol(client("phone"));
        assert_eq!(heard(&mut bobby, "phone", vec![package(7)]), []);
        bobby.claim(for_room(5, "den")).unwrap();
        bobby.claim(for_room(6, "den")).unwrap();
        let last_resort = StoredPackage {
            last_resort: true,
            ..package(8)
        };
        assert_eq!(heard(&mut bobby, "phone", vec![last_resort]), []);
        let mut served = for_room(7, "den");
        served.rules.allow_last_resort = true;
        bobby.claim(served).unwrap();
        assert_eq!(heard(&mut bobby, "phone", vec![package(9)]), []);
    }

    #[test]
    fn the_ledger_forgets_with_time_and_the_oldest_first() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.claim(for_room(1, "den")).unwrap();
        bobby.wait(PENDING_ADDS_KEPT_MS + 1);
        let fresh = StoredPackage {
            not_after_s: bobby.time.as_seconds() + 3_600,
            ..package(1)
        };
        assert_eq!(heard(&mut bobby, "phone", vec![fresh]), []);
        bobby.claim(for_room(2, "den")).unwrap();
        for number in 0..=PENDING_ADDS_PER_USER_MAX {
            bobby.wait(60_000);
            let id = 3 + u8::try_from(number).unwrap();
            bobby.claim(for_room(id, &format!("r{number}"))).unwrap();
        }
        let fresh = StoredPackage {
            not_after_s: bobby.time.as_seconds() + 3_600,
            ..package(2)
        };
        let heard = heard(&mut bobby, "phone", vec![fresh]);
        assert_eq!(heard.len(), PENDING_ADDS_PER_USER_MAX);
        assert_eq!(heard[0], pair("r1", "phone"));
    }
}
