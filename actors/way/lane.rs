//! The sender of a lane that many shards share: which shards are on it, and which of them sends next.
//!
//! Promises: the shards that may send take turns, a frame each; one that may not send is not looked at until something of
//! it changes, and holds up no other; a shard joins and leaves while the lane runs. What is said about an older session of
//! a shard counts for nothing. Not here: what one shard may send ([`session`](crate::link::session)), how long a shard
//! rests, frames on their way. A lane of version 1 is the same with one shard.
//!
//! Source: transport requirements, sections 4 and 5.

use crate::{
    ids::ProviderId,
    limits::SHARDS_MAX,
    link::{
        self, Links, Peer,
        session::{Broken, FanoutSender, Judged, SubmitSender, Turn},
    },
    wire::{
        event::LinkSeq,
        link::{Ack, Fanout, OfShard, RoomRefused, Submit, Submitted},
    },
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a shard has to a peer while it is on a lane.
pub trait Session: Sized {
    /// A session for what is owed to a peer, if anything is.
    fn owed(links: &Links, to: &ProviderId) -> Option<Self>;
}

impl Session for FanoutSender {
    fn owed(links: &Links, to: &ProviderId) -> Option<Self> {
        Self::owed(links, &Peer::Provider(to.clone()))
    }
}

impl Session for SubmitSender {
    fn owed(links: &Links, to: &ProviderId) -> Option<Self> {
        Self::owed(links, to)
    }
}

/// A lane to a peer, sending side.
#[derive(Debug)]
pub struct SharedSender<S> {
    to: ProviderId,
    /// Every shard that was ever on the lane.
    shards: BTreeMap<u16, Place<S>>,
    /// Shards that may have something to send, each once.
    turns: VecDeque<u16>,
    /// Shards with something for their logs, which none of them takes now.
    to_record: BTreeSet<u16>,
}

/// A shard on a lane.
#[derive(Debug)]
struct Place<S> {
    /// The session that runs, or the last one.
    number: u64,
    stands: Stands<S>,
    has_turn: bool,
}

/// How a shard stands.
#[derive(Debug)]
enum Stands<S> {
    /// It is not led here.
    Away,
    /// Its session has ended; it waits before it begins another.
    Rests,
    /// Nothing was owed when it was looked at last.
    Idle,
    /// It sends.
    Sends {
        session: S,
        /// What was said to this node's own shards about it and is not done: it sends nothing meanwhile.
        pending: usize,
    },
}

/// What an acknowledgement means for its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing: it is about a session that is over.
    Nothing,
    /// The session goes on.
    GoesOn,
    /// The session is over: [`SharedSender::again`] after this many milliseconds.
    Rests {
        /// In milliseconds.
        after_ms: u32,
    },
}

impl<S: Session> SharedSender<S> {
    /// A lane to a peer, with no shard on it.
    #[must_use]
    pub fn new(to: ProviderId) -> Self {
        Self {
            to,
            shards: BTreeMap::new(),
            turns: VecDeque::new(),
            to_record: BTreeSet::new(),
        }
    }

    /// A shard is led here from now on.
    pub fn join(&mut self, shard: u16) {
        if shard >= SHARDS_MAX {
            return;
        }
        let place = self.shards.entry(shard).or_insert(Place {
            number: 0,
            stands: Stands::Away,
            has_turn: false,
        });
        if matches!(place.stands, Stands::Away) {
            place.stands = Stands::Idle;
            self.may_have(shard);
        }
    }

    /// A shard is led here no longer. What of it is under way may still arrive; nobody here is told.
    pub fn leave(&mut self, shard: u16) {
        if let Some(place) = self.shards.get_mut(&shard) {
            place.stands = Stands::Away;
            self.to_record.remove(&shard);
        }
    }

    /// The shards that are led here.
    pub fn joined(&self) -> impl Iterator<Item = u16> + '_ {
        let led = self.shards.iter();
        led.filter(|(_, place)| !matches!(place.stands, Stands::Away))
            .map(|(shard, _)| *shard)
    }

    /// Whether a shard is led here.
    #[must_use]
    pub fn is_joined(&self, shard: u16) -> bool {
        let place = self.shards.get(&shard);
        place.is_some_and(|place| !matches!(place.stands, Stands::Away))
    }

    /// Whether it may be some shard's turn.
    #[must_use]
    pub fn has_turn(&self) -> bool {
        !self.turns.is_empty()
    }

    /// The session of a shard that runs, and its number.
    #[must_use]
    pub fn session(&self, shard: u16) -> Option<(u64, &S)> {
        let place = self.shards.get(&shard)?;
        match &place.stands {
            Stands::Sends { session, .. } => Some((place.number, session)),
            Stands::Away | Stands::Rests | Stands::Idle => None,
        }
    }

    /// Something of a shard has changed: it may have something to send.
    pub fn may_have(&mut self, shard: u16) {
        if let Some(place) = self.shards.get_mut(&shard)
            && !place.has_turn
            && place.is_free()
        {
            place.has_turn = true;
            self.turns.push_back(shard);
        }
    }

    /// The shard whose turn it is; it gets another by [`may_have`](Self::may_have), or once it has sent.
    pub fn next_turn(&mut self) -> Option<u16> {
        while let Some(shard) = self.turns.pop_front() {
            if let Some(place) = self.shards.get_mut(&shard) {
                place.has_turn = false;
                if place.is_free() {
                    return Some(shard);
                }
            }
        }
        None
    }

    /// A shard's session is over; gives its number. [`again`](Self::again) begins another.
    pub fn rest(&mut self, shard: u16) -> Option<u64> {
        let place = self.shards.get_mut(&shard)?;
        if matches!(place.stands, Stands::Away) {
            return None;
        }
        place.stands = Stands::Rests;
        self.to_record.remove(&shard);
        Some(place.number)
    }

    /// A shard has rested after the session of that number.
    pub fn again(&mut self, shard: u16, number: u64) {
        if let Some(place) = self.shards.get_mut(&shard)
            && place.number == number
            && matches!(place.stands, Stands::Rests)
        {
            place.stands = Stands::Idle;
            self.may_have(shard);
        }
    }

    /// The session of a shard, which begins if something is owed.
    fn begun(&mut self, shard: u16, links: &Links) -> Option<&mut S> {
        let place = self.shards.get_mut(&shard)?;
        if matches!(place.stands, Stands::Idle) {
            let session = S::owed(links, &self.to)?;
            place.number += 1;
            place.stands = Stands::Sends {
                session,
                pending: 0,
            };
        }
        place.sending()
    }

    /// A frame of a shard was made; it gets another turn after the others.
    fn made<T>(&mut self, shard: u16, said: T, sent: impl FnOnce(&mut S)) -> Option<OfShard<T>> {
        let place = self.shards.get_mut(&shard)?;
        sent(place.sending()?);
        let session = place.number;
        self.may_have(shard);
        Some(OfShard {
            shard,
            session,
            said,
        })
    }

    /// The session that a word of the peer is about, if it still runs.
    fn about<T>(&mut self, word: &OfShard<T>) -> Result<Option<&mut Place<S>>, Broken> {
        let (shard, session) = (word.shard, word.session);
        let place = self.shards.get_mut(&shard);
        let place = place.ok_or(Broken::UnknownShard { shard })?;
        if session == 0 || session > place.number {
            return Err(Broken::UnknownSession { shard, session });
        }
        let runs = session == place.number && matches!(place.stands, Stands::Sends { .. });
        Ok(runs.then_some(place))
    }

    /// Something that was said to this node's own shards about a session is done.
    fn done(&mut self, shard: u16, number: u64) -> Option<&mut S> {
        let place = self.shards.get_mut(&shard)?;
        let Stands::Sends { pending, session } = &mut place.stands else {
            return None;
        };
        if place.number != number {
            return None;
        }
        *pending = pending.saturating_sub(1);
        Some(session)
    }
}

impl<S> Place<S> {
    /// Whether it may be its turn.
    fn is_free(&self) -> bool {
        matches!(self.stands, Stands::Idle | Stands::Sends { pending: 0, .. })
    }

    fn sending(&mut self) -> Option<&mut S> {
        match &mut self.stands {
            Stands::Sends { session, .. } => Some(session),
            Stands::Away | Stands::Rests | Stands::Idle => None,
        }
    }

    fn wait(&mut self) {
        if let Stands::Sends { pending, .. } = &mut self.stands {
            *pending += 1;
        }
    }
}

impl SharedSender<FanoutSender> {
    /// What a shard does whose turn it is.
    pub fn turn(&mut self, shard: u16, links: &Links) -> Turn {
        let session = self.begun(shard, links);
        session.map_or(Turn::Wait, |session| session.turn())
    }

    /// The frame of a batch with everything before item `after`: `bytes` of payload.
    pub fn sent(
        &mut self,
        shard: u16,
        batch: Fanout,
        after: LinkSeq,
        bytes: usize,
    ) -> Option<OfShard<Fanout>> {
        self.made(shard, batch, |session| session.sent(after, bytes))
    }

    /// A shard's next item fits no frame: its room waits beside the link from now on, and the others go on. Says whether it
    /// does; it is asked again when what was sent before is acknowledged.
    pub fn pass_over(&mut self, shard: u16, item: LinkSeq, refused: RoomRefused) -> bool {
        let place = self.shards.get_mut(&shard);
        let session = place.and_then(Place::sending);
        let passed = session.is_some_and(|session| session.pass_over(item, refused));
        if passed {
            self.goes_on(shard);
        }
        passed
    }

    /// The peer acknowledges.
    ///
    /// # Errors
    /// [`Broken`] when it is what only a broken or hostile peer says.
    pub fn acknowledged(&mut self, ack: &OfShard<Ack>) -> Result<Told, Broken> {
        let shard = ack.shard;
        let Some(place) = self.about(ack)? else {
            return Ok(Told::Nothing);
        };
        let Some(session) = place.sending() else {
            return Ok(Told::Nothing);
        };
        if let Some(after_ms) = session.acknowledged(&ack.said)? {
            place.stands = Stands::Rests;
            self.to_record.remove(&shard);
            return Ok(Told::Rests { after_ms });
        }
        self.goes_on(shard);
        Ok(Told::GoesOn)
    }

    /// A shard may send more, and perhaps has something for its log.
    fn goes_on(&mut self, shard: u16) {
        let place = self.shards.get(&shard);
        if place.is_some_and(|place| {
            matches!(&place.stands, Stands::Sends { session, pending: 0 } if session.has_to_record())
        }) {
            self.to_record.insert(shard);
        }
        self.may_have(shard);
    }

    /// A shard with an acknowledgement that should be put into its log, when its time has come.
    #[must_use]
    pub fn to_record(&self) -> Option<u16> {
        self.to_record.first().copied()
    }

    /// What a shard puts into its log of what the peer acknowledged, and the number of its session: it sends nothing
    /// more until [`recorded`](Self::recorded).
    pub fn record(&mut self, shard: u16) -> Option<(u64, link::Command)> {
        let peer = Peer::Provider(self.to.clone());
        self.to_record.remove(&shard);
        let place = self.shards.get_mut(&shard)?;
        let ack = place.sending()?.record(peer);
        place.wait();
        Some((place.number, ack))
    }

    /// The log of a shard has taken it.
    pub fn recorded(&mut self, shard: u16, number: u64) {
        if self.done(shard, number).is_some() {
            self.goes_on(shard);
        }
    }
}

impl SharedSender<SubmitSender> {
    /// The place from which on a shard sends whose turn it is, if it may.
    pub fn from(&mut self, shard: u16, links: &Links) -> Option<u64> {
        self.begun(shard, links)?.next()
    }

    /// The frame of a batch with everything before place `after`.
    pub fn sent(&mut self, shard: u16, batch: Submit, after: u64) -> Option<OfShard<Submit>> {
        self.made(shard, batch, |session| session.sent(after))
    }

    /// The hub answered the oldest frame of a session; gives the session's number, unless it is over. The shard sends
    /// nothing more until [`settled`](Self::settled), if there is anything to do about it.
    ///
    /// # Errors
    /// [`Broken`] when it is what only a broken or hostile hub says.
    pub fn answered(
        &mut self,
        answer: OfShard<Submitted>,
    ) -> Result<Option<(u64, Judged)>, Broken> {
        let hub = self.to.clone();
        let shard = answer.shard;
        let Some(place) = self.about(&answer)? else {
            return Ok(None);
        };
        let Some(session) = place.sending() else {
            return Ok(None);
        };
        let judged = session.answered(&hub, answer.said)?;
        if judged.refused.is_empty() && judged.again_after_ms.is_none() {
            self.may_have(shard);
            return Ok(None);
        }
        place.wait();
        Ok(Some((place.number, judged)))
    }

    /// What the hub refused was told to the rooms, and it was waited for; `again` has everything without a final word go
    /// again.
    pub fn settled(&mut self, shard: u16, number: u64, again: bool) {
        if let Some(session) = self.done(shard, number) {
            if again {
                session.again();
            }
            self.may_have(shard);
        }
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
