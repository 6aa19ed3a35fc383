//! Nodes, their clocks, and what they tell each other.

use super::*;

/// The true time when the tests begin.
const BEGAN: u64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Nodes whose monotonic clocks all began with the test; each has a clock that is wrong by so much.
struct Cluster {
    now_ms: u64,
    wrong: Vec<i64>,
    clocks: Vec<Clock>,
    news: Vec<News>,
}

impl Cluster {
    fn new(wrong: &[i64]) -> Self {
        let clock = |(node, wrong): (u64, &i64)| {
            let wall = Millis(BEGAN.saturating_add_signed(*wrong));
            Clock::new(node, false, wall, 0)
        };
        Self {
            now_ms: 0,
            wrong: wrong.to_vec(),
            clocks: (1..).zip(wrong).map(clock).collect(),
            news: Vec::new(),
        }
    }

    fn wall(&self, place: usize) -> Millis {
        Millis((BEGAN + self.now_ms).saturating_add_signed(self.wrong[place]))
    }

    /// Lets seconds pass.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now_ms += 1_000;
            let told: Vec<Told> = (0..self.clocks.len())
                .map(|place| Told {
                    wall: self.wall(place),
                    time: self.clocks[place].time(self.now_ms),
                    running_ms: self.now_ms,
                })
                .collect();
            for place in 0..self.clocks.len() {
                let wall = self.wall(place);
                let clock = &mut self.clocks[place];
                let me = clock.me;
                for (node, told) in (1..).zip(&told).filter(|(node, _)| *node != me) {
                    clock.hear(node, *told, self.now_ms);
                }
                let news = clock.look(wall, self.now_ms);
                self.news.extend(news);
            }
        }
    }

    /// How far the time of each is from the true one.
    fn off(&self) -> Vec<i64> {
        let off = |clock: &Clock| distance(clock.time(self.now_ms), BEGAN + self.now_ms);
        self.clocks.iter().map(off).collect()
    }
}

#[test]
fn one_clock_of_three_that_leaps_changes_nothing_and_is_told() {
    for leap in [HOUR_MS, DAY_MS, 40 * DAY_MS, -HOUR_MS, -40 * DAY_MS] {
        let mut cluster = Cluster::new(&[0, 0, 0]);
        cluster.pass(5);
        cluster.wrong[1] = leap;
        cluster.pass(1_000);
        assert_eq!(cluster.off(), [0, 0, 0], "{leap}");
        let apart: Vec<_> = cluster.clocks.iter().map(Clock::apart_ms).collect();
        assert_eq!(apart, [None, Some(leap), None]);
        assert_eq!(cluster.clocks[0].ahead_ms(2), Some(leap));
        let apart = News::Apart(2, leap);
        let told = cluster.news.iter().filter(|news| **news == apart);
        assert_eq!(told.count(), 3, "each node tells it once");
        cluster.wrong[1] = 0;
        cluster.pass(2);
        assert_eq!(cluster.clocks[1].apart_ms(), None);
        assert!(cluster.news.contains(&News::Together(2)));
    }
}

#[test]
fn a_node_that_starts_with_a_wrong_clock_is_right_when_it_has_heard_of_the_others() {
    let mut cluster = Cluster::new(&[0, 0, 40 * DAY_MS]);
    cluster.pass(1);
    assert_eq!(cluster.off(), [0, 0, 0]);
}

#[test]
fn a_leap_of_all_clocks_is_followed_when_it_has_lasted_and_one_that_goes_back_never_was() {
    for count in [1, 2, 3] {
        let mut cluster = Cluster::new(&vec![0; count]);
        for leap in [HOUR_MS, -DAY_MS, 40 * DAY_MS] {
            cluster.pass(5);
            cluster.wrong = vec![leap; count];
            cluster.pass(FOLLOW_AFTER_MS / 1_000 - 1);
            cluster.wrong = vec![0; count];
            cluster.pass(5);
            assert_eq!(cluster.off(), vec![0; count], "of {count}, {leap}");
            assert!(cluster.news.contains(&News::Leapt(leap)));
        }
        cluster.wrong = vec![HOUR_MS; count];
        cluster.pass(FOLLOW_AFTER_MS / 1_000 + 3);
        assert_eq!(cluster.off(), vec![HOUR_MS; count], "of {count}");
    }
}

#[test]
fn clocks_that_run_a_little_off_are_followed_slowly() {
    let mut cluster = Cluster::new(&[0]);
    cluster.wrong = vec![900];
    cluster.pass(1);
    assert_eq!(cluster.off(), [SLEW_MS]);
    cluster.pass(30);
    assert_eq!(cluster.off(), [900]);
}

#[test]
fn of_two_nodes_that_differ_the_one_that_starts_takes_over_the_others_time() {
    let mut runs = Clock::new(1, false, Millis(BEGAN), 0);
    let mut starts = Clock::new(2, false, Millis(BEGAN + 4_000_000), 0);
    assert!(!starts.is_settled(0));
    let told = Told {
        wall: Millis(BEGAN + 100),
        time: Millis(BEGAN + 100),
        running_ms: 90_000,
    };
    starts.hear(1, told, 100);
    assert!(starts.is_settled(100));
    assert_eq!(starts.time(100), Millis(BEGAN + 100));
    let wrong = Told {
        wall: Millis(BEGAN + 4_090_100),
        running_ms: 100,
        ..told
    };
    runs.hear(2, wrong, 90_100);
    runs.look(Millis(BEGAN + 90_100), 90_100);
    assert_eq!(runs.time(90_100), Millis(BEGAN + 90_100));
    assert_eq!(runs.apart_ms(), None, "of two neither knows");
}

#[test]
fn a_node_that_was_suspended_goes_over_to_the_time_of_the_others() {
    let mut cluster = Cluster::new(&[0, 0, 0]);
    cluster.pass(5);
    // Its monotonic clock stood still for an hour: everybody else is an hour ahead.
    cluster.clocks[2].time -= HOUR_MS;
    cluster.pass(1);
    assert_eq!(cluster.off(), [0, 0, 0]);
    assert!(cluster.news.contains(&News::WentOver(HOUR_MS)));
}
