//! The link from one shard to another of the same node: notices for users who live elsewhere.
//!
//! What is carried, and what counts as taken, is [`mimi_actors::way::notices`]'s.

use crate::cluster::{
    raft::lead::{led_here, lost},
    shard::{Shard, shards::Shards},
};
use futures::stream::{FuturesUnordered, StreamExt};
use mimi_actors::{
    kind::NotAppended,
    link,
    record::Command,
    shard_request::ShardReply,
    user::outcome::{Answer, Refused},
    way::notices::{Carrying, Next},
};
use std::{sync::Arc, time::Duration};

/// How long a notice waits before it is tried again when the other shard did not take it.
const RETRY: Duration = Duration::from_millis(500);

/// Carries notices from `from` to every other shard whenever this node leads it, until the node stops.
pub(crate) async fn carry(shards: Shards, from: Arc<Shard>) {
    let mut lead = from.lead.subscribe();
    while led_here(&mut lead).await {
        let mut watched = lead.clone();
        tokio::select! {
            () = carry_on(&shards, &from) => tokio::time::sleep(RETRY).await,
            () = lost(&mut watched) => {}
        }
    }
}

/// Carries notices until the shard takes no acknowledgement any more.
async fn carry_on(shards: &Shards, from: &Arc<Shard>) {
    let mut applied = from.applied.subscribe();
    loop {
        applied.mark_unchanged();
        let mut again = false;
        let owed = Carrying::owed(from.id, &from.looked_at().links);
        for round in owed {
            let Some(ack) = carry_round(shards, from, round).await else {
                again = true;
                continue;
            };
            if let Err(NotAppended::TryLater(_)) = from.queue_own(Command::Link(ack)).await {
                return;
            }
        }
        // What was not taken is tried again even when nothing else happens.
        let wait = if again { RETRY } else { Duration::MAX };
        if let Ok(Err(_)) = tokio::time::timeout(wait, applied.changed()).await {
            return;
        }
    }
}

/// Carries what is owed to one shard; returns what goes into the log, if anything was taken.
async fn carry_round(
    shards: &Shards,
    from: &Arc<Shard>,
    mut round: Carrying,
) -> Option<link::Command> {
    let mut under_way = FuturesUnordered::new();
    loop {
        match round.next(&**from) {
            Ok(Next::Ask(slot, request)) => match shards.begin(request).await {
                Ok(pending) => under_way.push(async move {
                    let reply = shards.answer(pending).await;
                    (slot, reply.unwrap_or(ShardReply::Nobody))
                }),
                Err(_) => {
                    round.came(slot, &ShardReply::Nobody);
                }
            },
            Ok(Next::Wait) => {
                let (slot, reply) = under_way.next().await?;
                if reply == ShardReply::User(Answer::Refused(Refused::Poisoned)) {
                    let to = round.to();
                    tracing::error!(
                        shard = to,
                        "a notice is lost: its user is frozen; see the panic above"
                    );
                }
                if !round.came(slot, &reply) && reply != ShardReply::Nobody {
                    let to = round.to();
                    tracing::warn!(
                        shard = to,
                        ?reply,
                        "a notice was not taken and will be tried again"
                    );
                }
            }
            Ok(Next::Over(ack)) => return ack,
            Err(error) => tracing::error!(shard = from.id, %error, "a notice cannot be read"),
        }
    }
}
