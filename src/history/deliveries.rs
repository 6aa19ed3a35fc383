//! I2, I10, I15: who was entitled to what, and whether it came. Judged at the end, when it is known who was a member when.

use super::{
    End,
    book::{Book, Lines},
    calls::{Calls, Faults},
    facts::{At, Judge as _},
    ledger::{Reader, RoomFacts},
    line::Op,
    names::{ClientUri, Digest, Epoch, RoomSeq, RoomUri},
    report::{Invariant, Tallies},
    rooms::{Room, Rooms},
    roster::Roster,
};
use std::collections::BTreeSet;

/// Who was a member when, as far as a history tells.
#[derive(Debug, Default)]
pub(super) struct Members<'a> {
    pub(super) roster: Roster<&'a ClientUri>,
    /// The first Commit after which it is not known, and the line that tells of it.
    unknown_from: Option<(RoomSeq, u64)>,
}

impl<'a> Members<'a> {
    pub(super) fn of(room: &'a Room, told: &RoomFacts<Lines>) -> Self {
        let mut members = Self::default();
        for client in &room.creators {
            members.roster.join(client, RoomSeq(0), Epoch(0));
        }
        let mut expected = Epoch(1);
        for (epoch, (id, at)) in &told.opened {
            let seq = told.seq_of(id).unwrap_or_default();
            let commit = room.commits.get(id).filter(|_| *epoch == expected);
            let Some(commit) = commit else {
                members.unknown_from = Some((seq, at.line));
                return members;
            };
            for client in &commit.removed {
                members.roster.leave(&client, seq);
            }
            for client in &commit.added {
                members.roster.join(client, seq, *epoch);
            }
            expected = epoch.next();
        }
        members
    }

    pub(super) fn is_known_at(&self, seq: RoomSeq) -> bool {
        self.unknown_from.is_none_or(|(from, _)| seq < from)
    }
}

/// What became of an event for a device that is entitled to it.
enum Fate {
    Read(At),
    /// It will never come; the line that shows it, if one does.
    Lost(Option<u64>),
    /// It may still come.
    Open,
}

/// The look through all rooms.
struct Look<'a> {
    end: End,
    tallies: &'a mut Tallies,
    commit_was_read: bool,
    first_acknowledged: Option<At>,
}

/// What stands in the history of one room.
#[derive(Clone, Copy)]
struct Of<'a> {
    name: &'a RoomUri,
    room: &'a Room,
    told: &'a RoomFacts<Lines>,
}

impl Rooms {
    pub(super) fn judge(&self, faults: &Faults, calls: &Calls, end: End, book: &mut Book) {
        let contested = self.was_contested(book);
        let given = book.ledger.rooms.values();
        let given = given.map(|told| told.readers.len()).sum::<usize>() > 0;
        self.judge_senders(faults, end, book);
        let nothing = RoomFacts::default();
        let Book { ledger, tallies } = book;
        let mut look = Look {
            end,
            tallies,
            commit_was_read: false,
            first_acknowledged: None,
        };
        for (name, room) in &self.rooms {
            let told = ledger.of(name).unwrap_or(&nothing);
            look.room(Of { name, room, told });
        }
        let fault_in_commit = self.fault_in_commit
            || calls.open().any(|call| {
                matches!(call.invoke.op, Op::Commit { .. }) && faults.began_during(call)
            });
        look.end(faults, fault_in_commit);
        let tallies = &mut book.tallies;
        tallies.needs(
            Invariant::I1,
            contested,
            "no epoch was contested by two Commits",
        );
        let once = tallies.of(Invariant::I14);
        once.needs(self.resent, "nothing was sent twice");
        once.needs(given, "no device was given an event");
        tallies.needs(Invariant::I26, self.shared, "no event was seen by two");
    }
}

impl Look<'_> {
    fn fate(&self, reader: Option<&Reader<Digest>>, id: Digest, seq: RoomSeq, since: At) -> Fate {
        let read = reader.and_then(|reader| reader.read.get(&seq));
        if let Some((other, at)) = read {
            return if *other == id {
                Fate::Read(*at)
            } else {
                Fate::Lost(Some(at.line))
            };
        }
        let later = reader.and_then(|reader| reader.read.range(seq..).next());
        match later {
            Some((_, (_, at))) => Fate::Lost(Some(at.line)),
            None if self.end.is_past_due(since) => Fate::Lost(None),
            None => Fate::Open,
        }
    }

    fn room(&mut self, of: Of<'_>) {
        let Of { name, room, told } = of;
        let members = Members::of(room, told);
        if let Some((seq, line)) = members.unknown_from {
            let why = format!(
                "line {line}: nobody is recorded to have made this Commit, or one before it: \
                 who was entitled to {name} from event {seq} on is not known"
            );
            for invariant in [Invariant::I2, Invariant::I10, Invariant::I15] {
                self.tallies.needs(invariant, false, &why);
            }
        }
        self.epochs(of, &members);
        for (seq, (id, _)) in &told.events {
            if !members.is_known_at(*seq) {
                break;
            }
            for membership in members.roster.iter().filter(|one| one.covers(*seq)) {
                self.owed(of, membership.client, *seq, *id);
            }
        }
        for (id, at) in &room.acknowledged {
            let first = self.first_acknowledged.get_or_insert(*at);
            *first = (*first).min(*at);
            if !told.placed.contains_key(id) && !told.refused.contains_key(id) {
                self.unseen(name, *id, *at);
            }
        }
    }

    /// What was acknowledged, and has neither a number nor a refusal.
    fn unseen(&mut self, name: &RoomUri, id: Digest, at: At) {
        let late = self.end.is_past_due(at);
        for invariant in [Invariant::I10, Invariant::I15] {
            if late {
                let why = || format!("{id} was acknowledged in {name}, and nobody ever saw it");
                self.tallies.demand(invariant, false, || vec![at.line], why);
            } else {
                let line = at.line;
                let why = format!("line {line}: the history ends before {id} must have come");
                self.tallies.needs(invariant, false, &why);
            }
        }
    }

    /// Looks whether a device got an event that it was entitled to.
    fn owed(&mut self, of: Of<'_>, client: &ClientUri, seq: RoomSeq, id: Digest) {
        let Of { name, room, told } = of;
        let acknowledged = room.acknowledged.get(&id).copied();
        let placed = told.placed.get(&id).map(|(_, at)| *at);
        let since = acknowledged.or(placed).unwrap_or_default();
        let fate = self.fate(told.readers.get(client), id, seq, since);
        let due_ns = self.end.due_ns(since);
        let is_commit = room.commits.contains_key(&id);
        let mut of_it = vec![];
        if acknowledged.is_some() {
            of_it.push(Invariant::I10);
            if is_commit {
                of_it.push(Invariant::I2);
            }
        }
        let tallies = &mut *self.tallies;
        match fate {
            Fate::Read(at) => {
                self.commit_was_read |= is_commit && acknowledged.is_some();
                for invariant in of_it {
                    tallies.demand(invariant, true, Vec::new, String::new);
                }
                let why = || format!("{client} got event {seq} of {name} too late");
                let lines = || vec![since.line, at.line];
                tallies.demand(Invariant::I15, at.ns <= due_ns, lines, why);
            }
            Fate::Lost(shown) => {
                of_it.push(Invariant::I15);
                for invariant in of_it {
                    let lines = || [since.line].into_iter().chain(shown).collect();
                    let why = || format!("{client} never got event {seq} of {name}");
                    tallies.demand(invariant, false, lines, why);
                }
            }
            Fate::Open => {
                of_it.push(Invariant::I15);
                let why = format!(
                    "line {}: the history ends before {client} must have got event {seq} of {name}",
                    since.line
                );
                for invariant in of_it {
                    tallies.needs(invariant, false, &why);
                }
            }
        }
    }

    /// Epochs rise by one at each device, from the one in which it joined.
    fn epochs(&mut self, of: Of<'_>, members: &Members<'_>) {
        let name = of.name;
        for (client, epochs) in &of.room.entered {
            let memberships = members.roster.iter();
            let joined: BTreeSet<Epoch> = memberships
                .filter(|one| one.client == client)
                .map(|one| one.epoch)
                .collect();
            let mut last: Option<(Epoch, u64)> = None;
            for (epoch, line) in epochs {
                let before = Epoch(epoch.0.saturating_sub(1));
                let joins = joined.contains(&before);
                let holds = match last {
                    // How it joined may not be in the history.
                    None => joins || joined.is_empty(),
                    Some((last, _)) => last == before || (joins && last < *epoch),
                };
                let from = last;
                self.tallies.demand(
                    Invariant::I2,
                    holds,
                    || from.iter().map(|(_, line)| *line).chain([*line]).collect(),
                    || {
                        let from =
                            from.map_or_else(|| "nothing".into(), |(last, _)| last.to_string());
                        format!("{client} went from epoch {from} to {epoch} of {name}")
                    },
                );
                last = Some((*epoch, *line));
            }
        }
    }

    fn end(self, faults: &Faults, fault_in_commit: bool) {
        let commits = self.tallies.of(Invariant::I2);
        commits.needs(
            self.commit_was_read,
            "no acknowledged Commit was read by a device",
        );
        commits.needs(
            fault_in_commit,
            "no fault began while a Commit was under way",
        );
        let crashed = self
            .first_acknowledged
            .is_some_and(|at| faults.crashed_after(at));
        self.tallies.needs(
            Invariant::I10,
            crashed,
            "no node crashed and came back after something was acknowledged",
        );
        self.tallies.needs_a_test(
            Invariant::I10,
            "nothing acknowledged was compared with what was delivered",
        );
        let any = faults.iter().next().is_some();
        let in_time = self.tallies.of(Invariant::I15);
        in_time.needs(any, "there was no fault");
        in_time.needs(self.end.over.is_some(), "a fault lasts to the end");
        self.tallies
            .needs_a_test(Invariant::I15, "nothing was accepted");
    }
}
