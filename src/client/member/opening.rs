//! New rooms: a group of one, offered to the hub.

use super::{Member, MemberError, group, identity, identity::Component, mls};
use mimi_actors::{
    ids::RoomUri,
    wire::{
        door::HubSender,
        event::{Epoch, RoomSeq},
        room::Beginning,
    },
};
use openmls::prelude::OpenMlsProvider as _;

impl Member {
    /// Makes the group of a new room, and what the hub needs to open it; the same again until the hub has answered.
    ///
    /// # Errors
    /// [`MemberError::Mls`] when the device is in the room already.
    pub fn prepare_room(
        &mut self,
        room: &RoomUri,
        hub: &HubSender,
    ) -> Result<Beginning, MemberError> {
        self.prepare_room_with(room, hub, &[])
    }

    /// As [`Self::prepare_room`], with room policy: components of the `app_data_dictionary`, by ascending number.
    ///
    /// # Errors
    /// As there.
    pub fn prepare_room_with(
        &mut self,
        room: &RoomUri,
        hub: &HubSender,
        policy: &[Component],
    ) -> Result<Beginning, MemberError> {
        if let Some(group) = self.groups.get(room) {
            if group.epoch().as_u64() > 0 {
                return Err(mls("make a room")("the device is in it already"));
            }
            return group::opening(&self.mls, &self.signer, &self.trees, group);
        }
        let client = &self.record.client;
        let extensions = identity::context_extensions(hub, policy)?;
        let group = group::create(&self.mls, client, &self.signer, room, extensions)?;
        let opening = group::opening(&self.mls, &self.signer, &self.trees, &group)?;
        let state = self.room_mut(room);
        state.group_id = group.group_id().as_slice().to_vec().into();
        state.joined = Epoch(0);
        self.groups.insert(room.clone(), group);
        Ok(opening)
    }

    /// Forgets the group of a room that the hub did not open.
    ///
    /// # Errors
    /// [`MemberError::Mls`] when the storage fails.
    pub fn abandon_room(&mut self, room: &RoomUri) -> Result<(), MemberError> {
        if let Some(mut group) = self.groups.remove(room) {
            group
                .delete(self.mls.storage())
                .map_err(mls("delete a group"))?;
        }
        self.record.rooms.remove(room);
        Ok(())
    }

    /// The last event that is not this device's, for a room it opened.
    pub(super) fn opened(&mut self, room: &RoomUri, after: RoomSeq) {
        let state = self.room_mut(room);
        state.last = state.last.max(after);
        state.control = state.control.max(after);
    }
}
