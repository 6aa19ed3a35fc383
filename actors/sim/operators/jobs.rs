//! Operators' commands on their way: the node's own machines, asked and answered in the world.

use super::{
    cluster::{SHARDS, World},
    disk::{Members, What},
};
use crate::{
    membership::{
        Next, Order, Probe, View, Wish, chain,
        change::{Change, Outcome, Task, Verdict},
        next,
    },
    wire::BText,
};
use std::collections::BTreeSet;

/// How often a shard is asked again before an operator gives up.
const PATIENCE: u32 = 25;

/// A command that somebody has begun.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) wish: Wish,
    change: Change,
    /// The node that is asked.
    asked: u64,
    tries: u32,
    /// At which step it was begun.
    begun: u64,
    repair: bool,
    /// No other command was on its way meanwhile, which could have undone what this one did.
    alone: bool,
}

impl Job {
    pub(super) fn new(number: u64, wish: Wish, asked: u64, begun: u64, repair: bool) -> Self {
        Self {
            number,
            wish,
            change: Change::new(SHARDS),
            asked,
            tries: 0,
            begun,
            repair,
            alone: true,
        }
    }
}

impl World {
    /// Every command goes one step on.
    pub(super) fn carry_on(&mut self) {
        for place in (0..self.jobs.len()).rev() {
            let mut job = self.jobs[place].clone();
            job.alone &= self.jobs.len() == 1;
            if self.step_of(&mut job) {
                self.jobs[place] = job;
            } else {
                self.jobs.remove(place);
            }
        }
    }

    /// One step; false when the command has ended.
    fn step_of(&mut self, job: &mut Job) -> bool {
        let outcome = match job.change.task().clone() {
            Task::Look(shard) | Task::Verify(shard) => match self.leader_for(job.asked, shard) {
                Some(leader) => Some(Outcome::Next(self.next_of(leader, shard, &job.wish))),
                None => self.again(job, "it has no leader"),
            },
            Task::Begin => Some(self.begin(job)),
            Task::Carry(shard) => match self.leader_for(job.asked, shard) {
                Some(leader) => self.carry(job, leader, shard),
                None => self.again(job, "it has no leader"),
            },
            Task::End => {
                self.write_down(job.asked, job.number, None);
                Some(Outcome::Done)
            }
            Task::Over(verdict) => {
                self.ended(job, &verdict);
                return false;
            }
        };
        if let Some(outcome) = outcome {
            job.tries = 0;
            job.change.did(outcome);
        }
        true
    }

    fn again(&self, job: &mut Job, why: &str) -> Option<Outcome> {
        job.tries += 1;
        (job.tries > PATIENCE).then(|| Outcome::Failed(why.to_owned()))
    }

    /// The leader of a shard, if the node that is asked can reach it.
    fn leader_for(&mut self, asked: u64, shard: u16) -> Option<u64> {
        let (leader, _) = self.leaders.get(&shard).copied()?;
        self.meet(asked, leader).then_some(leader)
    }

    /// One change at a time, as far as the leader of the first shard knows.
    fn begin(&mut self, job: &Job) -> Outcome {
        let Some(leader) = self.leader_for(job.asked, 0) else {
            return Outcome::Failed("the first shard has no leader".to_owned());
        };
        // A new leader of the first shard knows of none.
        if let Some((of, other)) = self.under_way
            && of == leader
            && other != job.number
            && self.jobs.iter().any(|job| job.number == other)
        {
            return Outcome::Failed("another change is under way".to_owned());
        }
        self.under_way = Some((leader, job.number));
        self.write_down(job.asked, job.number, Some(job.wish.clone()));
        Outcome::Done
    }

    fn write_down(&mut self, asked: u64, number: u64, wish: Option<Wish>) {
        let all: Vec<u64> = self.running.keys().copied().collect();
        for other in all {
            if !self.meet(asked, other) {
                continue;
            }
            if let Some(process) = self.running.get_mut(&other) {
                let note = &mut process.disk.note;
                match &wish {
                    Some(wish) => *note = Some((number, wish.clone())),
                    None if note.as_ref().is_some_and(|(noted, _)| *noted == number) => {
                        *note = None
                    }
                    None => {}
                }
            }
        }
    }

    fn carry(&mut self, job: &mut Job, leader: u64, shard: u16) -> Option<Outcome> {
        match self.next_of(leader, shard, &job.wish) {
            Next::Done => Some(Outcome::Done),
            Next::Refuse(refusal) => Some(Outcome::Failed(refusal.to_string())),
            Next::Wait(waiting) => self.again(job, &waiting.to_string()),
            Next::Do(order) => {
                self.judge_order(leader, shard, &job.wish, &order);
                self.order(leader, shard, order);
                None
            }
        }
    }

    fn order(&mut self, leader: u64, shard: u16, order: Order) {
        let before = self.members(leader, shard);
        let mut members = before.clone();
        self.tell(format!("shard {shard}: {order:?}"));
        match order {
            Order::Learn { node, address } => {
                members.learners.insert(node);
                members.addresses.insert(node, address.to_string());
            }
            Order::Vote { voters } => {
                let out: BTreeSet<u64> = before.voters.difference(&voters).copied().collect();
                members.learners.retain(|node| !voters.contains(node));
                members.learners.extend(out);
                // The same voters again: what somebody began is finished.
                members.before = if before.before.is_empty() {
                    before.voters
                } else {
                    BTreeSet::new()
                };
                members.voters = voters;
            }
            Order::Forget { node } => {
                members.learners.remove(&node);
                members.addresses.remove(&node);
            }
            Order::HandOver { to } => {
                self.leaders.remove(&shard);
                if let Some(to) = self.process_of(leader, to) {
                    self.elect(to, shard);
                }
                return;
            }
            Order::Readdress { node, address } => {
                members.addresses.insert(node, address.to_string());
            }
        }
        self.append(leader, shard, What::Members(members));
    }

    fn next_of(&mut self, leader: u64, shard: u16, wish: &Wish) -> Next {
        let Members {
            voters,
            before,
            learners,
            addresses,
        } = self.members(leader, shard);
        let log = self.log(leader, shard);
        let settled = log.members().is_none_or(|(at, _)| at <= log.committed);
        let mut view = View {
            shard,
            leader: self.running[&leader].disk.node,
            changing: !settled,
            voters,
            before,
            learners,
            addresses,
            ..View::default()
        };
        let all: Vec<u64> = view.voters.union(&view.learners).copied().collect();
        for node in all {
            let Some(process) = self
                .process_of(leader, node)
                .filter(|other| *other != leader)
            else {
                continue;
            };
            let log = self.log(leader, shard);
            let lag = log.slots.len() - log.common(self.log(process, shard));
            view.lag_entries.insert(node, lag as u64);
        }
        if let Some((node, address)) = wish.newcomer() {
            let there = view
                .addresses
                .get(&node)
                .is_some_and(|at| **at == **address);
            if !there {
                view.newcomer = Some(self.probe(leader, node, address, &view));
            }
        }
        next(wish, &view)
    }

    /// Speaks to a node at an address.
    fn probe(&mut self, leader: u64, node: u64, address: &str, view: &View) -> Probe {
        let silent = Probe::Silent {
            why: BText::clipped("nobody is there"),
        };
        let there = self.running.iter();
        let there = there.filter(|(_, process)| {
            process.at == address && process.disk.node == node && !process.cut
        });
        let Some(there) = there.map(|(number, _)| *number).next() else {
            return silent;
        };
        if there == leader {
            return Probe::Belongs;
        }
        if self.running[&leader].cut || !self.meet_at(leader, there) {
            return Probe::Stranger {
                why: BText::clipped("it is not who it was"),
            };
        }
        let process = &self.running[&there];
        let has_log = !self.log(there, view.shard).slots.is_empty();
        let elsewhere = process.disk.logs.iter().any(|log| !log.slots.is_empty());
        match (view.has(node), has_log) {
            (true, _) => Probe::Belongs,
            (false, true) => Probe::Used,
            (false, false) if process.waits => Probe::Waits,
            (false, false) if elsewhere => Probe::Belongs,
            (false, false) => Probe::DoesNotWait,
        }
    }

    /// As [`World::meet`], where the operator has said the address.
    fn meet_at(&mut self, one: u64, other: u64) -> bool {
        let known = self.reaches(one, other);
        known && self.meet(one, other) || {
            let judged = |who: u64, whom: u64| {
                let (who, whom) = (&self.running[&who].disk, &self.running[&whom].disk);
                chain::judge(who.known.get(&whom.node), whom.incarnation, &whom.starts).is_ok()
            };
            !known && judged(one, other) && judged(other, one)
        }
    }

    fn ended(&mut self, job: &Job, verdict: &Verdict) {
        self.tell(format!("{}: {verdict:?}", job.wish));
        match verdict {
            Verdict::Done { changed } => {
                self.one("changes done");
                if job.repair {
                    self.one("changes finished by a repair");
                }
                if job.alone {
                    self.judge_done(&job.wish, job.begun);
                }
                if let Wish::Leave { node } | Wish::Replace { node, .. } = job.wish
                    && *changed > 0
                {
                    self.let_go(node);
                }
            }
            Verdict::Refused(_) | Verdict::NotBegun { .. } => self.one("changes refused"),
            Verdict::Interrupted { .. } => self.one("changes interrupted"),
        }
    }

    /// Whoever has seen that a node belongs to no shard any more lets it go.
    fn let_go(&mut self, node: u64) {
        for process in self.running.values_mut() {
            if process.disk.node != node {
                process.disk.known.entry(node).or_default().left = true;
            }
        }
    }
}
