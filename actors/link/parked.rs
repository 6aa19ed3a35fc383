//! A room whose items wait beside a link: the peer refused them, or the link is too long.
//!
//! Source: transport requirements, section 5.

use super::outgoing::{Owed, goes_on};
use crate::{
    limits::{PARKED_RUNS_PER_ROOM_MAX, REFUSAL_DETAIL_BYTES_MAX},
    wire::{self, BText, event::Hash},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why a room waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// The peer refused it, and says why. It waits until an operator redrives it.
    Refused(BText<REFUSAL_DETAIL_BYTES_MAX>),
    /// The peer is so far behind that the link would grow too long. It goes on by itself.
    Behind,
}

/// What waits of one room, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Why it waits.
    pub why: Why,
    runs: BTreeMap<Place, (Owed, u32)>,
    /// Some of it was not kept: the peer's members must join anew.
    lost: bool,
}

/// Where a run belongs among those of its room: events in their order, then the verdicts, then refills
/// for users, then who is no client any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Place {
    Events(u64),
    Refused(u64),
    /// Refills for users about the room, by what they say.
    Refilled(u64),
    /// Clients of the room that are none any more, likewise.
    Departed(u64),
    /// What is said about consent for each scope, by whom it concerns.
    Consent(u64),
}

impl Parked {
    /// A room of which nothing waits yet.
    #[must_use]
    pub fn new(why: Why) -> Self {
        Self {
            why,
            runs: BTreeMap::new(),
            lost: false,
        }
    }

    /// How many items wait.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.runs.values().map(|(_, count)| u64::from(*count)).sum()
    }

    /// Whether some of it was not kept, because it was in too many pieces.
    #[must_use]
    pub fn lost(&self) -> bool {
        self.lost
    }

    /// Keeps `count` items more. The same ones again change nothing.
    pub fn add(&mut self, owed: Owed, count: u32) {
        let place = match &owed {
            Owed::Events { first, .. } => Place::Events(first.0),
            Owed::Refused { first, .. } => Place::Refused(first.0),
            // A notice is for a shard of this provider, which refuses none.
            Owed::Notice { .. } => return,
            Owed::Refilled(refilled) => Place::Refilled(name(refilled)),
            Owed::Departed(departed) => Place::Departed(name(departed)),
            Owed::Consent(said) => {
                let entry = &said.entry;
                let scope = (&entry.requester, &entry.target, &entry.room);
                let place = Place::Consent(name(&scope));
                // Only what was said last counts.
                if let Some(waits) = self.runs.get_mut(&place) {
                    *waits = (owed, count);
                    return;
                }
                place
            }
        };
        if let Some((_, kept)) = self.runs.get_mut(&place) {
            *kept = (*kept).max(count);
            return;
        }
        let before = self.runs.range_mut(..place).next_back();
        if let Some((_, (before, kept))) = before
            && goes_on(before, *kept, &owed)
            && let Some(sum) = kept.checked_add(count)
        {
            *kept = sum;
        } else if self.runs.len() < PARKED_RUNS_PER_ROOM_MAX {
            self.runs.insert(place, (owed, count));
        } else {
            self.lost = true;
        }
    }

    /// What waits, in order.
    pub(super) fn owed(&self) -> impl Iterator<Item = &Owed> {
        self.runs.values().map(|(owed, _)| owed)
    }

    /// Everything that waits, in order.
    pub(super) fn into_runs(self) -> impl Iterator<Item = (Owed, u32)> {
        self.runs.into_values()
    }
}

/// What tells something said about a room, or a scope of consent, from others at its place.
fn name(said: &impl Serialize) -> u64 {
    let Hash(hash) = Hash::of(&wire::canonical(said));
    hash.first_chunk()
        .map_or(0, |first| u64::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        link::outgoing::ConsentOwed,
        wire::{
            BVec, Payload,
            consent::{ConsentEntry, ConsentOp},
            event::{Copy, RoomSeq, SubmitRefused, SubmitSeq},
        },
    };

    fn events(first: u64) -> Owed {
        Owed::Events {
            room: "mimi://a.example/r/x".parse().unwrap(),
            first: RoomSeq(first),
            copy: Copy::Full,
        }
    }

    #[test]
    fn what_comes_late_or_twice_is_in_its_place_once() {
        let refused = Owed::Refused {
            room: "mimi://a.example/r/x".parse().unwrap(),
            first: SubmitSeq(1),
            reason: SubmitRefused::NotMember,
        };
        let mut parked = Parked::new(Why::Behind);
        parked.add(refused.clone(), 1);
        parked.add(events(5), 2);
        parked.add(events(1), 4);
        parked.add(events(5), 3);
        assert_eq!(parked.items(), 8);
        let runs: Vec<_> = parked.into_runs().collect();
        assert_eq!(runs, [(events(1), 4), (events(5), 3), (refused, 1)]);
    }

    #[test]
    fn of_what_is_said_of_consent_for_one_scope_only_the_last_waits() {
        let said = |op, room: Option<&str>| {
            Owed::Consent(ConsentOwed {
                place: "mimi://b.example/r/bob".parse().unwrap(),
                entry: ConsentEntry {
                    op,
                    requester: "mimi://a.example/u/alice".parse().unwrap(),
                    target: "mimi://b.example/u/bob".parse().unwrap(),
                    room: room.map(|room| room.parse().unwrap()),
                    key_packages: BVec::default(),
                    extensions: Payload::default(),
                },
            })
        };
        let mut parked = Parked::new(Why::Behind);
        let den = Some("mimi://a.example/r/den");
        parked.add(said(ConsentOp::Request, None), 1);
        parked.add(said(ConsentOp::Request, den), 1);
        parked.add(said(ConsentOp::Cancel, None), 1);
        assert_eq!(parked.items(), 2);
        let runs: Vec<_> = parked.into_runs().map(|(owed, _)| owed).collect();
        assert!(runs.contains(&said(ConsentOp::Cancel, None)));
        assert!(runs.contains(&said(ConsentOp::Request, den)));
    }

    #[test]
    fn what_is_in_too_many_pieces_is_not_kept_and_that_is_told() {
        let mut parked = Parked::new(Why::Behind);
        for number in 0..PARKED_RUNS_PER_ROOM_MAX as u64 {
            parked.add(events(1 + 2 * number), 1);
        }
        assert!(!parked.lost());
        parked.add(events(1_000_000), 1);
        assert!(parked.lost());
        assert_eq!(parked.items(), PARKED_RUNS_PER_ROOM_MAX as u64);
    }
}
