//! One process of a provider: for each shard a copy of the log, the folds that follow from it, and, where it leads,
//! the desks and the sessions of its links.

pub(super) mod sealed;

use super::{
    plan::NodeRef,
    post::{Back, Task},
    replica::Replica,
    world::full_disk::Full,
};
use crate::{
    ids::{RoomUri, UserUri},
    kind::Kind,
    link::{
        Links,
        session::{FanoutSender, SubmitSender},
    },
    machine::{self, CommandOf, Desk, EffectOf, Fold, Millis, Moment, OutcomeOf, Position, Ticket},
    record::{Command, Entry},
    room::{desk, follower_desk, hub},
    shard::{
        Derived, Done, News,
        names::Taken,
        read::{ReadError, Source},
    },
    user::desk as user_desk,
    way::{Slot, lane::SharedSender},
    wire::event::Hash,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// A room's or user's actor.
#[derive(Debug)]
pub(super) struct Actor<D: Desk> {
    pub(super) fold: D::Fold,
    pub(super) desk: D,
}

impl<D: Desk<Fold: Default>> Default for Actor<D> {
    fn default() -> Self {
        Self {
            fold: D::Fold::default(),
            desk: D::default(),
        }
    }
}

/// An order of any actor, and whose it is.
#[derive(Debug)]
pub(super) enum Order {
    Hub(RoomUri, desk::Effect),
    Follower(RoomUri, follower_desk::Effect),
    User(UserUri, user_desk::Effect),
}

/// A kind of actor as the world keeps it.
pub(super) trait Played: Kind {
    /// The actors of this kind.
    fn all(shard: &mut Shard) -> &mut BTreeMap<Self::Key, Actor<Self>>;

    /// The shard of a provider with so many in which the actor of `key` is.
    fn place(key: &Self::Key, shards: u16) -> u16 {
        crate::shard::place(&key.to_string(), shards)
    }

    /// An order of the actor of `key`.
    fn order(key: Self::Key, effect: EffectOf<Self>) -> Order;
}

macro_rules! played {
    ($desk:ty, $actors:ident, $order:ident) => {
        impl Played for $desk {
            fn all(shard: &mut Shard) -> &mut BTreeMap<Self::Key, Actor<Self>> {
                &mut shard.$actors
            }

            fn order(key: Self::Key, effect: EffectOf<Self>) -> Order {
                Order::$order(key, effect)
            }
        }
    };
}

played!(desk::Desk, hubs, Hub);
played!(follower_desk::Desk, followers, Follower);
played!(user_desk::Desk, users, User);

/// What an entry in flight must be when it comes back, and who waits for its commands.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) tickets: Vec<Option<Ticket>>,
}

/// A lane to another provider, on which are the shards that the node leads; it is opened when there is something to send.
#[derive(Debug)]
pub(super) struct LaneTo<S> {
    pub(super) lane: Option<u64>,
    pub(super) sender: SharedSender<S>,
}

/// One shard on one node.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) replica: Replica,
    pub(super) hubs: BTreeMap<RoomUri, Actor<desk::Desk>>,
    pub(super) followers: BTreeMap<RoomUri, Actor<follower_desk::Desk>>,
    pub(super) users: BTreeMap<UserUri, Actor<user_desk::Desk>>,
    pub(super) derived: Derived,
    /// Runs on one of its links, at most.
    pub(super) runs_max: u32,
    pub(super) applied: u64,
    /// Hash over everything applied so far, and what it made of the folds.
    pub(super) state: Hash,
    /// To whom, and for how many entries, an answer waits for the disk.
    pub(super) owed: Option<(u8, u64)>,
    /// Leader only: commands that wait for the log.
    pub(super) queue: VecDeque<(Command, Option<Ticket>)>,
    pub(super) in_flight: Option<InFlight>,
    /// Leader only: the tasks of the notices that are under way to each shard.
    pub(super) notices: BTreeMap<u16, u64>,
}

/// What came of one entry.
pub(super) struct Applied {
    pub(super) index: u64,
    pub(super) entry: Arc<Entry>,
    pub(super) state: Hash,
    pub(super) news: News,
    pub(super) orders: Vec<Order>,
    /// Who is told what became of the name of a group.
    pub(super) named: Vec<(Ticket, Taken)>,
    /// For the checkers: what each command of a room did, by its number.
    pub(super) outcomes: Vec<Seen>,
    pub(super) own: bool,
    /// The time of the log.
    pub(super) time: Millis,
}

/// What a checker sees of one command's outcome.
#[derive(Debug)]
pub(super) enum Seen {
    Room(crate::room::outcome::Outcome),
    User(crate::user::outcome::Outcome),
    Link,
}

impl Source for Shard {
    type Held = Entry;

    fn derived<R>(&self, look: impl FnOnce(&Derived) -> R) -> R {
        look(&self.derived)
    }

    fn entry(&self, index: u64) -> Result<Arc<Entry>, ReadError> {
        self.replica.entry(index).ok_or_else(|| ReadError {
            index,
            why: "neither the log nor the backlog holds it".to_owned(),
        })
    }
}

/// A command on its way into an actor.
struct Work {
    moment: Moment,
    ticket: Option<Ticket>,
    now: Millis,
}

impl Shard {
    /// The actor of `key`, begun if need be.
    pub(super) fn actor<D: Played>(&mut self, key: &D::Key) -> &mut Actor<D> {
        D::all(self).entry(key.clone()).or_default()
    }

    /// Applies a command to its actor; the actor's orders are added to `orders`, what it is now to `hashes`.
    fn apply_to<D: Played>(
        &mut self,
        key: &D::Key,
        work: &Work,
        command: &CommandOf<D>,
        (orders, hashes): (&mut Vec<Order>, &mut Vec<Hash>),
    ) -> OutcomeOf<D> {
        let actor = self.actor::<D>(key);
        let outcome = actor.fold.apply(work.moment, command);
        let mut out = Vec::new();
        if let Some(ticket) = work.ticket {
            let (fold, desk) = (&actor.fold, &mut actor.desk);
            desk.applied(ticket, &outcome, work.now, fold, &mut out);
        }
        orders.extend(out.into_iter().map(|effect| D::order(key.clone(), effect)));
        hashes.push(Hash::of(&actor.fold.compact()));
        outcome
    }

    /// Applies the next committed entry, if there is one that is not applied.
    pub(super) fn apply_next(&mut self, now: Millis, shards: u16) -> Option<Applied> {
        loop {
            let index = self.applied + 1;
            if index > self.replica.committed {
                return None;
            }
            let slot = self.replica.slot(index)?.clone();
            let Some(entry) = slot.entry else {
                self.applied = index;
                continue;
            };
            let tickets = self
                .in_flight
                .take_if(|flight| flight.index <= index)
                .filter(|flight| flight.index == index && flight.term == slot.term);
            let own = tickets.is_some();
            let tickets = tickets.map(|flight| flight.tickets).unwrap_or_default();
            return Some(self.apply(index, &entry, &tickets, own, now, shards));
        }
    }

    fn apply(
        &mut self,
        index: u64,
        entry: &Arc<Entry>,
        tickets: &[Option<Ticket>],
        own: bool,
        now: Millis,
        shards: u16,
    ) -> Applied {
        let time = self.derived.time.at(entry.stamp);
        let level = self.derived.level;
        let mut orders = Vec::new();
        let mut outcomes = Vec::new();
        let mut hashes = vec![self.state];
        let mut done = Vec::new();
        let waiting = tickets.iter().copied().chain(std::iter::repeat(None));
        for ((command_number, command), ticket) in (0_u32..).zip(&entry.commands).zip(waiting) {
            let at = Position {
                entry: index,
                command: command_number,
            };
            let moment = Moment { at, time, level };
            let work = Work {
                moment,
                ticket,
                now,
            };
            let out = (&mut orders, &mut hashes);
            let (seen, did) = match command {
                Command::Hub(room, command) => {
                    let outcome = self.apply_to::<desk::Desk>(room, &work, command, out);
                    (Seen::Room(outcome.clone()), Done::Room(outcome))
                }
                Command::Follower(room, command) => {
                    let outcome = self.apply_to::<follower_desk::Desk>(room, &work, command, out);
                    (Seen::Room(outcome.clone()), Done::Room(outcome))
                }
                Command::User(user, command) => {
                    let outcome = self.apply_to::<user_desk::Desk>(user, &work, command, out);
                    (Seen::User(outcome.clone()), Done::User(outcome))
                }
                Command::Link(_) | Command::Level(_) | Command::Name(_) => {
                    (Seen::Link, Done::Nothing)
                }
            };
            outcomes.push(seen);
            done.push(did);
        }
        let recorded = entry.commands.iter().zip(done);
        let news = self.derived.record(index, entry.stamp, shards, recorded);
        let waiting = tickets.iter().copied().chain(std::iter::repeat(None));
        let takes = entry.commands.iter().zip(waiting);
        let takes = takes.filter(|(command, _)| matches!(command, Command::Name(_)));
        let told = takes.zip(&news.names);
        let named = told
            .filter_map(|((_, ticket), taken)| Some((ticket?, *taken)))
            .collect();
        hashes.push(Hash::of(&self.derived.links.compact()));
        hashes.push(Hash::of(self.derived.level.to_string().as_bytes()));
        hashes.push(Hash::of(&crate::wire::canonical(&self.derived.names)));
        self.state = Hash::of_parts(hashes.iter().map(|hash| &hash.0[..]));
        self.applied = index;
        Applied {
            index,
            entry: Arc::clone(entry),
            state: self.state,
            news,
            orders,
            named,
            outcomes,
            own,
            time,
        }
    }

    /// Puts whoever has nothing to do to sleep and wakes them again: what they were is what they are.
    ///
    /// # Errors
    /// Why a fold does not come back.
    pub(super) fn sleep(&mut self) -> Result<(), String> {
        fn nap<K, D: Desk>(actors: &mut BTreeMap<K, Actor<D>>) -> Result<(), machine::ReviveError> {
            for actor in actors.values_mut() {
                if actor.desk.is_idle() {
                    actor.fold = D::Fold::revive(&actor.fold.compact())?;
                }
            }
            Ok(())
        }
        nap(&mut self.hubs)
            .and_then(|()| nap(&mut self.followers))
            .and_then(|()| nap(&mut self.users))
            .map_err(|error| error.to_string())
    }

    /// Everything that only a leader has is gone.
    pub(super) fn step_down(&mut self) {
        fn idle<K, D: Desk>(actors: &mut BTreeMap<K, Actor<D>>) {
            for actor in actors.values_mut() {
                actor.desk = D::default();
            }
        }
        idle(&mut self.hubs);
        idle(&mut self.followers);
        idle(&mut self.users);
        self.queue.clear();
        self.in_flight = None;
        self.notices.clear();
    }

    /// The process ends: only the log's disk is left.
    pub(super) fn crash(&mut self, kept: u64) {
        let mut replica = std::mem::take(&mut self.replica);
        replica.crash(kept);
        *self = Self {
            replica,
            ..Self::with_runs_max(self.runs_max)
        };
    }

    fn with_runs_max(runs_max: u32) -> Self {
        let links = Links::with_runs_max(runs_max);
        Self {
            derived: Derived {
                links,
                ..Derived::default()
            },
            runs_max,
            ..Self::default()
        }
    }

    /// The rooms at this hub.
    pub(super) fn rooms(&self) -> impl Iterator<Item = (&RoomUri, &hub::Room)> {
        let known = self.hubs.iter();
        known.filter_map(|(room, actor)| Some((room, actor.fold.room()?)))
    }
}

/// A process.
#[derive(Debug)]
pub(super) struct Node {
    /// Counts starts: what was meant for an earlier life is for nobody.
    pub(super) life: u64,
    pub(super) up: bool,
    /// How many times slower than others.
    pub(super) slow: u64,
    /// How far its clock is off, in milliseconds.
    pub(super) clock_ms: i64,
    pub(super) shards: Vec<Shard>,
    /// Who waits for the actors of this node.
    pub(super) waiting: BTreeMap<Ticket, (u16, Back)>,
    pub(super) tasks: BTreeMap<u64, Task>,
    /// The lanes that it has to other providers.
    pub(super) fanouts: BTreeMap<u8, LaneTo<FanoutSender>>,
    pub(super) submits: BTreeMap<u8, LaneTo<SubmitSender>>,
    /// Questions that were passed on: of which shard, and to which leader.
    pub(super) passed_on: BTreeMap<(u64, Slot), (u16, NodeRef)>,
    /// Effects until a crash, and how long it is gone.
    pub(super) armed: Option<(u64, u64)>,
    pub(super) syncing: bool,
    pub(super) sync_again: bool,
    /// Its disk takes nothing more.
    pub(super) full: Option<Full>,
    /// It ended on a full disk, in the middle of a rotation of its log.
    pub(super) rotating: bool,
}

impl Node {
    pub(super) fn new(shards: u16, runs_max: u32) -> Self {
        Self {
            life: 1,
            up: true,
            slow: 1,
            clock_ms: 0,
            shards: (0..shards)
                .map(|_| Shard::with_runs_max(runs_max))
                .collect(),
            waiting: BTreeMap::new(),
            tasks: BTreeMap::new(),
            fanouts: BTreeMap::new(),
            submits: BTreeMap::new(),
            passed_on: BTreeMap::new(),
            armed: None,
            syncing: false,
            sync_again: false,
            full: None,
            rotating: false,
        }
    }
}

/// The voters of a shard: up to three nodes, spread over the provider.
pub(super) fn voters(nodes: u8, shard: u16) -> Vec<u8> {
    let first = u8::try_from(shard % 251).unwrap_or(0);
    let of = |place: u8| (first + place).checked_rem(nodes).unwrap_or(0);
    (0..nodes.min(3)).map(of).collect()
}
