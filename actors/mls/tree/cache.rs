//! What workers keep from one Commit to the next: trees, and the groups of the audit.
//!
//! A cache and nothing else: what is found by a check is the same without it. Trees are found by their tree hash, which
//! stands for every byte of them, groups by their transcript; a check has what it takes to itself while it runs, and who
//! asks for it meanwhile reads it anew. Bounded in memory; what was not asked for longest goes first.

use super::{Step, stored::StoredTree};
use crate::{
    limits::{AUDITED_GROUPS_KEPT_BYTES_MAX, TREES_KEPT_BYTES_MAX},
    mls::codec::{reader::Unreadable, suite::Digest},
};
use openmls::group::PublicGroup;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Memory that a group of the audit takes, in bytes for each byte of its tree.
const GROUP_BYTES_PER_TREE_BYTE: usize = 4;
/// Memory that it takes besides.
const GROUP_BYTES: usize = 4 << 10;

/// What is kept; a copy is the same cache. The default keeps nothing.
#[derive(Clone, Default)]
pub struct TreeCache(Option<Arc<Kept>>);

#[derive(Default)]
struct Kept {
    trees: Mutex<Trees>,
    groups: Mutex<Lru<AuditedGroup>>,
}

#[derive(Default)]
struct Trees {
    /// Each with the hash of the tree that the last Commit checked on it makes, if there was one.
    kept: Lru<KeptTree>,
    /// From the hash that a Commit leads to to the one it starts from.
    ahead: BTreeMap<Digest, Vec<u8>>,
}

/// A group as the audit has it.
pub(crate) enum AuditedGroup {
    /// OpenMLS has followed it to here.
    Followed(Box<PublicGroup>),
    /// OpenMLS does not take it.
    Lost,
}

struct KeptTree {
    stored: Box<StoredTree>,
    next: Option<(Digest, Step)>,
}

impl TreeCache {
    /// A cache that keeps nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    fn trees(&self) -> Option<MutexGuard<'_, Trees>> {
        self.0.as_ref().map(|kept| lock(&kept.trees))
    }

    /// The tree with this hash, which `bytes` are: out of the cache, or read.
    pub(crate) fn take(
        &self,
        tree_hash: &[u8],
        bytes: &[u8],
    ) -> Result<Box<StoredTree>, Unreadable> {
        let found = self.trees().and_then(|mut trees| trees.take(tree_hash));
        match found {
            Some((mut stored, step)) => {
                if let Some(step) = step {
                    stored.take(step);
                }
                Ok(stored)
            }
            None => StoredTree::indexed(bytes).map(Box::new),
        }
    }

    /// Puts a tree back, with what the Commit just checked makes of it.
    pub(crate) fn put(
        &self,
        tree_hash: &[u8],
        stored: Box<StoredTree>,
        next: Option<(Digest, Step)>,
    ) {
        if let Some(mut trees) = self.trees() {
            trees.put(tree_hash, KeptTree { stored, next });
        }
    }

    /// The audit's group of this name, if it is here.
    pub(crate) fn take_group(&self, name: &[u8]) -> Option<AuditedGroup> {
        let kept = self.0.as_ref()?;
        lock(&kept.groups).take(name)
    }

    /// Keeps the audit's group of this name, whose tree has so many bytes.
    pub(crate) fn put_group(&self, name: &[u8], group: AuditedGroup, tree_bytes: usize) {
        if let Some(kept) = &self.0 {
            let tree_bytes = match &group {
                AuditedGroup::Followed(_) => tree_bytes,
                AuditedGroup::Lost => 0,
            };
            let bytes = GROUP_BYTES + tree_bytes * GROUP_BYTES_PER_TREE_BYTE;
            lock(&kept.groups).put(name, group, bytes, AUDITED_GROUPS_KEPT_BYTES_MAX);
        }
    }
}

/// Nobody panics while holding it; a cache would be right all the same.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Trees {
    fn take(&mut self, hash: &[u8]) -> Option<(Box<StoredTree>, Option<Step>)> {
        if let Some(kept) = self.kept.take(hash) {
            self.forget(&kept);
            return Some((kept.stored, None));
        }
        let from = self.ahead.get(hash)?.clone();
        let kept = self.kept.take(&from)?;
        self.forget(&kept);
        Some((kept.stored, kept.next.map(|(_, step)| step)))
    }

    fn forget(&mut self, gone: &KeptTree) {
        if let Some((next, _)) = &gone.next {
            self.ahead.remove(next);
        }
    }

    fn put(&mut self, hash: &[u8], tree: KeptTree) {
        let bytes = tree.stored.memory();
        let next = tree.next.as_ref().map(|(next, _)| *next);
        for gone in self.kept.put(hash, tree, bytes, TREES_KEPT_BYTES_MAX) {
            self.forget(&gone);
        }
        if let Some(next) = next {
            self.ahead.insert(next, hash.to_vec());
        }
    }
}

/// Values by name, bounded in bytes.
struct Lru<V> {
    kept: BTreeMap<Vec<u8>, Held<V>>,
    /// By when they were put here.
    order: BTreeMap<u64, Vec<u8>>,
    clock: u64,
    bytes: usize,
}

struct Held<V> {
    value: V,
    since: u64,
    bytes: usize,
}

impl<V> Default for Lru<V> {
    fn default() -> Self {
        Self {
            kept: BTreeMap::new(),
            order: BTreeMap::new(),
            clock: 0,
            bytes: 0,
        }
    }
}

impl<V> Lru<V> {
    fn take(&mut self, name: &[u8]) -> Option<V> {
        let held = self.kept.remove(name)?;
        self.order.remove(&held.since);
        self.bytes = self.bytes.saturating_sub(held.bytes);
        Some(held.value)
    }

    /// Keeps a value; gives back those that had to go.
    fn put(&mut self, name: &[u8], value: V, bytes: usize, bytes_max: usize) -> Vec<V> {
        let mut gone: Vec<V> = self.take(name).into_iter().collect();
        self.clock += 1;
        let since = self.clock;
        self.order.insert(since, name.to_vec());
        self.bytes += bytes;
        let held = Held {
            value,
            since,
            bytes,
        };
        self.kept.insert(name.to_vec(), held);
        while self.bytes > bytes_max
            && let Some((_, oldest)) = self.order.pop_first()
        {
            gone.extend(self.take(&oldest));
        }
        gone
    }
}

impl fmt::Debug for TreeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.trees().map_or(0, |trees| trees.kept.kept.len());
        write!(f, "{kept} trees")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_longest_goes_first() {
        let mut lru: Lru<u32> = Lru::default();
        let nothing: [u32; 0] = [];
        assert_eq!(lru.put(b"a", 1, 40, 100), nothing);
        assert_eq!(lru.put(b"b", 2, 40, 100), nothing);
        assert_eq!(lru.take(b"a"), Some(1));
        assert_eq!(lru.put(b"a", 3, 40, 100), nothing);
        assert_eq!(lru.put(b"c", 4, 40, 100), [2]);
        assert_eq!(lru.put(b"c", 5, 40, 100), [4]);
        assert_eq!((lru.take(b"b"), lru.take(b"c")), (None, Some(5)));
        assert_eq!(lru.put(b"huge", 6, 101, 100), [3, 6]);
        assert_eq!((lru.bytes, lru.order.len(), lru.kept.len()), (0, 0, 0));
    }
}
