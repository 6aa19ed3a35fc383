//! Who waits for which answer on this node.

use mimi_actors::machine::Ticket;
use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::oneshot;

/// Requesters of the actors of one shard. Bounded by the requests that the doors let in.
#[derive(Debug)]
pub(crate) struct Answers<A> {
    next: AtomicU64,
    waiting: Mutex<HashMap<Ticket, oneshot::Sender<A>>>,
}

impl<A> Default for Answers<A> {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
        }
    }
}

impl<A> Answers<A> {
    /// A new ticket, and where its answer will come.
    pub(crate) fn open(&self) -> (Ticket, oneshot::Receiver<A>) {
        let ticket = Ticket(self.next.fetch_add(1, Ordering::Relaxed));
        let (give, take) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(ticket, give);
        (ticket, take)
    }

    /// Answers a ticket; whoever no longer waits is passed over.
    pub(crate) fn give(&self, ticket: Ticket, answer: A) {
        let waiting = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&ticket);
        if let Some(give) = waiting {
            drop(give.send(answer));
        }
    }

    /// Forgets everybody; they learn that no answer will come.
    pub(crate) fn forget_all(&self) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Forgets a ticket whose requester has stopped waiting.
    pub(crate) fn forget(&self, ticket: Ticket) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&ticket);
    }
}
