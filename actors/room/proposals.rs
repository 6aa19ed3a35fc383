//! Proposals at the hub: they need no exclusive access, and wait for a Commit of the same epoch.
//!
//! Source: transport requirements, sections 3.2 and 4.

use super::{
    hub::{Fold, Propose, Room, name_proposals},
    outcome::{Answer, Emission, Outcome, Refused},
};
use crate::{
    limits::{
        PROPOSALS_PENDING_PER_CLIENT_MAX, PROPOSALS_PENDING_PER_ROOM_MAX,
        PROPOSALS_REMEMBERED_PER_ROOM_MAX,
    },
    machine::{Millis, Position},
    mls::check::proposal::PendingProposal,
    wire::{BText, BVec, Payload, event::Lane},
};
use std::collections::BTreeSet;

impl Fold {
    pub(super) fn propose(&mut self, at: Position, time: Millis, propose: &Propose) -> Outcome {
        let Some(room) = &mut self.room else {
            return Outcome::refused(Refused::NotAuthorized);
        };
        let messages = propose.proposals.iter();
        let request = name_proposals(&propose.sender, messages.map(|p| &p.message[..]));
        if propose.on != room.epoch
            && let Some(references) = room.proposed(request)
        {
            return Outcome::answer(Answer::Proposed(references));
        }
        let references: Vec<Payload> = propose
            .proposals
            .iter()
            .map(|proposal| Payload(proposal.reference.clone()))
            .collect();
        if propose.on == room.epoch && propose.proposals.iter().all(|p| room.is_pending(p)) {
            return Outcome::answer(Answer::Proposed(BVec::truncated(references)));
        }
        if room.ended {
            return Outcome::refused(Refused::Ended);
        }
        let fresh = room.fresh(propose);
        if let Err(refused) = room.may_propose(propose, fresh.len()) {
            return Outcome::refused(refused);
        }
        let time = room.accept_at(time);
        let seq = room.last_seq.next();
        room.last_seq = seq;
        let accepted = |proposal| PendingProposal {
            accepted: time,
            ..proposal
        };
        room.pending.extend(fresh.into_iter().map(accepted));
        if room.proposed.len() == PROPOSALS_REMEMBERED_PER_ROOM_MAX {
            room.proposed.pop_front();
        }
        room.proposed.push_back((request, references.clone()));
        let recipients = room.followers();
        Outcome {
            emitted: vec![Emission {
                first: seq,
                count: 1,
                at,
                item: 0,
                time,
                origin: None,
                lane: Lane::Proposals,
                recipients,
            }],
            ..Outcome::answer(Answer::Proposed(BVec::truncated(references)))
        }
    }
}

impl Room {
    fn is_pending(&self, proposal: &PendingProposal) -> bool {
        self.pending
            .iter()
            .any(|pending| pending.reference == proposal.reference)
    }

    /// Those that do not wait yet, each once.
    fn fresh(&self, propose: &Propose) -> Vec<PendingProposal> {
        let mut seen = BTreeSet::new();
        let fresh = propose.proposals.iter().filter(|p| !self.is_pending(p));
        fresh
            .filter(|p| seen.insert(&p.reference))
            .cloned()
            .collect()
    }

    fn may_propose(&self, propose: &Propose, fresh: usize) -> Result<(), Refused> {
        if propose.on != self.epoch {
            return Err(self.wrong_epoch());
        }
        let Some(member) = self.members.get(&propose.sender) else {
            return Err(Refused::NotMember);
        };
        if propose
            .proposals
            .iter()
            .any(|proposal| proposal.leaf != member.leaf)
        {
            return Err(Refused::NotMember);
        }
        let own = self
            .pending
            .iter()
            .filter(|pending| pending.leaf == member.leaf)
            .count();
        for (count, max, what) in [
            (
                own,
                PROPOSALS_PENDING_PER_CLIENT_MAX,
                "pending proposals of one client",
            ),
            (
                self.pending.len(),
                PROPOSALS_PENDING_PER_ROOM_MAX,
                "pending proposals of one room",
            ),
        ] {
            if count + fresh > max {
                let max = u32::try_from(max).unwrap_or(u32::MAX);
                return Err(Refused::TooMany {
                    what: BText::clipped(what),
                    max,
                });
            }
        }
        Ok(())
    }
}
