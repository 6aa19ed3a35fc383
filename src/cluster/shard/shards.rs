//! All shards of the node, and how the doors ask their actors.
//!
//! Where a request goes, and what the leader of its shard does with it, is [`mimi_actors::way`]'s.

use super::{Shard, Unreachable, actors::Kept, directory::WakeError};
use crate::{
    cluster::{
        mesh::{Answering, Mesh},
        raft::lead::Lead,
    },
    perform::{AnsweredFrom, Environment},
};
use futures::{FutureExt, future::BoxFuture};
use mimi_actors::{
    ids::{RoomUri, UserUri},
    machine::Ticket,
    record::Command,
    room::{desk, follower_desk, hub},
    shard::names,
    shard_request::{Asked, ShardReply, ShardRequest},
    user::{desk as user_desk, fold as user},
    way::{
        leader::{self, Taken},
        route::{Route, is_lost, route, wait_ms_max},
    },
    wire::{self, answer::Answer, event::Hash, version::Level},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{oneshot, watch};

/// The shards of this node.
#[derive(Clone)]
pub(crate) struct Shards {
    all: Arc<[Arc<Shard>]>,
    environment: Arc<Environment>,
    /// The way to the other nodes, where there are any.
    mesh: Option<Arc<Mesh>>,
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// Nobody that this node can ask leads the shard: nothing was done.
    #[error("shard {shard} has no leader that can be asked")]
    NoLeader {
        /// The shard.
        shard: u16,
    },
    /// Whoever led the shard leads no longer, or could not answer. Whether it was done is not known.
    #[error("the leader changed before it answered")]
    Lost,
    /// The deadline is over. Whether it was done is not known.
    #[error("no answer within {waited_ms} ms")]
    Late {
        /// How long it was waited for, in milliseconds.
        waited_ms: u64,
    },
    /// The actor on this node cannot be reached; the log says why. Nothing was done.
    #[error("the actor cannot be reached")]
    Unreachable,
}

impl Unanswered {
    /// The deadline was this.
    fn late(deadline: Duration) -> Self {
        let waited_ms = millis(deadline);
        Self::Late { waited_ms }
    }

    /// Whether the request may have been done all the same.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Lost | Self::Late { .. })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A request that is under way.
pub(crate) struct Pending {
    answer: oneshot::Receiver<ShardReply>,
    place: Place,
}

/// Where a request is answered.
enum Place {
    /// By an actor of this node, which knows who asks by a ticket.
    Here(Arc<Shard>, Ticket),
    /// At the node that led when it was asked; and who leads now.
    At(u64, watch::Receiver<Lead>),
}

impl Pending {
    /// Waits for the answer, as long as requests may wait.
    async fn wait(self, deadline: Duration) -> Result<ShardReply, Unanswered> {
        let Self { answer, place } = self;
        match place {
            Place::Here(shard, ticket) => {
                let answer = tokio::time::timeout(deadline, answer).await;
                if answer.is_err() {
                    shard.waiting.forget(ticket);
                }
                let answer = answer.map_err(|_| Unanswered::late(deadline))?;
                answer.map_err(|_| Unanswered::Lost)
            }
            Place::At(node, mut lead) => {
                let answered = async {
                    tokio::select! {
                        biased;
                        answer = answer => answer.ok(),
                        _ = lead.wait_for(|lead| is_lost(node, lead)) => None,
                    }
                };
                let answer = tokio::time::timeout(deadline, answered).await;
                let answer = answer.map_err(|_| Unanswered::late(deadline))?;
                let answer = answer.filter(|answer| *answer != ShardReply::Nobody);
                answer.ok_or(Unanswered::Lost)
            }
        }
    }
}

impl Shards {
    pub(crate) fn new(
        all: Vec<Arc<Shard>>,
        environment: Arc<Environment>,
        mesh: Option<Arc<Mesh>>,
    ) -> Self {
        Self {
            all: all.into(),
            environment,
            mesh,
        }
    }

    /// What orders are carried out with.
    pub(crate) fn environment(&self) -> &Arc<Environment> {
        &self.environment
    }

    /// All shards.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Shard>> {
        self.all.iter()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u16 {
        self.environment.shards
    }

    /// The shard that a room or user belongs to, by its URI.
    fn place(&self, uri: &str) -> u16 {
        mimi_actors::shard::place(uri, self.count())
    }

    /// A shard by its number.
    pub(crate) fn get(&self, shard: u16) -> Option<&Arc<Shard>> {
        self.all.get(usize::from(shard))
    }

    /// The shard of a room.
    pub(crate) fn of_room(&self, room: &RoomUri) -> Result<&Arc<Shard>, Unanswered> {
        self.get(self.place(&room.to_string()))
            .ok_or(Unanswered::Unreachable)
    }

    /// The shard of a user.
    pub(crate) fn of_user(&self, user: &UserUri) -> Result<&Arc<Shard>, Unanswered> {
        self.get(self.place(&user.to_string()))
            .ok_or(Unanswered::Unreachable)
    }

    /// Puts a request on its way to the actors of its shard, wherever that is led; those to one actor keep their order.
    pub(crate) async fn begin(&self, request: ShardRequest) -> Result<Pending, Unanswered> {
        self.begin_after(request, 0).await
    }

    /// Begins with a request that was passed on so often before.
    async fn begin_after(&self, request: ShardRequest, hops: u8) -> Result<Pending, Unanswered> {
        let deadline_ms = millis(self.environment.request_deadline);
        let request = request.waiting_at_most(wait_ms_max(deadline_ms));
        let shard = self.get(self.place(&request.whose()));
        let shard = shard.ok_or(Unanswered::Unreachable)?;
        let lead = *shard.lead.borrow();
        let nobody = Unanswered::NoLeader { shard: shard.id };
        match (route(lead, hops), &self.mesh) {
            (Route::Here, _) => take(shard, request).await,
            // A node of release 0.1 has no word for it, and keeps no names.
            (Route::PassOn(node), Some(mesh))
                if matches!(request, ShardRequest::Name(..))
                    && mesh.level_of(node) == Some(Level::FIRST) =>
            {
                let (give, answer) = oneshot::channel();
                let nobodys = ShardReply::Named(names::Taken::Nobodys);
                // Whoever waits is the one that is told.
                drop(give.send(nobodys));
                let place = Place::At(node, shard.lead.subscribe());
                Ok(Pending { answer, place })
            }
            (Route::PassOn(node), Some(mesh)) => {
                let answer = mesh.forward(node, shard.id, request);
                Ok(Pending {
                    answer: answer.map_err(|_| nobody)?,
                    place: Place::At(node, shard.lead.subscribe()),
                })
            }
            (Route::PassOn(_), None) | (Route::NoLeader, _) => Err(nobody),
        }
    }

    /// Waits for the answer to a request that is on its way.
    pub(crate) async fn answer(&self, pending: Pending) -> Result<ShardReply, Unanswered> {
        pending.wait(self.environment.request_deadline).await
    }

    /// Asks a shard, wherever it is led.
    pub(crate) async fn ask_any(&self, request: ShardRequest) -> Result<ShardReply, Unanswered> {
        self.answer(self.begin(request).await?).await
    }

    /// Asks a shard, wherever it is led, what has one kind of answer.
    pub(crate) async fn ask<R: Asked>(&self, request: R) -> Result<R::Answer, Unanswered> {
        let reply = self.ask_any(request.into_request()).await?;
        R::read(reply).ok_or(Unanswered::Lost)
    }

    /// Asks an actor of a shard that this node leads, for another node that does not. What is returned waits for the
    /// answer.
    pub(crate) async fn asked(
        &self,
        request: ShardRequest,
    ) -> impl Future<Output = ShardReply> + use<> {
        let deadline = self.environment.request_deadline;
        let begun = self.begin_after(request, 1).await;
        async move {
            match begun {
                Ok(pending) => pending.wait(deadline).await.unwrap_or(ShardReply::Nobody),
                Err(_) => ShardReply::Nobody,
            }
        }
    }

    /// One hash for each shard over everything it has folded: equal logs give equal hashes.
    pub(crate) async fn state_hashes(&self) -> Vec<(u64, Hash)> {
        let mut hashes = Vec::with_capacity(self.all.len());
        for shard in self.iter() {
            let all = shard.actors.compact().await.into_iter();
            let mut parts: Vec<Vec<u8>> = all
                .flat_map(|(who, compact)| [who.into_bytes(), compact])
                .collect();
            let derived = shard.looked_at();
            parts.push(derived.links.compact());
            // What a shard of release 0.1 does not have is not in its hash.
            if !derived.names.is_empty() {
                parts.push(wire::canonical(&derived.names).to_vec());
            }
            let hash = Hash::of_parts(parts.iter().map(Vec::as_slice));
            hashes.push((derived.applied, hash));
        }
        hashes
    }

    /// Actors awake and asleep, over all shards.
    pub(crate) async fn counts(&self) -> (usize, usize) {
        let (mut awake, mut asleep) = (0, 0);
        for shard in self.iter() {
            let (up, down) = shard.actors.counts().await;
            awake += up;
            asleep += down;
        }
        (awake, asleep)
    }
}

/// Has a request taken by the actors of a shard that this node leads.
async fn take(shard: &Arc<Shard>, request: ShardRequest) -> Result<Pending, Unanswered> {
    let (ticket, answer) = shard.waiting.open();
    let mut handing = Handing {
        shard,
        ticket,
        ends_well: false,
    };
    let taken = {
        let now = (shard.environment().clock)();
        leader::take(request, ticket, &shard.looked_at(), now)
    };
    carry_out(shard, taken, ticket).await?;
    handing.ends_well = true;
    let place = Place::Here(Arc::clone(shard), ticket);
    Ok(Pending { answer, place })
}

/// A request on its way to an actor. Nobody will answer it if it does not get there, also because it was given up halfway.
struct Handing<'a> {
    shard: &'a Shard,
    ticket: Ticket,
    ends_well: bool,
}

impl Drop for Handing<'_> {
    fn drop(&mut self) {
        if !self.ends_well {
            self.shard.waiting.forget(self.ticket);
        }
    }
}

/// Does what the leader does with a request; its answer goes to the ticket.
async fn carry_out(shard: &Arc<Shard>, taken: Taken, ticket: Ticket) -> Result<(), Unanswered> {
    let sent = match taken {
        Taken::Hub(room, input) => shard.hand::<desk::Desk>(&room, input).await,
        Taken::Follower(room, input) => shard.hand::<follower_desk::Desk>(&room, input).await,
        Taken::User(user, input) => shard.hand::<user_desk::Desk>(&user, input).await,
        Taken::DeviceKey(client) => {
            let user = client.user().clone();
            let key = move |fold: &user::Fold| leader::device_key(fold, &client);
            look::<user_desk::Desk>(shard, ticket, &user, key).await
        }
        Taken::Knows(room, provider) => {
            let knows = move |fold: &hub::Fold| leader::knows(fold, &provider);
            look::<desk::Desk>(shard, ticket, &room, knows).await
        }
        Taken::Answered(reply) => {
            shard.waiting.give(ticket, reply);
            Ok(())
        }
        Taken::Log(command) => {
            if let Err(refused) = shard.queue(Command::Link(command), Some(ticket)) {
                let redriven = ShardReply::Redriven(refused.into());
                shard.waiting.give(ticket, redriven);
            }
            Ok(())
        }
        Taken::Name(take) => {
            if let Err(refused) = shard.queue(Command::Name(take), Some(ticket)) {
                let refused = Answer::Refused(refused.into());
                shard.waiting.give(ticket, ShardReply::Room(refused));
            }
            Ok(())
        }
        Taken::LogOwn(command) => {
            let queued = shard.queue_own(Command::Link(command)).await;
            queued.map_err(|_| Unanswered::NoLeader { shard: shard.id })?;
            shard.waiting.give(ticket, ShardReply::Done);
            Ok(())
        }
    };
    sent.map_err(|error| {
        if matches!(error, Unreachable::Wake(WakeError::Crowded { .. })) {
            // Also many that are really there: who asks comes again, and some will sleep by then.
            tracing::debug!(shard = shard.id, %error, "a request has to come again");
        } else {
            tracing::error!(shard = shard.id, %error, "an actor cannot be reached");
        }
        Unanswered::Unreachable
    })
}

/// Gives the answer that a look at an actor gives, once it is confirmed that this node still leads.
async fn look<D: Kept>(
    shard: &Arc<Shard>,
    ticket: Ticket,
    key: &D::Key,
    look: impl FnOnce(&D::Fold) -> ShardReply + Send + 'static,
) -> Result<(), Unreachable> {
    let reply = shard.look::<D, _>(key, look).await?;
    shard.answer_ticket(ticket, reply, AnsweredFrom::Memory);
    Ok(())
}

impl Answering for Shards {
    fn asked(&self, request: ShardRequest) -> BoxFuture<'_, BoxFuture<'static, ShardReply>> {
        Self::asked(self, request).map(FutureExt::boxed).boxed()
    }

    fn level(&self) -> Level {
        let levels = self.iter().map(|shard| shard.level());
        levels.max().unwrap_or_default()
    }
}
