//! A shard beside its actors: what follows from the outcomes of its log, and how to read what it owes.
//!
//! Owns: the event index and the links of a shard, filled in log order, and the batches that are read out of them.
//! Promises: what is recorded depends on the log alone. Not here: the log, the actors, and when anything is sent.

mod fill;
pub mod index;
mod kept;
pub mod names;
pub mod owing;
pub mod read;
mod readers;
mod record;
pub mod spending;
pub mod time;

use crate::{
    ids::ProviderId,
    link::{
        Links, Peer,
        outgoing::{Outgoing, Owed},
    },
    machine::ReviveError,
    room::hub,
    wire::{
        self,
        event::Hash,
        version::{FOLD, Format, Level, NotInVersion, Versioned},
    },
};
use index::EventIndex;
use names::Names;
pub use record::{Done, News};
use serde::{Deserialize, Serialize};
use spending::Spending;
use std::{collections::BTreeSet, sync::Arc};
use time::ShardTime;

/// The shard that a room or user belongs to, by its URI, in a provider of `shards` shards.
#[must_use]
pub fn place(uri: &str, shards: u16) -> u16 {
    let [high, low, ..] = Hash::of(uri.as_bytes()).0;
    u16::from_be_bytes([high, low])
        .checked_rem(shards)
        .unwrap_or_default()
}

/// State that follows from the log, outside any actor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derived {
    /// Where the events of rooms lie.
    pub index: EventIndex,
    /// What is owed to whom.
    pub links: Links,
    /// How often who claimed.
    pub spending: Spending,
    /// The time of the last entry, and of the next.
    pub time: ShardTime,
    /// Index of the last entry applied.
    pub applied: u64,
    /// By which formats and rules the next entry is written and applied. It is kept apart, for the first release did not
    /// know it.
    #[serde(skip)]
    pub level: Level,
    /// Which room has which group id. Kept apart for the same reason.
    #[serde(skip)]
    pub names: Names,
}

impl Derived {
    /// The whole state in few bytes; equal states give equal bytes.
    #[must_use]
    pub fn compact(&self) -> Vec<u8> {
        wire::encode_stored(self)
    }

    /// The state that [`Derived::compact`] wrote.
    ///
    /// # Errors
    /// [`ReviveError`] when the bytes are not that.
    pub fn revive(bytes: &[u8]) -> Result<Self, ReviveError> {
        wire::decode(&bytes.to_vec().into()).map_err(|error| ReviveError(error.to_string()))
    }

    /// The command as it goes into the log: of a Commit that adds clients of other providers it says for which of those more
    /// than `items_max` items wait.
    #[must_use]
    pub fn mark_lagging_providers(
        &self,
        mut command: Arc<hub::Command>,
        items_max: u64,
    ) -> Arc<hub::Command> {
        let Some(commit) = command.commit() else {
            return command;
        };
        let joined = commit.checked.joined.iter();
        let providers: BTreeSet<_> = joined.map(|joined| joined.client.provider()).collect();
        let is_behind = |provider: &&&ProviderId| {
            let peer = Peer::Provider((**provider).clone());
            let owed = self.links.outgoing(&peer).map_or(0, Outgoing::items);
            owed > items_max
        };
        let behind: Vec<ProviderId> = providers
            .iter()
            .filter(is_behind)
            .map(|provider| (*provider).clone())
            .collect();
        if !behind.is_empty()
            && let Some(commit) = Arc::make_mut(&mut command).commit_mut()
        {
            commit.behind = behind;
        }
        command
    }

    /// The log entries below `below` whose bytes may still be asked for: those of events, of notices on their way to
    /// another shard, and of submissions without a verdict.
    #[must_use]
    pub fn pointed_at(&self, below: u64) -> BTreeSet<u64> {
        let events = self.index.positions();
        let owed = self.links.peers().flat_map(|(_, owed)| {
            let notice = |owed| match owed {
                Owed::Notice { notice, .. } => Some(notice.at),
                Owed::Events { .. }
                | Owed::Refused { .. }
                | Owed::Refilled(_)
                | Owed::Departed(_)
                | Owed::Consent(_) => None,
            };
            owed.from(owed.acked().next())
                .filter_map(move |run| notice(run.owed))
        });
        let waiting = self.links.all_submissions();
        let submitted = waiting.flat_map(|waiting| waiting.from(0).map(|(_, run)| run.at));
        let all = events.chain(owed).chain(submitted);
        all.map(|at| at.entry).filter(|at| *at < below).collect()
    }
}

impl Versioned for Derived {
    const FORMAT: Format = FOLD;

    fn is_in(&self, version: u8) -> Result<(), NotInVersion> {
        self.links.is_in(version)
    }
}

#[cfg(test)]
mod order_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        limits::SHARDS_DEFAULT,
        link::{Command, Peer, submissions::SubmitRun},
        machine::{Millis, Position},
        room::outcome::{Change, Emission, UserNotice},
        wire::event::{Lane, LinkSeq, RoomSeq, SubmitSeq},
    };

    fn at(entry: u64) -> Position {
        Position { entry, command: 0 }
    }

    #[test]
    fn what_is_acknowledged_or_decided_is_not_pointed_at_any_more() {
        let room: crate::ids::RoomUri = "mimi://a.example/r/x".parse().unwrap();
        let mut derived = Derived::default();
        let emission = Emission {
            first: RoomSeq(1),
            count: 1,
            at: at(3),
            item: 0,
            time: Millis(1),
            origin: None,
            lane: Lane::Proposals,
            recipients: Vec::new(),
        };
        derived.index.push(&room, &emission);
        let peer = Peer::Shard(2);
        for entry in [4, 5] {
            let notice = UserNotice {
                user: "mimi://a.example/u/bob".parse().unwrap(),
                clients: crate::wire::BVec::default(),
                change: Change::Joined { after: RoomSeq(0) },
                at: at(entry),
                item: 0,
            };
            let room = room.clone();
            derived
                .links
                .to(&peer)
                .push(Owed::Notice { room, notice }, 1);
        }
        derived.links.submissions_to(room.hub()).push(SubmitRun {
            room: room.clone(),
            sender: "mimi://b.example/d/bob/phone".parse().unwrap(),
            first: SubmitSeq(1),
            count: 1,
            at: at(6),
            item: 0,
        });
        assert_eq!(derived.pointed_at(u64::MAX), [3, 4, 5, 6].into());
        assert_eq!(derived.pointed_at(5), [3, 4].into());
        assert_eq!(Derived::revive(&derived.compact()), Ok(derived.clone()));

        let upto = LinkSeq(1);
        derived
            .links
            .apply(&Command::Ack {
                peer,
                upto,
                refused: Vec::new(),
            })
            .unwrap();
        let hub = room.hub().clone();
        derived
            .links
            .submissions_to(&hub)
            .settle(&room, SubmitSeq(2));
        assert_eq!(derived.pointed_at(u64::MAX), [3, 5].into());
    }

    #[test]
    fn a_commit_says_which_providers_that_it_brings_in_are_too_far_behind() {
        let mut derived = Derived::default();
        let room: crate::ids::RoomUri = "mimi://a.example/r/x".parse().unwrap();
        for (provider, items) in [("b.example", 11), ("c.example", 10), ("d.example", 99)] {
            let owed = Owed::Events {
                room: room.clone(),
                first: RoomSeq(1),
                copy: crate::wire::event::Copy::Full,
            };
            let peer = Peer::Provider(provider.parse().unwrap());
            derived.links.to(&peer).push(owed, items);
        }
        let b: ProviderId = "b.example".parse().unwrap();
        assert_eq!(
            told(&derived, &["a", "b", "c", "e"]),
            ["b.example".parse().unwrap()]
        );
        assert_eq!(told(&derived, &["c"]), []);
        let (peer, upto) = (Peer::Provider(b), LinkSeq(1));
        derived.links.to(&peer).ack(upto, &[]).unwrap();
        assert_eq!(told(&derived, &["b"]), []);
    }

    /// The providers that a Commit which adds a client of each of these is told are behind.
    fn told(derived: &Derived, providers: &[&str]) -> Vec<ProviderId> {
        let joined = (1..).zip(providers).map(|(leaf, provider)| {
            let client = format!("mimi://{provider}.example/d/bob/phone");
            (leaf, client.parse().unwrap())
        });
        let adding = crate::room::testing::Hub::created().adding("many", joined.collect());
        let told = derived.mark_lagging_providers(Arc::new(adding), 10);
        let hub::Command::Commit(commit) = &*told else {
            panic!("a Commit");
        };
        commit.behind.clone()
    }

    #[test]
    fn rooms_spread_evenly_over_the_shards() {
        let mut rooms = vec![0_u32; usize::from(SHARDS_DEFAULT)];
        for number in 0..16_000 {
            let uri = format!("mimi://a.example/r/{number}");
            rooms[usize::from(place(&uri, SHARDS_DEFAULT))] += 1;
        }
        assert!(
            rooms.iter().all(|count| (800..1_200).contains(count)),
            "{rooms:?}"
        );
    }
}
