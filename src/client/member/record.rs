//! What a member remembers beside its MLS state: numbers, cursors, verdicts, the journal.

use super::{journal::Journal, prepared::PreparedCommit};
use mimi_actors::{
    ids::{ClientUri, RoomUri},
    wire::{
        Payload,
        event::{ClientSeq, Epoch, Hash, InboxSeq, RoomSeq, Verdict, VerdictRun},
        post::WelcomeNotice,
    },
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The bookkeeping of one device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// The device.
    pub(super) client: ClientUri,
    /// Inbox items up to this one are processed.
    pub(super) inbox: InboxSeq,
    /// Rooms the device is or was in.
    pub(super) rooms: BTreeMap<RoomUri, Room>,
    /// What was seen.
    pub(super) journal: Journal,
}

impl Record {
    /// Of a device that has seen nothing.
    pub(super) fn new(client: ClientUri) -> Self {
        Self {
            client,
            inbox: InboxSeq::default(),
            rooms: BTreeMap::new(),
            journal: Journal::default(),
        }
    }
}

/// A message of this device that is not done with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Outgoing {
    /// The PrivateMessage: a retry carries the same bytes.
    pub(super) message: Payload,
    /// Its plaintext, for the journal.
    pub(super) text: String,
}

/// What a device remembers of one room.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Room {
    /// The group id, opaque.
    pub(super) group_id: Payload,
    /// The first epoch the device has keys of.
    pub(super) joined: Epoch,
    /// The last event before the device's present time in the room.
    pub(super) begun: RoomSeq,
    /// Everything up to this event is processed.
    pub(super) last: RoomSeq,
    /// Events up to this one were not kept until this device came for them; none, once it has joined anew.
    pub(super) missed: Option<RoomSeq>,
    /// Control events up to this one are processed, also beyond `last`.
    pub(super) control: RoomSeq,
    /// The highest own number in use.
    pub(super) numbered: ClientSeq,
    /// Own messages whose event has not come back; those without a verdict are sent again.
    pub(super) outgoing: BTreeMap<ClientSeq, Outgoing>,
    /// Final verdicts.
    pub(super) verdicts: BTreeMap<ClientSeq, Verdict>,
    /// The Commit that waits for the hub's word.
    pub(super) pending: Option<PreparedCommit>,
    /// The external Commit that waits for the hub's word.
    pub(super) entering: Option<PreparedCommit>,
    /// The own Commit that was merged when the hub answered, before its event.
    pub(super) merged: Option<(Epoch, Hash)>,
    /// Own Proposals of this epoch and their references; they are in the group's store already.
    pub(super) proposed: BTreeMap<Hash, Payload>,
    /// The Proposals that wait for a Commit of this epoch, as they came.
    pub(super) waiting: Vec<Payload>,
    /// The device was removed; events up to this one are still its own to read.
    pub(super) leaving: Option<RoomSeq>,
    /// The device was added again before it had read the last of its old events.
    pub(super) rejoining: Option<(RoomSeq, WelcomeNotice)>,
}

impl Room {
    /// Numbers `count` messages.
    pub(super) fn number(&mut self, count: u64) -> ClientSeq {
        let first = self.numbered.next();
        self.numbered = self.numbered.plus(count);
        first
    }

    /// Notes what became of a run of own messages. A verdict does not change.
    pub(super) fn decide(&mut self, run: &VerdictRun) {
        for place in 0..u64::from(run.count) {
            let number = run.first.plus(place);
            if number > self.numbered {
                return;
            }
            let verdict = match run.verdict {
                Verdict::Queued => continue,
                Verdict::Accepted { seq, time } => Verdict::Accepted {
                    seq: seq.plus(place),
                    time,
                },
                Verdict::Refused(reason) => {
                    // There will be no event of it.
                    self.outgoing.remove(&number);
                    Verdict::Refused(reason)
                }
            };
            self.verdicts.entry(number).or_insert(verdict);
        }
    }

    /// Own messages from `from` on that have no final verdict, in order.
    pub(super) fn undecided(&self, from: ClientSeq) -> Vec<(ClientSeq, Payload)> {
        self.outgoing
            .range(from..)
            .filter(|(number, _)| !self.verdicts.contains_key(number))
            .map(|(number, outgoing)| (*number, outgoing.message.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mimi_actors::{machine::Millis, wire::event::SubmitRefused};

    fn room() -> Room {
        let mut room = Room::default();
        let first = room.number(3);
        for place in 0..3 {
            let outgoing = Outgoing {
                message: Payload::from(vec![1]),
                text: String::new(),
            };
            room.outgoing.insert(first.plus(place), outgoing);
        }
        room
    }

    fn run(first: u64, count: u32, verdict: Verdict) -> VerdictRun {
        VerdictRun {
            first: ClientSeq(first),
            count,
            verdict,
        }
    }

    #[test]
    fn a_run_gives_each_message_its_own_place_and_queued_is_not_final() {
        let mut room = room();
        room.decide(&run(1, 3, Verdict::Queued));
        assert!(room.verdicts.is_empty());
        let (seq, time) = (RoomSeq(9), Millis(1));
        room.decide(&run(1, 2, Verdict::Accepted { seq, time }));
        let second = Verdict::Accepted {
            seq: RoomSeq(10),
            time,
        };
        assert_eq!(room.verdicts.get(&ClientSeq(2)), Some(&second));
        assert_eq!(room.undecided(ClientSeq(1)).len(), 1);
    }

    #[test]
    fn a_refused_message_is_not_sent_again_and_a_final_word_stays() {
        let mut room = room();
        let refused = Verdict::Refused(SubmitRefused::NotMember);
        room.decide(&run(3, 1, refused));
        let (seq, time) = (RoomSeq(9), Millis(1));
        room.decide(&run(3, 9, Verdict::Accepted { seq, time }));
        assert_eq!(room.verdicts.get(&ClientSeq(3)), Some(&refused));
        assert_eq!(room.verdicts.len(), 1);
        assert!(!room.outgoing.contains_key(&ClientSeq(3)));
    }
}
