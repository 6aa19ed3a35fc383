//! The long lanes, receiving side: a peer's fan-out and submissions, into the shards and durably, then acknowledged.
//!
//! Frames are taken while earlier ones are still on their way into the log; what goes back keeps their order.
//!
//! Source: transport requirements, sections 4 and 5.

use super::{
    code,
    incoming::{FRAME_DEADLINE, LaneEnd},
};
use crate::{
    cluster::shards::{Pending, Shards, Unanswered},
    quic::{LaneReceiver, LaneSender, Link},
};
use anyhow::anyhow;
use bytes::Bytes;
use futures::stream::{FuturesOrdered, StreamExt};
use mimi_actors::{
    ids::{ProviderId, RoomUri},
    limits::{BATCH_FRAME_BYTES_MAX, LANE_FRAMES_UNACKED_MAX},
    room::{
        desk,
        follower::{self, Deliver},
        follower_desk,
        hub::{self, Via},
        outcome::{Answer, Refused},
    },
    wire::{
        self, BText, BVec,
        event::{LinkSeq, SubmitRefused, SubmitSeq},
        link::{
            Ack, Fanout, RoomRefused, Submit, SubmitGap, SubmitGroup, SubmitRejected, Submitted,
        },
    },
};

/// When submissions that could not be judged should be sent again, in milliseconds.
const RETRY_AFTER_MS: u32 = 250;

/// Reads the next frame of a long lane.
async fn next_frame(from: &mut LaneReceiver) -> Result<Option<Bytes>, LaneEnd> {
    let frame = from.next(BATCH_FRAME_BYTES_MAX, Some(FRAME_DEADLINE)).await;
    frame.map_err(|error| {
        from.stop(code::BAD_FRAME);
        anyhow::Error::from(error).into()
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
    let mut expected: Option<LinkSeq> = None;
    let mut under_way = FuturesOrdered::new();
    let mut ended = false;
    while !ended || !under_way.is_empty() {
        tokio::select! {
            biased;
            Some(ack) = under_way.next(), if !under_way.is_empty() => {
                let ack: Ack = ack?;
                to.send(wire::encode(&ack)).await.map_err(anyhow::Error::from)?;
            }
            frame = next_frame(&mut from),
                if !ended && under_way.len() < LANE_FRAMES_UNACKED_MAX =>
            {
                let Some(frame) = frame? else {
                    ended = true;
                    continue;
                };
                let batch: Fanout = wire::decode(&frame)
                    .map_err(|error| LaneEnd::Connection(format!("fan-out: {error}")))?;
                let upto = check_fanout(link.peer(), shards, &batch, expected)?;
                expected = Some(upto.next());
                let begun = begin_fanout(shards, batch).await?;
                tracing::trace!(shard, %upto, "batch taken");
                under_way.push_back(finish_fanout(shards, begun, upto));
            }
        }
    }
    Ok(to.finish().map_err(anyhow::Error::from)?)
}

/// Checks that a batch is the peer's to send; returns the number of its last item.
fn check_fanout(
    peer: &ProviderId,
    shards: &Shards,
    batch: &Fanout,
    expected: Option<LinkSeq>,
) -> Result<LinkSeq, LaneEnd> {
    let refuse = |why: &str| Err(LaneEnd::Connection(why.to_owned()));
    let items: u64 = batch
        .groups
        .iter()
        .map(|group| group.items.len() as u64)
        .sum();
    if items == 0 || batch.first.0 == 0 {
        return refuse("a fan-out batch holds nothing");
    }
    if expected.is_some_and(|expected| batch.first != expected) {
        return refuse("fan-out numbers have a gap or go back on one lane");
    }
    for group in &batch.groups {
        if group.room.hub() != peer {
            return refuse("fan-out of a room that the peer does not own");
        }
        let own = &shards.world().provider;
        if !group
            .items
            .iter()
            .all(|item| follower::names_only(item, own))
        {
            return refuse("fan-out names clients of another provider");
        }
    }
    Ok(LinkSeq(batch.first.0.saturating_add(items - 1)))
}

/// A group of a batch on its way into its room.
type Begun = Vec<(RoomUri, Pending<Answer>)>;

async fn begin_fanout(shards: &Shards, batch: Fanout) -> Result<Begun, LaneEnd> {
    let mut begun = Vec::with_capacity(batch.groups.len());
    for group in batch.groups {
        let deliver = Deliver { items: group.items };
        let input = |ticket| follower_desk::Input::Deliver { ticket, deliver };
        let pending = shards.begin_follower(&group.room, input).await;
        let pending = pending.map_err(|Unanswered| anyhow!("a shard does not take events now"))?;
        begun.push((group.room, pending));
    }
    Ok(begun)
}

/// Waits until every room has its events durably. Without that there is no acknowledgement, and the hub sends again.
async fn finish_fanout(shards: &Shards, begun: Begun, upto: LinkSeq) -> Result<Ack, LaneEnd> {
    let mut refused = Vec::new();
    for (room, pending) in begun {
        let answer = shards.room_answer(pending).await;
        let detail = match answer {
            Ok(Answer::Received) => continue,
            Ok(Answer::Gap { expected }) => format!("event {expected} is missing"),
            Ok(Answer::Refused(refused @ (Refused::Poisoned | Refused::NotAuthorized))) => {
                refused.to_string()
            }
            Ok(Answer::Refused(other)) => {
                return Err(anyhow!("events are not taken: {other}").into());
            }
            Ok(_) | Err(Unanswered) => return Err(anyhow!("a shard does not answer").into()),
        };
        tracing::warn!(%room, %detail, "events of a room were not taken");
        refused.push(RoomRefused {
            room,
            detail: BText::clipped(&detail),
        });
    }
    Ok(Ack {
        upto,
        refused: BVec::truncated(refused),
    })
}

/// Takes what a follower's clients submit to rooms of this hub.
pub(super) async fn submissions(
    link: &Link,
    shards: &Shards,
    mut to: LaneSender,
    mut from: LaneReceiver,
) -> Result<(), LaneEnd> {
    let mut under_way = FuturesOrdered::new();
    let mut ended = false;
    while !ended || !under_way.is_empty() {
        tokio::select! {
            biased;
            Some(submitted) = under_way.next(), if !under_way.is_empty() => {
                let submitted: Submitted = submitted;
                to.send(wire::encode(&submitted)).await.map_err(anyhow::Error::from)?;
            }
            frame = next_frame(&mut from),
                if !ended && under_way.len() < LANE_FRAMES_UNACKED_MAX =>
            {
                let Some(frame) = frame? else {
                    ended = true;
                    continue;
                };
                let batch: Submit = wire::decode(&frame)
                    .map_err(|error| LaneEnd::Connection(format!("submissions: {error}")))?;
                if batch.groups.iter().any(|group| group.sender.provider() != link.peer()) {
                    let why = "submissions of another provider's client".to_owned();
                    return Err(LaneEnd::Connection(why));
                }
                let begun = begin_submissions(shards, batch).await;
                under_way.push_back(finish_submissions(shards, begun));
            }
        }
    }
    Ok(to.finish().map_err(anyhow::Error::from)?)
}

/// A group of submissions on its way into its room: which, and what will become of it.
struct Judging {
    room: RoomUri,
    first: SubmitSeq,
    count: u32,
    pending: Result<Pending<Answer>, Option<SubmitRefused>>,
}

async fn begin_submissions(shards: &Shards, batch: Submit) -> Vec<Judging> {
    let mut begun = Vec::with_capacity(batch.groups.len());
    for SubmitGroup {
        room,
        sender,
        first,
        undecided,
        messages,
    } in batch.groups
    {
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        let pending = if *room.hub() == shards.world().provider {
            let submit = hub::Submit {
                sender,
                via: Via::Provider { first, undecided },
                messages,
            };
            let input = |ticket| desk::Input::Submit { ticket, submit };
            shards
                .begin_hub(&room, input)
                .await
                .map_err(|Unanswered| None)
        } else {
            Err(Some(SubmitRefused::NotAuthorized))
        };
        begun.push(Judging {
            room,
            first,
            count,
            pending,
        });
    }
    begun
}

/// Waits until every room has judged, durably.
async fn finish_submissions(shards: &Shards, begun: Vec<Judging>) -> Submitted {
    let (mut refused, mut gaps, mut retry_after_ms) = (Vec::new(), Vec::new(), None);
    for Judging {
        room,
        first,
        count,
        pending,
    } in begun
    {
        let reason = match pending {
            Err(Some(reason)) => reason,
            Err(None) => {
                retry_after_ms = Some(RETRY_AFTER_MS);
                continue;
            }
            Ok(pending) => match shards.room_answer(pending).await {
                Ok(Answer::Received) => continue,
                Ok(Answer::Gap { expected }) => {
                    gaps.push(SubmitGap {
                        room,
                        expected: SubmitSeq(expected),
                    });
                    continue;
                }
                Ok(Answer::Refused(Refused::NotAuthorized)) => SubmitRefused::NotAuthorized,
                Ok(Answer::Refused(Refused::Poisoned)) => SubmitRefused::Poisoned,
                Ok(_) | Err(Unanswered) => {
                    retry_after_ms = Some(RETRY_AFTER_MS);
                    continue;
                }
            },
        };
        refused.push(SubmitRejected {
            room,
            first,
            count,
            reason,
        });
    }
    Submitted {
        refused: BVec::truncated(refused),
        gaps: BVec::truncated(gaps),
        retry_after_ms,
    }
}
