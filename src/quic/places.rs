//! Places of one kind (connections, handshakes, requests), counted by who takes them.
//!
//! Promises: nobody has more than its own share; whoever has little is never refused because others have much; a place is
//! free again when it is dropped; who has none is forgotten.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// How many places there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Of one, at most.
    pub each: usize,
    /// Of one, whatever others have: up to here nobody is refused because `all` are taken.
    pub always: usize,
    /// Of all together, for whoever has more than `always`.
    pub all: usize,
}

/// Counts places by who takes them.
#[derive(Debug)]
pub struct Places<K: Ord>(Arc<Counted<K>>);

#[derive(Debug)]
struct Counted<K: Ord> {
    bound: Bound,
    taken: Mutex<Taken<K>>,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Taken<K: Ord> {
    of: BTreeMap<K, usize>,
    all: usize,
}

/// What is told of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// How many are taken.
    pub taken: usize,
    /// The bound.
    pub bound: Bound,
    /// How often there was none, since the start.
    pub refused: u64,
}

impl<K: Ord> Clone for Places<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Ord> Counted<K> {
    fn taken(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord + Clone> Places<K> {
    /// So many, none of them taken.
    #[must_use]
    pub fn new(bound: Bound) -> Self {
        Self(Arc::new(Counted {
            bound,
            taken: Mutex::new(Taken {
                of: BTreeMap::new(),
                all: 0,
            }),
            refused: AtomicU64::new(0),
        }))
    }

    /// A place for `who`, kept until it is dropped; `None` when there is none for it.
    #[must_use]
    pub fn take(&self, who: &K) -> Option<Place<K>> {
        let Bound { each, always, all } = self.0.bound;
        let mut taken = self.0.taken();
        let own = taken.of.get(who).copied().unwrap_or_default();
        if own >= each || taken.all >= all && own >= always {
            drop(taken);
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        taken.of.insert(who.clone(), own + 1);
        taken.all += 1;
        drop(taken);
        Some(Place {
            places: self.clone(),
            who: who.clone(),
        })
    }

    /// What there is to tell.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            taken: self.0.taken().all,
            bound: self.0.bound,
            refused: self.0.refused.load(Ordering::Relaxed),
        }
    }
}

/// A place that is taken.
#[derive(Debug)]
pub struct Place<K: Ord> {
    places: Places<K>,
    who: K,
}

impl<K: Ord> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.0.taken();
        taken.all = taken.all.saturating_sub(1);
        if let Some(own) = taken.of.get_mut(&self.who) {
            *own -= 1;
            if *own == 0 {
                taken.of.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound {
        each: 4,
        always: 1,
        all: 6,
    };

    #[test]
    fn a_place_is_free_again_when_it_is_dropped_and_who_has_none_is_forgotten() {
        let places = Places::new(BOUND);
        let mut own: Vec<_> = (0..4).map(|_| places.take(&"b").unwrap()).collect();
        assert!(places.take(&"b").is_none(), "its own share is used up");
        own.pop();
        assert!(places.take(&"b").is_some());
        drop(own);
        assert_eq!(places.figures().taken, 0);
        assert_eq!(places.figures().refused, 1);
        assert!(places.0.taken().of.is_empty());
    }

    #[test]
    fn who_has_little_is_not_refused_because_others_have_much() {
        let places = Places::new(BOUND);
        let take =
            |who, count: usize| -> Vec<_> { (0..count).map_while(|_| places.take(&who)).collect() };
        let (greedy, second) = (take("a", 9), take("b", 9));
        assert_eq!((greedy.len(), second.len()), (4, 2));
        for other in ["c", "d", "e"] {
            assert_eq!(take(other, 2).len(), 1, "{other}");
        }
    }
}
