//! A connection to a peer while it is used: what its lanes and requests know of it.

use super::credits::Credits;
use crate::quic::{Link, code};
use mimi_actors::ids::ProviderId;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// Failures in a row after which another node of the peer is tried.
const FAILURES_MAX: u32 = 3;

/// A connection in use.
pub(super) struct Connection {
    pub(super) link: Link,
    /// How the shards stand that fan out to the peer.
    pub(super) credits: Arc<Credits>,
    /// Whether the peer has other nodes.
    has_others: bool,
    /// Requests and lanes that failed in a row.
    failures: AtomicU32,
}

impl Connection {
    pub(super) fn new(link: Link, credits: Arc<Credits>, has_others: bool) -> Self {
        Self {
            link,
            credits,
            has_others,
            failures: AtomicU32::new(0),
        }
    }

    /// The provider at the other end.
    pub(super) fn peer(&self) -> &ProviderId {
        self.link.peer()
    }

    /// Takes note whether the connection was of use. One that is not is closed, so that another node of the peer is
    /// tried: this one may be cut off from the others.
    pub(super) fn note(&self, of_use: bool) {
        if of_use {
            self.failures.store(0, Ordering::Relaxed);
        } else if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX
            && self.has_others
        {
            self.link.close(code::DEADLINE, "another node is tried");
        }
    }
}
