//! What a member saw: its messages in the room's order, and everything that should not have happened.

use mimi_actors::{
    ids::{ClientUri, RoomUri},
    wire::event::{ClientSeq, Epoch, RoomSeq},
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Messages the journal keeps, at most; the oldest go first.
pub const JOURNAL_MESSAGES_MAX: usize = 65_536;
/// Faults the journal keeps, at most; the oldest go first.
pub const JOURNAL_FAULTS_MAX: usize = 256;

/// A message as the room took it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The room.
    pub room: RoomUri,
    /// Its number in the room.
    pub seq: RoomSeq,
    /// The epoch it was encrypted in.
    pub epoch: Epoch,
    /// Its sender.
    pub sender: ClientUri,
    /// The own number, when it is this device's.
    pub own: Option<ClientSeq>,
    /// Its text; empty when it is an own one whose text was not kept.
    pub text: String,
}

/// An event or notice that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The room.
    pub room: RoomUri,
    /// The event; 0 for a notice of the inbox.
    pub seq: RoomSeq,
    /// What is wrong with it.
    pub detail: String,
}

/// How many items of each kind came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Application messages, own ones included.
    pub messages: u64,
    /// Commits that opened an epoch, own ones included.
    pub commits: u64,
    /// Proposals.
    pub proposals: u64,
    /// Events and notices that had been processed before.
    pub duplicates: u64,
    /// Numbers of a room that were left out; none may be.
    pub gaps: u64,
    /// Messages of epochs before this device joined, which it cannot read.
    pub before_joining: u64,
    /// Events of rooms that the device did not know and had no place left to hold.
    pub dropped: u64,
    /// Events and notices that could not be used.
    pub faults: u64,
}

/// The journal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Journal {
    /// The latest messages.
    pub(super) seen: VecDeque<Seen>,
    /// The latest faults.
    pub(super) faults: VecDeque<Fault>,
    /// All that ever came.
    pub(super) counts: Counts,
}

impl Journal {
    /// Notes a message.
    pub(super) fn saw(&mut self, seen: Seen) {
        self.counts.messages += 1;
        push(&mut self.seen, seen, JOURNAL_MESSAGES_MAX);
    }

    /// Notes what should not have happened.
    pub(super) fn fault(&mut self, room: &RoomUri, seq: RoomSeq, detail: String) {
        tracing::warn!(%room, seq = seq.0, detail, "an event could not be used");
        self.counts.faults += 1;
        let room = room.clone();
        push(
            &mut self.faults,
            Fault { room, seq, detail },
            JOURNAL_FAULTS_MAX,
        );
    }
}

fn push<T>(list: &mut VecDeque<T>, item: T, max: usize) {
    if list.len() == max {
        list.pop_front();
    }
    list.push_back(item);
}
