//! Notices from one shard to another of the same provider, for users and rooms that live there.
//!
//! Same rules as between providers: numbered, de-duplicated by the receiver, acknowledged once durable there. Promises:
//! what was not taken is carried again, with everything behind it. Not here: when a round begins.

use super::{Slot, Slots};
use crate::{
    link::{self, Links, Peer},
    room::outcome as room,
    shard::{
        owing,
        read::{ReadError, Source},
    },
    shard_request::{ShardReply, ShardRequest},
    user::outcome::{Answer, Refused},
    wire::event::LinkSeq,
};
use std::collections::VecDeque;

/// Notices to one shard on their way at a time.
const UNDER_WAY_MAX: usize = 64;

/// One round of carrying what is owed to one shard.
#[derive(Debug)]
pub struct Carrying {
    from: u16,
    to: u16,
    /// What is acknowledged as far as the log knows.
    acked: LinkSeq,
    /// What is durable there.
    upto: LinkSeq,
    next: LinkSeq,
    /// The notices without an answer, and those behind them that were taken.
    under_way: VecDeque<(LinkSeq, bool)>,
    slots: Slots<LinkSeq>,
    /// Something was not taken: the round ends.
    stopped: bool,
}

/// What a round does next.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made, and never kept"
)]
pub enum Next {
    /// It puts a notice before its user or room.
    Ask(Slot, ShardRequest),
    /// It waits for an answer.
    Wait,
    /// It is over: what goes into the log, if anything was taken.
    Over(Option<link::Command>),
}

impl Carrying {
    /// A round for each shard that something is owed to by the shard `from`.
    #[must_use]
    pub fn owed(from: u16, links: &Links) -> Vec<Self> {
        let peers = links.peers();
        let owed = peers.filter(|(_, owed)| owed.acked() < owed.last());
        owed.filter_map(|(peer, owed)| match peer {
            Peer::Shard(to) => Some(Self {
                from,
                to: *to,
                acked: owed.acked(),
                upto: owed.acked(),
                next: owed.acked().next(),
                under_way: VecDeque::new(),
                slots: Slots::default(),
                stopped: false,
            }),
            Peer::Provider(_) => None,
        })
        .collect()
    }

    /// The shard that it carries to.
    #[must_use]
    pub fn to(&self) -> u16 {
        self.to
    }

    /// What it does next, with what `source` holds.
    ///
    /// # Errors
    /// [`ReadError`] when a notice cannot be read: the round ends with those before it.
    pub fn next<S: Source>(&mut self, source: &S) -> Result<Next, ReadError> {
        while !self.stopped && self.under_way.len() < UNDER_WAY_MAX {
            let notice = owing::notice(source, self.from, self.to, self.next);
            let notice = notice.inspect_err(|_| self.stopped = true)?;
            let Some((seq, carried)) = notice else { break };
            self.next = seq.next();
            self.under_way.push_back((seq, carried.is_none()));
            if let Some(request) = carried {
                let slot = self.slots.open(seq);
                return Ok(Next::Ask(slot, request));
            }
            self.settle();
        }
        if !self.under_way.is_empty() {
            return Ok(Next::Wait);
        }
        let ack = (self.upto > self.acked).then(|| link::Command::Ack {
            peer: Peer::Shard(self.to),
            upto: self.upto,
            refused: Vec::new(),
        });
        Ok(Next::Over(ack))
    }

    /// A user or a room has answered; [`ShardReply::Nobody`] where none did. `false` when it did not take the notice.
    pub fn came(&mut self, slot: Slot, reply: &ShardReply) -> bool {
        let Some(seq) = self.slots.close(slot) else {
            return true;
        };
        // A user who is unknown or deleted has no inbox: the notice is for nobody. One that is frozen takes nothing until it
        // is replayed, and must not hold up what is for all others of its shard. So it is with rooms.
        let taken = matches!(
            reply,
            ShardReply::User(
                Answer::Done
                    | Answer::Refused(Refused::Unknown | Refused::Deleted | Refused::Poisoned)
            ) | ShardReply::Room(
                room::Answer::Received | room::Answer::Refused(room::Refused::Poisoned)
            )
        );
        if let Some(place) = self.under_way.iter().position(|(under, _)| *under == seq) {
            if taken {
                if let Some((_, is)) = self.under_way.get_mut(place) {
                    *is = true;
                }
            } else {
                // What comes behind it may have been taken, but is not acknowledged: it is carried again.
                self.under_way.truncate(place);
                self.stopped = true;
            }
        }
        self.settle();
        taken
    }

    /// What is taken with everything before it is durable there.
    fn settle(&mut self) {
        while let Some((seq, _)) = self.under_way.pop_front_if(|(_, taken)| *taken) {
            self.upto = seq;
        }
    }
}

#[cfg(test)]
#[path = "notices_tests.rs"]
mod tests;
