//! Notices of rooms: who joins or leaves, and the inbox in which each client finds it.
//!
//! Promises: a notice is taken once; items are numbered without a gap. Not here: the bytes, which stay in the log where
//! [`InboxItem::at`] points.
//!
//! Source: transport requirements, section 5.

use super::{
    Device, User,
    command::{Deliver, Join, LearnRefilled},
    cursors::Membership,
    outcome::{Answer, Outcome},
};
use crate::{
    ids::{ClientUri, ProviderId, RoomUri},
    limits::{
        CONSENT_NOTES_PER_CLIENT_MAX, INBOX_ITEMS_PER_CLIENT_AND_HUB_MAX,
        INBOX_ITEMS_PER_CLIENT_MAX, NOTES_PER_CLIENT_MAX, ROOMS_PER_CLIENT_AND_HUB_MAX,
        ROOMS_PER_CLIENT_MAX,
    },
    machine::{Moment, Position},
    mls::codec::welcome::Welcome,
    wire::{
        event::{Hash, InboxSeq, LinkSeq, RoomSeq},
        post::{Note, Notice},
        version::Level,
    },
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};

/// The notices of one client that it has not acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inbox {
    last: InboxSeq,
    /// Oldest first.
    items: VecDeque<InboxItem>,
}

/// A notice in an inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxItem {
    /// Its number.
    pub seq: InboxSeq,
    /// What it is.
    pub held: Held,
}

/// What lies in an inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// A notice of a room: the [`Deliver`] that holds it.
    Notice(Position),
    /// A note of the provider itself.
    Note(Note),
    /// A notice of a room of another provider, and by what that is known. Version 1 of folds has no word for it.
    From(HubMark, Position),
    /// A note about consent, and the [`Heard`](super::command::Heard) that holds the KeyPackages which came with it. Version 1
    /// has no word for it.
    Said(Note, Position),
}

/// What another provider is known by in an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubMark([u8; 4]);

impl HubMark {
    fn of(hub: &ProviderId) -> Self {
        let [a, b, c, d, ..] = Hash::of(hub.as_str().as_bytes()).0;
        Self([a, b, c, d])
    }
}

impl InboxItem {
    /// The command that holds its bytes, if one does.
    #[must_use]
    pub fn at(&self) -> Option<Position> {
        match self.held {
            Held::Notice(at) | Held::From(_, at) | Held::Said(_, at) => Some(at),
            Held::Note(_) => None,
        }
    }
}

impl Inbox {
    pub(super) fn items(&self) -> impl Iterator<Item = InboxItem> {
        self.items.iter().cloned()
    }

    /// Stores a notice of a room, if there is room: of the notices of one provider that counts, and beside what notes may
    /// take.
    fn store_notice(&mut self, at: Position, hub: Counted) -> Stored {
        let (held, is_full) = match hub {
            Counted::No => (Held::Notice(at), false),
            Counted::Own => (Held::Notice(at), self.is_full_but_for_notes()),
            Counted::Hub(mark) => {
                let of_hub =
                    |item: &&InboxItem| matches!(item.held, Held::From(of, _) if of == mark);
                let own = self.items.iter().filter(of_hub).count();
                let is_full = own >= INBOX_ITEMS_PER_CLIENT_AND_HUB_MAX;
                (
                    Held::From(mark, at),
                    is_full || self.is_full_but_for_notes(),
                )
            }
        };
        if is_full {
            return Stored::InPart;
        }
        self.store(held)
    }

    /// Whether what is left is kept for notes.
    fn is_full_but_for_notes(&self) -> bool {
        let notes = self.notes().count();
        self.items.len() - notes >= INBOX_ITEMS_PER_CLIENT_MAX - NOTES_PER_CLIENT_MAX
    }

    fn notes(&self) -> impl Iterator<Item = &Note> {
        self.items.iter().filter_map(|item| match &item.held {
            Held::Note(note) | Held::Said(note, _) => Some(note),
            Held::Notice(_) | Held::From(..) => None,
        })
    }

    /// Whether there is anything in it that version 1 of folds has no word for.
    pub(super) fn is_of_2(&self) -> bool {
        let of_2 = |item: &InboxItem| match &item.held {
            Held::From(..) | Held::Said(..) | Held::Note(Note::Missed { .. }) => true,
            Held::Note(note) => note.is_of_consent(),
            Held::Notice(_) => false,
        };
        self.items.iter().any(of_2)
    }

    /// Stores something, if there is room.
    fn store(&mut self, held: Held) -> Stored {
        if self.items.len() >= INBOX_ITEMS_PER_CLIENT_MAX {
            return Stored::InPart;
        }
        self.last = self.last.next();
        let seq = self.last;
        self.items.push_back(InboxItem { seq, held });
        Stored::Whole
    }

    /// Whether this note waits already.
    fn holds(&self, note: &Note) -> bool {
        self.notes().any(|held| held == note)
    }

    pub(super) fn ack(&mut self, upto: InboxSeq) {
        while self.items.front().is_some_and(|item| item.seq <= upto) {
            self.items.pop_front();
        }
    }
}

/// How a notice counts for the provider whose room it is of.
#[derive(Clone, Copy)]
enum Counted {
    /// Logs of the first level know no such rule.
    No,
    /// It is of a room of the client's own provider.
    Own,
    /// It is of a room of another.
    Hub(HubMark),
}

impl Counted {
    /// Rooms of the hub in which the client may be.
    fn rooms_max(self) -> usize {
        match self {
            Self::No | Self::Own => ROOMS_PER_CLIENT_MAX,
            Self::Hub(_) => ROOMS_PER_CLIENT_AND_HUB_MAX,
        }
    }
}

/// What became of a notice for one client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stored {
    Whole,
    InPart,
    /// It did not concern the client.
    Nothing,
}

/// What a notice says happened to its clients.
#[derive(Clone, Copy)]
enum Happened {
    /// They joined; whether there is a Welcome for them.
    Joined {
        after: RoomSeq,
        welcomed: bool,
    },
    Left {
        upto: RoomSeq,
    },
}

impl Happened {
    fn of(notice: &Notice) -> Self {
        match notice {
            Notice::Joined { after, welcome } => Self::Joined {
                after: *after,
                welcomed: welcome.is_some(),
            },
            Notice::Left { upto } => Self::Left { upto: *upto },
        }
    }
}

impl Device {
    /// Whether there is no place for another room of its hub, of which `of_hub_max` are taken.
    fn is_crowded(&self, room: &RoomUri, of_hub_max: usize) -> bool {
        // Those of one hub stand together.
        let of_hub = |other: &&RoomUri| other.hub() == room.hub();
        let before = self.rooms.range(..room).rev().map(|(other, _)| other);
        let behind = self.rooms.range(room..).map(|(other, _)| other);
        let others = before.take_while(of_hub).chain(behind.take_while(of_hub));
        self.rooms.len() >= ROOMS_PER_CLIENT_MAX || others.take(of_hub_max).count() >= of_hub_max
    }

    fn notice(&mut self, at: Position, room: &RoomUri, hub: Counted, happened: Happened) -> Stored {
        match happened {
            Happened::Joined { after, welcomed } => {
                let known = self.rooms.contains_key(room);
                if !known && self.is_crowded(room, hub.rooms_max()) {
                    // A Welcome to a room whose events the client cannot be given would only mislead it.
                    return Stored::InPart;
                }
                // Also when the inbox is full: the room counts the client in, it may still join by an external
                // Commit, and then its events must have been kept for it.
                let joined = Membership {
                    after,
                    upto: None,
                    acked: after,
                    control: after,
                };
                self.rooms.insert(room.clone(), joined);
                if welcomed {
                    self.inbox.store_notice(at, hub)
                } else {
                    Stored::Whole
                }
            }
            Happened::Left { upto } => {
                let Some(membership) = self.rooms.get_mut(room) else {
                    return Stored::Nothing;
                };
                membership.upto = Some(upto);
                if membership.is_over() {
                    self.rooms.remove(room);
                }
                self.inbox.store_notice(at, hub)
            }
        }
    }
}

impl Device {
    /// Stores a note for this device, which is `client`'s, unless too many wait there.
    pub(super) fn note(&mut self, client: &ClientUri, note: Note, outcome: &mut Outcome) {
        self.hold_note(client, Held::Note(note), outcome);
    }

    fn hold_note(&mut self, client: &ClientUri, held: Held, outcome: &mut Outcome) {
        let full = self.inbox.notes().count() >= NOTES_PER_CLIENT_MAX;
        if full || self.inbox.store(held) == Stored::InPart {
            outcome.inbox_full.push(client.clone());
        }
        outcome.woken.push(client.clone());
    }
}

impl Device {
    /// Stores a note about consent, once. Where many of those wait, one more says that there are others: what there is can be
    /// asked for, and low stock must find its place.
    pub(super) fn note_consent(&mut self, client: &ClientUri, held: &Held, outcome: &mut Outcome) {
        let waiting = self.inbox.notes().filter(|note| note.is_of_consent());
        let held = if waiting.count() < CONSENT_NOTES_PER_CLIENT_MAX {
            held.clone()
        } else {
            Held::Note(Note::ConsentsChanged)
        };
        if !self.inbox.items.iter().any(|item| item.held == held) {
            self.hold_note(client, held, outcome);
        }
    }
}

impl Device {
    /// Tells the device that it missed a notice of a room, once; where too many notes wait, it knows already that it missed
    /// some.
    fn tell_missed(&mut self, room: &RoomUri) {
        let note = Note::Missed { room: room.clone() };
        let full = self.inbox.notes().count() >= NOTES_PER_CLIENT_MAX;
        if !full && !self.inbox.holds(&note) {
            self.inbox.store(Held::Note(note));
        }
    }
}

impl User {
    /// Learns that a client can be added after all, for all devices: whichever is there first may add it.
    pub(super) fn learn_refilled(&mut self, learn: &LearnRefilled) -> Outcome {
        let mut outcome = Outcome::answer(Answer::Done);
        if let Some((shard, seq)) = learn.from
            && !self.is_news(shard, seq)
        {
            return outcome;
        }
        let note = Note::Refilled {
            room: learn.refilled.room.clone(),
            client: learn.refilled.client.clone(),
        };
        for (client, device) in &mut self.devices {
            // Who reads it twice asks for a KeyPackage once more than it had to: a note that is lost is worse.
            if !device.inbox.holds(&note) {
                device.note(client, note.clone(), &mut outcome);
            }
        }
        outcome
    }

    /// Whether a number of a shard, which says one thing after the other, was not heard before; it is now.
    pub(super) fn is_news(&mut self, shard: u16, seq: LinkSeq) -> bool {
        let heard = self.heard.entry(shard).or_default();
        let news = seq > *heard;
        *heard = seq.max(*heard);
        news
    }

    /// Whether nobody may bring the clients of a notice into its room: the Welcome is for KeyPackages of the user that were
    /// claimed by whoever has no consent for the room, or not any more. Of another provider's room it must also be a Welcome,
    /// and for some KeyPackage that was given away; who is added to a room of the own provider may have given its own by hand.
    pub(super) fn is_uninvited(&self, deliver: &Deliver) -> bool {
        let Deliver { post, .. } = deliver;
        let Notice::Joined {
            welcome: Some(notice),
            ..
        } = &post.notice
        else {
            return false;
        };
        let is_own_room = post.room.hub() == self.uri.provider();
        let of_last_resort = |reference: &[u8]| {
            let mut kept = self
                .devices
                .values()
                .filter_map(|device| device.last_resort.as_ref());
            kept.any(|kept| kept.package().reference[..] == *reference)
        };
        let Ok(welcome) = Welcome::read(&notice.welcome) else {
            return !is_own_room;
        };
        let named = welcome.references.iter();
        let mut given = named
            .filter(|reference| self.spent.gave(reference) || of_last_resort(reference))
            .peekable();
        if given.peek().is_none() {
            return !is_own_room;
        }
        !given.any(|reference| self.may_bring_in(reference, &post.room))
    }

    pub(super) fn deliver(&mut self, moment: Moment, deliver: &Deliver) -> Outcome {
        let Deliver {
            from_shard,
            seq,
            post,
        } = deliver;
        let happened = Happened::of(&post.notice);
        let whom = (&post.room, &post.clients[..]);
        self.notice((*from_shard, *seq), moment, whom, happened)
    }

    /// Takes a notice whose Welcome lies in another command of the entry: that is where the inbox points.
    pub(super) fn join(&mut self, moment: Moment, join: &Join) -> Outcome {
        let at = Position {
            command: join.as_in,
            ..moment.at
        };
        let happened = Happened::Joined {
            after: join.after,
            welcomed: true,
        };
        let whom = (&join.room, &*join.clients);
        let moment = Moment { at, ..moment };
        self.notice((join.from_shard, join.seq), moment, whom, happened)
    }

    fn notice(
        &mut self,
        (shard, seq): (u16, LinkSeq),
        moment: Moment,
        (room, clients): (&RoomUri, &[ClientUri]),
        happened: Happened,
    ) -> Outcome {
        let mut outcome = Outcome::answer(Answer::Done);
        if !self.is_news(shard, seq) {
            return outcome;
        }
        // What is asked of nobody must not take the places of those whom the user knows.
        let counted = if moment.level < Level::SECOND {
            Counted::No
        } else if room.hub() == self.uri.provider() {
            Counted::Own
        } else {
            Counted::Hub(HubMark::of(room.hub()))
        };
        let named: BTreeSet<&ClientUri> = clients.iter().collect();
        for client in named {
            let Some(device) = self.devices.get_mut(client) else {
                continue;
            };
            let stored = device.notice(moment.at, room, counted, happened);
            if stored == Stored::InPart {
                outcome.inbox_full.push(client.clone());
                if moment.level >= Level::SECOND {
                    device.tell_missed(room);
                }
            }
            if stored != Stored::Nothing {
                outcome.woken.push(client.clone());
            }
        }
        outcome
    }
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
