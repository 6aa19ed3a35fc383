//! The joining codes of a room: who may join with which, how often and until when, and who tried wrong ones.
//!
//! Promises: a code admits to at most as many joins as it says, counted in the entry that accepts the join; what is
//! kept is a hash; a user that tries wrong codes is locked out, and nobody else. A provider, which can make users up, is
//! slowed down, and only where something can be guessed: at passphrases.
//!
//! Source: transport requirements, section 7.3.

use super::outcome::Refused;
use crate::{
    ids::{ClientUri, ProviderId},
    limits::{
        CODES_PER_ROOM_MAX, GUESSERS_MAX, WRONG_CODES_PER_CLIENT_MAX, WRONG_CODES_PER_PROVIDER_MAX,
        WRONG_CODES_PER_USER_MAX, WRONG_CODES_WINDOW_MS,
    },
    machine::Millis,
    wire::{
        BText, BVec,
        event::Hash,
        joining::{CodeFacts, CodeId, CodeList},
    },
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A joining code as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Its hash, see [`super::secrets`].
    pub hash: Hash,
    /// Joins left; absent for any number.
    pub uses_left: Option<u32>,
    /// When it ends.
    pub not_after: Option<Millis>,
    /// The role that whoever joins with it gets.
    pub role_index: Option<u32>,
    /// What must be known besides.
    pub passphrase: Option<Passphrase>,
    /// The member that made it.
    pub creator: ClientUri,
    /// Whether it was ended before its time.
    pub revoked: bool,
}

/// A passphrase as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passphrase {
    /// What it was hashed with.
    pub salt: [u8; 16],
    /// Its Argon2id hash.
    pub hash: [u8; 32],
}

/// Keep a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepCode {
    /// The code; its creator asks.
    pub code: Code,
}

/// End a code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeCode {
    /// The client that asks.
    pub member: ClientUri,
    /// Which.
    pub id: CodeId,
}

/// Take note of a wrong code, or a wrong passphrase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrongCode {
    /// Who tried it.
    pub joiner: ClientUri,
}

/// Why a code does not admit. For the hub's own log; outside all of them are `NotAuthorized`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeFlaw {
    /// There is no such code.
    #[error("unknown")]
    Unknown,
    /// It was ended.
    #[error("revoked")]
    Revoked,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// All its joins were made.
    #[error("used up")]
    UsedUp,
    /// The passphrase is missing or wrong.
    #[error("wrong passphrase")]
    Passphrase,
    /// Whoever asks tried too many wrong ones; this one was not looked at.
    #[error("locked")]
    Locked,
}

impl CodeFlaw {
    /// Whether it counts as a guess.
    #[must_use]
    pub fn is_guess(self) -> bool {
        matches!(self, Self::Unknown | Self::Passphrase)
    }
}

impl Code {
    /// What keeps it from admitting one more, besides the passphrase.
    #[must_use]
    pub fn flaw(&self, time: Millis) -> Option<CodeFlaw> {
        if self.revoked {
            Some(CodeFlaw::Revoked)
        } else if self.not_after.is_some_and(|end| end <= time) {
            Some(CodeFlaw::Expired)
        } else if self.uses_left == Some(0) {
            Some(CodeFlaw::UsedUp)
        } else {
            None
        }
    }
}

/// The codes of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Codes {
    next: u32,
    kept: BTreeMap<CodeId, Code>,
    guesses: Guesses,
}

impl Codes {
    pub(super) fn keep(&mut self, time: Millis, code: &Code) -> Result<CodeId, Refused> {
        if self.kept.len() >= CODES_PER_ROOM_MAX {
            // Dead ones are kept to say why they are refused, as long as there is room.
            let dead = self.kept.iter().find(|(_, code)| code.flaw(time).is_some());
            let Some(id) = dead.map(|(id, _)| *id) else {
                let max = u32::try_from(CODES_PER_ROOM_MAX).unwrap_or(u32::MAX);
                let what = BText::clipped("joining codes");
                return Err(Refused::TooMany { what, max });
            };
            self.kept.remove(&id);
        }
        self.next = self.next.wrapping_add(1);
        let id = CodeId(self.next);
        self.kept.insert(id, code.clone());
        Ok(id)
    }

    /// Whether one more may join with this code.
    pub(super) fn flaw(&self, id: CodeId, time: Millis) -> Option<CodeFlaw> {
        match self.kept.get(&id) {
            Some(code) => code.flaw(time),
            None => Some(CodeFlaw::Unknown),
        }
    }

    /// The `role_index` that a code gives, if it says one.
    pub(super) fn role_of(&self, id: CodeId) -> Option<u32> {
        self.kept.get(&id).and_then(|code| code.role_index)
    }

    /// Whether a code was made by a client.
    pub(super) fn is_made_by(&self, id: CodeId, client: &ClientUri) -> bool {
        let code = self.kept.get(&id);
        code.is_some_and(|code| code.creator.user() == client.user())
    }

    /// Somebody joined with this code.
    pub(super) fn consume(&mut self, id: CodeId) {
        if let Some(code) = self.kept.get_mut(&id) {
            code.uses_left = code.uses_left.map(|left| left.saturating_sub(1));
        }
    }

    /// Ends a code; whether there is such a one.
    pub(super) fn revoke(&mut self, id: CodeId) -> bool {
        let Some(code) = self.kept.get_mut(&id) else {
            return false;
        };
        code.revoked = true;
        true
    }

    /// The codes, for a check.
    pub(super) fn all(&self) -> Vec<(CodeId, Code)> {
        let all = self.kept.iter();
        all.map(|(id, code)| (*id, code.clone())).collect()
    }

    /// The codes, for members.
    pub(super) fn list(&self) -> CodeList {
        let facts = |(id, code): (&CodeId, &Code)| CodeFacts {
            id: *id,
            creator: code.creator.clone(),
            uses_left: code.uses_left,
            not_after: code.not_after,
            role_index: code.role_index,
            has_passphrase: code.passphrase.is_some(),
            revoked: code.revoked,
        };
        BVec::first_max(self.kept.iter().map(facts))
    }

    /// Whether a code asks for a passphrase.
    pub(super) fn has_passphrase(&self, id: CodeId) -> bool {
        let code = self.kept.get(&id);
        code.is_some_and(|code| code.passphrase.is_some())
    }

    /// How the codes of this client are looked at; so many wrong ones are not counted yet.
    pub(super) fn lock(&self, joiner: &ClientUri, time: Millis, uncounted: Uncounted) -> Lock {
        let guesses = &self.guesses;
        let provider = Guesser::Provider(joiner.provider().clone());
        let client = Guesser::Client(joiner.clone());
        let is_locked = guesses.wrong(&client, time, uncounted.client)
            >= WRONG_CODES_PER_CLIENT_MAX
            || guesses.wrong_of_user(joiner, time, uncounted.user) >= WRONG_CODES_PER_USER_MAX;
        if is_locked {
            Lock::Locked
        } else if guesses.wrong(&provider, time, uncounted.provider) >= WRONG_CODES_PER_PROVIDER_MAX
        {
            Lock::Slowed
        } else {
            Lock::Open
        }
    }

    /// Counts a wrong one of a client, and, with `foreign`, of its provider.
    pub(super) fn count_wrong(&mut self, joiner: &ClientUri, foreign: bool, time: Millis) {
        self.guesses.count(Guesser::Client(joiner.clone()), time);
        if foreign {
            let provider = joiner.provider().clone();
            self.guesses.count(Guesser::Provider(provider), time);
        }
    }
}

/// Wrong codes that are on their way into the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Uncounted {
    /// Of the client.
    pub(super) client: usize,
    /// Of all clients of its user.
    pub(super) user: usize,
    /// Of all clients of its provider, where that is not the hub.
    pub(super) provider: usize,
}

/// How the codes of a client are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// All of them.
    Open,
    /// Its provider tried too many wrong ones: those with a passphrase are looked at now and then, and wrong ones are not
    /// counted.
    Slowed,
    /// It, or its user, tried too many wrong ones: none is looked at.
    Locked,
}

/// Who tries wrong codes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Guesser {
    Client(ClientUri),
    Provider(ProviderId),
}

/// What somebody tried lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Tried {
    /// When the first of these was tried, or the lock began.
    since: Millis,
    wrong: u32,
}

/// Who tried how many wrong codes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Guesses {
    tried: BTreeMap<Guesser, Tried>,
}

impl Guesser {
    const fn wrong_max(&self) -> u32 {
        match self {
            Self::Client(_) => WRONG_CODES_PER_CLIENT_MAX,
            Self::Provider(_) => WRONG_CODES_PER_PROVIDER_MAX,
        }
    }
}

impl Tried {
    fn is_over(self, time: Millis) -> bool {
        self.since.plus(WRONG_CODES_WINDOW_MS) <= time
    }
}

impl Guesses {
    fn wrong(&self, guesser: &Guesser, time: Millis, uncounted: usize) -> u32 {
        let tried = self.tried.get(guesser).filter(|tried| !tried.is_over(time));
        let uncounted = u32::try_from(uncounted).unwrap_or(u32::MAX);
        let wrong = tried.map_or(0, |tried| tried.wrong);
        wrong.saturating_add(uncounted)
    }

    fn wrong_of_user(&self, of: &ClientUri, time: Millis, uncounted: usize) -> u32 {
        let tried = self.tried.iter().filter(|(_, tried)| !tried.is_over(time));
        let ours = tried.filter(|(guesser, _)| match guesser {
            Guesser::Client(client) => client.user() == of.user(),
            Guesser::Provider(_) => false,
        });
        let uncounted = u32::try_from(uncounted).unwrap_or(u32::MAX);
        ours.fold(uncounted, |sum, (_, tried)| sum.saturating_add(tried.wrong))
    }

    fn count(&mut self, guesser: Guesser, time: Millis) {
        self.tried.retain(|_, tried| !tried.is_over(time));
        if self.tried.len() >= GUESSERS_MAX && !self.tried.contains_key(&guesser) {
            let oldest = self.tried.iter().min_by_key(|(_, tried)| tried.since);
            if let Some(oldest) = oldest.map(|(guesser, _)| guesser.clone()) {
                self.tried.remove(&oldest);
            }
        }
        let max = guesser.wrong_max();
        let tried = self.tried.entry(guesser).or_insert(Tried {
            since: time,
            wrong: 0,
        });
        tried.wrong = tried.wrong.saturating_add(1);
        if tried.wrong == max {
            // The lock lasts a whole window from here.
            tried.since = time;
        }
    }
}
