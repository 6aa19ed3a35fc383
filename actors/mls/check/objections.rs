//! What OpenMLS has against things that the hub took: for people, as nothing follows from it.
//!
//! Bounded: a number, and the newest that nobody was told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where objections are told; a copy is the same place. By default nobody listens.
#[derive(Clone, Debug, Default)]
pub struct Objections(Option<Arc<Mutex<Heard>>>);

#[derive(Debug, Default)]
struct Heard {
    count: u64,
    newest: Option<String>,
}

impl Objections {
    /// A place where nobody listens.
    #[must_use]
    pub const fn unheard() -> Self {
        Self(None)
    }

    /// A place of its own.
    #[must_use]
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.heard().map_or(0, |heard| heard.count)
    }

    /// The newest, if it was not taken yet.
    #[must_use]
    pub fn take_newest(&self) -> Option<String> {
        self.heard()?.newest.take()
    }

    pub(super) fn tell(&self, objection: String) {
        if let Some(mut heard) = self.heard() {
            heard.count = heard.count.saturating_add(1);
            heard.newest = Some(objection);
        }
    }

    /// Nobody panics while holding it.
    fn heard(&self) -> Option<MutexGuard<'_, Heard>> {
        let heard = self.0.as_ref()?;
        Some(heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
