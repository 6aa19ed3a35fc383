//! The checker of how long events are kept: a client may be told of a gap only where the log had events forgotten.

use super::History;
use crate::{ids::RoomUri, machine::Millis, wire::event::RoomSeq};
use std::collections::BTreeMap;

/// What the logs say of the age of events.
#[derive(Debug, Default)]
pub(in crate::sim) struct Ages {
    /// When the hub accepted each event.
    accepted: BTreeMap<(RoomUri, RoomSeq), Millis>,
    /// Up to which time each shard of each provider was told to forget.
    pub(in crate::sim) before: BTreeMap<(u8, u16), Millis>,
}

impl History {
    /// A hub's log has accepted events at this time.
    pub(in crate::sim) fn accepted_at(
        &mut self,
        room: &RoomUri,
        first: RoomSeq,
        count: u32,
        time: u64,
    ) {
        for offset in 0..u64::from(count) {
            let event = (room.clone(), first.plus(offset));
            self.ages.accepted.insert(event, Millis(time));
        }
    }

    /// A client was told that events are not kept, of which it has not read these.
    pub(in crate::sim) fn not_kept(
        &mut self,
        (provider, shard): (u8, u16),
        room: &RoomUri,
        events: &[RoomSeq],
    ) {
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
