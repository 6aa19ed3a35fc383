//! Proposals at the hub: they need no exclusive access, and wait for a Commit of the same epoch.
//!
//! Source: transport requirements, sections 3.2 and 4.

use super::{
    hub::{Fold, Propose, Room, name_proposals},
    outcome::{Answer, Emission, Outcome, Refused},
};
use crate::{
    machine::{Millis, Moment, Position},
    mls::check::proposal::PendingProposal,
    wire::{Payload, event::Lane},
};

impl Fold {
    pub(super) fn propose(&mut self, moment: Moment, propose: &Propose) -> Outcome {
        let Moment { at, time, level } = moment;
        let Some(room) = &mut self.room else {
            return Outcome::refused(Refused::NotAuthorized);
        };
        let messages = propose.proposals.iter();
        let request = name_proposals(&propose.sender, messages.map(|p| &p.message[..]));
        if propose.on != room.epoch()
            && let Some(references) = room.proposed(request)
        {
            return Outcome::answer(Answer::Proposed(references));
        }
        let all = propose.proposals.refs();
        let references = all.map(|proposal| Payload(proposal.reference.clone()));
        let mut all = propose.proposals.iter();
        if propose.on == room.epoch() && all.all(|one| room.pending.holds(one)) {
            return Outcome::answer(Answer::Proposed(references));
        }
        if room.has_ended() {
            return Outcome::refused(Refused::Ended);
        }
        let fresh = room.pending.fresh(&propose.proposals);
        if let Err(refused) = room.may_propose(propose, fresh.len()) {
            return Outcome::refused(refused);
        }
        if let Err(refused) = room.check_proposals(level, propose, &fresh) {
            return Outcome::refused(refused);
        }
        room.first_answers
            .remember_proposals(request, references.clone());
        Outcome {
            emitted: vec![room.let_wait(at, time, 0, fresh)],
            ..Outcome::answer(Answer::Proposed(references))
        }
    }
}

impl Room {
    /// Lets Proposals wait, of a member or of the hub, and tells them as one event: item `item` of the command at `at`.
    pub(super) fn let_wait(
        &mut self,
        at: Position,
        time: Millis,
        item: u32,
        proposals: Vec<PendingProposal>,
    ) -> Emission {
        let (first, time) = self.sequence.take(1, time);
        self.pending.accept(time, proposals);
        Emission {
            first,
            count: 1,
            at,
            item,
            time,
            origin: None,
            lane: Lane::Proposals,
            recipients: self.followers(),
        }
    }

    fn may_propose(&self, propose: &Propose, fresh: usize) -> Result<(), Refused> {
        if propose.on != self.epoch() {
            return Err(self.wrong_epoch());
        }
        let Some(member) = self.roster.member(&propose.sender) else {
            return Err(Refused::NotMember);
        };
        let mut all = propose.proposals.iter();
        if all.any(|proposal| proposal.leaf != member.leaf) {
            return Err(Refused::NotMember);
        }
        self.pending.check_room_for(member.leaf, fresh)
    }
}
