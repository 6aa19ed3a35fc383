//! The ledger of a history, under the names that stand in its lines, and what it found.

use crate::{
    facts::{At, Fact, Judge, Names},
    ledger::{Ledger, RoomFacts},
    names::{ClientUri, Digest, RoomUri},
    report::{Invariant, Tallies},
};
use std::fmt;

/// The names that stand in lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines;

impl Names for Lines {
    type Room = RoomUri;
    type Client = ClientUri;
    type Id = Digest;
    type Claim = String;
    type Package = Digest;
    type Place = Place;
}

/// A place of the log of a shard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) provider: String,
    pub(super) shard: u16,
    pub(super) index: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            provider,
            shard,
            index,
        } = self;
        write!(f, "entry {index} of shard {shard} of {provider}")
    }
}

/// What a history told, and how the invariants fare.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) ledger: Ledger<Lines>,
    pub(super) tallies: Tallies,
}

impl Book {
    pub(super) fn see(&mut self, at: At, fact: Fact<'_, Lines>) {
        self.ledger.see(at, fact, &mut self.tallies);
    }

    pub(super) fn demand(
        &mut self,
        invariant: Invariant,
        holds: bool,
        lines: impl FnOnce() -> Vec<u64>,
        why: impl FnOnce() -> String,
    ) {
        self.tallies.demand(invariant, holds, lines, why);
    }

    /// What was told of a room.
    pub(super) fn of(&mut self, room: &RoomUri) -> &RoomFacts<Lines> {
        self.ledger.rooms.entry(room.clone()).or_default()
    }
}
