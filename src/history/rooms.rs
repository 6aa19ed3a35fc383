//! I1, I14, I26, and what the other invariants need to know about rooms.

use super::{
    At,
    calls::{Call, Faults},
    line::{Acked, Delivered, Invoke, Op, Ret, Told},
    names::{ClientUri, Digest, Epoch, RoomSeq, RoomUri},
    report::Tally,
};
use std::collections::{BTreeMap, BTreeSet};

/// A Commit that somebody sent.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) added: Vec<ClientUri>,
    pub(super) removed: Vec<ClientUri>,
    pub(super) covers: Vec<Digest>,
}

/// A message that somebody sent.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) sender: ClientUri,
    /// Its place among the messages of its sender in the room.
    pub(super) place: usize,
}

/// What a device took of a room.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) read: BTreeMap<RoomSeq, (Digest, At)>,
    ids: BTreeMap<Digest, u64>,
    /// The epochs it entered by a Commit, in its order, and the lines.
    pub(super) epochs: Vec<(Epoch, u64)>,
}

/// A room, as far as the history has told.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Who opened it; several while it is not known which of them did.
    pub(super) creators: BTreeSet<ClientUri>,
    pub(super) commits: BTreeMap<Digest, Commit>,
    pub(super) messages: BTreeMap<Digest, Message>,
    /// Messages of each sender so far.
    counts: BTreeMap<ClientUri, usize>,
    /// Events of Proposals that somebody sent.
    pub(super) proposals: BTreeSet<Digest>,
    /// The event in which each Proposal is, by its reference.
    pub(super) proposed: BTreeMap<Digest, Digest>,
    /// Commits that certainly opened nothing, and the lines that say so.
    pub(super) failed: BTreeMap<Digest, u64>,
    /// Messages taken from their senders, and when.
    pub(super) taken: BTreeMap<Digest, At>,
    /// Numbers of which a sender was told, and the line.
    pub(super) told: BTreeMap<Digest, (Option<RoomSeq>, u64)>,
    contenders: BTreeMap<Epoch, BTreeSet<Digest>>,
    /// The Commit that opened each epoch, and the line that first told.
    pub(super) opened: BTreeMap<Epoch, (Digest, u64)>,
    /// The event of each number, and the line that first told.
    pub(super) events: BTreeMap<RoomSeq, (Digest, u64)>,
    /// The number of each event, and when it was first known.
    pub(super) placed: BTreeMap<Digest, (RoomSeq, At)>,
    /// What was acknowledged to its sender, and when first.
    pub(super) acknowledged: BTreeMap<Digest, At>,
    /// Messages whose sender was told that they are not in the room.
    pub(super) refused: BTreeSet<Digest>,
    pub(super) readers: BTreeMap<ClientUri, Reader>,
}

/// All rooms.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    pub(super) rooms: BTreeMap<RoomUri, Room>,
    /// Whether anything was sent twice, by a client or by a node.
    pub(super) resent: bool,
    /// Whether two told the same number of a room.
    pub(super) shared: bool,
    pub(super) fault_in_commit: bool,
    pub(super) one_commit: Tally,
    pub(super) once: Tally,
    pub(super) numbered: Tally,
    pub(super) one_word: Tally,
    /// When hubs had the acknowledgement of all that they owed.
    pub(super) acked: Vec<(At, Acked)>,
}

impl Room {
    fn message(&mut self, sender: &ClientUri, id: Digest) {
        if self.messages.contains_key(&id) {
            return;
        }
        let count = self.counts.entry(sender.clone()).or_default();
        let message = Message {
            sender: sender.clone(),
            place: *count,
        };
        *count += 1;
        self.messages.insert(id, message);
    }

    /// Whether somebody sent this to the room.
    pub(super) fn knows(&self, id: &Digest) -> bool {
        self.messages.contains_key(id)
            || self.commits.contains_key(id)
            || self.proposals.contains(id)
    }
}

impl Rooms {
    fn room(&mut self, room: &RoomUri) -> &mut Room {
        self.rooms.entry(room.clone()).or_default()
    }

    /// An operation begins.
    pub(super) fn invoked(&mut self, invoke: &Invoke) {
        match &invoke.op {
            Op::Create { room } => {
                if let Ok(client) = invoke.proc.parse() {
                    self.room(room).creators.insert(client);
                }
            }
            Op::Commit {
                room,
                epoch,
                id,
                added,
                removed,
                covers,
            } => {
                let known = self.room(room);
                known.contenders.entry(*epoch).or_default().insert(*id);
                let commit = Commit {
                    added: added.clone(),
                    removed: removed.clone(),
                    covers: covers.clone(),
                };
                let again = known.commits.insert(*id, commit).is_some();
                self.resent |= again;
            }
            Op::Send { room, ids } => {
                let Ok(sender) = invoke.proc.parse::<ClientUri>() else {
                    return;
                };
                let known = self.room(room);
                let again = ids.iter().any(|id| known.messages.contains_key(id));
                for id in ids {
                    known.message(&sender, *id);
                }
                self.resent |= again;
            }
            Op::Propose {
                room,
                id,
                references,
            } => {
                let known = self.room(room);
                let again = !known.proposals.insert(*id);
                let named = references.iter().map(|reference| (*reference, *id));
                known.proposed.extend(named);
                self.resent |= again;
            }
            Op::Claim { .. } => {}
        }
    }

    /// An operation ends, in whatever way.
    pub(super) fn ended(&mut self, call: &Call, faults: &Faults) {
        if matches!(call.invoke.op, Op::Commit { .. }) {
            self.fault_in_commit |= faults.began_during(call);
        }
    }

    /// An operation certainly did not happen.
    pub(super) fn failed(&mut self, at: At, call: &Call) {
        match &call.invoke.op {
            Op::Create { room } => {
                if let Ok(client) = call.invoke.proc.parse() {
                    self.room(room).creators.remove(&client);
                }
            }
            Op::Commit { room, id, .. } => {
                self.room(room).failed.insert(*id, at.line);
            }
            Op::Send { .. } | Op::Propose { .. } | Op::Claim { .. } => {}
        }
    }

    /// An operation happened.
    pub(super) fn acknowledged(&mut self, at: At, call: &Call, ret: &Ret) {
        match (&call.invoke.op, ret) {
            (
                Op::Commit {
                    room, epoch, id, ..
                },
                Ret::Committed { epoch: told, seq },
            ) => {
                self.one_commit.demand(
                    epoch == told,
                    || vec![call.begun.line, at.line],
                    || format!("a Commit for epoch {epoch} of {room} was said to open {told}"),
                );
                self.opens(at, room, *told, *id);
                self.place(at, room, *seq, *id);
                self.room(room).acknowledged.entry(*id).or_insert(at);
            }
            (Op::Send { room, ids }, Ret::Sent) => {
                let known = self.room(room);
                for id in ids {
                    known.acknowledged.entry(*id).or_insert(at);
                    known.taken.entry(*id).or_insert(at);
                }
            }
            _ => {}
        }
    }

    /// A sender was told the final word.
    pub(super) fn told(&mut self, at: At, told: &Told) {
        let known = self.room(&told.room);
        let (first, line) = *known.told.entry(told.id).or_insert((told.seq, at.line));
        self.one_word.demand(
            first == told.seq,
            || vec![line, at.line],
            || format!("the word on {} was {first:?}, then {:?}", told.id, told.seq),
        );
        match told.seq {
            Some(seq) => self.place(at, &told.room, seq, told.id),
            None => {
                self.room(&told.room).refused.insert(told.id);
            }
        }
    }

    /// A device has taken an event.
    pub(super) fn delivered(&mut self, at: At, delivered: Delivered) {
        let Delivered {
            client,
            room,
            seq,
            id,
            epoch,
            again,
        } = delivered;
        self.place(at, &room, seq, id);
        if let Some(epoch) = epoch {
            self.opens(at, &room, epoch, id);
        }
        self.resent |= again;
        let reader = self
            .rooms
            .entry(room.clone())
            .or_default()
            .readers
            .entry(client.clone())
            .or_default();
        if again {
            return;
        }
        let before = reader.read.get(&seq).map(|(_, at)| at.line);
        let before = before.or_else(|| reader.ids.get(&id).copied());
        self.once.demand(
            before.is_none(),
            || before.into_iter().chain([at.line]).collect(),
            || format!("{client} was given event {seq} of {room} twice"),
        );
        reader.read.entry(seq).or_insert((id, at));
        reader.ids.entry(id).or_insert(at.line);
        if let Some(epoch) = epoch {
            reader.epochs.push((epoch, at.line));
        }
    }

    /// Somebody tells which event has a number.
    fn place(&mut self, at: At, room: &RoomUri, seq: RoomSeq, id: Digest) {
        let known = self.rooms.entry(room.clone()).or_default();
        let told_before = known.events.contains_key(&seq);
        let (first, line) = *known.events.entry(seq).or_insert((id, at.line));
        known.placed.entry(id).or_insert((seq, at));
        self.shared |= told_before;
        self.numbered.demand(
            first == id,
            || vec![line, at.line],
            || format!("event {seq} of {room} is {id}, and was {first}"),
        );
    }

    /// Somebody tells which Commit opened an epoch.
    fn opens(&mut self, at: At, room: &RoomUri, epoch: Epoch, id: Digest) {
        let known = self.rooms.entry(room.clone()).or_default();
        let (first, line) = *known.opened.entry(epoch).or_insert((id, at.line));
        self.one_commit.demand(
            first == id,
            || vec![line, at.line],
            || format!("Commits {first} and {id} opened epoch {epoch} of {room}"),
        );
    }

    /// Whether two Commits for one epoch were sent, and one of them opened it.
    pub(super) fn was_contested(&self) -> bool {
        self.rooms.values().any(|room| {
            let mut contested = room.contenders.iter().filter(|(_, ids)| ids.len() > 1);
            contested.any(|(epoch, _)| room.opened.contains_key(epoch))
        })
    }
}
