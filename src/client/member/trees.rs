//! The containers in which a member sends ratchet trees, and asks for them.
//!
//! Source: transport requirements, section 3.2.

use super::{Entrance, Member, MemberError, encoding, mls};
use mimi_actors::{
    ids::RoomUri,
    mls::tree::container::{self, Before},
    wire::{
        Payload,
        tree::{TreeContainer, TreeKind},
    },
};
use openmls::{prelude::MlsGroup, treesync::RatchetTree};

/// How a member sends trees and asks for them; not kept across a restart.
#[derive(Debug, Default)]
pub(super) struct Trees {
    kind: TreeKind,
    place: Option<String>,
    asked: TreeKind,
    /// The tree that the last GroupInfo came with: the next one may come as what changed since.
    held: Option<(RoomUri, Before)>,
}

impl Trees {
    /// What a delta will start from, if the member sends deltas.
    pub(super) fn before(
        &self,
        group: &MlsGroup,
        tree: &RatchetTree,
    ) -> Result<Option<Before>, MemberError> {
        if self.kind != TreeKind::Delta {
            return Ok(None);
        }
        let context = group.public_group().group_context();
        Ok(Some(Before {
            epoch: context.epoch().as_u64(),
            tree_hash: context.tree_hash().to_vec().into(),
            tree: encoding::tree(tree)?.0,
        }))
    }

    /// The tree of the epoch after `before`.
    pub(super) fn pack(
        &self,
        tree: &Payload,
        before: Option<&Before>,
    ) -> Result<TreeContainer, MemberError> {
        container::pack(tree, self.kind, before, self.place.as_deref())
            .map_err(mls("pack a ratchet tree"))
    }

    /// The container in which to ask for the tree of a room: a whole one, unless what others stand on is there.
    pub(super) fn asked(&self, room: &RoomUri) -> TreeKind {
        let whole = matches!(self.asked, TreeKind::Full | TreeKind::Zstd);
        if whole || self.held(room).is_some() {
            self.asked
        } else {
            TreeKind::Zstd
        }
    }

    /// The tree that the last GroupInfo of this room came with.
    pub(super) fn held(&self, room: &RoomUri) -> Option<&Before> {
        let held = self.held.as_ref().filter(|(of, _)| of == room);
        held.map(|(_, before)| before)
    }

    /// Keeps what the next tree may come of; what did not fit is forgotten.
    pub(super) fn hold(&mut self, room: &RoomUri, entrance: Option<&Entrance>) {
        let before = entrance.and_then(|entrance| {
            Before::of_group_info(&entrance.group_info, entrance.tree.0.clone()).ok()
        });
        self.held = before.map(|before| (room.clone(), before));
    }

    /// The tree of a new group, which must come whole.
    pub(super) fn pack_first(&self, tree: &Payload) -> Result<TreeContainer, MemberError> {
        let kind = match self.kind {
            TreeKind::Zstd => TreeKind::Zstd,
            TreeKind::Full
            | TreeKind::Delta
            | TreeKind::DistributionService
            | TreeKind::Reference => TreeKind::Full,
        };
        container::pack(tree, kind, None, None).map_err(mls("pack a ratchet tree"))
    }
}

impl Member {
    /// Sends the trees of Commits in this container from now on; a new room's tree is sent whole in any case.
    pub fn send_trees_as(&mut self, kind: TreeKind) {
        self.trees.kind = kind;
    }

    /// Asks for trees in this container from now on; the first of a room comes whole in any case.
    pub fn ask_trees_as(&mut self, kind: TreeKind) {
        self.trees.asked = kind;
    }

    /// The `https` URI at which this device keeps the trees of its Commits, for [`TreeKind::Reference`].
    pub fn keep_trees_at(&mut self, place: &str) {
        self.trees.place = Some(place.to_owned());
    }
}
