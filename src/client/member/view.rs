//! What a member knows, for whoever asks.

use super::{Counts, Fault, Member, Seen, identity};
use mimi_actors::{
    ids::{ClientUri, RoomUri},
    wire::{
        Payload,
        claim::ClaimResponse,
        event::{ClientSeq, Epoch, RoomSeq, Verdict},
    },
};

impl Member {
    /// The room's epoch on this device; `None` while it is no member.
    #[must_use]
    pub fn epoch(&self, room: &RoomUri) -> Option<Epoch> {
        self.group(room)
            .ok()
            .map(|group| Epoch(group.epoch().as_u64()))
    }

    /// The epoch authenticator, equal on all members of an epoch.
    #[must_use]
    pub fn epoch_authenticator(&self, room: &RoomUri) -> Option<Vec<u8>> {
        self.group(room)
            .ok()
            .map(|group| group.epoch_authenticator().as_slice().to_vec())
    }

    /// The hash of the ratchet tree.
    #[must_use]
    pub fn tree_hash(&self, room: &RoomUri) -> Option<Vec<u8>> {
        self.group(room)
            .ok()
            .map(|group| group.public_group().group_context().tree_hash().to_vec())
    }

    /// The clients in the room, in the order of their leaves; none while this device is no member.
    #[must_use]
    pub fn members(&self, room: &RoomUri) -> Vec<ClientUri> {
        self.group(room).map_or_else(
            |_| Vec::new(),
            |group| {
                group
                    .members()
                    .filter_map(|leaf| identity::client_of(&leaf.credential))
                    .collect()
            },
        )
    }

    /// Rooms that this device is a member of.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomUri> {
        self.groups
            .iter()
            .filter(|(_, group)| group.is_active())
            .map(|(room, _)| room)
    }

    /// How many Proposals wait for a Commit.
    #[must_use]
    pub fn pending_proposals(&self, room: &RoomUri) -> usize {
        self.group(room)
            .map_or(0, |group| group.pending_proposals().count())
    }

    /// The last event of a room that the provider did not keep until this device came for it. If there was a Commit among
    /// them, the device must join the room anew ([`Member::join_by_itself`]); that it was in the room gives it the right.
    #[must_use]
    pub fn missed(&self, room: &RoomUri) -> Option<RoomSeq> {
        self.room(room).and_then(|room| room.missed)
    }

    /// Events of the room up to this one are processed.
    #[must_use]
    pub fn last_seq(&self, room: &RoomUri) -> RoomSeq {
        self.room(room).map_or(RoomSeq(0), |room| room.last)
    }

    /// The final verdict of each own message of the room that has one.
    #[must_use]
    pub fn verdicts(&self, room: &RoomUri) -> Vec<(ClientSeq, Verdict)> {
        self.room(room).map_or_else(Vec::new, |room| {
            room.verdicts
                .iter()
                .map(|(number, verdict)| (*number, *verdict))
                .collect()
        })
    }

    /// Own numbers of the room without a final verdict.
    #[must_use]
    pub fn unresolved(&self, room: &RoomUri) -> Vec<ClientSeq> {
        self.room(room).map_or_else(Vec::new, |room| {
            room.undecided(ClientSeq(0))
                .into_iter()
                .map(|(number, _)| number)
                .collect()
        })
    }

    /// The messages the journal holds, in the order they were seen.
    pub fn seen(&self) -> impl Iterator<Item = &Seen> {
        self.record.journal.seen.iter()
    }

    /// The texts seen in a room, own ones included, in the room's order.
    #[must_use]
    pub fn received(&self, room: &RoomUri) -> Vec<&str> {
        self.seen()
            .filter(|seen| &seen.room == room)
            .map(|seen| seen.text.as_str())
            .collect()
    }

    /// How many items of each kind came.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.record.journal.counts
    }

    /// The latest events and notices that could not be used.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.record.journal.faults.iter()
    }
}

/// All KeyPackages of a claim, without its refusals.
#[must_use]
pub fn packages(claimed: &ClaimResponse) -> Vec<Payload> {
    claimed
        .users
        .iter()
        .filter_map(|user| user.result.as_ref().ok())
        .flatten()
        .filter_map(|client| client.result.clone().ok())
        .collect()
}
