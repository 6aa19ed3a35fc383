//! Who waits for the verdicts on messages that were sent before, where the hub is another provider and they come later.
//!
//! Volatile, and bounded by who may wait for one room; whoever waits in vain is told how far its messages are.
//!
//! Source: transport requirements, section 4.

use super::outcome::{Answer, Decided, Refused};
use crate::{
    ids::ClientUri,
    limits::{SUBMIT_ITEMS_MAX, VERDICTS_AWAITED_PER_CLIENT_MAX, VERDICTS_AWAITED_PER_ROOM_MAX},
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
        let own = self
            .0
            .iter()
            .filter(|(_, waits, _)| waits.sender == asked.sender);
        if own.count() >= VERDICTS_AWAITED_PER_CLIENT_MAX {
            return Ok(Answer::Refused(Refused::TryLater(TryLater::BUSY)));
        }
        if self.0.len() >= VERDICTS_AWAITED_PER_ROOM_MAX {
            return Ok(Answer::Refused(Refused::TryLater(TryLater::ROOM_FULL)));
        }
        let wait_ms = asked.wait_ms;
        let until = now.plus(wait_ms.into());
        self.0.push((ticket, asked, until));
        Err(wait_ms)
    }

    /// Answers those whose messages all have a verdict by now, and those who have waited long enough. Of `decided` alone
    /// something is known that was not: nobody else is looked at before its time is over.
    pub(super) fn due(
        &mut self,
        now: Millis,
        decided: &[Decided],
        so_far: impl Fn(&AskVerdicts) -> SoFar,
        mut answer: impl FnMut(Ticket, Answer),
    ) {
        self.0.retain(|(ticket, asked, until)| {
            let is_over = now >= *until;
            if !is_over && decided.iter().all(|one| one.sender != asked.sender) {
                return true;
            }
            let so_far = so_far(asked);
            let waits = is_open(&so_far) && !is_over;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_in_which_so_many_wait_takes_no_more() {
        let mut awaiting = Awaiting::default();
        let mut ask = |number: usize| {
            let sender = format!("mimi://b.example/d/bob/{number}").parse().unwrap();
            let asked = AskVerdicts {
                sender,
                first: ClientSeq(1),
                count: 1,
                wait_ms: 500,
            };
            let queued = VerdictRun {
                first: ClientSeq(1),
                count: 1,
                verdict: Verdict::Queued,
            };
            awaiting.ask(Ticket(1), asked, BVec::from([queued]), Millis(1))
        };
        for number in 0..VERDICTS_AWAITED_PER_ROOM_MAX {
            assert_eq!(ask(number), Err(500));
        }
        let full = Answer::Refused(Refused::TryLater(TryLater::ROOM_FULL));
        assert_eq!(ask(VERDICTS_AWAITED_PER_ROOM_MAX), Ok(full));
    }
}
