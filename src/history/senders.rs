//! I4, I5, I6, I16, and what I12, I13, I20 and I25 lack: whose an event is, what came before it, and what became of what
//! was sent. Judged at the end, when it is known who was a member when.

use super::{
    End,
    book::{Book, Lines},
    calls::Faults,
    deliveries::Members,
    facts::{At, Judge as _},
    ledger::{Ledger, Reader, RoomFacts},
    line::{Acked, Fault},
    names::{ClientUri, Digest, RoomSeq, RoomUri},
    report::{Invariant, Tallies},
    rooms::{Room, Rooms},
};
use std::collections::BTreeMap;

/// How far a device may be ahead of the first message that it lacks of a sender.
///
/// Source: transport requirements, section 5, row R5-15.
const DISORDER_MAX: usize = 100;

/// A room, what was told of it, and who was a member of it.
#[derive(Clone, Copy)]
struct Of<'a> {
    name: &'a RoomUri,
    room: &'a Room,
    told: &'a RoomFacts<Lines>,
    members: &'a Members<'a>,
}

impl Rooms {
    pub(super) fn judge_senders(&self, faults: &Faults, end: End, book: &mut Book) {
        let Book { ledger, tallies } = book;
        let nothing = RoomFacts::default();
        let mut refused_after_removal = false;
        for (name, room) in &self.rooms {
            let told = ledger.of(name).unwrap_or(&nothing);
            let members = &Members::of(room, told);
            let of = Of {
                name,
                room,
                told,
                members,
            };
            refused_after_removal |= of.was_refused_after_removal();
            of.senders(tallies);
            for (client, reader) in &told.readers {
                of.proposals(client, reader, tallies);
                of.disorder(client, reader, tallies);
            }
            of.words(end, tallies);
        }
        for (at, acked) in &self.acked {
            self.acked_by(*at, acked, ledger, faults, tallies);
        }
        let several = ledger
            .rooms
            .values()
            .filter(|told| !told.readers.is_empty());
        let several = several.count() > 1;
        let refused = ledger.rooms.values().any(|told| !told.refused.is_empty());
        tallies.needs_a_test(
            Invariant::I4,
            "no device read a Commit that names a Proposal",
        );
        tallies.needs_a_test(Invariant::I5, "no message is in a room");
        tallies.needs(
            Invariant::I5,
            refused_after_removal,
            "no message of somebody removed was refused",
        );
        tallies.needs_a_test(Invariant::I6, "no device read a message");
        tallies.needs(Invariant::I12, refused, "nothing was refused");
        tallies.needs_a_test(Invariant::I13, "no event is known");
        tallies.needs_a_test(
            Invariant::I16,
            "no provider crashed, cut off from a hub to which it had acknowledged everything",
        );
        tallies.needs(Invariant::I20, several, "there was one room");
        tallies.needs_a_test(Invariant::I25, "no sender was told a verdict");
    }

    /// I16: what a provider acknowledged its devices read after a crash, while it is cut off from the hub. What they read
    /// before the crash shows nothing.
    fn acked_by(
        &self,
        at: At,
        acked: &Acked,
        ledger: &Ledger<Lines>,
        faults: &Faults,
        tallies: &mut Tallies,
    ) {
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
        for (name, told) in &ledger.rooms {
            let Some(room) = self.rooms.get(name) else {
                continue;
            };
            if name.provider() != acked.hub {
                continue;
            }
            let members = Members::of(room, told);
            let here = |client: &ClientUri| client.provider() == acked.peer;
            let known = told.events.iter();
            for (seq, _) in known.filter(|(_, (_, told))| told.line < at.line) {
                let entitled = members.roster.iter().filter(|one| one.covers(*seq));
                for client in entitled.map(|one| one.client).filter(|one| here(one)) {
                    let reader = told.readers.get(client);
                    let read = reader.and_then(|reader| reader.read.get(seq));
                    let line = read.map_or(u64::MAX, |(_, read)| read.line);
                    if line < crash.start.line {
                        continue;
                    }
                    tallies.demand(
                        Invariant::I16,
                        line < healed.line,
                        || vec![at.line, healed.line],
                        || format!("{client} could not read event {seq} of {name} without its hub"),
                    );
                }
            }
        }
    }
}

impl Of<'_> {
    /// Whether a message of somebody who had been removed was refused.
    fn was_refused_after_removal(self) -> bool {
        self.told.refused.keys().any(|id| {
            let sender = self.room.messages.get(id).map(|message| &message.sender);
            let mut ended = self.members.roster.iter().filter(|one| one.left.is_some());
            ended.any(|one| Some(one.client) == sender)
        })
    }

    /// I25: every message that was taken got its verdict.
    fn words(self, end: End, tallies: &mut Tallies) {
        let name = self.name;
        for (id, at) in &self.room.taken {
            if self.told.words.contains_key(id) {
                continue;
            }
            if end.is_past_due(*at) {
                let why =
                    || format!("the sender of {id} in {name} was never told what became of it");
                tallies.demand(Invariant::I25, false, || vec![at.line], why);
            } else {
                let line = at.line;
                let why =
                    format!("line {line}: the history ends before {id} must have its verdict");
                tallies.needs(Invariant::I25, false, &why);
            }
        }
    }

    /// I5: who sent a message was a member at its number.
    fn senders(self, tallies: &mut Tallies) {
        let Self {
            name,
            room,
            told,
            members,
        } = self;
        for (seq, (id, at)) in &told.events {
            let Some(message) = room.messages.get(id).filter(|_| members.is_known_at(*seq)) else {
                continue;
            };
            tallies.demand(
                Invariant::I5,
                members.roster.has_at(&&message.sender, *seq),
                || vec![at.line],
                || {
                    let sender = &message.sender;
                    format!("event {seq} of {name} is of {sender}, who was no member")
                },
            );
        }
    }

    /// I4: a device has read the Proposals that a Commit names before it, as far as it was there.
    fn proposals(self, client: &ClientUri, reader: &Reader<Digest>, tallies: &mut Tallies) {
        let Self {
            name,
            room,
            told,
            members,
        } = self;
        for (seq, (id, at)) in &reader.read {
            let Some(commit) = room.commits.get(id) else {
                continue;
            };
            for reference in &commit.covers {
                let event = room.proposed.get(reference);
                let place = event.and_then(|event| told.seq_of(event));
                let was_there = |place: RoomSeq| members.roster.has_at(&client, place);
                let before = |place: RoomSeq| {
                    let read = reader.read.get(&place);
                    place < *seq && read.is_some_and(|(_, read)| read.line < at.line)
                };
                let holds = place.is_some_and(|place| before(place) || !was_there(place));
                tallies.demand(
                    Invariant::I4,
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
    fn disorder(self, client: &ClientUri, reader: &Reader<Digest>, tallies: &mut Tallies) {
        let Self {
            name,
            room,
            told,
            members,
        } = self;
        // In the order of the sender: the places of what the device is entitled to.
        let mut owed: BTreeMap<&ClientUri, BTreeMap<usize, RoomSeq>> = BTreeMap::new();
        for (seq, (id, _)) in &told.events {
            if let Some(message) = room.messages.get(id)
                && members.roster.has_at(&client, *seq)
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
            tallies.demand(
                Invariant::I6,
                ahead <= DISORDER_MAX,
                || vec![at.line],
                || {
                    let sender = &message.sender;
                    format!("{client} is {ahead} messages of {sender} ahead in {name}")
                },
            );
        }
    }
}
