//! One node's copy of one shard's log: a small model of a replicated log.
//!
//! Promises, as long as votes are counted truly: an entry that a majority has synced is in the log of every later
//! leader; what a leader of the past still appends vanishes; what was not synced may be gone after a crash. openraft
//! itself is exercised with real processes; here its promises are what the world rests on, and the world checks them
//! too (committed entries never change).

use super::node::sealed::{Install, Sealed};
use crate::record::Entry;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// One place in the log.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slot {
    /// The term of the leader that appended it.
    pub(super) term: u64,
    /// The entry; a new leader's first one is empty.
    pub(super) entry: Option<Arc<Entry>>,
}

/// From a leader to another replica.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Append {
    /// The leader's term.
    pub(super) term: u64,
    /// How many entries come before these.
    pub(super) after: u64,
    /// Term of the last of those; zero before the first.
    pub(super) after_term: u64,
    /// Entries.
    pub(super) slots: Vec<Slot>,
    /// How many are committed, as far as the leader knows.
    pub(super) committed: u64,
}

/// From another replica to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Appended {
    /// The replica's term.
    pub(super) term: u64,
    /// How many entries it has in common with the leader, synced; or where to go on from when it refused.
    pub(super) matched: u64,
    /// Whether it took them.
    pub(super) took: bool,
}

/// One node's copy of a shard's log. Durable, unless said otherwise.
#[derive(Clone, Debug, Default)]
pub(super) struct Replica {
    /// The newest term heard of.
    pub(super) term: u64,
    /// How many entries were discarded, and the term of the last of them.
    discarded: (u64, u64),
    slots: Vec<Slot>,
    /// The snapshots, oldest first; two at most.
    pub(super) sealed: Vec<Arc<Sealed>>,
    /// Discarded entries that are still needed.
    backlog: BTreeMap<u64, Arc<Entry>>,
    /// How many entries are on disk. Volatile beyond that.
    synced: u64,
    /// How many entries were ever synced: the mark beside the log.
    pub(super) mark: u64,
    /// Whether its disk was found to be older than it was, so that it must not vote. Cleared by a re-entry.
    pub(super) must_not_vote: bool,
    /// Volatile: what a leader knows of the others.
    pub(super) leading: Option<Leading>,
    /// Volatile: how many entries are committed, as far as it knows.
    pub(super) committed: u64,
}

/// What a leader knows. Volatile.
#[derive(Clone, Debug, Default)]
pub(super) struct Leading {
    /// How many entries each voter has.
    matched: BTreeMap<u8, u64>,
    /// From where to send to each.
    next: BTreeMap<u8, u64>,
}

impl Replica {
    /// How many entries there are.
    #[must_use]
    pub(super) fn len(&self) -> u64 {
        self.discarded.0 + self.slots.len() as u64
    }

    /// How many entries are on disk.
    #[must_use]
    pub(super) fn synced(&self) -> u64 {
        self.synced
    }

    /// Entry `index`, counted from one, unless it was discarded.
    #[must_use]
    pub(super) fn slot(&self, index: u64) -> Option<&Slot> {
        let place = index.checked_sub(1)?.checked_sub(self.discarded.0)?;
        self.slots.get(usize::try_from(place).ok()?)
    }

    /// The term of entry `index`; zero where it is not known.
    #[must_use]
    pub(super) fn term_at(&self, index: u64) -> u64 {
        if index == self.discarded.0 {
            return self.discarded.1;
        }
        self.slot(index).map_or(0, |slot| slot.term)
    }

    /// The commands of entry `index`, also when it was discarded and is still needed.
    #[must_use]
    pub(super) fn entry(&self, index: u64) -> Option<Arc<Entry>> {
        let logged = self.slot(index).and_then(|slot| slot.entry.clone());
        logged.or_else(|| self.backlog.get(&index).cloned())
    }

    /// Discards the first `upto` entries but for those that are needed.
    pub(super) fn discard(&mut self, upto: u64, needed: &BTreeSet<u64>) {
        let term = self.term_at(upto);
        for index in self.discarded.0 + 1..=upto {
            if let Some(entry) = self.slot(index).and_then(|slot| slot.entry.clone()) {
                self.backlog.insert(index, entry);
            }
        }
        self.backlog.retain(|index, _| needed.contains(index));
        let gone = usize::try_from(upto.saturating_sub(self.discarded.0)).unwrap_or(usize::MAX);
        self.slots.drain(..gone.min(self.slots.len()));
        self.discarded = (upto, term);
    }

    /// Takes a leader's snapshot in place of the log. `Err` is the answer to a leader of the past, or where the log is
    /// further already.
    ///
    /// # Errors
    /// The answer.
    pub(super) fn install(&mut self, install: &Install) -> Result<Appended, Appended> {
        if install.term < self.term {
            return Err(self.refuse(0));
        }
        self.hear_of(install.term);
        let matched = install.sealed.at;
        let answer = Appended {
            term: self.term,
            matched,
            took: true,
        };
        if matched <= self.committed {
            return Err(answer);
        }
        self.slots.clear();
        self.discarded = (matched, install.sealed.term);
        self.sealed = vec![Arc::clone(&install.sealed)];
        self.backlog.extend(install.entries.iter().cloned());
        (self.synced, self.mark, self.committed) = (matched, matched, matched);
        Ok(answer)
    }

    /// Term of the last entry, and how many there are: the greater, the more a log has.
    #[must_use]
    pub(super) fn reach(&self) -> (u64, u64) {
        (self.term_at(self.len()), self.len())
    }

    /// Becomes leader of `term`; the others are found out about.
    pub(super) fn lead(&mut self, term: u64, voters: &[u8]) {
        self.term = term;
        let next = voters.iter().map(|voter| (*voter, self.len())).collect();
        self.leading = Some(Leading {
            matched: BTreeMap::new(),
            next,
        });
        self.slots.push(Slot { term, entry: None });
    }

    /// Hears of a newer term. Returns whether it was leader until now.
    pub(super) fn hear_of(&mut self, term: u64) -> bool {
        if term <= self.term {
            return false;
        }
        self.term = term;
        self.leading.take().is_some()
    }

    /// Appends an entry as leader; returns its index.
    pub(super) fn append(&mut self, entry: Arc<Entry>) -> u64 {
        let term = self.term;
        self.slots.push(Slot {
            term,
            entry: Some(entry),
        });
        self.len()
    }

    /// What to send to a replica now: everything that it may lack, if that is in the log still.
    #[must_use]
    pub(super) fn append_for(&self, to: u8) -> Option<Append> {
        let leading = self.leading.as_ref()?;
        let after = leading.next.get(&to).copied().unwrap_or(0).min(self.len());
        let from = usize::try_from(after.checked_sub(self.discarded.0)?).ok()?;
        Some(Append {
            term: self.term,
            after,
            after_term: self.term_at(after),
            slots: self.slots.get(from..)?.to_vec(),
            committed: self.committed,
        })
    }

    /// Takes entries of a leader. `Err` is the answer to send at once; `Ok` waits for the sync of that many entries.
    ///
    /// # Errors
    /// The refusal of a leader of the past, or of entries that do not follow.
    pub(super) fn take(&mut self, append: &Append) -> Result<u64, Appended> {
        if append.term < self.term {
            return Err(self.refuse(0));
        }
        self.hear_of(append.term);
        // What was discarded is committed, so it is the same everywhere.
        let known = append.after < self.discarded.0;
        let before = self.term_at(append.after);
        if self.len() < append.after || !known && before != append.after_term {
            return Err(self.refuse(self.len().min(append.after.saturating_sub(1))));
        }
        let (numbered, discarded) = ((append.after + 1..).zip(&append.slots), self.discarded.0);
        for (index, slot) in numbered.filter(|(index, _)| *index > discarded) {
            match self.slot(index) {
                Some(own) if own.term == slot.term => {}
                Some(_) => {
                    self.cut(index - 1);
                    self.mark = self.mark.min(index - 1);
                    self.slots.push(slot.clone());
                }
                None => self.slots.push(slot.clone()),
            }
        }
        let matched = append.after + append.slots.len() as u64;
        self.committed = self.committed.max(append.committed.min(matched));
        Ok(matched)
    }

    fn refuse(&self, matched: u64) -> Appended {
        Appended {
            term: self.term,
            matched,
            took: false,
        }
    }

    /// The disk has synced the first `count` entries.
    pub(super) fn sync(&mut self, count: u64) {
        self.synced = self.synced.max(count.min(self.len()));
        self.mark = self.mark.max(self.synced);
    }

    /// A replica answered. Returns whether this replica is leader no longer.
    pub(super) fn answered(&mut self, from: u8, answer: Appended) -> bool {
        if answer.term > self.term {
            return self.hear_of(answer.term);
        }
        let Some(leading) = &mut self.leading else {
            return false;
        };
        if answer.term == self.term && answer.took {
            let matched = leading.matched.entry(from).or_default();
            *matched = answer.matched.max(*matched);
            leading.next.insert(from, *matched);
        } else if answer.term == self.term {
            leading.next.insert(from, answer.matched);
        }
        false
    }

    /// Counts what a majority of `voters` has; `own` is this replica's number.
    pub(super) fn count(&mut self, own: u8, voters: &[u8]) {
        let Some(leading) = &self.leading else { return };
        let mut has: Vec<u64> = voters
            .iter()
            .map(|voter| match leading.matched.get(voter) {
                _ if *voter == own => self.synced,
                Some(matched) => *matched,
                None => 0,
            })
            .collect();
        has.sort_unstable();
        let Some(counted) = has.get((has.len().saturating_sub(1)) / 2).copied() else {
            return;
        };
        // Only an entry of its own term tells that a majority has what comes before it.
        if counted > self.committed && self.term_at(counted) == self.term {
            self.committed = counted;
        }
    }

    /// A replica has lost its disk: what was known of it counts no longer.
    pub(super) fn forget(&mut self, other: u8) {
        if let Some(leading) = &mut self.leading {
            leading.matched.remove(&other);
            leading.next.insert(other, 0);
        }
    }

    /// Whether a replica has everything that this leader has.
    #[must_use]
    pub(super) fn is_level_with(&self, other: u8) -> bool {
        let matched = self.leading.as_ref().map(|leading| &leading.matched);
        matched.and_then(|matched| matched.get(&other)) == Some(&self.len())
    }

    /// The process ends: what is volatile is gone, and of what was not synced, all but the first `kept`.
    pub(super) fn crash(&mut self, kept: u64) {
        self.cut(self.len().min(self.synced + kept));
        self.synced = self.len();
        self.leading = None;
        self.committed = self.sealed.last().map_or(0, |sealed| sealed.at);
    }

    /// How many entries are not on disk yet.
    #[must_use]
    pub(super) fn unsynced(&self) -> u64 {
        self.len().saturating_sub(self.synced)
    }

    /// The disk turns out to lack all but the first `kept` entries, with all that was known of terms; one that lacks
    /// nothing has not forgotten its vote either.
    pub(super) fn lose(&mut self, kept: u64) {
        if kept >= self.len() {
            return;
        }
        if self.sealed.iter().any(|sealed| sealed.at > kept) {
            // From before the snapshots, so from before the log began where it does: nothing is left.
            self.sealed.clear();
            self.backlog.clear();
            self.discarded = (0, 0);
            self.slots.clear();
            self.committed = 0;
        }
        self.cut(kept);
        self.synced = self.len();
        self.term = self.reach().0;
    }

    fn cut(&mut self, kept: u64) {
        let left = kept.saturating_sub(self.discarded.0);
        self.slots
            .truncate(usize::try_from(left).unwrap_or(usize::MAX));
        self.synced = self.synced.min(kept);
    }
}
