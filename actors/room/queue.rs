//! Who waits for the lease of a room, and whose turn is next.
//!
//! Promises: whoever makes others wait waits too. A user of the hub, and another provider as a whole, has its next turn
//! only when everybody else who waits has had one; none of them has more places than its share, and some places are kept
//! for the hub's own. Volatile, as the desk that has it.
//!
//! Source: transport requirements, section 3.3.

use super::codes::Code;
use crate::{
    ids::{ClientUri, ProviderId, UserUri},
    limits::{
        JOINERS_WAITING_KEPT_PER_ROOM, JOINERS_WAITING_PER_PROVIDER_MAX,
        JOINERS_WAITING_PER_ROOM_MAX, JOINERS_WAITING_PER_USER_MAX,
    },
    machine::{Millis, Ticket},
    wire::{
        event::Hash,
        joining::{CodeId, GroupInfoRequest},
    },
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// A joiner that waits for an answer.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) ticket: Ticket,
    pub(super) request: Arc<GroupInfoRequest>,
    pub(super) name: Hash,
    /// The code that admits it.
    pub(super) code: Option<CodeId>,
    /// How its code is looked at.
    pub(super) look: Look,
    /// When it is told its place.
    pub(super) deadline: Millis,
}

/// How a worker looks at the code of a joiner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Among all codes.
    Whole,
    /// The same, though its provider tried too many wrong ones: nobody of it was looked at so for a while.
    NowAndThen,
    /// Among those without a passphrase.
    WithoutPassphrases,
    /// Not at all.
    Nothing,
}

impl Look {
    pub(super) fn sees(self, code: &Code) -> bool {
        match self {
            Self::Whole | Self::NowAndThen => true,
            Self::WithoutPassphrases => code.passphrase.is_none(),
            Self::Nothing => false,
        }
    }
}

/// A place in the queue.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) asking: Asking,
    /// Until when it is kept for a joiner that was told its place and has not asked again.
    pub(super) away_until: Option<Millis>,
    turn: u64,
}

impl Seat {
    pub(super) fn is_away(&self) -> bool {
        self.away_until.is_some()
    }

    /// When something must be done about it at the latest.
    pub(super) fn due(&self) -> Millis {
        self.away_until.unwrap_or(self.asking.deadline)
    }

    fn joiner(&self) -> &ClientUri {
        &self.asking.request.joiner
    }
}

/// Who takes turns: a provider enrols its own users, and can make up as many as it likes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Waiter {
    Own(UserUri),
    Other(ProviderId),
}

impl Waiter {
    fn of(joiner: &ClientUri, hub: &ProviderId) -> Self {
        if joiner.provider() == hub {
            Self::Own(joiner.user().clone())
        } else {
            Self::Other(joiner.provider().clone())
        }
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// By their turns, and within one as they came.
    seats: VecDeque<Seat>,
    /// The turn of who had the lease last.
    turn: u64,
    /// The last turn of those who had one that is not over.
    served: BTreeMap<Waiter, u64>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter()
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Seat> {
        self.seats.get_mut(place)
    }

    /// Who is there and has waited through everybody's turns before.
    pub(super) fn next(&self) -> Option<(usize, &Seat)> {
        let mut seats = self.seats.iter().enumerate();
        seats.find(|(_, seat)| !seat.is_away())
    }

    pub(super) fn place_of(&self, joiner: &ClientUri) -> Option<usize> {
        self.seats.iter().position(|seat| seat.joiner() == joiner)
    }

    /// Gives places up that were kept until now.
    pub(super) fn give_up(&mut self, now: Millis) {
        let over = |seat: &Seat| seat.away_until.is_some_and(|until| until <= now);
        self.seats.retain(|seat| !over(seat));
    }

    /// Whether there is a place for a joiner; one that is kept for who is away from the same share is taken from it.
    pub(super) fn makes_room_for(&mut self, joiner: &ClientUri, hub: &ProviderId) -> bool {
        let is_other = |client: &ClientUri| client.provider() != hub;
        let others_max = JOINERS_WAITING_PER_ROOM_MAX - JOINERS_WAITING_KEPT_PER_ROOM;
        let of_user = |client: &ClientUri| client.user() == joiner.user();
        let of_provider = |client: &ClientUri| client.provider() == joiner.provider();
        if !self.keeps_to(JOINERS_WAITING_PER_USER_MAX, of_user) {
            return false;
        }
        if is_other(joiner)
            && !(self.keeps_to(JOINERS_WAITING_PER_PROVIDER_MAX, of_provider)
                && self.keeps_to(others_max, is_other))
        {
            return false;
        }
        self.keeps_to(JOINERS_WAITING_PER_ROOM_MAX, |_| true)
    }

    /// Whether one more fits among so many, at the cost of the one of them that has been away for longest.
    fn keeps_to(&mut self, max: usize, is_one: impl Fn(&ClientUri) -> bool) -> bool {
        let seats = self.seats.iter().enumerate();
        let ours = seats.filter(|(_, seat)| is_one(seat.joiner()));
        if ours.clone().count() < max {
            return true;
        }
        let away = ours.filter_map(|(place, seat)| Some((seat.away_until?, place)));
        let Some((_, place)) = away.min() else {
            return false;
        };
        self.seats.remove(place).is_some()
    }

    /// The next turn of a joiner, behind all that its user or provider has.
    fn turn_of(&self, waiter: &Waiter, hub: &ProviderId) -> u64 {
        let seats = self.seats.iter();
        let ours = seats.filter(|seat| Waiter::of(seat.joiner(), hub) == *waiter);
        let last = ours.map(|seat| seat.turn).max();
        let last = last.max(self.served.get(waiter).copied());
        last.map_or(self.turn, |last| self.turn.max(last.saturating_add(1)))
    }

    /// Gives a joiner a place.
    pub(super) fn sit(&mut self, asking: Asking, hub: &ProviderId) {
        let waiter = Waiter::of(&asking.request.joiner, hub);
        let turn = self.turn_of(&waiter, hub);
        let place = self.seats.partition_point(|seat| seat.turn <= turn);
        let seat = Seat {
            asking,
            away_until: None,
            turn,
        };
        self.seats.insert(place, seat);
    }

    /// Gives a joiner the first place, which it had before.
    pub(super) fn sit_first(&mut self, asking: Asking) {
        let turn = self.seats.front().map_or(self.turn, |first| first.turn);
        self.seats.push_front(Seat {
            asking,
            away_until: None,
            turn,
        });
    }

    /// A joiner's turn has come, which has this place.
    pub(super) fn take(&mut self, place: usize, hub: &ProviderId) -> Option<Asking> {
        let seat = self.seats.remove(place)?;
        self.serve(Waiter::of(seat.joiner(), hub), seat.turn);
        Some(seat.asking)
    }

    /// A joiner has its turn without having waited.
    pub(super) fn pass(&mut self, joiner: &ClientUri, hub: &ProviderId) {
        let waiter = Waiter::of(joiner, hub);
        let turn = self.turn_of(&waiter, hub);
        self.serve(waiter, turn);
    }

    fn serve(&mut self, waiter: Waiter, turn: u64) {
        self.turn = self.turn.max(turn);
        let now = self.turn;
        self.served.retain(|_, last| *last >= now);
        if turn >= now {
            self.served.insert(waiter, turn);
        }
    }
}
