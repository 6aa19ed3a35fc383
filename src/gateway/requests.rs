//! Requests of a client, each on a lane of its own: to the shard at home, or to the room's hub.

use super::{Session, introductions, login};
use crate::peering::walk::{house, walk};
use futures::future::join_all;
use mimi_actors::{
    doors,
    ids::ClientUri,
    limits::KEY_PACKAGES_PER_UPLOAD_MAX,
    machine::Millis,
    shard_request::AskUser,
    user::{
        command::{Command as UserCommand, StoredPackage, Upload},
        outcome::Answer as UserAnswer,
    },
    way::client::OfClient,
    wire::{
        BText, BVec, Payload,
        door::{DoorRefused, HubSender, PackageRefused, Reply, Request},
        refusal::TryLater,
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
        (Request::Claim(request), Some(client)) => {
            let house = house(&session.shards);
            let key = session.device_key();
            let way = OfClient::claim(&house, client, key, request)?;
            walk(&session.shards, &session.peers, way).await
        }
        (Request::Room(room, request), Some(client)) => {
            let house = house(&session.shards);
            let way = OfClient::room(&house, session.caller(client), room, request)?;
            walk(&session.shards, &session.peers, way).await
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
    let upload = AskUser(client.user().clone(), upload);
    match session.shards.ask(upload).await {
        Ok(UserAnswer::Uploaded(results)) => match BVec::try_from(results) {
            Ok(results) => Ok(Reply::Uploaded(results)),
            // There is one for each package.
            Err(_) => Err(login::unavailable()),
        },
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
