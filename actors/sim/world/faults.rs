//! What goes wrong with processes, disks, clocks and the network, and how it is mended.

use super::{Cut, Event, World, frozen::Frozen};
use crate::sim::{
    node::Shard,
    plan::{Fault, NodeRef},
};

impl World {
    /// A place at which a process may end. Returns whether it goes on.
    pub(super) fn boundary(&mut self, node: NodeRef) -> bool {
        let Some(is) = self.nodes.get_mut(&node) else {
            return false;
        };
        match &mut is.armed {
            None => is.up,
            Some((0, gone_ms)) => {
                let gone_ms = *gone_ms;
                self.crash(node, gone_ms);
                false
            }
            Some((left, _)) => {
                *left -= 1;
                is.up
            }
        }
    }

    /// A process ends, and comes back.
    pub(super) fn crash(&mut self, node: NodeRef, gone_ms: u64) {
        let mut unsynced = Vec::new();
        if let Some(is) = self.nodes.get(&node) {
            if !is.up {
                return;
            }
            unsynced.extend(is.shards.iter().map(|shard| shard.replica.unsynced()));
        }
        if unsynced.iter().any(|count| *count > 0) {
            self.counts.one("crashes with an entry not yet on disk");
        }
        let kept: Vec<u64> = unsynced
            .into_iter()
            .map(|count| self.dice.below(count + 1))
            .collect();
        if let Some(is) = self.nodes.get_mut(&node) {
            is.rotating |= is.full.is_some();
            is.up = false;
            is.armed = None;
            is.waiting.clear();
            is.tasks.clear();
            is.passed_on.clear();
            is.fanouts.clear();
            is.submits.clear();
            is.syncing = false;
            for (shard, kept) in is.shards.iter_mut().zip(kept) {
                // A full disk has none of what was not synced.
                shard.crash(if is.full.is_some() { 0 } else { kept });
            }
        }
        self.counts.one("crashes");
        self.story.tell(self.now_ms, || {
            format!("{node}  crashes, gone for {gone_ms} ms")
        });
        self.cut_lanes(|lane| lane.sender.0 == node || lane.receiver.0 == node);
        self.after(gone_ms, Event::Start(node));
    }

    /// A process starts again: it has its log, and nothing else.
    pub(super) fn start(&mut self, node: NodeRef) {
        let Some(is) = self.nodes.get_mut(&node) else {
            return;
        };
        if is.up {
            // Its data directory is locked by the process that runs.
            self.counts.one("second starts refused");
            return;
        }
        // It ended on a full disk: the empty file that its log began is no damage.
        if std::mem::take(&mut is.rotating) {
            self.counts.one("starts after a half-done rotation");
        }
        is.up = true;
        is.life += 1;
        // All shards lie on one disk: an older one has forgotten votes also where its log lacks nothing.
        let short = |shard: &Shard| shard.replica.len() < shard.replica.mark;
        let stale = is.shards.iter().any(short);
        let mut out = Vec::new();
        for (number, shard) in (0_u16..).zip(&mut is.shards).filter(|_| stale) {
            shard.replica.must_not_vote = true;
            out.push(number);
        }
        for shard in out {
            self.learners.insert((node, shard));
            for other in self.plan.nodes().collect::<Vec<_>>() {
                if other.provider == node.provider
                    && let Some(leader) = self.shard_mut(other, shard)
                {
                    leader.replica.forget(node.node);
                }
            }
            self.counts.one("stale disks noticed");
            self.story.tell(self.now_ms, || {
                format!("{node}  has an older disk than it had: it does not vote in shard {shard}")
            });
        }
        self.story.tell(self.now_ms, || format!("{node}  starts"));
        for shard in 0..self.shards(node.provider) {
            self.unseal(node, shard);
            self.apply(node, shard);
        }
    }

    pub(super) fn fault(&mut self, number: usize, fault: Fault) {
        match fault {
            Fault::Crash {
                node,
                after_effects,
                gone_ms,
            } => {
                if let Some(is) = self.nodes.get_mut(&node).filter(|is| is.up) {
                    is.armed = Some((after_effects, gone_ms));
                }
            }
            Fault::PowerLoss { provider, gone_ms } => {
                self.counts.one("power losses");
                let nodes: Vec<NodeRef> = self.plan.nodes().collect();
                for node in nodes.into_iter().filter(|node| node.provider == provider) {
                    self.crash(node, gone_ms);
                }
            }
            Fault::StaleDisk { node, gone_ms } => self.stale_disk(node, gone_ms),
            Fault::FullDisk {
                provider,
                only,
                lasts_ms,
            } => self.fill(number, provider, only, lasts_ms),
            Fault::Partition {
                node,
                both,
                outside,
                lasts_ms,
            } => {
                self.counts.one("partitions");
                self.story.tell(self.now_ms, || {
                    let whom = if outside {
                        "other providers"
                    } else {
                        "its own nodes"
                    };
                    let how = if both { "cut off from" } else { "not heard by" };
                    format!("{node}  is {how} {whom} for {lasts_ms} ms")
                });
                self.cuts.insert(
                    number,
                    Cut {
                        node,
                        both,
                        outside,
                    },
                );
                if outside {
                    self.cut_lanes(|lane| lane.sender.0 == node || lane.receiver.0 == node);
                }
                self.after(lasts_ms, Event::FaultEnds(number));
            }
            Fault::Slow {
                node,
                times,
                lasts_ms,
            } => {
                if let Some(is) = self.nodes.get_mut(&node) {
                    is.slow = times;
                    self.counts.one("slow nodes");
                }
                self.after(lasts_ms, Event::FaultEnds(number));
            }
            Fault::Clock { node, by_ms } => {
                if let Some(is) = self.nodes.get_mut(&node) {
                    is.clock_ms = by_ms;
                    self.counts.one("clock jumps");
                }
            }
            Fault::StartedTwice { node } => self.start(node),
            Fault::Deposed { provider, shard } => {
                let leader = self
                    .plan
                    .nodes()
                    .filter(|node| node.provider == provider && self.leads(*node, shard))
                    .max_by_key(|node| self.shard(*node, shard).map(|is| is.replica.term));
                self.elect(provider, shard, leader);
            }
            Fault::Frozen {
                provider,
                roll,
                lasts_ms,
            } => self.freeze(number, Frozen { provider, roll }, lasts_ms),
            Fault::Hostile { roll } => self.hostile(roll),
        }
    }

    /// A node comes back with less than it had synced, where the others can spare its vote.
    fn stale_disk(&mut self, node: NodeRef, gone_ms: u64) {
        let up = self.nodes.get(&node).is_some_and(|is| is.up);
        // One at a time: with two out of three voters gone nobody could be asked what is missing.
        let others = self.plan.nodes().any(|other| {
            other.provider == node.provider
                && (0..self.shards(node.provider)).any(|shard| {
                    self.shard(other, shard).is_some_and(|is| {
                        is.replica.must_not_vote || is.replica.len() < is.replica.mark
                    })
                })
        });
        if !up || others {
            return;
        }
        self.counts.one("stale disks");
        self.crash(node, gone_ms);
        let shards = self.shards(node.provider);
        for shard in 0..shards {
            let len = self.shard(node, shard).map_or(0, |is| is.replica.len());
            let kept = self.dice.below(len + 1);
            if let Some(is) = self.shard_mut(node, shard) {
                is.replica.lose(kept);
            }
        }
    }

    pub(super) fn fault_ends(&mut self, number: usize) {
        self.cuts.remove(&number);
        self.thaw(number);
        if let Some(Fault::FullDisk { provider, only, .. }) =
            self.plan.faults.get(number).map(|is| is.what)
        {
            self.free(provider, only);
        }
        if let Some(Fault::Slow { node, .. }) = self.plan.faults.get(number).map(|is| is.what)
            && let Some(is) = self.nodes.get_mut(&node)
        {
            is.slow = 1;
        }
    }

    /// All faults stop.
    pub(super) fn mend(&mut self) {
        self.cuts.clear();
        self.frozen.clear();
        for is in self.nodes.values_mut() {
            is.slow = 1;
            is.armed = None;
        }
        for provider in (0..).take(self.plan.providers.len()) {
            self.free(provider, None);
        }
        self.plan.weather.delay_ms_max = self.plan.weather.delay_ms_max.min(20);
    }
}
