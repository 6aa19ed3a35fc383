//! The containers in which a member sends ratchet trees.
//!
//! Source: transport requirements, section 3.2.

use super::{Member, MemberError, group, mls};
use mimi_actors::{
    mls::container::{self, Before},
    wire::{
        Payload,
        tree::{TreeContainer, TreeKind},
    },
};
use openmls::{prelude::MlsGroup, treesync::RatchetTree};

/// How a member sends trees; not kept across a restart.
#[derive(Debug, Default)]
pub(super) struct Trees {
    kind: TreeKind,
    place: Option<String>,
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
            tree: group::tree(tree)?.0,
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

    /// The `https` URI at which this device keeps the trees of its Commits, for [`TreeKind::Reference`].
    pub fn keep_trees_at(&mut self, place: &str) {
        self.trees.place = Some(place.to_owned());
    }
}
