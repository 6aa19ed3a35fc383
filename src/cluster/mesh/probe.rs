//! Whether a node is there: it is spoken to at exactly the address that an operator gave.

use super::{
    Mesh,
    frame::{Control, ControlAnswer, Ground},
    neighbour::{self, greet},
};
use crate::quic::ClusterLink;
use anyhow::{Context, bail};
use mimi_actors::{
    clock::APART_MS_MAX,
    membership::{Probe, View},
    wire::BText,
};
use std::time::Duration;

/// How long a node may take to say what time it is there: the answer may be wrong by so much.
const CLOCK_DEADLINE: Duration = Duration::from_secs(1);
/// How long speaking to a node at one address may take.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);

impl Mesh {
    /// Speaks to a node at an address, over a connection of its own, and says how it stands to a shard.
    pub(crate) async fn probe(&self, node: u64, address: &str, view: &View) -> Probe {
        let spoken = tokio::time::timeout(PROBE_DEADLINE, self.speak(node, address, view)).await;
        match spoken {
            Ok(Ok(probe)) => probe,
            Ok(Err(error)) => Probe::Silent {
                why: BText::clipped(&format!("{error:#}")),
            },
            Err(_) => Probe::Silent {
                why: BText::clipped("no answer in time"),
            },
        }
    }

    async fn speak(&self, node: u64, address: &str, view: &View) -> anyhow::Result<Probe> {
        let resolved = tokio::net::lookup_host(address).await?;
        let resolved = resolved.into_iter().next();
        let resolved = resolved.with_context(|| format!("the name {address} has no address"))?;
        let before = self.acknowledged();
        let link = self.endpoint().connect(resolved, node).await?;
        let theirs = match greet(&link, self.hello()).await? {
            Ok(theirs) => theirs,
            // This node does not let itself in, and says so in its own words.
            Err((Ground::Other, _)) if node == self.me() => return Ok(Probe::Belongs),
            Err((_, why)) => {
                return Ok(Probe::Stranger {
                    why: BText::clipped(&format!("it does not speak to node {}: {why}", self.me())),
                });
            }
        };
        if let Err(stranger) = self.check(node, &theirs, &before).await {
            return Ok(Probe::Stranger {
                why: BText::clipped(&stranger.to_string()),
            });
        }
        if let Some(ahead_ms) = self.clock_of(&link).await? {
            let why = format!(
                "its clock is {ahead_ms} ms ahead of the cluster's (less than zero: behind): set it, see that time \
                 synchronisation runs there, and ask again"
            );
            let why = BText::clipped(&why);
            return Ok(Probe::Stranger { why });
        }
        let has_log = theirs.reach_of(view.shard) > 0;
        Ok(match (view.has(node), has_log) {
            (true, _) => Probe::Belongs,
            (false, true) => Probe::Used,
            (false, false) if theirs.waits => Probe::Waits,
            (false, false) if theirs.reach.iter().any(|reach| *reach > 0) => Probe::Belongs,
            (false, false) => Probe::DoesNotWait,
        })
    }

    /// By how much the clock of a node is ahead of the cluster's time, where it is too much.
    async fn clock_of(&self, link: &ClusterLink) -> anyhow::Result<Option<i64>> {
        let answer = neighbour::ask(link, Control::Clock, CLOCK_DEADLINE).await?;
        let ControlAnswer::Clock { wall, .. } = answer else {
            bail!("it does not say what time it is there");
        };
        let ahead_ms = wall.0.cast_signed() - self.clock().now().0.cast_signed();
        let apart = ahead_ms.unsigned_abs() > APART_MS_MAX;
        Ok(apart.then_some(ahead_ms))
    }
}
