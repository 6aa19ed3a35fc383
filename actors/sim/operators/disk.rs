//! What a node keeps: who it is, whom it knows, and its copy of each shard's log.

use crate::membership::chain::{Seen, StartId};
use std::collections::{BTreeMap, BTreeSet};

/// The members of a shard, as an entry of its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    pub(super) voters: BTreeSet<u64>,
    /// Who voted before, while a change of voters is not finished.
    pub(super) before: BTreeSet<u64>,
    pub(super) learners: BTreeSet<u64>,
    pub(super) addresses: BTreeMap<u64, String>,
}

impl Members {
    /// Whether those for whom `has` holds decide.
    pub(super) fn decide(&self, has: impl Fn(u64) -> bool) -> bool {
        let majority = |voters: &BTreeSet<u64>| {
            voters.iter().filter(|voter| has(**voter)).count() * 2 > voters.len()
        };
        majority(&self.voters) && (self.before.is_empty() || majority(&self.before))
    }

    pub(super) fn all(&self) -> BTreeSet<u64> {
        let voters = self.voters.union(&self.before).copied();
        voters.chain(self.learners.iter().copied()).collect()
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A leader begins.
    Blank,
    /// A client's.
    Data(u64),
    /// Who the members are from here on, committed or not.
    Members(Members),
}

/// One place in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) term: u64,
    pub(super) what: What,
}

/// A copy of one shard's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    /// The newest term that it voted in or heard of.
    pub(super) term: u64,
    pub(super) slots: Vec<Slot>,
    /// How many entries are known to be committed.
    pub(super) committed: usize,
}

impl Log {
    /// Term of the last entry, and how many there are: the greater, the more it has.
    pub(super) fn reach(&self) -> (u64, usize) {
        let last = self.slots.last().map_or(0, |slot| slot.term);
        (last, self.slots.len())
    }

    /// The newest members, and after how many entries they stand.
    pub(super) fn members(&self) -> Option<(usize, &Members)> {
        let mut slots = self.slots.iter().enumerate().rev();
        slots.find_map(|(place, slot)| match &slot.what {
            What::Members(members) => Some((place + 1, members)),
            What::Blank | What::Data(_) => None,
        })
    }

    /// How many entries it has in common with another.
    pub(super) fn common(&self, other: &Self) -> usize {
        let pairs = self.slots.iter().zip(&other.slots);
        pairs.take_while(|(ours, theirs)| ours == theirs).count()
    }
}

/// A data directory.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    pub(super) node: u64,
    pub(super) incarnation: [u8; 16],
    pub(super) starts: Vec<StartId>,
    pub(super) known: BTreeMap<u64, Seen>,
    pub(super) logs: Vec<Log>,
    /// A change that is written down.
    pub(super) note: Option<(u64, crate::membership::Wish)>,
}

impl Disk {
    /// Whether the node decides for some shard without any other, by what is on this disk.
    pub(super) fn decides_alone(&self) -> bool {
        let alone = |log: &Log| {
            let members = log.members();
            members.is_some_and(|(_, members)| members.decide(|node| node == self.node))
        };
        self.logs.iter().any(alone)
    }
}
