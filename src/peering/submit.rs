//! The submit lane, sending side: what local clients submitted to one hub, in order, until it has a final word.
//!
//! The words come back on the hub's fan-out lane; what comes back here is whether a frame was judged, so that the next
//! may be sent. After a cut everything without a word is sent again; the hub knows the numbers it has.
//!
//! Source: transport requirements, section 4.

use super::fanout::AbortOnDrop;
use crate::{
    cluster::{shard::Shard, shards::Shards},
    quic::{LaneReceiver, Link},
};
use anyhow::Context;
use mimi_actors::{
    ids::ProviderId,
    limits::{BATCH_FILL_BYTES, LANE_FRAMES_UNACKED_MAX, REQUEST_FRAME_BYTES_MAX},
    room::{follower::Reject, follower_desk},
    wire::{
        self,
        link::{Open, Submitted},
    },
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// How long the rest of a frame may take.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// How long to wait before numbers that the hub misses are sent again.
const GAP_RETRY: Duration = Duration::from_millis(50);

/// Sends until the lane or the connection fails.
pub(super) async fn send(
    shards: &Shards,
    shard: &Arc<Shard>,
    to: &ProviderId,
    link: &Link,
) -> anyhow::Result<()> {
    let mut applied = shard.applied.subscribe();
    loop {
        applied.mark_unchanged();
        if shard
            .derived()
            .links
            .submissions(to)
            .is_some_and(|waiting| !waiting.is_empty())
        {
            break;
        }
        applied.changed().await.context("the shard has stopped")?;
    }
    let (mut lane, replies) = link.open_lane().await?;
    lane.send(wire::encode(&Open::Submit)).await?;
    let (report, mut judged) = mpsc::channel(LANE_FRAMES_UNACKED_MAX);
    let _reading = AbortOnDrop(tokio::spawn(read_replies(replies, report)));

    let (mut next, mut under_way) = (0, 0_usize);
    loop {
        applied.mark_unchanged();
        if under_way < LANE_FRAMES_UNACKED_MAX
            && let Some((batch, after)) = shard.submissions(to, next)?
        {
            lane.send(wire::encode_sized(&batch, BATCH_FILL_BYTES))
                .await?;
            under_way += 1;
            next = after;
            continue;
        }
        tokio::select! {
            changed = applied.changed() => changed.context("the shard has stopped")?,
            submitted = judged.recv() => {
                let submitted = submitted.context("the hub ended the lane")?;
                under_way = under_way
                    .checked_sub(1)
                    .context("the hub answered more frames than it was sent")?;
                let again = wait_before_again(&submitted);
                reject(shards, to, submitted).await;
                if let Some(wait) = again {
                    // Everything without a final word goes again, behind what is under way.
                    tokio::time::sleep(wait).await;
                    next = 0;
                }
            }
        }
    }
}

/// Whether, and after which wait, submissions must be sent again.
fn wait_before_again(submitted: &Submitted) -> Option<Duration> {
    let told = submitted
        .retry_after_ms
        .map(|ms| Duration::from_millis(u64::from(ms)));
    told.or_else(|| (!submitted.gaps.is_empty()).then_some(GAP_RETRY))
}

/// Records the hub's refusals that have no number in their room.
async fn reject(shards: &Shards, hub: &ProviderId, submitted: Submitted) {
    for rejected in submitted.refused {
        if rejected.room.hub() != hub {
            continue;
        }
        let reject = Reject {
            first: rejected.first,
            count: rejected.count,
            reason: rejected.reason,
        };
        let input = |ticket| follower_desk::Input::Reject { ticket, reject };
        if let Ok(pending) = shards.begin_follower(&rejected.room, input).await {
            drop(shards.room_answer(pending).await);
        }
    }
}

async fn read_replies(mut replies: LaneReceiver, report: mpsc::Sender<Submitted>) {
    while let Ok(Some(frame)) = replies
        .next(REQUEST_FRAME_BYTES_MAX, Some(FRAME_DEADLINE))
        .await
    {
        let Ok(submitted) = wire::decode::<Submitted>(&frame) else {
            return;
        };
        if report.send(submitted).await.is_err() {
            return;
        }
    }
}
