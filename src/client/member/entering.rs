//! Joining by an external Commit: with the public state of the group, and nobody's Welcome.
//!
//! OpenMLS merges an external Commit as it is made, so the group is kept aside until the hub has taken it. A device that
//! is in the room already gives its old group up with the first step: it enters because that group is of no use.
//!
//! Source: transport requirements, sections 3.2 and 3.3.

use super::{Entrance, Member, MemberError, PreparedCommit, encoding, group, identity, mls};
use mimi_actors::{
    ids::RoomUri,
    mls::tree::container::Before,
    wire::{
        Payload,
        answer::Accepted,
        event::{Epoch, RoomSeq},
    },
};
use openmls::prelude::{
    LeafNodeParameters, MlsGroup, MlsMessageBodyIn, MlsMessageIn, OpenMlsProvider as _,
    PublicMessageIn, RatchetTreeIn, tls_codec::DeserializeBytes as _,
};

impl Member {
    /// What another device of this user needs to enter a room of this one.
    ///
    /// # Errors
    /// [`MemberError::NotMember`] when the device is none; [`MemberError::Mls`] when OpenMLS refuses.
    pub fn entrance(&self, room: &RoomUri) -> Result<Entrance, MemberError> {
        let group = self.group(room)?;
        let group_info = group
            .export_group_info(self.mls.crypto(), &self.signer, false)
            .map_err(mls("export the GroupInfo"))?;
        Ok(Entrance {
            group_info: encoding::message(&group_info)?,
            tree: encoding::tree(&group.export_ratchet_tree())?,
            proposals: self
                .room(room)
                .map_or_else(Vec::new, |state| state.waiting.clone()),
        })
    }

    /// Prepares an external Commit by which this device joins, or takes the place of its own former leaf.
    ///
    /// [`Member::commit`] sends it; the device is in the room when the hub took it.
    ///
    /// # Errors
    /// [`MemberError::Mls`] when OpenMLS does not take the group.
    pub fn prepare_entry(
        &mut self,
        room: &RoomUri,
        entrance: &Entrance,
    ) -> Result<PreparedCommit, MemberError> {
        self.abandon_entry(room)?;
        if self.groups.contains_key(room) {
            self.leave(room);
        }
        let MlsMessageBodyIn::GroupInfo(group_info) = read(&entrance.group_info)? else {
            return Err(mls("decode a GroupInfo")("another MLSMessage"));
        };
        let base = Before::of_group_info(&entrance.group_info, entrance.tree.0.clone()).ok();
        let tree = RatchetTreeIn::tls_deserialize_exact_bytes(&entrance.tree)
            .map_err(mls("decode a ratchet tree"))?;
        let proposals = entrance.proposals.iter().map(public_message);
        let builder = MlsGroup::external_commit_builder()
            .with_ratchet_tree(tree)
            .skip_lifetime_validation()
            .with_config(group::join_config())
            .with_proposals(proposals.collect::<Result<_, _>>()?)
            .build_group(
                &self.mls,
                group_info,
                identity::credential(&self.record.client, &self.signer),
            )
            .map_err(mls("read the group to enter"))?;
        let leaf = LeafNodeParameters::builder()
            .with_capabilities(identity::capabilities())
            .build();
        let (group, bundle) = builder
            .leaf_node_parameters(leaf)
            .load_psks(self.mls.storage())
            .map_err(mls("build an external Commit"))?
            .create_group_info(true)
            .use_ratchet_tree_extension(false)
            .build(self.mls.rand(), self.mls.crypto(), &self.signer, |_| true)
            .map_err(mls("build an external Commit"))?
            .finalize(&self.mls)
            .map_err(mls("build an external Commit"))?;
        let (commit, _, group_info) = bundle.into_messages();
        let group_info =
            group_info.ok_or_else(|| mls("build an external Commit")("there is no GroupInfo"))?;
        let prepared = PreparedCommit {
            room: room.clone(),
            epoch: Epoch(group.epoch().as_u64()),
            commit: encoding::message(&commit)?,
            welcome: None,
            group_info: encoding::message(&group_info)?,
            tree: self.trees.pack(
                &encoding::tree(&group.export_ratchet_tree())?,
                base.as_ref(),
            )?,
        };
        let state = self.room_mut(room);
        state.group_id = group.group_id().as_slice().to_vec().into();
        state.entering = Some(prepared.clone());
        self.entering.insert(room.clone(), group);
        Ok(prepared)
    }

    /// The hub took the external Commit: the device is a member from there on.
    pub(super) fn entered(&mut self, room: &RoomUri, accepted: Accepted) {
        let Some(group) = self.entering.remove(room) else {
            return;
        };
        self.room_mut(room).entering = None;
        self.begin(room, group, accepted.seq);
    }

    /// Gives the external Commit up: the hub will never take it.
    pub(super) fn abandon_entry(&mut self, room: &RoomUri) -> Result<(), MemberError> {
        if let Some(state) = self.record.rooms.get_mut(room) {
            state.entering = None;
        }
        let Some(mut group) = self.entering.remove(room) else {
            return Ok(());
        };
        group
            .delete(self.mls.storage())
            .map_err(mls("delete a group"))
    }

    /// Begins to follow a room after this event, in a new group.
    pub(super) fn begin(&mut self, room: &RoomUri, group: MlsGroup, after: RoomSeq) {
        let state = self.room_mut(room);
        state.group_id = group.group_id().as_slice().to_vec().into();
        state.joined = Epoch(group.epoch().as_u64());
        state.begun = after;
        state.last = after;
        state.control = after;
        state.missed = None;
        state.pending = None;
        state.merged = None;
        state.leaving = None;
        state.proposed.clear();
        state.waiting.clear();
        self.groups.insert(room.clone(), group);
        self.replay(room);
    }
}

fn read(message: &Payload) -> Result<MlsMessageBodyIn, MemberError> {
    let message = MlsMessageIn::tls_deserialize_exact_bytes(message);
    Ok(message.map_err(mls("decode an MLSMessage"))?.extract())
}

fn public_message(proposal: &Payload) -> Result<PublicMessageIn, MemberError> {
    let MlsMessageBodyIn::PublicMessage(message) = read(proposal)? else {
        return Err(mls("decode a Proposal")("another MLSMessage"));
    };
    Ok(message)
}
