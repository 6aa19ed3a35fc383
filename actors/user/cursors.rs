//! What a client has read of its rooms and its inbox.
//!
//! Promises: cursors never go back; a membership is remembered until its last event is acknowledged.
//!
//! Source: transport requirements, section 5.

use super::{
    Device, User,
    command::Ack,
    outcome::{Answer, Outcome, Refused},
};
use crate::{ids::RoomUri, wire::event::RoomSeq};
use serde::{Deserialize, Serialize};

/// What of a room is a client's to read, and what it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The last event that is not its own.
    pub after: RoomSeq,
    /// The last event that is, once that is known.
    pub upto: Option<RoomSeq>,
    /// Everything up to this event it has, durably.
    pub acked: RoomSeq,
    /// The last control event up to which it has them, durably; not before `acked`.
    pub control: RoomSeq,
}

impl Membership {
    /// Moves the cursor on, if this is on, within what is the client's to read.
    fn ack(&mut self, seq: RoomSeq) {
        let seq = self.within(seq);
        self.acked = self.acked.max(seq);
        self.control = self.control.max(self.acked);
    }

    /// As [`Self::ack`], of control events alone.
    fn ack_control(&mut self, seq: RoomSeq) {
        self.control = self.control.max(self.within(seq));
    }

    fn within(&self, seq: RoomSeq) -> RoomSeq {
        self.upto.map_or(seq, |upto| seq.min(upto))
    }

    /// The last event is the Commit that removes the client, which comes after all application messages in any order.
    pub(super) fn is_over(&self) -> bool {
        self.upto.is_some_and(|upto| self.control >= upto)
    }
}

impl Device {
    /// Moves a cursor of a room; returns whether the membership is over with that.
    fn ack_room(
        &mut self,
        room: &RoomUri,
        seq: RoomSeq,
        ack: impl FnOnce(&mut Membership, RoomSeq),
    ) -> bool {
        let Some(membership) = self.rooms.get_mut(room) else {
            return false;
        };
        ack(membership, seq);
        let over = membership.is_over();
        if over {
            self.rooms.remove(room);
        }
        over
    }
}

impl User {
    pub(super) fn ack(&mut self, ack: &Ack) -> Outcome {
        let Some(device) = self.devices.get_mut(&ack.client) else {
            return Outcome::refused(Refused::NotKnown);
        };
        if let Some(upto) = ack.inbox {
            device.inbox.ack(upto);
        }
        let mut changed = false;
        for (room, seq) in &ack.rooms {
            changed |= device.ack_room(room, *seq, Membership::ack);
        }
        for (room, seq) in &ack.control {
            changed |= device.ack_room(room, *seq, Membership::ack_control);
        }
        let woken = changed.then(|| ack.client.clone());
        Outcome {
            woken: woken.into_iter().collect(),
            ..Outcome::answer(Answer::Done)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::testing::{Log, client, joined, left, membership, post, reads, seqs};

    #[test]
    fn cursors_never_go_back() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.deliver(post("club", &["phone"], joined(4)));
        bobby.deliver(post("den", &["phone"], joined(1)));
        bobby.deliver(post("pub", &["phone"], joined(1)));
        bobby.ack("phone", Some(2), &[("club", 10), ("nowhere", 3)]);
        assert_eq!(
            (seqs(&bobby), membership(&bobby, "club")),
            (vec![3], reads(4, None, 10))
        );
        bobby.ack("phone", Some(1), &[("club", 7), ("den", 0)]);
        assert_eq!(
            (seqs(&bobby), membership(&bobby, "club")),
            (vec![3], reads(4, None, 10))
        );
        assert_eq!(membership(&bobby, "den"), reads(1, None, 1));
    }

    #[test]
    fn an_ack_beyond_the_last_item_does_not_swallow_the_next() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.deliver(post("club", &["phone"], joined(4)));
        bobby.ack("phone", Some(1_000), &[]);
        assert!(seqs(&bobby).is_empty());
        bobby.deliver(post("den", &["phone"], joined(4)));
        assert_eq!(seqs(&bobby), [2]);
    }

    #[test]
    fn a_membership_is_remembered_until_its_last_event_is_acknowledged() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.deliver(post("club", &["phone"], joined(4)));
        let outcome = bobby.deliver(post("club", &["phone"], left(9)));
        assert_eq!(outcome.woken, [client("phone")]);
        assert_eq!(
            (seqs(&bobby), membership(&bobby, "club")),
            (vec![1, 2], reads(4, Some(9), 4))
        );
        assert_eq!(bobby.ack("phone", None, &[("club", 8)]).woken, []);
        assert_eq!(membership(&bobby, "club"), reads(4, Some(9), 8));
        assert_eq!(
            bobby.ack("phone", None, &[("club", 100)]).woken,
            [client("phone")]
        );
        assert_eq!(membership(&bobby, "club"), None);
    }

    #[test]
    fn a_membership_whose_end_was_read_before_it_was_known_is_over_at_once() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.deliver(post("club", &["phone"], joined(4)));
        bobby.ack("phone", Some(1), &[("club", 9)]);
        bobby.deliver(post("club", &["phone"], left(9)));
        assert_eq!((seqs(&bobby), membership(&bobby, "club")), (vec![2], None));
    }

    #[test]
    fn control_events_are_acknowledged_apart_and_swallow_no_message() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.deliver(post("club", &["phone"], joined(4)));
        bobby.ack_control("phone", &[("club", 20)]);
        let lanes = |bobby: &Log| {
            let membership = membership(bobby, "club").unwrap();
            (membership.acked.0, membership.control.0)
        };
        assert_eq!(lanes(&bobby), (4, 20));
        bobby.ack("phone", None, &[("club", 9)]);
        bobby.ack_control("phone", &[("club", 12)]);
        assert_eq!(lanes(&bobby), (9, 20));
        bobby.ack("phone", None, &[("club", 31)]);
        assert_eq!(lanes(&bobby), (31, 31));
        // The Commit that removes the client is its last event in any order.
        bobby.deliver(post("club", &["phone"], left(40)));
        bobby.ack_control("phone", &[("club", 99)]);
        assert_eq!(membership(&bobby, "club"), None);
    }

    #[test]
    fn who_is_not_enrolled_acknowledges_nothing() {
        let mut bobby = Log::bobby(&["phone"]);
        let refused = Answer::Refused(Refused::NotKnown);
        assert_eq!(bobby.ack("ghost", Some(1), &[]).answer, refused);
    }
}
