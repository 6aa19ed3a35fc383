//! The two parts of every actor: the replicated [`Fold`] and the volatile [`Desk`].
//!
//! Neither sees a clock, randomness, a file or a socket. Time is an argument, orders to the world are values.

use serde::{Deserialize, Serialize};
use std::fmt;

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

    /// Applies one command. `time` never goes back.
    fn apply(&mut self, at: Position, time: Millis, command: &Self::Command) -> Self::Outcome;

    /// The whole state in few bytes. Equal states give equal bytes.
    fn compact(&self) -> Vec<u8>;

    /// The state that [`Fold::compact`] wrote.
    ///
    /// # Errors
    /// [`ReviveError`] when the bytes are not a compacted fold of this kind.
    fn revive(bytes: &[u8]) -> Result<Self, ReviveError>;
}

/// The volatile part of one actor, at work on the leader only.
///
/// Losing it loses nothing that was answered: it holds who waits, not what is true.
pub trait Desk: Default + Send + 'static {
    /// The fold it sits beside.
    type Fold: Fold;
    /// What happened or is asked.
    type Input: Send + 'static;
    /// Orders to the world.
    type Effect: Send + 'static;

    /// Takes one input; what is to be done is pushed to `out`, in order.
    fn handle(
        &mut self,
        input: Self::Input,
        now: Millis,
        fold: &Self::Fold,
        out: &mut Vec<Self::Effect>,
    );

    /// Learns what the log made of a command that this desk appended under `ticket`.
    fn applied(
        &mut self,
        ticket: Ticket,
        outcome: &<Self::Fold as Fold>::Outcome,
        now: Millis,
        fold: &Self::Fold,
        out: &mut Vec<Self::Effect>,
    );

    /// Whether nobody waits here, so that the actor may end.
    fn is_idle(&self) -> bool;

    /// Who waits for the answer to an input.
    fn ticket(input: &Self::Input) -> Ticket;

    /// The order that tells a requester that this actor is frozen after a failure.
    fn frozen(ticket: Ticket) -> Self::Effect;
}
