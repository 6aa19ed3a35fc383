//! The checkers of one log of a room, in its order: I1, I4, I5, I14, I26.
//!
//! A log tells more than those who hear of it: what came before what. Fed entry by entry; a log that is read anew begins
//! a new chain.

use crate::{
    facts::{At, Judge},
    names::{Epoch, RoomSeq},
    report::Invariant,
    roster::Roster,
};
use std::{
    collections::BTreeSet,
    fmt::{Debug, Display},
};

/// A Commit that a log has accepted, as the number that it has.
#[derive(Clone, Copy, Debug)]
pub struct Accepted<'a, C, P> {
    /// Its number in the room.
    pub seq: RoomSeq,
    /// The epoch that it opens.
    pub opens: Epoch,
    /// Who made it.
    pub sender: &'a C,
    /// Whether it may be made by somebody who is no member yet.
    pub admitted: bool,
    /// The Proposals that it names.
    pub covers: &'a [P],
    /// Who leaves with it.
    pub left: &'a [C],
    /// Who joins with it.
    pub joined: &'a [C],
}

/// A room, as one log tells of it.
#[derive(Clone, Debug)]
pub struct Chain<C, P> {
    epoch: Epoch,
    last: RoomSeq,
    time: u64,
    roster: Roster<C>,
    pending: BTreeSet<P>,
}

impl<C, P> Default for Chain<C, P> {
    fn default() -> Self {
        Self {
            epoch: Epoch::default(),
            last: RoomSeq::default(),
            time: 0,
            roster: Roster::default(),
            pending: BTreeSet::new(),
        }
    }
}

impl<C: Clone + PartialEq + Display, P: Clone + Ord + Debug> Chain<C, P> {
    /// The room begins with these members.
    pub fn begins(&mut self, members: impl IntoIterator<Item = C>) {
        for member in members {
            self.roster.join(member, self.last, self.epoch);
        }
    }

    /// This log has nothing of the room before the event after this one.
    pub fn begins_after(&mut self, seq: RoomSeq) {
        self.last = seq;
    }

    /// The epoch that the last Commit opened.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The number of the last event.
    #[must_use]
    pub fn last(&self) -> RoomSeq {
        self.last
    }

    /// Who is a member, and was.
    #[must_use]
    pub fn roster(&self) -> &Roster<C> {
        &self.roster
    }

    /// Whether a Proposal waits for a Commit.
    #[must_use]
    pub fn waits(&self, reference: &P) -> bool {
        self.pending.contains(reference)
    }

    /// I26: the log gives the next numbers, and its time goes on.
    pub fn emits(&mut self, at: At, first: RoomSeq, count: u64, time: u64, judge: &mut impl Judge) {
        let (expected, before) = (self.last.next(), self.time);
        judge.demand(
            Invariant::I26,
            first == expected,
            || vec![at.line],
            || format!("the log emitted event {first} where {expected} was next"),
        );
        judge.demand(
            Invariant::I26,
            time >= before,
            || vec![at.line],
            || format!("the log's time went back from {before} to {time}"),
        );
        self.last = RoomSeq((first.0 + count).saturating_sub(1));
        self.time = time;
    }

    /// I14, I26: a follower's log takes the next events, and none again. What was before the first is not its business.
    pub fn takes(&mut self, at: At, first: RoomSeq, count: u64, judge: &mut impl Judge) {
        if self.last == RoomSeq::default() {
            self.begins_after(RoomSeq(first.0.saturating_sub(1)));
        }
        let last = self.last;
        judge.demand(
            Invariant::I14,
            first > last,
            || vec![at.line],
            || format!("the follower took event {first} again, after {last}"),
        );
        self.emits(at, first, count, self.time, judge);
    }

    /// I1: epochs rise by one. I5: a member made the Commit. I4: it names Proposals that were accepted before it.
    pub fn commits(&mut self, at: At, commit: &Accepted<'_, C, P>, judge: &mut impl Judge) {
        let (before, opens) = (self.epoch, commit.opens);
        judge.demand(
            Invariant::I1,
            opens == before.next(),
            || vec![at.line],
            || format!("the log went from epoch {before} to {opens}"),
        );
        if commit.admitted {
            judge.demand(Invariant::I5, true, Vec::new, String::new);
        } else {
            self.says(at, commit.sender, commit.seq, judge);
        }
        let mut covers = commit.covers.iter();
        let unknown = covers.find(|reference| !self.waits(reference));
        judge.demand(
            Invariant::I4,
            unknown.is_none(),
            || vec![at.line],
            || {
                format!(
                    "the Commit that opened epoch {opens} names {unknown:?}, which does not wait"
                )
            },
        );
        self.epoch = opens;
        self.pending.clear();
        for client in commit.left {
            self.roster.leave(client, commit.seq);
        }
        for client in commit.joined {
            self.roster.join(client.clone(), commit.seq, opens);
        }
    }

    /// I5: a member proposes.
    pub fn proposes(
        &mut self,
        at: At,
        sender: &C,
        seq: RoomSeq,
        references: impl IntoIterator<Item = P>,
        judge: &mut impl Judge,
    ) {
        self.says(at, sender, seq, judge);
        self.pending.extend(references);
    }

    /// The hub proposes, from outside the group.
    pub fn hub_proposes(&mut self, references: impl IntoIterator<Item = P>) {
        self.pending.extend(references);
    }

    /// I5: whoever sent an event is a member at its number.
    pub fn says(&self, at: At, sender: &C, seq: RoomSeq, judge: &mut impl Judge) {
        judge.demand(
            Invariant::I5,
            self.roster.has_at(sender, seq),
            || vec![at.line],
            || format!("event {seq} is of {sender}, who was no member"),
        );
    }
}
