//! The rooms of which something waits beside the link to a provider.

use crate::node::Node;
use mimi_actors::{
    ids::{ProviderId, RoomUri},
    link::{
        Peer,
        parked::{Parked, Why},
    },
};
use mimi_operator::protocol::{ParkedRow, Response};

/// Rooms in one listing, at most.
const ROWS_MAX: usize = 1_000;

/// Lists them, as this node knows them: those that were refused first.
pub(super) fn list(node: &Node, only: Option<&ProviderId>) -> Response {
    let mut rooms = Vec::new();
    for shard in node.shards.iter() {
        let derived = shard.looked_at();
        for (peer, link) in derived.links.peers() {
            let Peer::Provider(provider) = peer else {
                continue;
            };
            if only.is_none_or(|only| only == provider) {
                let rows = link.parked();
                rooms.extend(rows.map(|(room, parked)| row(provider, room, parked)));
            }
        }
    }
    let total = rooms.len();
    rooms.sort_by(|a, b| {
        let key = |row: &ParkedRow| (row.refused.is_none(), row.provider.clone());
        key(a).cmp(&key(b)).then_with(|| a.room.cmp(&b.room))
    });
    rooms.truncate(ROWS_MAX);
    Response::Parked { rooms, total }
}

fn row(provider: &ProviderId, room: &RoomUri, parked: &Parked) -> ParkedRow {
    ParkedRow {
        provider: provider.clone(),
        room: room.clone(),
        items: parked.items(),
        refused: match &parked.why {
            Why::Refused(why) => Some(why.to_string()),
            Why::Behind => None,
        },
        lost: parked.lost(),
    }
}
