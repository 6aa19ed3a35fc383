//! The worker pool: where cryptography is done, off the actors and off the network's threads.
//!
//! Promises: whoever causes checks waits behind its own, and takes turns with all others; it takes no place that somebody
//! with fewer needs.

use mimi_actors::{
    ids::{ClientUri, ProviderId},
    limits::{CHECKS_WAITING_PER_CLIENT_MAX, CHECKS_WAITING_PER_PROVIDER_MAX},
};
use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Who causes a check.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// A client of this provider.
    Client(ClientUri),
    /// Another provider, which answers for its clients.
    Provider(ProviderId),
}

impl Cause {
    /// Who answers for a client at the provider `own`.
    pub(crate) fn of(own: &ProviderId, client: &ClientUri) -> Self {
        if client.provider() == own {
            Self::Client(client.clone())
        } else {
            Self::Provider(client.provider().clone())
        }
    }

    fn waiting_max(&self) -> usize {
        match self {
            Self::Client(_) => CHECKS_WAITING_PER_CLIENT_MAX,
            Self::Provider(_) => CHECKS_WAITING_PER_PROVIDER_MAX,
        }
    }
}

/// A job with what is done afterwards; `false` has it given up: whoever waits is told that it was not done.
type Job = Box<dyn FnOnce(bool) + Send>;

/// A bounded pool. A job that panics is lost alone.
#[derive(Clone)]
pub(crate) struct Workers {
    queue: Arc<Mutex<Queue>>,
}

/// What waits for a worker.
struct Queue {
    threads: usize,
    waiting_max: usize,
    running: usize,
    waiting: BTreeMap<Cause, VecDeque<Job>>,
    /// Who has something waiting, in the order of their turns.
    turns: VecDeque<Cause>,
}

/// Too much waits for a worker already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("every worker is busy and the queue is full")]
pub(crate) struct Full;

impl Workers {
    /// A pool of `threads` workers in front of which `waiting_max` jobs may wait.
    pub(crate) fn new(threads: usize, waiting_max: usize) -> Self {
        let queue = Queue {
            threads,
            waiting_max,
            running: 0,
            waiting: BTreeMap::new(),
            turns: VecDeque::new(),
        };
        Self {
            queue: Arc::new(Mutex::new(queue)),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many jobs run or wait, and how many may.
    pub(crate) fn busy(&self) -> (usize, usize) {
        let queue = self.queue();
        let busy = queue.running + queue.waits();
        (busy, queue.threads + queue.waiting_max)
    }

    /// Runs `job` on a worker, then `then` with its result; `None` when the job panicked, or had to make room for somebody
    /// who has less waiting.
    ///
    /// # Errors
    /// [`Full`] at once when too much of the same cause waits, or everybody's queue is full.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        cause: Cause,
        job: impl FnOnce() -> T + Send + 'static,
        then: impl FnOnce(Option<T>) + Send + 'static,
    ) -> Result<(), Full> {
        let workers = self.clone();
        let job: Job = Box::new(move |runs| {
            if !runs {
                return then(None);
            }
            tokio::spawn(async move {
                let work = move || catch_unwind(AssertUnwindSafe(job)).ok();
                let done = tokio::task::spawn_blocking(work).await;
                workers.finished();
                then(done.ok().flatten());
            });
        });
        let displaced = self.queue().push(cause, job)?;
        if let Some(displaced) = displaced {
            displaced(false);
        }
        self.begin();
        Ok(())
    }

    /// Gives the workers that are free something to do.
    fn begin(&self) {
        while let Some(job) = { self.queue().next() } {
            job(true);
        }
    }

    fn finished(&self) {
        self.queue().running -= 1;
        self.begin();
    }
}

impl Queue {
    fn waits(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// Puts a job behind those of its cause; gives one that has to make room for it, of whoever has most waiting.
    fn push(&mut self, cause: Cause, job: Job) -> Result<Option<Job>, Full> {
        let own = self.waiting.get(&cause).map_or(0, VecDeque::len);
        if own >= cause.waiting_max() {
            return Err(Full);
        }
        let mut displaced = None;
        let is_free = self.running < self.threads;
        if !is_free && self.waits() >= self.waiting_max {
            let most = self.waiting.values_mut().max_by_key(|jobs| jobs.len());
            let most = most.filter(|jobs| jobs.len() > own + 1).ok_or(Full)?;
            displaced = most.pop_back();
        }
        if own == 0 {
            self.turns.push_back(cause.clone());
        }
        self.waiting.entry(cause).or_default().push_back(job);
        Ok(displaced)
    }

    /// The next job, if a worker is free for it.
    fn next(&mut self) -> Option<Job> {
        if self.running >= self.threads {
            return None;
        }
        let cause = self.turns.pop_front()?;
        let jobs = self.waiting.get_mut(&cause)?;
        let job = jobs.pop_front()?;
        if jobs.is_empty() {
            self.waiting.remove(&cause);
        } else {
            self.turns.push_back(cause);
        }
        self.running += 1;
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    fn client(name: &str) -> Cause {
        Cause::Client(format!("mimi://a.example/d/{name}/phone").parse().unwrap())
    }

    #[tokio::test]
    async fn a_panicking_job_is_lost_alone_and_a_full_pool_says_so() {
        let workers = Workers::new(1, 1);
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let (first_done, first) = oneshot::channel();
        let (second_done, second) = oneshot::channel();
        let wait = move || held.recv().unwrap_or(());
        workers
            .run(client("a"), wait, |done| first_done.send(done).unwrap())
            .unwrap();
        workers
            .run(
                client("b"),
                || panic!("lost"),
                |done: Option<()>| second_done.send(done).unwrap(),
            )
            .unwrap();
        assert_eq!(workers.run(client("c"), || (), |_| ()), Err(Full));
        assert_eq!(workers.busy(), (2, 2));
        hold.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Some(()));
        assert_eq!(second.await.unwrap(), None);
        assert_eq!(workers.busy(), (0, 2));
    }

    /// What became of jobs that each say their name, in order, once the one that holds the only worker lets go.
    async fn played(waiting_max: usize, asked: &[(&str, &str)]) -> (Vec<bool>, Vec<String>) {
        let workers = Workers::new(1, waiting_max);
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let wait = move || held.recv().unwrap_or(());
        workers.run(client("first"), wait, |_| ()).unwrap();
        let (told, mut tells) = tokio::sync::mpsc::channel(64);
        let taken = asked.iter().map(|(who, name)| {
            let (told, name) = (told.clone(), (*name).to_owned());
            let lost = format!("{name} made room");
            let then = move |done: Option<String>| told.try_send(done.unwrap_or(lost)).unwrap();
            workers.run(client(who), move || name, then).is_ok()
        });
        let taken: Vec<bool> = taken.collect();
        drop(told);
        hold.send(()).unwrap();
        let mut said = Vec::new();
        while let Some(name) = tells.recv().await {
            said.push(name);
        }
        (taken, said)
    }

    #[tokio::test]
    async fn who_asks_for_much_takes_turns_with_who_asks_for_little() {
        let asked = [("eve", "e1"), ("eve", "e2"), ("eve", "e3"), ("bob", "b1")];
        let (taken, said) = played(8, &asked).await;
        assert_eq!(taken, [true; 4]);
        assert_eq!(said, ["e1", "b1", "e2", "e3"]);
    }

    #[tokio::test]
    async fn where_no_place_is_left_whoever_has_most_makes_room() {
        let asked = [
            ("eve", "e1"),
            ("eve", "e2"),
            ("eve", "e3"),
            ("bob", "b1"),
            ("bob", "b2"),
        ];
        let (taken, said) = played(3, &asked).await;
        assert_eq!(taken, [true, true, true, true, false]);
        assert_eq!(said, ["e3 made room", "e1", "b1", "e2"]);
    }

    #[tokio::test]
    async fn of_one_client_only_so_many_wait_though_there_are_places() {
        let asked = vec![("eve", "e"); CHECKS_WAITING_PER_CLIENT_MAX + 1];
        let (taken, _) = played(1_000, &asked).await;
        assert_eq!(taken.iter().filter(|taken| !**taken).count(), 1);
    }
}
