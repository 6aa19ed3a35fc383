//! Tells the shards of rooms what their clients have acknowledged.

use crate::cluster::shard::shards::Shards;
use mimi_actors::shard_request::TellRead;
use std::time::Duration;

/// How often shards are told, at most.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// Tells the shards of rooms what clients have, wherever they are led, until the node stops.
pub(crate) async fn tell(shards: Shards) {
    let mut turn = tokio::time::interval(TELL_INTERVAL);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        for shard in shards.iter() {
            while let Some(has) = shard.reads.take() {
                if let Err(error) = shards.ask(TellRead(has)).await {
                    tracing::debug!(shard = shard.id, %error, "what was read is forgotten later");
                }
            }
        }
    }
}
