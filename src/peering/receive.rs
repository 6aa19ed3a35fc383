//! The long lanes, receiving side: a peer's fan-out and submissions, into the shards and durably, then acknowledged.
//!
//! Frames are taken while earlier ones are still on their way into the log; what goes back keeps their order.
//!
//! Source: transport requirements, sections 4 and 5.

use super::incoming::{FRAME_DEADLINE, LaneEnd};
use crate::{
    cluster::shard::shards::{Pending, Shards, Unanswered},
    quic::{LaneReceiver, LaneSender, Link, code},
};
use bytes::Bytes;
use futures::stream::{FuturesOrdered, StreamExt};
use mimi_actors::{
    doors::{self, Fanned},
    ids::RoomUri,
    limits::{BATCH_FRAME_BYTES_MAX, LANE_FRAMES_UNACKED_MAX},
    link::session::{Acking, FanoutReceiver, Judging, check_submit},
    room::{
        follower,
        outcome::{Answer, Refused},
    },
    user::{
        command::Command as UserCommand,
        outcome::{Answer as UserAnswer, Refused as UserRefused},
    },
    wire::{
        self, BVec,
        event::{LinkSeq, SubmitSeq},
        link::{Ack, Fanout, Submit, Submitted},
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

/// Takes what a hub's shard fans out to this provider.
pub(super) async fn fanout(
    link: &Link,
    shards: &Shards,
    shard: u16,
    mut to: LaneSender,
    mut from: LaneReceiver,
) -> Result<(), LaneEnd> {
    let mut session = FanoutReceiver::default();
    let mut acked = LinkSeq(0);
    let mut under_way = FuturesOrdered::new();
    let mut ended = false;
    while !ended || !under_way.is_empty() {
        tokio::select! {
            biased;
            Some(taken) = under_way.next(), if !under_way.is_empty() => {
                let taken: Result<Ack, Later> = taken;
                let ack = match taken {
                    Ok(ack) => ack,
                    Err(later) => {
                        tracing::warn!(shard, why = %later.why, "fan-out is not taken now");
                        to.write(&later.ack(acked)).await.map_err(anyhow::Error::from)?;
                        break;
                    }
                };
                acked = ack.upto;
                to.write(&ack).await.map_err(anyhow::Error::from)?;
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
                let fresh = session.is_fresh();
                let upto = session
                    .take(link.peer(), &shards.environment().provider, &batch)
                    .map_err(|broken| LaneEnd::Connection(broken.to_string()))?;
                if fresh {
                    acked = LinkSeq(batch.first.0.saturating_sub(1));
                }
                let begun = begin_fanout(shards, batch).await;
                tracing::trace!(shard, %upto, "batch taken");
                under_way.push_back(finish_fanout(shards, begun, Acking::new(upto, fresh)));
            }
        }
    }
    Ok(to.finish().map_err(anyhow::Error::from)?)
}

/// A batch that is not taken now: its hub may come again.
struct Later {
    retry_after_ms: u32,
    why: String,
}

impl Later {
    /// How long a hub waits whose events found the log full, in milliseconds.
    const FULL_RETRY_AFTER_MS: u32 = 5_000;

    fn unanswered(unanswered: &Unanswered) -> Self {
        Self {
            retry_after_ms: TryLater::UNANSWERED.after_ms,
            why: unanswered.to_string(),
        }
    }

    fn refused(answer: &Answer) -> Self {
        // What is missing may be on its way, past a leader that has just changed: then at once.
        let retry_after_ms = if let Answer::Refused(Refused::TryLater(later)) = answer {
            later.after_ms
        } else if *answer == Answer::Refused(Refused::StorageFull) {
            Self::FULL_RETRY_AFTER_MS
        } else {
            0
        };
        Self {
            retry_after_ms,
            why: format!("{answer:?}"),
        }
    }

    /// What tells the hub, which has the acknowledgement of everything up to `acked`.
    fn ack(&self, acked: LinkSeq) -> Ack {
        Ack {
            upto: acked,
            refused: BVec::default(),
            credit_bytes: 0,
            retry_after_ms: Some(self.retry_after_ms),
        }
    }
}

/// The parts of a batch on their way into their rooms, and to users.
type Delivering = Vec<(RoomUri, Delivery)>;

/// A part of a batch on its way.
enum Delivery {
    Room(Pending<Answer>),
    User(Pending<UserAnswer>),
}

async fn begin_fanout(shards: &Shards, batch: Fanout) -> Result<Delivering, Unanswered> {
    let mut begun = Vec::with_capacity(batch.groups.len());
    for part in doors::fanned(batch) {
        let (room, pending) = match part {
            Fanned::Room(room, deliver) => {
                let deliver = follower::Command::Deliver(deliver);
                let pending = shards.begin_follower(&room, deliver).await?;
                (room, Delivery::Room(pending))
            }
            Fanned::User(room, user, hear) => {
                let pending = shards.begin_user(&user, UserCommand::Hear(hear)).await?;
                (room, Delivery::User(pending))
            }
        };
        begun.push((room, pending));
    }
    Ok(begun)
}

/// Waits until every room has its events durably. Without that there is no acknowledgement, and the hub sends again.
async fn finish_fanout(
    shards: &Shards,
    begun: Result<Delivering, Unanswered>,
    mut acking: Acking,
) -> Result<Ack, Later> {
    for (room, pending) in begun.map_err(|unanswered| Later::unanswered(&unanswered))? {
        let answer = match pending {
            Delivery::Room(pending) => shards.room_answer(pending).await,
            Delivery::User(pending) => shards.user_answer(pending).await.map(heard),
        };
        let answer = answer.map_err(|unanswered| Later::unanswered(&unanswered))?;
        acking
            .answered(&room, answer)
            .map_err(|answer| Later::refused(&answer))?;
    }
    let ack = acking.finish(shards.environment().lane_credit_bytes);
    for refused in &ack.refused {
        let (room, detail) = (&refused.room, &refused.detail);
        tracing::warn!(%room, %detail, "events of a room were not taken");
    }
    Ok(ack)
}

/// What a room would have said to an item that a user took.
fn heard(answer: UserAnswer) -> Answer {
    match answer {
        // A user who is gone has no inbox.
        UserAnswer::Done | UserAnswer::Refused(UserRefused::Unknown | UserRefused::Deleted) => {
            Answer::Received
        }
        UserAnswer::Refused(UserRefused::Poisoned) => Answer::Refused(Refused::Poisoned),
        UserAnswer::Enrolled
        | UserAnswer::Uploaded(_)
        | UserAnswer::Claimed(_)
        | UserAnswer::IntroductionKept(_)
        | UserAnswer::Introduced(_)
        | UserAnswer::Unchanged
        | UserAnswer::Refused(_) => Answer::Refused(Refused::TryLater(TryLater::UNANSWERED)),
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
    let mut under_way = FuturesOrdered::new();
    let mut ended = false;
    while !ended || !under_way.is_empty() {
        tokio::select! {
            biased;
            Some(submitted) = under_way.next(), if !under_way.is_empty() => {
                let submitted: Submitted = submitted;
                let refused = submitted.refused.iter().map(|run| run.count).sum();
                environment.refusals.use_up(link.peer(), refused, 0);
                to.write(&submitted).await.map_err(anyhow::Error::from)?;
            }
            frame = async {
                tokio::time::sleep(environment.refusals.wait(link.peer())).await;
                next_frame(&mut from).await
            }, if !ended && under_way.len() < LANE_FRAMES_UNACKED_MAX => {
                let Some(frame) = frame? else {
                    ended = true;
                    continue;
                };
                let batch: Submit = wire::decode(&frame)
                    .map_err(|error| LaneEnd::Connection(format!("submissions: {error}")))?;
                check_submit(link.peer(), &batch)
                    .map_err(|broken| LaneEnd::Connection(broken.to_string()))?;
                let begun = begin_submissions(shards, batch).await;
                under_way.push_back(finish_submissions(shards, begun));
            }
        }
    }
    Ok(to.finish().map_err(anyhow::Error::from)?)
}

/// A group of submissions on its way into its room: which, and what will become of it.
struct Begun {
    room: RoomUri,
    first: SubmitSeq,
    count: u32,
    pending: Result<Pending<Answer>, Option<Answer>>,
}

async fn begin_submissions(shards: &Shards, batch: Submit) -> Vec<Begun> {
    let mut begun = Vec::with_capacity(batch.groups.len());
    for group in batch.groups {
        let (room, first) = (group.room.clone(), group.first);
        let count = u32::try_from(group.messages.len()).unwrap_or(u32::MAX);
        let pending = match doors::submission(&shards.environment().provider, group) {
            Some((room, submit)) => shards
                .begin_submit(&room, submit)
                .await
                .map_err(|_: Unanswered| None),
            None => Err(Some(Answer::Refused(Refused::NotAuthorized))),
        };
        begun.push(Begun {
            room,
            first,
            count,
            pending,
        });
    }
    begun
}

/// Waits until every room has judged, durably.
async fn finish_submissions(shards: &Shards, begun: Vec<Begun>) -> Submitted {
    let mut judging = Judging::default();
    for Begun {
        room,
        first,
        count,
        pending,
    } in begun
    {
        let answer = match pending {
            Ok(pending) => shards.room_answer(pending).await.ok(),
            Err(answer) => answer,
        };
        judging.answered(&room, first, count, answer);
    }
    judging.finish()
}
