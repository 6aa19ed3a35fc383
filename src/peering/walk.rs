//! Leads a way through this node: its questions go to the shards, to the peers and to the workers.
//!
//! What is asked and what is made of the answers is [`mimi_actors::way`]'s.

use super::{NotAsked, Peers};
use crate::{cluster::shard::shards::Shards, perform::workers::Cause};
use futures::stream::{FuturesUnordered, StreamExt};
use mimi_actors::{
    doors::check_package,
    ids::ClientUri,
    mls::check::claim::signed,
    shard::names::GroupName,
    user::command::StoredPackage,
    way::{Ask, Came, House, Next, Way},
    wire::{
        Payload,
        claim::ClaimRequest,
        door::PackageRefused,
        link::{LinkRefused, Reply},
        refusal::TryLater,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// What a way knows of this provider.
pub(crate) fn house(shards: &Shards) -> House {
    let environment = shards.environment();
    House {
        own: environment.provider.clone(),
        rules: environment.rules,
        later: TryLater::UNANSWERED,
        group_of: GroupName::in_group_info,
    }
}

/// Leads a way to its end, on behalf of whoever causes what it costs.
pub(crate) async fn walk<W: Way>(
    shards: &Shards,
    peers: &Peers,
    cause: &Cause,
    mut way: W,
) -> W::End {
    let mut under_way = FuturesUnordered::new();
    loop {
        match way.next() {
            Next::Ask(slot, ask) => {
                under_way.push(async move { (slot, came(shards, peers, cause, ask).await) });
            }
            Next::Wait => match under_way.next().await {
                Some((slot, came)) => way.came(slot, came),
                // A way that waits has asked somebody.
                None => std::future::pending().await,
            },
            Next::End(end) => return end,
        }
    }
}

async fn came(shards: &Shards, peers: &Peers, cause: &Cause, ask: Ask) -> Came {
    match ask {
        Ask::Shard(request) => match shards.ask_any(request).await {
            Ok(reply) => Came::Shard(reply),
            Err(_) => Came::Nothing,
        },
        Ask::Peer(provider, request) => match peers.request(&provider, request).await {
            Ok(reply) => {
                if let Reply::Refused(refused) = &reply
                    && !matches!(refused, LinkRefused::TryLater(later) if !later.is_unavailable())
                {
                    tracing::warn!(%provider, %refused, "the peer did not look at a request");
                }
                Came::Peer(reply)
            }
            Err(NotAsked::NoLink) => Came::NoLink,
            Err(NotAsked::Unavailable(_)) => Came::Nothing,
        },
        Ask::Signatures(request) => check(shards, cause, request)
            .await
            .map_or(Came::Nothing, Came::Signatures),
        Ask::Packages(client, packages) => check_packages(shards, cause, client, packages)
            .await
            .map_or(Came::Nothing, Came::Packages),
        Ask::Pause { ms } => {
            tokio::time::sleep(Duration::from_millis(ms.into())).await;
            Came::Nothing
        }
    }
}

/// Checks the signatures on a worker; `None` when none is free.
async fn check(shards: &Shards, cause: &Cause, request: ClaimRequest) -> Option<Vec<bool>> {
    on_worker(shards, cause, move || signed(&request)).await
}

/// Checks KeyPackages on a worker, one after the other; `None` when none is free.
async fn check_packages(
    shards: &Shards,
    cause: &Cause,
    client: ClientUri,
    packages: Vec<Payload>,
) -> Option<Vec<Result<StoredPackage, PackageRefused>>> {
    let now = (shards.environment().clock)();
    let mls = Arc::clone(&shards.environment().mls);
    let checks = move || {
        let each = packages.into_iter();
        each.map(|package| check_package(package, &client, now, &mls.terms))
            .collect()
    };
    on_worker(shards, cause, checks).await
}

/// Has a worker do something; `None` when none is free, or it has failed.
async fn on_worker<R: Send + 'static>(
    shards: &Shards,
    cause: &Cause,
    job: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    let (give, take) = oneshot::channel();
    // Whoever asked may have stopped waiting.
    let then = move |done: Option<R>| drop(give.send(done));
    shards
        .environment()
        .workers
        .run(cause.clone(), job, then)
        .ok()?;
    take.await.ok().flatten()
}
