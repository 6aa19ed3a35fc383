//! Members whom their own provider does not know any more: a room's hub proposes that they be removed.
//!
//! Promises: what the hub proposes, the next Commit of a member takes in; after an external Commit, which cannot, it is
//! proposed anew, as one with that Commit. A room remembers who is to go, so that it is proposed again in whatever epoch
//! comes in between, and when another node leads. Not here: how the Proposal is made (`mls::check::expel`), and how the
//! hub hears of it (`shard::owing`).
//!
//! Source: transport requirements, sections 4 and 5; RFC 9420, section 12.1.8.

use super::{
    hub::{Command, Commit, Depart, Enter, Expel, Fold, Room},
    outcome::{Answer, Done, Outcome},
};
use crate::{
    ids::ClientUri,
    limits::{EXPEL_RETRY_MS, HUB_PROPOSALS_PENDING_PER_ROOM_MAX},
    machine::{Millis, Moment, Position, Ticket},
    mls::{
        check::{
            bundle::CheckedBundle,
            proposal::{PendingProposal, expelled},
        },
        tree::view::GroupView,
    },
    wire::{BVec, event::Epoch},
};
use std::collections::BTreeSet;

/// Of what the hub does by itself: nobody waits for it, and tickets count from 1.
pub(super) const NOBODYS: Ticket = Ticket(0);

impl Fold {
    /// Whether it changes anything that a client departed. Of whoever is no member nothing is to be done, it costs no log, and
    /// no room says whether it is there.
    pub(super) fn is_news(&self, client: &ClientUri) -> bool {
        self.room().is_some_and(|room| {
            !room.has_ended() && room.has_member(client) && !room.is_to_go(client)
        })
    }

    pub(super) fn depart(&mut self, depart: &Depart) -> Outcome {
        if self.is_news(&depart.client)
            && let Some(room) = &mut self.room
        {
            room.since_second.departed.add(&depart.client, depart.why);
        }
        Outcome::answer(Answer::Received)
    }

    pub(super) fn expel(&mut self, at: Position, time: Millis, expel: &Expel) -> Outcome {
        let Some(room) = &mut self.room else {
            return Outcome::answer(Answer::Received);
        };
        if expel.on != room.epoch() {
            return Outcome::answer(Done::Stale);
        }
        let due: BTreeSet<u32> = room.to_expel().into_iter().map(|(_, leaf)| leaf).collect();
        let proposals = expel.proposals.iter();
        let proposals: Vec<_> = proposals
            .filter(|one| due.contains(&one.leaf))
            .cloned()
            .collect();
        let all = proposals.len() == expel.proposals.len();
        if room.has_ended() || proposals.is_empty() || !all {
            // Who is to go has changed since: the desk looks again.
            return Outcome::answer(Done::Stale);
        }
        Outcome {
            emitted: vec![room.let_wait(at, time, 0, proposals)],
            ..Outcome::answer(Answer::Received)
        }
    }
}

impl Room {
    /// Members that are to be removed and that nothing removes yet, with their leaves: as many as may wait at a time. Whom the
    /// constraints of the room's policy hold stays until they do not.
    fn to_expel(&self) -> Vec<(&ClientUri, u32)> {
        let leaving = self.pending().iter().filter(|one| one.leaves());
        let mut leaving: BTreeSet<u32> = leaving.map(|one| one.leaf).collect();
        let waiting = expelled(self.pending()).count();
        let departed = self.since_second.departed.clients();
        let due = departed.filter_map(|client| Some((client, self.roster.member(client)?.leaf)));
        let goes = |(_, leaf): &(&ClientUri, u32)| {
            let fresh = leaving.insert(*leaf);
            let goes = fresh && self.may_be_without(&leaving);
            if fresh && !goes {
                leaving.remove(leaf);
            }
            goes
        };
        due.filter(goes)
            .take(HUB_PROPOSALS_PENDING_PER_ROOM_MAX.saturating_sub(waiting))
            .collect()
    }
}

/// Whom the hub must propose to remove anew when a Commit opens an epoch in which they still are: nobody after a member's,
/// which takes in what waits.
#[must_use]
pub fn left_in(pending: &[PendingProposal], checked: &CheckedBundle) -> Vec<u32> {
    if !checked.external {
        return Vec::new();
    }
    let is_in = |leaf: &u32| checked.left.iter().all(|left| left.leaf != *leaf);
    expelled(pending).filter(is_in).collect()
}

/// Removes that a hub is to propose, for the workers.
#[derive(Clone, Debug)]
pub struct ToExpel {
    /// One of those whom they are about.
    pub because_of: ClientUri,
    /// The state they must fit.
    pub view: GroupView,
    /// Its epoch.
    pub on: Epoch,
    /// The leaves to be removed.
    pub leaves: Vec<u32>,
}

/// How far a desk is with what its hub is to propose.
#[derive(Debug, Default)]
pub(super) struct Expelling(Step);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Nothing is under way.
    #[default]
    No,
    /// Proposals are being made, or are on their way into the log.
    UnderWay,
    /// They could not be made or logged: it is tried again soon.
    Waits,
    /// Nothing is to be proposed in this epoch, or nothing that members would verify, while so many members are to go.
    Settled(Epoch, usize),
}

impl Expelling {
    /// Whether the desk is still needed for it.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.0, Step::UnderWay | Step::Waits)
    }

    /// Whether a ticket is of what the hub does by itself.
    pub(super) fn is_own(&self, ticket: Ticket) -> bool {
        ticket == NOBODYS && self.0 == Step::UnderWay
    }

    /// What the hub is to propose, if there is something and that is not under way.
    pub(super) fn next(&mut self, fold: &Fold) -> Option<ToExpel> {
        let now = settled(fold);
        if self.0 == Step::UnderWay || self.0 == now {
            return None;
        }
        self.0 = now;
        let room = fold.room()?;
        let due = room.to_expel();
        let (first, _) = due.first()?;
        self.0 = Step::UnderWay;
        Some(ToExpel {
            because_of: (*first).clone(),
            view: room.view().clone(),
            on: room.epoch(),
            leaves: due.iter().map(|(_, leaf)| *leaf).collect(),
        })
    }

    /// The Proposals are made: those for which the hub has a key that the group lists. What goes into the log.
    pub(super) fn made(
        &mut self,
        on: Epoch,
        proposals: Vec<PendingProposal>,
        fold: &Fold,
    ) -> Option<Command> {
        if proposals.is_empty() {
            // Members would verify none; whoever commits can remove them all the same.
            self.0 = settled(fold);
            return None;
        }
        let proposals = BVec::first_max(proposals);
        Some(Command::Expel(Expel { on, proposals }))
    }

    /// The log has taken what the hub proposed, or refused it because something has changed: it is looked at again.
    pub(super) fn logged(&mut self) {
        self.0 = Step::No;
    }

    /// It could not be made or logged; when to try again, in milliseconds.
    pub(super) fn failed(&mut self) -> u32 {
        self.0 = Step::Waits;
        EXPEL_RETRY_MS
    }
}

/// Nothing to do as long as a room is as it is.
fn settled(fold: &Fold) -> Step {
    let Some(room) = fold.room() else {
        return Step::No;
    };
    match room.since_second.departed.clients().count() {
        0 => Step::No,
        departed => Step::Settled(room.epoch(), departed),
    }
}

/// What the log is told of an external Commit: with it, what the hub proposes anew.
#[must_use]
pub(super) fn entering(commit: Commit, again: Vec<PendingProposal>) -> Command {
    let commit = Box::new(commit);
    if again.is_empty() {
        return Command::Commit(commit);
    }
    let again = BVec::first_max(again);
    Command::Enter(Enter { commit, again })
}

impl Fold {
    /// Opens the next epoch by an external Commit, and has the hub's Proposals wait in it that waited before.
    pub(super) fn enter(&mut self, moment: Moment, enter: &Enter) -> Outcome {
        let mut outcome = self.commit(moment, &enter.commit);
        if let Some(room) = &mut self.room
            && !outcome.emitted.is_empty()
            && !room.has_ended()
        {
            let again = enter.again.to_vec();
            let emission = room.let_wait(moment.at, moment.time, Enter::AGAIN, again);
            outcome.emitted.push(emission);
        }
        outcome
    }
}
