//! The worker pool: where cryptography is done, off the actors and off the network's threads.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};
use tokio::sync::Semaphore;

/// A bounded pool. A job that panics is lost alone.
#[derive(Clone, Debug)]
pub(crate) struct Workers {
    places: Arc<Semaphore>,
    running: Arc<Semaphore>,
    jobs_max: usize,
}

/// Too much waits for a worker already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every worker is busy and the queue is full")]
pub(crate) struct Full;

impl Workers {
    /// A pool of `threads` workers in front of which `waiting_max` jobs may wait.
    pub(crate) fn new(threads: usize, waiting_max: usize) -> Self {
        let jobs_max = threads + waiting_max;
        Self {
            places: Arc::new(Semaphore::new(jobs_max)),
            running: Arc::new(Semaphore::new(threads)),
            jobs_max,
        }
    }

    /// How many jobs run or wait, and how many may.
    pub(crate) fn busy(&self) -> (usize, usize) {
        (
            self.jobs_max - self.places.available_permits(),
            self.jobs_max,
        )
    }

    /// Runs `job` on a worker, then `then` with its result; `None` when the job panicked.
    ///
    /// # Errors
    /// [`Full`] at once when too much waits.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(Option<T>) + Send + 'static,
    ) -> Result<(), Full> {
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| Full)?;
        let running = Arc::clone(&self.running);
        tokio::spawn(async move {
            let turn = running.acquire_owned().await;
            let work = tokio::task::spawn_blocking(move || {
                let result = catch_unwind(AssertUnwindSafe(job)).ok();
                drop((turn, place));
                result
            });
            then(work.await.ok().flatten());
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn a_panicking_job_is_lost_alone_and_a_full_pool_says_so() {
        let workers = Workers::new(1, 1);
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let (first_done, first) = oneshot::channel();
        let (second_done, second) = oneshot::channel();
        let wait = move || held.recv().unwrap_or(());
        workers
            .run(wait, |done| first_done.send(done).unwrap())
            .unwrap();
        workers
            .run(
                || panic!("lost"),
                |done: Option<()>| second_done.send(done).unwrap(),
            )
            .unwrap();
        assert_eq!(workers.run(|| (), |_| ()), Err(Full));
        assert_eq!(workers.busy(), (2, 2));
        hold.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Some(()));
        assert_eq!(second.await.unwrap(), None);
        assert_eq!(workers.busy(), (0, 2));
    }
}
