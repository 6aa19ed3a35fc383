//! Proposals: made here, taken in from the room, forgotten when the hub does not know them.

use super::{Member, MemberError, encoding, identity, mls};
use mimi_actors::{
    ids::{ClientUri, RoomUri},
    wire::{Payload, event::Hash},
};
use openmls::{
    ciphersuite::hash_ref::ProposalRef,
    prelude::{
        LeafNodeParameters, MlsMessageOut, OpenMlsProvider as _, ProcessedMessageContent, Proposal,
        ProposalOrRefType, Sender,
    },
};

/// A Proposal as OpenMLS makes it.
type Made = (MlsMessageOut, ProposalRef);

/// What a member proposes.
#[derive(Clone, Copy, Debug)]
pub enum Proposing<'a> {
    /// To add the clients of these KeyPackages.
    Add(&'a [Payload]),
    /// To remove these clients.
    Remove(&'a [ClientUri]),
    /// To renew its own leaf.
    Update,
    /// To leave: the next Commit of somebody else must let it go.
    Leave,
}

impl Member {
    /// Makes Proposals, each a PublicMessage. They are in the group's store at once.
    ///
    /// # Errors
    /// [`MemberError::Undecided`] while an own Commit waits; [`MemberError::Mls`] when OpenMLS refuses.
    pub fn prepare_proposals(
        &mut self,
        room: &RoomUri,
        what: Proposing<'_>,
    ) -> Result<Vec<Payload>, MemberError> {
        if self.group(room)?.pending_commit().is_some() {
            return Err(MemberError::Undecided(room.clone()));
        }
        let made = match what {
            Proposing::Add(packages) => self.propose_adds(room, packages)?,
            Proposing::Remove(clients) => self.propose_removals(room, clients)?,
            Proposing::Update => self.propose_own_update(room)?,
            Proposing::Leave => self.propose_to_leave(room)?,
        };
        let state = self.room_mut(room);
        let mut messages = Vec::with_capacity(made.len());
        for (message, reference) in &made {
            let message = encoding::message(message)?;
            let reference = reference.as_slice().to_vec().into();
            state.proposed.insert(Hash::of(&message), reference);
            messages.push(message);
        }
        Ok(messages)
    }

    fn propose_adds(
        &mut self,
        room: &RoomUri,
        packages: &[Payload],
    ) -> Result<Vec<Made>, MemberError> {
        let packages: Vec<_> = packages
            .iter()
            .map(|package| identity::read_key_package(&self.mls, package))
            .collect::<Result<_, _>>()?;
        let Some(group) = self.groups.get_mut(room) else {
            return Err(MemberError::NotMember(room.clone()));
        };
        packages
            .iter()
            .map(|package| group.propose_add_member(&self.mls, &self.signer, package))
            .collect::<Result<_, _>>()
            .map_err(mls("propose an Add"))
    }

    fn propose_removals(
        &mut self,
        room: &RoomUri,
        clients: &[ClientUri],
    ) -> Result<Vec<Made>, MemberError> {
        let leaves = self.leaves(room, clients)?;
        let Some(group) = self.groups.get_mut(room) else {
            return Err(MemberError::NotMember(room.clone()));
        };
        leaves
            .into_iter()
            .map(|leaf| group.propose_remove_member(&self.mls, &self.signer, leaf))
            .collect::<Result<_, _>>()
            .map_err(mls("propose a Remove"))
    }

    fn propose_own_update(&mut self, room: &RoomUri) -> Result<Vec<Made>, MemberError> {
        let Some(group) = self.groups.get_mut(room) else {
            return Err(MemberError::NotMember(room.clone()));
        };
        group
            .propose_self_update(&self.mls, &self.signer, LeafNodeParameters::default())
            .map(|made| vec![made])
            .map_err(mls("propose an Update"))
    }

    fn propose_to_leave(&mut self, room: &RoomUri) -> Result<Vec<Made>, MemberError> {
        let Some(group) = self.groups.get_mut(room) else {
            return Err(MemberError::NotMember(room.clone()));
        };
        let message = group
            .leave_group_via_self_remove(&self.mls, &self.signer)
            .map_err(mls("propose to leave"))?;
        let own = Sender::Member(group.own_leaf_index());
        let queued = group
            .pending_proposals()
            .filter(|queued| *queued.sender() == own)
            .find(|queued| matches!(queued.proposal(), Proposal::SelfRemove))
            .ok_or_else(|| mls("propose to leave")("nothing is queued"))?;
        Ok(vec![(message, queued.proposal_reference_ref().clone())])
    }

    /// The references of own Proposals.
    #[must_use]
    pub fn references(&self, room: &RoomUri, proposals: &[Payload]) -> Vec<Payload> {
        let proposed = self.room(room).map(|state| &state.proposed);
        let known = |proposal| proposed?.get(&Hash::of(proposal)).cloned();
        let proposals = proposals.iter();
        proposals.filter_map(|proposal| known(proposal)).collect()
    }

    /// The references of the Proposals that the pending Commit names.
    #[must_use]
    pub fn named_by_commit(&self, room: &RoomUri) -> Vec<Payload> {
        let staged = self
            .group(room)
            .ok()
            .and_then(|group| group.pending_commit());
        let queued = staged.into_iter().flat_map(|one| one.queued_proposals());
        queued
            .filter(|one| one.proposal_or_ref_type() == ProposalOrRefType::Reference)
            .map(|one| one.proposal_reference_ref().as_slice().to_vec().into())
            .collect()
    }

    /// Takes own Proposals back that the hub did not take.
    ///
    /// # Errors
    /// [`MemberError::NotMember`] when the device is none; [`MemberError::Mls`] when the storage fails.
    pub fn withdraw(&mut self, room: &RoomUri, proposals: &[Payload]) -> Result<(), MemberError> {
        let state = self.room_mut(room);
        let references: Vec<_> = proposals
            .iter()
            .filter_map(|proposal| state.proposed.remove(&Hash::of(proposal)))
            .collect();
        self.forget_proposals(room, &references)
    }

    /// Forgets Proposals that are not pending at the hub.
    pub(super) fn forget_proposals(
        &mut self,
        room: &RoomUri,
        references: &[Payload],
    ) -> Result<(), MemberError> {
        let unknown: Vec<ProposalRef> = self
            .group(room)?
            .pending_proposals()
            .map(|queued| queued.proposal_reference_ref().clone())
            .filter(|kept| references.iter().any(|one| **one == *kept.as_slice()))
            .collect();
        let Some(group) = self.groups.get_mut(room) else {
            return Err(MemberError::NotMember(room.clone()));
        };
        unknown
            .iter()
            .try_for_each(|reference| group.remove_pending_proposal(self.mls.storage(), reference))
            .map_err(mls("forget a Proposal"))
    }

    /// Takes in one Proposal of the room's events.
    pub(super) fn proposal_event(
        &mut self,
        room: &RoomUri,
        proposal: &Payload,
    ) -> Result<(), MemberError> {
        let state = self.record.rooms.entry(room.clone()).or_default();
        self.record.journal.counts.proposals += 1;
        let epoch = encoding::protocol_message(proposal)?.epoch();
        let group = self.groups.get(room);
        if group.is_some_and(|group| group.epoch() == epoch) {
            state.waiting.push(proposal.clone());
        }
        if state.proposed.contains_key(&Hash::of(proposal)) {
            return Ok(());
        }
        let Some(group) = self.groups.get_mut(room) else {
            return Err(MemberError::NotMember(room.clone()));
        };
        let message = encoding::protocol_message(proposal)?;
        // The own Commit, merged on the hub's answer, may be ahead of the events.
        if !group.is_active() || message.epoch() < group.epoch() {
            return Ok(());
        }
        let processed = group
            .process_message(&self.mls, message)
            .map_err(mls("process a Proposal"))?;
        let ProcessedMessageContent::ProposalMessage(queued) = processed.into_content() else {
            return Err(mls("process a Proposal")("another kind of message"));
        };
        group
            .store_pending_proposal(self.mls.storage(), *queued)
            .map_err(mls("keep a Proposal"))
    }
}
