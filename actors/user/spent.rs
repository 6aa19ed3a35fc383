//! What of a user's KeyPackages was handed out or withdrawn, so that it does not come back.
//!
//! Promises: a reference or init key is remembered until its package expires, as long as there are at most
//! `CONSUMED_REFS_PER_USER_MAX`; then the oldest go first.
//!
//! Source: transport requirements, section 3.1.

use super::command::StoredPackage;
use crate::{limits::CONSUMED_REFS_PER_USER_MAX, machine::Millis, wire::event::Hash};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};

/// The packages of a user that are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "VecDeque<Mark>", into = "VecDeque<Mark>")]
pub(super) struct Spent {
    /// Oldest first.
    marks: VecDeque<Mark>,
    /// The hashes in `marks`, to find them.
    known: BTreeSet<Hash>,
}

/// What is left of one package. Hashes, because references and init keys have no length of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    reference: Hash,
    init_key: Hash,
    /// End of the package's lifetime, in seconds since 1970 (UTC).
    until_s: u64,
}

fn named_by(reference: &[u8]) -> Hash {
    Hash::of_parts([b"reference".as_slice(), reference])
}

impl Mark {
    fn of(package: &StoredPackage) -> Self {
        Self {
            reference: named_by(&package.reference),
            init_key: Hash::of_parts([b"init key".as_slice(), &package.init_key]),
            until_s: package.not_after_s,
        }
    }
}

impl Spent {
    /// Remembers a package.
    pub(super) fn add(&mut self, package: &StoredPackage) {
        while self.marks.len() >= CONSUMED_REFS_PER_USER_MAX {
            let Some(oldest) = self.marks.pop_front() else {
                break;
            };
            self.forget(&oldest);
        }
        let mark = Mark::of(package);
        self.known.extend([mark.reference, mark.init_key]);
        self.marks.push_back(mark);
    }

    /// Whether the package, or its init key, is gone already.
    pub(super) fn knows(&self, package: &StoredPackage) -> bool {
        let mark = Mark::of(package);
        self.known.contains(&mark.reference) || self.known.contains(&mark.init_key)
    }

    /// Whether the package with a reference was given away.
    pub(super) fn gave(&self, reference: &[u8]) -> bool {
        self.known.contains(&named_by(reference))
    }

    /// Drops what could not be uploaded again anyway.
    pub(super) fn forget_expired(&mut self, time: Millis) {
        let (kept, expired) = std::mem::take(&mut self.marks)
            .into_iter()
            .partition(|mark| mark.until_s > time.as_seconds());
        self.marks = kept;
        let expired: VecDeque<Mark> = expired;
        for mark in &expired {
            self.forget(mark);
        }
    }

    fn forget(&mut self, mark: &Mark) {
        self.known.remove(&mark.reference);
        self.known.remove(&mark.init_key);
    }
}

impl From<VecDeque<Mark>> for Spent {
    fn from(marks: VecDeque<Mark>) -> Self {
        let hashes = |mark: &Mark| [mark.reference, mark.init_key];
        Self {
            known: marks.iter().flat_map(hashes).collect(),
            marks,
        }
    }
}

impl From<Spent> for VecDeque<Mark> {
    fn from(spent: Spent) -> Self {
        spent.marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        user::testing::{NOW, package},
        wire::{decode, encode, version::testing::Sample},
    };

    #[test]
    fn the_oldest_are_forgotten_first_and_the_bound_holds() {
        let mut spent = Spent::default();
        for number in 0..=CONSUMED_REFS_PER_USER_MAX as u64 {
            spent.add(&package(number));
        }
        assert_eq!(spent.marks.len(), CONSUMED_REFS_PER_USER_MAX);
        assert_eq!(spent.known.len(), 2 * CONSUMED_REFS_PER_USER_MAX);
        assert!(!spent.knows(&package(0)));
        assert!(spent.knows(&package(1)));
    }

    #[test]
    fn a_mark_lasts_until_its_package_has_expired() {
        let mut spent = Spent::default();
        spent.add(&package(1));
        let end = Millis(package(1).not_after_s * 1_000);
        spent.forget_expired(Millis(end.0 - 1));
        assert!(spent.knows(&package(1)));
        spent.forget_expired(end);
        assert_eq!(spent, Spent::default());
    }

    #[test]
    fn what_is_stored_reads_back_with_its_index() {
        let mut spent = Spent::default();
        spent.add(&package(NOW.0));
        let Sample(read) = decode(&encode(&Sample(spent.clone()))).unwrap();
        assert_eq!(spent, read);
    }
}
