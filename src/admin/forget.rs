//! What is owed to a provider that stays away, and giving it up.

use super::change::{Attempt, PATIENCE, Refusal, patiently};
use crate::node::Node;
use mimi_actors::{
    ids::{ProviderId, RoomUri},
    limits::SHARDS_MAX,
    link::{Peer, Redriven},
    shard::place,
    shard_request::AskGiveUp,
    wire::version::Level,
};
use mimi_operator::protocol::{Code, Response};

/// How much is owed, as this node knows it.
pub(super) fn owed(node: &Node, provider: &ProviderId) -> Response {
    let items = shards_owing(node, provider)
        .map(|(_, items, _)| items)
        .sum();
    Response::Owed { items }
}

/// The shards that owe something: each with how much, and a room by whose name it is found. What is owed may be of a room
/// that is elsewhere, or of none: a refill, consent.
fn shards_owing<'a>(
    node: &'a Node,
    provider: &ProviderId,
) -> impl Iterator<Item = (u16, u64, RoomUri)> + 'a {
    let peer = Peer::Provider(provider.clone());
    node.shards.iter().filter_map(move |shard| {
        let items = shard.looked_at().links.outgoing(&peer)?.items();
        let room = room_in(node, shard.id)?;
        (items > 0).then_some((shard.id, items, room))
    })
}

/// Some name of a room of this provider that lies in a shard, whether or not there is such a room.
fn room_in(node: &Node, shard: u16) -> Option<RoomUri> {
    const NAMES_TRIED_MAX: u32 = 100 * SHARDS_MAX as u32;
    let (own, shards) = (&node.shards.environment().provider, node.shards.count());
    let names = (0..NAMES_TRIED_MAX).filter_map(|name| RoomUri::new(own, &name.to_string()).ok());
    let mut there = names.filter(|room| place(&room.to_string(), shards) == shard);
    there.next()
}

/// Gives up what is owed, if it is no more than the operator was told.
pub(super) async fn forget(
    node: &Node,
    provider: &ProviderId,
    items_max: u64,
) -> Result<Response, Refusal> {
    let owing: Vec<_> = shards_owing(node, provider).collect();
    let items: u64 = owing.iter().map(|(_, items, _)| items).sum();
    if items == 0 {
        let why = format!("nothing is owed to {provider}");
        return Err(Refusal::new(Code::NothingWaits, why));
    }
    if items > items_max {
        let why = format!(
            "{items} items are owed to {provider} by now, more than {items_max}: look again, then repeat the command"
        );
        return Err(Refusal::new(Code::Refused, why));
    }
    let is_old = |id: &u16| {
        node.shards
            .get(*id)
            .is_some_and(|shard| shard.level() < Level::SECOND)
    };
    if let Some((id, ..)) = owing.iter().find(|(id, ..)| is_old(id)) {
        let why = format!(
            "shard {id} goes by the rules of release 0.1, which gives nothing up: let all nodes run this release first"
        );
        return Err(Refusal::new(Code::Refused, why));
    }
    let mut given_up = 0;
    for (_, _, room) in owing {
        given_up += give_up(node, provider, &room).await?;
    }
    Ok(Response::Forgotten { items: given_up })
}

/// Gives up what the shard of a room owes; says how much that was.
async fn give_up(node: &Node, provider: &ProviderId, room: &RoomUri) -> Result<u64, Refusal> {
    let attempt = || {
        let (shards, room, provider) = (node.shards.clone(), room.clone(), provider.clone());
        async move {
            match shards.ask(AskGiveUp(room, provider)).await {
                Ok(Redriven::TryLater(later)) => Attempt::TryLater {
                    retry_after_ms: later.after_ms,
                    code: Code::NoLeader,
                },
                Ok(given_up) => Attempt::Answered(given_up),
                Err(unanswered) => Attempt::Unanswered(unanswered),
            }
        }
    };
    match patiently(attempt, PATIENCE).await?.answer {
        Redriven::Items(items) => Ok(items),
        Redriven::StorageFull => Err(Refusal::full()),
        // The peer has it meanwhile, or an attempt before has given it up.
        Redriven::Nothing | Redriven::TryLater(_) => Ok(0),
    }
}
