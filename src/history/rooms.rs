//! What a history tells of rooms: facts for the ledger, and what the invariants need that are judged at the end.

use super::{
    book::Book,
    calls::{Call, Faults},
    facts::{At, Fact},
    line::{Acked, Delivered, Invoke, Op, Ret, Told},
    names::{ClientUri, Digest, Epoch, RoomUri},
    report::Invariant,
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

/// A room, as far as the history has told.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Who opened it; several while it is not known which of them did.
    pub(super) creators: BTreeSet<ClientUri>,
    pub(super) commits: BTreeMap<Digest, Commit>,
    pub(super) messages: BTreeMap<Digest, Message>,
    /// Messages of each sender so far.
    counts: BTreeMap<ClientUri, usize>,
    /// The event in which each Proposal is, by its reference.
    pub(super) proposed: BTreeMap<Digest, Digest>,
    /// Messages taken from their senders, and when.
    pub(super) taken: BTreeMap<Digest, At>,
    contenders: BTreeMap<Epoch, BTreeSet<Digest>>,
    /// What was acknowledged to its sender, and when first.
    pub(super) acknowledged: BTreeMap<Digest, At>,
    /// The epochs that each device entered by a Commit, in its order, and the lines.
    pub(super) entered: BTreeMap<ClientUri, Vec<(Epoch, u64)>>,
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
}

impl Rooms {
    fn room(&mut self, room: &RoomUri) -> &mut Room {
        self.rooms.entry(room.clone()).or_default()
    }

    /// An operation begins.
    pub(super) fn invoked(&mut self, at: At, invoke: &Invoke, book: &mut Book) {
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
                self.sent(at, room, *id, book);
                let known = self.room(room);
                known.contenders.entry(*epoch).or_default().insert(*id);
                let commit = Commit {
                    added: added.clone(),
                    removed: removed.clone(),
                    covers: covers.clone(),
                };
                known.commits.insert(*id, commit);
            }
            Op::Send { room, ids } => {
                let Ok(sender) = invoke.proc.parse::<ClientUri>() else {
                    return;
                };
                for id in ids {
                    self.sent(at, room, *id, book);
                    self.room(room).message(&sender, *id);
                }
            }
            Op::Propose {
                room,
                id,
                references,
            } => {
                self.sent(at, room, *id, book);
                let named = references.iter().map(|reference| (*reference, *id));
                self.room(room).proposed.extend(named);
            }
            Op::Claim { .. } => {}
        }
    }

    /// Somebody sends something, perhaps again.
    fn sent(&mut self, at: At, room: &RoomUri, id: Digest, book: &mut Book) {
        self.resent |= book.of(room).sent.contains(&id);
        book.see(at, Fact::Sent { room, id });
    }

    /// An operation ends, in whatever way.
    pub(super) fn ended(&mut self, call: &Call, faults: &Faults) {
        if matches!(call.invoke.op, Op::Commit { .. }) {
            self.fault_in_commit |= faults.began_during(call);
        }
    }

    /// An operation certainly did not happen.
    pub(super) fn failed(&mut self, at: At, call: &Call, book: &mut Book) {
        match &call.invoke.op {
            Op::Create { room } => {
                if let Ok(client) = call.invoke.proc.parse() {
                    self.room(room).creators.remove(&client);
                }
            }
            Op::Commit { room, id, .. } => book.see(at, Fact::Refused { room, id: *id }),
            Op::Send { .. } | Op::Propose { .. } | Op::Claim { .. } => {}
        }
    }

    /// An operation happened.
    pub(super) fn acknowledged(&mut self, at: At, call: &Call, ret: &Ret, book: &mut Book) {
        match (&call.invoke.op, ret) {
            (
                Op::Commit {
                    room, epoch, id, ..
                },
                Ret::Committed { epoch: told, seq },
            ) => {
                book.demand(
                    Invariant::I1,
                    epoch == told,
                    || vec![call.begun.line, at.line],
                    || format!("a Commit for epoch {epoch} of {room} was said to open {told}"),
                );
                let (epoch, commit, seq) = (*told, *id, *seq);
                self.shared |= book.of(room).events.contains_key(&seq);
                book.see(
                    at,
                    Fact::Opened {
                        room,
                        epoch,
                        commit,
                    },
                );
                book.see(
                    at,
                    Fact::Numbered {
                        room,
                        seq,
                        event: commit,
                    },
                );
                self.room(room).acknowledged.entry(commit).or_insert(at);
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

    /// A sender was told the verdict.
    pub(super) fn told(&mut self, at: At, told: &Told, book: &mut Book) {
        let Told { room, id, seq, .. } = told;
        self.room(room);
        self.shared |= seq.is_some_and(|seq| book.of(room).events.contains_key(&seq));
        book.see(
            at,
            Fact::Word {
                room,
                message: *id,
                seq: *seq,
            },
        );
    }

    /// A device has taken an event.
    pub(super) fn delivered(&mut self, at: At, delivered: Delivered, book: &mut Book) {
        let Delivered {
            client,
            room,
            seq,
            id,
            epoch,
            again,
        } = delivered;
        self.shared |= book.of(&room).events.contains_key(&seq);
        let (room, event) = (&room, id);
        book.see(at, Fact::Numbered { room, seq, event });
        if let Some(epoch) = epoch {
            let commit = id;
            book.see(
                at,
                Fact::Opened {
                    room,
                    epoch,
                    commit,
                },
            );
        }
        self.resent |= again;
        let known = self.room(room);
        if again {
            return;
        }
        if let Some(epoch) = epoch {
            let entered = known.entered.entry(client.clone()).or_default();
            entered.push((epoch, at.line));
        }
        let client = &client;
        book.see(
            at,
            Fact::Took {
                client,
                room,
                seq,
                event,
            },
        );
    }

    /// Whether two Commits for one epoch were sent, and one of them opened it.
    pub(super) fn was_contested(&self, book: &Book) -> bool {
        self.rooms.iter().any(|(name, room)| {
            let mut contested = room.contenders.iter().filter(|(_, ids)| ids.len() > 1);
            let told = book.ledger.of(name);
            contested.any(|(epoch, _)| told.is_some_and(|told| told.opened.contains_key(epoch)))
        })
    }
}
