//! How long events are kept: the leader of a shard has those forgotten whose time is over, or that nobody needs.
//!
//! The time is in the log, so that every replica forgets the same ones. What another provider is still owed is kept. The
//! bytes go when the shard is sealed the next time.
//!
//! Source: transport requirements, section 5.

use crate::cluster::shard::shards::Shards;
use mimi_actors::{link, machine::Millis, record::Command};
use std::time::Duration;

/// Times that it is looked whether something is to be forgotten, while an event is kept.
const LOOKS: u32 = 16;
/// Shortest and longest time between two looks. What is read here goes as soon as all clients have it, without a look;
/// a room that nobody of this provider reads goes by looks alone, once its followers have it.
const INTERVAL_MIN: Duration = Duration::from_millis(250);
const INTERVAL_MAX: Duration = Duration::from_secs(30);

/// Has events forgotten that are older than `retention`, or that everybody has, until the node stops.
pub(crate) async fn keep(shards: Shards, retention: Duration) {
    let mut turn = tokio::time::interval((retention / LOOKS).clamp(INTERVAL_MIN, INTERVAL_MAX));
    let kept_ms = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
    loop {
        turn.tick().await;
        for shard in shards.iter().filter(|shard| shard.leads()) {
            let before = Millis(shard.time().0.saturating_sub(kept_ms));
            let some = {
                let derived = shard.looked_at();
                derived.index.may_forget(before, &derived.links.owed_from())
            };
            if !some {
                continue;
            }
            let forget = Command::Link(link::Command::Forget { before });
            if let Err(refused) = shard.queue_own(forget).await {
                tracing::debug!(shard = shard.id, %refused, "old events are forgotten later");
            }
        }
    }
}
