//! The MLS group of a room: how it began, and its current epoch.
//!
//! Promises: what belongs to an epoch is replaced as one, by the Commit that opens the next; a group that a ReInit ended
//! stays so, for nobody opens another epoch.
//!
//! Source: transport requirements, section 3.2.

use crate::{
    limits::{TREE_SENT_WHOLE_BYTES_MAX, URI_BYTES_MAX},
    mls::{check::bundle::CheckedBundle, tree::view::GroupView},
    wire::{
        BText, Payload,
        event::{Epoch, Hash},
        version::Level,
    },
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The group in its current epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// Fixed.
    id: Payload,
    view: GroupView,
    /// What the Commit that opened `epoch` changed in the tree, where that is shorter and the tree is not small.
    tree_delta: Option<Bytes>,
    /// Where its committer said that the tree lies.
    tree_place: Option<BText<URI_BYTES_MAX>>,
    epoch: Epoch,
    /// Names the creation across retries.
    created: Hash,
    /// Hash of the Commit that opened `epoch`; a loser is told it.
    winner: Hash,
    /// Whether a ReInit ended the group.
    ended: bool,
}

impl Group {
    /// A group in epoch 0, and what names its creation.
    pub(crate) fn begin(view: &GroupView, created: Hash) -> Self {
        Self {
            id: Payload(view.group_id().unwrap_or_default()),
            view: view.clone(),
            tree_delta: None,
            tree_place: None,
            epoch: Epoch(0),
            created,
            winner: Hash::default(),
            ended: false,
        }
    }

    /// Opens the next epoch, by a Commit that was checked on this one; gives its number.
    pub(crate) fn open_epoch(
        &mut self,
        level: Level,
        commit: &[u8],
        checked: &CheckedBundle,
        view: GroupView,
    ) -> Epoch {
        // The first release keeps a delta whatever the tree, and replicas do not differ.
        let keeps_delta = level < Level::SECOND || view.tree.len() > TREE_SENT_WHOLE_BYTES_MAX;
        self.view = view;
        self.tree_delta = checked.next.delta().filter(|_| keeps_delta).cloned();
        self.tree_place = checked.place.clone();
        self.epoch = self.epoch.next();
        self.winner = Hash::of(commit);
        self.ended = checked.reinit;
        self.epoch
    }

    /// Whether it began with the creation of this name.
    pub(crate) fn was_created_by(&self, created: Hash) -> bool {
        self.created == created
    }

    pub(crate) fn id(&self) -> &[u8] {
        &self.id
    }

    pub(crate) fn view(&self) -> &GroupView {
        &self.view
    }

    pub(crate) fn tree_delta(&self) -> Option<&Bytes> {
        self.tree_delta.as_ref()
    }

    pub(crate) fn tree_place(&self) -> Option<&BText<URI_BYTES_MAX>> {
        self.tree_place.as_ref()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn winner(&self) -> Hash {
        self.winner
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }
}
