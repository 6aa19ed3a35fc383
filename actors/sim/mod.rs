//! The world: many providers, nodes and clients, played in one thread under a seed.
//!
//! Owns: virtual time, the network, the disks, the replicated logs (a model), the second interpreter of every effect,
//! and the checkers. Promises: a seed plays the same on every machine; no fold or desk knows that it is played. Not
//! here: sockets, real disks, openraft and TLS, which real processes exercise in `tests/`.

// A panic in the world is a bug of the world, and a test's report.
#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::large_enum_variant,
    clippy::too_many_arguments,
    clippy::wildcard_enum_match_arm
)]

mod counts;
mod dice;
mod draw;
mod facts;
mod history;
mod led;
pub mod mls;
mod node;
pub mod operators;
pub mod plan;
mod post;
mod replica;
pub mod shrink;
pub mod small;
mod story;
pub mod voters;
mod world;

use crate::{machine::Millis, wire::event::Hash};
pub use counts::Counts;
pub use history::Violation;
use plan::Plan;
pub use story::Story;
use world::World;

/// When worlds of the model begin: 2026-01-01, in milliseconds since 1970.
const MODEL_EPOCH: Millis = Millis(1_767_225_600_000);

/// What a world has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every promise that was put to the test was kept.
    Valid,
    /// A promise was broken.
    Violated,
    /// Too little happened to say anything.
    Unknown,
}

/// What came of playing a plan.
#[derive(Debug)]
pub struct Report {
    /// The plan that was played.
    pub plan: Plan,
    /// The first promise that was broken.
    pub violation: Option<Violation>,
    /// How often each invariant was put to the test.
    pub occasions: Counts,
    /// What happened how often.
    pub counts: Counts,
    /// How many events there were.
    pub events: u64,
    /// How long it took in the world's time, in milliseconds.
    pub simulated_ms: u64,
    /// Hash over everything that happened, in order: equal for equal plans.
    pub trace: Hash,
    /// What happened, for people.
    pub story: Vec<String>,
}

impl Report {
    /// What the world has shown.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.violation.is_some() {
            Verdict::Violated
        } else if self.counts.of("commits accepted") == 0
            || self.counts.of("events delivered to clients") == 0
        {
            Verdict::Unknown
        } else {
            Verdict::Valid
        }
    }
}

/// Plays a plan. `present` is the true time: real MLS members, in the plans that have them, live in it.
#[must_use]
pub fn play(plan: Plan, present: Millis, story: Story) -> Report {
    let (kind, epoch) = if plan.real_mls {
        (mls::Kind::Real, present)
    } else {
        (mls::Kind::Model, MODEL_EPOCH)
    };
    let mut world = World::new(plan.clone(), epoch, kind, story);
    world.play();
    let mut counts = std::mem::take(&mut world.counts);
    counts.add(&world.history.counts);
    Report {
        plan,
        violation: world.history.violation.take(),
        occasions: std::mem::take(&mut world.history.occasions),
        counts,
        events: world.events,
        simulated_ms: world.now_ms,
        trace: world.trace,
        story: world.story.lines().to_vec(),
    }
}

/// Plays a seed; see [`play`].
#[must_use]
pub fn play_seed(seed: u64, present: Millis) -> Report {
    play(Plan::of(seed), present, Story::default())
}
