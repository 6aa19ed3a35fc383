//! What time a node takes it to be: its own clock is a witness among several, and never believed in a leap.
//!
//! A [`Clock`] counts on with the machine's monotonic clock, which nobody sets. It is led by the clocks of the cluster's
//! nodes, which they tell each other once a second:
//!
//! - A node whose time differs from that of the nodes in the middle goes over to theirs at once. So a leader stamps no
//!   further ahead, nor behind, than the clocks of its peers allow, whatever its own clock says. One that was suspended,
//!   or started with a wrong clock, is right as soon as it has heard of the others.
//! - Where the clocks in the middle run a little off, the time is moved there slowly. Where they leap (all of them, or that
//!   of a node alone), the leap is followed only when it has lasted: an hour forward and back changes nothing.
//!
//! Of two nodes that differ neither can tell which is right: both keep their time, but one that has just started takes
//! over the time of one that has run for longer. All times are told in milliseconds, as distances from the monotonic clock.
//!
//! Not here: who exchanges what; the time of a shard, which follows from its log (`shard::time`).

use crate::machine::Millis;
use std::collections::BTreeMap;

/// How far two clocks may differ and count as one, in milliseconds: how long a question may take is in it.
pub const AGREE_MS: i64 = 1_000;
/// By how much the time is moved in one look, in milliseconds, towards clocks that run a little off.
pub const SLEW_MS: i64 = 50;
/// What is more than this is a leap, in milliseconds.
pub const LEAP_MS: i64 = 10_000;
/// How long a leap of all clocks must last before it is followed, in milliseconds.
pub const FOLLOW_AFTER_MS: u64 = 600_000;
/// A node whose clock differs by more from that of most others is not fit to lead, in milliseconds.
pub const APART_MS_MAX: u64 = 60_000;
/// For how long what a node said of its clock counts, in milliseconds.
pub const HEARD_MS: u64 = 10_000;
/// For how long a node that has started waits to hear of the others' clocks before it leads, in milliseconds.
pub const SETTLE_MS: u64 = 3_000;
const _: () = assert!(AGREE_MS < LEAP_MS && LEAP_MS.unsigned_abs() < APART_MS_MAX);

/// What a node says of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// What its own clock says.
    pub wall: Millis,
    /// What it takes the time to be.
    pub time: Millis,
    /// For how long it has run, in milliseconds.
    pub running_ms: u64,
}

/// What an operator should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The clocks have leapt by this; the time has not.
    Leapt(i64),
    /// The leap has lasted: the time has moved by this.
    Followed(i64),
    /// The time has moved by this, to that of the other nodes.
    WentOver(i64),
    /// The clock of a node differs by this from the time.
    Apart(u64, i64),
    /// It does not any more.
    Together(u64),
}

/// Another node's clock, as distances from this node's monotonic clock.
#[derive(Clone, Copy, Debug)]
struct Other {
    wall: i64,
    time: i64,
    heard_ms: u64,
}

/// What time it is. A reading of the monotonic clock is given to each call, in milliseconds since the node started.
#[derive(Clone, Debug)]
pub struct Clock {
    me: u64,
    /// Whether there are no others to hear of.
    alone: bool,
    wall: i64,
    time: i64,
    others: BTreeMap<u64, Other>,
    /// It has heard of another node's clock since it started.
    heard: bool,
    /// A leap that is not followed yet: how far, and since when.
    leap: Option<(i64, u64)>,
    reported_apart: BTreeMap<u64, i64>,
}

/// The one in the middle; of two in the middle the lower.
fn middle(mut clocks: Vec<i64>) -> Option<i64> {
    clocks.sort_unstable();
    clocks.get(clocks.len().saturating_sub(1) / 2).copied()
}

/// How far a time is from the monotonic clock.
fn distance(time: Millis, now_ms: u64) -> i64 {
    i64::try_from(i128::from(time.0) - i128::from(now_ms)).unwrap_or(i64::MAX)
}

impl Clock {
    /// The clock of a node that starts while its own says `wall`.
    #[must_use]
    pub fn new(me: u64, alone: bool, wall: Millis, now_ms: u64) -> Self {
        let wall = distance(wall, now_ms);
        Self {
            me,
            alone,
            wall,
            time: wall,
            others: BTreeMap::new(),
            heard: false,
            leap: None,
            reported_apart: BTreeMap::new(),
        }
    }

    /// What the time is.
    #[must_use]
    pub fn time(&self, now_ms: u64) -> Millis {
        Millis(now_ms.saturating_add_signed(self.time))
    }

    /// How far the time is from the monotonic clock, in milliseconds.
    #[must_use]
    pub fn distance_ms(&self) -> i64 {
        self.time
    }

    /// Takes note of what another node says of its time, now.
    pub fn hear(&mut self, node: u64, told: Told, now_ms: u64) {
        let other = Other {
            wall: distance(told.wall, now_ms),
            time: distance(told.time, now_ms),
            heard_ms: now_ms,
        };
        let first = !std::mem::replace(&mut self.heard, true);
        if first && told.running_ms > now_ms && self.differs(other.time) {
            self.time = other.time;
            self.leap = None;
        }
        self.others.insert(node, other);
    }

    fn differs(&self, from: i64) -> bool {
        from.abs_diff(self.time) > AGREE_MS.unsigned_abs()
    }

    /// The middle of what this node and the others have, where there are enough to have one.
    fn middle_of(&self, own: i64, of: impl Fn(&Other) -> i64) -> Option<i64> {
        let clocks = self.others.values().map(of).chain([own]);
        middle(clocks.collect()).filter(|_| self.others.len() >= 2)
    }

    /// Looks at the node's own clock, about once a second, and moves the time where it must be moved.
    pub fn look(&mut self, wall: Millis, now_ms: u64) -> Vec<News> {
        let mut news = Vec::new();
        self.wall = distance(wall, now_ms);
        self.others
            .retain(|_, other| now_ms.saturating_sub(other.heard_ms) < HEARD_MS);
        let agreed = self.middle_of(self.time, |other| other.time);
        if let Some(agreed) = agreed.filter(|agreed| self.differs(*agreed)) {
            news.push(News::WentOver(agreed - self.time));
            (self.time, self.leap) = (agreed, None);
        }
        let aim = self.middle_of(self.wall, |other| other.wall);
        // Of two clocks neither is the middle: where they differ, nothing is moved.
        let agree = |other: &Other| other.wall.abs_diff(self.wall) <= AGREE_MS.unsigned_abs();
        let aim = aim.or(self.others.values().all(agree).then_some(self.wall));
        if let Some(off) = aim.map(|aim| aim - self.time) {
            news.extend(self.follow(off, now_ms));
        }
        news.extend(self.tell_apart());
        news
    }

    fn follow(&mut self, off: i64, now_ms: u64) -> Option<News> {
        if off.abs() <= LEAP_MS {
            self.leap = None;
            self.time += off.clamp(-SLEW_MS, SLEW_MS);
            return None;
        }
        match self.leap {
            Some((by, since_ms)) if by.abs_diff(off) <= LEAP_MS.unsigned_abs() => {
                if now_ms.saturating_sub(since_ms) < FOLLOW_AFTER_MS {
                    return None;
                }
                self.leap = None;
                self.time += off;
                Some(News::Followed(off))
            }
            Some(_) | None => {
                self.leap = Some((off, now_ms));
                Some(News::Leapt(off))
            }
        }
    }

    fn tell_apart(&mut self) -> Vec<News> {
        let others = self.others.iter().map(|(node, other)| (*node, other.wall));
        let apart: BTreeMap<u64, i64> = others
            .chain([(self.me, self.wall)])
            .map(|(node, wall)| (node, wall - self.time))
            .filter(|(_, ms)| ms.unsigned_abs() > APART_MS_MAX)
            .collect();
        let new = apart
            .iter()
            .filter(|(node, _)| !self.reported_apart.contains_key(node));
        let mut news: Vec<News> = new.map(|(node, ms)| News::Apart(*node, *ms)).collect();
        let over = self.reported_apart.keys();
        let over = over.filter(|node| !apart.contains_key(node));
        news.extend(over.map(|node| News::Together(*node)));
        self.reported_apart = apart;
        news
    }

    /// How far a node's own clock is ahead of the time, in milliseconds, where it is known.
    #[must_use]
    pub fn ahead_ms(&self, node: u64) -> Option<i64> {
        let wall = if node == self.me {
            Some(self.wall)
        } else {
            self.others.get(&node).map(|other| other.wall)
        };
        wall.map(|wall| wall - self.time)
    }

    /// By how much this node's clock is ahead of most others', where that is too much for a leader. A node alone, or one of
    /// two, cannot know.
    #[must_use]
    pub fn apart_ms(&self) -> Option<i64> {
        let most = self.middle_of(self.wall, |other| other.wall)?;
        let ahead_ms = self.wall - most;
        (ahead_ms.unsigned_abs() > APART_MS_MAX).then_some(ahead_ms)
    }

    /// Whether it has heard what the others take the time to be, or has waited long enough.
    #[must_use]
    pub fn is_settled(&self, now_ms: u64) -> bool {
        self.alone || self.heard || now_ms >= SETTLE_MS
    }
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
