//! Where each client of a user stands: in its inbox, and in its rooms.
//!
//! Promises: a notice is taken once; cursors never go back; a membership is remembered until its last event is
//! acknowledged. Not here: the bytes, which stay in the log where [`InboxItem::at`] points.
//!
//! Source: transport requirements, section 5.

use super::{
    command::{Ack, Deliver},
    devices::Device,
    fold::User,
    outcome::{Answer, Outcome, Refused},
};
use crate::{
    ids::{ClientUri, RoomUri},
    limits::{INBOX_ITEMS_PER_CLIENT_MAX, ROOMS_PER_CLIENT_MAX},
    machine::Position,
    wire::{
        event::{InboxSeq, RoomSeq},
        post::{Notice, Post},
    },
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};

/// The notices of one client that it has not acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inbox {
    last: InboxSeq,
    /// Oldest first.
    items: VecDeque<InboxItem>,
}

/// A notice in an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxItem {
    /// Its number.
    pub seq: InboxSeq,
    /// The [`Deliver`] that holds it.
    pub at: Position,
}

/// What of a room is a client's to read, and what it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The last event that is not its own.
    pub after: RoomSeq,
    /// The last event that is, once that is known.
    pub upto: Option<RoomSeq>,
    /// The last event that it has, durably.
    pub acked: RoomSeq,
}

impl Membership {
    /// Moves the cursor on, if this is on, within what is the client's to read.
    fn ack(&mut self, seq: RoomSeq) {
        let seq = self.upto.map_or(seq, |upto| seq.min(upto));
        self.acked = self.acked.max(seq);
    }

    fn is_over(&self) -> bool {
        self.upto.is_some_and(|upto| self.acked >= upto)
    }
}

impl Inbox {
    pub(super) fn items(&self) -> impl Iterator<Item = InboxItem> {
        self.items.iter().copied()
    }

    /// Stores a notice, if there is room.
    fn store(&mut self, at: Position) -> Stored {
        if self.items.len() >= INBOX_ITEMS_PER_CLIENT_MAX {
            return Stored::InPart;
        }
        self.last = self.last.next();
        self.items.push_back(InboxItem { seq: self.last, at });
        Stored::Whole
    }

    fn ack(&mut self, upto: InboxSeq) {
        while self.items.front().is_some_and(|item| item.seq <= upto) {
            self.items.pop_front();
        }
    }
}

/// What became of a notice for one client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stored {
    Whole,
    InPart,
    /// It did not concern the client.
    Nothing,
}

impl Device {
    fn notice(&mut self, at: Position, post: &Post) -> Stored {
        match &post.notice {
            Notice::Joined { after, welcome } => {
                let known = self.rooms.contains_key(&post.room);
                if !known && self.rooms.len() >= ROOMS_PER_CLIENT_MAX {
                    // A Welcome to a room whose events the client cannot be given would only mislead it.
                    return Stored::InPart;
                }
                // Also when the inbox is full: the room counts the client in, it may still join by an external
                // Commit, and then its events must have been kept for it.
                let after = *after;
                let joined = Membership {
                    after,
                    upto: None,
                    acked: after,
                };
                self.rooms.insert(post.room.clone(), joined);
                match welcome {
                    Some(_) => self.inbox.store(at),
                    None => Stored::Whole,
                }
            }
            Notice::Left { upto } => {
                let Some(membership) = self.rooms.get_mut(&post.room) else {
                    return Stored::Nothing;
                };
                membership.upto = Some(*upto);
                if membership.is_over() {
                    self.rooms.remove(&post.room);
                }
                self.inbox.store(at)
            }
        }
    }

    /// Moves the cursor of a room; returns whether the membership is over with that.
    fn ack_room(&mut self, room: &RoomUri, seq: RoomSeq) -> bool {
        let Some(membership) = self.rooms.get_mut(room) else {
            return false;
        };
        membership.ack(seq);
        let over = membership.is_over();
        if over {
            self.rooms.remove(room);
        }
        over
    }
}

impl User {
    pub(super) fn deliver(&mut self, at: Position, deliver: &Deliver) -> Outcome {
        let mut outcome = Outcome::answer(Answer::Done);
        let heard = self.heard.entry(deliver.from_shard).or_default();
        if deliver.seq <= *heard {
            return outcome;
        }
        *heard = deliver.seq;
        let named: BTreeSet<&ClientUri> = deliver.post.clients.iter().collect();
        for client in named {
            let Some(device) = self.devices.get_mut(client) else {
                continue;
            };
            let stored = device.notice(at, &deliver.post);
            if stored == Stored::InPart {
                outcome.inbox_full.push(client.clone());
            }
            if stored != Stored::Nothing {
                outcome.woken.push(client.clone());
            }
        }
        outcome
    }

    pub(super) fn ack(&mut self, ack: &Ack) -> Outcome {
        let Some(device) = self.devices.get_mut(&ack.client) else {
            return Outcome::refused(Refused::NotKnown);
        };
        if let Some(upto) = ack.inbox {
            device.inbox.ack(upto);
        }
        let mut changed = false;
        for (room, seq) in &ack.rooms {
            changed |= device.ack_room(room, *seq);
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
    use crate::user::testing::{Log, client, joined, left, post, room};

    fn membership(bobby: &Log, name: &str) -> Option<Membership> {
        let phone = client("phone");
        let mut memberships = bobby.fold.memberships(&phone);
        memberships
            .find(|(at, _)| **at == room(name))
            .map(|(_, membership)| membership)
    }

    fn seqs(bobby: &Log) -> Vec<u64> {
        bobby
            .fold
            .inbox(&client("phone"))
            .map(|item| item.seq.0)
            .collect()
    }

    fn reads(after: u64, upto: Option<u64>, acked: u64) -> Option<Membership> {
        let upto = upto.map(RoomSeq);
        Some(Membership {
            after: RoomSeq(after),
            upto,
            acked: RoomSeq(acked),
        })
    }

    #[test]
    fn a_welcome_lies_in_the_inbox_of_each_client_named_and_the_room_can_be_read() {
        let mut bobby = Log::bobby(&["phone", "tablet", "watch"]);
        let named = post("club", &["tablet", "phone", "phone", "ghost"], joined(4));
        let outcome = bobby.deliver(named);
        assert_eq!(outcome.woken, [client("phone"), client("tablet")]);
        assert_eq!(outcome.inbox_full, []);
        bobby.restart();
        let item = InboxItem {
            seq: InboxSeq(1),
            at: bobby.position(),
        };
        for name in ["phone", "tablet"] {
            assert_eq!(bobby.fold.inbox(&client(name)).collect::<Vec<_>>(), [item]);
        }
        assert_eq!(membership(&bobby, "club"), reads(4, None, 4));
        assert_eq!(bobby.fold.memberships(&client("watch")).count(), 0);
    }

    #[test]
    fn the_creator_of_a_room_gets_no_welcome() {
        let mut bobby = Log::bobby(&["phone"]);
        let notice = Notice::Joined {
            after: RoomSeq(0),
            welcome: None,
        };
        let outcome = bobby.deliver(post("club", &["phone"], notice));
        assert_eq!(outcome.woken, [client("phone")]);
        assert_eq!(membership(&bobby, "club"), reads(0, None, 0));
        assert_eq!(seqs(&bobby), []);
    }

    #[test]
    fn a_notice_is_taken_once_per_shard() {
        let mut bobby = Log::bobby(&["phone"]);
        let notice = || post("club", &["phone"], joined(4));
        assert_eq!(bobby.deliver_as(1, 5, notice()).woken.len(), 1);
        bobby.ack("phone", Some(1), &[("club", 9)]);
        for seq in [5, 4, 0] {
            assert_eq!(
                bobby.deliver_as(1, seq, notice()),
                Outcome::answer(Answer::Done)
            );
        }
        assert_eq!(
            (seqs(&bobby), membership(&bobby, "club")),
            (vec![], reads(4, None, 9))
        );
        assert_eq!(bobby.deliver_as(2, 5, notice()).woken.len(), 1);
        assert_eq!(
            (seqs(&bobby), membership(&bobby, "club")),
            (vec![2], reads(4, None, 4))
        );
    }

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
        assert_eq!(seqs(&bobby), []);
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
    fn who_joins_again_begins_again() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.deliver(post("club", &["phone"], joined(4)));
        bobby.deliver(post("club", &["phone"], left(9)));
        bobby.deliver(post("club", &["phone"], joined(20)));
        assert_eq!(membership(&bobby, "club"), reads(20, None, 20));
    }

    #[test]
    fn who_was_never_in_a_room_does_not_hear_that_it_left() {
        let mut bobby = Log::bobby(&["phone"]);
        let outcome = bobby.deliver(post("club", &["phone"], left(9)));
        assert_eq!(outcome, Outcome::answer(Answer::Done));
        assert_eq!(seqs(&bobby), []);
    }

    #[test]
    fn a_full_inbox_takes_no_welcome_but_the_membership_counts() {
        let mut bobby = Log::bobby(&["phone"]);
        for number in 0..INBOX_ITEMS_PER_CLIENT_MAX {
            let outcome = bobby.deliver(post(&format!("r{number}"), &["phone"], joined(1)));
            assert_eq!(outcome.inbox_full, []);
        }
        let outcome = bobby.deliver(post("club", &["phone"], joined(4)));
        assert_eq!(outcome.inbox_full, [client("phone")]);
        assert_eq!(outcome.woken, [client("phone")]);
        assert_eq!(membership(&bobby, "club"), reads(4, None, 4));
        let outcome = bobby.deliver(post("club", &["phone"], left(6)));
        assert_eq!(outcome.inbox_full, [client("phone")]);
        assert_eq!(membership(&bobby, "club"), reads(4, Some(6), 4));
        assert_eq!(seqs(&bobby).len(), INBOX_ITEMS_PER_CLIENT_MAX);
        // The numbers go on without a gap.
        bobby.ack("phone", Some(1), &[]);
        bobby.deliver(post("den", &["phone"], joined(1)));
        assert_eq!(
            seqs(&bobby).last(),
            Some(&(INBOX_ITEMS_PER_CLIENT_MAX as u64 + 1))
        );
    }

    #[test]
    fn a_client_in_too_many_rooms_joins_no_more() {
        let mut bobby = Log::bobby(&["phone"]);
        let notice = Notice::Joined {
            after: RoomSeq(1),
            welcome: None,
        };
        for number in 0..ROOMS_PER_CLIENT_MAX {
            bobby.deliver(post(&format!("r{number}"), &["phone"], notice.clone()));
        }
        let outcome = bobby.deliver(post("club", &["phone"], joined(4)));
        assert_eq!(outcome.inbox_full, [client("phone")]);
        assert_eq!((seqs(&bobby), membership(&bobby, "club")), (vec![], None));
        let again = bobby.deliver(post("r7", &["phone"], joined(4)));
        assert_eq!(again.inbox_full, []);
        assert_eq!(membership(&bobby, "r7"), reads(4, None, 4));
    }

    #[test]
    fn who_is_not_enrolled_acknowledges_nothing() {
        let mut bobby = Log::bobby(&["phone"]);
        let refused = Answer::Refused(Refused::NotKnown);
        assert_eq!(bobby.ack("ghost", Some(1), &[]).answer, refused);
    }

    #[test]
    fn a_notice_for_a_user_that_is_gone_does_not_hold_up_the_next() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.apply(crate::user::command::Command::Delete);
        let outcome = bobby.deliver(post("club", &["phone"], joined(4)));
        assert_eq!(outcome, Outcome::answer(Answer::Done));
        let outcome = Log::default().deliver(post("club", &["phone"], joined(4)));
        assert_eq!(outcome, Outcome::answer(Answer::Done));
    }
}
