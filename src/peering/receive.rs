//! The long lanes, receiving side: a peer's fan-out and submissions, into the shards and durably, then acknowledged.
//!
//! What is asked of which shard, and what goes back in which order, is [`mimi_actors::way::receive`]'s.
//!
//! Source: transport requirements, sections 4 and 5.

use super::incoming::{FRAME_DEADLINE, LaneEnd};
use crate::{
    cluster::shard::shards::Shards,
    quic::{LaneReceiver, LaneSender, Link, code},
};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use mimi_actors::{
    limits::BATCH_FRAME_BYTES_MAX,
    link::session::Broken,
    shard_request::{ShardReply, ShardRequest},
    way::{
        Slot,
        receive::{Acked, FanoutLane, SubmitLane},
    },
    wire::{
        self,
        link::{Ack, Fanout, Submit},
        refusal::TryLater,
    },
};

/// Reads the next frame of a long lane.
async fn next_frame(from: &mut LaneReceiver) -> Result<Option<Bytes>, LaneEnd> {
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

/// Puts a part of a frame on its way into its shard.
async fn ask(
    shards: &Shards,
    slot: Slot,
    request: ShardRequest,
) -> Result<impl Future<Output = (Slot, ShardReply)> + '_, Slot> {
    let pending = shards.begin(request).await.map_err(|_| slot)?;
    Ok(async move {
        let reply = shards.answer(pending).await;
        (slot, reply.unwrap_or(ShardReply::Nobody))
    })
}

/// Takes what a hub's shard fans out to this provider.
pub(super) async fn fanout(
    link: &Link,
    shards: &Shards,
    shard: u16,
    mut to: LaneSender,
    mut from: LaneReceiver,
) -> Result<(), LaneEnd> {
    let environment = shards.environment();
    let (own, hub) = (environment.provider.clone(), link.peer().clone());
    let mut lane = FanoutLane::new(own, hub, TryLater::UNANSWERED);
    let mut under_way = FuturesUnordered::new();
    let mut ended = false;
    loop {
        while let Some(acked) = lane.next_answer(environment.lane_credit_bytes) {
            tell(shard, &acked);
            to.write(&acked.ack).await.map_err(anyhow::Error::from)?;
        }
        if lane.is_over() || ended && lane.is_idle() {
            break;
        }
        tokio::select! {
            biased;
            Some((slot, reply)) = under_way.next(), if !under_way.is_empty() => {
                lane.came(slot, reply);
            }
            frame = next_frame(&mut from), if !ended && lane.may_take() => {
                let Some(frame) = frame? else {
                    ended = true;
                    continue;
                };
                let batch: Fanout = wire::decode(&frame)
                    .map_err(|error| LaneEnd::Connection(format!("fan-out: {error}")))?;
                let upto = lane.take(batch).map_err(|error| broken(&error))?;
                tracing::trace!(shard, %upto, "batch taken");
                while let Some((slot, request)) = lane.next_ask() {
                    match ask(shards, slot, request).await {
                        Ok(asked) => under_way.push(asked),
                        Err(slot) => lane.came(slot, ShardReply::Nobody),
                    }
                }
            }
        }
    }
    Ok(to.finish().map_err(anyhow::Error::from)?)
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
    mut to: LaneSender,
    mut from: LaneReceiver,
) -> Result<(), LaneEnd> {
    let environment = shards.environment();
    let mut lane = SubmitLane::new(environment.provider.clone(), link.peer().clone());
    let mut under_way = FuturesUnordered::new();
    let mut ended = false;
    loop {
        while let Some(submitted) = lane.next_answer() {
            let refused = submitted.refused.iter().map(|run| run.count).sum();
            environment.refusals.use_up(link.peer(), refused, 0);
            to.write(&submitted).await.map_err(anyhow::Error::from)?;
        }
        if ended && lane.is_idle() {
            break;
        }
        tokio::select! {
            biased;
            Some((slot, reply)) = under_way.next(), if !under_way.is_empty() => {
                lane.came(slot, reply);
            }
            frame = async {
                tokio::time::sleep(environment.refusals.wait(link.peer())).await;
                next_frame(&mut from).await
            }, if !ended && lane.may_take() => {
                let Some(frame) = frame? else {
                    ended = true;
                    continue;
                };
                let batch: Submit = wire::decode(&frame)
                    .map_err(|error| LaneEnd::Connection(format!("submissions: {error}")))?;
                lane.take(batch).map_err(|error| broken(&error))?;
                while let Some((slot, request)) = lane.next_ask() {
                    match ask(shards, slot, request).await {
                        Ok(asked) => under_way.push(asked),
                        Err(slot) => lane.came(slot, ShardReply::Nobody),
                    }
                }
            }
        }
    }
    Ok(to.finish().map_err(anyhow::Error::from)?)
}
