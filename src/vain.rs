//! What came to nothing, by whoever asked for it: how much somebody may ask in vain, and the line in which one stands who has.
//!
//! What is asked costs before it is known whether anything comes of it. So it is paid when it is asked, and what came to
//! something is given back: who asks for what there is never waits, however much it asks. (Given back is also what time has
//! given already, so who gets much may ask for as much more in vain.)
//!
//! Promises: whoever has asked for too much in vain is looked at as often as the rate says, one request after the other and
//! the longest waiting first; only so many of one stand in line, with what they ask for in memory; nobody else waits.

use mimi_actors::{
    bucket::{Buckets, Rate},
    limits::IN_LINE_MAX,
    machine::Millis,
    wire::refusal::TryLater,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Mutex as Turns, Notify, Semaphore},
    time::{Instant, timeout_at},
};

/// How long one may stand in line before it is told to come again.
const LINE: Duration = Duration::from_secs(10);

/// What everybody asked for in vain.
#[derive(Debug)]
pub(crate) struct InVain<K: Ord> {
    rate: Rate,
    /// Of how many it is counted; who asked least is forgotten first.
    max: usize,
    since: Instant,
    used: Mutex<Buckets<K>>,
    lines: Mutex<BTreeMap<K, Weak<Line>>>,
    refused: AtomicU64,
    /// How long one may stand in line before it is told to come again.
    line: Duration,
}

/// Those who wait for one.
#[derive(Debug)]
struct Line {
    places: Semaphore,
    turn: Turns<()>,
    given_back: Notify,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            places: Semaphore::new(IN_LINE_MAX),
            turn: Turns::default(),
            given_back: Notify::new(),
        }
    }
}

/// What was paid for a request, until it is known what came of it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Paid<K: Ord> {
    who: K,
    items: u32,
}

impl<K: Ord + Clone> InVain<K> {
    /// Each may ask for so much in vain; it is counted of so many at most.
    pub(crate) fn new(rate: Rate, max: usize) -> Self {
        Self {
            rate,
            max,
            since: Instant::now(),
            used: Mutex::default(),
            lines: Mutex::default(),
            refused: AtomicU64::new(0),
            line: LINE,
        }
    }

    fn used(&self) -> MutexGuard<'_, Buckets<K>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Millis {
        let elapsed = self.since.elapsed().as_millis();
        Millis(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// Pays for `items`, or says how long it takes until one may.
    fn pay(&self, who: &K, items: u32) -> Result<(), Duration> {
        let (mut used, now) = (self.used(), self.now());
        if let Some(wait_ms) = used.wait_ms(who, self.rate, now) {
            return Err(Duration::from_millis(wait_ms));
        }
        used.take(who, items, self.rate, now, self.max);
        Ok(())
    }

    /// The line of `who`, if somebody stands there.
    fn line(&self, who: &K) -> Option<Arc<Line>> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.get(who).and_then(Weak::upgrade)
    }

    /// The line of `who`, to stand there.
    fn stand(&self, who: &K) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(who).and_then(Weak::upgrade) {
            return line;
        }
        lines.retain(|_, line| line.strong_count() > 0);
        let line = Arc::new(Line::default());
        lines.insert(who.clone(), Arc::downgrade(&line));
        line
    }

    /// Waits until `who` may ask for so many things, and pays for them.
    ///
    /// # Errors
    /// After ten seconds in line, and when too many stand there, with when to come again.
    pub(crate) async fn ask(&self, who: &K, items: u32) -> Result<Paid<K>, TryLater> {
        let paid = || Paid {
            who: who.clone(),
            items,
        };
        if self.line(who).is_none() && self.pay(who, items).is_ok() {
            return Ok(paid());
        }
        let line = self.stand(who);
        let mut wait = Duration::ZERO;
        let Ok(_place) = line.places.try_acquire() else {
            return Err(self.refuse(wait));
        };
        let deadline = Instant::now() + self.line;
        let turn = async {
            let _first = line.turn.lock().await;
            loop {
                let given_back = line.given_back.notified();
                match self.pay(who, items) {
                    Ok(()) => return,
                    Err(longer) => wait = longer,
                }
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = given_back => {}
                }
            }
        };
        if timeout_at(deadline, turn).await.is_ok() {
            return Ok(paid());
        }
        Err(self.refuse(wait))
    }

    /// It is to come again, after this time or a moment.
    fn refuse(&self, wait: Duration) -> TryLater {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        TryLater::overloaded(wait_ms.max(TryLater::BUSY.after_ms))
    }

    /// It is known what came of a request: so many things of it were asked for in vain.
    pub(crate) fn came_of(&self, paid: Paid<K>, in_vain: u32) {
        let Paid { who, items } = paid;
        let back = items.saturating_sub(in_vain);
        if back == 0 {
            return;
        }
        self.used().give_back(&who, back, self.rate);
        if let Some(line) = self.line(&who) {
            line.given_back.notify_one();
        }
    }

    /// How often one was told to come again, since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    /// One a millisecond.
    const FAST: Rate = Rate {
        burst: 10,
        per_minute: 60_000,
    };
    /// One a minute.
    const SLOW: Rate = Rate {
        burst: 10,
        per_minute: 1,
    };

    fn vain(rate: Rate) -> InVain<&'static str> {
        InVain::new(rate, 8)
    }

    #[tokio::test]
    async fn who_gets_what_it_asks_for_never_waits() {
        let vain = vain(SLOW);
        for _ in 0..1_000 {
            let paid = vain.ask(&"alice", 10).now_or_never().unwrap().unwrap();
            vain.came_of(paid, 0);
        }
        assert_eq!(vain.refused(), 0);
    }

    #[tokio::test]
    async fn who_asks_in_vain_is_looked_at_as_often_as_the_rate_says_and_nobody_else_waits() {
        let vain = vain(FAST);
        let begin = Instant::now();
        for _ in 0..60 {
            let paid = vain.ask(&"mallory", 1).await.unwrap();
            vain.came_of(paid, 1);
            let other = vain.ask(&"alice", 1).now_or_never().unwrap().unwrap();
            vain.came_of(other, 0);
        }
        assert!(begin.elapsed() >= Duration::from_millis(49));
    }

    #[tokio::test]
    async fn who_stands_in_line_for_too_long_is_told_when_to_come_again() {
        let vain = InVain {
            line: Duration::from_millis(20),
            ..vain(SLOW)
        };
        let first = vain.ask(&"mallory", 12).await.unwrap();
        let asked = (0..4).map(|_| vain.ask(&"mallory", 5));
        let answers = futures::future::join_all(asked).await;
        let later = |answer: &Result<_, TryLater>| answer.as_ref().unwrap_err().after_ms;
        assert!(answers.iter().all(|answer| later(answer) >= 250));
        assert!(
            (100_000..=180_000).contains(&later(&answers[0])),
            "three minutes"
        );
        assert_eq!(vain.refused(), 4);
        vain.came_of(first, 0);
        let now = vain.ask(&"mallory", 5).now_or_never();
        assert!(now.unwrap().is_ok(), "it was given back");
    }

    #[tokio::test]
    async fn only_so_many_of_one_stand_in_line_and_further_ones_are_told_at_once() {
        let vain = vain(SLOW);
        let first = vain.ask(&"mallory", 12).await.unwrap();
        let asked = (0..=IN_LINE_MAX).map(|_| Box::pin(vain.ask(&"mallory", 1)));
        let mut asked: Vec<_> = asked.collect();
        let told = asked.iter_mut().map(|ask| ask.as_mut().now_or_never());
        let told: Vec<_> = told.collect();
        assert!(told[..IN_LINE_MAX].iter().all(Option::is_none));
        assert!(
            matches!(told[IN_LINE_MAX], Some(Err(_))),
            "there is no place"
        );
        assert!(vain.ask(&"alice", 1).now_or_never().unwrap().is_ok());
        asked.clear();
        vain.came_of(first, 0);
        assert!(vain.ask(&"mallory", 1).now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn who_stands_in_line_goes_on_once_something_is_given_back() {
        let vain = vain(SLOW);
        let first = vain.ask(&"alice", 15).await.unwrap();
        let mut second = Box::pin(vain.ask(&"alice", 2));
        assert!(second.as_mut().now_or_never().is_none());
        let mut third = Box::pin(vain.ask(&"alice", 1));
        assert!(third.as_mut().now_or_never().is_none());
        vain.came_of(first, 0);
        assert!(
            third.as_mut().now_or_never().is_none(),
            "it is not its turn"
        );
        assert!(second.as_mut().now_or_never().unwrap().is_ok());
        assert!(third.as_mut().now_or_never().unwrap().is_ok());
        drop((second, third));
        assert!(vain.line(&"alice").is_none());
    }
}
