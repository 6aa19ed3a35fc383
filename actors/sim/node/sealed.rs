//! A shard's state at one place of its log, sealed: what a node starts from once the beginning of its log is gone, and
//! what a leader gives to a replica that lags behind that.
//!
//! The packing is the world's own; what it packs (compact folds, what follows from the log) is what a node packs. Two are
//! kept, and only what the older one holds is discarded, except for entries that something still points at.

use super::{Actor, Shard};
use crate::{
    ids::{RoomUri, UserUri},
    machine::{Desk, Fold, ReviveError},
    record::Entry,
    shard::{Derived, names::Names},
    wire::{event::Hash, version::Level},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Compact folds, by their names.
type Packed<K> = Vec<(K, Vec<u8>)>;

/// A shard's state.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::sim) struct Sealed {
    /// How many entries are in it.
    pub(in crate::sim) at: u64,
    /// The term of the last of them.
    pub(in crate::sim) term: u64,
    state: Hash,
    hubs: Packed<RoomUri>,
    followers: Packed<RoomUri>,
    users: Packed<UserUri>,
    derived: Vec<u8>,
    level: Level,
    names: Names,
}

/// From a leader to a replica that lags behind the beginning of its log.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::sim) struct Install {
    /// The leader's term.
    pub(in crate::sim) term: u64,
    /// The state.
    pub(in crate::sim) sealed: Arc<Sealed>,
    /// Entries in it whose bytes may still be asked for.
    pub(in crate::sim) entries: Vec<(u64, Arc<Entry>)>,
}

fn pack<K: Clone, D: Desk>(actors: &BTreeMap<K, Actor<D>>) -> Packed<K> {
    let compact = |(key, actor): (&K, &Actor<D>)| (key.clone(), actor.fold.compact());
    actors.iter().map(compact).collect()
}

fn unpack<K: Clone + Ord, D: Desk>(
    packed: &Packed<K>,
) -> Result<BTreeMap<K, Actor<D>>, ReviveError> {
    let revived = |(key, compact): &(K, Vec<u8>)| {
        let fold = D::Fold::revive(compact)?;
        let desk = D::default();
        Ok((key.clone(), Actor { fold, desk }))
    };
    packed.iter().map(revived).collect()
}

impl Shard {
    /// Seals the state once `every` entries were applied since the last time, and discards what the snapshot before
    /// holds. Returns whether it did.
    pub(in crate::sim) fn seal_when_due(&mut self, every: u64) -> bool {
        let newest = self.replica.sealed.last().map_or(0, |sealed| sealed.at);
        if every == 0 || self.applied < newest + every {
            return false;
        }
        let sealed = Sealed {
            at: self.applied,
            term: self.replica.term_at(self.applied),
            state: self.state,
            hubs: pack(&self.hubs),
            followers: pack(&self.followers),
            users: pack(&self.users),
            derived: self.derived.compact(),
            level: self.derived.level,
            names: self.derived.names.clone(),
        };
        self.replica.sealed.push(Arc::new(sealed));
        if let [before, _] = self.replica.sealed.as_slice() {
            let upto = before.at;
            let needed = self.pointed_at(upto + 1);
            self.replica.discard(upto, &needed);
        }
        let old = self.replica.sealed.len().saturating_sub(2);
        self.replica.sealed.drain(..old);
        true
    }

    /// Takes the newest snapshot's state, in place of all there is; without one there is nothing.
    ///
    /// # Errors
    /// When it does not read.
    pub(in crate::sim) fn unseal(&mut self) -> Result<(), ReviveError> {
        let Some(sealed) = self.replica.sealed.last().cloned() else {
            return Ok(());
        };
        self.hubs = unpack(&sealed.hubs)?;
        self.followers = unpack(&sealed.followers)?;
        self.users = unpack(&sealed.users)?;
        self.derived = Derived::revive(&sealed.derived)?;
        self.applied = sealed.at;
        self.state = sealed.state;
        self.derived.level = sealed.level;
        self.derived.names.clone_from(&sealed.names);
        Ok(())
    }

    /// What to give to a replica whose next entry is gone here.
    pub(in crate::sim) fn install_for(&self) -> Option<Install> {
        let sealed = self.replica.sealed.last()?.clone();
        let mut derived = Derived::revive(&sealed.derived)
            .ok()?
            .pointed_at(sealed.at + 1);
        for (_, compact) in &sealed.users {
            let fold = crate::user::fold::Fold::revive(compact).ok()?;
            derived.extend(inboxes(&fold));
        }
        // What nobody needs here any more, nobody will need there once it has caught up.
        let entry = |index: u64| Some((index, self.replica.entry(index)?));
        let entries = derived.into_iter().filter_map(entry).collect();
        Some(Install {
            term: self.replica.term,
            sealed,
            entries,
        })
    }

    /// The entries below `below` whose bytes may still be asked for.
    fn pointed_at(&self, below: u64) -> BTreeSet<u64> {
        let mut entries = self.derived.pointed_at(below);
        for actor in self.users.values() {
            entries.extend(inboxes(&actor.fold).filter(|entry| *entry < below));
        }
        entries
    }
}

/// The entries that a user's inboxes point at.
fn inboxes(fold: &crate::user::fold::Fold) -> impl Iterator<Item = u64> {
    let items = fold.clients().flat_map(|client| fold.inbox(client));
    items.filter_map(|item| item.at()).map(|at| at.entry)
}
