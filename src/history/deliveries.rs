//! I2, I10, I15: who was entitled to what, and whether it came. Judged at the end, when it is known who was a member when.

use super::{
    At,
    calls::{Calls, Faults},
    line::Op,
    names::{ClientUri, Digest, Epoch, RoomSeq, RoomUri},
    report::{Invariant, Row, Tally},
    rooms::{Reader, Room, Rooms},
};
use std::collections::BTreeSet;

/// A device's time in a room.
#[derive(Debug)]
pub(super) struct Membership<'a> {
    pub(super) client: &'a ClientUri,
    /// It is entitled to events after this one.
    pub(super) after: RoomSeq,
    /// It joined in this epoch.
    epoch: Epoch,
    /// The Commit that removed it; entitled to events before this one.
    pub(super) left: Option<RoomSeq>,
}

impl Membership<'_> {
    pub(super) fn covers(&self, seq: RoomSeq) -> bool {
        self.after < seq && self.left.is_none_or(|left| seq < left)
    }
}

/// Who was a member when.
#[derive(Debug, Default)]
pub(super) struct Roster<'a> {
    pub(super) memberships: Vec<Membership<'a>>,
    /// The first Commit after which it is not known, and the line that tells of it.
    unknown_from: Option<(RoomSeq, u64)>,
}

impl<'a> Roster<'a> {
    pub(super) fn of(room: &'a Room) -> Self {
        let mut roster = Self::default();
        for client in &room.creators {
            roster.join(client, RoomSeq(0), Epoch(0));
        }
        let mut expected = Epoch(1);
        for (epoch, (id, line)) in &room.opened {
            let seq = room.placed.get(id).map_or(RoomSeq(0), |(seq, _)| *seq);
            let commit = room.commits.get(id).filter(|_| *epoch == expected);
            let Some(commit) = commit else {
                roster.unknown_from = Some((seq, *line));
                return roster;
            };
            for client in &commit.removed {
                let mut members = roster.memberships.iter_mut();
                let here = members.find(|one| one.client == client && one.left.is_none());
                if let Some(membership) = here {
                    membership.left = Some(seq);
                }
            }
            for client in &commit.added {
                roster.join(client, seq, *epoch);
            }
            expected = epoch.next();
        }
        roster
    }

    fn join(&mut self, client: &'a ClientUri, after: RoomSeq, epoch: Epoch) {
        self.memberships.push(Membership {
            client,
            after,
            epoch,
            left: None,
        });
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

/// What is counted on the way through all rooms.
struct Judge {
    end_ns: u64,
    within_ns: u64,
    /// When the last fault was over; `None` when one lasts.
    over: Option<At>,
    commits: Tally,
    acknowledged: Tally,
    in_time: Tally,
    commit_was_read: bool,
    first_acknowledged: Option<At>,
}

impl Rooms {
    pub(super) fn judge(
        mut self,
        faults: &Faults,
        calls: &Calls,
        end_ns: u64,
        within_ns: u64,
    ) -> Vec<Row> {
        let mut rows = self.judge_senders(faults, end_ns, within_ns);
        let mut judge = Judge {
            end_ns,
            within_ns,
            over: faults.over(),
            commits: Tally::default(),
            acknowledged: Tally::default(),
            in_time: Tally::default(),
            commit_was_read: false,
            first_acknowledged: None,
        };
        for (name, room) in &self.rooms {
            judge.room(name, room);
        }
        let fault_in_commit = self.fault_in_commit
            || calls.open().any(|call| {
                matches!(call.invoke.op, Op::Commit { .. }) && faults.began_during(call)
            });
        let contested = self.was_contested();
        self.one_commit
            .needs(contested, "no epoch was contested by two Commits");
        self.once.needs(self.resent, "nothing was sent twice");
        self.once
            .needs(self.once.was_tested(), "no device was given an event");
        self.numbered.needs(self.shared, "no event was seen by two");
        rows.extend(judge.end(faults, fault_in_commit));
        rows.push(self.one_commit.row(Invariant::I1));
        rows.push(self.once.row(Invariant::I14));
        rows.push(self.numbered.row(Invariant::I26));
        rows
    }
}

impl Judge {
    /// Until when something accepted at `at` must have come.
    fn due_ns(&self, at: At) -> u64 {
        self.over.map_or(u64::MAX, |over| {
            at.ns.max(over.ns).saturating_add(self.within_ns)
        })
    }

    fn fate(&self, reader: Option<&Reader>, id: Digest, seq: RoomSeq, since: At) -> Fate {
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
            None if self.end_ns > self.due_ns(since) => Fate::Lost(None),
            None => Fate::Open,
        }
    }

    fn room(&mut self, name: &RoomUri, room: &Room) {
        let roster = Roster::of(room);
        if let Some((seq, line)) = roster.unknown_from {
            let why = format!(
                "line {line}: nobody is recorded to have made this Commit, or one before it: \
                 who was entitled to {name} from event {seq} on is not known"
            );
            for tally in [&mut self.commits, &mut self.acknowledged, &mut self.in_time] {
                tally.needs(false, &why);
            }
        }
        self.epochs(name, room, &roster);
        for (seq, (id, _)) in &room.events {
            if !roster.is_known_at(*seq) {
                break;
            }
            for membership in roster.memberships.iter().filter(|one| one.covers(*seq)) {
                self.owed(name, room, membership.client, *seq, *id);
            }
        }
        for (id, at) in &room.acknowledged {
            let first = self.first_acknowledged.get_or_insert(*at);
            *first = (*first).min(*at);
            if !room.placed.contains_key(id) && !room.refused.contains(id) {
                self.unseen(name, *id, *at);
            }
        }
    }

    /// What was acknowledged, and has neither a number nor a refusal.
    fn unseen(&mut self, name: &RoomUri, id: Digest, at: At) {
        let due_ns = self.due_ns(at);
        for tally in [&mut self.acknowledged, &mut self.in_time] {
            if self.end_ns > due_ns {
                let why = || format!("{id} was acknowledged in {name}, and nobody ever saw it");
                tally.demand(false, || vec![at.line], why);
            } else {
                let line = at.line;
                let why = format!("line {line}: the history ends before {id} must have come");
                tally.needs(false, &why);
            }
        }
    }

    /// Looks whether a device got an event that it was entitled to.
    fn owed(&mut self, name: &RoomUri, room: &Room, client: &ClientUri, seq: RoomSeq, id: Digest) {
        let acknowledged = room.acknowledged.get(&id).copied();
        let placed = room.placed.get(&id).map(|(_, at)| *at);
        let since = acknowledged.or(placed).unwrap_or_default();
        let fate = self.fate(room.readers.get(client), id, seq, since);
        let due_ns = self.due_ns(since);
        let is_commit = room.commits.contains_key(&id);
        let mut tallies = vec![];
        if acknowledged.is_some() {
            tallies.push(&mut self.acknowledged);
            if is_commit {
                tallies.push(&mut self.commits);
            }
        }
        match fate {
            Fate::Read(at) => {
                self.commit_was_read |= is_commit && acknowledged.is_some();
                for tally in tallies {
                    tally.demand(true, Vec::new, String::new);
                }
                let why = || format!("{client} got event {seq} of {name} too late");
                self.in_time
                    .demand(at.ns <= due_ns, || vec![since.line, at.line], why);
            }
            Fate::Lost(shown) => {
                tallies.push(&mut self.in_time);
                for tally in tallies {
                    let lines = || [since.line].into_iter().chain(shown).collect();
                    let why = || format!("{client} never got event {seq} of {name}");
                    tally.demand(false, lines, why);
                }
            }
            Fate::Open => {
                tallies.push(&mut self.in_time);
                let why = format!(
                    "line {}: the history ends before {client} must have got event {seq} of {name}",
                    since.line
                );
                for tally in tallies {
                    tally.needs(false, &why);
                }
            }
        }
    }

    /// Epochs rise by one at each device, from the one in which it joined.
    fn epochs(&mut self, name: &RoomUri, room: &Room, roster: &Roster<'_>) {
        for (client, reader) in &room.readers {
            let memberships = roster.memberships.iter();
            let joined: BTreeSet<Epoch> = memberships
                .filter(|one| one.client == client)
                .map(|one| one.epoch)
                .collect();
            let mut last: Option<(Epoch, u64)> = None;
            for (epoch, line) in &reader.epochs {
                let before = Epoch(epoch.0.saturating_sub(1));
                let joins = joined.contains(&before);
                let holds = match last {
                    // How it joined may not be in the history.
                    None => joins || joined.is_empty(),
                    Some((last, _)) => last == before || (joins && last < *epoch),
                };
                let from = last;
                self.commits.demand(
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

    fn end(mut self, faults: &Faults, fault_in_commit: bool) -> Vec<Row> {
        self.commits.needs(
            self.commit_was_read,
            "no acknowledged Commit was read by a device",
        );
        self.commits.needs(
            fault_in_commit,
            "no fault began while a Commit was under way",
        );
        let crashed = self
            .first_acknowledged
            .is_some_and(|at| faults.crashed_after(at));
        self.acknowledged.needs(
            crashed,
            "no node crashed and came back after something was acknowledged",
        );
        self.acknowledged.needs(
            self.acknowledged.was_tested(),
            "nothing acknowledged was compared with what was delivered",
        );
        let any = faults.iter().next().is_some();
        self.in_time.needs(any, "there was no fault");
        self.in_time
            .needs(self.over.is_some(), "a fault lasts to the end");
        self.in_time
            .needs(self.in_time.was_tested(), "nothing was accepted");
        vec![
            self.commits.row(Invariant::I2),
            self.acknowledged.row(Invariant::I10),
            self.in_time.row(Invariant::I15),
        ]
    }
}
