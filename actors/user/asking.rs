//! Consent between users: who asks whom, who answers, and what each hears of it.
//!
//! Promises: what this user said (`consent`) holds, whatever was asked; a request that a
//! user has answered waits no longer; nothing is told of a refusal unless the user wants that. What is to be told goes into
//! the [`Outcome`] and is owed from then on. Not here: who may claim (`consent`), how what is told gets there (`shard`).
//!
//! Source: transport requirements, section 6.1.

use super::{
    Account, Fold, User,
    command::{Consent, Heard},
    given::Given,
    inbox::Held,
    outcome::{Answer, Counted, Outcome, Refused},
};
use crate::{
    ids::{Requester, RoomUri, UserUri},
    limits::{
        CLIENTS_PER_USER_MAX, CONSENT_REQUESTS_WAITING_MAX, CONSENTS_ASKED_PER_USER_MAX,
        CONSENTS_LISTED_MAX, CONSENTS_SAID_PER_HOUR_MAX, CONSENTS_SAID_WINDOW_MS,
    },
    machine::{Millis, Moment},
    wire::{
        BVec, Payload,
        claim::ClaimTerms,
        consent::{ConsentEntry, ConsentOp, Consents, ConsentsAsk, Said, Scope, Standing},
        post::Note,
    },
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// What a user asked, and was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asking {
    /// Who waits for an answer, oldest first.
    waiting: VecDeque<Scope>,
    /// What this user asked, and heard, oldest first.
    asked: VecDeque<(Scope, Standing)>,
    /// When it spoke within the last hour to somebody who had not asked, oldest first.
    said_at: VecDeque<Millis>,
    tells_revocations: bool,
    /// Who got which of this user's KeyPackages.
    pub(super) given: Given,
}

/// Whether an answer for one scope is one to a request for another of the same user: a room is answered by any room, and any
/// room by a room.
fn answers(answer: &Option<RoomUri>, asked: &Option<RoomUri>) -> bool {
    answer.is_none() || asked.is_none() || answer == asked
}

impl Asking {
    /// Whether nothing was ever said; version 1 of folds has no word for anything else.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// When another word may be said to somebody who did not ask, in milliseconds; `None` when now.
    fn wait_ms(&self, time: Millis) -> Option<u32> {
        let counts = |at: &&Millis| at.plus(CONSENTS_SAID_WINDOW_MS) > time;
        let mut counted = self.said_at.iter().filter(counts);
        let first = counted.next()?;
        (counted.count() + 1 >= CONSENTS_SAID_PER_HOUR_MAX).then(|| {
            let until = first.plus(CONSENTS_SAID_WINDOW_MS).0;
            u32::try_from(until.saturating_sub(time.0)).unwrap_or(u32::MAX)
        })
    }

    fn count(&mut self, time: Millis) {
        self.said_at
            .retain(|at| at.plus(CONSENTS_SAID_WINDOW_MS) > time);
        self.said_at.push_back(time);
    }

    fn standing(&self, scope: &Scope) -> Option<Standing> {
        let mut asked = self.asked.iter();
        asked
            .find(|(of, _)| of == scope)
            .map(|(_, standing)| *standing)
    }

    /// Remembers where a request stands; where there is no place, what was heard of another first makes room. `false` when
    /// all that is there waits for an answer.
    fn stands(&mut self, scope: Scope, standing: Standing) -> bool {
        self.asked.retain(|(of, _)| *of != scope);
        if self.asked.len() >= CONSENTS_ASKED_PER_USER_MAX {
            let answered = |(_, standing): &(Scope, Standing)| *standing != Standing::Asked;
            let Some(oldest) = self.asked.iter().position(answered) else {
                return false;
            };
            self.asked.remove(oldest);
        }
        self.asked.push_back((scope, standing));
        true
    }

    /// Whether somebody waits for an answer that this one is.
    fn is_waited_for(&self, scope: &Scope) -> bool {
        self.waiting
            .iter()
            .any(|waits| waits.user == scope.user && answers(&scope.room, &waits.room))
    }

    /// Nobody waits for this answer any more.
    fn answered(&mut self, scope: &Scope) {
        self.waiting
            .retain(|waits| waits.user != scope.user || !answers(&scope.room, &waits.room));
    }

    /// Adds a request that waits. Where there is no place, the oldest of whichever provider has most makes room: who asks
    /// in the name of many takes the places of its own.
    fn wait(&mut self, scope: Scope) {
        if self.waiting.len() >= CONSENT_REQUESTS_WAITING_MAX {
            let mut of: BTreeMap<_, usize> = BTreeMap::new();
            for waits in self.waiting.iter().chain([&scope]) {
                *of.entry(waits.user.provider()).or_default() += 1;
            }
            let most = of.iter().max_by_key(|(_, count)| **count);
            let most = most.map(|(provider, _)| (*provider).clone());
            let oldest = self
                .waiting
                .iter()
                .position(|waits| Some(waits.user.provider()) == most.as_ref());
            self.waiting.remove(oldest.unwrap_or_default());
        }
        self.waiting.push_back(scope);
    }
}

/// The scope of what a user says, as its own table of consents has it.
fn consent(scope: &Scope, granted: bool) -> Consent {
    Consent {
        requester: scope.user.clone().into(),
        room: scope.room.clone(),
        grant: Some(granted),
    }
}

impl Fold {
    /// The same fold, in which so much was asked.
    pub(crate) fn with_asking(mut self, asking: Asking) -> Self {
        if let Account::Active(user) = &mut self.account {
            user.asking = asking;
        }
        self
    }

    /// What was asked, if anything was.
    pub(crate) fn asking(&self) -> Option<&Asking> {
        let asking = self.user().map(|user| &user.asking);
        asking.filter(|asking| !asking.is_empty())
    }
}

impl User {
    /// What this user says to another about consent.
    fn entry(&self, op: ConsentOp, scope: &Scope) -> ConsentEntry {
        let (own, other) = (self.uri.clone(), scope.user.clone());
        let (requester, target) = match op {
            ConsentOp::Request | ConsentOp::Cancel => (own, other),
            ConsentOp::Grant | ConsentOp::Revoke => (other, own),
        };
        ConsentEntry {
            op,
            requester,
            target,
            room: scope.room.clone(),
            key_packages: BVec::default(),
            extensions: Payload::default(),
        }
    }

    fn consents_list(&self, after: Option<&(Requester, Option<RoomUri>)>) -> Consents {
        let asking = &self.asking;
        let mut rest = self.consents.after(after);
        let said = BVec::first_max(rest.by_ref().take(CONSENTS_LISTED_MAX).map(
            |(requester, room, granted)| Said {
                requester: requester.clone(),
                room: room.cloned(),
                granted,
            },
        ));
        Consents {
            waiting: BVec::first_max(asking.waiting.iter().cloned()),
            asked: BVec::first_max(asking.asked.iter().cloned()),
            tells_revocations: asking.tells_revocations,
            said,
            more: rest.next().is_some(),
        }
    }

    /// What a device is answered that says nothing new, asks what there is, or has to wait: nothing of it is for the log.
    pub(super) fn consents_without_log(&self, time: Millis, ask: &ConsentsAsk) -> Option<Answer> {
        let asking = &self.asking;
        let unasked = |scope: &Scope| !asking.is_waited_for(scope);
        let is_old = match ask {
            ConsentsAsk::List { after } => {
                let list = self.consents_list(after.as_ref());
                return Some(Answer::Consents(Box::new(list)));
            }
            ConsentsAsk::Request(scope) => {
                scope.user == self.uri || asking.standing(scope) == Some(Standing::Asked)
            }
            ConsentsAsk::Cancel(scope) => asking.standing(scope).is_none(),
            ConsentsAsk::Grant(scope) => {
                scope.user == self.uri || unasked(scope) && self.said(scope) == Some(true)
            }
            ConsentsAsk::GrantWithPackages(scope) => scope.user == self.uri,
            ConsentsAsk::Revoke(scope) => {
                scope.user == self.uri || unasked(scope) && self.said(scope) == Some(false)
            }
            ConsentsAsk::TellRevocations(tells) => asking.tells_revocations == *tells,
        };
        if is_old {
            return Some(Answer::Unchanged);
        }
        let to_a_stranger = match ask {
            ConsentsAsk::Request(_) => true,
            ConsentsAsk::Grant(scope) | ConsentsAsk::GrantWithPackages(scope) => unasked(scope),
            ConsentsAsk::Cancel(_)
            | ConsentsAsk::Revoke(_)
            | ConsentsAsk::TellRevocations(_)
            | ConsentsAsk::List { .. } => false,
        };
        let retry_after_ms = asking.wait_ms(time).filter(|_| to_a_stranger)?;
        Some(Answer::Refused(Refused::Limited { retry_after_ms }))
    }

    fn said(&self, scope: &Scope) -> Option<bool> {
        self.consents
            .said(&scope.user.clone().into(), scope.room.as_ref())
    }

    /// A device of the user says something about consent.
    pub(super) fn consents(&mut self, time: Millis, ask: &ConsentsAsk) -> Outcome {
        if let Some(answer) = self.consents_without_log(time, ask) {
            return Outcome::answer(answer);
        }
        let mut outcome = Outcome::answer(Answer::Done);
        match ask {
            ConsentsAsk::Request(scope) => {
                if !self.asking.stands(scope.clone(), Standing::Asked) {
                    let max = CONSENTS_ASKED_PER_USER_MAX;
                    return Outcome::refused(Refused::too_many(Counted::Consents, max));
                }
                self.asking.count(time);
                outcome.told.push(self.entry(ConsentOp::Request, scope));
            }
            ConsentsAsk::Cancel(scope) => {
                if self.asking.standing(scope) == Some(Standing::Asked) {
                    outcome.told.push(self.entry(ConsentOp::Cancel, scope));
                }
                self.asking.asked.retain(|(of, _)| of != scope);
            }
            ConsentsAsk::Grant(scope) | ConsentsAsk::GrantWithPackages(scope) => {
                let asked = self.asking.is_waited_for(scope);
                let granted = self.consent(&consent(scope, true));
                if let Answer::Refused(_) = granted.answer {
                    return granted;
                }
                if !asked {
                    self.asking.count(time);
                }
                self.asking.answered(scope);
                let mut entry = self.entry(ConsentOp::Grant, scope);
                if matches!(ask, ConsentsAsk::GrantWithPackages(_)) {
                    entry.key_packages = self.give_packages(time, &scope.user.clone().into());
                }
                outcome.told.push(entry);
            }
            ConsentsAsk::Revoke(scope) => {
                // Who never asked and never had consent is told nothing: there would be no end to whom one could tell.
                let known = self.asking.is_waited_for(scope) || self.said(scope) == Some(true);
                let revoked = self.consent(&consent(scope, false));
                if let Answer::Refused(_) = revoked.answer {
                    return revoked;
                }
                self.asking.answered(scope);
                if known && self.asking.tells_revocations {
                    outcome.told.push(self.entry(ConsentOp::Revoke, scope));
                }
            }
            ConsentsAsk::TellRevocations(tells) => self.asking.tells_revocations = *tells,
            // Answered above.
            ConsentsAsk::List { .. } => {}
        }
        outcome
    }

    /// Takes a KeyPackage of each client that has one, for somebody who has consent: gone as by a claim.
    fn give_packages(
        &mut self,
        time: Millis,
        to: &Requester,
    ) -> BVec<Payload, CLIENTS_PER_USER_MAX> {
        let terms = ClaimTerms::new(to.clone());
        let mut given = Vec::new();
        for device in self.devices.values_mut() {
            // A last-resort package is for who claims, once for each hub.
            if let Ok(package) = device.stock.take(&terms, time, 0) {
                self.spent.add(&package);
                self.asking.given.add(&package, to);
                given.push(package.package);
            }
        }
        BVec::first_max(given)
    }

    /// The operator said something for the user: it is as if the user had.
    pub(super) fn consent_for(&mut self, said: &Consent) -> Outcome {
        let mut outcome = self.consent(said);
        let (Requester::User(user), Some(granted)) = (&said.requester, said.grant) else {
            return outcome;
        };
        let (user, room) = (user.clone(), said.room.clone());
        let scope = Scope { user, room };
        if matches!(outcome.answer, Answer::Refused(_)) || !self.asking.is_waited_for(&scope) {
            return outcome;
        }
        self.asking.answered(&scope);
        if granted {
            outcome.told.push(self.entry(ConsentOp::Grant, &scope));
        } else if self.asking.tells_revocations {
            outcome.told.push(self.entry(ConsentOp::Revoke, &scope));
        }
        outcome
    }

    /// Whether what somebody else says changes nothing here, and is answered by nothing.
    pub(super) fn is_nothing_new(&self, entry: &ConsentEntry) -> bool {
        let other = |user: &UserUri| Scope {
            user: user.clone(),
            room: entry.room.clone(),
        };
        let heard = |standing| self.asking.standing(&other(&entry.target)) == Some(standing);
        match entry.op {
            // A refusal is told to nobody who asks, and neither is that there was one.
            ConsentOp::Request => {
                entry.requester == self.uri
                    || self.asking.waiting.contains(&other(&entry.requester))
                    || self
                        .consents
                        .decision(&entry.requester.clone().into(), entry.room.as_ref())
                        == Some(false)
            }
            ConsentOp::Cancel => !self.asking.waiting.contains(&other(&entry.requester)),
            ConsentOp::Grant => {
                let old = heard(Standing::Granted) && entry.key_packages.is_empty();
                entry.target == self.uri || old
            }
            // Of somebody who was never asked and gave nothing, nobody wants to hear what it takes back.
            ConsentOp::Revoke => {
                let mut asked = self.asking.asked.iter();
                heard(Standing::Revoked) || !asked.any(|(of, _)| of.user == entry.target)
            }
        }
    }

    /// Somebody else says something about consent.
    pub(super) fn hear_consent(&mut self, moment: Moment, heard: &Heard) -> Outcome {
        let mut outcome = Outcome::answer(Answer::Done);
        if let Some((shard, seq)) = heard.from
            && !self.is_news(shard, seq)
        {
            return outcome;
        }
        let entry = &heard.entry;
        if self.is_nothing_new(entry) {
            return outcome;
        }
        let room = entry.room.clone();
        match entry.op {
            ConsentOp::Request => {
                let requester = &entry.requester;
                let scope = Scope {
                    user: requester.clone(),
                    room: room.clone(),
                };
                if self
                    .consents
                    .allow(&requester.clone().into(), room.as_ref())
                {
                    // It has consent, and may have missed that it was told so.
                    outcome.told.push(self.entry(ConsentOp::Grant, &scope));
                    return outcome;
                }
                let requester = requester.clone();
                self.asking.wait(scope);
                let asked = Note::ConsentAsked { requester, room };
                self.note_consent(&Held::Note(asked), &mut outcome);
            }
            ConsentOp::Cancel => {
                let user = entry.requester.clone();
                self.asking.waiting.retain(|waits| {
                    *waits
                        != Scope {
                            user: user.clone(),
                            room: room.clone(),
                        }
                });
            }
            ConsentOp::Grant | ConsentOp::Revoke => {
                let granted = entry.op == ConsentOp::Grant;
                let target = entry.target.clone();
                self.asking.asked.retain(|(of, standing)| {
                    of.user != target || *standing != Standing::Asked || !answers(&room, &of.room)
                });
                let scope = Scope {
                    user: target.clone(),
                    room: room.clone(),
                };
                let standing = if granted {
                    Standing::Granted
                } else {
                    Standing::Revoked
                };
                // Where all places are taken by what has no answer, the note alone tells it.
                self.asking.stands(scope, standing);
                let said = Note::ConsentSaid {
                    target,
                    room,
                    granted,
                    packages: BVec::default(),
                };
                let held = if entry.key_packages.is_empty() {
                    Held::Note(said)
                } else {
                    Held::Said(said, moment.at)
                };
                self.note_consent(&held, &mut outcome);
            }
        }
        outcome
    }

    /// Tells all devices: whichever is there first may answer.
    fn note_consent(&mut self, held: &Held, outcome: &mut Outcome) {
        for (client, device) in &mut self.devices {
            device.note_consent(client, held, outcome);
        }
    }
}

#[cfg(test)]
#[path = "asking_tests.rs"]
mod tests;
