//! What can be told of a run, and who listens: the one language of everybody who has invariants checked.
//!
//! The lines of a history become facts, and so does what the simulated worlds see. Each world has its own names for
//! things ([`Names`]) and does its own with what was found ([`Judge`]).

use crate::{
    names::{Epoch, RoomSeq},
    report::Invariant,
};
use std::fmt::{Debug, Display};

/// How a world names what its facts are about. Equal things have equal names; they are copied often.
pub trait Names {
    /// A room.
    type Room: Clone + Ord + Debug + Display;
    /// A client.
    type Client: Clone + Ord + Debug + Display;
    /// An event, or what may become one: a message, a Commit, Proposals that were sent together.
    type Id: Copy + Ord + Debug + Display;
    /// A claim.
    type Claim: Clone + Ord + Debug + Display;
    /// A KeyPackage, or whatever may be handed out once.
    type Package: Clone + Ord + Debug + Display;
    /// A place of a log.
    type Place: Clone + Ord + Debug + Display;

    /// How long a claim is remembered, in nanoseconds; asked again later, it may get something else.
    const CLAIM_KEPT_NS: u64 = u64::MAX;
}

/// A place in what is told: a line from 1, and its time. Where a world has neither, both are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The line.
    pub line: u64,
    /// Its time, in nanoseconds.
    pub ns: u64,
}

/// Something that somebody tells.
#[derive(Debug)]
pub enum Fact<'a, N: Names> {
    /// Somebody is about to send this to a room.
    Sent {
        /// The room.
        room: &'a N::Room,
        /// What is sent.
        id: N::Id,
    },
    /// A log, an answer or an event says which Commit opened an epoch.
    Opened {
        /// The room.
        room: &'a N::Room,
        /// The epoch.
        epoch: Epoch,
        /// The Commit.
        commit: N::Id,
    },
    /// A log, an answer or an event says which event has a number.
    Numbered {
        /// The room.
        room: &'a N::Room,
        /// The number.
        seq: RoomSeq,
        /// The event.
        event: N::Id,
    },
    /// Whoever sent a Commit was told that it opened an epoch. Only for worlds that hear of each Commit from the log before.
    Acknowledged {
        /// The room.
        room: &'a N::Room,
        /// The epoch.
        epoch: Epoch,
        /// The Commit's number.
        seq: RoomSeq,
        /// The Commit.
        commit: N::Id,
    },
    /// A member has entered an epoch.
    Entered {
        /// The room.
        room: &'a N::Room,
        /// The epoch.
        epoch: Epoch,
        /// What all who are in it share, and nobody else.
        secret: N::Id,
    },
    /// A device has taken an event that it was given.
    Took {
        /// The device.
        client: &'a N::Client,
        /// The room.
        room: &'a N::Room,
        /// Its number.
        seq: RoomSeq,
        /// The event.
        event: N::Id,
    },
    /// A sender was told the verdict on a message: its number, or that it is refused for good.
    Word {
        /// The room.
        room: &'a N::Room,
        /// The message.
        message: N::Id,
        /// Its number.
        seq: Option<RoomSeq>,
    },
    /// Whoever sent this was told that it is refused for good.
    Refused {
        /// The room.
        room: &'a N::Room,
        /// What was refused.
        id: N::Id,
    },
    /// A claim got a KeyPackage.
    Handed {
        /// The claim.
        claim: &'a N::Claim,
        /// Whose it is.
        client: &'a N::Client,
        /// The KeyPackage.
        package: &'a N::Package,
    },
    /// A replica has a state at a place of its log.
    State {
        /// The place.
        place: &'a N::Place,
        /// Hash of the state.
        state: N::Id,
    },
}

impl<N: Names> Copy for Fact<'_, N> {}

impl<N: Names> Clone for Fact<'_, N> {
    fn clone(&self) -> Self {
        *self
    }
}

/// Who hears how the invariants fare.
pub trait Judge {
    /// Notes that an invariant was compared with what happened; if it does not hold, the lines that show it, and why.
    fn demand(
        &mut self,
        invariant: Invariant,
        holds: bool,
        lines: impl FnOnce() -> Vec<u64>,
        why: impl FnOnce() -> String,
    );
}
