//! How long events are kept, and clients that come too late for some.
//!
//! In some worlds the leader of a shard has events forgotten that are older than so many milliseconds, by its clock. A
//! client may be told of a gap only where the log had events forgotten, and must be told where there is one. Who misses
//! messages alone reads on; who misses a Commit has lost the room, and enters anew if another client of its user tells it
//! how.

use super::{history::History, plan::NodeRef, reads::Reads, world::World};
use crate::{
    ids::RoomUri,
    link,
    machine::Millis,
    record::Command,
    shard::place,
    wire::event::{LaneCursor, RoomSeq},
};
use std::collections::BTreeMap;

/// What the logs say of the age of events.
#[derive(Debug, Default)]
pub(super) struct Ages {
    /// When the hub accepted each event.
    accepted: BTreeMap<(RoomUri, RoomSeq), Millis>,
    /// Up to which time each shard of each provider was told to forget.
    before: BTreeMap<(u8, u16), Millis>,
}

impl History {
    /// A hub's log has accepted events at this time.
    pub(super) fn accepted_at(&mut self, room: &RoomUri, first: RoomSeq, count: u32, time: u64) {
        for offset in 0..u64::from(count) {
            let event = (room.clone(), first.plus(offset));
            self.ages.accepted.insert(event, Millis(time));
        }
    }

    /// A client was told that events are not kept, of which it has not read these.
    fn not_kept(&mut self, (provider, shard): (u8, u16), room: &RoomUri, events: &[RoomSeq]) {
        let before = self.ages.before.get(&(provider, shard)).copied();
        let is_young = |seq: &RoomSeq| {
            let accepted = self.ages.accepted.get(&(room.clone(), *seq));
            accepted.is_none_or(|accepted| before.is_none_or(|before| *accepted >= before))
        };
        let young = events.iter().copied().find(is_young);
        self.demand("retention", young.is_none(), || {
            format!("event {young:?} of {room} is not kept, and only what is before {before:?} was to be forgotten")
        });
    }
}

impl World {
    /// The leader of a shard has old events forgotten.
    pub(super) fn forget_old(&mut self, node: NodeRef, shard: u16) {
        let kept_ms = self.plan.weather.retention_ms;
        if self.calm || kept_ms == u64::MAX {
            return;
        }
        let before = Millis(self.clock(node).0.saturating_sub(kept_ms));
        let some = self.shard(node, shard).is_some_and(|own| {
            let owed = own.derived.links.owed_from();
            own.derived.index.may_forget(before, &owed)
        });
        let forget = Command::Link(link::Command::Forget { before });
        if some && self.queue_command(node, shard, forget, None) {
            let told = self.history.ages.before.entry((node.provider, shard));
            let told = told.or_default();
            *told = before.max(*told);
            self.counts
                .one("looks after which old events were forgotten");
        }
    }

    /// A client is told that events up to and with `last` are not kept, and that its stream goes on after them.
    pub(super) fn told_of_gap(
        &mut self,
        client: usize,
        room: &RoomUri,
        last: RoomSeq,
        given: LaneCursor,
    ) {
        let is = &mut self.clients[client];
        let (name, provider) = (is.name(), is.provider);
        let Some(known) = is.rooms.get_mut(room) else {
            return;
        };
        let missed = known.reads.pass_over(last, given);
        if !missed.is_empty() {
            known.gapped = true;
            self.counts.one("gaps that a client was told of");
        }
        let shard = place(&room.to_string(), self.shards(provider));
        self.story.tell(self.now_ms, || {
            format!("{name}  is told that events {missed:?} of {room} are not kept")
        });
        self.history.not_kept((provider, shard), room, &missed);
        self.acknowledge(client);
        self.read_room(client, room);
    }

    /// A client that missed something cannot go on in a room: only entering anew helps.
    pub(super) fn lose_room(&mut self, client: usize, room: &RoomUri) {
        self.counts.one("rooms lost to a gap");
        let is = &mut self.clients[client];
        let name = is.name();
        is.member.forget(room);
        if let Some(known) = is.rooms.get_mut(room) {
            known.lost = true;
            // An external Commit under way still brings it in.
            known.staged.take_if(|staged| !staged.enters);
            known.reads = Reads::after(known.reads.upto());
        }
        self.story
            .tell(self.now_ms, || format!("{name}  has lost {room}"));
    }
}
