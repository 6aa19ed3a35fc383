//! The submit lane, sending side: what local clients submitted to one hub, each shard's in order, until it has a verdict.
//!
//! The words come back on the hub's fan-out lane; what comes back here is whether a frame was judged, so that the next
//! may be sent. After a cut everything without a verdict is sent again; the hub knows the numbers it has.
//!
//! Source: transport requirements, section 4.

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
    link::session::{Judged, SubmitSender},
    shard::owing,
    way::submit::rejects,
    wire::link::{OfShard, Open, Submit, Submitted},
};
use std::time::Duration;

/// Sends until the lane or the connection fails.
pub(super) async fn send(over: &Connection, shards: &Shards, speaks: Speaks) -> anyhow::Result<()> {
    let mut sending = Sending {
        over,
        shards,
        alone: speaks.alone(),
        on: OnLane::new(over, shards, speaks, None),
        lane: None,
        telling: FuturesUnordered::new(),
    };
    loop {
        let (lane, telling) = (&mut sending.lane, &mut sending.telling);
        let judged = async {
            match lane {
                Some(lane) => lane.answer().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            judged = judged => sending.take(judged.context("the hub ended the lane")?)?,
            Some((shard, session, again)) = telling.next(), if !telling.is_empty() => {
                sending.on.sender.settled(shard, session, again);
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
    on: OnLane<'a, SubmitSender>,
    /// It is opened when there is something to send.
    lane: Option<Exchange<Submitted>>,
    /// What hubs refused, on its way to the rooms: of which shard and session, and whether everything goes again then.
    telling: FuturesUnordered<BoxFuture<'a, (u16, u64, bool)>>,
}

impl Sending<'_> {
    /// It is a shard's turn.
    async fn turn(&mut self, shard: u16) -> anyhow::Result<()> {
        let Some(own) = self.shards.get(shard) else {
            return Ok(());
        };
        let next = self.on.sender.from(shard, &own.looked_at().links);
        let Some(next) = next else { return Ok(()) };
        match owing::submissions(&**own, self.over.peer(), next) {
            Ok(Some((batch, after))) => {
                let submissions = batch.groups.iter().map(|group| group.messages.len() as u64);
                let submissions = submissions.sum();
                let Some(frame) = self.on.sender.sent(shard, batch, after) else {
                    return Ok(());
                };
                self.write(&frame).await?;
                self.over.credits.count_submitted(submissions);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(shard, %error, "what a shard has for the hub cannot be read");
                self.on.rest(shard, Duration::ZERO);
            }
        }
        Ok(())
    }

    async fn write(&mut self, frame: &OfShard<Submit>) -> anyhow::Result<()> {
        let mut lane = match self.lane.take() {
            Some(lane) => lane,
            None => {
                let open = self.alone.map(|_| Open::OneShardSubmits);
                Exchange::open(&self.over.link, &open.unwrap_or(Open::Submit), self.alone).await?
            }
        };
        lane.write(frame, |submitted| self.take(submitted)).await?;
        self.lane = Some(lane);
        Ok(())
    }

    /// What the hub's answer to a frame means for its shard.
    fn take(&mut self, submitted: OfShard<Submitted>) -> anyhow::Result<()> {
        let shard = submitted.shard;
        match self.on.sender.answered(submitted) {
            Ok(None) => {}
            Ok(Some((session, judged))) => self.tell(shard, session, judged),
            Err(broken) => {
                self.over.link.close(code::PROTOCOL, &broken.to_string());
                anyhow::bail!("the hub {broken}");
            }
        }
        Ok(())
    }

    /// Tells rooms what their hub refused, and waits for as long as it wants.
    fn tell(&mut self, shard: u16, session: u64, judged: Judged) {
        let shards = self.shards;
        self.telling.push(Box::pin(async move {
            for request in rejects(judged.refused) {
                drop(shards.ask_any(request).await);
            }
            if let Some(ms) = judged.again_after_ms {
                tokio::time::sleep(Duration::from_millis(u64::from(ms))).await;
            }
            (shard, session, judged.again_after_ms.is_some())
        }));
    }
}
