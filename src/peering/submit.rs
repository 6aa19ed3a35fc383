//! The submit lane, sending side: what local clients submitted to one hub, in order, until it has a verdict.
//!
//! The words come back on the hub's fan-out lane; what comes back here is whether a frame was judged, so that the next
//! may be sent. After a cut everything without a verdict is sent again; the hub knows the numbers it has.
//!
//! Source: transport requirements, section 4.

use super::{credits::Credits, fanout::AbortOnDrop};
use crate::{
    cluster::shard::{Shard, shards::Shards},
    quic::{LaneReceiver, Link},
};
use anyhow::Context;
use mimi_actors::{
    ids::ProviderId,
    limits::{BATCH_FILL_BYTES, LANE_FRAMES_UNACKED_MAX, REQUEST_FRAME_BYTES_MAX},
    link::session::SubmitSender,
    shard::read,
    way::submit::rejects,
    wire::{
        self,
        link::{Open, Submitted},
    },
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// How long the rest of a frame may take.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);

/// Sends until the lane or the connection fails.
pub(super) async fn send(
    shards: &Shards,
    shard: &Arc<Shard>,
    to: &ProviderId,
    link: &Link,
    credits: &Credits,
) -> anyhow::Result<()> {
    let mut applied = shard.applied.subscribe();
    let mut session = loop {
        applied.mark_unchanged();
        let owed = SubmitSender::owed(&shard.looked_at().links, to);
        if let Some(session) = owed {
            break session;
        }
        applied.changed().await.context("the shard has stopped")?;
    };
    let (mut lane, replies) = link.open_lane().await?;
    lane.write(&Open::Submit).await?;
    let (report, mut judged) = mpsc::channel(LANE_FRAMES_UNACKED_MAX);
    let _reading = AbortOnDrop(tokio::spawn(read_replies(replies, report)));

    loop {
        applied.mark_unchanged();
        if let Some(next) = session.next()
            && let Some((batch, after)) = read::submissions(&**shard, to, next)?
        {
            lane.write_sized(&batch, BATCH_FILL_BYTES).await?;
            let submissions = batch.groups.iter().map(|group| group.messages.len() as u64);
            credits.count_submitted(submissions.sum());
            session.sent(after);
            continue;
        }
        tokio::select! {
            changed = applied.changed() => changed.context("the shard has stopped")?,
            submitted = judged.recv() => {
                let submitted = submitted.context("the hub ended the lane")?;
                let judged = session.answered(to, submitted)?;
                for request in rejects(judged.refused) {
                    drop(shards.ask_any(request).await);
                }
                if let Some(ms) = judged.again_after_ms {
                    tokio::time::sleep(Duration::from_millis(u64::from(ms))).await;
                    session.again();
                }
            }
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
