//! Links: what a shard owes to other providers and to other shards of its own, as cursors over the log.
//!
//! Owns: the numbers of outgoing items, which of them are acknowledged, and the submissions without a verdict.
//! Promises: numbers are gap-free and survive a failover, for they follow from the log; an acknowledgement never goes
//! back. Not here: the items' bytes, which stay in the log; what is sent when, which is the session's.
//!
//! Source: transport requirements, sections 4 and 5.

pub mod outgoing;
pub mod parked;
pub mod session;
pub mod submissions;

use crate::{
    ids::{ClientUri, ProviderId, RoomUri},
    limits::{LINK_RUNS_MAX, READS_TOLD_MAX},
    machine::Millis,
    wire::{
        BVec,
        event::{LaneCursor, LinkSeq, RoomSeq},
        link::RoomRefused,
        refusal::TryLater,
        version::{FOLD, Format, NotInVersion, Versioned},
    },
};
use outgoing::Outgoing;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use submissions::Submissions;

/// Who is at the other end of a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Peer {
    /// Another provider.
    Provider(ProviderId),
    /// Another shard of this provider.
    Shard(u16),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provider(provider) => provider.fmt(f),
            Self::Shard(shard) => write!(f, "shard {shard}"),
        }
    }
}

/// What the log can tell the links of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A peer has everything up to a number, durably.
    Ack {
        /// The peer.
        peer: Peer,
        /// The last item it has.
        upto: LinkSeq,
        /// The rooms of which it refused something since the last acknowledgement: they are parked.
        refused: Vec<RoomRefused>,
    },
    /// What waits of a room that a provider refused is sent again.
    Redrive {
        /// The provider.
        provider: ProviderId,
        /// The room.
        room: RoomUri,
    },
    /// Events that were accepted before a time, and that no provider is owed, are forgotten: retention is over for them.
    Forget {
        /// The time.
        before: Millis,
    },
    /// Clients of this provider have acknowledged something of rooms of the shard. What all have, and no provider is
    /// owed, is forgotten.
    Read {
        /// Who has what.
        has: BVec<ReadProgress, READS_TOLD_MAX>,
    },
    /// What a provider is owed is given up: its members must join anew. Release 0.1 has no word for it.
    GiveUp {
        /// The provider.
        provider: ProviderId,
    },
}

/// What became of a [`Command::Redrive`] or a [`Command::GiveUp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Redriven {
    /// So many items are on their way again, or given up.
    Items(u64),
    /// Nothing waited, or was owed.
    Nothing,
    /// The log is full. Nothing was done.
    StorageFull,
    /// The shard cannot write now. Nothing was done.
    TryLater(TryLater),
}

/// What a client has acknowledged of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadProgress {
    /// The room.
    pub room: RoomUri,
    /// The client.
    pub client: ClientUri,
    /// How far it has the room.
    pub given: LaneCursor,
}

impl ReadProgress {
    /// About how many bytes it takes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        const TWO_URIS: usize = 256;
        TWO_URIS
    }
}

/// Why an acknowledgement is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AckRefused {
    /// It names what was never sent.
    #[error("the peer acknowledged item {acked}, the last one is {last}")]
    Ahead {
        /// The number acknowledged.
        acked: LinkSeq,
        /// The last number given.
        last: LinkSeq,
    },
}

/// All links of one shard: replicated state, derived from the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// Runs on one link, at most: beyond that a peer that is behind costs memory for each room, not for each event.
    runs_max: u32,
    outgoing: BTreeMap<Peer, Outgoing>,
    submissions: BTreeMap<ProviderId, Submissions>,
}

impl Default for Links {
    fn default() -> Self {
        Self::with_runs_max(LINK_RUNS_MAX)
    }
}

impl Links {
    /// No links yet; each will hold so many runs.
    #[must_use]
    pub fn with_runs_max(runs_max: u32) -> Self {
        Self {
            runs_max,
            outgoing: BTreeMap::new(),
            submissions: BTreeMap::new(),
        }
    }

    /// Applies a command.
    ///
    /// # Errors
    /// [`AckRefused`] when a peer acknowledges what was never sent; nothing changes.
    pub fn apply(&mut self, command: &Command) -> Result<(), AckRefused> {
        match command {
            Command::Ack {
                peer,
                upto,
                refused,
            } => match self.outgoing.get_mut(peer) {
                Some(outgoing) => outgoing.ack(*upto, refused),
                None if *upto == LinkSeq(0) => Ok(()),
                None => Err(AckRefused::Ahead {
                    acked: *upto,
                    last: LinkSeq(0),
                }),
            },
            Command::Redrive { provider, room } => {
                self.redrive(provider, room);
                Ok(())
            }
            Command::GiveUp { provider } => {
                self.give_up(provider);
                Ok(())
            }
            // Nothing that is owed is forgotten.
            Command::Forget { .. } | Command::Read { .. } => Ok(()),
        }
    }

    /// Sends what waits of a room that a provider refused. Says how many items that are, if anything waits.
    pub fn redrive(&mut self, provider: &ProviderId, room: &RoomUri) -> Option<u64> {
        let peer = Peer::Provider(provider.clone());
        self.outgoing.get_mut(&peer)?.redrive(room)
    }

    /// Gives up what a provider is owed. Says how many items that are, if any.
    pub fn give_up(&mut self, provider: &ProviderId) -> Option<u64> {
        let peer = Peer::Provider(provider.clone());
        let items = self.outgoing.get_mut(&peer)?.give_up();
        (items > 0).then_some(items)
    }

    /// The first event of each room that some provider is still owed.
    #[must_use]
    pub fn owed_from(&self) -> BTreeMap<RoomUri, RoomSeq> {
        let mut from: BTreeMap<RoomUri, RoomSeq> = BTreeMap::new();
        let links = self.outgoing.values();
        for (room, first) in links.flat_map(Outgoing::owed_events) {
            if let Some(known) = from.get_mut(room) {
                *known = first.min(*known);
            } else {
                from.insert(room.clone(), first);
            }
        }
        from
    }

    /// The link to a peer, begun when there is none.
    pub fn to(&mut self, peer: &Peer) -> &mut Outgoing {
        let runs_max = self.runs_max;
        self.outgoing
            .entry(peer.clone())
            .or_insert_with(|| Outgoing::new(runs_max))
    }

    /// The link to a peer, if there is one.
    #[must_use]
    pub fn outgoing(&self, peer: &Peer) -> Option<&Outgoing> {
        self.outgoing.get(peer)
    }

    /// The peers that something is or was owed to.
    pub fn peers(&self) -> impl Iterator<Item = (&Peer, &Outgoing)> {
        self.outgoing.iter()
    }

    /// The submissions to the rooms of a hub, begun when there are none.
    pub fn submissions_to(&mut self, hub: &ProviderId) -> &mut Submissions {
        self.submissions.entry(hub.clone()).or_default()
    }

    /// The submissions to the rooms of a hub, if there are any.
    #[must_use]
    pub fn submissions(&self, hub: &ProviderId) -> Option<&Submissions> {
        self.submissions.get(hub)
    }

    /// The submissions of every hub.
    pub fn all_submissions(&self) -> impl Iterator<Item = &Submissions> {
        self.submissions.values()
    }

    /// The whole state in few bytes; equal states give equal bytes.
    #[must_use]
    pub fn compact(&self) -> Vec<u8> {
        crate::wire::encode_stored(self)
    }
}

/// Version 2 says what users say to each other about consent.
impl Versioned for Links {
    const FORMAT: Format = FOLD;

    fn is_in(&self, version: u8) -> Result<(), NotInVersion> {
        if version == 1 && self.outgoing.values().any(Outgoing::is_of_2) {
            let what = "consent on its way";
            return Err(NotInVersion { version, what });
        }
        Ok(())
    }
}
