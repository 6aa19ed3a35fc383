//! Nodes that are brought up to the next release one after the other, and shards that go on by its rules once all of their
//! nodes are.
//!
//! When a leader may say so is [`Level::next`]'s, as in a real node; how nodes know each other's release is the world's.

use super::World;
use crate::sim::plan::NodeRef;
use crate::{
    ids::RoomUri,
    record::Command,
    shard::place,
    wire::{event::Hash, version::Level},
};

/// When the last node is brought up to date, in milliseconds.
const ROLLED_MS: u64 = 16_000;

impl World {
    /// The level of the release that a node runs; each seed has an order of its own.
    fn speaks(&self, node: NodeRef) -> Level {
        let name = format!("{} {node}", self.plan.seed);
        let [first, ..] = Hash::of(name.as_bytes()).0;
        let at_ms = ROLLED_MS * u64::from(first) / u64::from(u8::MAX);
        if self.now_ms < at_ms {
            Level::FIRST
        } else {
            Level::SECOND
        }
    }

    /// The level that the shard of a room at its hub has reached, as far as any of its nodes knows.
    pub(super) fn level_of(&self, room: &RoomUri) -> Level {
        let Some(provider) = self.provider(room.hub()) else {
            return Level::FIRST;
        };
        let shard = place(&room.to_string(), self.shards(provider));
        self.level_reached(provider, shard)
    }

    /// Whether all shards of a provider have reached the newest level: whatever room is made, its group has a name.
    pub(super) fn keeps_names(&self, provider: u8) -> bool {
        let mut shards = 0..self.shards(provider);
        shards.all(|shard| self.level_reached(provider, shard) >= Level::SECOND)
    }

    fn level_reached(&self, provider: u8, shard: u16) -> Level {
        let nodes = self.plan.nodes();
        let levels = nodes
            .filter(|node| node.provider == provider)
            .filter_map(|node| Some(self.shard(node, shard)?.derived.level));
        levels.max().unwrap_or(Level::FIRST)
    }

    /// The leader of a shard raises its level once every member is there and runs the newer release.
    pub(super) fn raise_level(&mut self, leader: NodeRef, shard: u16) {
        let Some(own) = self.shard(leader, shard) else {
            return;
        };
        let level = own.derived.level;
        let is_level = |command: &Command| matches!(command, Command::Level(_));
        // Proposed twice, it does no harm.
        if own.in_flight.is_some() || own.queue.iter().any(|(command, _)| is_level(command)) {
            return;
        }
        // Those that do not vote apply it too.
        let members = self
            .plan
            .nodes()
            .filter(|node| node.provider == leader.provider);
        let others = members.filter(|node| *node != leader).collect::<Vec<_>>();
        let others = others.into_iter().map(|node| {
            let up = self.nodes.get(&node).is_some_and(|is| is.up);
            up.then(|| self.speaks(node))
        });
        if let Some(next) = level.next(self.speaks(leader), others)
            && self.queue_command(leader, shard, Command::Level(next), None)
        {
            self.counts.one("levels proposed");
        }
    }

    /// No node gets further than the release that it runs.
    pub(super) fn check_level(&mut self, node: NodeRef, shard: u16) {
        let speaks = self.speaks(node);
        let level = self.shard(node, shard).map(|own| own.derived.level);
        if let Some(level) = level.filter(|level| *level > speaks) {
            let why =
                format!("{node} runs {speaks}, and shard {shard} goes by the rules of {level}");
            self.history.violated("I11", why);
        }
    }
}
