//! Who waits for the verdicts on messages that were sent before, where the hub is another provider and they come later.
//!
//! Volatile, and bounded by who may wait for one room; whoever waits in vain is told how far its messages are.
//!
//! Source: transport requirements, section 4.

use super::outcome::{Answer, Refused};
use crate::{
    ids::ClientUri,
    limits::{SUBMIT_ITEMS_MAX, VERDICTS_AWAITED_PER_ROOM_MAX},
    machine::{Millis, Ticket},
    wire::{
        BVec,
        event::{ClientSeq, Verdict, VerdictRun},
        refusal::TryLater,
    },
};
use serde::{Deserialize, Serialize};

/// A question what became of messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskVerdicts {
    /// Who sent them.
    pub sender: ClientUri,
    /// Its number of the first.
    pub first: ClientSeq,
    /// How many.
    pub count: u32,
    /// How long to wait for those that have no verdict yet, in milliseconds.
    pub wait_ms: u32,
}

/// What became of messages so far.
pub(super) type SoFar = BVec<VerdictRun, SUBMIT_ITEMS_MAX>;

/// Whether one of them is still on its way.
fn is_open(so_far: &SoFar) -> bool {
    so_far.iter().any(|run| run.verdict == Verdict::Queued)
}

/// Who waits.
#[derive(Debug, Default)]
pub(super) struct Awaiting(Vec<(Ticket, AskVerdicts, Millis)>);

impl Awaiting {
    /// Somebody asks, of whose messages `so_far` is known. Gives the answer, or in how many milliseconds to
    /// [look again](Self::due).
    pub(super) fn ask(
        &mut self,
        ticket: Ticket,
        asked: AskVerdicts,
        so_far: SoFar,
        now: Millis,
    ) -> Result<Answer, u32> {
        if asked.wait_ms == 0 || !is_open(&so_far) {
            return Ok(Answer::Sent(so_far));
        }
        if self.0.len() >= VERDICTS_AWAITED_PER_ROOM_MAX {
            return Ok(Answer::Refused(Refused::TryLater(TryLater::ROOM_FULL)));
        }
        let wait_ms = asked.wait_ms;
        let until = now.plus(wait_ms.into());
        self.0.push((ticket, asked, until));
        Err(wait_ms)
    }

    /// Answers those whose messages all have a verdict by now, and those who have waited long enough.
    pub(super) fn due(
        &mut self,
        now: Millis,
        so_far: impl Fn(&AskVerdicts) -> SoFar,
        mut answer: impl FnMut(Ticket, Answer),
    ) {
        self.0.retain(|(ticket, asked, until)| {
            let so_far = so_far(asked);
            let waits = is_open(&so_far) && now < *until;
            if !waits {
                answer(*ticket, Answer::Sent(so_far));
            }
            waits
        });
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
