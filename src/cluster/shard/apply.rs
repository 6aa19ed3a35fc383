//! From a committed entry to the actors, and from their outcomes to everything that follows.
//!
//! The order is the promise: every actor applies; the outcomes are recorded (index, links); then, and only then, the
//! answers go out and sessions are woken.

use super::{Shard, Unreachable, actors::Kept, packed};
use crate::{
    cluster::log::{
        batch::{Apply, Batch, DecodeError, StateError},
        decoded,
    },
    perform::{self, AnsweredFrom, Performed},
    store::snapshot::Row,
};
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use mimi_actors::{
    host::{Applied, OfEntry, Work},
    kind::Kind,
    link,
    machine::{CommandOf, Millis, Position, Ticket},
    record::Command,
    room::{desk, follower_desk},
    shard::{Done, News},
    shard_request::ShardReply,
    user::desk as user_desk,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

/// The work of one entry for the actors of one kind.
type Grouped<D> = BTreeMap<<D as Kind>::Key, Vec<Work<D>>>;

/// What an entry did to one actor, and the numbers of the actor's commands in it.
struct Did<D: Kind> {
    key: D::Key,
    numbers: Vec<u32>,
    applied: Applied<D>,
}

/// What follows from an entry: the outcome of each command by its number, and orders that are carried out once those are
/// recorded.
#[derive(Default)]
struct Follows {
    done: BTreeMap<u32, Done>,
    orders: Vec<Box<dyn FnOnce() + Send>>,
}

impl Follows {
    fn take<D: Performed>(&mut self, shard: &Arc<Shard>, all: Vec<Did<D>>) {
        for Did {
            key,
            numbers,
            applied,
        } in all
        {
            // The host of a frozen actor has said so.
            let done = applied.outcomes.into_iter();
            let done = done.map(|outcome| outcome.map_or(Done::Nothing, D::done));
            self.done.extend(numbers.into_iter().zip(done));
            let shard = Arc::clone(shard);
            self.orders.push(Box::new(move || {
                for effect in applied.effects {
                    perform::perform::<D>(&shard, &key, effect, AnsweredFrom::Log);
                }
            }));
        }
    }
}

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
        let (time, level) = {
            let derived = self.looked_at();
            (derived.time.at(stamp), derived.level)
        };
        let mut hubs: Grouped<desk::Desk> = BTreeMap::new();
        let mut followers: Grouped<follower_desk::Desk> = BTreeMap::new();
        let mut users: Grouped<user_desk::Desk> = BTreeMap::new();
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
                Command::Link(_) | Command::Level(_) | Command::Name(_) => {}
            }
        }
        // The entry comes first: whoever is woken by what follows reads it.
        self.entries.push(index, batch.bytes().len(), &decoded);
        let entry = OfEntry { time, level };
        let mut follows = Follows::default();
        let (hubs, followers, users) = futures::try_join!(
            self.apply_to(entry, hubs),
            self.apply_to(entry, followers),
            self.apply_to(entry, users),
        )?;
        follows.take(self, hubs);
        follows.take(self, followers);
        follows.take(self, users);
        let Follows { mut done, orders } = follows;
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
        let names = std::mem::take(&mut news.names);
        for (ticket, taken) in names_taken(decoded.commands(leadership)).zip(names) {
            if let Some(ticket) = ticket {
                self.waiting.give(ticket, ShardReply::Named(taken));
            }
        }
        for (ticket, redriven) in redrives(decoded.commands(leadership)).zip(redriven) {
            if let Some(ticket) = ticket {
                self.waiting.give(ticket, ShardReply::Redriven(redriven));
            }
        }
        self.tell(news, time);
        self.applied.send_replace(index);
        Ok(())
    }

    /// One message to each actor, all at once; with each, the numbers of its commands.
    async fn apply_to<D: Kept>(
        &self,
        entry: OfEntry,
        grouped: Grouped<D>,
    ) -> Result<Vec<Did<D>>, Unreachable> {
        let mut actors = Vec::with_capacity(grouped.len());
        if !grouped.is_empty() {
            let mut directory = self.actors.of::<D>().lock().await;
            for (key, work) in grouped {
                let actor = directory.wake(&key).await?;
                actors.push((key, actor, work));
            }
        }
        // A look at who is there does not wait for what they do.
        let applying = actors.into_iter().map(|(key, actor, work)| async move {
            let numbers = work.iter().map(|work| work.at.command).collect();
            let applied = actor.apply(entry, work).await?;
            Ok(Did {
                key,
                numbers,
                applied,
            })
        });
        join_all(applying).await.into_iter().collect()
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
            environment.throttles.refusals.use_up(peer, *items, age_ms);
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

/// Who waits for each redrive of an entry, and each end of what is owed, in order.
fn redrives<'a>(
    commands: impl Iterator<Item = (&'a Command, Option<Ticket>)>,
) -> impl Iterator<Item = Option<Ticket>> {
    let redrive = |command: &Command| {
        matches!(
            command,
            Command::Link(link::Command::Redrive { .. } | link::Command::GiveUp { .. })
        )
    };
    commands.filter_map(move |(command, ticket)| redrive(command).then_some(ticket))
}

/// Who waits for each name of a group that an entry takes, in order.
fn names_taken<'a>(
    commands: impl Iterator<Item = (&'a Command, Option<Ticket>)>,
) -> impl Iterator<Item = Option<Ticket>> {
    let takes = |command: &Command| matches!(command, Command::Name(_));
    commands.filter_map(move |(command, ticket)| takes(command).then_some(ticket))
}

fn group<D: Kind>(
    grouped: &mut Grouped<D>,
    key: &D::Key,
    at: Position,
    command: &Arc<CommandOf<D>>,
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
