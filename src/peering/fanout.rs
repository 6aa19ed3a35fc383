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
    limits::{LANE_FRAMES_UNACKED_MAX, REQUEST_FRAME_BYTES_MAX},
    link::{Command as LinkCommand, Peer},
    record::Command,
    wire::{
        self,
        event::LinkSeq,
        link::{Ack, Open},
    },
};
use std::{collections::VecDeque, sync::Arc, time::Duration};
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
            .derived()
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

    let (mut next, mut recorded) = (acked.next(), acked);
    // The last number of each frame under way.
    let mut under_way: VecDeque<LinkSeq> = VecDeque::new();
    let mut record = tokio::time::interval(ACK_RECORD_INTERVAL);
    loop {
        applied.mark_unchanged();
        let upto = *acknowledged.borrow_and_update();
        if upto >= next {
            let why = "acknowledged what was never sent";
            link.close(code::PROTOCOL, why);
            anyhow::bail!("the peer {why}: item {upto}, the next one is {next}");
        }
        while under_way.front().is_some_and(|last| *last <= upto) {
            under_way.pop_front();
        }
        if under_way.len() < LANE_FRAMES_UNACKED_MAX
            && let Some((batch, after)) = shard.fanout(to, next)?
        {
            lane.send(wire::encode_sized(
                &batch,
                mimi_actors::limits::BATCH_FILL_BYTES,
            ))
            .await?;
            under_way.push_back(LinkSeq(after.0 - 1));
            next = after;
            continue;
        }
        tokio::select! {
            changed = applied.changed() => changed.context("the shard has stopped")?,
            changed = acknowledged.changed() => {
                // The reader has ended: the lane is of no use any more.
                changed.context("the peer ended the lane")?;
            }
            _ = record.tick(), if upto > recorded => {
                let ack = LinkCommand::Ack { peer: peer.clone(), upto };
                shard.queue_own(Command::Link(ack)).await?;
                recorded = upto;
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
