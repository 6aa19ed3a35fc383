//! Rooms that a follower refuses because they are frozen there, and the operator who has them sent again.

use super::{Event, World};
use crate::sim::plan::NodeRef;
use crate::{
    ids::RoomUri,
    link::{self, Peer, parked::Why},
    record::Command,
    wire::event::Hash,
};

/// Some of the rooms that a provider follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frozen {
    pub(super) provider: u8,
    /// One room in four, by a number from 0 to 3.
    pub(super) roll: u64,
}

impl Frozen {
    fn holds(self, provider: u8, room: &RoomUri) -> bool {
        let [first, ..] = Hash::of(room.to_string().as_bytes()).0;
        self.provider == provider && u64::from(first % 4) == self.roll
    }
}

impl World {
    pub(super) fn freeze(&mut self, number: usize, what: Frozen, lasts_ms: u64) {
        self.frozen.insert(number, what);
        self.after(lasts_ms, Event::FaultEnds(number));
    }

    /// Whether a provider refuses the events of a room now.
    pub(super) fn refuses(&self, provider: u8, room: &RoomUri) -> bool {
        let mut frozen = self.frozen.values();
        frozen.any(|frozen| frozen.holds(provider, room))
    }

    /// The rooms are mended, and what was refused is sent again, as far as the leaders know of it already.
    pub(super) fn thaw(&mut self, number: usize) {
        if self.frozen.remove(&number).is_none() {
            return;
        }
        for node in self.plan.nodes().collect::<Vec<_>>() {
            for shard in 0..self.shards(node.provider) {
                for redrive in self.redrives(node, shard) {
                    self.queue_command(node, shard, Command::Link(redrive), None);
                }
            }
        }
    }

    /// What an operator orders about the rooms of a shard that were refused.
    pub(super) fn redrives(&mut self, node: NodeRef, shard: u16) -> Vec<link::Command> {
        let mut redrives = Vec::new();
        let Some(own) = self.shard(node, shard) else {
            return redrives;
        };
        for (peer, outgoing) in own.derived.links.peers() {
            let Peer::Provider(provider) = peer else {
                continue;
            };
            let refused = outgoing
                .parked()
                .filter(|(_, parked)| matches!(parked.why, Why::Refused(_)));
            redrives.extend(refused.map(|(room, _)| link::Command::Redrive {
                provider: provider.clone(),
                room: room.clone(),
            }));
        }
        for _ in &redrives {
            self.counts.one("rooms redriven");
        }
        redrives
    }
}
