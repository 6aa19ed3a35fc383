//! Joining codes: members make them and end them, others join with them or guess; and the checker of all that.
//!
//! Who joined with a code is counted where a hub's log accepts the join; who may not have been refused is known from
//! the same log. A code is told to everybody in the world, which is how it comes to whoever joins with it.

use super::{
    client::Purpose,
    history::{History, RoomHistory},
    mls::Intent,
    plan::{CodeKind, Fault},
    post::ClientAsk,
    world::World,
};
use crate::{
    ids::{ClientUri, RoomUri},
    limits::{
        WRONG_CODES_PER_CLIENT_MAX, WRONG_CODES_PER_PROVIDER_MAX, WRONG_CODES_PER_USER_MAX,
        WRONG_CODES_WINDOW_MS,
    },
    machine::Millis,
    room::{
        codes::Code,
        leases::Grant,
        outcome::{Answer, Refused},
    },
    wire::{
        BText, Payload,
        event::Hash,
        joining::{CodeId, CodeTerms, CodesAsk, MadeCode},
        room,
    },
};
use std::collections::BTreeMap;

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

/// What a joiner presents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Presented {
    /// The code's name, if it is one that was made, with its passphrase.
    pub(super) right: Option<CodeId>,
    pub(super) code: Payload,
    pub(super) passphrase: Option<&'static str>,
    /// Whether the room's log held enough wrong ones, when this one was presented, for it not to be looked at.
    locked: bool,
}

/// A code, as the log of its hub tells.
#[derive(Debug)]
struct Kept {
    hash: Hash,
    uses: Option<u32>,
    used: u32,
    not_after: Option<Millis>,
    revoked: bool,
}

/// What the checkers know of codes.
#[derive(Debug, Default)]
pub(super) struct Codes {
    kept: BTreeMap<(RoomUri, CodeId), Kept>,
    /// When the log counted wrong ones, of each client and of each user.
    wrong: BTreeMap<(RoomUri, String), Vec<Millis>>,
    /// Wrong ones that a desk saw, whether the log has them or not; of each provider too.
    seen: BTreeMap<(RoomUri, String), u32>,
}

/// Who is locked out by wrong codes of a client: itself, and its user.
fn guessers(room: &RoomUri, client: &ClientUri) -> Vec<((RoomUri, String), u32)> {
    let own = (room.clone(), client.to_string());
    let user = (room.clone(), client.user().to_string());
    vec![
        (own, WRONG_CODES_PER_CLIENT_MAX),
        (user, WRONG_CODES_PER_USER_MAX),
    ]
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
        let jumps = |fault: &super::plan::PlannedFault| matches!(fault.what, Fault::Clock { .. });
        let timeless = self.plan.faults.iter().any(jumps);
        let now = self.now();
        self.history
            .code_refused(room, &joiner, id, (!timeless).then_some(now));
    }
}

impl History {
    /// A hub's log keeps a code.
    pub(super) fn code_kept(&mut self, room: &RoomUri, id: CodeId, code: &Code) {
        let kept = Kept {
            hash: code.hash,
            uses: code.uses_left,
            used: 0,
            not_after: code.not_after,
            revoked: false,
        };
        let known = self.codes.kept.insert((room.clone(), id), kept);
        self.demand("codes", known.is_none(), || {
            format!("two codes of {room} have the name {id}")
        });
    }

    /// A hub's log ends a code, and the lease that it admitted to.
    pub(super) fn code_revoked(&mut self, room: &RoomUri, id: CodeId) {
        if let Some(kept) = self.codes.kept.get_mut(&(room.clone(), id)) {
            kept.revoked = true;
        }
        if let Some(held) = self.leases.get(room)
            && held.code == Some(id)
        {
            self.counts.one("leases ended with their codes");
            self.leases.remove(room);
        }
    }

    /// A hub's log has granted a lease: its code admits, if there is one.
    pub(super) fn admitted(&mut self, room: &RoomUri, grant: &Grant, time: Millis) {
        let Some(id) = grant.code else { return };
        let kept = self.codes.kept.get(&(room.clone(), id));
        let good = kept.is_some_and(|kept| {
            let left = kept.uses.is_none_or(|uses| kept.used < uses);
            left && !kept.revoked && kept.not_after.is_none_or(|end| end > time)
        });
        let joiner = &grant.joiner;
        self.demand("codes", good, || {
            format!("{joiner} got the lease of {room} at {time:?} by a code that is over")
        });
    }

    /// A hub's log has accepted the Commit of somebody whom a code admitted.
    pub(super) fn code_used(&mut self, room: &RoomUri, id: CodeId, joiner: &ClientUri) {
        self.counts.one("joins by a code");
        let kept = self.codes.kept.get_mut(&(room.clone(), id));
        let good = kept.is_some_and(|kept| {
            kept.used += 1;
            !kept.revoked && kept.uses.is_none_or(|uses| kept.used <= uses)
        });
        self.demand("codes", good, || {
            format!("{joiner} entered {room} by a code that was used up, or ended")
        });
    }

    /// A hub's log counts a wrong code.
    pub(super) fn wrong_code(&mut self, room: &RoomUri, joiner: &ClientUri, time: Millis) {
        for (guesser, _) in guessers(room, joiner) {
            self.codes.wrong.entry(guesser).or_default().push(time);
        }
    }

    /// A desk saw a wrong code.
    pub(super) fn wrong_code_seen(&mut self, room: &RoomUri, joiner: &ClientUri) {
        for (guesser, _) in guessers(room, joiner) {
            *self.codes.seen.entry(guesser).or_default() += 1;
        }
        let provider = (room.clone(), joiner.provider().to_string());
        *self.codes.seen.entry(provider).or_default() += 1;
    }

    /// Whether the log holds enough wrong codes, so near to one another that a jump of clocks does not matter.
    fn is_locked(&self, room: &RoomUri, client: &ClientUri) -> bool {
        guessers(room, client).into_iter().any(|(guesser, most)| {
            let wrong = self.codes.wrong.get(&guesser);
            let wrong = wrong.map_or(&[][..], |wrong| &wrong[..]);
            let (first, last) = (wrong.first(), wrong.last());
            let near = first
                .zip(last)
                .is_some_and(|(first, last)| last.0 - first.0 < WRONG_CODES_WINDOW_MS / 4);
            wrong.len() >= most as usize && near
        })
    }

    /// Somebody was admitted by what it presented, if no other client of its user was in the room: that is enough.
    fn code_admitted(&mut self, room: &RoomUri, joiner: &ClientUri, presented: &Presented) {
        let known = self.rooms.get(room);
        if known.is_some_and(|room| room.users.contains(joiner.user())) {
            return;
        }
        self.demand("codes", presented.right.is_some(), || {
            format!("{joiner} was admitted to {room} by a wrong code")
        });
        self.demand("codes", !presented.locked, || {
            format!("{joiner} was admitted to {room}, and had tried too many wrong codes")
        });
    }

    /// Somebody was refused though its code was right: then the code is over, or it had tried wrong ones. `now` is
    /// absent where clocks jump.
    fn code_refused(
        &mut self,
        room: &RoomUri,
        joiner: &ClientUri,
        id: CodeId,
        now: Option<Millis>,
    ) {
        let known = self.rooms.get(room);
        if known.is_some_and(|room| room.users.contains(joiner.user())) {
            // It needed no code when it asked, and did when its turn came.
            return;
        }
        let mut guesses = guessers(room, joiner);
        // Of a provider that tried many, codes with a passphrase are looked at now and then.
        let provider = (room.clone(), joiner.provider().to_string());
        guesses.push((provider, WRONG_CODES_PER_PROVIDER_MAX));
        let mut guesses = guesses.into_iter();
        let guessed = guesses.any(|(guesser, most)| {
            let seen = self.codes.seen.get(&guesser);
            seen.is_some_and(|seen| *seen >= most)
        });
        let hash = self.codes.kept.get(&(room.clone(), id));
        let hash = hash.map(|kept| kept.hash);
        let is_over = |kept: &Kept| {
            let ended = |end: Millis| now.is_none_or(|now| end <= now);
            kept.revoked
                || kept.uses.is_some_and(|uses| kept.used >= uses)
                || kept.not_after.is_some_and(ended)
        };
        // A request that came twice made two codes, which are equal where chance is played: either may be found.
        let over = self.codes.kept.values();
        let over = over.filter(|kept| Some(kept.hash) == hash).any(is_over);
        self.demand("codes", guessed || over, || {
            format!("{joiner} was refused in {room}, and its code {id} was right and good")
        });
    }
}
