//! What a room tells the users of its own provider, whose shards are others.

use super::{
    BVec, Payload,
    event::{Epoch, RoomSeq},
};
use crate::{
    ids::{ClientUri, RoomUri},
    limits::PROPOSALS_PER_BUNDLE_MAX,
};
use serde::{Deserialize, Serialize};

/// A notice from a room to one user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// The room.
    pub room: RoomUri,
    /// The clients of the user that it concerns.
    pub clients: BVec<ClientUri, PROPOSALS_PER_BUNDLE_MAX>,
    /// What happened to them.
    pub notice: Notice,
}

/// What happened to some clients of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// They are members; events after `after` are theirs to read.
    Joined {
        /// The last event that is not theirs.
        after: RoomSeq,
        /// How they join; absent for the creator, who is in already.
        welcome: Option<WelcomeNotice>,
    },
    /// They are members no longer; events up to and with `upto` are theirs to read.
    Left {
        /// The last event that is theirs: the Commit that removed them.
        upto: RoomSeq,
    },
}

/// A Welcome as it lies in an inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WelcomeNotice {
    /// The epoch it leads to.
    pub epoch: Epoch,
    /// The MLSMessage.
    pub welcome: Payload,
    /// The ratchet tree of that epoch.
    pub tree: Payload,
}
