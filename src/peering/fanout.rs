//! The fan-out lane, sending side: one shard's items for one peer, in order, from the last acknowledgement.
//!
//! Source: transport requirements, section 5.

use super::code;
use crate::{
    cluster::shard::Shard,
    quic::{LaneReceiver, Link},
};
use anyhow::Context;
use mimi_actors::{
    ids::ProviderId,
    limits::REQUEST_FRAME_BYTES_MAX,
    link::{Command as LinkCommand, Peer, session::FanoutSender},
    record::Command,
    shard::read,
    wire::{
        self,
        event::LinkSeq,
        link::{Ack, Open},
    },
};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// How often an acknowledgement is put into the log, at most; after a crash the rest is sent again.
const ACK_RECORD_INTERVAL: Duration = Duration::from_secs(1);
/// How long the rest of a frame may take.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);

/// Sends until the lane or the connection fails.
pub(super) async fn send(shard: &Arc<Shard>, to: &ProviderId, link: &Link) -> anyhow::Result<()> {
    let peer = Peer::Provider(to.clone());
    let mut applied = shard.applied.subscribe();
    let acked = loop {
        applied.mark_unchanged();
        let owed = shard
            .looked_at()
            .links
            .outgoing(&peer)
            .map(|link| (link.acked(), link.last()));
        match owed {
            Some((acked, last)) if acked < last => break acked,
            _ => applied.changed().await.context("the shard has stopped")?,
        }
    };
    let (mut lane, acks) = link.open_lane().await?;
    lane.send(wire::encode(&Open::Fanout { shard: shard.id }))
        .await?;
    let (report, mut acknowledged) = watch::channel(acked);
    let _reading = AbortOnDrop(tokio::spawn(read_acks(acks, report, to.clone())));

    let mut session = FanoutSender::new(acked);
    let mut record = tokio::time::interval(ACK_RECORD_INTERVAL);
    loop {
        applied.mark_unchanged();
        let upto = *acknowledged.borrow_and_update();
        if let Err(broken) = session.acknowledged(upto) {
            link.close(code::PROTOCOL, &broken.to_string());
            anyhow::bail!("the peer {broken}");
        }
        if let Some(next) = session.next()
            && let Some((batch, after)) = read::fanout(&**shard, to, next)?
        {
            lane.send(wire::encode_sized(
                &batch,
                mimi_actors::limits::BATCH_FILL_BYTES,
            ))
            .await?;
            session.sent(after);
            continue;
        }
        let to_record = session.to_record();
        tokio::select! {
            changed = applied.changed() => changed.context("the shard has stopped")?,
            changed = acknowledged.changed() => {
                // The reader has ended: the lane is of no use any more.
                changed.context("the peer ended the lane")?;
            }
            _ = record.tick(), if to_record.is_some() => {
                let upto = to_record.unwrap_or_default();
                let ack = LinkCommand::Ack { peer: peer.clone(), upto };
                shard.queue_own(Command::Link(ack)).await?;
                session.recorded(upto);
            }
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

async fn read_acks(mut acks: LaneReceiver, report: watch::Sender<LinkSeq>, peer: ProviderId) {
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
        // Cumulative: an older number is no news.
        report.send_if_modified(|upto| {
            let newer = ack.upto > *upto;
            *upto = (*upto).max(ack.upto);
            newer
        });
    }
}
