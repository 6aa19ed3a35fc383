//! The MLS members of the world: a cheap model for most seeds, real OpenMLS for some.
//!
//! Both speak bytes that the folds and desks read like any others: headers of Commits, Proposals and messages, and
//! the GroupContext, are RFC 9420's in the model too; only what no fold reads is the model's own.

mod model;
mod real;
#[cfg(test)]
mod tests;

use crate::{
    doors,
    ids::{ClientUri, ProviderId, RoomUri},
    machine::Millis,
    mls::{
        check::bundle::{Bundle, Terms},
        tree::container::pack,
    },
    room::{
        checks,
        desk::{Check, Checked},
    },
    shard::names::GroupName,
    user::command::StoredPackage,
    wire::{
        Payload,
        door::{PackageRefused, RoomBody},
        event::{Epoch, Hash},
        tree::{TreeContainer, TreeKind},
    },
};
use bytes::Bytes;

/// Which MLS a world plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Epochs, a chain of hashes, KeyPackage references; no cryptography.
    Model,
    /// OpenMLS, and the checks of the node itself. Its world begins at the real present and no two runs are the same.
    Real,
}

/// What a committer wants; Proposals that wait are covered, all that can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// KeyPackages of whom to add, one a client.
    pub add: Vec<Payload>,
    /// Whom to remove.
    pub remove: Vec<ClientUri>,
    /// Whether to take in members that remove one another, which no hub may accept; only the model's members do.
    pub contradict: bool,
    /// Whether to end the group by a ReInit, and nothing else; only the model's members do.
    pub reinit: bool,
}

/// What a proposer wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A new leaf for itself.
    Update,
    /// That a member is removed.
    Remove(ClientUri),
    /// To leave; only the model's members do.
    Leave,
}

/// What a member made of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Took {
    /// A message of an epoch before it joined: not for it.
    BeforeJoining,
    /// A message; what its sender put into it.
    Message(u64),
    /// Proposals.
    Proposals,
    /// A Commit, which opened this epoch.
    Commit(Epoch),
    /// A Commit that removed this member.
    Removed,
}

/// One client's groups.
#[derive(Debug)]
pub enum Member {
    /// Of the model.
    Model(model::Member),
    /// Of OpenMLS.
    Real(Box<real::Member>),
}

macro_rules! each {
    ($self:ident, $member:ident => $act:expr) => {
        match $self {
            Self::Model($member) => $act,
            Self::Real($member) => $act,
        }
    };
}

impl Member {
    /// A client without any group. Equal seeds give equal bytes (in the model).
    #[must_use]
    pub fn new(kind: Kind, client: &ClientUri, seed: u64) -> Self {
        match kind {
            Kind::Model => Self::Model(model::Member::new(client, seed)),
            Kind::Real => Self::Real(Box::new(real::Member::new(client, seed))),
        }
    }

    /// A new KeyPackage, good from `now` on; a real one goes by the machine's clock.
    pub fn key_package(&mut self, now: Millis) -> Payload {
        match self {
            Self::Model(member) => member.key_package(now),
            Self::Real(member) => member.key_package(),
        }
    }

    /// A last-resort KeyPackage. Real members make none.
    pub fn last_resort(&mut self, now: Millis) -> Payload {
        match self {
            Self::Model(member) => member.last_resort(now),
            Self::Real(member) => member.key_package(),
        }
    }

    /// Begins a group of one: GroupInfo and ratchet tree of epoch 0.
    pub fn found(&mut self, room: &RoomUri) -> (Bytes, Bytes) {
        each!(self, member => member.found(room))
    }

    /// Gives a group up.
    pub fn forget(&mut self, room: &RoomUri) {
        each!(self, member => member.forget(room));
    }

    /// The epoch of a group; `None` outside.
    #[must_use]
    pub fn epoch(&self, room: &RoomUri) -> Option<Epoch> {
        each!(self, member => member.epoch(room))
    }

    /// What all members have in common in one epoch, and nobody else.
    #[must_use]
    pub fn authenticator(&self, room: &RoomUri) -> Option<Hash> {
        each!(self, member => member.authenticator(room))
    }

    /// The members of a group, by leaf.
    #[must_use]
    pub fn roster(&self, room: &RoomUri) -> Vec<ClientUri> {
        each!(self, member => member.roster(room))
    }

    /// A Commit bundle, kept until [`Self::confirm`] or [`Self::discard`]; `None` when it cannot be made.
    pub fn commit(&mut self, room: &RoomUri, intent: &Intent) -> Option<Bundle> {
        each!(self, member => member.commit(room, intent))
    }

    /// The same bundle with its tree, which is full, in another container. What cannot be made stays full.
    #[must_use]
    pub fn repack(&self, room: &RoomUri, bundle: Bundle, kind: TreeKind) -> Bundle {
        let before = each!(self, member => member.before(room));
        let tree = match &bundle.tree {
            TreeContainer::Full(tree) => pack(tree, kind, before.as_ref(), None),
            _ => return bundle,
        };
        match tree {
            Ok(tree) => Bundle { tree, ..bundle },
            Err(_) => bundle,
        }
    }

    /// The bundle made last is the one that opened the next epoch.
    ///
    /// # Errors
    /// Why the group cannot go there.
    pub fn confirm(&mut self, room: &RoomUri) -> Result<Epoch, String> {
        each!(self, member => member.confirm(room))
    }

    /// The bundle made last is not.
    pub fn discard(&mut self, room: &RoomUri) {
        each!(self, member => member.discard(room));
    }

    /// A Proposal; `None` when it cannot be made, as by a real member whose own Commit is undecided.
    pub fn propose(&mut self, room: &RoomUri, wish: &Wish) -> Option<Bytes> {
        each!(self, member => member.propose(room, wish))
    }

    /// A message that carries `content`; `None` when it cannot be made, as by a real member while Proposals wait.
    pub fn message(&mut self, room: &RoomUri, content: u64) -> Option<Bytes> {
        each!(self, member => member.message(room, content))
    }

    /// What a member tells of a group, so that somebody can enter it; only the model's members do.
    #[must_use]
    pub fn entrance(&self, room: &RoomUri) -> Option<model::Entrance> {
        match self {
            Self::Model(member) => member.entrance(room),
            Self::Real(_) => None,
        }
    }

    /// An external Commit, kept until [`Self::confirm`] or [`Self::discard`]; one that removes `victim` too, if there
    /// is one, which no hub may accept.
    pub fn entry(
        &mut self,
        room: &RoomUri,
        entrance: &model::Entrance,
        victim: Option<&ClientUri>,
        key: u64,
    ) -> Option<Bundle> {
        match self {
            Self::Model(member) => member.entry(room, entrance, victim, key),
            Self::Real(_) => None,
        }
    }

    /// Whether members wait to remove one another, and a Commit could take in both.
    #[must_use]
    pub fn contradicts(&self, room: &RoomUri) -> bool {
        match self {
            Self::Model(member) => member.contradicts(room),
            Self::Real(_) => false,
        }
    }

    /// Joins a group by its Welcome.
    ///
    /// # Errors
    /// Why that is not possible.
    pub fn join(&mut self, room: &RoomUri, welcome: &Bytes, tree: &Bytes) -> Result<Epoch, String> {
        each!(self, member => member.join(room, welcome, tree))
    }

    /// Takes an event that another member made.
    ///
    /// # Errors
    /// Why a member cannot take it: the hub has broken a promise.
    pub fn take(&mut self, room: &RoomUri, body: &RoomBody) -> Result<Took, String> {
        each!(self, member => member.take(room, body))
    }
}

/// The signature of the model under a request for the GroupInfo.
#[must_use]
pub fn sign_request(request: &crate::wire::joining::GroupInfoRequest) -> Payload {
    model::sealing::sign_request(request)
}

/// What a worker of a hub finds.
#[must_use]
pub fn check(kind: Kind, hub: &ProviderId, check: Check) -> Checked {
    match kind {
        Kind::Model => checks::run(check, &model::Checks),
        Kind::Real => checks::run(check, &real::verifier(hub)),
    }
}

/// Reads the name of a group in its GroupInfo.
#[must_use]
pub fn group_of(kind: Kind) -> fn(&[u8]) -> Option<GroupName> {
    match kind {
        Kind::Model => model::group_of,
        Kind::Real => GroupName::in_group_info,
    }
}

/// What a worker finds of a KeyPackage.
///
/// # Errors
/// [`PackageRefused::Invalid`] when it is not the client's.
pub fn check_package(
    kind: Kind,
    package: &Payload,
    client: &ClientUri,
    now: Millis,
) -> Result<StoredPackage, PackageRefused> {
    match kind {
        Kind::Model => model::packages::check_package(package, client, now),
        Kind::Real => doors::check_package(package.clone(), client, now, &Terms::default()),
    }
}
