//! Requests of a client, each on a lane of its own: to the shard at home, or to the room's hub.

use super::{Session, claim, introductions, login};
use crate::peering::PeerUnavailable;
use futures::future::join_all;
use mimi_actors::{
    doors::{self, ClientAsk},
    ids::{ClientUri, ProviderId, RoomUri},
    limits::KEY_PACKAGES_PER_UPLOAD_MAX,
    machine::Millis,
    user::{
        command::{Command as UserCommand, StoredPackage, Upload},
        outcome::Answer as UserAnswer,
    },
    wire::{
        BText, BVec, Payload,
        door::{DoorRefused, HubSender, PackageRefused, Reply, Request},
        link,
        refusal::TryLater,
        room,
    },
};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Answers one request.
pub(super) async fn answer(
    session: &Arc<Session>,
    client: Option<&ClientUri>,
    request: Request,
) -> Result<Reply, DoorRefused> {
    match (request, client) {
        (Request::Enrol(enrol), _) => session.enrol(enrol).await,
        (Request::Login(login), _) => session.login(login).await,
        (_, None) => Err(DoorRefused::NotLoggedIn),
        (Request::HubSender, Some(_)) => {
            let environment = session.shards.environment();
            let (provider, signature_key) =
                (environment.provider.clone(), environment.hub_key.public());
            Ok(Reply::HubSender(HubSender {
                provider,
                signature_key,
            }))
        }
        (Request::Upload(packages), Some(client)) => upload(session, client, packages).await,
        (Request::Claim(request), Some(client)) => claim::answer(session, client, request).await,
        (Request::Room(room, request), Some(client)) => {
            ask_room(session, client, room, request).await
        }
        (Request::Introduction(ask), Some(client)) => {
            introductions::answer(session, client, ask).await
        }
    }
}

/// Checks every package on the workers, then adds them to the stock.
async fn upload(
    session: &Session,
    client: &ClientUri,
    packages: BVec<Payload, KEY_PACKAGES_PER_UPLOAD_MAX>,
) -> Result<Reply, DoorRefused> {
    let now = (session.shards.environment().clock)();
    let checks = packages
        .into_iter()
        .map(|package| check(session, client, now, package));
    let packages = join_all(checks)
        .await
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    let upload = UserCommand::Upload(Upload {
        client: client.clone(),
        packages,
    });
    match session.shards.ask_user(client.user(), upload).await {
        Ok(UserAnswer::Uploaded(results)) => Ok(Reply::Uploaded(BVec::truncated(results))),
        Ok(UserAnswer::Refused(refused)) => Err(login::user_refused(&refused)),
        Ok(_) | Err(_) => Err(login::unavailable()),
    }
}

async fn check(
    session: &Session,
    client: &ClientUri,
    now: Millis,
    package: Payload,
) -> Result<Result<StoredPackage, PackageRefused>, DoorRefused> {
    let (give, take) = oneshot::channel();
    let client = client.clone();
    let job = move || doors::check_package(package, &client, now);
    let then = |checked: Option<Result<StoredPackage, PackageRefused>>| {
        let lost = || {
            Err(PackageRefused::Invalid {
                detail: BText::clipped("it cannot be read"),
            })
        };
        drop(give.send(checked.unwrap_or_else(lost)));
    };
    let workers = &session.shards.environment().workers;
    workers
        .run(job, then)
        .map_err(|_| DoorRefused::TryLater(TryLater::BUSY))?;
    take.await.map_err(|_| login::unavailable())
}

/// Asks the room here, or its hub.
async fn ask_room(
    session: &Session,
    client: &ClientUri,
    room: RoomUri,
    request: room::Request,
) -> Result<Reply, DoorRefused> {
    let own = &session.shards.environment().provider;
    match doors::of_client(own, client, room, request)? {
        ClientAsk::Here(room, request) => {
            let caller = session.caller(client);
            let answer = session.shards.ask_room(&room, caller, request);
            Ok(Reply::Room(answer.await))
        }
        ClientAsk::Peer(hub, request) => ask_peer(session, &hub, request).await,
    }
}

/// Asks a room's hub. Nothing is queued: a hub that cannot be reached is unavailable.
async fn ask_peer(
    session: &Session,
    hub: &ProviderId,
    request: link::Request,
) -> Result<Reply, DoorRefused> {
    let unavailable = DoorRefused::TryLater(TryLater::PEER_SILENT);
    match session.peers.request(hub, request).await {
        Ok(link::Reply::Room(answer)) => Ok(Reply::Room(answer)),
        Ok(link::Reply::Refused(link::LinkRefused::TryLater(later))) => {
            Err(DoorRefused::TryLater(later))
        }
        Ok(link::Reply::Refused(refused)) => {
            tracing::warn!(%hub, %refused, "the hub did not look at a request");
            Err(unavailable)
        }
        Ok(link::Reply::Claimed(_) | link::Reply::Introduced(_) | link::Reply::Vouched(_))
        | Err(PeerUnavailable) => Err(unavailable),
    }
}
