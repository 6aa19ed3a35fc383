//! Disks that are full for a while: nothing more is synced, nothing new is taken, and others lead.
//!
//! The room that a node holds for its own needs is not in this world, nor are the files of the log: a rotation that was
//! half done when a process ended is told by its next start.

use super::{Event, World};
use crate::sim::plan::NodeRef;
use std::collections::BTreeMap;

/// How long a leader whose disk is full may go on leading while another voter could, in milliseconds.
const GIVES_WAY_WITHIN_MS: u64 = 2_000;

/// What is known of a disk that is full.
#[derive(Clone, Debug, Default)]
pub(in crate::sim) struct Full {
    /// Since when another voter could lead the shards that it leads, in milliseconds.
    others_since_ms: BTreeMap<u16, u64>,
}

impl World {
    pub(super) fn is_full(&self, node: NodeRef) -> bool {
        self.nodes.get(&node).is_some_and(|is| is.full.is_some())
    }

    /// The disks of a provider's nodes are full, or that of one.
    pub(super) fn fill(&mut self, number: usize, provider: u8, only: Option<u8>, lasts_ms: u64) {
        let now_ms = self.now_ms;
        let filled = self.nodes.iter_mut().filter(|(node, _)| {
            node.provider == provider && only.is_none_or(|only| node.node == only)
        });
        for (node, is) in filled {
            is.full.get_or_insert_default();
            self.counts.one("disks full");
            self.story.tell(now_ms, || {
                format!("{node}  has a full disk for {lasts_ms} ms")
            });
        }
        self.after(lasts_ms, Event::FaultEnds(number));
    }

    /// There is room again: what waits is written.
    pub(super) fn free(&mut self, provider: u8, only: Option<u8>) {
        let nodes: Vec<NodeRef> = self.plan.nodes().collect();
        for node in nodes
            .into_iter()
            .filter(|node| node.provider == provider && only.is_none_or(|only| node.node == only))
        {
            let freed = self.nodes.get_mut(&node).and_then(|is| is.full.take());
            if freed.is_some() && self.nodes.get(&node).is_some_and(|is| is.up) {
                self.want_sync(node);
            }
        }
    }

    /// A leader whose disk is full gives way to a voter that can write.
    pub(super) fn give_way(&mut self, leader: NodeRef, shard: u16) {
        let (now_ms, provider) = (self.now_ms, leader.provider);
        let newest = self.terms.get(&(provider, shard)).copied();
        let term = self.shard(leader, shard).map(|is| is.replica.term);
        // One that another has followed already does not know it yet.
        if !self.is_full(leader) || newest != term {
            return;
        }
        let voters = self.voters(provider, shard);
        let others = voters.iter().map(|node| NodeRef {
            node: *node,
            ..leader
        });
        let somebody = others
            .filter(|other| *other != leader)
            .any(|other| self.would_elect(other, shard).is_some());
        let Some(full) = self.nodes.get_mut(&leader).and_then(|is| is.full.as_mut()) else {
            return;
        };
        if !somebody {
            full.others_since_ms.remove(&shard);
            return;
        }
        let since_ms = *full.others_since_ms.entry(shard).or_insert(now_ms);
        self.history.demand(
            "full disks",
            now_ms < since_ms + GIVES_WAY_WITHIN_MS,
            || format!("{leader} leads shard {shard} on with a full disk"),
        );
        self.counts.one("leaders that gave way for a full disk");
        self.elect(provider, shard, Some(leader));
    }
}
