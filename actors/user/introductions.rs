//! Introduction codes: a user gives one to somebody, who can then ask its provider whom it is from.
//!
//! A code is random bytes and, behind them, the name of the user, so that its provider finds the user without an index;
//! what is kept is a hash. It proves that the user gave it away, and nothing more. Who tries wrong ones is counted on
//! the desk, for users that exist and for those that do not.
//!
//! Source: transport requirements, section 7.3.

use super::{
    Fold, User,
    outcome::{Answer, Outcome},
};
use crate::{
    ids::{ProviderId, UserUri},
    limits::{
        CODE_BYTES, GUESSERS_MAX, INTRODUCTIONS_PER_USER_MAX, WRONG_CODES_PER_PROVIDER_MAX,
        WRONG_CODES_WINDOW_MS,
    },
    machine::Millis,
    wire::{
        BVec,
        event::Hash,
        joining::{CodeId, Introduced, IntroductionFacts},
    },
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use subtle::ConstantTimeEq as _;

/// What is done with a user's introduction codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Introduction {
    /// Keep one.
    Keep {
        /// Its hash, see [`hash`].
        hash: Hash,
        /// When it ends.
        not_after: Option<Millis>,
    },
    /// Say which there are.
    List,
    /// End one.
    Revoke(CodeId),
    /// Say whether it is one.
    Resolve {
        /// The provider that asks, authenticated.
        peer: ProviderId,
        /// Its hash.
        hash: Hash,
    },
}

/// The code of a user, made of random bytes.
#[must_use]
pub fn code(user: &UserUri, random: [u8; CODE_BYTES]) -> Vec<u8> {
    [&random[..], user.user().as_bytes()].concat()
}

/// The user of `own` whose name is in a code, if one could have that name.
#[must_use]
pub fn user_of(own: &ProviderId, code: &[u8]) -> Option<UserUri> {
    let (_, name) = code.split_at_checked(CODE_BYTES)?;
    UserUri::new(own, str::from_utf8(name).ok()?).ok()
}

/// The hash under which a code is kept.
#[must_use]
pub fn hash(code: &[u8]) -> Hash {
    let key = blake3::derive_key("mimi-node 2026-11 introduction code", b"");
    Hash(*blake3::keyed_hash(&key, code).as_bytes())
}

/// The codes of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Introductions {
    next: u32,
    kept: BTreeMap<CodeId, Kept>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    hash: Hash,
    not_after: Option<Millis>,
}

impl Kept {
    fn is_over(&self, time: Millis) -> bool {
        self.not_after.is_some_and(|end| end <= time)
    }
}

impl User {
    pub(super) fn introduce(&mut self, time: Millis, what: &Introduction) -> Outcome {
        let Introductions { next, kept } = &mut self.introductions;
        let answer = match what {
            Introduction::Keep { hash, not_after } => {
                kept.retain(|_, code| !code.is_over(time));
                if kept.len() >= INTRODUCTIONS_PER_USER_MAX {
                    let max = u32::try_from(INTRODUCTIONS_PER_USER_MAX).unwrap_or(u32::MAX);
                    return Outcome::answer(Answer::Introduced(Introduced::TooMany { max }));
                }
                *next = next.wrapping_add(1);
                let (hash, not_after) = (*hash, *not_after);
                kept.insert(CodeId(*next), Kept { hash, not_after });
                return Outcome::answer(Answer::IntroductionKept(CodeId(*next)));
            }
            Introduction::Revoke(id) => {
                if kept.remove(id).is_some() {
                    Introduced::Revoked
                } else {
                    Introduced::NotAuthorized
                }
            }
            Introduction::List => self.introduction_list(time),
            Introduction::Resolve { hash, .. } => self.resolve(hash, time),
        };
        Outcome::answer(Answer::Introduced(answer))
    }

    fn introduction_list(&self, time: Millis) -> Introduced {
        let live = self.introductions.kept.iter();
        let live = live.filter(|(_, code)| !code.is_over(time));
        let facts = live.map(|(id, code)| IntroductionFacts {
            id: *id,
            not_after: code.not_after,
        });
        Introduced::Listed(BVec::first_max(facts))
    }

    fn resolve(&self, hash: &Hash, time: Millis) -> Introduced {
        let mut known = subtle::Choice::from(0);
        for code in self.introductions.kept.values() {
            let live = subtle::Choice::from(u8::from(!code.is_over(time)));
            known |= code.hash.0.ct_eq(&hash.0) & live;
        }
        if known.into() {
            Introduced::Resolved(self.uri.clone())
        } else {
            Introduced::NotAuthorized
        }
    }
}

impl Fold {
    /// The answer to a question about introduction codes, which changes nothing.
    #[must_use]
    pub(super) fn introduced(&self, time: Millis, what: &Introduction) -> Option<Introduced> {
        match (what, self.user()) {
            (Introduction::List, Some(user)) => Some(user.introduction_list(time)),
            (Introduction::Resolve { hash, .. }, Some(user)) => Some(user.resolve(hash, time)),
            (Introduction::Resolve { .. }, None) => Some(Introduced::NotAuthorized),
            (Introduction::List, None)
            | (Introduction::Keep { .. } | Introduction::Revoke(_), _) => None,
        }
    }
}

/// Which providers tried wrong codes lately, and how many. Volatile.
#[derive(Debug, Default)]
pub(super) struct Guessers {
    tried: BTreeMap<ProviderId, (Millis, u32)>,
}

impl Guessers {
    /// The answer that a provider gets: whoever tried too many wrong codes is told nothing for a while.
    pub(super) fn judge(
        &mut self,
        peer: &ProviderId,
        now: Millis,
        answer: Introduced,
    ) -> Introduced {
        self.tried
            .retain(|_, (since, _)| since.plus(WRONG_CODES_WINDOW_MS) > now);
        let wrong = self.tried.get(peer).map_or(0, |(_, wrong)| *wrong);
        if wrong >= WRONG_CODES_PER_PROVIDER_MAX {
            return Introduced::NotAuthorized;
        }
        if answer == Introduced::NotAuthorized {
            if self.tried.len() >= GUESSERS_MAX {
                self.tried.pop_first();
            }
            self.tried.entry(peer.clone()).or_insert((now, 0)).1 += 1;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::{
        command::Command,
        testing::{Log, user},
    };

    fn introduce(bobby: &mut Log, what: Introduction) -> Answer {
        bobby.apply(Command::Introduction(what)).answer
    }

    fn keep(bobby: &mut Log, code: &[u8], not_after: Option<Millis>) -> CodeId {
        let hash = hash(code);
        let answer = introduce(bobby, Introduction::Keep { hash, not_after });
        let Answer::IntroductionKept(id) = answer else {
            panic!("not kept: {answer:?}");
        };
        id
    }

    fn resolve(bobby: &Log, code: &[u8], time: Millis) -> Introduced {
        let (peer, hash) = ("b.example".parse().unwrap(), hash(code));
        let what = Introduction::Resolve { peer, hash };
        bobby.fold.introduced(time, &what).unwrap()
    }

    #[test]
    fn a_code_leads_to_its_user_until_it_is_ended_or_its_time_is_over() {
        let mut bobby = Log::bobby(&["phone"]);
        let (own, one, two) = (user("bobby"), [1; CODE_BYTES], [2; CODE_BYTES]);
        let (one, two) = (code(&own, one), code(&own, two));
        assert_eq!(user_of(own.provider(), &one), Some(own.clone()));
        let id = keep(&mut bobby, &one, None);
        keep(&mut bobby, &two, Some(Millis(5_000)));
        let resolved = Introduced::Resolved(own.clone());
        assert_eq!(resolve(&bobby, &one, Millis(9_000)), resolved);
        assert_eq!(resolve(&bobby, &two, Millis(4_999)), resolved);
        assert_eq!(
            resolve(&bobby, &two, Millis(5_000)),
            Introduced::NotAuthorized
        );
        let revoked = introduce(&mut bobby, Introduction::Revoke(id));
        assert_eq!(revoked, Answer::Introduced(Introduced::Revoked));
        assert_eq!(resolve(&bobby, &one, Millis(1)), Introduced::NotAuthorized);
        let nobody = Fold::default();
        let peer = own.provider().clone();
        let what = Introduction::Resolve {
            peer,
            hash: hash(&one),
        };
        assert_eq!(
            nobody.introduced(Millis(1), &what),
            Some(Introduced::NotAuthorized)
        );
    }

    #[test]
    fn a_user_has_only_so_many_codes_and_expired_ones_do_not_count() {
        let mut bobby = Log::bobby(&["phone"]);
        keep(&mut bobby, b"expired", Some(Millis(1)));
        for n in 0..INTRODUCTIONS_PER_USER_MAX {
            keep(&mut bobby, &n.to_be_bytes(), None);
        }
        let (hash, not_after) = (hash(b"one more"), None);
        let refused = introduce(&mut bobby, Introduction::Keep { hash, not_after });
        let max = u32::try_from(INTRODUCTIONS_PER_USER_MAX).unwrap();
        assert_eq!(refused, Answer::Introduced(Introduced::TooMany { max }));
    }

    #[test]
    fn a_provider_that_tries_wrong_codes_is_told_nothing_and_others_are() {
        let (hostile, honest) = ("b.example".parse().unwrap(), "c.example".parse().unwrap());
        let right = || Introduced::Resolved(user("bobby"));
        let mut guessers = Guessers::default();
        for _ in 0..WRONG_CODES_PER_PROVIDER_MAX {
            assert_eq!(guessers.judge(&hostile, Millis(1), right()), right());
            guessers.judge(&hostile, Millis(1), Introduced::NotAuthorized);
        }
        let told = guessers.judge(&hostile, Millis(2), right());
        assert_eq!(told, Introduced::NotAuthorized);
        assert_eq!(guessers.judge(&honest, Millis(2), right()), right());
        let later = Millis(1).plus(WRONG_CODES_WINDOW_MS);
        assert_eq!(guessers.judge(&hostile, later, right()), right());
    }

    #[test]
    fn a_text_that_holds_no_name_leads_to_nobody() {
        let own = user("bobby").provider().clone();
        for code in [&b""[..], &[0; CODE_BYTES], &[0; 5], &[0xff; 40]] {
            assert_eq!(user_of(&own, code), None);
        }
    }
}
