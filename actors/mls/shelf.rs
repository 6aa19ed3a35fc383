//! Trees that workers keep from one Commit to the next.
//!
//! A cache and nothing else: what is found by a check is the same without it. Trees are found by their tree hash, which
//! stands for every byte of them; a check has the tree to itself while it runs, and who asks for it meanwhile reads it anew.
//! Bounded in memory; the tree that was not asked for longest goes first.

use super::{reader::Unreadable, rest::Rest, suite::Digest, tree::Step};
use crate::limits::TREES_KEPT_BYTES_MAX;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Trees that are kept; a copy is the same shelf. The default keeps none.
#[derive(Clone, Default)]
pub struct Shelf(Option<Arc<Mutex<Trees>>>);

#[derive(Default)]
struct Trees {
    /// Each with the hash of the tree that the last Commit checked on it makes, if there was one.
    kept: BTreeMap<Vec<u8>, Kept>,
    /// From the hash that a Commit leads to to the one it starts from.
    ahead: BTreeMap<Digest, Vec<u8>>,
    /// By when they were last asked for.
    order: BTreeMap<u64, Vec<u8>>,
    clock: u64,
    bytes: usize,
}

struct Kept {
    rest: Box<Rest>,
    next: Option<(Digest, Step)>,
    asked: u64,
    bytes: usize,
}

impl Shelf {
    /// A shelf that keeps nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// An empty shelf.
    #[must_use]
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    fn trees(&self) -> Option<MutexGuard<'_, Trees>> {
        // Nobody panics while holding it; a cache would be right all the same.
        let trees = self.0.as_ref()?.lock();
        Some(trees.unwrap_or_else(PoisonError::into_inner))
    }

    /// The tree with this hash, which `bytes` are: off the shelf, or read.
    pub(super) fn take(&self, tree_hash: &[u8], bytes: &[u8]) -> Result<Box<Rest>, Unreadable> {
        let found = self.trees().and_then(|mut trees| trees.take(tree_hash));
        match found {
            Some((mut rest, step)) => {
                if let Some(step) = step {
                    rest.take(step);
                }
                Ok(rest)
            }
            None => Rest::indexed(bytes).map(Box::new),
        }
    }

    /// Puts a tree back, with what the Commit just checked makes of it.
    pub(super) fn put(&self, tree_hash: &[u8], rest: Box<Rest>, next: Option<(Digest, Step)>) {
        if let Some(mut trees) = self.trees() {
            trees.put(tree_hash, rest, next);
        }
    }
}

impl Trees {
    fn take(&mut self, hash: &[u8]) -> Option<(Box<Rest>, Option<Step>)> {
        if let Some(kept) = self.remove(hash) {
            return Some((kept.rest, None));
        }
        let from = self.ahead.get(hash)?.clone();
        let kept = self.remove(&from)?;
        Some((kept.rest, kept.next.map(|(_, step)| step)))
    }

    fn remove(&mut self, hash: &[u8]) -> Option<Kept> {
        let kept = self.kept.remove(hash)?;
        self.order.remove(&kept.asked);
        self.bytes = self.bytes.saturating_sub(kept.bytes);
        if let Some((next, _)) = &kept.next {
            self.ahead.remove(next);
        }
        Some(kept)
    }

    fn put(&mut self, hash: &[u8], rest: Box<Rest>, next: Option<(Digest, Step)>) {
        self.remove(hash);
        self.clock += 1;
        let bytes = rest.memory();
        if let Some((next, _)) = &next {
            self.ahead.insert(*next, hash.to_vec());
        }
        self.order.insert(self.clock, hash.to_vec());
        self.bytes += bytes;
        let kept = Kept {
            rest,
            next,
            asked: self.clock,
            bytes,
        };
        self.kept.insert(hash.to_vec(), kept);
        while self.bytes > TREES_KEPT_BYTES_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.remove(&oldest);
        }
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.trees().map_or(0, |trees| trees.kept.len());
        write!(f, "{kept} trees")
    }
}
