//! What a room emits, how it is numbered, and the verdict on what was submitted to it.
//!
//! Source: transport requirements, sections 4 and 5.

use super::{BVec, Payload, post::DepartedWhy};
use crate::{
    ids::{ClientUri, ProviderId, UserUri},
    limits::{ADDS_PER_COMMIT_MAX, PROPOSALS_PER_BUNDLE_MAX},
    machine::Millis,
};
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl $name {
            /// The number `count` places further on.
            #[must_use]
            pub const fn plus(self, count: u64) -> Self {
                Self(self.0.saturating_add(count))
            }
            /// The next number.
            #[must_use]
            pub const fn next(self) -> Self {
                self.plus(1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

numbers!(
    /// Number of an MLS epoch.
    Epoch,
    /// Number of an event in its room, gap-free from 1; 0 is before the first.
    RoomSeq,
    /// Number of an item on the link from one hub shard to one peer, gap-free from 1.
    LinkSeq,
    /// Number of a submission from one follower provider to one room, gap-free from 1.
    SubmitSeq,
    /// A client's own number of a message in a room, gap-free from 1.
    ClientSeq,
    /// Number of an item in a client's inbox, gap-free from 1.
    InboxSeq,
);

/// BLAKE3 hash of some bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The hash of several byte strings; where one ends matters.
    #[must_use]
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The kinds of events that a client may be given apart from each other; an emission is of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lane {
    /// A Commit, with the epoch it opens.
    Commit(Epoch),
    /// Proposals.
    Proposals,
    /// Application messages, with the oldest epoch that one of them is of.
    Application(Epoch),
}

/// How far a client is with a room: it was given, or has, everything of a lane up to and with this number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneCursor {
    /// Of application messages.
    pub application: RoomSeq,
    /// Of control events.
    pub control: RoomSeq,
}

impl LaneCursor {
    /// Everything up to and with this number.
    #[must_use]
    pub const fn all(upto: RoomSeq) -> Self {
        Self {
            application: upto,
            control: upto,
        }
    }

    /// What one of two reaches.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            application: self.application.max(other.application),
            control: self.control.max(other.control),
        }
    }
}

/// One event of a room, as its hub sends it to one follower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number in the room.
    pub seq: RoomSeq,
    /// When the hub accepted it; never goes back within a room.
    pub time: Millis,
    /// What happened.
    pub body: Body,
}

/// What happened in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// A PrivateMessage of content type application.
    Application(Payload),
    /// Proposals that were accepted together, each an MLSMessage.
    Proposals(BVec<Payload, PROPOSALS_PER_BUNDLE_MAX>),
    /// The Commit that opens an epoch.
    Commit(CommitEvent),
    /// The room begins for this provider: its first clients were just added.
    Invited(Invitation),
    /// The room begins for this provider: a client of it joined by itself.
    Entered(Entered),
    /// The receiver's own submission of this number was accepted here; it has the bytes.
    Own(SubmitSeq),
}

/// A Commit as one provider sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitEvent {
    /// The epoch it opens.
    pub epoch: Epoch,
    /// The MLSMessage.
    pub commit: Payload,
    /// Clients of the receiving provider that leave with it.
    pub left: BVec<ClientUri, PROPOSALS_PER_BUNDLE_MAX>,
    /// The client of the receiving provider that joins with it by itself.
    pub entered: Option<ClientUri>,
    /// The Welcome, when clients of the receiving provider join with it.
    pub invitation: Option<Invitation>,
}

/// A client that joined by an external Commit, which it made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entered {
    /// The epoch it opened.
    pub epoch: Epoch,
    /// The client, of the receiving provider.
    pub client: ClientUri,
}

/// A Welcome and what its receivers need to use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The epoch the invited clients join in.
    pub epoch: Epoch,
    /// The invited clients, all of the receiving provider.
    pub clients: BVec<ClientUri, ADDS_PER_COMMIT_MAX>,
    /// The Welcome, an MLSMessage.
    pub welcome: Payload,
    /// The ratchet tree of that epoch.
    pub tree: Payload,
}

/// An item on a link from a hub to a follower.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// An accepted event.
    Event(Event),
    /// The verdict on a submission that was not accepted.
    Refused {
        /// Which submission.
        submit_seq: SubmitSeq,
        /// Why.
        reason: SubmitRefused,
    },
    /// A client of the sender can be added now that had no KeyPackage when it was claimed for the room. The room is anybody's.
    Refilled {
        /// The user of the receiver that claimed.
        requester: UserUri,
        /// The client.
        client: ClientUri,
    },
    /// A client of the sender is none any more; the room is the receiver's. Version 1 has no word for it.
    Departed {
        /// The client.
        client: ClientUri,
        /// Why.
        why: DepartedWhy,
    },
    /// What a user of the sender says about consent to one of the receiver's: a [`ConsentEntry`](super::consent::ConsentEntry)
    /// in bytes. The room is the receiving user's [`place`](super::consent::place). Version 1 has no word for it.
    Consent(Payload),
}

/// Why an application message is refused, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum SubmitRefused {
    /// The room does not exist, or its existence is not the sender's business.
    #[error("the room is not known to take messages from this sender")]
    NotAuthorized,
    /// The sender is not (or no longer) a member.
    #[error("the sender is not a member of the room")]
    NotMember,
    /// The epoch is further back than the room tolerates, or from before the sender joined.
    #[error("the epoch is too old, the room is at {current:?}")]
    EpochTooOld {
        /// The room's epoch.
        current: Epoch,
    },
    /// The epoch does not exist yet.
    #[error("the epoch is ahead of the room, which is at {current:?}")]
    EpochAhead {
        /// The room's epoch.
        current: Epoch,
    },
    /// Not an application message of this room's group, or too large.
    #[error("not an application message of the room's group")]
    Malformed,
    /// The room's group was ended by a ReInit.
    #[error("the room's group has ended; another follows it")]
    Ended,
    /// The room is frozen after a failure and waits for its operator.
    #[error("the room is frozen and waits for its operator")]
    Poisoned,
    /// The room took the same message of this sender before, under another number. Version 1 says [`Self::Malformed`] for it.
    #[error("the message was sent before, under another number")]
    Duplicate,
    /// The sender's role may not send. Version 1 says [`Self::NotAuthorized`] for it.
    #[error("the sender's role has no voice in the room")]
    NoVoice,
}

/// The verdict, or the lack of one, on a run of a client's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictRun {
    /// The client's number of the first message of the run.
    pub first: ClientSeq,
    /// How many messages.
    pub count: u32,
    /// What became of them.
    pub verdict: Verdict,
}

/// What became of a run of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Durable at the sender's provider, on the way to the hub; the verdict comes later.
    Queued,
    /// In the room, at consecutive numbers from `seq`.
    Accepted {
        /// Number of the first in the room.
        seq: RoomSeq,
        /// When the hub accepted them.
        time: Millis,
    },
    /// Not in the room, and never will be.
    Refused(SubmitRefused),
}

/// Which copy of an event a provider gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Copy {
    /// The event itself.
    Full,
    /// Only the Invitation: the provider had no member before.
    Invitation,
    /// Only that its own submissions, from this number on, were accepted.
    Own(SubmitSeq),
}

/// A provider to which a run of events goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The provider.
    pub provider: ProviderId,
    /// What it gets.
    pub copy: Copy,
}
