//! Who has a provider's shards, and how that is changed: the part that decides, without network, clock or disk.
//!
//! Owns: what an operator can wish ([`Wish`]), the next step of a wish in one shard as that shard's leader sees its
//! members ([`next`]), the order in which a wish is carried through all shards ([`change::Change`]), what an interrupted
//! change leaves ([`check::findings`]), and whether a node is the one that was known ([`chain`]).
//!
//! Promises: a step is computed from the members of the shard itself, at its leader, never from what the asked node
//! believes; a node is taken in only after it was spoken to at exactly the address given, and is who it should be; no
//! step is taken unless a majority of the voters answers before it and after it. [`next`] remembers nothing: a wish that
//! was interrupted goes on from whatever members the shard has.
//!
//! Not here: how members are changed (openraft, in `src/cluster`), and which of them should lead.

pub mod chain;
pub mod change;
pub mod check;
mod step;

pub use step::{Next, Order, Refusal, Waiting, next};

use crate::wire::BText;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Voters of a shard, at most.
pub const VOTERS_MAX: usize = 3;
/// Entries that a node may lack and still be called level, at most.
pub const LEVEL_ENTRIES_MAX: u64 = 64;
/// Longest address of a node, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 256;

/// `host:port` of a node's cluster door.
pub type Address = BText<ADDRESS_BYTES_MAX>;

/// What an operator wants of the members of every shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// A waiting node is taken in; it votes where there is room.
    Join {
        /// Its number, which was never used.
        node: u64,
        /// Where it is.
        address: Address,
    },
    /// A node is let go, for good.
    Leave {
        /// The node.
        node: u64,
    },
    /// A waiting node takes the place of one that is lost.
    Replace {
        /// The one that is lost.
        node: u64,
        /// The number of the new one, which was never used.
        with: u64,
        /// Where the new one is.
        address: Address,
        /// Also where the old one still answers.
        force: bool,
    },
    /// A node of the cluster is reached at another address.
    Move {
        /// The node.
        node: u64,
        /// Where it is now.
        address: Address,
    },
    /// Nobody comes or goes: nodes that have everything vote where there is room.
    Settle,
}

impl Wish {
    /// The node that must be spoken to at an address before anything is changed.
    #[must_use]
    pub fn newcomer(&self) -> Option<(u64, &Address)> {
        match self {
            Self::Join { node, address }
            | Self::Move { node, address }
            | Self::Replace {
                with: node,
                address,
                ..
            } => Some((*node, address)),
            Self::Leave { .. } | Self::Settle => None,
        }
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join { node, address } => write!(f, "node {node} joins at {}", &**address),
            Self::Leave { node } => write!(f, "node {node} leaves"),
            Self::Replace { node, with, .. } => write!(f, "node {with} takes the place of {node}"),
            Self::Move { node, address } => write!(f, "node {node} moves to {}", &**address),
            Self::Settle => f.write_str("nodes that have everything vote where there is room"),
        }
    }
}

/// The members of one shard, as its leader sees them at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The shard.
    pub shard: u16,
    /// The node that leads it and says so.
    pub leader: u64,
    /// Who votes.
    pub voters: BTreeSet<u64>,
    /// Who gets everything and does not vote.
    pub learners: BTreeSet<u64>,
    /// Where each member is.
    pub addresses: BTreeMap<u64, String>,
    /// A change of the members has begun and is not finished.
    pub changing: bool,
    /// How many entries each other member lacks that answers the leader; who does not answer is not in it.
    pub lag_entries: BTreeMap<u64, u64>,
    /// What became of speaking to the node that the wish names, at the address that it names.
    pub newcomer: Option<Probe>,
}

impl View {
    /// Whether a node votes or learns.
    #[must_use]
    pub fn has(&self, node: u64) -> bool {
        self.voters.contains(&node) || self.learners.contains(&node)
    }

    /// Whether the leader hears a node.
    #[must_use]
    pub fn hears(&self, node: u64) -> bool {
        node == self.leader || self.lag_entries.contains_key(&node)
    }

    /// Whether the leader hears a node that has nearly everything.
    #[must_use]
    pub fn is_level(&self, node: u64) -> bool {
        let lag = self.lag_entries.get(&node);
        node == self.leader || lag.is_some_and(|lag| *lag <= LEVEL_ENTRIES_MAX)
    }
}

/// What became of speaking to a node at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// It answers there, is who it should be, waits to be taken in, and has nothing of this shard yet.
    Waits,
    /// It answers there, is who it should be, and is a node of this cluster already.
    Belongs,
    /// It answers there, but begins a cluster of its own instead of waiting.
    DoesNotWait,
    /// It answers there, and has a log of this shard although it is no member: its number was used before.
    Used,
    /// Nobody who is that node answers there.
    Silent {
        /// Why, in words.
        why: BText<256>,
    },
    /// It answers there and must not be spoken to.
    Stranger {
        /// Why, and what to do.
        why: BText<512>,
    },
}
