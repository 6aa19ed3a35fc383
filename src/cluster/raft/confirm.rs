//! Answers that rest on a look at a fold, held back until a majority has confirmed that this node still leads.
//!
//! A node that was paused or cut off may take itself for the leader while another one decides. What it answers from the
//! log was committed; what it answers from memory may be old. So those answers wait for a round of confirmations that
//! began after they were made: one round for all that wait.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What came of a round of confirmations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// A majority says that this node leads.
    Confirmed,
    /// Too few answered.
    Again,
    /// This node leads no longer.
    Over,
}

/// Gives an answer.
type Give = Box<dyn FnOnce() + Send>;

/// The answers of one shard that wait. Bounded by the requests that the doors let in.
#[derive(Default)]
pub(crate) struct Confirming {
    waiting: Mutex<Vec<Give>>,
    bell: Notify,
}

impl Confirming {
    fn waiting(&self) -> MutexGuard<'_, Vec<Give>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds an answer back until the next confirmation.
    pub(crate) fn hold(&self, give: impl FnOnce() + Send + 'static) {
        self.waiting().push(Box::new(give));
        self.bell.notify_one();
    }

    /// Drops what waits: this node leads no longer.
    pub(crate) fn clear(&self) {
        self.waiting().clear();
    }

    /// Waits for answers, has them confirmed, gives them; for ever. Answers whose round fails wait for the next.
    pub(crate) async fn run<F: Future<Output = Round>>(&self, confirm: impl Fn() -> F) {
        loop {
            self.bell.notified().await;
            let mut held = std::mem::take(&mut *self.waiting());
            if held.is_empty() {
                continue;
            }
            match confirm().await {
                Round::Confirmed => held.into_iter().for_each(|give| give()),
                Round::Again => {
                    let mut waiting = self.waiting();
                    held.append(&mut waiting);
                    *waiting = held;
                    drop(waiting);
                    self.bell.notify_one();
                }
                Round::Over => {}
            }
        }
    }
}

impl std::fmt::Debug for Confirming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Confirming({} waiting)", self.waiting().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    #[tokio::test]
    async fn an_answer_waits_for_a_round_that_succeeds_and_one_round_serves_all() {
        let confirming = Arc::new(Confirming::default());
        let (given, rounds) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..3 {
            let given = Arc::clone(&given);
            confirming.hold(move || {
                let _ = given.fetch_add(1, Ordering::SeqCst);
            });
        }
        let (running, counted, seen) = (
            Arc::clone(&confirming),
            Arc::clone(&rounds),
            Arc::clone(&given),
        );
        let task = tokio::spawn(async move {
            running
                .run(|| async {
                    assert_eq!(
                        seen.load(Ordering::SeqCst),
                        0,
                        "nothing is given unconfirmed"
                    );
                    if counted.fetch_add(1, Ordering::SeqCst) > 0 {
                        Round::Confirmed
                    } else {
                        Round::Again
                    }
                })
                .await;
        });
        while given.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(rounds.load(Ordering::SeqCst), 2, "the first round failed");
        task.abort();
    }

    #[tokio::test]
    async fn what_a_former_leader_held_back_is_never_given() {
        let confirming = Confirming::default();
        let given = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let give = Arc::clone(&given);
            confirming.hold(move || {
                let _ = give.fetch_add(1, Ordering::SeqCst);
            });
            confirming.clear();
        }
        let give = Arc::clone(&given);
        confirming.hold(move || {
            let _ = give.fetch_add(1, Ordering::SeqCst);
        });
        let run = confirming.run(|| async { Round::Over });
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(20), run)
                .await
                .is_err()
        );
        assert_eq!(given.load(Ordering::SeqCst), 0);
    }
}
