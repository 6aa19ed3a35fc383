//! What must be true, judged from what the world knows and no node does.

use super::{
    cluster::{SHARDS, World},
    disk::What,
};
use crate::membership::{LEVEL_ENTRIES_MAX, Order, Wish};
use std::collections::BTreeSet;

impl World {
    /// Whether a node runs, is reached by the leader, and has nearly everything.
    fn carries(&mut self, leader: u64, shard: u16, node: u64) -> bool {
        let Some(process) = self.process_of(leader, node) else {
            return false;
        };
        let log = self.log(leader, shard);
        let lag = log.slots.len() - log.common(self.log(process, shard));
        lag as u64 <= LEVEL_ENTRIES_MAX
    }

    /// Whether a majority of some voters carries on; of those who vote already it is enough that they answer.
    fn share(&mut self, leader: u64, shard: u16, voters: &BTreeSet<u64>, vote: bool) -> bool {
        let mut carry = 0;
        for voter in voters {
            let answers = vote && self.process_of(leader, *voter).is_some();
            carry += usize::from(answers || self.carries(leader, shard, *voter));
        }
        carry * 2 > voters.len()
    }

    /// Judges an order before it is carried out.
    pub(super) fn judge_order(&mut self, leader: u64, shard: u16, wish: &Wish, order: &Order) {
        match order {
            Order::Learn { node, address } => {
                let there = self.running.values();
                let mut there = there.filter(|process| process.at == **address);
                if !there.any(|process| process.disk.node == *node) {
                    let why = format!("node {node} is taken in, and is not at {}", &**address);
                    self.violated("phantom", why);
                }
            }
            Order::Vote { voters } => {
                let members = self.members(leader, shard);
                let new: Vec<u64> = voters.difference(&members.voters).copied().collect();
                let out: Vec<u64> = members.voters.difference(voters).copied().collect();
                // What somebody began is finished: only those who voted before are needed no longer.
                let finishes = !members.before.is_empty() && members.voters == *voters;
                if !self.share(leader, shard, voters, finishes) {
                    let why = format!("shard {shard}: of {voters:?} no majority carries on");
                    self.violated("quorum", why);
                }
                for node in new {
                    if !self.carries(leader, shard, node) {
                        let why = format!("shard {shard}: node {node} votes and lacks entries");
                        self.violated("level", why);
                    }
                }
                for node in out {
                    let spared = matches!(wish, Wish::Replace { force: false, .. });
                    if spared && self.process_of(leader, node).is_some() {
                        let why = format!("shard {shard}: node {node} is well and replaced");
                        self.violated("healthy", why);
                    }
                }
            }
            Order::Forget { .. } | Order::HandOver { .. } | Order::Readdress { .. } => {}
        }
    }

    /// Judges a change that is said to be done, and was begun at a step.
    pub(super) fn judge_done(&mut self, wish: &Wish, begun: u64) {
        for shard in 0..SHARDS {
            let Some((leader, _)) = self.leaders.get(&shard).copied() else {
                continue;
            };
            let members = self.members(leader, shard);
            let has =
                |node: u64| members.voters.contains(&node) || members.learners.contains(&node);
            let at = |node: u64| members.addresses.get(&node).cloned().unwrap_or_default();
            // A leader may have put right meanwhile where it is.
            let put_right = |node: u64| {
                let last = self.readdressed.get(&(shard, node));
                last.is_some_and(|step| *step >= begun)
            };
            let done = match wish {
                Wish::Join { node, address } | Wish::Move { node, address } => {
                    has(*node) && (*at(*node) == **address || put_right(*node))
                }
                Wish::Leave { node } => !has(*node),
                Wish::Replace { node, with, .. } => !has(*node) && has(*with),
                Wish::Settle => true,
            };
            if !done {
                let why = format!("shard {shard}: {wish} is said to be done: {members:?}");
                self.violated("done", why);
            }
        }
    }

    /// Judges the end: everything that was acknowledged is there, wherever a shard is led.
    pub(super) fn judge_the_end(&mut self) {
        for shard in 0..SHARDS {
            let Some((leader, _)) = self.leaders.get(&shard).copied() else {
                for process in self.running.clone().values() {
                    let log = &process.disk.logs[usize::from(shard)];
                    let (node, term, reach) = (process.disk.node, log.term, log.reach());
                    let members = log.members().map(|(_, members)| members.clone());
                    self.tell(format!(
                        "node {node} in term {term} has {reach:?}, {} committed: {members:?}",
                        log.committed
                    ));
                }
                let why = format!("shard {shard} has no leader although every node is well");
                self.violated("P4", why);
                return;
            };
            let log = self.log(leader, shard);
            let committed = self.committed(shard);
            let found = log.slots.iter().zip(&committed);
            let same = found.filter(|(slot, known)| *slot == **known).count();
            if same != committed.len() {
                let count = committed
                    .iter()
                    .filter(|slot| matches!(slot.what, What::Data(_)))
                    .count();
                let why =
                    format!("shard {shard}: {same} of {count} acknowledged entries are there");
                self.violated("I10", why);
                return;
            }
        }
    }
}
