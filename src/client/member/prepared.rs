//! What a member has made for others and not yet given away: Commits that wait, and what another device needs to enter.

use mimi_actors::{
    ids::RoomUri,
    wire::{Payload, event::Epoch, room::Bundle, tree::TreeContainer},
};
use serde::{Deserialize, Serialize};

/// A Commit that waits for the hub's word, with all that goes to the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedCommit {
    /// The room.
    pub room: RoomUri,
    /// The epoch it would open.
    pub epoch: Epoch,
    /// The Commit, a PublicMessage.
    pub commit: Payload,
    /// The Welcome, exactly when it adds.
    pub welcome: Option<Payload>,
    /// GroupInfo of the epoch it would open, with external_pub, without the tree.
    pub group_info: Payload,
    /// Ratchet tree of that epoch.
    pub tree: TreeContainer,
}

impl PreparedCommit {
    /// What the hub is sent.
    #[must_use]
    pub fn bundle(&self) -> Bundle {
        Bundle {
            commit: self.commit.clone(),
            welcome: self.welcome.clone(),
            group_info: self.group_info.clone(),
            tree: self.tree.clone(),
        }
    }
}

/// What a device needs of a room to enter it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// The GroupInfo of the current epoch, an MLSMessage.
    pub group_info: Payload,
    /// The ratchet tree of that epoch.
    pub tree: Payload,
    /// The Proposals that wait, each an MLSMessage: members that are leaving must be let go.
    pub proposals: Vec<Payload>,
}
