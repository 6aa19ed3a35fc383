//! What a room tells the users of its own provider, whose shards are others.

use super::{
    BVec, Payload,
    event::{Epoch, RoomSeq},
};
use crate::{
    ids::{ClientUri, RoomUri, UserUri},
    limits::{CLIENTS_PER_USER_MAX, PROPOSALS_PER_BUNDLE_MAX},
    machine::Position,
};
use serde::{Deserialize, Serialize};
use std::fmt;

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

/// A client that lacked a package when it should have been added to a room, and has one now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refilled {
    /// Who claimed of it in vain.
    pub requester: UserUri,
    /// The room.
    pub room: RoomUri,
    /// The client.
    pub client: ClientUri,
}

/// A client that its own provider does not know any more, in a room that it was a member of: the room's hub is told, so that
/// it leaves the group too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Departed {
    /// The room.
    pub room: RoomUri,
    /// The client.
    pub client: ClientUri,
    /// Why it is not known any more.
    pub why: DepartedWhy,
}

/// Why a provider does not know a client of its own any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DepartedWhy {
    /// The device was taken away.
    Revoked,
    /// Its user was deleted.
    Deleted,
}

impl fmt::Display for DepartedWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Revoked => "its device was revoked",
            Self::Deleted => "its user was deleted",
        })
    }
}

/// What a provider tells a client of its own, or of somebody whom it wanted in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// Few KeyPackages of this client are left: it should upload more.
    LowStock {
        /// How many.
        left: u32,
    },
    /// The last-resort KeyPackage of this client was handed out: it should upload another.
    LastResortUsed,
    /// A client that had no KeyPackage for a room has some now: it can be added.
    Refilled {
        /// The room.
        room: RoomUri,
        /// The client.
        client: ClientUri,
    },
    /// A notice of this room found no place: it said that this client was brought in, with a Welcome, or that it left. Whoever
    /// is a member enters by an external Commit, if it wants to be. Version 1 of the client door has no word for it.
    Missed {
        /// The room.
        room: RoomUri,
    },
    /// Somebody asks the user for consent. Version 1 of the client door has no word for it.
    ConsentAsked {
        /// Who.
        requester: UserUri,
        /// For this room alone; absent for any room.
        room: Option<RoomUri>,
    },
    /// Somebody gave the user consent, or took it back. Version 1 has no word for it.
    ConsentSaid {
        /// Who.
        target: UserUri,
        /// For this room alone; absent for any room.
        room: Option<RoomUri>,
        /// Whether it was given.
        granted: bool,
        /// KeyPackages of its clients that came with it, each an MLSMessage: to add them without a claim. A KeyPackage of a
        /// client that is not its own is not to be used.
        packages: BVec<Payload, CLIENTS_PER_USER_MAX>,
    },
    /// There was more to tell about consent than the inbox holds: whoever wants to know asks for the list. Version 1 has no
    /// word for it.
    ConsentsChanged,
}

impl Note {
    /// Whether it is about consent.
    #[must_use]
    pub const fn is_of_consent(&self) -> bool {
        match self {
            Self::ConsentAsked { .. } | Self::ConsentSaid { .. } | Self::ConsentsChanged => true,
            Self::LowStock { .. }
            | Self::LastResortUsed
            | Self::Refilled { .. }
            | Self::Missed { .. } => false,
        }
    }
}

/// A notice for one user of this provider; its bytes are in the command that caused it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNotice {
    /// The user.
    pub user: UserUri,
    /// The clients that joined or left.
    pub clients: BVec<ClientUri, PROPOSALS_PER_BUNDLE_MAX>,
    /// Which.
    pub change: Change,
    /// The command that holds the Welcome, and its item.
    pub at: Position,
    /// Which item of that command.
    pub item: u32,
}

/// How a client's membership changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Member by creating the room.
    Created,
    /// Member by a Welcome; events after `after` are its own.
    Joined {
        /// Number of the Commit that added it.
        after: RoomSeq,
    },
    /// Member no longer.
    Left {
        /// Number of the Commit that removed it.
        upto: RoomSeq,
    },
}
