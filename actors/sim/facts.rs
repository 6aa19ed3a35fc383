//! What the large world calls things when it tells facts to the checkers of `mimi-history`.

use super::history::packages::Handout;
use crate::{
    ids::{ClientUri, RoomUri},
    limits::CLAIM_KEPT_MS,
    machine::Millis,
    wire::{
        claim::ClaimId,
        door::RoomBody,
        event::{Epoch, Hash, RoomSeq},
    },
};
use mimi_history::{At, Names};
use std::fmt;

/// The names of this world in facts.
#[derive(Debug)]
pub(super) struct Here;

impl Names for Here {
    type Room = RoomUri;
    type Client = ClientUri;
    type Id = Hash;
    type Claim = ClaimId;
    type Package = Handout;
    type Place = Place;

    const CLAIM_KEPT_NS: u64 = CLAIM_KEPT_MS * 1_000_000;
}

/// A place of the log of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) provider: u8,
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
        write!(f, "entry {index} of shard {shard} of provider {provider}")
    }
}

/// A fact of this world; it has no line.
pub(super) fn at(time: Millis) -> At {
    At {
        line: 0,
        ns: time.0.saturating_mul(1_000_000),
    }
}

pub(super) fn seq_of(seq: RoomSeq) -> mimi_history::RoomSeq {
    mimi_history::RoomSeq(seq.0)
}

pub(super) fn epoch_of(epoch: Epoch) -> mimi_history::Epoch {
    mimi_history::Epoch(epoch.0)
}

/// What a message is called: like nothing else, whatever its bytes.
pub(super) fn message_of(bytes: &[u8]) -> Hash {
    Hash::of_parts([&b"message"[..], bytes])
}

/// What Proposals are called that a client sends: they become one event.
pub(super) fn proposals_of<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> Hash {
    Hash::of_parts(messages)
}

/// What an event is called.
pub(super) fn event_of(body: &RoomBody) -> Hash {
    match body {
        RoomBody::Application(message) => message_of(message),
        RoomBody::Commit { commit, .. } => Hash::of(commit),
        RoomBody::Proposals(all) => proposals_of(all.iter().map(|one| &one[..])),
    }
}
