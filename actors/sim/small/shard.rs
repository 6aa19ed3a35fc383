//! The one shard of a provider: its log, its actors, and what follows from both.

use super::seat::Seat;
use crate::{
    ids::{RoomUri, UserUri},
    machine::{Millis, Moment, Position, Ticket},
    record::{Command, Entry, Gathered},
    room::{desk, follower_desk},
    shard::{
        Derived, Done,
        read::{ReadError, Source},
    },
    user::desk as user_desk,
    wire::{
        self,
        event::{Hash, LinkSeq},
    },
};
use std::{rc::Rc, sync::Arc};

/// What an actor ordered while its command was applied.
pub(super) enum Order {
    Hub(desk::Effect),
    Follower(follower_desk::Effect),
    User(user_desk::Effect),
}

/// What one command did.
pub(super) enum Seen {
    Room(Box<crate::room::outcome::Outcome>),
    Other,
}

#[derive(Clone, Default)]
pub(super) struct Shard {
    pub(super) hub: Seat<desk::Desk>,
    pub(super) follower: Seat<follower_desk::Desk>,
    pub(super) user: Seat<user_desk::Desk>,
    pub(super) derived: Rc<Derived>,
    entries: Vec<Arc<Entry>>,
    /// Chain over the entries.
    log_hash: Vec<Hash>,
    pub(super) synced: usize,
    pub(super) applied: usize,
    /// What waits for the log, until the entry before it is applied.
    pub(super) queue: Vec<(Command, Option<Ticket>)>,
    /// Who waits for the commands of the last entry.
    tickets: Vec<Option<Ticket>>,
    links_hash: Hash,
}

impl Source for Shard {
    type Held = Entry;

    fn derived<R>(&self, look: impl FnOnce(&Derived) -> R) -> R {
        look(&self.derived)
    }

    fn entry(&self, index: u64) -> Result<Arc<Entry>, ReadError> {
        let place = (index as usize).checked_sub(1);
        let entry = place.and_then(|place| self.entries.get(place)).cloned();
        entry.ok_or_else(|| ReadError {
            index,
            why: "the log does not hold it".to_owned(),
        })
    }
}

impl Shard {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn durable(&self) -> impl Iterator<Item = &Command> {
        let entries = self.entries[..self.synced].iter();
        entries.flat_map(|entry| &entry.commands)
    }

    pub(super) fn may_append(&self) -> bool {
        !self.queue.is_empty() && self.applied == self.len()
    }

    /// Puts everything that waits into one entry.
    pub(super) fn append(&mut self, now: Millis) {
        let mut tickets = Vec::new();
        let mut gathered = Gathered::new(self.derived.level);
        while gathered.may_take() && !self.queue.is_empty() {
            let (command, ticket) = self.queue.remove(0);
            if let Err(command) = gathered.push(command) {
                self.queue.insert(0, (command, ticket));
                break;
            }
            tickets.push(ticket);
        }
        let entry = gathered.entry(now);
        let last = self.log_hash.last().copied().unwrap_or_default();
        let next = Hash::of_parts([&last.0[..], &wire::canonical(&entry)]);
        self.log_hash.push(next);
        self.entries.push(Arc::new(entry));
        self.tickets = tickets;
    }

    /// Applies the next entry; `seen` learns of each command before and after.
    pub(super) fn apply(
        &mut self,
        now: Millis,
        mut before: impl FnMut(&Self, &Command),
        mut seen: impl FnMut(&Command, &Seen),
    ) -> Vec<Order> {
        let entry = Arc::clone(&self.entries[self.applied]);
        self.applied += 1;
        let last = self.applied == self.len();
        let tickets = if last {
            std::mem::take(&mut self.tickets)
        } else {
            Vec::new()
        };
        let (mut orders, mut done) = (Vec::new(), Vec::new());
        for (place, command) in (0_u32..).zip(&entry.commands) {
            let ticket = tickets.get(place as usize).copied().flatten();
            let at = Position {
                entry: self.applied as u64,
                command: place,
            };
            let moment = Moment {
                at,
                time: now,
                level: self.derived.level,
            };
            before(self, command);
            let did = match command {
                Command::Hub(_, command) => {
                    let (outcome, out) = self.hub.apply(moment, command, ticket);
                    orders.extend(out.into_iter().map(Order::Hub));
                    done.push(Done::Room(outcome.clone()));
                    Seen::Room(Box::new(outcome))
                }
                Command::Follower(_, command) => {
                    let (outcome, out) = self.follower.apply(moment, command, ticket);
                    orders.extend(out.into_iter().map(Order::Follower));
                    done.push(Done::Room(outcome.clone()));
                    Seen::Room(Box::new(outcome))
                }
                Command::User(_, command) => {
                    let (outcome, out) = self.user.apply(moment, command, ticket);
                    orders.extend(out.into_iter().map(Order::User));
                    done.push(Done::User(outcome));
                    Seen::Other
                }
                Command::Link(_) | Command::Level(_) | Command::Name(_) => {
                    done.push(Done::Nothing);
                    Seen::Other
                }
            };
            seen(command, &did);
        }
        let recorded = entry.commands.iter().zip(done);
        Rc::make_mut(&mut self.derived).record(self.applied as u64, now, 1, recorded);
        self.links_hash = Hash::of(&self.derived.links.compact());
        orders
    }

    /// Only the log's disk is left: what was synced, and `kept` more entries.
    pub(super) fn crash(&mut self, kept: usize) {
        let mut entries = std::mem::take(&mut self.entries);
        let mut log_hash = std::mem::take(&mut self.log_hash);
        let synced = (self.synced + kept).min(entries.len());
        entries.truncate(synced);
        log_hash.truncate(synced);
        *self = Self {
            entries,
            log_hash,
            synced,
            ..Self::default()
        };
    }

    /// What the actors of the log make of it, without any desk.
    pub(super) fn folds(&self) -> [Hash; 4] {
        let [hub, _] = self.hub.hashes();
        let [follower, _] = self.follower.hashes();
        let [user, _] = self.user.hashes();
        [hub, follower, user, self.links_hash]
    }

    pub(super) fn is_idle(&self) -> bool {
        self.hub.is_idle() && self.follower.is_idle() && self.user.is_idle()
    }

    pub(super) fn has_ticket(&self, ticket: Ticket) -> bool {
        let queued = self.queue.iter().any(|(_, of)| *of == Some(ticket));
        queued || self.tickets.contains(&Some(ticket))
    }

    pub(super) fn hash(&self, into: &mut Vec<u8>) {
        let last = self.log_hash.last().copied().unwrap_or_default();
        for [fold, desk] in [
            self.hub.hashes(),
            self.follower.hashes(),
            self.user.hashes(),
        ] {
            into.extend(fold.0);
            into.extend(desk.0);
        }
        into.extend(last.0);
        into.extend(self.links_hash.0);
        let marks = [self.len(), self.synced, self.applied];
        into.extend(marks.map(|mark| mark as u8));
        into.extend(format!("{:?}", self.tickets).bytes());
        for (command, ticket) in &self.queue {
            into.extend_from_slice(&wire::canonical(command));
            into.extend(format!("{ticket:?}").bytes());
        }
    }

    /// What is acknowledged, and what was ever owed, to a provider.
    pub(super) fn owed(&self, to: &crate::ids::ProviderId) -> (LinkSeq, LinkSeq) {
        let peer = crate::link::Peer::Provider(to.clone());
        let owed = self.derived.links.outgoing(&peer);
        owed.map_or((LinkSeq(0), LinkSeq(0)), |owed| (owed.acked(), owed.last()))
    }

    pub(super) fn queue_hub(
        &mut self,
        room: &RoomUri,
        command: &Arc<crate::room::hub::Command>,
        ticket: Option<Ticket>,
    ) {
        let command = Command::Hub(room.clone(), Arc::clone(command));
        self.queue.push((command, ticket));
    }

    pub(super) fn queue_user(
        &mut self,
        user: &UserUri,
        command: &Arc<crate::user::command::Command>,
        ticket: Option<Ticket>,
    ) {
        let command = Command::User(user.clone(), Arc::clone(command));
        self.queue.push((command, ticket));
    }
}
