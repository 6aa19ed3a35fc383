//! From a committed entry to the actors, and from their outcomes to everything that follows.
//!
//! The order is the promise: every actor applies; the outcomes are recorded (index, links); then, and only then, the
//! answers go out and sessions are woken.

use super::{Shard, Unreachable, packed};
use crate::{
    cluster::log::{
        batch::{Apply, Batch, DecodeError, StateError},
        decoded,
    },
    perform::{self, AnsweredFrom},
    store::snapshot::Row,
};
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use mimi_actors::{
    host::{Applied, Poisoned, Work},
    ids::{RoomUri, UserUri},
    link,
    machine::{Desk, Millis, Position, Ticket},
    record::Command,
    room::{desk, follower_desk, outcome::Outcome},
    shard::{Done, News},
    shard_request::ShardReply,
    user::{desk as user_desk, outcome as user_outcome},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

/// The work of one entry for the actors of one kind.
type Grouped<K, D> = BTreeMap<K, Vec<Work<D>>>;

impl Shard {
    /// Applies a committed entry. Returns when everything that follows from it is under way.
    ///
    /// # Errors
    /// [`Unreachable`] when an actor is lost: its state is only in the log, so the shard must stop.
    pub(crate) async fn apply_entry(
        self: &Arc<Self>,
        index: u64,
        batch: &Batch,
    ) -> Result<(), Unreachable> {
        let decoded = decoded::of(batch)?;
        // One look: a leadership that ends meanwhile takes its tickets with it.
        let leadership = self.leadership();
        let stamp = (*decoded).as_ref().stamp;
        let time = self.looked_at().time.at(stamp);
        let mut hubs: Grouped<RoomUri, desk::Desk> = BTreeMap::new();
        let mut followers: Grouped<RoomUri, follower_desk::Desk> = BTreeMap::new();
        let mut users: Grouped<UserUri, user_desk::Desk> = BTreeMap::new();
        for (number, (command, ticket)) in (0_u32..).zip(decoded.commands(leadership)) {
            let at = Position {
                entry: index,
                command: number,
            };
            match command {
                Command::Hub(room, command) => group(&mut hubs, room, at, command, ticket),
                Command::Follower(room, command) => {
                    group(&mut followers, room, at, command, ticket)
                }
                Command::User(user, command) => group(&mut users, user, at, command, ticket),
                Command::Link(_) | Command::Level(_) => {}
            }
        }
        // The entry comes first: whoever is woken by what follows reads it.
        self.entries.push(index, batch.bytes().len(), &decoded);
        let mut done: BTreeMap<u32, Done> = BTreeMap::new();
        let mut orders: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
        let (hub_work, follower_work, user_work) = futures::try_join!(
            async { apply_all(&mut *self.hubs.lock().await, time, hubs).await },
            async { apply_all(&mut *self.followers.lock().await, time, followers).await },
            async { apply_all(&mut *self.users.lock().await, time, users).await },
        )?;
        for (room, numbers, applied) in hub_work {
            done.extend(
                numbers
                    .into_iter()
                    .zip(applied.outcomes.into_iter().map(room_done)),
            );
            orders.push(later(self, room, applied.effects, perform::hub::perform));
        }
        for (room, numbers, applied) in follower_work {
            done.extend(
                numbers
                    .into_iter()
                    .zip(applied.outcomes.into_iter().map(room_done)),
            );
            orders.push(later(
                self,
                room,
                applied.effects,
                perform::follower::perform,
            ));
        }
        for (user, numbers, applied) in user_work {
            done.extend(
                numbers
                    .into_iter()
                    .zip(applied.outcomes.into_iter().map(user_done)),
            );
            orders.push(later(self, user, applied.effects, perform::user::perform));
        }
        let commands = (0_u32..).zip(decoded.commands(leadership));
        let done = commands
            .map(|(number, (command, _))| (command, done.remove(&number).unwrap_or(Done::Nothing)));
        let mut news = self
            .derived
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .record(index, stamp, self.environment.shards, done);
        orders.into_iter().for_each(|carry_out| carry_out());
        let redriven = std::mem::take(&mut news.redriven);
        for (ticket, redriven) in redrives(decoded.commands(leadership)).zip(redriven) {
            if let Some(ticket) = ticket {
                self.waiting.give(ticket, ShardReply::Redriven(redriven));
            }
        }
        self.tell(news, time);
        self.applied.send_replace(index);
        Ok(())
    }

    /// Rings the wakers of the clients of this node, and tells the operator what was refused.
    fn tell(&self, news: News, time: Millis) {
        let wakers = &self.environment().wakers;
        for room in &news.rooms {
            self.watchers.wake(room);
        }
        for client in &news.users {
            wakers.wake(client, crate::cluster::feeds::wake::Wake::user);
        }
        for (room, client, run) in news.verdicts {
            wakers.wake(&client, |wake| wake.verdict(&room, run));
        }
        for client in &news.inbox_full {
            tracing::warn!(%client, "an inbox is full; a notice was not stored");
        }
        if let Some(level) = news.level {
            tracing::info!(shard = self.id, %level, "the shard goes on by the rules of this release");
        }
        let environment = self.environment();
        for (peer, items) in &news.refused {
            let age_ms = self.time().0.saturating_sub(time.0);
            environment.refusals.use_up(peer, *items, age_ms);
        }
        for refused in &news.acks_refused {
            tracing::warn!(shard = self.id, %refused, "an acknowledgement was not taken");
        }
    }
}

/// Hands committed entries to the shard's actors.
pub(crate) struct ApplyToActors(pub(crate) Arc<Shard>);

impl Apply for ApplyToActors {
    fn decode(&self, bytes: Bytes) -> Result<Batch, DecodeError> {
        decoded::decode(bytes)
    }

    fn apply(&self, index: u64, batch: Batch) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(error) = self.0.apply_entry(index, &batch).await {
                // An actor's state is only in the log now: the group stops, and a restart replays it.
                tracing::error!(shard = self.0.id, index, %error, "an entry cannot be applied");
                std::panic::panic_any(error.to_string());
            }
        })
    }

    fn pack(&self) -> BoxFuture<'_, Result<Vec<Row>, StateError>> {
        Box::pin(self.0.pack())
    }

    fn unpack(&self, rows: Vec<Row>) -> BoxFuture<'_, Result<(), StateError>> {
        Box::pin(self.0.unpack(rows))
    }

    fn pointed_in(&self, rows: &[Row], below: u64) -> Result<BTreeSet<u64>, StateError> {
        packed::pointed_in(rows, below)
    }

    fn pointed_at(&self, below: u64) -> BoxFuture<'_, Result<BTreeSet<u64>, StateError>> {
        Box::pin(self.0.pointed_at(below))
    }
}

/// Who waits for each redrive of an entry, in order.
fn redrives<'a>(
    commands: impl Iterator<Item = (&'a Command, Option<Ticket>)>,
) -> impl Iterator<Item = Option<Ticket>> {
    let redrive =
        |command: &Command| matches!(command, Command::Link(link::Command::Redrive { .. }));
    commands.filter_map(move |(command, ticket)| redrive(command).then_some(ticket))
}

/// A frozen room: its host has said so.
fn room_done(applied: Result<Outcome, Poisoned>) -> Done {
    applied.map_or(Done::Nothing, Done::Room)
}

/// A frozen user: its host has said so.
fn user_done(applied: Result<user_outcome::Outcome, Poisoned>) -> Done {
    applied.map_or(Done::Nothing, Done::User)
}

fn group<K: Ord + Clone, D: Desk>(
    grouped: &mut Grouped<K, D>,
    key: &K,
    at: Position,
    command: &Arc<mimi_actors::host::CommandOf<D>>,
    ticket: Option<Ticket>,
) {
    let work = Work {
        at,
        command: Arc::clone(command),
        ticket,
    };
    match grouped.get_mut(key) {
        Some(group) => group.push(work),
        None => drop(grouped.insert(key.clone(), vec![work])),
    }
}

/// One message to each actor, all at once; with each, the numbers of its commands.
async fn apply_all<K: Ord + Clone, D: Desk>(
    directory: &mut super::directory::Directory<K, D>,
    time: Millis,
    grouped: Grouped<K, D>,
) -> Result<Vec<(K, Vec<u32>, Applied<D>)>, Unreachable>
where
    D::Fold: Default,
{
    let mut actors = Vec::with_capacity(grouped.len());
    for (key, work) in grouped {
        let actor = directory.wake(&key).await?;
        let numbers: Vec<u32> = work.iter().map(|work| work.at.command).collect();
        actors.push((key, numbers, actor, work));
    }
    let applying = actors
        .into_iter()
        .map(|(key, numbers, actor, work)| async move {
            Ok((key, numbers, actor.apply(time, work).await?))
        });
    join_all(applying).await.into_iter().collect()
}

/// The orders of one actor, to be carried out once the outcomes are recorded.
fn later<K: Send + 'static, E: Send + 'static>(
    shard: &Arc<Shard>,
    key: K,
    effects: Vec<E>,
    perform: fn(&Arc<Shard>, &K, E, AnsweredFrom),
) -> Box<dyn FnOnce() + Send> {
    let shard = Arc::clone(shard);
    Box::new(move || {
        effects
            .into_iter()
            .for_each(|effect| perform(&shard, &key, effect, AnsweredFrom::Log))
    })
}
