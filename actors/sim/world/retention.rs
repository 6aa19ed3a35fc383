//! How long events are kept, and clients that come too late for some.
//!
//! In some worlds the leader of a shard has events forgotten that are older than so many milliseconds, by its clock. A
//! client may be told of a gap only where the log had events forgotten, and must be told where there is one. Who misses
//! messages alone reads on; who misses a Commit has lost the room, and enters anew if another client of its user tells it
//! how.

use super::{World, reads::Reads};
use crate::sim::plan::NodeRef;
use crate::{
    ids::RoomUri,
    link,
    machine::Millis,
    record::Command,
    shard::place,
    wire::event::{LaneCursor, RoomSeq},
};

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
