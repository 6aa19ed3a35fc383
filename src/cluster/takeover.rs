//! Another node's snapshot in place of the state here, and the log that it stands for.
//!
//! openraft discards the log up to a snapshot as soon as it has told the state machine to take that over, not when that is
//! done. What of the log is still needed is asked of the state, so the log waits for it: a log that went first would
//! take entries with it that only the new state points at, and a node that died then would have neither.

use tokio::sync::watch;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing is taken over.
    Idle,
    /// The state is being replaced; `next` is the first entry that is not in the new one.
    Begun { next: u64 },
    /// The state could not be replaced, and the shard stops.
    Failed,
}

/// The state was not replaced, so the log that the snapshot stands for is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another node's snapshot was not taken over; the log is kept")]
pub(crate) struct NotTakenOver;

/// What the log and the state machine of a shard know of it; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Takeover {
    stage: watch::Sender<Stage>,
}

impl Takeover {
    pub(crate) fn new() -> Self {
        let stage = watch::Sender::new(Stage::Idle);
        Self { stage }
    }

    /// A snapshot is handed over that ends before `next`.
    pub(crate) fn begin(&self, next: u64) {
        self.stage.send_replace(Stage::Begun { next });
    }

    /// It is the state here, or was not wanted.
    pub(crate) fn done(&self) {
        self.leave(Stage::Idle);
    }

    /// It will not be the state here.
    pub(crate) fn failed(&self) {
        self.leave(Stage::Failed);
    }

    fn leave(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let begun = matches!(stage, Stage::Begun { .. });
            if begun {
                *stage = to;
            }
            begun
        });
    }

    /// Waits until the state knows everything below `below`: what is discarded further up stands in the snapshot.
    ///
    /// # Errors
    /// [`NotTakenOver`] when it never will.
    pub(crate) async fn known_below(&self, below: u64) -> Result<(), NotTakenOver> {
        let mut stage = self.stage.subscribe();
        let waits = |stage: &Stage| matches!(stage, Stage::Begun { next } if *next <= below);
        let settled = stage.wait_for(|stage| !waits(stage)).await;
        match settled.as_deref() {
            Ok(Stage::Idle | Stage::Begun { .. }) => Ok(()),
            Ok(Stage::Failed) | Err(_) => Err(NotTakenOver),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[test]
    fn the_log_waits_for_the_state_and_is_kept_when_that_does_not_come() {
        let takeover = Takeover::new();
        let now = |below| takeover.known_below(below).now_or_never();
        assert_eq!(now(50), Some(Ok(())));
        takeover.begin(50);
        assert_eq!(now(50), None);
        assert_eq!(now(49), Some(Ok(())), "the old state knows this");
        takeover.done();
        assert_eq!(now(50), Some(Ok(())));
        takeover.failed();
        assert_eq!(now(50), Some(Ok(())), "nothing was under way");
        takeover.begin(60);
        takeover.failed();
        takeover.done();
        assert_eq!(now(60), Some(Err(NotTakenOver)));
    }
}
