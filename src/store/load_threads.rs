//! The threads on which snapshots become the state of shards.
//!
//! Promises: never more at once than there are threads, and no other thread of the node does it. The allocator keeps for
//! each thread what it gave back, so what one shard needed for a moment is what the next one takes, instead of as much again
//! for each thread that happens to be free.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};
use tokio::sync::{Semaphore, oneshot};

/// How many there are.
const LOAD_THREADS: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// The threads; they end when this is dropped and nothing waits any more.
#[derive(Debug)]
pub(super) struct LoadThreads {
    jobs: mpsc::SyncSender<Job>,
    /// A place for each thread: no more is handed to them, so none has to wait to be handed over.
    places: Semaphore,
}

impl LoadThreads {
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, waiting) = mpsc::sync_channel(LOAD_THREADS);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..LOAD_THREADS {
            let waiting = Arc::clone(&waiting);
            let thread = thread::Builder::new().name("snapshots".to_owned());
            thread.spawn(move || work(&waiting))?;
        }
        let places = Semaphore::new(LOAD_THREADS);
        Ok(Self { jobs, places })
    }

    /// Runs something on one of them, when its turn comes; `None` when it panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let _place = self.places.acquire().await.ok()?;
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move || drop(done.send(run())));
        self.jobs.send(job).ok()?;
        result.await.ok()
    }
}

fn work(waiting: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let next = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(job) = next else { return };
        // Whoever waits learns of a panic, for its answer never comes; others have their turn.
        drop(catch_unwind(AssertUnwindSafe(job)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, sync::Barrier};

    #[tokio::test]
    async fn all_is_done_by_the_same_few_threads_also_after_a_panic() {
        let threads = LoadThreads::start().unwrap();
        assert_eq!(threads.run(|| panic!("meant")).await, None::<()>);
        // Each is held until all of them are.
        let together = Arc::new(Barrier::new(LOAD_THREADS));
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let jobs = (0..4 * LOAD_THREADS).map(|_| {
            let (together, seen) = (Arc::clone(&together), Arc::clone(&seen));
            threads.run(move || {
                together.wait();
                let name = format!("{:?}", thread::current().id());
                seen.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(name);
            })
        });
        let done = futures::future::join_all(jobs).await;
        assert!(done.iter().all(Option::is_some));
        assert_eq!(seen.lock().unwrap().len(), LOAD_THREADS);
    }
}
