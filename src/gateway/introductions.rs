//! Introduction codes of a client's user, and those that it was given.
//!
//! Source: transport requirements, section 7.3.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is no answer to the request is refused alike"
)]

use super::{Session, login};
use crate::{cluster::shard::shards::Shards, directory};
use mimi_actors::{
    ids::{ClientUri, ProviderId},
    user::{command::Command, introductions, introductions::Introduction, outcome::Answer},
    wire::{
        door::{DoorRefused, Reply},
        joining::{Introduced, IntroductionAsk, MadeCode},
        link,
        refusal::TryLater,
    },
};

/// Answers a request about introduction codes.
pub(super) async fn answer(
    session: &Session,
    client: &ClientUri,
    ask: IntroductionAsk,
) -> Result<Reply, DoorRefused> {
    let own = &session.shards.environment().provider;
    let introduced = match ask {
        IntroductionAsk::Create { lifetime_ms } => create(session, client, lifetime_ms).await?,
        IntroductionAsk::List => ask_own(session, client, Introduction::List).await?,
        IntroductionAsk::Revoke(id) => ask_own(session, client, Introduction::Revoke(id)).await?,
        IntroductionAsk::Resolve { provider, code } if provider == *own => {
            resolve(&session.shards, own, &code).await
        }
        IntroductionAsk::Resolve { provider, code } => {
            let request = link::Request::Resolve(code);
            match session.peers.request(&provider, request).await {
                Ok(link::Reply::Introduced(introduced)) => of_peer(&provider, introduced),
                Ok(_) | Err(_) => Introduced::TryLater(TryLater::PEER_SILENT),
            }
        }
    };
    Ok(Reply::Introduced(introduced))
}

/// Answers which user of this provider made a code that `peer` shows.
pub(crate) async fn resolve(shards: &Shards, peer: &ProviderId, code: &[u8]) -> Introduced {
    let Some(user) = introductions::user_of(&shards.environment().provider, code) else {
        return Introduced::NotAuthorized;
    };
    let what = Introduction::Resolve {
        peer: peer.clone(),
        hash: introductions::hash(code),
    };
    match shards.ask_user(&user, Command::Introduction(what)).await {
        Ok(Answer::Introduced(introduced)) => introduced,
        Ok(_) | Err(_) => Introduced::TryLater(TryLater::UNANSWERED),
    }
}

async fn create(
    session: &Session,
    client: &ClientUri,
    lifetime_ms: Option<u64>,
) -> Result<Introduced, DoorRefused> {
    let code = introductions::code(client.user(), directory::random());
    // Its end is compared with the time of the user's shard.
    let shard = session.shards.of_user(client.user());
    let now = shard.map_or_else(
        |_| (session.shards.environment().clock)(),
        |shard| shard.time(),
    );
    let what = Introduction::Keep {
        hash: introductions::hash(&code),
        not_after: lifetime_ms.map(|lifetime_ms| now.plus(lifetime_ms)),
    };
    match ask_user(session, client, what).await? {
        Answer::IntroductionKept(id) => Ok(Introduced::Created(MadeCode {
            id,
            code: code.into(),
        })),
        Answer::Introduced(refused) => Ok(refused),
        _ => Err(login::unavailable()),
    }
}

async fn ask_own(
    session: &Session,
    client: &ClientUri,
    what: Introduction,
) -> Result<Introduced, DoorRefused> {
    match ask_user(session, client, what).await? {
        Answer::Introduced(introduced) => Ok(introduced),
        _ => Err(login::unavailable()),
    }
}

async fn ask_user(
    session: &Session,
    client: &ClientUri,
    what: Introduction,
) -> Result<Answer, DoorRefused> {
    let command = Command::Introduction(what);
    match session.shards.ask_user(client.user(), command).await {
        Ok(Answer::Refused(refused)) => Err(login::user_refused(&refused)),
        Ok(answer) => Ok(answer),
        Err(_) => Err(login::unavailable()),
    }
}

/// A peer speaks of its own users only.
fn of_peer(peer: &ProviderId, introduced: Introduced) -> Introduced {
    match introduced {
        Introduced::Resolved(user) if user.provider() != peer => Introduced::NotAuthorized,
        other => other,
    }
}
