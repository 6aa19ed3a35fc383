//! Who may claim a user's KeyPackages.
//!
//! Promises: what was said last about a requester and a scope holds; what was said for a room goes before what was
//! said for all; nobody may claim who was never mentioned.
//!
//! Source: transport requirements, sections 3.1 and 6.1.

use super::{
    User,
    command::Consent,
    outcome::{Answer, Counted, Outcome, Refused},
};
use crate::{
    ids::{Requester, RoomUri},
    limits::CONSENTS_PER_USER_MAX,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::Bound};

/// What a user said about others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Consents {
    said: BTreeMap<(Requester, Option<RoomUri>), bool>,
}

impl Consents {
    /// Whether `requester` may claim packages for `room`, or for no room in particular.
    pub(super) fn allow(&self, requester: &Requester, room: Option<&RoomUri>) -> bool {
        self.decision(requester, room).unwrap_or(false)
    }

    /// What was said that holds for `room`, or for no room in particular, if anything was.
    pub(super) fn decision(&self, requester: &Requester, room: Option<&RoomUri>) -> Option<bool> {
        let for_room = room.and_then(|room| self.said(requester, Some(room)));
        for_room.or_else(|| self.said(requester, None))
    }

    /// What was said for just that scope, if anything was.
    pub(super) fn said(&self, requester: &Requester, room: Option<&RoomUri>) -> Option<bool> {
        let scope = (requester.clone(), room.cloned());
        self.said.get(&scope).copied()
    }

    /// What was said about whoever follows a scope, in order.
    pub(super) fn after(
        &self,
        after: Option<&(Requester, Option<RoomUri>)>,
    ) -> impl Iterator<Item = (&Requester, Option<&RoomUri>, bool)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.said.range((from, Bound::Unbounded));
        rest.map(|((requester, room), grant)| (requester, room.as_ref(), *grant))
    }

    /// Whether `requester` has consent for every room.
    pub(super) fn is_contact(&self, requester: &Requester) -> bool {
        self.said.get(&(requester.clone(), None)) == Some(&true)
    }

    /// Who, for which room alone, and whether it was granted.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&Requester, Option<&RoomUri>, bool)> {
        self.after(None)
    }
}

impl User {
    pub(super) fn consent(&mut self, consent: &Consent) -> Outcome {
        let said = &mut self.consents.said;
        let scope = (consent.requester.clone(), consent.room.clone());
        let Some(grant) = consent.grant else {
            let known = said.remove(&scope).is_some();
            return Outcome::answer(if known {
                Answer::Done
            } else {
                Answer::Unchanged
            });
        };
        if said.len() >= CONSENTS_PER_USER_MAX && !said.contains_key(&scope) {
            let what = Counted::Consents;
            return Outcome::refused(Refused::too_many(what, CONSENTS_PER_USER_MAX));
        }
        let before = said.insert(scope, grant);
        let same = before == Some(grant);
        Outcome::answer(if same {
            Answer::Unchanged
        } else {
            Answer::Done
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        user::testing::{Log, alice, claim, room, user},
        wire::claim::{ClaimTerms, UserRefused},
    };

    /// Whether a claim of alice's for this room is allowed.
    fn allowed(bobby: &mut Log, name: Option<&str>) -> bool {
        let terms = ClaimTerms {
            room: name.map(room),
            ..ClaimTerms::new(alice())
        };
        match bobby.claim(claim(1, terms)) {
            Ok(_) => true,
            Err(refused) => {
                assert_eq!(refused, UserRefused::NoConsent);
                false
            }
        }
    }

    #[test]
    fn what_was_said_for_a_room_goes_before_what_was_said_for_all() {
        // Said for all, said for the clubhouse; allowed there, elsewhere, for no room.
        for (all, club, expected) in [
            (None, None, [false, false, false]),
            (Some(true), None, [true, true, true]),
            (Some(false), None, [false, false, false]),
            (None, Some(true), [true, false, false]),
            (None, Some(false), [false, false, false]),
            (Some(true), Some(false), [false, true, true]),
            (Some(false), Some(true), [true, false, false]),
        ] {
            for (place, expected) in [Some("club"), Some("den"), None].into_iter().zip(expected) {
                let mut bobby = Log::bobby(&["phone"]);
                bobby.consent(alice(), None, all);
                bobby.consent(alice(), Some(room("club")), club);
                assert_eq!(
                    allowed(&mut bobby, place),
                    expected,
                    "{all:?} {club:?} {place:?}"
                );
            }
        }
    }

    #[test]
    fn the_last_word_for_a_scope_holds_and_can_be_taken_back() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.consent(alice(), None, Some(false));
        assert!(!allowed(&mut bobby, None));
        assert_eq!(bobby.fold.consents().count(), 1);
        bobby.consent(alice(), None, None);
        assert_eq!(bobby.fold.consents().count(), 0);
        bobby.consent(alice(), Some(room("club")), Some(true));
        let said: Vec<_> = bobby.fold.consents().collect();
        assert_eq!(said, [(&alice().into(), Some(&room("club")), true)]);
    }

    #[test]
    fn only_so_many_entries_are_kept_but_any_of_them_can_change() {
        let mut bobby = Log::bobby(&[]);
        for number in 1..CONSENTS_PER_USER_MAX {
            let answer = bobby.consent(user(&format!("u{number}")), None, Some(true));
            assert_eq!(answer, Answer::Done);
        }
        let refused = bobby.consent(user("one-more"), None, Some(true));
        let max = u32::try_from(CONSENTS_PER_USER_MAX).unwrap();
        let too_many = Refused::TooMany {
            what: Counted::Consents,
            max,
        };
        assert_eq!(refused, Answer::Refused(too_many));
        assert_eq!(bobby.consent(alice(), None, Some(false)), Answer::Done);
        assert!(!allowed(&mut bobby, None));
    }
}
