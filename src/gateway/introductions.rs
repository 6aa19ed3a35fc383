//! Introduction codes of a client's user, and those that it was given.
//!
//! Source: transport requirements, section 7.3.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is no answer to the request is refused alike"
)]

use super::{Session, login};
use crate::{
    directory,
    peering::walk::{house, walk},
};
use mimi_actors::{
    ids::ClientUri,
    shard_request::AskUser,
    user::{command::Command, introductions, introductions::Introduction, outcome::Answer},
    way::client::OfClient,
    wire::{
        door::{DoorRefused, Reply},
        joining::{Introduced, IntroductionAsk, MadeCode},
    },
};

/// Answers a request about introduction codes.
pub(super) async fn answer(
    session: &Session,
    client: &ClientUri,
    ask: IntroductionAsk,
) -> Result<Reply, DoorRefused> {
    let introduced = match ask {
        IntroductionAsk::Create { lifetime_ms } => create(session, client, lifetime_ms).await?,
        IntroductionAsk::List => ask_own(session, client, Introduction::List).await?,
        IntroductionAsk::Revoke(id) => ask_own(session, client, Introduction::Revoke(id)).await?,
        IntroductionAsk::Resolve { provider, code } => {
            let way = OfClient::resolve(&house(&session.shards), provider, code);
            return walk(&session.shards, &session.peers, way).await;
        }
    };
    Ok(Reply::Introduced(introduced))
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
    let asked = AskUser(client.user().clone(), command);
    match session.shards.ask(asked).await {
        Ok(Answer::Refused(refused)) => Err(login::user_refused(&refused)),
        Ok(answer) => Ok(answer),
        Err(_) => Err(login::unavailable()),
    }
}
