//! Which shards this node leads, as one thing to watch: lanes that many shards share need not watch each shard.

use crate::cluster::{raft::lead::Lead, shard::shards::Shards};
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeSet;
use tokio::sync::watch;

/// The shards that this node leads.
pub(crate) type Led = watch::Receiver<BTreeSet<u16>>;

/// What to watch, and what keeps it true for as long as there are shards.
pub(crate) fn led(shards: &Shards) -> (Led, impl Future<Output = ()> + use<>) {
    let leads = shards.iter().map(|shard| {
        let lead = shard.lead.subscribe();
        (shard.id, lead)
    });
    let leads: Vec<_> = leads.collect();
    let (tell, led) = watch::channel(BTreeSet::new());
    let keep = async move {
        let mut changes: FuturesUnordered<_> = leads
            .into_iter()
            .map(|(shard, mut lead)| {
                // What stands now is told first.
                lead.mark_changed();
                changed(shard, lead)
            })
            .collect();
        while let Some((shard, lead)) = changes.next().await {
            let Some(mut lead) = lead else { continue };
            let here = *lead.borrow_and_update() == Lead::Here;
            tell.send_if_modified(|led| {
                if here {
                    led.insert(shard)
                } else {
                    led.remove(&shard)
                }
            });
            changes.push(changed(shard, lead));
        }
    };
    (led, keep)
}

/// Waits until a shard may be led by somebody else; nothing when it is gone.
async fn changed(
    shard: u16,
    mut lead: watch::Receiver<Lead>,
) -> (u16, Option<watch::Receiver<Lead>>) {
    let told = lead.changed().await;
    (shard, told.is_ok().then_some(lead))
}
