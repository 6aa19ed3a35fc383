//! What happens to the nodes: one of them is hit at a time, or all are stopped together; clocks leap beside that.

use super::{
    NODES,
    node::{Node, SYNC_MS},
};
use crate::sim::{Counts, dice::Dice};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What must happen in some hundred seeds.
#[cfg(test)]
pub(super) const HAPPENS: [&str; 15] = [
    "kills",
    "isolations",
    "cuts of what a node says",
    "cuts of what a node hears",
    "pauses",
    "pauses of all",
    "clocks that leap",
    "leaps of all clocks",
    "slow disks",
    "disks that hang",
    "leaders that asked who follows",
    "leaders elected",
    "leaders that stepped down",
    "waits that ended",
    "candidates",
];

/// By how much clocks leap, in milliseconds: an hour, a day, 40 days.
const LEAPS_MS: [i64; 3] = [3_600_000, 86_400_000, 40 * 86_400_000];
/// How long a slow disk takes for what must be on it, in milliseconds, at most. A leader with a slower one may be taken
/// for stuck.
const SLOW_SYNC_MS_MAX: u64 = 1_200;
/// When the first node is hit, in milliseconds.
const FIRST_MS: u64 = 8_000;

/// What happens to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kill,
    Isolate,
    Out,
    In,
    Pause,
    PauseAll,
    /// Its disk does nothing.
    Hang,
}

/// What happens, and to whom.
pub(super) struct Faults {
    now: Option<(Kind, u64)>,
    began_ms: u64,
    ends_ms: u64,
    next_ms: u64,
    next_pause_ms: u64,
    cut: BTreeSet<(u64, u64)>,
    /// When something happened to each node last.
    hit_ms: BTreeMap<u64, u64>,
    /// Until when all are stopped.
    all_until_ms: u64,
    next_leap_ms: u64,
    leaps_end_ms: u64,
    /// How long the disks take, from when, and until when; then a while longer for what was written meanwhile.
    slow: (u64, u64, u64),
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} until {} ms", self.now, self.ends_ms)
    }
}

impl Faults {
    pub(super) fn new(dice: &mut Dice) -> Self {
        Self {
            now: None,
            began_ms: 0,
            ends_ms: 0,
            next_ms: FIRST_MS + dice.below(2_000),
            next_pause_ms: 0,
            cut: BTreeSet::new(),
            hit_ms: BTreeMap::new(),
            all_until_ms: 0,
            next_leap_ms: dice.between(3_000, 30_000),
            leaps_end_ms: 0,
            slow: (SYNC_MS, dice.between(3_000, 20_000), 0),
        }
    }

    pub(super) fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut.contains(&(from, to))
    }

    /// For how long nothing has happened to a node.
    pub(super) fn well_ms(&self, node: u64, now_ms: u64) -> u64 {
        now_ms - self.hit_ms.get(&node).copied().unwrap_or_default()
    }

    /// When a node was hit last; that it is stopped again and again is one fault.
    pub(super) fn began_ms(&self) -> u64 {
        self.began_ms
    }

    /// Until when all are stopped, where they are.
    pub(super) fn all_went_on_ms(&self, now_ms: u64) -> Option<u64> {
        (now_ms < self.all_until_ms + super::STEP_MS).then_some(now_ms)
    }

    pub(super) fn step(
        &mut self,
        now_ms: u64,
        leader: Option<u64>,
        nodes: &mut BTreeMap<u64, Node>,
        dice: &mut Dice,
        counts: &mut Counts,
    ) {
        self.leap(now_ms, nodes, dice, counts);
        self.slow_down(now_ms, nodes, dice, counts);
        if let Some((kind, victim)) = self.now {
            self.hit_ms.insert(victim, now_ms);
            if now_ms >= self.ends_ms {
                self.end(now_ms, victim, nodes);
                self.next_ms = now_ms + dice.between(4_000, 9_000);
            } else if kind == Kind::Pause && now_ms >= self.next_pause_ms {
                self.pause(now_ms, victim, nodes, dice);
            }
            return;
        }
        if now_ms < self.next_ms {
            return;
        }
        let anybody = dice.between(1, NODES);
        let victim = leader.filter(|_| dice.hits(600)).unwrap_or(anybody);
        let kinds = [
            (Kind::Kill, "kills"),
            (Kind::Isolate, "isolations"),
            (Kind::Out, "cuts of what a node says"),
            (Kind::In, "cuts of what a node hears"),
            (Kind::Pause, "pauses"),
            (Kind::PauseAll, "pauses of all"),
            (Kind::Hang, "disks that hang"),
        ];
        let (kind, what) = kinds[dice.place(kinds.len())];
        counts.one(what);
        self.begin(now_ms, (kind, victim), nodes, dice);
    }

    fn begin(
        &mut self,
        now_ms: u64,
        (kind, victim): (Kind, u64),
        nodes: &mut BTreeMap<u64, Node>,
        dice: &mut Dice,
    ) {
        self.began_ms = now_ms;
        self.ends_ms = now_ms + dice.between(3_000, 12_000);
        let others = (1..=NODES).filter(|node| *node != victim);
        match kind {
            Kind::Kill => {
                if let Some(is) = nodes.get_mut(&victim) {
                    is.up = false;
                }
            }
            Kind::Isolate | Kind::Out | Kind::In => {
                for other in others {
                    if kind != Kind::In {
                        self.cut.insert((victim, other));
                    }
                    if kind != Kind::Out {
                        self.cut.insert((other, victim));
                    }
                }
            }
            Kind::Pause => self.pause(now_ms, victim, nodes, dice),
            Kind::Hang => {
                if let Some(is) = nodes.get_mut(&victim) {
                    is.hangs_until_ms = self.ends_ms;
                }
            }
            Kind::PauseAll => {
                let until_ms = now_ms + dice.between(1_000, 20_000);
                for is in nodes.values_mut() {
                    is.paused_until_ms = until_ms + dice.below(100);
                }
                self.all_until_ms = until_ms + 100;
                self.next_ms = until_ms + dice.between(6_000, 9_000);
                // Nobody is worse off than the others: whoever led goes on.
                return;
            }
        }
        self.now = Some((kind, victim));
        self.hit_ms.insert(victim, now_ms);
    }

    /// A pause of one to three seconds, and a while in which the node runs.
    fn pause(
        &mut self,
        now_ms: u64,
        victim: u64,
        nodes: &mut BTreeMap<u64, Node>,
        dice: &mut Dice,
    ) {
        let until_ms = now_ms + dice.between(1_000, 3_000);
        if let Some(is) = nodes.get_mut(&victim) {
            is.paused_until_ms = until_ms;
        }
        self.next_pause_ms = until_ms + dice.between(200, 2_000);
        self.ends_ms = self.ends_ms.max(until_ms);
    }

    fn end(&mut self, now_ms: u64, victim: u64, nodes: &mut BTreeMap<u64, Node>) {
        self.now = None;
        self.cut.clear();
        if let Some(is) = nodes.get_mut(&victim)
            && !is.up
        {
            is.restart(now_ms);
        }
    }

    /// The disks of all nodes are slow for a while, as where they are parts of one.
    fn slow_down(
        &mut self,
        now_ms: u64,
        nodes: &mut BTreeMap<u64, Node>,
        dice: &mut Dice,
        counts: &mut Counts,
    ) {
        let (_, from_ms, until_ms) = self.slow;
        if until_ms == 0 && now_ms >= from_ms {
            counts.one("slow disks");
            let sync_ms = dice.between(100, SLOW_SYNC_MS_MAX);
            self.slow = (sync_ms, from_ms, now_ms + dice.between(4_000, 20_000));
            nodes.values_mut().for_each(|is| is.sync_ms = sync_ms);
        } else if until_ms != 0 && now_ms >= until_ms {
            nodes.values_mut().for_each(|is| is.sync_ms = SYNC_MS);
            if now_ms >= until_ms + super::OUTAGE_MS_MAX {
                self.slow = (SYNC_MS, now_ms + dice.between(3_000, 20_000), 0);
            }
        }
    }

    /// How long the slowest disk takes, or took lately.
    pub(super) fn sync_ms(&self) -> u64 {
        self.slow.0
    }

    /// One node's clock leaps, or all; and is put right again.
    fn leap(
        &mut self,
        now_ms: u64,
        nodes: &mut BTreeMap<u64, Node>,
        dice: &mut Dice,
        counts: &mut Counts,
    ) {
        if self.leaps_end_ms != 0 && now_ms >= self.leaps_end_ms {
            self.leaps_end_ms = 0;
            self.next_leap_ms = now_ms + dice.between(3_000, 20_000);
            nodes.values_mut().for_each(|is| is.wrong_ms = 0);
        }
        if self.leaps_end_ms != 0 || now_ms < self.next_leap_ms {
            return;
        }
        self.leaps_end_ms = now_ms + dice.between(500, 40_000);
        let by_ms = LEAPS_MS[dice.place(LEAPS_MS.len())];
        let by_ms = if dice.hits(500) { by_ms } else { -by_ms };
        if dice.hits(400) {
            counts.one("leaps of all clocks");
            nodes.values_mut().for_each(|is| is.wrong_ms = by_ms);
        } else if let Some(is) = nodes.get_mut(&dice.between(1, NODES)) {
            counts.one("clocks that leap");
            is.wrong_ms = by_ms;
        }
    }
}
