//! All shards of the node, and how the doors ask their actors.

use super::{
    place,
    shard::{Shard, Unreachable},
};
use crate::perform::{World, answers::Answers};
use mimi_actors::{
    ids::{RoomUri, UserUri},
    machine::Ticket,
    room::{desk, follower_desk, outcome},
    user::{command as user_command, desk as user_desk, outcome as user_outcome},
    wire::event::Hash,
};
use std::sync::Arc;
use tokio::sync::oneshot;

/// When a request that got no answer in time may be sent again, in milliseconds.
pub(crate) const UNANSWERED_RETRY_AFTER_MS: u32 = 1_000;

/// The shards of this node.
#[derive(Clone)]
pub(crate) struct Shards {
    all: Arc<[Arc<Shard>]>,
    world: Arc<World>,
}

/// No answer came in time, or the actor cannot be reached. Whether the request was done is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer in time")]
pub(crate) struct Unanswered;

/// A request that is under way.
pub(crate) struct Pending<A> {
    ticket: Ticket,
    answer: oneshot::Receiver<A>,
}

impl<A> Pending<A> {
    /// Waits for the answer, as long as requests may wait.
    async fn wait(self, world: &World, waiting: &Answers<A>) -> Result<A, Unanswered> {
        let answer = tokio::time::timeout(world.request_deadline, self.answer).await;
        if answer.is_err() {
            waiting.forget(self.ticket);
        }
        answer.ok().and_then(Result::ok).ok_or(Unanswered)
    }
}

impl Shards {
    pub(crate) fn new(all: Vec<Arc<Shard>>, world: Arc<World>) -> Self {
        Self {
            all: all.into(),
            world,
        }
    }

    /// What orders are carried out with.
    pub(crate) fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// All shards.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.all.iter()
    }

    /// A shard by its number.
    pub(crate) fn get(&self, shard: u16) -> Option<&Arc<Shard>> {
        self.all.get(usize::from(shard))
    }

    /// The shard of a room.
    pub(crate) fn of_room(&self, room: &RoomUri) -> Result<&Arc<Shard>, Unanswered> {
        self.get(place(&room.to_string())).ok_or(Unanswered)
    }

    /// The shard of a user.
    pub(crate) fn of_user(&self, user: &UserUri) -> Result<&Arc<Shard>, Unanswered> {
        self.get(place(&user.to_string())).ok_or(Unanswered)
    }

    /// Puts a request to a room at this hub on its way; requests to one room keep their order.
    pub(crate) async fn begin_hub(
        &self,
        room: &RoomUri,
        input: impl FnOnce(Ticket) -> desk::Input,
    ) -> Result<Pending<outcome::Answer>, Unanswered> {
        let shard = self.of_room(room)?;
        let (ticket, answer) = self.world.rooms.open();
        let sent = match shard.hub(room).await {
            Ok(actor) => actor.send(input(ticket)).await.map_err(Unreachable::from),
            Err(error) => Err(error.into()),
        };
        self.begun(sent, ticket)?;
        Ok(Pending { ticket, answer })
    }

    /// Puts a request to a followed room on its way; requests to one room keep their order.
    pub(crate) async fn begin_follower(
        &self,
        room: &RoomUri,
        input: impl FnOnce(Ticket) -> follower_desk::Input,
    ) -> Result<Pending<outcome::Answer>, Unanswered> {
        let shard = self.of_room(room)?;
        let (ticket, answer) = self.world.rooms.open();
        let sent = match shard.follower(room).await {
            Ok(actor) => actor.send(input(ticket)).await.map_err(Unreachable::from),
            Err(error) => Err(error.into()),
        };
        self.begun(sent, ticket)?;
        Ok(Pending { ticket, answer })
    }

    fn begun(&self, sent: Result<(), Unreachable>, ticket: Ticket) -> Result<(), Unanswered> {
        sent.map_err(|error| {
            tracing::error!(%error, "a room cannot be reached");
            self.world.rooms.forget(ticket);
            Unanswered
        })
    }

    /// Waits for the answer of a room.
    pub(crate) async fn room_answer(
        &self,
        pending: Pending<outcome::Answer>,
    ) -> Result<outcome::Answer, Unanswered> {
        pending.wait(&self.world, &self.world.rooms).await
    }

    /// Asks a room at this hub; no answer in time is a refusal that says when to try again.
    pub(crate) async fn ask_hub(
        &self,
        room: &RoomUri,
        input: impl FnOnce(Ticket) -> desk::Input,
    ) -> outcome::Answer {
        let asked = async { self.room_answer(self.begin_hub(room, input).await?).await };
        asked.await.unwrap_or_else(|Unanswered| {
            let retry_after_ms = UNANSWERED_RETRY_AFTER_MS;
            outcome::Answer::Refused(outcome::Refused::Unavailable { retry_after_ms })
        })
    }

    /// Puts a command to a user on its way; commands to one user keep their order.
    pub(crate) async fn begin_user(
        &self,
        user: &UserUri,
        command: user_command::Command,
    ) -> Result<Pending<user_outcome::Answer>, Unanswered> {
        let shard = self.of_user(user)?;
        let (ticket, answer) = self.world.users.open();
        let command = Arc::new(command);
        let sent = match shard.user(user).await {
            Ok(actor) => actor
                .send(user_desk::Input::Ask { ticket, command })
                .await
                .map_err(Unreachable::from),
            Err(error) => Err(error.into()),
        };
        sent.map_err(|error| {
            tracing::error!(%error, "a user cannot be reached");
            self.world.users.forget(ticket);
            Unanswered
        })?;
        Ok(Pending { ticket, answer })
    }

    /// Waits for the answer of a user.
    pub(crate) async fn user_answer(
        &self,
        pending: Pending<user_outcome::Answer>,
    ) -> Result<user_outcome::Answer, Unanswered> {
        pending.wait(&self.world, &self.world.users).await
    }

    /// Asks a user's actor.
    pub(crate) async fn ask_user(
        &self,
        user: &UserUri,
        command: user_command::Command,
    ) -> Result<user_outcome::Answer, Unanswered> {
        self.user_answer(self.begin_user(user, command).await?)
            .await
    }

    /// One hash for each shard over everything it has folded: equal logs give equal hashes.
    pub(crate) async fn state_hashes(&self) -> Vec<(u64, Hash)> {
        let mut hashes = Vec::with_capacity(self.all.len());
        for shard in self.iter() {
            let mut parts: Vec<Vec<u8>> = Vec::new();
            let mut add = |key: String, compact: Vec<u8>| parts.extend([key.into_bytes(), compact]);
            for (room, compact) in shard.hubs.lock().await.compact().await {
                add(format!("hub {room}"), compact);
            }
            for (room, compact) in shard.followers.lock().await.compact().await {
                add(format!("follower {room}"), compact);
            }
            for (user, compact) in shard.users.lock().await.compact().await {
                add(format!("user {user}"), compact);
            }
            let derived = shard.looked_at();
            parts.push(derived.links.compact());
            let hash = Hash::of_parts(parts.iter().map(Vec::as_slice));
            hashes.push((derived.applied, hash));
        }
        hashes
    }

    /// Actors awake and asleep, over all shards.
    pub(crate) async fn counts(&self) -> (usize, usize) {
        let (mut awake, mut asleep) = (0, 0);
        for shard in self.iter() {
            let counts = [
                shard.hubs.lock().await.counts(),
                shard.followers.lock().await.counts(),
                shard.users.lock().await.counts(),
            ];
            for (up, down) in counts {
                awake += up;
                asleep += down;
            }
        }
        (awake, asleep)
    }
}
