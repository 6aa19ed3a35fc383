//! Operators and their mistakes: one provider's cluster whose members are changed while nodes die, are cut off, move,
//! and run on copies of disks, played under a seed.
//!
//! Owns: a model of the replicated log in which the members are entries (votes, joint changes, conflicts), disks that
//! can be copied, put back and run twice, and operators who mistype. What decides is the node's own:
//! [`crate::membership`] (the step of a wish, the way through the shards, the chain of starts). Promises: a seed plays
//! the same everywhere. Checked from the world's own knowledge, not from the machine's: no committed entry is ever
//! replaced or lost, no change takes a shard's majority away, nobody who is well is replaced without force, nobody is
//! taken in who is not there, and what is said to be done is done.
//!
//! Not here: rooms and users, which the other worlds play; openraft, which real processes exercise.

mod checks;
mod cluster;
mod disk;
mod jobs;
mod moves;

pub use cluster::World;

use super::history::Violation;
use std::collections::BTreeMap;

/// What must have happened in many seeds, so that they say something.
pub const HAPPENED: &[&str] = &[
    "changes done",
    "changes refused",
    "changes interrupted",
    "changes finished by a repair",
    "copies put back",
    "copies run beside their node",
    "nodes refused for what they are",
    "nodes moved",
    "phantoms named",
    "two operators at once",
    "entries acknowledged",
    "elections",
];

/// What came of a seed.
#[derive(Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The first promise that was broken.
    pub violation: Option<Violation>,
    /// What happened how often.
    pub counts: BTreeMap<&'static str, u64>,
    /// What happened, for people; only the end of it.
    pub story: Vec<String>,
}

/// Plays a seed.
#[must_use]
pub fn play(seed: u64) -> Report {
    let mut world = World::new(seed);
    world.play();
    world.report()
}
