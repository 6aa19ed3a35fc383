//! The receiver of a lane that many shards share: whose frames are handed on, and who may read on.
//!
//! Promises: each shard's frames are handed on by themselves, one frame at a time, in order, so that a shard whose frames
//! cannot be handed on holds up no other; what is answered of one session is never told to another; what the frames of
//! all shards hold is bounded.
//!
//! The bound is [`LANE_BYTES_HELD_MAX`], or less where other lanes of the same sender hold much already. Credit keeps honest
//! senders below it: a shard is let have a part of what is free ([`LANE_CREDIT_SHARE`]), so that the more is held, the less
//! each gets. Where it is reached all the same, the shard that has most waiting behind a frame that cannot be handed on loses
//! what waits and is told to come again. Where no frame waits so, all that is held is on its way into logs: nobody is read
//! until something is answered, which the deadline of requests bounds.
//!
//! Not here: what a session does with its frames ([`receive`](super::receive)), the frames on their way.
//!
//! Source: transport requirements, sections 4 and 5.

use super::{
    Slot, Slots,
    receive::{Held, Session},
};
use crate::{
    limits::{LANE_BYTES_HELD_MAX, LANE_CREDIT_SHARE, SHARDS_MAX},
    link::session::Broken,
    shard_request::{ShardReply, ShardRequest},
    wire::link::OfShard,
};
use std::collections::{BTreeMap, BTreeSet};

/// A lane, receiving side.
#[derive(Debug)]
pub struct SharedTaking<S> {
    /// A session that has not begun.
    blank: S,
    shards: BTreeMap<u16, Place<S>>,
    /// What was asked: for which shard, in which session, and its name there.
    asked: Slots<(u16, u64, Slot)>,
    /// Shards that may have an answer to give.
    answering: BTreeSet<u16>,
    /// What all shards hold, in bytes.
    held: usize,
    /// How much they may.
    held_max: usize,
}

/// A shard on the lane.
#[derive(Debug)]
struct Place<S> {
    number: u64,
    session: S,
    /// Its parts are being handed on: the next frame waits.
    handing: bool,
    /// What sessions before asked and hold: until it is answered, nothing of this one is asked.
    before: Before,
}

/// What earlier sessions left.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    under_way: usize,
    bytes: usize,
}

impl<S: Session> Place<S> {
    /// Whether the next frame has to wait.
    fn is_stuck(&self) -> bool {
        self.handing || self.before.under_way > 0
    }

    /// What it holds, in bytes.
    fn held(&self) -> usize {
        self.session.held().bytes + self.before.bytes
    }
}

impl<S: Session> SharedTaking<S> {
    /// A lane with no shard on it, whose sessions are as `blank`.
    #[must_use]
    pub fn new(blank: S) -> Self {
        Self {
            blank,
            shards: BTreeMap::new(),
            asked: Slots::default(),
            answering: BTreeSet::new(),
            held: 0,
            held_max: LANE_BYTES_HELD_MAX,
        }
    }

    /// From now on all shards may hold so many bytes, where that is less than what a lane may hold by itself.
    pub fn may_hold(&mut self, bytes: usize) {
        self.held_max = bytes.min(LANE_BYTES_HELD_MAX);
    }

    /// How many bytes all shards hold.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes a frame of `bytes`. One of a session that this side has ended is dropped.
    ///
    /// # Errors
    /// [`Broken`] when the sender does what only a broken or hostile one does.
    pub fn take(&mut self, frame: OfShard<S::Frame>, bytes: usize) -> Result<(), Broken> {
        let OfShard {
            shard,
            session,
            said,
        } = frame;
        if shard >= SHARDS_MAX {
            return Err(Broken::UnknownShard { shard });
        }
        let known = self.shards.get(&shard).map_or(0, |place| place.number);
        if session == 0 || session < known {
            return Err(Broken::UnknownSession { shard, session });
        }
        if session > known {
            self.begin(shard, session);
        }
        self.with(shard, |place| {
            if place.session.is_over() {
                return Ok(());
            }
            if !place.session.may_take() {
                return Err(Broken::TooManyFrames { shard });
            }
            place.session.take(said, bytes)
        })
        .unwrap_or(Ok(()))
    }

    /// A session begins; of the one before only what was asked is remembered.
    fn begin(&mut self, shard: u16, number: u64) {
        let session = self.blank.anew();
        let Some(place) = self.shards.get_mut(&shard) else {
            let place = Place {
                number,
                session,
                handing: false,
                before: Before::default(),
            };
            self.shards.insert(shard, place);
            return;
        };
        self.held -= place.held();
        let mut old = std::mem::replace(&mut place.session, session);
        old.give_up();
        let Held {
            bytes, under_way, ..
        } = old.held();
        place.before.under_way += under_way;
        place.before.bytes += if under_way > 0 { bytes } else { 0 };
        place.number = number;
        self.held += place.held();
    }

    /// Does something to a shard's place, and counts what it holds then.
    fn with<R>(&mut self, shard: u16, act: impl FnOnce(&mut Place<S>) -> R) -> Option<R> {
        let place = self.shards.get_mut(&shard)?;
        self.held -= place.held();
        let made = act(place);
        self.held += place.held();
        self.answering.insert(shard);
        Some(made)
    }

    /// What is to be asked now of a shard's next frame, in order. Once it is on its way, [`handed_on`](Self::handed_on).
    pub fn next_asks(&mut self, shard: u16) -> Vec<(Slot, ShardRequest)> {
        let Some(place) = self.shards.get_mut(&shard) else {
            return Vec::new();
        };
        if place.is_stuck() {
            return Vec::new();
        }
        let asks = place.session.next_asks();
        place.handing = !asks.is_empty();
        let open = |(slot, request)| (self.asked.open((shard, place.number, slot)), request);
        asks.into_iter().map(open).collect()
    }

    /// A shard's next frame may be handed on.
    pub fn handed_on(&mut self, shard: u16) {
        if let Some(place) = self.shards.get_mut(&shard) {
            place.handing = false;
        }
    }

    /// A shard of this provider has answered, [`ShardReply::Nobody`] where none did; gives the sender's shard, of which
    /// there may be more to ask now.
    pub fn came(&mut self, slot: Slot, reply: ShardReply) -> Option<u16> {
        let (shard, session, slot) = self.asked.close(slot)?;
        self.with(shard, |place| {
            if session == place.number {
                return place.session.came(slot, reply);
            }
            let before = &mut place.before;
            before.under_way = before.under_way.saturating_sub(1);
            if before.under_way == 0 {
                before.bytes = 0;
            }
        });
        Some(shard)
    }

    /// What is to be sent next, if anything is; a shard is let have at most `credit_bytes` under way.
    pub fn next_answer(&mut self, credit_bytes: u32) -> Option<OfShard<S::Answer>> {
        while let Some(shard) = self.answering.first().copied() {
            let credit_bytes = credit_bytes.min(self.share());
            let answer = self.with(shard, |place| {
                let said = place.session.next_answer(credit_bytes)?;
                Some(OfShard {
                    shard,
                    session: place.number,
                    said,
                })
            });
            if let Some(Some(answer)) = answer {
                return Some(answer);
            }
            self.answering.remove(&shard);
        }
        None
    }

    /// Whether there may be something to send.
    #[must_use]
    pub fn has_answers(&self) -> bool {
        !self.answering.is_empty()
    }

    /// What one shard is let have under way, in bytes.
    fn share(&self) -> u32 {
        let free = self.held_max.saturating_sub(self.held);
        u32::try_from(free / LANE_CREDIT_SHARE).unwrap_or(u32::MAX)
    }

    /// Whether another frame may be read now. Makes room for it where frames wait that cannot be handed on.
    pub fn may_read(&mut self) -> bool {
        while self.held >= self.held_max {
            let stuck = self.shards.iter().filter(|(_, place)| place.is_stuck());
            let waiting = stuck.map(|(shard, place)| (place.session.held().waiting, *shard));
            let Some((1.., shard)) = waiting.max() else {
                return false;
            };
            self.with(shard, |place| place.session.give_up());
        }
        true
    }

    /// Whether the shard of a lane of version 1, which has no other, takes another frame.
    #[must_use]
    pub fn may_take(&self, shard: u16) -> bool {
        let place = self.shards.get(&shard);
        place.is_none_or(|place| place.session.may_take())
    }

    /// How many shards were heard on the lane.
    #[must_use]
    pub fn heard(&self) -> usize {
        self.shards.len()
    }

    /// Whether the session of a shard is over.
    #[must_use]
    pub fn is_over(&self, shard: u16) -> bool {
        let place = self.shards.get(&shard);
        place.is_some_and(|place| place.session.is_over())
    }

    /// Whether every frame of every shard was answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let idle = |place: &Place<S>| place.session.is_over() || place.session.is_idle();
        self.shards.values().all(idle)
    }
}

#[cfg(test)]
#[path = "taking_tests.rs"]
mod tests;
