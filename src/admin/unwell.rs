//! What is not well with a node, as far as it knows: each a line that says what to do.

use super::ready::Ready;
use crate::{
    certificates::{Certificate, now_s},
    node::Node,
};
use mimi_actors::link::{Peer, parked::Why};
use std::sync::atomic::Ordering;

/// From which part of its limit on a log is nearly full, in percent.
const LOG_NEARLY_FULL_PERCENT: u64 = 90;

/// Looks at everything that an operator should do something about.
pub(super) fn look(node: &Node, ready: &Ready) -> Vec<String> {
    let mut found: Vec<String> = ready
        .check()
        .err()
        .iter()
        .map(ToString::to_string)
        .collect();
    for (provider, peer) in node.peers.iter() {
        if !peer.is_connected() {
            found.push(format!(
                "{provider} is not connected: what is for it waits; its row says why"
            ));
        }
        let refused = node.shards.iter().map(|shard| {
            let derived = shard.looked_at();
            let link = derived.links.outgoing(&Peer::Provider(provider.clone()));
            link.map_or(0, |link| {
                let rooms = link.parked();
                let refused = rooms.filter(|(_, parked)| matches!(parked.why, Why::Refused(_)));
                refused.count()
            })
        });
        let refused: usize = refused.sum();
        if refused > 0 {
            found.push(format!(
                "{provider} refused {refused} rooms, which wait; `mimi-node peer parked --peer {provider}` says why"
            ));
        }
    }
    let now_s = now_s();
    let certificates = node.certificates.iter();
    found.extend(certificates.filter_map(|certificate| Certificate::warning(certificate, now_s)));
    let log = node.log_figures();
    if log.bytes >= log.bytes_max / 100 * LOG_NEARLY_FULL_PERCENT {
        found.push(format!(
            "the log is nearly full ({} of {} bytes): writes will be refused; raise storage.log_bytes_max, or see what \
             keeps old entries in use",
            log.bytes, log.bytes_max
        ));
    }
    let damaged = node.scrubbed.damaged.load(Ordering::Relaxed);
    if damaged > 0 {
        found.push(format!(
            "{damaged} things at rest were found damaged since the start: the log says which; look at the disk"
        ));
    }
    found
}
