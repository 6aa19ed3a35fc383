//! The checkers of what several tell about the same thing: I1, I2, I3, I11, I12, I13, I14, I20, I25, I26.
//!
//! Fed with facts in any order in which they can be told; each is compared at once with what was told before. What only
//! shows at the end is for whoever keeps the ledger.

use crate::{
    facts::{At, Fact, Judge, Names},
    handouts::Handouts,
    names::{Epoch, RoomSeq},
    report::Invariant,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a device took of a room.
#[derive(Clone, Debug)]
pub struct Reader<I> {
    /// The events, by their numbers, and where it was told.
    pub read: BTreeMap<RoomSeq, (I, At)>,
    ids: BTreeMap<I, At>,
}

impl<I> Default for Reader<I> {
    fn default() -> Self {
        Self {
            read: BTreeMap::new(),
            ids: BTreeMap::new(),
        }
    }
}

/// What was told of a room, and where first.
#[derive(Clone, Debug)]
pub struct RoomFacts<N: Names> {
    /// What somebody sent to it.
    pub sent: BTreeSet<N::Id>,
    /// The Commit that opened each epoch.
    pub opened: BTreeMap<Epoch, (N::Id, At)>,
    /// The event of each number.
    pub events: BTreeMap<RoomSeq, (N::Id, At)>,
    /// The number of each event.
    pub placed: BTreeMap<N::Id, (RoomSeq, At)>,
    /// What was refused for good.
    pub refused: BTreeMap<N::Id, At>,
    /// The verdicts on messages.
    pub words: BTreeMap<N::Id, (Option<RoomSeq>, At)>,
    /// What members share in each epoch.
    pub secrets: BTreeMap<Epoch, (N::Id, At)>,
    /// What each device took.
    pub readers: BTreeMap<N::Client, Reader<N::Id>>,
}

impl<N: Names> Default for RoomFacts<N> {
    fn default() -> Self {
        Self {
            sent: BTreeSet::new(),
            opened: BTreeMap::new(),
            events: BTreeMap::new(),
            placed: BTreeMap::new(),
            refused: BTreeMap::new(),
            words: BTreeMap::new(),
            secrets: BTreeMap::new(),
            readers: BTreeMap::new(),
        }
    }
}

/// All that was told.
#[derive(Clone, Debug)]
pub struct Ledger<N: Names> {
    /// Of each room.
    pub rooms: BTreeMap<N::Room, RoomFacts<N>>,
    /// Of KeyPackages.
    pub handouts: Handouts<N>,
    states: BTreeMap<N::Place, (N::Id, At)>,
}

impl<N: Names> Default for Ledger<N> {
    fn default() -> Self {
        Self {
            rooms: BTreeMap::new(),
            handouts: Handouts::default(),
            states: BTreeMap::new(),
        }
    }
}

/// The lines of two facts, the earlier one first.
fn both(first: At, then: At) -> Vec<u64> {
    vec![first.line, then.line]
}

impl<N: Names> Ledger<N> {
    /// Takes a fact down, after it was compared with those before it.
    pub fn see(&mut self, at: At, fact: Fact<'_, N>, judge: &mut impl Judge) {
        match fact {
            Fact::Sent { room, id } => {
                self.room(room).sent.insert(id);
            }
            Fact::Opened {
                room,
                epoch,
                commit,
            } => self.opened(at, room, epoch, commit, judge),
            Fact::Numbered { room, seq, event } => self.numbered(at, room, seq, event, judge),
            Fact::Acknowledged {
                room,
                epoch,
                seq,
                commit,
            } => self.acknowledged(at, room, (epoch, seq), commit, judge),
            Fact::Entered {
                room,
                epoch,
                secret,
            } => self.entered(at, room, epoch, secret, judge),
            Fact::Took {
                client,
                room,
                seq,
                event,
            } => self.took(at, (client, room), seq, event, judge),
            Fact::Word { room, message, seq } => self.word(at, room, message, seq, judge),
            Fact::Refused { room, id } => self.refused(at, room, id, judge),
            Fact::Handed {
                claim,
                client,
                package,
            } => self.handouts.handed(at, claim, client, package, judge),
            Fact::State { place, state } => self.state(at, place, state, judge),
        }
    }

    /// What was told of a room, if anything was.
    #[must_use]
    pub fn of(&self, room: &N::Room) -> Option<&RoomFacts<N>> {
        self.rooms.get(room)
    }

    /// The state that was told first of a place.
    #[must_use]
    pub fn state_at(&self, place: &N::Place) -> Option<N::Id> {
        self.states.get(place).map(|(state, _)| *state)
    }

    fn room(&mut self, room: &N::Room) -> &mut RoomFacts<N> {
        // Rooms are told of far more often than they begin.
        if !self.rooms.contains_key(room) {
            self.rooms.insert(room.clone(), RoomFacts::default());
        }
        self.rooms.entry(room.clone()).or_default()
    }

    /// I1: one Commit opens an epoch, whoever tells, and no other epoch. I12: it was not refused.
    fn opened(
        &mut self,
        at: At,
        room: &N::Room,
        epoch: Epoch,
        commit: N::Id,
        judge: &mut impl Judge,
    ) {
        let known = self.room(room);
        if let Some((first, since)) = known.opened.get(&epoch).copied() {
            judge.demand(
                Invariant::I1,
                first == commit,
                || both(since, at),
                || format!("Commits {first} and {commit} opened epoch {epoch} of {room}"),
            );
        } else {
            let mut opened = known.opened.iter();
            let other = opened.find(|(_, (opened, _))| *opened == commit);
            let other = other.map(|(other, (_, since))| (*other, *since));
            judge.demand(
                Invariant::I1,
                other.is_none(),
                || {
                    other
                        .iter()
                        .map(|(_, since)| since.line)
                        .chain([at.line])
                        .collect()
                },
                || {
                    let before = other.map_or_else(String::new, |(other, _)| other.to_string());
                    format!("Commit {commit} opened epochs {before} and {epoch} of {room}")
                },
            );
            known.opened.insert(epoch, (commit, at));
        }
        known.was_not_refused(at, room, commit, judge);
    }

    /// I2: an acknowledged Commit is one that a log holds, and opened the epoch.
    fn acknowledged(
        &mut self,
        at: At,
        room: &N::Room,
        (epoch, seq): (Epoch, RoomSeq),
        commit: N::Id,
        judge: &mut impl Judge,
    ) {
        let opened = self.room(room).opened.get(&epoch).copied();
        self.opened(at, room, epoch, commit, judge);
        judge.demand(
            Invariant::I2,
            opened.is_some_and(|(opened, _)| opened == commit),
            || vec![at.line],
            || format!("{commit} was acknowledged for epoch {epoch} of {room}, which no log says"),
        );
        self.numbered(at, room, seq, commit, judge);
    }

    /// I2: all members in an epoch share its secret.
    fn entered(
        &mut self,
        at: At,
        room: &N::Room,
        epoch: Epoch,
        secret: N::Id,
        judge: &mut impl Judge,
    ) {
        let secrets = &mut self.room(room).secrets;
        let (first, since) = *secrets.entry(epoch).or_insert((secret, at));
        judge.demand(
            Invariant::I2,
            first == secret,
            || both(since, at),
            || format!("members of {room} are in different epochs {epoch}"),
        );
    }

    /// I26: a number names one event for all. I14: an event has one number.
    fn numbered(
        &mut self,
        at: At,
        room: &N::Room,
        seq: RoomSeq,
        event: N::Id,
        judge: &mut impl Judge,
    ) {
        let known = self.room(room);
        let (first, since) = *known.events.entry(seq).or_insert((event, at));
        judge.demand(
            Invariant::I26,
            first == event,
            || both(since, at),
            || format!("event {seq} of {room} is {event}, and was {first}"),
        );
        if let Some((before, since)) = known.placed.get(&event).copied() {
            if before != seq {
                judge.demand(
                    Invariant::I14,
                    false,
                    || both(since, at),
                    || format!("{event} is in {room} twice, as event {before} and {seq}"),
                );
            }
            return;
        }
        known.placed.insert(event, (seq, at));
        known.was_not_refused(at, room, event, judge);
        self.was_sent(at, room, seq, event, judge);
    }

    /// I13: every event was sent by somebody. I20: and to this room.
    fn was_sent(&self, at: At, room: &N::Room, seq: RoomSeq, event: N::Id, judge: &mut impl Judge) {
        let has = |facts: &RoomFacts<N>| facts.sent.contains(&event);
        let here = self.of(room).is_some_and(has);
        let elsewhere = !here && self.rooms.values().any(has);
        judge.demand(
            Invariant::I20,
            !elsewhere,
            || vec![at.line],
            || format!("event {seq} of {room} was sent to another room"),
        );
        judge.demand(
            Invariant::I13,
            here || elsewhere,
            || vec![at.line],
            || format!("nobody sent event {seq} of {room}"),
        );
    }

    /// I14: a device is given an event once.
    fn took(
        &mut self,
        at: At,
        (client, room): (&N::Client, &N::Room),
        seq: RoomSeq,
        event: N::Id,
        judge: &mut impl Judge,
    ) {
        let known = self.room(room);
        if !known.readers.contains_key(client) {
            known.readers.insert(client.clone(), Reader::default());
        }
        let Some(reader) = known.readers.get_mut(client) else {
            return;
        };
        let before = reader.read.get(&seq).map(|(_, at)| *at);
        let before = before.or_else(|| reader.ids.get(&event).copied());
        judge.demand(
            Invariant::I14,
            before.is_none(),
            || before.into_iter().chain([at]).map(|at| at.line).collect(),
            || format!("{client} was given event {seq} of {room} twice"),
        );
        reader.read.entry(seq).or_insert((event, at));
        reader.ids.entry(event).or_insert(at);
    }

    /// I25: one verdict on a message, and it is so.
    fn word(
        &mut self,
        at: At,
        room: &N::Room,
        message: N::Id,
        seq: Option<RoomSeq>,
        judge: &mut impl Judge,
    ) {
        if seq.is_none() {
            self.refused(at, room, message, judge);
        }
        let known = self.room(room);
        let (first, since) = *known.words.entry(message).or_insert((seq, at));
        judge.demand(
            Invariant::I25,
            first == seq,
            || both(since, at),
            || format!("the word on {message} was {first:?}, then {seq:?}"),
        );
        if let Some(seq) = seq {
            self.numbered(at, room, seq, message, judge);
        }
    }

    /// I12: what is refused is in no room, was not before and will not be.
    fn refused(&mut self, at: At, room: &N::Room, id: N::Id, judge: &mut impl Judge) {
        let known = self.room(room);
        known.refused.entry(id).or_insert(at);
        let placed = known.placed.get(&id).map(|(_, at)| *at);
        let opened = || known.opened.values().find(|(commit, _)| *commit == id);
        let found = placed.or_else(|| opened().map(|(_, at)| *at));
        judge.demand(
            Invariant::I12,
            found.is_none(),
            || [at].into_iter().chain(found).map(|at| at.line).collect(),
            || format!("{id} was refused, and is in {room}"),
        );
    }

    /// I11: a state at a place of a log is what it was, on all replicas.
    fn state(&mut self, at: At, place: &N::Place, state: N::Id, judge: &mut impl Judge) {
        let Some((first, since)) = self.states.get(place).copied() else {
            self.states.insert(place.clone(), (state, at));
            return;
        };
        judge.demand(
            Invariant::I11,
            first == state,
            || both(since, at),
            || format!("{place} is {state}, and was {first}"),
        );
    }
}

impl<N: Names> RoomFacts<N> {
    /// The other half of I12: what is found in a room was not refused before.
    fn was_not_refused(&self, at: At, room: &N::Room, id: N::Id, judge: &mut impl Judge) {
        if let Some(refused) = self.refused.get(&id) {
            judge.demand(
                Invariant::I12,
                false,
                || both(*refused, at),
                || format!("{id} was refused, and is in {room}"),
            );
        }
    }

    /// The number of an event, if anybody told it.
    #[must_use]
    pub fn seq_of(&self, id: &N::Id) -> Option<RoomSeq> {
        self.placed.get(id).map(|(seq, _)| *seq)
    }
}
