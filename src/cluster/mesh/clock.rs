//! This node's clock: what it takes the time to be, by its own clock and those of the cluster's other nodes.
//!
//! The rules are `mimi_actors::clock`; here are the two clocks of the machine, and the questions to the other nodes.

use super::{
    Mesh,
    frame::{Control, ControlAnswer},
};
use mimi_actors::{
    clock::{self, AGREE_MS, APART_MS_MAX, FOLLOW_AFTER_MS, News, Told},
    machine::Millis,
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How often the other nodes are asked for their time.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How often until one has answered.
const FIRST_ASK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a question may take, in milliseconds: half of it is how wrong its answer may be.
const ASK_MS_MAX: u64 = 500;
const _: () = assert!(ASK_MS_MAX < AGREE_MS.unsigned_abs());

/// The time as one node has it.
pub(crate) struct NodeClock {
    began: Instant,
    /// What is read for every stamp: how far the time is from the monotonic clock.
    distance_ms: AtomicI64,
    rules: Mutex<clock::Clock>,
}

impl NodeClock {
    /// The clock of node `me`, which starts now; `alone` where there are no other nodes.
    pub(crate) fn start(me: u64, alone: bool) -> Self {
        let rules = clock::Clock::new(me, alone, wall(), 0);
        Self {
            began: Instant::now(),
            distance_ms: AtomicI64::new(rules.distance_ms()),
            rules: Mutex::new(rules),
        }
    }

    fn running_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What the time is.
    pub(crate) fn now(&self) -> Millis {
        let distance_ms = self.distance_ms.load(Ordering::Relaxed);
        Millis(self.running_ms().saturating_add_signed(distance_ms))
    }

    /// Asks the rules something, now.
    fn rules(&self) -> MutexGuard<'_, clock::Clock> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What another node is told.
    pub(crate) fn tell(&self) -> Told {
        Told {
            wall: wall(),
            time: self.now(),
            running_ms: self.running_ms(),
        }
    }

    /// Whether this node has heard of the others' time, or has waited for it long enough: before, it does not lead.
    pub(crate) fn is_settled(&self) -> bool {
        self.rules().is_settled(self.running_ms())
    }

    /// How far a node's own clock is ahead of the time, in milliseconds, where it is known.
    pub(crate) fn ahead_ms(&self, node: u64) -> Option<i64> {
        self.rules().ahead_ms(node)
    }

    /// By how much this node's own clock is ahead of most others', in milliseconds, where it is too much to lead.
    pub(crate) fn apart_ms(&self) -> Option<i64> {
        self.rules().apart_ms()
    }

    fn look(&self) {
        let news = {
            let mut rules = self.rules();
            let news = rules.look(wall(), self.running_ms());
            self.distance_ms
                .store(rules.distance_ms(), Ordering::Relaxed);
            news
        };
        news.into_iter().for_each(tell_operator);
    }

    /// Takes note of what another node said on a question that was asked at `asked`.
    fn hear(&self, node: u64, told: Told, asked: Instant) {
        let took_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        if took_ms > ASK_MS_MAX {
            return;
        }
        // It was said on half of the way.
        let now = |time: Millis| time.plus(took_ms / 2);
        let told = Told {
            wall: now(told.wall),
            time: now(told.time),
            ..told
        };
        let mut rules = self.rules();
        rules.hear(node, told, self.running_ms());
        self.distance_ms
            .store(rules.distance_ms(), Ordering::Relaxed);
    }
}

/// Keeps a node's clock right, until the node stops.
pub(crate) async fn keep(clock: Arc<NodeClock>, mesh: Option<Arc<Mesh>>) {
    loop {
        if let Some(mesh) = &mesh {
            let nodes = mesh.others().into_iter().filter(|(_, _, up)| *up);
            let asking = nodes.map(|(node, _, _)| ask(&clock, mesh, node));
            futures::future::join_all(asking).await;
        }
        clock.look();
        let settled = clock.is_settled();
        tokio::time::sleep(if settled {
            ASK_INTERVAL
        } else {
            FIRST_ASK_INTERVAL
        })
        .await;
    }
}

async fn ask(clock: &NodeClock, mesh: &Mesh, node: u64) {
    let asked = Instant::now();
    let deadline = Duration::from_millis(ASK_MS_MAX);
    let answer = mesh.control(node, Control::Clock, deadline).await;
    if let Ok(ControlAnswer::Clock {
        wall,
        time,
        running_ms,
    }) = answer
    {
        let told = Told {
            wall,
            time,
            running_ms,
        };
        clock.hear(node, told, asked);
    }
}

/// The machine's clock, which anybody may set.
fn wall() -> Millis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// "3600 s ahead", "3600 s behind".
fn in_words(ms: i64) -> String {
    let way = if ms < 0 { "behind" } else { "ahead" };
    format!("{} s {way}", ms.unsigned_abs() / 1_000)
}

fn tell_operator(news: News) {
    match news {
        News::Leapt(ms) => tracing::warn!(
            "the machine's clock is {} of where it should be by its own count: it is followed only when it stays so for \
             {} s; see that time synchronisation runs",
            in_words(ms),
            FOLLOW_AFTER_MS / 1_000
        ),
        News::Followed(ms) => tracing::warn!(
            "the machine's clock stayed {}: the node's time is set to it",
            in_words(ms)
        ),
        News::WentOver(ms) => tracing::warn!(
            "the other nodes' time is {} of this node's: this node goes over to theirs",
            in_words(ms)
        ),
        News::Apart(node, ms) => tracing::warn!(
            node,
            "the clock of node {node} is {} of the cluster's time, the limit is {} s: set it, and see that time \
             synchronisation runs there",
            in_words(ms),
            APART_MS_MAX / 1_000
        ),
        News::Together(node) => {
            tracing::info!(
                node,
                "the clock of node {node} agrees with the cluster's time again"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_alone_goes_by_its_machines_clock() {
        let clock = NodeClock::start(1, true);
        assert!(clock.is_settled());
        clock.look();
        let (before, now, after) = (wall(), clock.now(), wall());
        let off = now.0.abs_diff(before.0).min(now.0.abs_diff(after.0));
        assert!(off < 1_000, "{off} ms");
        assert_eq!(clock.apart_ms(), None);
    }

    #[test]
    fn an_answer_that_took_too_long_is_not_heard() {
        let clock = NodeClock::start(1, false);
        let late = Instant::now() - Duration::from_millis(ASK_MS_MAX + 1);
        clock.hear(2, clock.tell(), late);
        assert_eq!(clock.ahead_ms(2), None);
        clock.hear(2, clock.tell(), Instant::now());
        assert!(clock.ahead_ms(2).is_some_and(|ms| ms.abs() < 1_000));
    }

    #[test]
    fn what_an_operator_reads_names_the_way() {
        assert_eq!(in_words(3_600_000), "3600 s ahead");
        assert_eq!(in_words(-61_500), "61 s behind");
    }
}
