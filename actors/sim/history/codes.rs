//! The checker of joining codes: who joined with a code is counted where a hub's log accepts the join; who may not have
//! been refused is known from the same log.

use super::History;
use crate::{
    ids::{ClientUri, RoomUri},
    limits::{
        WRONG_CODES_PER_CLIENT_MAX, WRONG_CODES_PER_PROVIDER_MAX, WRONG_CODES_PER_USER_MAX,
        WRONG_CODES_WINDOW_MS,
    },
    machine::Millis,
    room::{codes::Code, leases::Grant},
    wire::{Payload, event::Hash, joining::CodeId},
};
use std::collections::BTreeMap;

/// What a joiner presents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sim) struct Presented {
    /// The code's name, if it is one that was made, with its passphrase.
    pub(in crate::sim) right: Option<CodeId>,
    pub(in crate::sim) code: Payload,
    pub(in crate::sim) passphrase: Option<&'static str>,
    /// Whether the room's log held enough wrong ones, when this one was presented, for it not to be looked at.
    pub(in crate::sim) locked: bool,
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
pub(in crate::sim) struct Codes {
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

impl History {
    /// A hub's log keeps a code.
    pub(in crate::sim) fn code_kept(&mut self, room: &RoomUri, id: CodeId, code: &Code) {
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
    pub(in crate::sim) fn code_revoked(&mut self, room: &RoomUri, id: CodeId) {
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
    pub(in crate::sim) fn admitted(&mut self, room: &RoomUri, grant: &Grant, time: Millis) {
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
    pub(in crate::sim) fn code_used(&mut self, room: &RoomUri, id: CodeId, joiner: &ClientUri) {
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
    pub(in crate::sim) fn wrong_code(&mut self, room: &RoomUri, joiner: &ClientUri, time: Millis) {
        for (guesser, _) in guessers(room, joiner) {
            self.codes.wrong.entry(guesser).or_default().push(time);
        }
    }

    /// A desk saw a wrong code.
    pub(in crate::sim) fn wrong_code_seen(&mut self, room: &RoomUri, joiner: &ClientUri) {
        for (guesser, _) in guessers(room, joiner) {
            *self.codes.seen.entry(guesser).or_default() += 1;
        }
        let provider = (room.clone(), joiner.provider().to_string());
        *self.codes.seen.entry(provider).or_default() += 1;
    }

    /// Whether the log holds enough wrong codes, so near to one another that a jump of clocks does not matter.
    pub(in crate::sim) fn is_locked(&self, room: &RoomUri, client: &ClientUri) -> bool {
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
    pub(in crate::sim) fn code_admitted(
        &mut self,
        room: &RoomUri,
        joiner: &ClientUri,
        presented: &Presented,
    ) {
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
    pub(in crate::sim) fn code_refused(
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
