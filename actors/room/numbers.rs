//! A client's own numbers in a room: what was taken, and what became of it.
//!
//! Promises: a number is taken once; a repeat gets the first verdict as long as it is remembered.
//!
//! Source: transport requirements, section 4.

use crate::{
    limits::VERDICTS_PER_CLIENT_MAX,
    wire::event::{ClientSeq, Verdict, VerdictRun},
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The numbers that one client has used in one room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    last: ClientSeq,
    /// Final verdicts, oldest first; the oldest are forgotten first.
    verdicts: VecDeque<VerdictRun>,
}

/// How a run of numbers relates to those taken before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// All of it beyond this many leading repeats is new.
    After(u32),
    /// A number is missing before it.
    Gap {
        /// The number expected next.
        expected: ClientSeq,
    },
}

impl Numbers {
    /// The last number taken.
    #[must_use]
    pub fn last(&self) -> ClientSeq {
        self.last
    }

    /// Compares a run that begins at `first` with what was taken.
    #[must_use]
    pub fn fresh(&self, first: ClientSeq, count: u32) -> Fresh {
        let expected = self.last.next();
        if first > expected || first.0 == 0 {
            return Fresh::Gap { expected };
        }
        let repeats = (expected.0 - first.0).min(u64::from(count));
        Fresh::After(u32::try_from(repeats).unwrap_or(count))
    }

    /// Takes `count` numbers after the last.
    pub fn take(&mut self, count: u32) {
        self.last = self.last.plus(u64::from(count));
    }

    /// Remembers the verdict on a run.
    pub fn decide(&mut self, run: VerdictRun) {
        if let Some(back) = self.verdicts.back_mut()
            && continues(back, &run)
        {
            back.count += run.count;
            return;
        }
        if self.verdicts.len() == VERDICTS_PER_CLIENT_MAX {
            self.verdicts.pop_front();
        }
        self.verdicts.push_back(run);
    }

    /// What became of the numbers from `first` on; numbers without a verdict are `Queued` or forgotten.
    #[must_use]
    pub fn verdicts(&self, first: ClientSeq, count: u32) -> Vec<VerdictRun> {
        let end = first.plus(u64::from(count));
        self.verdicts
            .iter()
            .filter_map(|run| clip(run, first, end))
            .collect()
    }
}

/// Whether `next` goes on where `run` ends, with the same verdict.
fn continues(run: &VerdictRun, next: &VerdictRun) -> bool {
    let count = u64::from(run.count);
    let same = match (run.verdict, next.verdict) {
        (
            Verdict::Accepted { seq, time },
            Verdict::Accepted {
                seq: next_seq,
                time: next_time,
            },
        ) => seq.plus(count) == next_seq && time == next_time,
        (Verdict::Refused(reason), Verdict::Refused(next_reason)) => reason == next_reason,
        _ => false,
    };
    same && run.first.plus(count) == next.first && run.count.checked_add(next.count).is_some()
}

/// The part of a run that lies in `first..end`.
fn clip(run: &VerdictRun, first: ClientSeq, end: ClientSeq) -> Option<VerdictRun> {
    let from = run.first.max(first);
    let to = run.first.plus(u64::from(run.count)).min(end);
    let count = to.0.checked_sub(from.0).filter(|count| *count > 0)?;
    let verdict = match run.verdict {
        Verdict::Accepted { seq, time } => Verdict::Accepted {
            seq: seq.plus(from.0 - run.first.0),
            time,
        },
        other @ (Verdict::Queued | Verdict::Refused(_)) => other,
    };
    Some(VerdictRun {
        first: from,
        count: u32::try_from(count).ok()?,
        verdict,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{machine::Millis, wire::event::RoomSeq};

    fn accepted(first: u64, count: u32, seq: u64) -> VerdictRun {
        let verdict = Verdict::Accepted {
            seq: RoomSeq(seq),
            time: Millis(9),
        };
        VerdictRun {
            first: ClientSeq(first),
            count,
            verdict,
        }
    }

    #[test]
    fn a_repeat_gets_the_first_verdict_and_a_hole_is_named() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.fresh(ClientSeq(1), 3), Fresh::After(0));
        numbers.take(3);
        numbers.decide(accepted(1, 3, 10));
        assert_eq!(numbers.fresh(ClientSeq(2), 3), Fresh::After(2));
        assert_eq!(
            numbers.fresh(ClientSeq(5), 1),
            Fresh::Gap {
                expected: ClientSeq(4)
            }
        );
        assert_eq!(
            numbers.fresh(ClientSeq(0), 1),
            Fresh::Gap {
                expected: ClientSeq(4)
            }
        );
        assert_eq!(numbers.verdicts(ClientSeq(2), 9), [accepted(2, 2, 11)]);
    }

    #[test]
    fn runs_that_go_on_become_one_and_the_oldest_are_forgotten() {
        let mut numbers = Numbers::default();
        numbers.decide(accepted(1, 2, 1));
        numbers.decide(accepted(3, 2, 3));
        assert_eq!(numbers.verdicts(ClientSeq(1), 4), [accepted(1, 4, 1)]);
        for i in 0..VERDICTS_PER_CLIENT_MAX as u64 {
            numbers.decide(accepted(10 + 2 * i, 1, 100 + 2 * i));
        }
        assert!(numbers.verdicts(ClientSeq(1), 4).is_empty());
    }
}
