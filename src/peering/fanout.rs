//! The fan-out lane, sending side: the items that shards have for one peer, each shard's in order, from its last
//! acknowledgement.
//!
//! Source: transport requirements, section 5.

use super::{
    connection::Connection,
    exchange::Exchange,
    lane::{OnLane, Speaks},
};
use crate::{cluster::shard::shards::Shards, quic::code};
use anyhow::Context;
use futures::{
    FutureExt,
    future::BoxFuture,
    stream::{FuturesUnordered, StreamExt},
};
use mimi_actors::{
    kind::NotAppended,
    link::session::{FanoutSender, Turn},
    record::Command,
    shard::owing::{self, Owing},
    way::lane::Told,
    wire::{
        BText,
        link::{Ack, Fanout, OfShard, Open, RoomRefused},
    },
};
use std::{sync::Arc, time::Duration};
use tokio::time::MissedTickBehavior;

/// How often an acknowledgement is put into the log, at most; after a crash the rest is sent again.
const ACK_RECORD_INTERVAL: Duration = Duration::from_secs(1);

/// Sends until the lane or the connection fails.
///
/// # Errors
/// [`Later`] when the only shard of the lane is told when to come again; whatever else ended the lane.
pub(super) async fn send(over: &Connection, shards: &Shards, speaks: Speaks) -> anyhow::Result<()> {
    let mut sending = Sending {
        over,
        shards,
        alone: speaks.alone(),
        on: OnLane::new(over, shards, speaks, Some(&over.credits)),
        lane: None,
        recording: FuturesUnordered::new(),
    };
    let mut record = tokio::time::interval(ACK_RECORD_INTERVAL);
    record.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (lane, recording) = (&mut sending.lane, &mut sending.recording);
        let acked = async {
            match lane {
                Some(lane) => lane.answer().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ack = acked => sending.take(&ack.context("the peer ended the lane")?)?,
            Some(recorded) = recording.next(), if !recording.is_empty() => sending.recorded(&recorded),
            _ = record.tick(), if sending.on.sender.to_record().is_some() => {
                while let Some(shard) = sending.on.sender.to_record() {
                    sending.record(shard);
                }
            }
            () = std::future::ready(()), if sending.on.sender.has_turn() => {
                // Whatever else has happened is seen before the next shard.
                while let Some(()) = sending.on.changed().now_or_never() {}
                if let Some(shard) = sending.on.sender.next_turn() {
                    sending.turn(shard).await?;
                }
            }
            () = sending.on.changed() => {}
        }
    }
}

/// A lane on which shards send.
struct Sending<'a> {
    over: &'a Connection,
    shards: &'a Shards,
    /// The only shard of the lane, in version 1.
    alone: Option<u16>,
    on: OnLane<'a, FanoutSender>,
    /// It is opened when there is something to send.
    lane: Option<Exchange<Ack>>,
    /// Acknowledgements on their way into the logs of their shards.
    recording: FuturesUnordered<BoxFuture<'a, Recorded>>,
}

/// Whether the log of a shard took the acknowledgement of a session.
struct Recorded {
    shard: u16,
    session: u64,
    queued: Result<(), NotAppended>,
}

impl Sending<'_> {
    /// It is a shard's turn.
    async fn turn(&mut self, shard: u16) -> anyhow::Result<()> {
        let Some(own) = self.shards.get(shard) else {
            return Ok(());
        };
        let turn = self.on.sender.turn(shard, &own.looked_at().links);
        let next = match turn {
            Turn::Send(next) => next,
            Turn::Record => {
                self.record(shard);
                return Ok(());
            }
            Turn::Wait => return Ok(()),
        };
        match owing::batch(&**own, self.over.peer(), next) {
            Ok(Owing::Batch {
                batch,
                after,
                bytes,
            }) => {
                let Some(frame) = self.on.sender.sent(shard, batch, after, bytes) else {
                    return Ok(());
                };
                self.write(&frame).await?;
                self.over.credits.count(after.0 - next.0);
                self.note(shard);
            }
            Ok(Owing::Nothing) => {}
            Ok(Owing::TooLarge { item, room, bytes }) => {
                let detail = format!("an event of {bytes} bytes fits no frame");
                let refused = RoomRefused {
                    room: room.clone(),
                    detail: BText::clipped(&detail),
                };
                if self.on.sender.pass_over(shard, item, refused) {
                    tracing::error!(%room, bytes, "an event fits no frame: its room is parked");
                }
            }
            Err(error) => {
                tracing::warn!(shard, %error, "what a shard has for the peer cannot be read");
                self.on.rest(shard, Duration::ZERO);
            }
        }
        Ok(())
    }

    async fn write(&mut self, frame: &OfShard<Fanout>) -> anyhow::Result<()> {
        let mut lane = match self.lane.take() {
            Some(lane) => lane,
            None => {
                let open = self.alone.map(|shard| Open::OneShard { shard });
                Exchange::open(&self.over.link, &open.unwrap_or(Open::Fanout), self.alone).await?
            }
        };
        lane.write(frame, |ack| self.take(&ack)).await?;
        self.lane = Some(lane);
        Ok(())
    }

    /// What an acknowledgement means for its shard.
    fn take(&mut self, ack: &OfShard<Ack>) -> anyhow::Result<()> {
        for refused in &ack.said.refused {
            let (room, detail) = (&refused.room, &refused.detail);
            tracing::warn!(%room, %detail, "the peer did not take a room's events");
        }
        match self.on.sender.acknowledged(ack) {
            Ok(Told::Nothing) => {}
            Ok(Told::GoesOn) => self.note(ack.shard),
            Ok(Told::Rests { after_ms }) => {
                let later = Later(Duration::from_millis(after_ms.into()));
                if self.alone.is_some() {
                    return Err(later.into());
                }
                tracing::warn!(shard = ack.shard, %later, "a shard's events wait");
                self.on.rest(ack.shard, later.0);
            }
            Err(broken) => {
                self.over.link.close(code::PROTOCOL, &broken.to_string());
                anyhow::bail!("the peer {broken}");
            }
        }
        Ok(())
    }

    /// Puts what the peer acknowledged on its way into a shard's log.
    fn record(&mut self, shard: u16) {
        let Some((session, ack)) = self.on.sender.record(shard) else {
            return;
        };
        let Some(own) = self.shards.get(shard).map(Arc::clone) else {
            return;
        };
        self.recording.push(Box::pin(async move {
            let queued = own.queue_own(Command::Link(ack)).await;
            Recorded {
                shard,
                session,
                queued,
            }
        }));
    }

    fn recorded(&mut self, recorded: &Recorded) {
        let (shard, session) = (recorded.shard, recorded.session);
        if recorded.queued.is_ok() {
            self.on.sender.recorded(shard, session);
        } else if self
            .on
            .sender
            .session(shard)
            .is_some_and(|(now, _)| now == session)
        {
            // It begins anew from what its log has, if it is led here still.
            self.on.rest(shard, Duration::ZERO);
        }
    }

    /// Notes for the operator how a shard stands.
    fn note(&self, shard: u16) {
        if let Some((_, session)) = self.on.sender.session(shard) {
            self.over.credits.note(shard, session);
        }
    }
}

/// The receiver takes nothing more for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer takes nothing more for {} ms", .0.as_millis())]
pub(super) struct Later(pub(super) Duration);
