//! The event stream, item by item.
//!
//! The inbox and the rooms are separate streams inside it: a Welcome may come after the first events of its room (they
//! are held), a removal before the last of them (the group stays until they are read).

use super::{Member, MemberError, group, mls};
use mimi_actors::{
    ids::RoomUri,
    wire::{
        BVec,
        door::{Acks, DoorItem, Order, RoomBody, RoomEvent},
        event::{InboxSeq, RoomSeq},
        post::{Note, Notice, WelcomeNotice},
    },
};
use openmls::prelude::OpenMlsProvider as _;

/// Notes of the provider that are kept for whoever looks, at most; the oldest go first.
const NOTES_KEPT_MAX: usize = 256;
/// Events of rooms without a Welcome that are held, at most.
const HELD_EVENTS_MAX: usize = 4_096;

fn is_control(event: &RoomEvent) -> bool {
    match event.body {
        RoomBody::Commit { .. } | RoomBody::Proposals(_) => true,
        RoomBody::Application(_) => false,
    }
}

impl Member {
    /// Processes one item. What cannot be used is a fault in the journal, and processing goes on after it.
    pub fn take(&mut self, item: DoorItem) {
        match item {
            DoorItem::Room { room, events } => self.take_events(&room, events.into_vec()),
            DoorItem::Gap { room, from, upto } => self.take_gap(&room, from, upto),
            DoorItem::Inbox { seq, room, notice } => self.take_notice(seq, &room, notice),
            DoorItem::Note { seq, note } => self.take_note(seq, note),
            DoorItem::Verdict { room, run } => self.decided(&room, &run),
        }
    }

    /// What may be acknowledged once the state is saved; asking takes it.
    pub fn acks(&mut self) -> Vec<Acks> {
        let moved = std::mem::take(&mut self.moved);
        let mut acks: Vec<_> = BVec::pieces(moved)
            .map(|rooms| Acks {
                inbox: None,
                rooms: rooms.refs().filter_map(|room: &RoomUri| {
                    let state = self.room(room)?;
                    Some((room.clone(), state.last))
                }),
                control: rooms.refs().filter_map(|room| {
                    let state = self.room(room)?;
                    (state.control > state.last).then(|| (room.clone(), state.control))
                }),
            })
            .collect();
        if std::mem::take(&mut self.inbox_moved) {
            if acks.is_empty() {
                acks.push(Acks::default());
            }
            if let Some(first) = acks.first_mut() {
                first.inbox = Some(self.record.inbox);
            }
        }
        acks
    }

    /// Events that the provider does not keep any more: what was in them is lost here.
    fn take_gap(&mut self, room: &RoomUri, from: RoomSeq, upto: RoomSeq) {
        tracing::warn!(%room, %from, %upto, "events are not kept any more; if the room has moved on, join it again");
        let state = self.room_mut(room);
        state.missed = Some(upto);
        state.last = state.last.max(upto);
        state.control = state.control.max(upto);
        self.moved.insert(room.clone());
        // The Commit that removed the client may be among them.
        if self.leaves_at(room, upto) {
            self.leave(room);
        }
    }

    fn take_events(&mut self, room: &RoomUri, events: Vec<RoomEvent>) {
        let mut held = Vec::new();
        // Application messages of one item may come newest first: they count as processed when all of them are.
        let mut newest = RoomSeq(0);
        for event in events {
            let (seq, lane) = (event.seq, is_control(&event));
            if let Some(event) = self.take_event(room, event) {
                held.push(event);
            } else if !lane {
                newest = newest.max(seq);
            }
        }
        if newest > self.last_seq(room) && self.groups.contains_key(room) {
            self.room_mut(room).last = newest;
        }
        if !held.is_empty() {
            self.hold(room, held);
        }
    }

    /// Gives back what must wait for its Welcome.
    fn take_event(&mut self, room: &RoomUri, event: RoomEvent) -> Option<RoomEvent> {
        let control = is_control(&event);
        let known = self.room(room);
        let done = known.map(|state| {
            if control {
                state.control.max(state.last)
            } else {
                state.last
            }
        });
        if done.is_some_and(|done| event.seq <= done) {
            self.record.journal.counts.duplicates += 1;
            // The provider sends it because it has no acknowledgement of it.
            self.moved.insert(room.clone());
            return None;
        }
        if self.rejoins_before(room, event.seq) {
            self.leave(room);
        }
        if !self.groups.contains_key(room) {
            return Some(event);
        }
        let (seq, in_order) = (event.seq, self.order == Order::InOrder);
        let (last, ahead) = self.room(room).map_or_else(Default::default, |state| {
            (state.last, state.control > state.last)
        });
        if in_order && !ahead {
            self.record.journal.counts.gaps += seq.0.saturating_sub(last.next().0);
        }
        if let Err(error) = self.apply(room, event) {
            self.record.journal.fault(room, seq, error.to_string());
        }
        let state = self.room_mut(room);
        if control {
            state.control = seq;
        }
        if in_order {
            state.last = seq;
        }
        self.moved.insert(room.clone());
        if self.leaves_at(room, seq) {
            self.leave(room);
        }
        None
    }

    fn apply(&mut self, room: &RoomUri, event: RoomEvent) -> Result<(), MemberError> {
        match event.body {
            RoomBody::Application(message) => {
                self.application_event(room, event.seq, event.time, event.own, &message)
            }
            RoomBody::Proposals(proposals) => proposals
                .iter()
                .try_for_each(|proposal| self.proposal_event(room, proposal)),
            RoomBody::Commit { epoch, commit } => self.commit_event(room, epoch, &commit),
        }
    }

    fn hold(&mut self, room: &RoomUri, events: Vec<RoomEvent>) {
        let total: usize = self.held.values().flatten().map(Vec::len).sum();
        if total < HELD_EVENTS_MAX {
            self.held.entry(room.clone()).or_default().push(events);
        } else {
            // They are not acknowledged, so they come again after a reconnect.
            self.record.journal.counts.dropped += events.len() as u64;
        }
    }

    /// Whether an inbox item is a new one; it is processed now.
    fn is_next(&mut self, seq: InboxSeq) -> bool {
        self.inbox_moved = true;
        if seq <= self.record.inbox {
            self.record.journal.counts.duplicates += 1;
            return false;
        }
        self.record.inbox = seq;
        true
    }

    fn take_note(&mut self, seq: InboxSeq, note: Note) {
        if !self.is_next(seq) {
            return;
        }
        match note {
            Note::LowStock { left } => self.wants.packages = Some(left),
            Note::LastResortUsed => self.wants.last_resort = true,
            Note::Refilled { .. }
            | Note::Missed { .. }
            | Note::ConsentAsked { .. }
            | Note::ConsentSaid { .. }
            | Note::ConsentsChanged => {}
        }
        if self.notes.len() >= NOTES_KEPT_MAX {
            self.notes.pop_front();
        }
        self.notes.push_back(note);
    }

    fn take_notice(&mut self, seq: InboxSeq, room: &RoomUri, notice: Notice) {
        if !self.is_next(seq) || self.has_entered_since(room, &notice) {
            return;
        }
        match notice {
            Notice::Joined {
                after,
                welcome: None,
            } => {
                self.opened(room, after);
                self.replay(room);
            }
            Notice::Joined {
                after,
                welcome: Some(welcome),
            } => {
                if self.room(room).is_some_and(|state| state.leaving.is_some()) {
                    self.room_mut(room).rejoining = Some((after, welcome));
                } else {
                    self.join(room, after, &welcome);
                }
            }
            Notice::Left { upto } => {
                self.room_mut(room).leaving = Some(upto);
                let done = self.room(room).map(|state| state.control.max(state.last));
                if self.leaves_at(room, done.unwrap_or_default()) || !self.groups.contains_key(room)
                {
                    self.leave(room);
                }
            }
        }
    }

    /// Whether a notice is of a time before the device came in by itself.
    fn has_entered_since(&self, room: &RoomUri, notice: &Notice) -> bool {
        let Some(state) = self.room(room).filter(|_| self.groups.contains_key(room)) else {
            return false;
        };
        match notice {
            Notice::Joined { after, .. } => *after < state.begun,
            Notice::Left { upto } => *upto <= state.begun,
        }
    }

    fn join(&mut self, room: &RoomUri, after: RoomSeq, notice: &WelcomeNotice) {
        match group::join(&self.mls, notice) {
            Ok(group) => {
                self.begin(room, group, after);
            }
            Err(error) => self
                .record
                .journal
                .fault(room, RoomSeq(0), error.to_string()),
        }
    }

    pub(super) fn replay(&mut self, room: &RoomUri) {
        for events in self.held.remove(room).unwrap_or_default() {
            self.take_events(room, events);
        }
    }

    fn leaves_at(&self, room: &RoomUri, seq: RoomSeq) -> bool {
        self.room(room)
            .and_then(|state| state.leaving)
            .is_some_and(|upto| seq >= upto)
    }

    /// Whether the device was added again and `seq` is of its new time in the room.
    fn rejoins_before(&self, room: &RoomUri, seq: RoomSeq) -> bool {
        self.room(room)
            .and_then(|state| state.rejoining.as_ref())
            .is_some_and(|(after, _)| seq > *after)
    }

    /// Deletes the group; joins anew when a Welcome waited for that.
    pub(super) fn leave(&mut self, room: &RoomUri) {
        if let Some(mut group) = self.groups.remove(room)
            && let Err(error) = group
                .delete(self.mls.storage())
                .map_err(mls("delete a group"))
        {
            self.record
                .journal
                .fault(room, RoomSeq(0), error.to_string());
        }
        let state = self.room_mut(room);
        state.leaving = None;
        state.pending = None;
        if let Some((after, welcome)) = state.rejoining.take() {
            self.join(room, after, &welcome);
        }
    }
}
