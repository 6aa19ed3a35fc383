//! What a node looks like at one moment: gathered when somebody asks, so that nothing is counted on the way of a
//! message.

use crate::{
    admit::BoundFigures,
    certificates::now_s,
    cluster::{
        raft::{figures::GroupFigures, group::Group},
        shard::Shard,
    },
    node::{LogFigures, Node},
    quic::GateFigures,
};
use mimi_actors::link::{Peer, parked::Why};
use std::sync::atomic::{AtomicU64, Ordering};

/// A node at one moment. Its size follows from the shards and the configured peers, whatever users and peers do.
pub(crate) struct Figures {
    /// Whether it is ready for users and peers.
    pub(crate) ready: bool,
    /// What the group of each shard is doing, in order.
    pub(crate) groups: Vec<GroupFigures>,
    /// The configured peers.
    pub(crate) peers: Vec<PeerFigures>,
    /// Everything that may fill up.
    pub(crate) queues: Vec<QueueFigures>,
    /// What came to each door, by the door's name.
    pub(crate) doors: Vec<(&'static str, GateFigures)>,
    /// How the bounds stand that requests and logins meet at the doors.
    pub(crate) bounds: Vec<BoundFigures>,
    /// The log that the shards share.
    pub(crate) log: LogFigures,
    /// Whether nothing new is taken, for want of room.
    pub(crate) storage_full: bool,
    /// What the scrub has found.
    pub(crate) scrub: ScrubFigures,
    /// Each certificate by its key, and in how many seconds it ends; less than nothing when it has.
    pub(crate) certificates: Vec<(String, i64)>,
    /// KeyPackages handed out, by the log that this node has.
    pub(crate) packages_claimed: u64,
    /// What OpenMLS had against MLS objects that this node took, since the start.
    pub(crate) mls_objections: u64,
    /// How far the machine's clock is from the node's time, in milliseconds.
    pub(crate) clock_apart_ms: u64,
    /// Actors awake.
    pub(crate) actors_awake: usize,
    /// Actors asleep.
    pub(crate) actors_asleep: usize,
}

/// What the scrub has done since the start.
pub(crate) struct ScrubFigures {
    /// Bytes gone through.
    pub(crate) bytes: u64,
    /// Times that everything was gone through.
    pub(crate) passes: u64,
    /// What was found damaged.
    pub(crate) damaged: u64,
}

/// A configured peer.
pub(crate) struct PeerFigures {
    /// The provider.
    pub(crate) provider: String,
    /// Whether the connection that we dial is up.
    pub(crate) connected: bool,
    /// How far the link of each shard to it is, in order.
    pub(crate) cursors: Vec<Cursor>,
}

/// How far one shard's link to a peer is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cursor {
    /// The last item owed.
    pub(crate) last: u64,
    /// The last item acknowledged.
    pub(crate) acked: u64,
    /// Rooms of which something waits beside the link, because the peer refused it.
    pub(crate) parked_rooms: u64,
    /// Payload bytes that may be under way, as this node's lane has it.
    pub(crate) credit_bytes: u64,
    /// Payload bytes that are.
    pub(crate) under_way_bytes: u64,
}

/// Something that may fill up, and then refuses.
pub(crate) struct QueueFigures {
    /// What it is called.
    pub(crate) name: &'static str,
    /// The shard it belongs to, if it is a shard's.
    pub(crate) shard: Option<u16>,
    /// How many are in it, and how many may be.
    pub(crate) depth_and_limit: (usize, usize),
}

impl Figures {
    /// Looks at a node.
    pub(crate) async fn of(node: &Node, ready: bool) -> Self {
        let (actors_awake, actors_asleep) = node.shards.counts().await;
        let peers = node.peers.iter().map(|(provider, peer)| {
            let link = Peer::Provider(provider.clone());
            let cursors = node.shards.iter().map(|shard| {
                let (credit_bytes, under_way_bytes) = peer.credits().of(shard.id);
                Cursor {
                    credit_bytes,
                    under_way_bytes,
                    ..cursor(shard, &link)
                }
            });
            PeerFigures {
                provider: provider.to_string(),
                connected: peer.is_connected(),
                cursors: cursors.collect(),
            }
        });
        Self {
            ready,
            groups: node.groups.iter().map(Group::figures).collect(),
            peers: peers.collect(),
            queues: queues(node),
            doors: node
                .doors()
                .into_iter()
                .filter_map(|(door, figures)| Some((door, figures?)))
                .collect(),
            bounds: bounds(node),
            log: node.log_figures(),
            storage_full: node.storage_full().is_some(),
            scrub: scrub(node),
            certificates: certificates(node),
            packages_claimed: node
                .shards
                .iter()
                .map(|shard| shard.looked_at().spending.handed_out())
                .sum(),
            mls_objections: node.shards.environment().mls.terms.objections.count(),
            clock_apart_ms: node.clock.ahead_ms(node.id).map_or(0, i64::unsigned_abs),
            actors_awake,
            actors_asleep,
        }
    }
}

/// The bounds at the doors, and those of what is behind them.
fn bounds(node: &Node) -> Vec<BoundFigures> {
    let environment = node.shards.environment();
    let throttles = &environment.throttles;
    let counted = |name, refused| BoundFigures {
        name,
        taken: None,
        refused,
    };
    let behind = [
        BoundFigures {
            name: "actors_awake",
            taken: Some(environment.awake.count()),
            refused: environment.awake.refused(),
        },
        counted("peer_refusals", throttles.refusals.waits()),
        counted("peer_rooms_begun", throttles.rooms_begun.waits()),
        counted("peer_invited", throttles.invited.waits()),
    ];
    let mut bounds = node.admission.figures();
    bounds.extend(behind);
    bounds
}

fn cursor(shard: &Shard, link: &Peer) -> Cursor {
    let derived = shard.looked_at();
    let outgoing = derived.links.outgoing(link);
    outgoing.map_or(Cursor::default(), |link| Cursor {
        last: link.last().0,
        acked: link.acked().0,
        parked_rooms: link
            .parked()
            .filter(|(_, parked)| matches!(parked.why, Why::Refused(_)))
            .count() as u64,
        ..Cursor::default()
    })
}

fn scrub(node: &Node) -> ScrubFigures {
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    ScrubFigures {
        bytes: count(&node.scrubbed.bytes),
        passes: count(&node.scrubbed.passes),
        damaged: count(&node.scrubbed.damaged),
    }
}

fn certificates(node: &Node) -> Vec<(String, i64)> {
    let now_s = now_s();
    let certificates = node.certificates.iter();
    certificates
        .map(|certificate| (certificate.key.clone(), certificate.ends_at_s - now_s))
        .collect()
}

fn queues(node: &Node) -> Vec<QueueFigures> {
    let queue = |name, shard, depth_and_limit| QueueFigures {
        name,
        shard,
        depth_and_limit,
    };
    let shards = node.shards.iter();
    let mut queues: Vec<_> = shards
        .map(|shard| queue("shard", Some(shard.id), shard.queued()))
        .collect();
    let environment = node.shards.environment();
    queues.push(queue("workers", None, environment.workers.busy()));
    queues.push(queue("requests", None, node.admission.client_requests()));
    queues.push(queue("peer_requests", None, node.admission.peer_requests()));
    queues
}
