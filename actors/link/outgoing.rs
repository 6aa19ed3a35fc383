//! One link's cursor and window: what is owed, as runs that point into rooms.
//!
//! A room whose items the peer refuses waits beside the link (parked), and so does a room that would make the list of
//! runs too long: the link goes on without it, and nothing of it is forgotten.

use super::{
    AckRefused,
    parked::{Parked, Why},
};
use crate::{
    ids::RoomUri,
    wire::{
        consent::ConsentEntry,
        event::{Copy, LinkSeq, RoomSeq, SubmitRefused, SubmitSeq},
        link::RoomRefused,
        post::{Departed, Refilled, UserNotice},
    },
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

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
    /// The verdict on consecutive submissions.
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
    /// A client can be added now for which an add was pending.
    Refilled(Refilled),
    /// A client of this provider is none any more; for the room's hub.
    Departed(Departed),
    /// What a user says to another about consent. Version 1 of folds has no word for it.
    Consent(ConsentOwed),
}

/// What a user says to another about consent, on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentOwed {
    /// Where it stands on the link.
    pub place: RoomUri,
    /// What is said.
    pub entry: ConsentEntry,
}

/// The outgoing side of one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    last: LinkSeq,
    acked: LinkSeq,
    runs: VecDeque<Run>,
    /// Runs on the link, at most, besides notices and what was redriven.
    runs_max: u32,
    /// Rooms whose items have no number yet.
    parked: BTreeMap<RoomUri, Parked>,
}

impl Outgoing {
    /// A link on which nothing is owed.
    #[must_use]
    pub fn new(runs_max: u32) -> Self {
        Self {
            last: LinkSeq(0),
            acked: LinkSeq(0),
            runs: VecDeque::new(),
            runs_max,
            parked: BTreeMap::new(),
        }
    }

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

    /// Whether there is anything in it that version 1 of folds has no word for.
    #[must_use]
    pub fn is_of_2(&self) -> bool {
        let on_link = self.runs.iter().map(|run| &run.owed);
        let beside = self.parked.values().flat_map(Parked::owed);
        on_link
            .chain(beside)
            .any(|owed| matches!(owed, Owed::Consent(_)))
    }

    /// How many items are owed, on the link and beside it.
    #[must_use]
    pub fn items(&self) -> u64 {
        let beside: u64 = self.parked.values().map(Parked::items).sum();
        self.last.0.saturating_sub(self.acked.0) + beside
    }

    /// The rooms that wait beside the link.
    pub fn parked(&self) -> impl Iterator<Item = (&RoomUri, &Parked)> {
        self.parked.iter()
    }

    /// Rooms and the first event of each run that is owed, beside the link too.
    pub fn owed_events(&self) -> impl Iterator<Item = (&RoomUri, RoomSeq)> {
        let beside = self.parked.values().flat_map(Parked::owed);
        let unacked = self.runs.iter().map(|run| {
            let acked = self.acked.next().0.saturating_sub(run.first.0);
            (&run.owed, acked)
        });
        let all = unacked.chain(beside.map(|owed| (owed, 0)));
        all.filter_map(|(owed, acked)| match owed {
            Owed::Events { room, first, .. } => Some((room, first.plus(acked))),
            Owed::Refused { .. }
            | Owed::Notice { .. }
            | Owed::Refilled(_)
            | Owed::Departed(_)
            | Owed::Consent(_) => None,
        })
    }

    /// Owes `count` more items.
    pub fn push(&mut self, owed: Owed, count: u32) {
        let room = owed.room();
        let notice = matches!(owed, Owed::Notice { .. });
        let long = self.runs.len() >= self.runs_max as usize && !self.continues(&owed, count);
        if notice {
            // From one shard to another: always taken, whatever of the room waits beside the link.
            self.give(owed, count);
        } else if let Some(parked) = self.parked.get_mut(room) {
            parked.add(owed, count);
        } else if long {
            let mut parked = Parked::new(Why::Behind);
            let room = room.clone();
            parked.add(owed, count);
            self.parked.insert(room, parked);
        } else {
            self.give(owed, count);
        }
    }

    /// Whether the last run can take these items in.
    fn continues(&self, owed: &Owed, count: u32) -> bool {
        let back = self.runs.back();
        back.is_some_and(|back| {
            goes_on(&back.owed, back.count, owed) && back.count.checked_add(count).is_some()
        })
    }

    /// Gives the next numbers to `count` items.
    fn give(&mut self, owed: Owed, count: u32) {
        let first = self.last.next();
        self.last = self.last.plus(u64::from(count));
        if self.continues(&owed, count)
            && let Some(back) = self.runs.back_mut()
        {
            back.count += count;
            return;
        }
        self.runs.push_back(Run { first, count, owed });
    }

    /// Everything up to `upto` is durable at the peer, except for what it refused of some rooms: those wait beside the
    /// link from now on.
    ///
    /// # Errors
    /// [`AckRefused::Ahead`] when that was never sent.
    pub fn ack(&mut self, upto: LinkSeq, refused: &[RoomRefused]) -> Result<(), AckRefused> {
        if upto > self.last {
            return Err(AckRefused::Ahead {
                acked: upto,
                last: self.last,
            });
        }
        if upto > self.acked {
            self.park(upto, refused);
        }
        self.acked = self.acked.max(upto);
        while let Some(run) = self.runs.front()
            && run.end() <= self.acked.next()
        {
            self.runs.pop_front();
        }
        self.catch_up();
        Ok(())
    }

    /// Keeps what the peer refused of runs that begin at `upto` or before. What of it stays on the link is refused too,
    /// and what of it the peer has already it takes no harm from.
    fn park(&mut self, upto: LinkSeq, refused: &[RoomRefused]) {
        // Who is frozen misses what is said to it of consent: a request that it may never answer anyway.
        let may_wait = |run: &&Run| !matches!(run.owed, Owed::Consent(_));
        let said = self.runs.iter().take_while(|run| run.first <= upto);
        for run in said.filter(may_wait) {
            let room = run.owed.room();
            let Some(refused) = refused.iter().find(|refused| refused.room == *room) else {
                continue;
            };
            if matches!(run.owed, Owed::Notice { .. }) {
                continue;
            }
            let why = Why::Refused(refused.detail.clone());
            let parked = self.parked.entry(room.clone());
            let parked = parked.or_insert_with(|| Parked::new(why.clone()));
            parked.why = why;
            parked.add(run.owed.clone(), run.count);
        }
    }

    /// Takes rooms in again that wait for nothing but room on the link.
    fn catch_up(&mut self) {
        while self.runs.len() < (self.runs_max as usize / 2).max(1) {
            let behind = |(room, parked): (&RoomUri, &Parked)| {
                (parked.why == Why::Behind).then(|| room.clone())
            };
            let Some(room) = self.parked.iter().find_map(behind) else {
                return;
            };
            self.redrive(&room);
        }
    }

    /// Puts what waits of a room back on the link, behind everything else. Says how many items that are, if it waited.
    pub fn redrive(&mut self, room: &RoomUri) -> Option<u64> {
        let parked = self.parked.remove(room)?;
        let items = parked.items();
        for (owed, count) in parked.into_runs() {
            self.give(owed, count);
        }
        Some(items)
    }

    /// Gives up everything that is owed, on the link and beside it. Says how many items that are.
    pub fn give_up(&mut self) -> u64 {
        let items = self.items();
        self.acked = self.last;
        self.runs.clear();
        self.parked.clear();
        items
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
            Owed::Notice { .. } | Owed::Refilled(_) | Owed::Departed(_) | Owed::Consent(_) => {}
        }
        rest
    }
}

impl Owed {
    /// The room it is of.
    #[must_use]
    pub fn room(&self) -> &RoomUri {
        match self {
            Self::Events { room, .. } | Self::Refused { room, .. } | Self::Notice { room, .. } => {
                room
            }
            Self::Refilled(refilled) => &refilled.room,
            Self::Departed(departed) => &departed.room,
            Self::Consent(owed) => &owed.place,
        }
    }
}

/// Whether `next` continues where `count` items of `owed` end.
pub(super) fn goes_on(owed: &Owed, count: u32, next: &Owed) -> bool {
    let count = u64::from(count);
    match (owed, next) {
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
    fn a_notice_is_taken_also_while_something_of_its_room_waits_beside_the_link() {
        let mut link = Outgoing::new(1);
        let room: RoomUri = "mimi://a.example/r/x".parse().unwrap();
        let refilled = |user: &str| {
            Owed::Refilled(Refilled {
                requester: format!("mimi://a.example/u/{user}").parse().unwrap(),
                room: room.clone(),
                client: "mimi://a.example/d/bob/phone".parse().unwrap(),
            })
        };
        link.push(refilled("alice"), 1);
        link.push(refilled("amy"), 1);
        assert_eq!(link.parked().count(), 1);
        let notice = UserNotice {
            user: "mimi://a.example/u/bob".parse().unwrap(),
            clients: crate::wire::BVec::default(),
            change: crate::wire::post::Change::Created,
            at: crate::machine::Position {
                entry: 1,
                command: 0,
            },
            item: 0,
        };
        let notice = Owed::Notice {
            room: room.clone(),
            notice,
        };
        link.push(notice.clone(), 1);
        let owed: Vec<Owed> = link.from(LinkSeq(1)).map(|run| run.owed).collect();
        assert_eq!(owed, [refilled("alice"), notice]);
    }

    #[test]
    fn runs_of_one_room_become_one_and_are_cut_where_the_reader_is() {
        let mut link = Outgoing::new(100);
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
        let mut link = Outgoing::new(100);
        link.push(events("x", 1), 5);
        assert_eq!(link.ack(LinkSeq(4), &[]), Ok(()));
        assert_eq!(link.ack(LinkSeq(2), &[]), Ok(()));
        assert_eq!(link.acked(), LinkSeq(4));
        let ahead = AckRefused::Ahead {
            acked: LinkSeq(6),
            last: LinkSeq(5),
        };
        assert_eq!(link.ack(LinkSeq(6), &[]), Err(ahead));
        assert_eq!(
            link.from(link.acked().next())
                .map(|run| run.count)
                .sum::<u32>(),
            1
        );
        assert_eq!(link.ack(LinkSeq(5), &[]), Ok(()));
        assert_eq!(link.from(LinkSeq(1)).count(), 0);
    }

    fn refused(room: &str) -> RoomRefused {
        RoomRefused {
            room: format!("mimi://a.example/r/{room}").parse().unwrap(),
            detail: crate::wire::BText::clipped("no"),
        }
    }

    fn owed(link: &Outgoing) -> Vec<(u64, u32, Owed)> {
        link.from(link.acked().next())
            .map(|run| (run.first.0, run.count, run.owed))
            .collect()
    }

    #[test]
    fn a_refused_room_waits_beside_the_link_with_what_comes_after_until_it_is_redriven() {
        let mut link = Outgoing::new(100);
        link.push(events("x", 1), 3);
        link.push(events("y", 1), 1);
        link.push(events("x", 4), 2);
        link.ack(LinkSeq(4), &[refused("x")]).unwrap();
        // What had a number already is sent, and refused, too.
        link.push(events("x", 6), 1);
        link.push(events("y", 2), 1);
        assert_eq!(
            owed(&link),
            [(5, 2, events("x", 4)), (7, 1, events("y", 2))]
        );
        link.ack(LinkSeq(7), &[refused("x")]).unwrap();
        assert_eq!(owed(&link), []);
        let (room, parked) = link.parked().next().unwrap();
        assert_eq!((room.clone(), parked.items()), (refused("x").room, 6));
        assert_eq!(parked.why, Why::Refused(refused("x").detail));

        assert_eq!(link.redrive(&refused("x").room), Some(6));
        assert_eq!(link.redrive(&refused("x").room), None);
        assert_eq!(owed(&link), [(8, 6, events("x", 1))]);
        assert_eq!(link.parked().count(), 0);
    }

    #[test]
    fn what_is_given_up_is_counted_once_and_what_comes_after_is_owed() {
        let mut link = Outgoing::new(2);
        for room in ["x", "y", "z"] {
            link.push(events(room, 1), 3);
        }
        link.ack(LinkSeq(2), &[]).unwrap();
        assert_eq!((link.items(), link.parked().count()), (7, 1));
        assert_eq!((link.give_up(), link.give_up()), (7, 0));
        assert_eq!(link.items(), 0);
        assert_eq!(link.owed_events().count(), 0);
        link.push(events("y", 4), 1);
        assert_eq!(owed(&link), [(7, 1, events("y", 4))]);
    }

    #[test]
    fn a_repeated_acknowledgement_parks_nothing_and_a_stranger_room_neither() {
        let mut link = Outgoing::new(100);
        link.push(events("x", 1), 3);
        link.ack(LinkSeq(2), &[refused("y")]).unwrap();
        link.ack(LinkSeq(2), &[refused("x")]).unwrap();
        assert_eq!(link.parked().count(), 0);
        assert_eq!(owed(&link), [(3, 1, events("x", 3))]);
    }

    #[test]
    fn a_peer_that_is_away_costs_a_run_for_each_room_and_gets_everything_in_order() {
        let mut link = Outgoing::new(4);
        let rooms = ["x", "y", "z"];
        for number in 1..=100 {
            for room in rooms {
                link.push(events(room, number), 1);
            }
        }
        assert_eq!(owed(&link).len(), 4);
        assert!(link.parked().all(|(_, parked)| parked.why == Why::Behind));
        let mut seen = BTreeMap::new();
        let mut rounds = 0;
        while link.acked() < link.last() {
            for (first, count, owed) in owed(&link) {
                let Owed::Events {
                    room, first: seq, ..
                } = owed
                else {
                    panic!("only events are owed")
                };
                let next = seen.entry(room).or_insert(1);
                assert_eq!(seq.0, *next);
                *next += u64::from(count);
                link.ack(LinkSeq(first + u64::from(count) - 1), &[])
                    .unwrap();
            }
            rounds += 1;
            assert!(rounds < 100);
        }
        assert!(seen.len() == 3 && seen.values().all(|next| *next == 101));
        assert_eq!(link.parked().count(), 0);
    }
}
