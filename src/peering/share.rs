//! What one peer may hold of this node's memory, on all its connections together.
//!
//! Promises: what one lane of a peer holds counts for its other lanes, whichever connections they are on; whoever waits goes
//! on as soon as something was given back; other peers notice nothing.

use mimi_actors::limits::{
    LANE_BYTES_HELD_MAX, PEER_ANSWER_BYTES_WAITING_MAX, PEER_BYTES_HELD_MAX,
};
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

/// The share of one peer.
#[derive(Debug)]
pub(crate) struct Share {
    /// Bytes of frames of its long lanes that are not answered.
    held: watch::Sender<usize>,
    /// Room for answers that wait to be taken, in bytes.
    answers: Semaphore,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            held: watch::Sender::new(0),
            answers: Semaphore::new(PEER_ANSWER_BYTES_WAITING_MAX),
        }
    }
}

impl Share {
    /// Room for an answer until it is taken; `None` when too much waits already.
    pub(super) fn answer(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.answers.try_acquire_many(bytes).ok()
    }

    /// What a lane has of it, which holds nothing yet.
    pub(super) fn lane(self: &Arc<Self>) -> OfLane {
        OfLane {
            freed: self.held.subscribe(),
            share: Arc::clone(self),
            held: 0,
        }
    }
}

/// What one lane has of its peer's share; it is given back when this is dropped.
#[derive(Debug)]
pub(super) struct OfLane {
    share: Arc<Share>,
    freed: watch::Receiver<usize>,
    held: usize,
}

impl OfLane {
    /// The lane holds so many bytes now; gives how many it may hold.
    pub(super) fn holds(&mut self, bytes: usize) -> usize {
        let before = std::mem::replace(&mut self.held, bytes);
        let mut others = 0;
        self.share.held.send_if_modified(|all| {
            let was_full = *all > PEER_BYTES_HELD_MAX - LANE_BYTES_HELD_MAX;
            others = *all - before;
            *all = others + bytes;
            // Only lanes of a peer that holds much wait.
            was_full && bytes < before
        });
        PEER_BYTES_HELD_MAX.saturating_sub(others)
    }

    /// Waits until another lane has given something back. May be dropped and called again.
    pub(super) async fn freed(&mut self) {
        // The sender is in the share, which this keeps.
        let _ = self.freed.changed().await;
    }
}

impl Drop for OfLane {
    fn drop(&mut self) {
        self.holds(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const FULL: usize = PEER_BYTES_HELD_MAX;

    #[test]
    fn what_one_lane_of_a_peer_holds_its_others_may_not() {
        let share = Arc::new(Share::default());
        let (mut one, mut other) = (share.lane(), share.lane());
        assert_eq!(one.holds(FULL - 5), FULL);
        assert_eq!(other.holds(0), 5);
        assert_eq!(other.holds(7), 5);
        assert_eq!(one.holds(3), FULL - 7);
        drop(one);
        assert_eq!(other.holds(0), FULL);
        assert_eq!(*share.held.borrow(), 0);
    }

    #[test]
    fn who_waits_for_another_lane_goes_on_when_that_gives_something_back() {
        let share = Arc::new(Share::default());
        let (mut one, mut other) = (share.lane(), share.lane());
        one.holds(FULL);
        assert_eq!(other.holds(0), 0);
        assert!(other.freed().now_or_never().is_none());
        one.holds(FULL - 1);
        assert!(other.freed().now_or_never().is_some());
        assert!(other.freed().now_or_never().is_none());
        drop(one);
        assert!(other.freed().now_or_never().is_some());
    }

    #[test]
    fn answers_wait_in_so_many_bytes_and_no_more() {
        let share = Share::default();
        let first = share.answer(PEER_ANSWER_BYTES_WAITING_MAX - 1);
        assert!(first.is_some() && share.answer(2).is_none());
        drop(first);
        assert!(share.answer(2).is_some());
    }
}
