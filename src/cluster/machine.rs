//! From a committed entry to the actors, and from their outcomes to everything that follows.
//!
//! The order is the promise: every actor applies; the outcomes are recorded (index, links); then, and only then, the
//! answers go out and sessions are woken.

use super::{
    batch::Batch,
    decoded,
    shard::{Derived, Shard, Unreachable},
};
use crate::perform;
use futures::future::join_all;
use mimi_actors::{
    host::{Applied, Poisoned, Work},
    ids::{ClientUri, RoomUri, UserUri},
    link::{Peer, outgoing::Owed, submissions::SubmitRun},
    machine::{Desk, Millis, Position, Ticket},
    record::Command,
    room::{
        desk, follower_desk,
        outcome::{Outcome, UserNotice},
    },
    user::{desk as user_desk, outcome as user_outcome},
    wire::event::VerdictRun,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

/// The work of one entry for the actors of one kind.
type Grouped<K, D> = BTreeMap<K, Vec<Work<D>>>;

/// What became of one command.
enum Done {
    Room(Result<Outcome, Poisoned>),
    User(Result<user_outcome::Outcome, Poisoned>),
}

/// What follows for the clients of this node.
#[derive(Default)]
struct Rings {
    users: Vec<ClientUri>,
    verdicts: Vec<(RoomUri, ClientUri, VerdictRun)>,
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
        let time = decoded.entry.stamp.max(self.derived().time);
        let mut hubs: Grouped<RoomUri, desk::Desk> = BTreeMap::new();
        let mut followers: Grouped<RoomUri, follower_desk::Desk> = BTreeMap::new();
        let mut users: Grouped<UserUri, user_desk::Desk> = BTreeMap::new();
        for (number, (command, ticket)) in (0_u32..).zip(decoded.commands()) {
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
                Command::Link(_) => {}
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
                    .zip(applied.outcomes.into_iter().map(Done::Room)),
            );
            orders.push(later(self, room, applied.effects, perform::hub::perform));
        }
        for (room, numbers, applied) in follower_work {
            done.extend(
                numbers
                    .into_iter()
                    .zip(applied.outcomes.into_iter().map(Done::Room)),
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
                    .zip(applied.outcomes.into_iter().map(Done::User)),
            );
            orders.push(later(self, user, applied.effects, perform::user::perform));
        }
        let rings = self.record(
            index,
            time,
            decoded.commands().map(|(command, _)| command),
            done,
        );
        orders.into_iter().for_each(|carry_out| carry_out());
        for client in rings.users {
            self.world().bells.ring(&client, super::wake::Wake::user);
        }
        for (room, client, run) in rings.verdicts {
            self.world()
                .bells
                .ring(&client, |bell| bell.verdict(&room, run));
        }
        self.applied.send_replace(index);
        Ok(())
    }

    /// Records the outcomes of an entry, in log order.
    fn record<'a>(
        &self,
        index: u64,
        time: Millis,
        commands: impl Iterator<Item = &'a Command>,
        mut done: BTreeMap<u32, Done>,
    ) -> Rings {
        let mut rings = Rings::default();
        let mut derived = self.derived.write().unwrap_or_else(PoisonError::into_inner);
        derived.time = time;
        derived.applied = index;
        for (number, command) in (0_u32..).zip(commands) {
            match (command, done.remove(&number)) {
                (Command::Hub(room, _), Some(Done::Room(Ok(outcome)))) => {
                    record_hub(&mut derived, room, &outcome);
                    self.record_notices(&mut derived, room, outcome.notices);
                }
                (Command::Follower(room, _), Some(Done::Room(Ok(outcome)))) => {
                    record_follower(&mut derived, room, &outcome, &mut rings);
                    self.record_notices(&mut derived, room, outcome.notices);
                }
                (Command::User(_, _), Some(Done::User(Ok(outcome)))) => {
                    rings.users.extend(outcome.woken);
                    for client in outcome.inbox_full {
                        tracing::warn!(%client, "an inbox is full; a notice was not stored");
                    }
                }
                (Command::Link(command), _) => {
                    if let Err(refused) = derived.links.apply(command) {
                        tracing::warn!(shard = self.id, %refused, "an acknowledgement was not taken");
                    }
                }
                // A frozen actor: its host has said so.
                (Command::Hub(..) | Command::Follower(..) | Command::User(..), _) => {}
            }
        }
        rings
    }

    /// Notices go to the users' shards, over a link of their own.
    fn record_notices(&self, derived: &mut Derived, room: &RoomUri, notices: Vec<UserNotice>) {
        for notice in notices {
            let peer = Peer::Shard(super::place(&notice.user.to_string()));
            derived.links.to(&peer).push(
                Owed::Notice {
                    room: room.clone(),
                    notice,
                },
                1,
            );
        }
    }
}

fn record_hub(derived: &mut Derived, room: &RoomUri, outcome: &Outcome) {
    for emission in &outcome.emitted {
        derived.index.push(room, emission);
        for recipient in &emission.recipients {
            let copy = recipient.copy.clone();
            let owed = Owed::Events {
                room: room.clone(),
                first: emission.first,
                copy,
            };
            let peer = Peer::Provider(recipient.provider.clone());
            derived.links.to(&peer).push(owed, emission.count);
        }
    }
    for refused in &outcome.refused {
        let (first, reason) = (refused.first, refused.reason);
        let owed = Owed::Refused {
            room: room.clone(),
            first,
            reason,
        };
        let peer = Peer::Provider(refused.provider.clone());
        derived.links.to(&peer).push(owed, refused.count);
    }
}

fn record_follower(derived: &mut Derived, room: &RoomUri, outcome: &Outcome, rings: &mut Rings) {
    for emission in &outcome.emitted {
        derived.index.push(room, emission);
    }
    if let Some(queued) = &outcome.queued {
        derived.links.submissions_to(room.hub()).push(SubmitRun {
            room: room.clone(),
            sender: queued.sender.clone(),
            first: queued.first,
            count: queued.count,
            at: queued.at,
            item: queued.item,
        });
    }
    if let Some(undecided) = outcome.undecided {
        derived
            .links
            .submissions_to(room.hub())
            .settle(room, undecided);
    }
    for decided in &outcome.decided {
        rings
            .verdicts
            .push((room.clone(), decided.sender.clone(), decided.run));
    }
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
    perform: fn(&Arc<Shard>, &K, E),
) -> Box<dyn FnOnce() + Send> {
    let shard = Arc::clone(shard);
    Box::new(move || {
        effects
            .into_iter()
            .for_each(|effect| perform(&shard, &key, effect))
    })
}
