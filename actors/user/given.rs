//! To whom a user's KeyPackages went, for as long as somebody may be added with one of them.
//!
//! Who adds a client need not be who claimed its KeyPackage. Promises: a user is brought into a room only with a package
//! that somebody claimed who may still bring it in there. Not here: that a package was given away at all (`spent`).
//!
//! Source: transport requirements, sections 3.1 and 6.1.

use super::{User, command::StoredPackage};
use crate::{
    ids::{Requester, RoomUri},
    limits::PACKAGES_GIVEN_REMEMBERED_MAX,
    wire::event::Hash,
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Who got which package, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Given {
    to: VecDeque<(Mark, Requester)>,
}

/// What is left of a reference: two of one user are not the same by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark([u8; 8]);

impl Mark {
    fn of(reference: &[u8]) -> Self {
        let Hash([a, b, c, d, e, f, g, h, ..]) = Hash::of(reference);
        Self([a, b, c, d, e, f, g, h])
    }
}

impl Given {
    /// Remembers who got a package; where there is no place, the oldest is forgotten.
    pub(super) fn add(&mut self, package: &StoredPackage, to: &Requester) {
        let entry = (Mark::of(&package.reference), to.clone());
        // Only a last-resort one is given twice.
        if package.last_resort && self.to.contains(&entry) {
            return;
        }
        if self.to.len() >= PACKAGES_GIVEN_REMEMBERED_MAX {
            self.to.pop_front();
        }
        self.to.push_back(entry);
    }

    /// Who got the package of a reference: several of a last-resort one, nobody of one that is forgotten.
    fn to(&self, reference: &[u8]) -> impl Iterator<Item = &Requester> {
        let mark = Mark::of(reference);
        self.to
            .iter()
            .filter(move |(of, _)| *of == mark)
            .map(|(_, to)| to)
    }
}

impl User {
    /// Whether whoever claimed the package of a reference may bring the user into a room: it has consent now, or nobody
    /// remembers who it was.
    pub(super) fn may_bring_in(&self, reference: &[u8], room: &RoomUri) -> bool {
        let mut known = false;
        for requester in self.asking.given.to(reference) {
            let own = requester.user() == Some(&self.uri);
            if own || self.consents.allow(requester, Some(room)) {
                return true;
            }
            known = true;
        }
        !known
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        ids::UserUri,
        limits::PACKAGES_GIVEN_REMEMBERED_MAX,
        machine::Fold as _,
        user::{
            command::{Claim, Command, StoredPackage},
            fold::Fold,
            outcome::Answer,
            testing::{
                Log, NOW, alice, claim, client, delivered, package, room, user, welcome_for,
            },
        },
        wire::{claim::ClaimTerms, post::Notice, version::Level},
    };

    /// Bobby, whose phone has so many KeyPackages, and to whom alice has consent for all rooms.
    fn bobby(packages: u64) -> Log {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.level = Level::SECOND;
        bobby.stock("phone", 1..=packages);
        bobby
    }

    /// Whether a Welcome for the KeyPackage of this number brings bobby into a room.
    fn is_brought(bobby: &Log, number: u64, name: &str, at: &str) -> bool {
        let mut deliver = delivered(name, &["phone"]);
        deliver.post.room = format!("mimi://{at}/r/{name}").parse().unwrap();
        if let Notice::Joined { welcome, .. } = &mut deliver.post.notice {
            let package = package(number);
            welcome.as_mut().unwrap().welcome = welcome_for(&[&package.reference]);
        }
        let command = Command::Deliver(deliver);
        match bobby.fold.answer_without_log(NOW, &command) {
            None => true,
            Some(answer) => {
                assert_eq!(answer, Answer::Done, "the hub is told nothing");
                false
            }
        }
    }

    fn of(requester: UserUri, id: u8, name: Option<&str>) -> Claim {
        let terms = ClaimTerms {
            room: name.map(room),
            ..ClaimTerms::new(requester)
        };
        claim(id, terms)
    }

    #[test]
    fn who_lost_consent_after_its_claim_brings_nobody_in() {
        for at in ["a.example", "b.example"] {
            let mut bobby = bobby(1);
            bobby.claim_plain(1).unwrap();
            assert!(is_brought(&bobby, 1, "club", at));
            bobby.consent(alice(), None, Some(false));
            bobby.restart();
            assert!(!is_brought(&bobby, 1, "club", at), "{at}");
            bobby.consent(alice(), None, Some(true));
            assert!(is_brought(&bobby, 1, "club", at));
        }
    }

    #[test]
    fn consent_for_one_room_admits_to_no_other() {
        let mut bobby = bobby(2);
        bobby.consent(alice(), None, None);
        bobby.consent(alice(), Some(room("club")), Some(true));
        bobby.claim(of(alice(), 1, Some("club"))).unwrap();
        let brought = |bobby: &Log, name| is_brought(bobby, 1, name, "a.example");
        assert!(brought(&bobby, "club") && !brought(&bobby, "den"));
        // What was claimed under consent for all rooms is not for one that was refused since.
        bobby.consent(alice(), None, Some(true));
        assert!(brought(&bobby, "den"));
        bobby.consent(alice(), Some(room("den")), Some(false));
        assert!(brought(&bobby, "club") && !brought(&bobby, "den"));
    }

    #[test]
    fn whoever_commits_it_is_the_claim_that_counts_and_a_user_brings_its_own_devices() {
        let mut bobby = bobby(2);
        bobby.claim(of(user("bobby"), 1, None)).unwrap();
        bobby.claim(of(alice(), 2, None)).unwrap();
        bobby.consent(alice(), None, Some(false));
        assert!(is_brought(&bobby, 1, "club", "a.example"));
        assert!(!is_brought(&bobby, 2, "club", "a.example"));
    }

    #[test]
    fn a_last_resort_package_is_good_for_each_who_got_it_and_has_consent() {
        let mut bobby = bobby(0);
        let last_resort = StoredPackage {
            last_resort: true,
            ..package(9)
        };
        bobby.upload(&client("phone"), vec![last_resort]);
        let cathy: UserUri = "mimi://c.example/u/cathy".parse().unwrap();
        bobby.consent(cathy.clone(), None, Some(true));
        for (id, requester) in [(1, alice()), (2, cathy)] {
            let mut claim = of(requester, id, None);
            claim.rules.allow_last_resort = true;
            assert!(bobby.claim(claim).unwrap()[0].result.is_ok());
        }
        bobby.consent(alice(), None, Some(false));
        assert!(is_brought(&bobby, 9, "club", "a.example"));
        bobby.consent("mimi://c.example/u/cathy".parse().unwrap(), None, None);
        assert!(!is_brought(&bobby, 9, "club", "a.example"));
    }

    #[test]
    fn only_so_many_are_remembered_and_of_the_first_level_none() {
        let mut bobby = bobby(1);
        bobby.claim_plain(1).unwrap();
        bobby.consent(alice(), None, Some(false));
        let given = |bobby: &mut Log, count: usize| {
            let requester = "mimi://c.example/u/cathy".parse::<UserUri>().unwrap();
            let user = bobby.fold.user_mut().unwrap();
            for number in 0..count as u64 {
                let given = package(1_000 + number);
                user.asking.given.add(&given, &requester.clone().into());
            }
        };
        given(&mut bobby, PACKAGES_GIVEN_REMEMBERED_MAX - 1);
        assert!(!is_brought(&bobby, 1, "club", "a.example"));
        given(&mut bobby, 1);
        assert!(is_brought(&bobby, 1, "club", "a.example"));
        let mut old = Log::bobby(&["phone"]);
        old.stock("phone", [1]);
        old.claim_plain(1).unwrap();
        let revived = Fold::revive(&old.fold.compact()).unwrap();
        assert_eq!(old.fold.compact().first(), Some(&1));
        assert_eq!(revived, old.fold);
    }
}
