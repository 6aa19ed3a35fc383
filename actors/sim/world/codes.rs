//! Joining codes: members make them and end them, others join with them or guess.
//!
//! A code is told to everybody in the world, which is how it comes to whoever joins with it.

use super::{World, client::Purpose};
use crate::sim::{
    history::{RoomHistory, codes::Presented},
    mls::Intent,
    plan::{CodeKind, Fault},
    post::ClientAsk,
};
use crate::{
    ids::RoomUri,
    room::outcome::{Answer, Refused},
    wire::{
        BText,
        joining::{CodeId, CodeTerms, CodesAsk, MadeCode},
        room,
    },
};
/// The passphrase of every code that has one.
const PASSPHRASE: &str = "a walk in the park";
/// How many codes of a room are still told to others, newest first.
const TOLD_MAX: usize = 3;

/// A code as one tells another.
#[derive(Clone, Debug)]
pub(super) struct Told {
    room: RoomUri,
    made: MadeCode,
    passphrase: bool,
}

impl World {
    /// Makes a joining code for a room.
    pub(super) fn make_code(&mut self, client: usize, kind: CodeKind) {
        let Some(room) = self.some_room(client) else {
            return;
        };
        let terms = CodeTerms {
            uses: kind.uses.map(u32::from),
            lifetime_ms: kind.lifetime_ms.map(u64::from),
            role_index: None,
            passphrase: kind.passphrase.then(|| BText::clipped(PASSPHRASE)),
        };
        self.ask_about_codes(client, room, CodesAsk::Create(terms));
    }

    /// Ends a code of a room.
    pub(super) fn end_code(&mut self, client: usize) {
        let Some(room) = self.some_room(client) else {
            return;
        };
        let told: Vec<CodeId> = self.told_codes(&room).map(|told| told.made.id).collect();
        if let Some(id) = self.dice.pick(&told).copied() {
            self.ask_about_codes(client, room, CodesAsk::Revoke(id));
        }
    }

    fn ask_about_codes(&mut self, client: usize, room: RoomUri, ask: CodesAsk) {
        let request = room::Request::Codes(ask.clone());
        let to = room.clone();
        let purpose = Purpose::Codes { room, ask };
        self.ask(client, purpose, ClientAsk::To(to, request));
    }

    /// Codes of a room that are told to others, newest first.
    fn told_codes(&self, room: &RoomUri) -> impl Iterator<Item = &Told> {
        let of = self
            .codes
            .iter()
            .rev()
            .filter(move |told| told.room == *room);
        of.take(TOLD_MAX)
    }

    /// Joins a room with a code that somebody told, sometimes without the passphrase.
    pub(super) fn join_by_code(&mut self, client: usize) {
        let Some((room, teller)) = self.room_to_join(client) else {
            return;
        };
        let told: Vec<Told> = self.told_codes(&room).cloned().collect();
        let Some(told) = self.dice.pick(&told).cloned() else {
            return;
        };
        let forgets = told.passphrase && self.dice.hits(300);
        let presented = Presented {
            right: (!forgets).then_some(told.made.id),
            code: told.made.code,
            passphrase: (told.passphrase && !forgets).then_some(PASSPHRASE),
            locked: false,
        };
        self.present(client, &room, teller, presented);
    }

    /// Tries codes that nobody made.
    pub(super) fn guess_codes(&mut self, client: usize, count: u8) {
        let Some((room, teller)) = self.room_to_join(client) else {
            return;
        };
        for _ in 0..count {
            let guess = self.dice.number().to_be_bytes().to_vec();
            let presented = Presented {
                code: guess.into(),
                ..Presented::default()
            };
            self.counts.one("joining codes guessed");
            self.present(client, &room, teller, presented);
        }
    }

    fn present(&mut self, client: usize, room: &RoomUri, teller: usize, presented: Presented) {
        let locked = self.history.is_locked(room, &self.clients[client].uri);
        let presented = Presented {
            locked,
            ..presented
        };
        self.counts.one("joining codes presented");
        self.ask_to_enter(client, room, teller, None, Some(presented));
    }

    /// A room with codes of which somebody can tell, and in which no client of the user is; and who tells.
    fn room_to_join(&mut self, client: usize) -> Option<(RoomUri, usize)> {
        let user = self.clients[client].uri.user().clone();
        self.told_of(client, |world, room, teller| {
            let is_in = |other: &super::client::Client| {
                *other.uri.user() == user && other.member.epoch(room).is_some()
            };
            let quiet = world.clients[client].rooms.get(room);
            let quiet = quiet.is_none_or(|known| known.staged.is_none() && !known.inviting);
            let current = world.history.rooms.get(room).map(RoomHistory::epoch);
            quiet
                && world.clients[teller].member.epoch(room) == current
                && world.told_codes(room).next().is_some()
                && !world.clients.iter().any(is_in)
        })
    }

    /// Ends a room's group by a ReInit.
    pub(super) fn reinit(&mut self, client: usize) {
        if let Some(room) = self.quiet_room(client) {
            let intent = Intent {
                reinit: true,
                ..Intent::default()
            };
            self.counts.one("ReInits begun");
            self.commit(client, &room, &intent, None);
        }
    }

    /// A member learns what became of its request about codes. `false` when it asks again.
    pub(super) fn learn_code(
        &mut self,
        client: usize,
        request: u64,
        room: &RoomUri,
        ask: &CodesAsk,
        answer: Answer,
    ) -> bool {
        match (ask, answer) {
            (CodesAsk::Create(terms), Answer::CodeMade(made)) => {
                self.counts.one("joining codes made");
                self.codes.push(Told {
                    room: room.clone(),
                    made,
                    passphrase: terms.passphrase.is_some(),
                });
            }
            (CodesAsk::Revoke(_), Answer::CodeRevoked) => self.counts.one("joining codes ended"),
            (_, Answer::Refused(Refused::TryLater(_))) => {
                self.ask_later(client, request);
                return false;
            }
            // It was removed meanwhile, or the room has as many codes as it may, or this one was forgotten for another.
            (_, Answer::Refused(_)) => self.counts.one("requests about joining codes refused"),
            (ask, other) => {
                let why = format!("{ask:?} was answered {other:?}");
                self.history.violated("retry", why);
            }
        }
        true
    }

    /// A joiner learns what became of the code that it presented.
    pub(super) fn learn_presented(
        &mut self,
        client: usize,
        room: &RoomUri,
        presented: &Presented,
        admitted: bool,
    ) {
        let joiner = self.clients[client].uri.clone();
        if admitted {
            self.counts.one("joining codes that admitted");
            return self.history.code_admitted(room, &joiner, presented);
        }
        let Some(id) = presented.right else { return };
        let jumps =
            |fault: &crate::sim::plan::PlannedFault| matches!(fault.what, Fault::Clock { .. });
        let timeless = self.plan.faults.iter().any(jumps);
        let now = self.now();
        self.history
            .code_refused(room, &joiner, id, (!timeless).then_some(now));
    }
}
