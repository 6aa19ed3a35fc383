//! The fan-out lane, sending side: one shard's items for one peer, in order, from the last acknowledgement.
//!
//! Source: transport requirements, section 5.

use super::credits::Credits;
use crate::{
    cluster::shard::Shard,
    quic::{LaneReceiver, Link, code},
};
use anyhow::Context;
use mimi_actors::{
    ids::ProviderId,
    limits::{BATCH_FILL_BYTES, LANE_FRAMES_UNACKED_MAX, REQUEST_FRAME_BYTES_MAX},
    link::{
        Peer,
        session::{FanoutSender, Turn},
    },
    record::Command,
    shard::read,
    wire::{
        self,
        link::{Ack, Open},
    },
};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

/// How often an acknowledgement is put into the log, at most; after a crash the rest is sent again.
const ACK_RECORD_INTERVAL: Duration = Duration::from_secs(1);
/// How long the rest of a frame may take.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);

/// Sends until the lane or the connection fails.
///
/// # Errors
/// [`Later`] when the peer says when to come again; whatever else ended the lane.
pub(super) async fn send(
    shard: &Arc<Shard>,
    to: &ProviderId,
    link: &Link,
    credits: &Credits,
) -> anyhow::Result<()> {
    let peer = Peer::Provider(to.clone());
    let mut applied = shard.applied.subscribe();
    let mut session = loop {
        applied.mark_unchanged();
        let owed = FanoutSender::owed(&shard.looked_at().links, &peer);
        if let Some(session) = owed {
            break session;
        }
        applied.changed().await.context("the shard has stopped")?;
    };
    let (mut lane, acks) = link.open_lane().await?;
    let open = Open::Fanout { shard: shard.id };
    lane.write(&open).await?;
    let (report, mut acknowledged) = mpsc::channel(LANE_FRAMES_UNACKED_MAX);
    let _reading = AbortOnDrop(tokio::spawn(read_acks(acks, report, to.clone())));

    let mut record = tokio::time::interval(ACK_RECORD_INTERVAL);
    loop {
        applied.mark_unchanged();
        let turn = session.turn();
        if turn == Turn::Record {
            let ack = session.record(peer.clone());
            shard.queue_own(Command::Link(ack)).await?;
            continue;
        }
        if let Turn::Send(next) = turn
            && let Some((batch, after, bytes)) = read::fanout(&**shard, to, next)?
        {
            lane.write_sized(&batch, BATCH_FILL_BYTES).await?;
            session.sent(after, bytes);
            credits.count(after.0 - next.0);
            credits.note(shard.id, &session);
            while let Ok(ack) = acknowledged.try_recv() {
                take(&mut session, &ack, link)?;
            }
            continue;
        }
        tokio::select! {
            changed = applied.changed() => changed.context("the shard has stopped")?,
            ack = acknowledged.recv() => {
                // The reader has ended: the lane is of no use any more.
                take(&mut session, &ack.context("the peer ended the lane")?, link)?;
                credits.note(shard.id, &session);
            }
            _ = record.tick(), if session.has_to_record() => {
                let ack = session.record(peer.clone());
                shard.queue_own(Command::Link(ack)).await?;
            }
        }
    }
}

/// The receiver takes nothing more for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer takes nothing more for {} ms", .0.as_millis())]
pub(super) struct Later(pub(super) Duration);

/// What an acknowledgement means for the lane.
fn take(session: &mut FanoutSender, ack: &Ack, link: &Link) -> anyhow::Result<()> {
    match session.acknowledged(ack) {
        Ok(None) => Ok(()),
        Ok(Some(wait_ms)) => Err(Later(Duration::from_millis(wait_ms.into())).into()),
        Err(broken) => {
            link.close(code::PROTOCOL, &broken.to_string());
            anyhow::bail!("the peer {broken}");
        }
    }
}

/// Ends its task with itself.
pub(super) struct AbortOnDrop(pub(super) tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn read_acks(mut acks: LaneReceiver, report: mpsc::Sender<Ack>, peer: ProviderId) {
    while let Ok(Some(frame)) = acks
        .next(REQUEST_FRAME_BYTES_MAX, Some(FRAME_DEADLINE))
        .await
    {
        let Ok(ack) = wire::decode::<Ack>(&frame) else {
            tracing::warn!(%peer, "an acknowledgement does not decode");
            return;
        };
        for refused in &ack.refused {
            let (room, detail) = (&refused.room, &refused.detail);
            tracing::warn!(%peer, %room, %detail, "the peer did not take a room's events");
        }
        if report.send(ack).await.is_err() {
            return;
        }
    }
}
