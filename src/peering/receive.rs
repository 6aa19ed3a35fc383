//! The long lanes, receiving side: a peer's fan-out and submissions, into the shards and durably, then acknowledged.
//!
//! What is asked of which shard, what goes back in which order, and who may read on is [`mimi_actors::way::taking`]'s.
//!
//! Source: transport requirements, sections 4 and 5.

use super::{
    exchange::of_shard,
    incoming::{FRAME_DEADLINE, LaneEnd},
    share::{OfLane, Share},
};
use crate::{
    cluster::shard::shards::{Pending, Shards},
    quic::{LaneReceiver, LaneSender, Link, code},
};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use mimi_actors::{
    ids::ProviderId,
    limits::{BATCH_FRAME_BYTES_MAX, LANE_BYTES_HELD_MAX},
    link::session::Broken,
    shard_request::{ShardReply, ShardRequest},
    way::{
        Slot,
        receive::{Acked, Brought, FanoutTaking, Session, SubmitTaking},
        taking::SharedTaking,
    },
    wire::{
        Versioned,
        link::{Ack, OfShard, Submitted},
        refusal::TryLater,
    },
};
use std::{sync::Arc, time::Duration};

/// Reads the next frame of a long lane, after a rest.
async fn next_frame(from: &mut LaneReceiver, rest: Duration) -> Result<Option<Bytes>, LaneEnd> {
    if !rest.is_zero() {
        tokio::time::sleep(rest).await;
    }
    let frame = from.next(BATCH_FRAME_BYTES_MAX, Some(FRAME_DEADLINE)).await;
    frame.map_err(|error| {
        from.stop(code::BAD_FRAME);
        anyhow::Error::from(error).into()
    })
}

/// Only a broken or hostile peer does this: its connection is over.
fn broken(broken: &Broken) -> LaneEnd {
    LaneEnd::Connection(broken.to_string())
}

/// Puts the parts of a frame on their way into their shards, in order. Behind one that finds nobody none is: the sender
/// sends again.
async fn hand_on(
    shards: &Shards,
    shard: u16,
    parts: Vec<(Slot, ShardRequest)>,
) -> (u16, Vec<(Slot, Option<Pending>)>) {
    let mut handed = Vec::with_capacity(parts.len());
    let mut finds_nobody = false;
    for (slot, request) in parts {
        let pending = if finds_nobody {
            None
        } else {
            shards.begin(request).await.ok()
        };
        finds_nobody = pending.is_none();
        handed.push((slot, pending));
    }
    (shard, handed)
}

/// A lane on which a peer sends.
struct Lane<'a, S> {
    peer: &'a ProviderId,
    shards: &'a Shards,
    taking: SharedTaking<S>,
    /// The only shard of the lane, in version 1.
    alone: Option<u16>,
    /// What of the peer's share the lane has.
    share: OfLane,
    to: LaneSender,
    from: LaneReceiver,
}

impl<S> Lane<'_, S>
where
    S: Session,
    S::Frame: Versioned,
{
    /// Takes frames until the peer ends the lane: `said` is what is written of an answer, `rest` how long to wait before
    /// the next frame is read.
    async fn serve<A: Versioned>(
        mut self,
        said: impl Fn(u16, S::Answer) -> A,
        rest: impl Fn() -> Duration,
    ) -> Result<(), LaneEnd> {
        let credit_bytes = self.shards.environment().lane_credit_bytes;
        let mut handing = FuturesUnordered::new();
        let mut under_way = FuturesUnordered::new();
        let mut ended = false;
        loop {
            while let Some(answer) = self.taking.next_answer(credit_bytes) {
                let said = said(answer.shard, answer.said);
                let written = if self.alone.is_some() {
                    self.to.write(&said).await
                } else {
                    let (shard, session) = (answer.shard, answer.session);
                    let answer = OfShard {
                        shard,
                        session,
                        said,
                    };
                    self.to.write(&answer).await
                };
                written.map_err(anyhow::Error::from)?;
            }
            let is_over = self.alone.is_some_and(|shard| self.taking.is_over(shard));
            if is_over || ended && self.taking.is_idle() {
                break;
            }
            let may_hold = self.share.holds(self.taking.held());
            self.taking.may_hold(may_hold);
            let takes = self.alone.is_none_or(|shard| self.taking.may_take(shard));
            let reads = !ended && takes && self.taking.may_read();
            let waits_for_others = !ended && takes && !reads && may_hold < LANE_BYTES_HELD_MAX;
            if self.taking.has_answers() {
                // A shard has lost what waited, to make room, and is to be told.
                continue;
            }
            let shard = tokio::select! {
                biased;
                Some((slot, reply)) = under_way.next(), if !under_way.is_empty() => {
                    self.taking.came(slot, reply)
                }
                Some((shard, handed)) = handing.next(), if !handing.is_empty() => {
                    for (slot, pending) in handed {
                        match pending {
                            Some(pending) => under_way.push(answer(self.shards, slot, pending)),
                            None => drop(self.taking.came(slot, ShardReply::Nobody)),
                        }
                    }
                    self.taking.handed_on(shard);
                    Some(shard)
                }
                frame = next_frame(&mut self.from, rest()), if reads => {
                    match frame? {
                        Some(frame) => Some(self.take(&frame)?),
                        None => {
                            ended = true;
                            None
                        }
                    }
                }
                () = self.share.freed(), if waits_for_others => None,
                else => break,
            };
            if let Some(shard) = shard {
                let parts = self.taking.next_asks(shard);
                if !parts.is_empty() {
                    handing.push(hand_on(self.shards, shard, parts));
                }
            }
        }
        Ok(self.to.finish().map_err(anyhow::Error::from)?)
    }

    /// Takes a frame; gives its shard.
    fn take(&mut self, frame: &Bytes) -> Result<u16, LaneEnd> {
        let of = of_shard::<S::Frame>(frame, self.alone)
            .map_err(|error| LaneEnd::Connection(format!("a frame of a long lane: {error}")))?;
        let shard = of.shard;
        let brought = S::brings(&of.said);
        if brought != Brought::default() {
            let throttles = &self.shards.environment().throttles;
            throttles.rooms_begun.use_up(self.peer, brought.rooms, 0);
            throttles.invited.use_up(self.peer, brought.invited, 0);
        }
        self.taking
            .take(of, frame.len())
            .map_err(|error| broken(&error))?;
        Ok(shard)
    }
}

/// Waits for the answer to a part that is on its way.
async fn answer(shards: &Shards, slot: Slot, pending: Pending) -> (Slot, ShardReply) {
    let reply = shards.answer(pending).await;
    (slot, reply.unwrap_or(ShardReply::Nobody))
}

/// Takes what a hub fans out to this provider: all shards of the sender, or, in version 1, one alone.
pub(super) async fn fanout(
    link: &Link,
    shards: &Shards,
    share: &Arc<Share>,
    alone: Option<u16>,
    (to, from): (LaneSender, LaneReceiver),
) -> Result<(), LaneEnd> {
    let own = shards.environment().provider.clone();
    let blank = FanoutTaking::new(own, link.peer().clone(), TryLater::UNANSWERED);
    let lane = Lane {
        peer: link.peer(),
        shards,
        taking: SharedTaking::new(blank),
        alone,
        share: share.lane(),
        to,
        from,
    };
    let said = |shard, acked| {
        tell(shard, &acked);
        acked.ack
    };
    let throttles = &shards.environment().throttles;
    let rest = || {
        let rooms_begun = throttles.rooms_begun.wait(link.peer());
        rooms_begun.max(throttles.invited.wait(link.peer()))
    };
    lane.serve(said, rest).await
}

/// Tells the operator what was not taken.
fn tell(shard: u16, acked: &Acked) {
    let Acked {
        ack: Ack { refused, .. },
        over,
    } = acked;
    if let Some(why) = over {
        tracing::warn!(shard, ?why, "fan-out is not taken now");
    }
    for refused in refused {
        let (room, detail) = (&refused.room, &refused.detail);
        tracing::warn!(%room, %detail, "events of a room were not taken");
    }
}

/// Takes what a follower's clients submit to rooms of this hub.
pub(super) async fn submissions(
    link: &Link,
    shards: &Shards,
    share: &Arc<Share>,
    alone: Option<u16>,
    (to, from): (LaneSender, LaneReceiver),
) -> Result<(), LaneEnd> {
    let environment = shards.environment();
    let blank = SubmitTaking::new(environment.provider.clone(), link.peer().clone());
    let lane = Lane {
        peer: link.peer(),
        shards,
        taking: SharedTaking::new(blank),
        alone,
        share: share.lane(),
        to,
        from,
    };
    let said = |_, submitted: Submitted| {
        let refused = submitted.refused.iter().map(|run| run.count).sum();
        environment
            .throttles
            .refusals
            .use_up(link.peer(), refused, 0);
        submitted
    };
    let refusals = &environment.throttles.refusals;
    lane.serve(said, || refusals.wait(link.peer())).await
}
