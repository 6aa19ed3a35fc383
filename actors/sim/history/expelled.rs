//! Members whose user was deleted, and what their rooms' hubs propose.

use super::{History, proposals_of, seq_of};
use crate::{
    ids::{ClientUri, RoomUri, UserUri},
    mls::check::proposal::PendingProposal,
    room::hub,
    wire::{event::RoomSeq, post::Departed},
};
use mimi_history::Fact;
use std::collections::BTreeSet;

impl History {
    /// A user's log has deleted it, while its clients were in these rooms.
    pub(in crate::sim) fn applied_delete(&mut self, user: &UserUri, departed: &[Departed]) {
        self.deleted.insert(user.clone());
        self.departing.extend(departed.iter().cloned());
    }

    /// What a room has not heard of members whose user was deleted, if there is anything.
    pub(in crate::sim) fn departure_unheard(
        &self,
        room: &RoomUri,
        is: &hub::Room,
    ) -> Option<String> {
        let mut departing = self.departing.iter().filter(|one| one.room == *room);
        let stays = |one: &&Departed| {
            is.has_member(&one.client) && !is.is_to_go(&one.client) && !is.has_ended()
        };
        let unheard = departing.find(stays)?;
        Some(format!(
            "{room} has not heard that {} departed",
            unheard.client
        ))
    }

    /// A hub's log has taken note that a client departed.
    pub(in crate::sim) fn applied_depart(&mut self, client: &ClientUri) {
        let gone = self.deleted.contains(client.user());
        self.demand("departed", gone, || {
            format!("{client} is called gone, and its user exists")
        });
    }

    /// A hub's log has accepted Proposals of the hub itself, as event `seq`.
    pub(in crate::sim) fn hub_proposed(
        &mut self,
        room: &RoomUri,
        proposals: &[PendingProposal],
        seq: RoomSeq,
    ) {
        let event = proposals_of(proposals.iter().map(|one| &one.message[..]));
        let (_, rooms, _) = self.marks();
        let known = rooms.entry(room.clone()).or_default();
        let goes_on = known.ended;
        let references = proposals.iter().map(|one| one.reference.clone());
        known.chain.hub_proposes(references);
        known
            .expelled
            .extend(proposals.iter().map(|proposal| proposal.leaf));
        self.goes_on(room, goes_on);
        self.see(Fact::Sent { room, id: event });
        let seq = seq_of(seq);
        self.see(Fact::Numbered { room, seq, event });
    }

    /// With an external Commit the hub proposed `again` to remove these leaves.
    pub(in crate::sim) fn proposed_again(
        &mut self,
        room: &RoomUri,
        commit: &hub::Commit,
        again: &[PendingProposal],
    ) {
        let left: BTreeSet<u32> = commit.checked.left.iter().map(|left| left.leaf).collect();
        let known = self.rooms.entry(room.clone()).or_default();
        let waited = std::mem::take(&mut known.expelled);
        let stay: BTreeSet<u32> = waited.difference(&left).copied().collect();
        let again: BTreeSet<u32> = again.iter().map(|one| one.leaf).collect();
        let external = commit.checked.external;
        self.demand("expelled", !external || again == stay, || {
            format!(
                "{room} was entered while the hub proposed to remove {stay:?}, and then {again:?}"
            )
        });
        self.demand("expelled", external || stay.is_empty(), || {
            format!("a Commit of {room} leaves in {stay:?}, whom the hub proposed to remove")
        });
    }
}
