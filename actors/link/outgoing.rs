//! One link's cursor and window: what is owed, as runs that point into rooms.

use super::AckRefused;
use crate::{
    ids::RoomUri,
    wire::{
        event::{Copy, LinkSeq, RoomSeq, SubmitRefused, SubmitSeq},
        post::{Refilled, UserNotice},
    },
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Consecutive items of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Number of the first on the link.
    pub first: LinkSeq,
    /// How many.
    pub count: u32,
    /// What they are.
    pub owed: Owed,
}

/// What is owed to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owed {
    /// Consecutive events of a room.
    Events {
        /// The room.
        room: RoomUri,
        /// Number of the first in the room.
        first: RoomSeq,
        /// Which copy.
        copy: Copy,
    },
    /// The final word on consecutive submissions.
    Refused {
        /// The room.
        room: RoomUri,
        /// Number of the first.
        first: SubmitSeq,
        /// Why.
        reason: SubmitRefused,
    },
    /// A notice for a user of another shard.
    Notice {
        /// The room it comes from.
        room: RoomUri,
        /// The notice.
        notice: UserNotice,
    },
    /// The word that a client, wanted in vain before, can be added now.
    Refilled(Refilled),
}

/// The outgoing side of one link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    last: LinkSeq,
    acked: LinkSeq,
    runs: VecDeque<Run>,
}

impl Outgoing {
    /// The last number given.
    #[must_use]
    pub fn last(&self) -> LinkSeq {
        self.last
    }

    /// The last number acknowledged, as far as the log knows.
    #[must_use]
    pub fn acked(&self) -> LinkSeq {
        self.acked
    }

    /// Owes `count` more items.
    pub fn push(&mut self, owed: Owed, count: u32) {
        let first = self.last.next();
        self.last = self.last.plus(u64::from(count));
        if let Some(back) = self.runs.back_mut()
            && goes_on(back, &owed)
            && let Some(sum) = back.count.checked_add(count)
        {
            back.count = sum;
            return;
        }
        self.runs.push_back(Run { first, count, owed });
    }

    /// Everything up to `upto` is durable at the peer.
    ///
    /// # Errors
    /// [`AckRefused::Ahead`] when that was never sent.
    pub fn ack(&mut self, upto: LinkSeq) -> Result<(), AckRefused> {
        if upto > self.last {
            return Err(AckRefused::Ahead {
                acked: upto,
                last: self.last,
            });
        }
        self.acked = self.acked.max(upto);
        while self.runs.front().is_some_and(|run| {
            run.end()
                <= self
                    .acked
                    .next()
                    .plus(u64::from(planted!("ack_off_by_one")))
        }) {
            self.runs.pop_front();
        }
        Ok(())
    }

    /// The runs that hold items from `from` on, the first one cut to begin there.
    pub fn from(&self, from: LinkSeq) -> impl Iterator<Item = Run> + '_ {
        let skip = self.runs.partition_point(|run| run.end() <= from);
        self.runs.iter().skip(skip).map(move |run| run.cut(from))
    }
}

impl Run {
    /// The number after the last.
    fn end(&self) -> LinkSeq {
        self.first.plus(u64::from(self.count))
    }

    /// The part of the run from `from` on.
    fn cut(&self, from: LinkSeq) -> Self {
        let skip = from.0.saturating_sub(self.first.0);
        let mut rest = self.clone();
        rest.first = self.first.plus(skip);
        rest.count = self
            .count
            .saturating_sub(u32::try_from(skip).unwrap_or(u32::MAX));
        match &mut rest.owed {
            Owed::Events { first, copy, .. } => {
                *first = first.plus(skip);
                if let Copy::Own(submit) = copy {
                    *submit = submit.plus(skip);
                }
            }
            Owed::Refused { first, .. } => *first = first.plus(skip),
            Owed::Notice { .. } | Owed::Refilled(_) => {}
        }
        rest
    }
}

/// Whether `next` continues where `run` ends.
fn goes_on(run: &Run, next: &Owed) -> bool {
    let count = u64::from(run.count);
    match (&run.owed, next) {
        (
            Owed::Events { room, first, copy },
            Owed::Events {
                room: next_room,
                first: next_first,
                copy: next_copy,
            },
        ) => {
            let copies = match (copy, next_copy) {
                (Copy::Full, Copy::Full) => true,
                (Copy::Own(submit), Copy::Own(next)) => submit.plus(count) == *next,
                _ => false,
            };
            copies && room == next_room && first.plus(count) == *next_first
        }
        (
            Owed::Refused {
                room,
                first,
                reason,
            },
            Owed::Refused {
                room: next_room,
                first: next_first,
                reason: next_reason,
            },
        ) => room == next_room && reason == next_reason && first.plus(count) == *next_first,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(room: &str, first: u64) -> Owed {
        let room = format!("mimi://a.example/r/{room}").parse().unwrap();
        Owed::Events {
            room,
            first: RoomSeq(first),
            copy: Copy::Full,
        }
    }

    #[test]
    fn runs_of_one_room_become_one_and_are_cut_where_the_reader_is() {
        let mut link = Outgoing::default();
        link.push(events("x", 1), 3);
        link.push(events("x", 4), 2);
        link.push(events("y", 1), 1);
        let runs: Vec<Run> = link.from(LinkSeq(4)).collect();
        assert_eq!(runs.len(), 2);
        assert_eq!(
            (runs[0].first, runs[0].count, &runs[0].owed),
            (LinkSeq(4), 2, &events("x", 4))
        );
        assert_eq!(runs[1].first, LinkSeq(6));
    }

    #[test]
    fn an_acknowledgement_never_goes_back_and_never_past_what_was_sent() {
        let mut link = Outgoing::default();
        link.push(events("x", 1), 5);
        assert_eq!(link.ack(LinkSeq(4)), Ok(()));
        assert_eq!(link.ack(LinkSeq(2)), Ok(()));
        assert_eq!(link.acked(), LinkSeq(4));
        let ahead = AckRefused::Ahead {
            acked: LinkSeq(6),
            last: LinkSeq(5),
        };
        assert_eq!(link.ack(LinkSeq(6)), Err(ahead));
        assert_eq!(
            link.from(link.acked().next())
                .map(|run| run.count)
                .sum::<u32>(),
            1
        );
        assert_eq!(link.ack(LinkSeq(5)), Ok(()));
        assert_eq!(link.from(LinkSeq(1)).count(), 0);
    }
}
