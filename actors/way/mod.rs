//! The way of a request through a provider: what is asked of whom, and what is made of the answers.
//!
//! Owns: whom a claim goes to and how its parts become one answer (`claim`), what a request of a client (`client`) and of
//! a peer (`peer`) ends with, where a request to a shard goes (`route`) and what the shard's leader does with it
//! (`leader`), which of the shards that share a lane sends next (`lane`), what the receiver does with each shard's frames
//! (`receive`) and with those of all (`taking`), and the sender of submissions with refusals (`submit`), how notices get from shard to shard (`notices`). Promises: pure, as folds are; each question is
//! answered at most once, and whoever does not answer is told apart from whoever refuses. Not here: how a question gets
//! to where it is answered, and for how long one waits for that. A node does it over QUIC (`src/peering/walk.rs`), the
//! simulated world over its virtual network (`actors/sim/walk.rs`).

pub mod claim;
pub mod client;
pub mod lane;
pub mod leader;
pub mod notices;
pub mod peer;
pub mod receive;
pub mod route;
pub mod submit;
pub mod taking;

use crate::{
    ids::{ClientUri, ProviderId},
    shard::names::GroupName,
    shard_request::{ShardReply, ShardRequest},
    user::command::{Rules, StoredPackage},
    wire::{Payload, claim::ClaimRequest, door::PackageRefused, link, refusal::TryLater},
};
use std::collections::BTreeMap;

/// What a way knows of the provider that it leads through.
#[derive(Clone, Debug)]
pub struct House {
    /// The provider.
    pub own: ProviderId,
    /// By which rules its KeyPackages are given.
    pub rules: Rules,
    /// When whoever got no answer may ask again.
    pub later: TryLater,
    /// Reads the name of a group in its GroupInfo, as [`GroupName::in_group_info`] does; that of a world in which nothing is
    /// signed is another.
    pub group_of: fn(&[u8]) -> Option<GroupName>,
}

/// Names one of the questions of a way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// A question on a way.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// To a shard of this provider, wherever it is led.
    Shard(ShardRequest),
    /// To another provider.
    Peer(ProviderId, link::Request),
    /// For which of its users a claim is signed, as [`crate::mls::check::claim::signed`] finds out: cryptography, for a worker.
    Signatures(ClaimRequest),
    /// What is to be known of KeyPackages that a client uploads, each as [`crate::doors::check_package`] finds out:
    /// cryptography, for workers.
    Packages(ClientUri, Vec<Payload>),
    /// Nothing: [`Came::Nothing`] comes when this time is over.
    Pause {
        /// In milliseconds.
        ms: u32,
    },
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq)]
pub enum Came {
    /// A shard's reply.
    Shard(ShardReply),
    /// Another provider's reply.
    Peer(link::Reply),
    /// Which users were signed for.
    Signatures(Vec<bool>),
    /// What was found of each KeyPackage, in order.
    Packages(Vec<Result<StoredPackage, PackageRefused>>),
    /// Nobody could be asked, or no answer came in time. Whether it was done is not known.
    Nothing,
    /// There is no link to that provider: nobody can ever be asked, until the operator lists it.
    NoLink,
}

/// What a way does next.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made, and never kept"
)]
pub enum Next<E> {
    /// It asks.
    Ask(Slot, Ask),
    /// It waits for an answer to what it has asked.
    Wait,
    /// It is over.
    End(E),
}

/// A request on its way, until it is answered.
pub trait Way {
    /// What it ends with.
    type End;

    /// What it does next. It is asked again until it waits or is over, and after each answer.
    fn next(&mut self) -> Next<Self::End>;

    /// What came of a question. Who answers twice, or was not asked, is passed over.
    fn came(&mut self, slot: Slot, came: Came);
}

/// Who has been asked and has not answered.
#[derive(Debug)]
struct Slots<W> {
    last: u32,
    waiting: BTreeMap<Slot, W>,
}

impl<W> Default for Slots<W> {
    fn default() -> Self {
        Self {
            last: 0,
            waiting: BTreeMap::new(),
        }
    }
}

impl<W> Slots<W> {
    /// Waits for somebody.
    fn open(&mut self, who: W) -> Slot {
        self.last += 1;
        let slot = Slot(self.last);
        self.waiting.insert(slot, who);
        slot
    }

    /// Who answers, if it was waited for.
    fn close(&mut self, slot: Slot) -> Option<W> {
        self.waiting.remove(&slot)
    }

    /// How many are waited for.
    fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Those who are waited for.
    fn iter(&self) -> impl Iterator<Item = &W> {
        self.waiting.values()
    }
}
