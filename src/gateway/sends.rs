//! The lane of a client's application messages: frames in, what became of each back, in order.
//!
//! Source: transport requirements, section 4.

use super::{FRAME_DEADLINE, Session};
use crate::{
    cluster::shard::shards::Pending,
    quic::{LaneReceiver, LaneSender, code},
};
use futures::stream::{FuturesOrdered, StreamExt};
use mimi_actors::{
    ids::ClientUri,
    limits::{BATCH_FRAME_BYTES_MAX, LANE_FRAMES_UNACKED_MAX, MESSAGE_BYTES_MAX, SUBMIT_BYTES_MAX},
    shard_request::ShardReply,
    way,
    wire::{
        self,
        answer::Answer,
        door::{DoorRefused, Send, Sent},
        refusal::{Flaw, RefusalCode, TryLater},
    },
};
use std::sync::Arc;

/// Serves the lane until it ends.
pub(super) async fn serve(
    session: &Arc<Session>,
    client: &ClientUri,
    mut to: LaneSender,
    mut from: LaneReceiver,
) -> anyhow::Result<()> {
    let mut under_way = FuturesOrdered::new();
    let mut ended = false;
    while !ended || !under_way.is_empty() {
        tokio::select! {
            biased;
            Some(sent) = under_way.next(), if !under_way.is_empty() => {
                let sent: Sent = sent;
                to.write(&sent).await?;
            }
            frame = from.next(BATCH_FRAME_BYTES_MAX, Some(FRAME_DEADLINE)),
                if !ended && under_way.len() < LANE_FRAMES_UNACKED_MAX =>
            {
                let Some(frame) = frame? else {
                    ended = true;
                    continue;
                };
                let Ok(send) = wire::decode::<Send>(&frame) else {
                    to.reset(code::BAD_FRAME);
                    from.stop(code::BAD_FRAME);
                    anyhow::bail!("a frame of messages does not decode");
                };
                let (room, first) = (send.room.clone(), send.first);
                let begun = begin(session, client, send).await;
                under_way.push_back(async move {
                    let answer = match begun {
                        Ok(pending) => finish(session, pending).await,
                        Err(refused) => Err(refused),
                    };
                    Sent { room, first, answer }
                });
            }
        }
    }
    Ok(to.finish()?)
}

async fn begin(session: &Session, client: &ClientUri, send: Send) -> Result<Pending, DoorRefused> {
    let messages = &send.messages;
    let bytes: usize = messages.iter().map(|message| message.len()).sum();
    let largest = messages
        .iter()
        .map(|message| message.len())
        .max()
        .unwrap_or_default();
    if messages.is_empty() || bytes > SUBMIT_BYTES_MAX || largest > MESSAGE_BYTES_MAX {
        let limits = format!(
            "a frame holds at least one message, at most {SUBMIT_BYTES_MAX} bytes in all, \
             {MESSAGE_BYTES_MAX} in one"
        );
        let flaw = Flaw::new(RefusalCode::BadFrame, &limits);
        return Err(DoorRefused::BadFrame(flaw.in_field("messages")));
    }
    let request = way::client::send(&session.shards.environment().provider, client, send);
    let begun = session.shards.begin(request).await;
    begun.map_err(|_| unanswered())
}

async fn finish(session: &Session, pending: Pending) -> Result<Answer, DoorRefused> {
    let reply = session.shards.answer(pending).await;
    let reply = reply.unwrap_or(ShardReply::Nobody);
    way::client::sent(reply, TryLater::UNANSWERED)
}

fn unanswered() -> DoorRefused {
    DoorRefused::TryLater(TryLater::UNANSWERED)
}
