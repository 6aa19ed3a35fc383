//! I4, I5, I6, I12, I13, I16, I20, I25: whose an event is, what came before it, and what became of what was sent. Judged at
//! the end, when it is known who was a member when.

use super::{
    At,
    calls::Faults,
    deliveries::Roster,
    line::{Acked, Fault},
    names::{ClientUri, RoomSeq, RoomUri},
    report::{Invariant, Row, Tally},
    rooms::{Reader, Room, Rooms},
};
use std::collections::BTreeMap;

/// How far a device may be ahead of the first message that it lacks of a sender.
///
/// Source: transport requirements, section 5, row R5-15.
const DISORDER_MAX: usize = 100;

/// One tally for each of these invariants.
#[derive(Debug, Default)]
struct Tallies {
    proposals_first: Tally,
    members_only: Tally,
    in_order: Tally,
    no_ghost: Tally,
    sent_by_somebody: Tally,
    ack_is_durable: Tally,
    own_room: Tally,
    /// Whether a message of somebody who had been removed was refused.
    refused_after_removal: bool,
}

impl Rooms {
    pub(super) fn judge_senders(
        &mut self,
        faults: &Faults,
        end_ns: u64,
        within_ns: u64,
    ) -> Vec<Row> {
        let mut one_word = std::mem::take(&mut self.one_word);
        let mut tallies = Tallies::default();
        for (name, room) in &self.rooms {
            let roster = Roster::of(room);
            tallies.events(name, room, &self.rooms);
            tallies.refused(name, room, &roster);
            tallies.senders(name, room, &roster);
            for (client, reader) in &room.readers {
                tallies.proposals(name, room, (client, reader), &roster);
                tallies.disorder(name, room, (client, reader), &roster);
            }
            words(&mut one_word, name, room, |ns| {
                let over = faults.over();
                over.is_some_and(|over| end_ns > ns.max(over.ns).saturating_add(within_ns))
            });
        }
        for (at, acked) in &self.acked {
            tallies.acked(*at, acked, &self.rooms, faults);
        }
        one_word.needs(one_word.was_tested(), "no sender was told a final word");
        let busy = self.rooms.values().filter(|room| !room.readers.is_empty());
        let several = busy.count() > 1;
        let mut rows = tallies.rows(several);
        rows.push(one_word.row(Invariant::I25));
        rows
    }
}

/// Whether every message that was taken got its final word.
fn words(tally: &mut Tally, name: &RoomUri, room: &Room, is_late: impl Fn(u64) -> bool) {
    for (id, at) in &room.taken {
        if room.told.contains_key(id) {
            continue;
        }
        if is_late(at.ns) {
            let why = || format!("the sender of {id} in {name} was never told what became of it");
            tally.demand(false, || vec![at.line], why);
        } else {
            let line = at.line;
            let why = format!("line {line}: the history ends before {id} must have its final word");
            tally.needs(false, &why);
        }
    }
}

impl Tallies {
    /// I13 and I20: every event of the room was sent, and sent there.
    fn events(&mut self, name: &RoomUri, room: &Room, rooms: &BTreeMap<RoomUri, Room>) {
        for (seq, (id, line)) in &room.events {
            let here = room.knows(id);
            let elsewhere = rooms.iter().find(|(_, other)| !here && other.knows(id));
            self.own_room.demand(
                elsewhere.is_none(),
                || vec![*line],
                || format!("event {seq} of {name} was sent to another room"),
            );
            self.sent_by_somebody.demand(
                here || elsewhere.is_some(),
                || vec![*line],
                || format!("nobody sent event {seq} of {name}"),
            );
        }
    }

    /// I12: what was refused has no number; and whether a removed member was refused.
    fn refused(&mut self, name: &RoomUri, room: &Room, roster: &Roster<'_>) {
        let messages = room.refused.iter().map(|id| {
            let line = room.told.get(id).map_or(0, |(_, line)| *line);
            (id, line)
        });
        let commits = room.failed.iter().map(|(id, line)| (id, *line));
        for (id, line) in messages.chain(commits) {
            let placed = room.placed.get(id);
            let lines = || [line].into_iter().chain(placed.map(|(_, at)| at.line));
            self.no_ghost.demand(
                placed.is_none(),
                || lines().collect(),
                || format!("{id} was refused, and is in {name}"),
            );
        }
        self.refused_after_removal |= room.refused.iter().any(|id| {
            let sender = room.messages.get(id).map(|message| &message.sender);
            let mut ended = roster.memberships.iter().filter(|one| one.left.is_some());
            ended.any(|one| Some(one.client) == sender)
        });
    }

    /// I5: who sent a message was a member at its number.
    fn senders(&mut self, name: &RoomUri, room: &Room, roster: &Roster<'_>) {
        for (seq, (id, line)) in &room.events {
            let Some(message) = room.messages.get(id).filter(|_| roster.is_known_at(*seq)) else {
                continue;
            };
            let mut memberships = roster.memberships.iter();
            let member = memberships.any(|one| *one.client == message.sender && one.covers(*seq));
            self.members_only.demand(
                member,
                || vec![*line],
                || {
                    let sender = &message.sender;
                    format!("event {seq} of {name} is of {sender}, who was no member")
                },
            );
        }
    }

    /// I4: a device has read the Proposals that a Commit names before it, as far as it was there.
    fn proposals(
        &mut self,
        name: &RoomUri,
        room: &Room,
        (client, reader): (&ClientUri, &Reader),
        roster: &Roster<'_>,
    ) {
        for (seq, (id, at)) in &reader.read {
            let Some(commit) = room.commits.get(id) else {
                continue;
            };
            for reference in &commit.covers {
                let event = room.proposed.get(reference);
                let place = event.and_then(|event| room.placed.get(event));
                let place = place.map(|(place, _)| *place);
                let was_there = |place: RoomSeq| {
                    let mut here = roster.memberships.iter();
                    here.any(|one| one.client == client && one.covers(place))
                };
                let before = |place: RoomSeq| {
                    let read = reader.read.get(&place);
                    place < *seq && read.is_some_and(|(_, read)| read.line < at.line)
                };
                let holds = place.is_some_and(|place| before(place) || !was_there(place));
                self.proposals_first.demand(
                    holds,
                    || vec![at.line],
                    || {
                        format!(
                            "{client} got Commit {seq} of {name} before the Proposal {reference}"
                        )
                    },
                );
            }
        }
    }

    /// I6: how far a device was ahead of the first message of a sender that it lacked.
    fn disorder(
        &mut self,
        name: &RoomUri,
        room: &Room,
        (client, reader): (&ClientUri, &Reader),
        roster: &Roster<'_>,
    ) {
        // In the order of the sender: the places of what the device is entitled to.
        let mut owed: BTreeMap<&ClientUri, BTreeMap<usize, RoomSeq>> = BTreeMap::new();
        for (seq, (id, _)) in &room.events {
            let mut here = roster.memberships.iter();
            if let Some(message) = room.messages.get(id)
                && here.any(|one| one.client == client && one.covers(*seq))
            {
                let of_sender = owed.entry(&message.sender).or_default();
                of_sender.insert(message.place, *seq);
            }
        }
        let mut read: Vec<_> = reader.read.values().collect();
        read.sort_by_key(|(_, at)| at.line);
        for (id, at) in read {
            let Some(message) = room.messages.get(id) else {
                continue;
            };
            let Some(of_sender) = owed.get_mut(&message.sender) else {
                continue;
            };
            of_sender.remove(&message.place);
            let first = of_sender.first_key_value().map(|(place, _)| *place);
            let ahead = first.map_or(0, |first| message.place.saturating_sub(first));
            self.in_order.demand(
                ahead <= DISORDER_MAX,
                || vec![at.line],
                || {
                    let sender = &message.sender;
                    format!("{client} is {ahead} messages of {sender} ahead in {name}")
                },
            );
        }
    }

    /// I16: what a provider acknowledged its devices read after a crash, while it is cut off from the hub. What they read
    /// before the crash shows nothing.
    fn acked(&mut self, at: At, acked: &Acked, rooms: &BTreeMap<RoomUri, Room>, faults: &Faults) {
        let next = |what: Fault, from: At| {
            let mut past = faults.iter().filter(|past| past.what == what);
            past.find(|past| past.start.line > from.line && past.target.contains(&acked.peer))
        };
        let Some((cut, healed)) =
            next(Fault::Partition, at).and_then(|cut| Some((cut.start, cut.stop?)))
        else {
            return;
        };
        let crash = next(Fault::Kill, cut);
        let Some(crash) = crash.filter(|crash| crash.stop.is_some_and(|stop| stop < healed)) else {
            return;
        };
        let of_hub = |room: &RoomUri| room.provider() == acked.hub;
        for (name, room) in rooms.iter().filter(|(name, _)| of_hub(name)) {
            let roster = Roster::of(room);
            let here = |client: &ClientUri| client.provider() == acked.peer;
            let known = room.events.iter();
            for (seq, _) in known.filter(|(_, (_, line))| *line < at.line) {
                let entitled = roster.memberships.iter().filter(|one| one.covers(*seq));
                for client in entitled.map(|one| one.client).filter(|one| here(one)) {
                    let reader = room.readers.get(client);
                    let read = reader.and_then(|reader| reader.read.get(seq));
                    let line = read.map_or(u64::MAX, |(_, read)| read.line);
                    if line < crash.start.line {
                        continue;
                    }
                    self.ack_is_durable.demand(
                        line < healed.line,
                        || vec![at.line, healed.line],
                        || format!("{client} could not read event {seq} of {name} without its hub"),
                    );
                }
            }
        }
    }

    fn rows(mut self, several_rooms: bool) -> Vec<Row> {
        let named = self.proposals_first.was_tested();
        self.proposals_first
            .needs(named, "no device read a Commit that names a Proposal");
        let sent = self.members_only.was_tested();
        self.members_only.needs(sent, "no message is in a room");
        self.members_only.needs(
            self.refused_after_removal,
            "no message of somebody removed was refused",
        );
        let read = self.in_order.was_tested();
        self.in_order.needs(read, "no device read a message");
        let refused = self.no_ghost.was_tested();
        self.no_ghost.needs(refused, "nothing was refused");
        let any = self.sent_by_somebody.was_tested();
        self.sent_by_somebody.needs(any, "no event is known");
        let crashed = self.ack_is_durable.was_tested();
        self.ack_is_durable.needs(
            crashed,
            "no provider crashed, cut off from a hub to which it had acknowledged everything",
        );
        self.own_room.needs(several_rooms, "there was one room");
        vec![
            self.proposals_first.row(Invariant::I4),
            self.members_only.row(Invariant::I5),
            self.in_order.row(Invariant::I6),
            self.no_ghost.row(Invariant::I12),
            self.sent_by_somebody.row(Invariant::I13),
            self.ack_is_durable.row(Invariant::I16),
            self.own_room.row(Invariant::I20),
        ]
    }
}
