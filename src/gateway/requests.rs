//! Requests of a client, each on a lane of its own: what each asks of whom is [`mimi_actors::way::client`]'s.

use super::Session;
use crate::{
    admit,
    peering::{
        in_vain::claimed,
        walk::{house, walk},
    },
    perform::workers::Cause,
};
use mimi_actors::{
    ids::ClientUri,
    way::client::OfClient,
    wire::{
        claim::ClaimRequest,
        door::{DoorRefused, HubSender, Reply, Request},
        room, user,
    },
};
use std::sync::Arc;

/// Whether a request says who the connection is.
pub(super) fn greets(request: &Request) -> bool {
    matches!(request, Request::Enrol(_) | Request::Login(_))
}

/// Whether a request may stand in the queue of a room.
pub(super) fn waits(request: &Request) -> bool {
    match request {
        Request::Room(_, request) => admit::waits(request),
        Request::Verdicts(asked) => asked.wait_ms > 0,
        Request::Enrol(_)
        | Request::Login(_)
        | Request::HubSender
        | Request::Upload(_)
        | Request::Claim(_)
        | Request::User(_)
        | Request::Resolve { .. } => false,
    }
}

/// Answers one request of the device that has proved itself on this connection, if one has.
pub(super) async fn answer(
    session: &Arc<Session>,
    device: Option<&(ClientUri, [u8; 32])>,
    request: Request,
) -> Result<Reply, DoorRefused> {
    let house = house(&session.shards);
    let way = match (request, device) {
        (Request::Enrol(enrol), _) => return session.enrol(enrol).await,
        (Request::Login(login), _) => return session.login(login).await,
        (_, None) => return Err(DoorRefused::NotLoggedIn),
        (Request::HubSender, Some(_)) => {
            let environment = session.shards.environment();
            return Ok(Reply::HubSender(HubSender {
                provider: environment.provider.clone(),
                signature_key: environment.hub_key,
            }));
        }
        (Request::Upload(packages), Some((client, _))) => {
            OfClient::upload(&house, client.clone(), packages)
        }
        (Request::Claim(request), Some((client, key))) => {
            return claim(session, client, key, request).await;
        }
        (Request::Room(room, request), Some((client, _))) => {
            if let room::Request::Create(_) = request {
                let created = session.admission.create(client.user());
                created.map_err(DoorRefused::TryLater)?;
            }
            OfClient::room(&house, session.caller(client), room, request)?
        }
        (Request::Verdicts(asked), Some((client, _))) => {
            OfClient::verdicts(&house, client.clone(), asked)?
        }
        (Request::User(request), Some((client, key))) => {
            // To who has no link nothing could be told, ever.
            if let user::Request::Consents(ask) = &request
                && let Some(other) = ask.told_to()
                && other.provider() != client.provider()
                && !session.peers.knows(other.provider())
            {
                let provider = other.provider().clone();
                return Err(DoorRefused::ProviderUnknown { provider });
            }
            OfClient::user(&house, session.caller(client), *key, request)
        }
        (Request::Resolve { provider, code }, Some((client, _))) => {
            OfClient::resolve(&house, session.caller(client).origin, provider, code)
        }
    };
    let (client, _) = device.ok_or(DoorRefused::NotLoggedIn)?;
    lead(session, client, way).await
}

/// Leads a way on behalf of a client.
async fn lead(session: &Session, client: &ClientUri, way: OfClient) -> Result<Reply, DoorRefused> {
    let cause = Cause::Client(client.clone());
    walk(&session.shards, &session.peers, &cause, way).await
}

/// Claims, once it is the user's turn who may have claimed much in vain.
async fn claim(
    session: &Session,
    client: &ClientUri,
    key: &[u8; 32],
    request: ClaimRequest,
) -> Result<Reply, DoorRefused> {
    let users = u32::try_from(request.users.len()).unwrap_or(u32::MAX);
    let way = OfClient::claim(&house(&session.shards), client, Some(key), request)?;
    let in_vain = &session.admission.claims_in_vain;
    let paid = in_vain.ask(client.user(), users).await;
    let paid = paid.map_err(DoorRefused::TryLater)?;
    let answer = lead(session, client, way).await;
    let vain = match &answer {
        Ok(Reply::Claimed(response)) => claimed(response),
        Ok(_) | Err(_) => 0,
    };
    in_vain.came_of(paid, vain);
    answer
}
