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
        INBOX_ITEMS_PER_CLIENT_AND_HUB_MAX, INBOX_ITEMS_PER_CLIENT_MAX, NOTES_PER_CLIENT_MAX,
        ROOMS_PER_CLIENT_AND_HUB_MAX, ROOMS_PER_CLIENT_MAX,
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
            Held::Notice(at) | Held::From(_, at) => Some(at),
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
            Held::Note(note) => Some(note),
            Held::Notice(_) | Held::From(..) => None,
        })
    }

    /// Whether there is anything in it that version 1 of folds has no word for.
    pub(super) fn is_of_2(&self) -> bool {
        let of_2 = |item: &InboxItem| {
            matches!(item.held, Held::From(..) | Held::Note(Note::Missed { .. }))
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
        let full = self.inbox.notes().count() >= NOTES_PER_CLIENT_MAX;
        if full || self.inbox.store(Held::Note(note)) == Stored::InPart {
            outcome.inbox_full.push(client.clone());
        }
        outcome.woken.push(client.clone());
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
    fn is_news(&mut self, shard: u16, seq: LinkSeq) -> bool {
        let heard = self.heard.entry(shard).or_default();
        let news = seq > *heard;
        *heard = seq.max(*heard);
        news
    }

    /// Whether a hub of another provider brings clients into a room by what is no Welcome, or one for none of the KeyPackages that
    /// were given away: it never claimed any.
    pub(super) fn is_uninvited(&self, deliver: &Deliver) -> bool {
        let Deliver { post, .. } = deliver;
        let Notice::Joined {
            welcome: Some(notice),
            ..
        } = &post.notice
        else {
            return false;
        };
        if post.room.hub() == self.uri.provider() {
            return false;
        }
        let of_last_resort = |reference: &[u8]| {
            let mut kept = self
                .devices
                .values()
                .filter_map(|device| device.last_resort.as_ref());
            kept.any(|kept| kept.package().reference[..] == *reference)
        };
        let Ok(welcome) = Welcome::read(&notice.welcome) else {
            return true;
        };
        let mut named = welcome.references.iter();
        !named.any(|reference| self.spent.gave(reference) || of_last_resort(reference))
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
mod tests {
    use super::*;
    use crate::{
        user::{
            command::Command,
            testing::{Log, client, joined, left, membership, note, post, reads, room, seqs, user},
        },
        wire::post::{Post, Refilled},
    };

    #[test]
    fn a_welcome_lies_in_the_inbox_of_each_client_named_and_the_room_can_be_read() {
        let mut bobby = Log::bobby(&["phone", "tablet", "watch"]);
        let named = post("club", &["tablet", "phone", "phone", "ghost"], joined(4));
        let outcome = bobby.deliver(named);
        assert_eq!(outcome.woken, [client("phone"), client("tablet")]);
        assert_eq!(outcome.inbox_full, []);
        bobby.restart();
        let item = InboxItem {
            seq: InboxSeq(1),
            held: Held::Notice(bobby.position()),
        };
        for name in ["phone", "tablet"] {
            let lies: Vec<_> = bobby.fold.inbox(&client(name)).collect();
            assert_eq!(lies, std::slice::from_ref(&item));
        }
        assert_eq!(membership(&bobby, "club"), reads(4, None, 4));
        assert_eq!(bobby.fold.memberships(&client("watch")).count(), 0);
    }

    #[test]
    fn the_creator_of_a_room_gets_no_welcome() {
        let mut bobby = Log::bobby(&["phone"]);
        let notice = Notice::Joined {
            after: RoomSeq(0),
            welcome: None,
        };
        let outcome = bobby.deliver(post("club", &["phone"], notice));
        assert_eq!(outcome.woken, [client("phone")]);
        assert_eq!(membership(&bobby, "club"), reads(0, None, 0));
        assert!(seqs(&bobby).is_empty());
    }

    #[test]
    fn a_notice_is_taken_once_per_shard() {
        let mut bobby = Log::bobby(&["phone"]);
        let notice = || post("club", &["phone"], joined(4));
        assert_eq!(bobby.deliver_as(1, 5, notice()).woken.len(), 1);
        bobby.ack("phone", Some(1), &[("club", 9)]);
        for seq in [5, 4, 0] {
            assert_eq!(
                bobby.deliver_as(1, seq, notice()),
                Outcome::answer(Answer::Done)
            );
        }
        assert_eq!(
            (seqs(&bobby), membership(&bobby, "club")),
            (vec![], reads(4, None, 9))
        );
        assert_eq!(bobby.deliver_as(2, 5, notice()).woken.len(), 1);
        assert_eq!(
            (seqs(&bobby), membership(&bobby, "club")),
            (vec![2], reads(4, None, 4))
        );
    }

    #[test]
    fn who_joins_again_begins_again() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.deliver(post("club", &["phone"], joined(4)));
        bobby.deliver(post("club", &["phone"], left(9)));
        bobby.deliver(post("club", &["phone"], joined(20)));
        assert_eq!(membership(&bobby, "club"), reads(20, None, 20));
    }

    #[test]
    fn who_was_never_in_a_room_does_not_hear_that_it_left() {
        let mut bobby = Log::bobby(&["phone"]);
        let outcome = bobby.deliver(post("club", &["phone"], left(9)));
        assert_eq!(outcome, Outcome::answer(Answer::Done));
        assert!(seqs(&bobby).is_empty());
    }

    #[test]
    fn a_full_inbox_takes_no_welcome_but_the_membership_counts() {
        let mut bobby = Log::bobby(&["phone"]);
        for number in 0..INBOX_ITEMS_PER_CLIENT_MAX {
            let outcome = bobby.deliver(post(&format!("r{number}"), &["phone"], joined(1)));
            assert_eq!(outcome.inbox_full, []);
        }
        let outcome = bobby.deliver(post("club", &["phone"], joined(4)));
        assert_eq!(outcome.inbox_full, [client("phone")]);
        assert_eq!(outcome.woken, [client("phone")]);
        assert_eq!(membership(&bobby, "club"), reads(4, None, 4));
        let outcome = bobby.deliver(post("club", &["phone"], left(6)));
        assert_eq!(outcome.inbox_full, [client("phone")]);
        assert_eq!(membership(&bobby, "club"), reads(4, Some(6), 4));
        assert_eq!(seqs(&bobby).len(), INBOX_ITEMS_PER_CLIENT_MAX);
        // The numbers go on without a gap.
        bobby.ack("phone", Some(1), &[]);
        bobby.deliver(post("den", &["phone"], joined(1)));
        assert_eq!(
            seqs(&bobby).last(),
            Some(&(INBOX_ITEMS_PER_CLIENT_MAX as u64 + 1))
        );
    }

    #[test]
    fn one_provider_does_not_fill_the_inbox_of_a_client_of_another_and_what_is_missed_is_told() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.level = Level::SECOND;
        let of = |hub: &str, name: &str| Post {
            room: format!("mimi://{hub}/r/{name}").parse().unwrap(),
            ..post("club", &["phone"], joined(1))
        };
        for _ in 0..INBOX_ITEMS_PER_CLIENT_AND_HUB_MAX {
            assert_eq!(bobby.deliver(of("eve.example", "den")).inbox_full, []);
        }
        let missed = |bobby: &mut Log, hub, name| {
            let outcome = bobby.deliver(of(hub, name));
            assert_eq!(outcome.woken, [client("phone")]);
            outcome.inbox_full == [client("phone")]
        };
        assert!(missed(&mut bobby, "eve.example", "den"));
        assert!(missed(&mut bobby, "eve.example", "den"));
        assert!(missed(&mut bobby, "eve.example", "club"));
        bobby.restart();
        let told = |name: &str| Note::Missed {
            room: of("eve.example", name).room,
        };
        assert_eq!(note(&bobby, "phone"), [told("den"), told("club")]);
        assert!(!missed(&mut bobby, "e.example", "den"));
        assert!(!missed(&mut bobby, "b.example", "den"), "its own provider");
        bobby.ack("phone", Some(1), &[]);
        assert!(!missed(&mut bobby, "eve.example", "club"));
    }

    #[test]
    fn in_a_full_inbox_there_is_room_to_say_what_was_missed() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.level = Level::SECOND;
        let own = |name: &str| Post {
            room: format!("mimi://b.example/r/{name}").parse().unwrap(),
            ..post("club", &["phone"], joined(1))
        };
        for number in 0..INBOX_ITEMS_PER_CLIENT_MAX - NOTES_PER_CLIENT_MAX {
            let outcome = bobby.deliver(own(&format!("r{number}")));
            assert_eq!(outcome.inbox_full, []);
        }
        for number in 0..NOTES_PER_CLIENT_MAX + 3 {
            let outcome = bobby.deliver(own(&format!("missed{number}")));
            assert_eq!(outcome.inbox_full, [client("phone")]);
        }
        assert_eq!(note(&bobby, "phone").len(), NOTES_PER_CLIENT_MAX);
        assert_eq!(seqs(&bobby).len(), INBOX_ITEMS_PER_CLIENT_MAX);
    }

    #[test]
    fn a_client_in_too_many_rooms_joins_no_more() {
        let mut bobby = Log::bobby(&["phone"]);
        let notice = Notice::Joined {
            after: RoomSeq(1),
            welcome: None,
        };
        for number in 0..ROOMS_PER_CLIENT_MAX {
            bobby.deliver(post(&format!("r{number}"), &["phone"], notice.clone()));
        }
        let outcome = bobby.deliver(post("club", &["phone"], joined(4)));
        assert_eq!(outcome.inbox_full, [client("phone")]);
        assert_eq!((seqs(&bobby), membership(&bobby, "club")), (vec![], None));
        let again = bobby.deliver(post("r7", &["phone"], joined(4)));
        assert_eq!(again.inbox_full, []);
        assert_eq!(membership(&bobby, "r7"), reads(4, None, 4));
    }

    #[test]
    fn one_provider_does_not_take_all_places_of_a_client_of_another() {
        let notice = Notice::Joined {
            after: RoomSeq(1),
            welcome: None,
        };
        let join = |bobby: &mut Log, hub: &str, number: usize| {
            let room = format!("mimi://{hub}/r/r{number}").parse().unwrap();
            let post = Post {
                room,
                ..post("club", &["phone"], notice.clone())
            };
            bobby.deliver(post).inbox_full.is_empty()
        };
        let mut bobby = Log::bobby(&["phone"]);
        bobby.level = Level::SECOND;
        let all = 0..ROOMS_PER_CLIENT_AND_HUB_MAX + 3;
        let taken = all.filter(|number| join(&mut bobby, "eve.example", *number));
        assert_eq!(taken.count(), ROOMS_PER_CLIENT_AND_HUB_MAX);
        assert!(
            join(&mut bobby, "eve.example", 7),
            "it is in that room already"
        );
        assert!(join(&mut bobby, "e.example", 0) && join(&mut bobby, "f.example", 0));
        let told = note(&bobby, "phone");
        let missed = |note: &Note| matches!(note, Note::Missed { .. });
        assert!(told.len() == 3 && told.iter().all(missed), "{told:?}");
        let mut all = 0..=ROOMS_PER_CLIENT_AND_HUB_MAX;
        let own = all.all(|number| join(&mut bobby, "b.example", number));
        assert!(own, "its own provider is not counted");

        let mut before = Log::bobby(&["phone"]);
        let mut all = 0..=ROOMS_PER_CLIENT_AND_HUB_MAX;
        let taken = all.all(|number| join(&mut before, "eve.example", number));
        assert!(taken, "logs of the first level know no such rule");
    }

    #[test]
    fn a_notice_for_a_user_that_is_gone_does_not_hold_up_the_next() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.apply(Command::Delete);
        let outcome = bobby.deliver(post("club", &["phone"], joined(4)));
        assert_eq!(outcome, Outcome::answer(Answer::Done));
        let outcome = Log::default().deliver(post("club", &["phone"], joined(4)));
        assert_eq!(outcome, Outcome::answer(Answer::Done));
    }

    fn hear(from: Option<(u16, LinkSeq)>, name: &str) -> Command {
        let refilled = Refilled {
            requester: user("bobby"),
            room: room(name),
            client: "mimi://c.example/d/cathy/phone".parse().unwrap(),
        };
        Command::LearnRefilled(LearnRefilled { from, refilled })
    }

    #[test]
    fn every_device_hears_of_a_refill_and_the_same_word_again_is_no_news() {
        let mut bobby = Log::bobby(&["phone", "tablet"]);
        let outcome = bobby.apply(hear(None, "den"));
        assert_eq!(outcome.woken, [client("phone"), client("tablet")]);
        let refilled = |name| Note::Refilled {
            room: room(name),
            client: "mimi://c.example/d/cathy/phone".parse().unwrap(),
        };
        bobby.restart();
        assert_eq!(
            bobby.apply(hear(None, "den")),
            Outcome::answer(Answer::Done)
        );
        assert_eq!(note(&bobby, "tablet"), [refilled("den")]);
        let gone = Log::default().apply(hear(None, "den"));
        assert_eq!(gone, Outcome::answer(Answer::Done));
    }

    #[test]
    fn what_a_shard_here_says_is_numbered_and_what_a_peer_says_comes_in_any_order() {
        let mut bobby = Log::bobby(&["phone"]);
        let here = |seq| Some((3, LinkSeq(seq)));
        assert_eq!(bobby.apply(hear(here(2), "den")).woken.len(), 1);
        for seq in [1, 2] {
            assert_eq!(bobby.apply(hear(here(seq), "club")).woken.len(), 0);
        }
        for name in ["attic", "cellar"] {
            assert_eq!(bobby.apply(hear(None, name)).woken.len(), 1);
        }
    }

    #[test]
    fn a_peer_cannot_fill_an_inbox_with_words() {
        let mut bobby = Log::bobby(&["phone"]);
        for number in 1..=NOTES_PER_CLIENT_MAX {
            let refilled = hear(None, &format!("r{number}"));
            assert_eq!(bobby.apply(refilled).inbox_full, []);
        }
        let outcome = bobby.apply(hear(None, "more"));
        assert_eq!(outcome.inbox_full, [client("phone")]);
        assert_eq!(note(&bobby, "phone").len(), NOTES_PER_CLIENT_MAX);
        let outcome = bobby.deliver(post("club", &["phone"], joined(4)));
        assert_eq!(outcome.inbox_full, [], "a Welcome still finds room");
    }

    #[test]
    fn a_notice_that_points_at_another_of_its_entry_lies_in_the_inbox_as_that_one() {
        let deliver = |name, notice| Deliver {
            from_shard: 3,
            seq: LinkSeq(1),
            post: post(name, &["phone"], notice),
        };
        let first = deliver("club", joined(4));
        for other in [
            deliver("den", joined(4)),
            deliver("club", joined(5)),
            deliver("club", left(4)),
        ] {
            assert_eq!(other.as_in(&first, 7), None);
        }
        assert_eq!(
            deliver("club", left(4)).as_in(&deliver("club", left(4)), 7),
            None
        );
        let join = first.as_in(&first.clone(), 7).unwrap();

        let mut bobby = Log::bobby(&["phone"]);
        let outcome = bobby.apply(Command::Join(join.clone()));
        assert_eq!(outcome.woken, [client("phone")]);
        let at = Position {
            command: 7,
            ..bobby.position()
        };
        let lies: Vec<_> = bobby
            .fold
            .inbox(&client("phone"))
            .map(|item| item.at())
            .collect();
        assert_eq!(lies, [Some(at)]);
        assert_eq!(membership(&bobby, "club"), reads(4, None, 4));
        assert_eq!(
            bobby.apply(Command::Join(join.clone())),
            Outcome::answer(Answer::Done)
        );
        assert_eq!(
            Log::default().apply(Command::Join(join)),
            Outcome::answer(Answer::Done)
        );
    }
}
