//! The two parts of every actor: the replicated [`Fold`] and the volatile [`Desk`].
//!
//! Neither sees a clock, randomness, a file or a socket. Time is an argument, orders to the world are values.

use crate::wire::version::Level;
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// Milliseconds since 1970 (UTC).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Millis(pub u64);

impl Millis {
    /// The same time in whole seconds, as MLS lifetimes count.
    #[must_use]
    pub const fn as_seconds(self) -> u64 {
        self.0 / 1_000
    }

    /// This time plus `ms` milliseconds.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

/// Where a command stands in its shard's log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// Index of the log entry.
    pub entry: u64,
    /// Number of the command in that entry, from zero.
    pub command: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.entry, self.command)
    }
}

/// Where and when in a shard's log a command is applied, and by which rules: the same on every replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Where.
    pub at: Position,
    /// The time of the log, which never goes back.
    pub time: Millis,
    /// The level that the shard had before the entry: a rule that a release changes is changed from its level on.
    pub level: Level,
}

/// A requester that waits for an answer on this node. Never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Stored bytes that do not read back as the fold they were made from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stored fold does not read back: {0}")]
pub struct ReviveError(pub String);

/// The replicated state of one actor: the same on every replica after the same commands.
///
/// Every check that protects an invariant is made in [`Fold::apply`], in log order.
pub trait Fold: Sized + Send + 'static {
    /// What the log can tell this fold to do.
    type Command: Send + Sync + 'static;
    /// What came of it: state has changed already, or was refused and has not.
    type Outcome: Send + 'static;

    /// Applies one command.
    fn apply(&mut self, moment: Moment, command: &Self::Command) -> Self::Outcome;

    /// The whole state in few bytes. Equal states give equal bytes.
    fn compact(&self) -> Vec<u8>;

    /// The state that [`Fold::compact`] wrote.
    ///
    /// # Errors
    /// [`ReviveError`] when the bytes are not a compacted fold of this kind.
    fn revive(bytes: &[u8]) -> Result<Self, ReviveError>;
}

/// An order of a desk to the world: what every desk orders, and what only its kind does.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<C, A, O> {
    /// Put a command into the shard's log.
    Append {
        /// Who waits.
        ticket: Ticket,
        /// The command.
        command: Arc<C>,
    },
    /// Answer whoever waits.
    Answer {
        /// Who waits.
        ticket: Ticket,
        /// The answer.
        answer: A,
    },
    /// What only desks of this kind order.
    Own(O),
}

/// The command of the fold that a desk sits beside.
pub type CommandOf<D> = <<D as Desk>::Fold as Fold>::Command;
/// The outcome of a command of the fold that a desk sits beside.
pub type OutcomeOf<D> = <<D as Desk>::Fold as Fold>::Outcome;
/// The orders of a desk.
pub type EffectOf<D> = Effect<CommandOf<D>, <D as Desk>::Answer, <D as Desk>::Own>;

/// The volatile part of one actor, at work on the leader only.
///
/// Losing it loses nothing that was answered: it holds who waits, not what is true.
pub trait Desk: Default + Send + 'static {
    /// The fold it sits beside.
    type Fold: Fold;
    /// What happened or is asked.
    type Input: Send + 'static;
    /// What it answers.
    type Answer: Send + 'static;
    /// What only desks of its kind order; see [`Effect::Own`].
    type Own: Send + 'static;

    /// Takes one input; what is to be done is pushed to `out`, in order.
    fn handle(
        &mut self,
        input: Self::Input,
        now: Millis,
        fold: &Self::Fold,
        out: &mut Vec<EffectOf<Self>>,
    );

    /// Learns what the log made of a command that this desk appended under `ticket`.
    fn applied(
        &mut self,
        ticket: Ticket,
        outcome: &<Self::Fold as Fold>::Outcome,
        now: Millis,
        fold: &Self::Fold,
        out: &mut Vec<EffectOf<Self>>,
    );

    /// Whether nobody waits here, so that the actor may end.
    fn is_idle(&self) -> bool;

    /// Who waits for the answer to an input.
    fn ticket(input: &Self::Input) -> Ticket;

    /// The answer of an actor that is frozen after a failure.
    fn frozen() -> Self::Answer;
}
