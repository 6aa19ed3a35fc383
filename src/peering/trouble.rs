//! Why a peer cannot be reached: at each of its addresses the last reason, since when, and each reason told once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tracing::{info, warn};

/// Reasons that are told before one of them has ended, at most: a peer that invents new ones does not fill the log.
const TOLD_MAX: usize = 32;

/// Why an address of a peer cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What failed last.
    pub(crate) why: String,
    /// Since when nothing but failures, in seconds since 1970.
    pub(crate) since_s: i64,
    /// How many attempts have failed since.
    pub(crate) attempts: u64,
}

/// The troubles with one peer, by address.
#[derive(Debug, Default)]
pub(crate) struct Troubles(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    now: BTreeMap<String, Trouble>,
    told: BTreeSet<(String, String)>,
}

impl Troubles {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attempt at an address has failed; a reason that was not told yet is told.
    pub(crate) fn failed(&self, address: &str, why: &str, now_s: i64) {
        if self.state().failed(address, why, now_s) {
            warn!(
                address,
                why, "the peer cannot be reached; it is tried until it can be"
            );
        }
    }

    /// There is a connection.
    pub(crate) fn over(&self) {
        let ended = std::mem::take(&mut self.state().now);
        let attempts: u64 = ended.values().map(|trouble| trouble.attempts).sum();
        if attempts > 0 {
            info!(attempts, "the peer is reached again");
        }
    }

    /// A connection has lasted: what fails from now on is told anew.
    pub(crate) fn forget_told(&self) {
        self.state().told.clear();
    }

    /// What there is now, by address; nothing while there is a connection.
    pub(crate) fn now(&self) -> BTreeMap<String, Trouble> {
        self.state().now.clone()
    }
}

impl State {
    /// Takes note; says whether it is to be told.
    fn failed(&mut self, address: &str, why: &str, now_s: i64) -> bool {
        let trouble = self
            .now
            .entry(address.to_owned())
            .or_insert_with(|| Trouble {
                why: String::new(),
                since_s: now_s,
                attempts: 0,
            });
        trouble.attempts += 1;
        why.clone_into(&mut trouble.why);
        self.told.len() < TOLD_MAX && self.told.insert((address.to_owned(), why.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_at_each_address_is_told_once_until_a_connection_has_lasted() {
        let troubles = Troubles::default();
        let told = |address: &str, why: &str| troubles.state().failed(address, why, 7);
        assert!(told("b:1", "silent") && !told("b:1", "silent"));
        assert!(told("b:2", "silent") && told("b:1", "refused"));
        assert!(!told("b:1", "silent"));
        let now = troubles.now();
        assert_eq!(now["b:1"].attempts, 4);
        assert_eq!((&*now["b:1"].why, now["b:1"].since_s), ("silent", 7));
        troubles.over();
        assert!(troubles.now().is_empty());
        assert!(!told("b:1", "silent"), "a short connection changes nothing");
        troubles.forget_told();
        assert!(told("b:1", "silent"));
    }

    #[test]
    fn a_peer_that_invents_reasons_is_not_told_of_without_end() {
        let mut state = State::default();
        let told = (0..1_000).filter(|number| state.failed("b:1", &number.to_string(), 0));
        assert_eq!(told.count(), TOLD_MAX);
        assert_eq!(state.now["b:1"].why, "999");
    }
}
