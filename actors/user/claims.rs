//! Claims on a user: who gets packages, and what a retry gets.
//!
//! Promises: the same claim again gets the first result, packages included, for `CLAIM_KEPT_MS`; a refusal is not
//! remembered, so a retry may fare better. Consent is looked at before the stock: who has none learns nothing of it.
//!
//! Source: transport requirements, section 3.1.

use super::{
    Device, User,
    command::{Claim, StoredPackage},
    outcome::{Answer, Claimed, Outcome},
    stock::{MLS10, or_default},
};
use crate::{
    ids::{ClientUri, ProviderId, Requester, RoomUri},
    limits::{CLAIM_KEPT_MS, CLAIMS_REMEMBERED_PER_USER_MAX, CLIENTS_PER_USER_MAX},
    machine::{Millis, Moment},
    wire::{
        BVec, Payload,
        claim::{ClaimId, ClaimedClient, ClientRefused, UserRefused},
        event::Hash,
        post::Note,
        version::Level,
    },
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Results of claims, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    remembered: VecDeque<Remembered>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    id: ClaimId,
    /// Ids are chosen by the one who asks: another provider's claim of the same id is another claim.
    peer: ProviderId,
    body: Hash,
    time: Millis,
    clients: BVec<ClaimedClient, CLIENTS_PER_USER_MAX>,
    requester: Requester,
    room: Option<RoomUri>,
    hub: ProviderId,
    /// The references of the packages in `clients`, in their order.
    references: Vec<Payload>,
}

/// To whom a package was handed out, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handed<'a> {
    /// Whose package it is.
    pub client: &'a ClientUri,
    /// Who got it.
    pub requester: &'a Requester,
    /// For which room.
    pub room: Option<&'a RoomUri>,
    /// Which provider routes the Welcome.
    pub hub: &'a ProviderId,
    /// Until when this is remembered, if not more is to be remembered before.
    pub until: Millis,
}

impl Remembered {
    fn is_kept(&self, time: Millis) -> bool {
        time <= self.time.plus(CLAIM_KEPT_MS)
    }
}

impl Claims {
    fn find(&self, time: Millis, claim: &Claim) -> Option<&Remembered> {
        self.remembered
            .iter()
            .rev()
            .find(|first| first.id == claim.id && first.peer == claim.peer && first.is_kept(time))
    }

    /// Who got the package of this reference.
    pub(super) fn handed(&self, reference: &[u8]) -> Option<Handed<'_>> {
        self.remembered.iter().rev().find_map(|claim| {
            let packaged = claim.clients.iter().filter(|client| client.result.is_ok());
            let mut pairs = packaged.zip(&claim.references);
            let (client, _) = pairs.find(|(_, known)| ***known == *reference)?;
            Some(Handed {
                client: &client.client,
                requester: &claim.requester,
                room: claim.room.as_ref(),
                hub: &claim.hub,
                until: claim.time.plus(CLAIM_KEPT_MS),
            })
        })
    }

    /// Keeps a result, and lets go of those that nobody may ask for any more.
    fn remember(&mut self, result: Remembered) {
        while let Some(oldest) = self.remembered.front()
            && (!oldest.is_kept(result.time)
                || self.remembered.len() >= CLAIMS_REMEMBERED_PER_USER_MAX)
        {
            self.remembered.pop_front();
        }
        self.remembered.push_back(result);
    }
}

impl User {
    /// The result of a claim that does not depend on the stock: of a retry, or a refusal.
    pub(super) fn before_stock(&self, time: Millis, claim: &Claim) -> Option<Claimed> {
        if let Some(first) = self.claims.find(time, claim) {
            let same = first.body == claim.body;
            let conflict = Err(UserRefused::Conflict);
            return Some(if same {
                Ok(first.clients.clone())
            } else {
                conflict
            });
        }
        let terms = &claim.terms;
        let own = self.is_own(claim);
        if !own && !self.consents.allow(&terms.requester, terms.room.as_ref()) {
            return Some(Err(UserRefused::NoConsent));
        }
        if !or_default(&terms.versions, &[MLS10]).contains(&MLS10) {
            return Some(Err(fold_refusal(UserRefused::IncompatibleProtocol, claim)));
        }
        if own {
            return None;
        }
        let wait = self.budgets.wait_ms(time, claim);
        wait.map(|retry_after_ms| Err(UserRefused::Limited { retry_after_ms }))
    }

    /// Whether the user claims of itself.
    fn is_own(&self, claim: &Claim) -> bool {
        claim.terms.requester.user() == Some(&self.uri)
    }

    pub(super) fn claim(&mut self, moment: Moment, claim: &Claim) -> Outcome {
        let time = moment.time;
        if let Some(result) = self.before_stock(time, claim) {
            return Outcome::answer(Answer::Claimed(result));
        }
        let own = self.is_own(claim);
        if !own {
            self.budgets.count(time, claim);
        }
        let contact = own || self.consents.is_contact(&claim.terms.requester);
        // Only its owner may leave a client out; anybody else is told of each.
        let asking = claim.terms.asking_client.as_ref().filter(|_| own);
        let mut outcome = Outcome::answer(Answer::Done);
        let mut references = Vec::new();
        let devices = self.devices.iter_mut();
        let devices = devices.filter(|(client, _)| Some(*client) != asking);
        // A user has no more devices than that; of one beyond it nothing would be taken.
        let clients = BVec::first_max(devices.map(|(client, device)| {
            let taken = device.take(time, claim, contact, &mut outcome, client);
            match &taken {
                Ok(package) => {
                    self.spent.add(package);
                    // Who claims of itself needs no consent; but others may get the same last-resort package.
                    if moment.level >= Level::SECOND && (!own || package.last_resort) {
                        self.asking.given.add(package, &claim.terms.requester);
                    }
                    self.pending_adds.served(claim, client);
                    references.push(package.reference.clone());
                }
                Err(_) => self.pending_adds.add(time, claim, client),
            }
            let client = client.clone();
            let result = taken.map(|stored| stored.package);
            ClaimedClient { client, result }
        }));
        outcome.handed_out = Some(u32::try_from(references.len()).unwrap_or(u32::MAX));
        self.claims.remember(Remembered {
            id: claim.id,
            peer: claim.peer.clone(),
            body: claim.body,
            time,
            clients: clients.clone(),
            requester: claim.terms.requester.clone(),
            room: claim.terms.room.clone(),
            hub: claim.hub.clone(),
            references,
        });
        outcome.answer = Answer::Claimed(Ok(clients));
        outcome
    }
}

impl Device {
    /// Takes a package for a claim, the last-resort one if there is no other, and tells the owner what it should know.
    fn take(
        &mut self,
        time: Millis,
        claim: &Claim,
        contact: bool,
        outcome: &mut Outcome,
        client: &ClientUri,
    ) -> Result<StoredPackage, ClientRefused> {
        let rules = &claim.rules;
        let reserve_percent = if contact { 0 } else { rules.reserve_percent };
        let mut taken = self.stock.take(&claim.terms, time, reserve_percent);
        if let Some(left) = self.stock.warns(rules.low_stock_percent) {
            self.note(client, Note::LowStock { left }, outcome);
        }
        if taken.is_err()
            && let Some(last_resort) = &mut self.last_resort
            && let Some((package, first)) = last_resort.give(claim, time)
        {
            if first {
                self.note(client, Note::LastResortUsed, outcome);
            }
            taken = Ok(package);
        }
        taken
    }
}

/// The refusal that a requester gets: where refusals are folded, every one looks like missing consent.
pub(super) fn fold_refusal(refused: UserRefused, claim: &Claim) -> UserRefused {
    if claim.rules.folded {
        UserRefused::NoConsent
    } else {
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{ClientUri, UserUri},
        machine::{Fold as _, Moment},
        user::{
            command::{Command, StoredPackage},
            fold::Fold,
            outcome::Answer,
            testing::{Log, NOW, alice, claim, client, got, none, package, packages, room, user},
        },
        wire::claim::{ClaimTerms, ClientRefused::*},
    };

    #[test]
    fn the_table_of_results_is_the_one_of_the_requirements() {
        let mut bobby = Log::bobby(&["desktop", "phone", "tablet"]);
        bobby.stock("desktop", [1]);
        bobby.stock("phone", [2]);
        bobby.stock("tablet", [3]);
        let got_of_bobby = bobby.claim_plain(1);
        let all = [got("desktop", 1), got("phone", 2), got("tablet", 3)];
        assert_eq!(packages(&got_of_bobby), all);

        let mut betty = Log::of("betty", &["laptop", "phone"]);
        let of_betty = |name: &str| ClientUri::new(&user("betty"), name).unwrap();
        let odd = StoredPackage {
            ciphersuite: 3,
            ..package(5)
        };
        betty.upload(&of_betty("laptop"), vec![package(4)]);
        betty.upload(&of_betty("phone"), vec![odd]);
        let some = [got("laptop", 4), none("phone", NoneCompatible)];
        assert_eq!(packages(&betty.claim_plain(1)), some);

        let mut bruce = Log::of("bruce", &["phone"]);
        bruce.consent(alice(), None, None);
        assert_eq!(bruce.claim_plain(1), Err(UserRefused::NoConsent));

        let mut bella = Log::of("bella", &["phone"]);
        bella.apply(Command::Delete);
        assert_eq!(bella.claim_plain(1), Err(UserRefused::Deleted));

        assert_eq!(Log::default().claim_plain(1), Err(UserRefused::Unknown));
    }

    #[test]
    fn a_retry_gets_the_same_packages_also_after_a_restart() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", [1, 2]);
        let first = bobby.claim_plain(1);
        assert_eq!(bobby.claim_plain(1), first);
        bobby.restart();
        assert_eq!(bobby.claim_plain(1), first);
        assert_eq!(packages(&bobby.claim_plain(2)), [got("phone", 2)]);
        assert_eq!(packages(&bobby.claim_plain(3)), [none("phone", Exhausted)]);
    }

    #[test]
    fn of_two_claims_for_the_last_package_the_first_in_the_log_gets_it() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", [1]);
        assert_eq!(packages(&bobby.claim_plain(1)), [got("phone", 1)]);
        assert_eq!(packages(&bobby.claim_plain(2)), [none("phone", Exhausted)]);
        // The loser's result is its result, also when there is stock again.
        bobby.stock("phone", [2]);
        assert_eq!(packages(&bobby.claim_plain(2)), [none("phone", Exhausted)]);
        assert_eq!(packages(&bobby.claim_plain(1)), [got("phone", 1)]);
    }

    #[test]
    fn the_same_id_with_other_terms_is_a_conflict_and_burns_nothing() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", [1, 2]);
        bobby.claim_plain(1).unwrap();
        let other = ClaimTerms {
            room: Some(room("clubhouse")),
            ..ClaimTerms::new(alice())
        };
        assert_eq!(bobby.claim(claim(1, other)), Err(UserRefused::Conflict));
        assert_eq!(bobby.fold.stock(&client("phone")), 1);
    }

    #[test]
    fn the_same_id_of_another_provider_is_another_claim() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", [1, 2]);
        let ours = claim(1, ClaimTerms::new(alice()));
        let theirs = Claim {
            peer: "c.example".parse().unwrap(),
            ..ours.clone()
        };
        assert_eq!(packages(&bobby.claim(ours)), [got("phone", 1)]);
        assert_eq!(packages(&bobby.claim(theirs)), [got("phone", 2)]);
    }

    #[test]
    fn a_refusal_is_not_remembered() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", [1]);
        bobby.consent(alice(), None, Some(false));
        assert_eq!(bobby.claim_plain(1), Err(UserRefused::NoConsent));
        bobby.consent(alice(), None, Some(true));
        assert_eq!(packages(&bobby.claim_plain(1)), [got("phone", 1)]);
        // What was handed out before consent was withdrawn is handed out.
        bobby.consent(alice(), None, Some(false));
        assert_eq!(packages(&bobby.claim_plain(1)), [got("phone", 1)]);
    }

    #[test]
    fn without_consent_nothing_is_told_of_versions_or_stock() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.consent(alice(), None, None);
        let versions = BVec::from([2]);
        let terms = ClaimTerms {
            versions,
            ..ClaimTerms::new(alice())
        };
        assert_eq!(
            bobby.claim(claim(1, terms.clone())),
            Err(UserRefused::NoConsent)
        );
        bobby.consent(alice(), None, Some(true));
        assert_eq!(
            bobby.claim(claim(1, terms)),
            Err(UserRefused::IncompatibleProtocol)
        );
    }

    #[test]
    fn a_user_claims_of_itself_without_consent_and_without_the_asking_client() {
        let mut bobby = Log::bobby(&["phone", "tablet"]);
        bobby.stock("phone", [1]);
        bobby.stock("tablet", [2]);
        let asking_client = Some(client("phone"));
        let terms = ClaimTerms {
            asking_client,
            ..ClaimTerms::new(user("bobby"))
        };
        assert_eq!(packages(&bobby.claim(claim(1, terms))), [got("tablet", 2)]);
    }

    #[test]
    fn nobody_else_can_leave_a_client_out() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", [1]);
        let asking_client = Some(client("phone"));
        let terms = ClaimTerms {
            asking_client,
            ..ClaimTerms::new(alice())
        };
        assert_eq!(packages(&bobby.claim(claim(1, terms))), [got("phone", 1)]);
    }

    #[test]
    fn a_result_is_forgotten_when_its_time_is_over() {
        let mut bobby = Log::bobby(&["phone"]);
        bobby.stock("phone", [1]);
        bobby.claim_plain(1).unwrap();
        bobby.wait(CLAIM_KEPT_MS);
        assert_eq!(packages(&bobby.claim_plain(1)), [got("phone", 1)]);
        bobby.wait(1);
        assert_eq!(packages(&bobby.claim_plain(1)), [none("phone", Exhausted)]);
    }

    #[test]
    fn only_so_many_results_are_remembered_and_the_oldest_go_first() {
        let mut bobby = Log::bobby(&["phone"]);
        let numbered = |number: usize| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(number as u64).to_be_bytes());
            Claim {
                id: ClaimId(id),
                ..claim(0, ClaimTerms::new(alice()))
            }
        };
        for number in 0..=CLAIMS_REMEMBERED_PER_USER_MAX {
            bobby.claim(numbered(number)).unwrap();
        }
        bobby.stock("phone", [1]);
        assert_eq!(
            packages(&bobby.claim(numbered(1))),
            [none("phone", Exhausted)]
        );
        assert_eq!(packages(&bobby.claim(numbered(0))), [got("phone", 1)]);
    }

    #[test]
    fn a_claim_is_the_same_on_every_replica() {
        let mut leader = Log::bobby(&["phone", "tablet"]);
        leader.stock("phone", 1..20);
        leader.stock("tablet", 30..50);
        let mut voter = Fold::revive(&leader.fold.compact()).unwrap();
        for id in 0..10 {
            let command = Command::Claim(claim(id, ClaimTerms::new(alice())));
            let theirs = voter.apply(
                Moment {
                    time: NOW,
                    ..Moment::default()
                },
                &command,
            );
            assert_eq!(leader.apply(command), theirs);
        }
        assert_eq!(leader.fold.compact(), voter.compact());
    }

    #[test]
    fn a_user_without_devices_yields_an_empty_result() {
        let mut bobby = Log::bobby(&[]);
        let claimed = bobby
            .apply(Command::Claim(claim(1, ClaimTerms::new(alice()))))
            .answer;
        assert_eq!(claimed, Answer::Claimed(Ok(BVec::default())));
        let nobody: UserUri = user("nobody");
        let refused = bobby.claim(claim(2, ClaimTerms::new(nobody)));
        assert_eq!(refused, Err(UserRefused::NoConsent));
    }

    #[test]
    fn who_got_a_package_and_what_for_is_known_while_its_result_is() {
        let mut bobby = Log::bobby(&["phone", "tablet", "watch"]);
        bobby.stock("tablet", [1]);
        bobby.stock("watch", [2]);
        let terms = ClaimTerms {
            room: Some(room("den")),
            ..ClaimTerms::new(alice())
        };
        bobby.claim(claim(1, terms)).unwrap();
        bobby.restart();
        let (of, requester, den) = (client("watch"), alice().into(), room("den"));
        let hub = den.hub().clone();
        let handed = Handed {
            client: &of,
            requester: &requester,
            room: Some(&den),
            hub: &hub,
            until: NOW.plus(CLAIM_KEPT_MS),
        };
        assert_eq!(bobby.fold.handed(&package(2).reference), Some(handed));
        assert_eq!(bobby.fold.handed(&package(3).reference), None);
    }

    #[test]
    fn folded_refusals_are_one_and_the_same() {
        let folded = |claim: Claim| {
            let mut claim = claim;
            claim.rules.folded = true;
            Command::Claim(claim)
        };
        let plain = || claim(1, ClaimTerms::new(alice()));
        let mut bruce = Log::of("bruce", &["phone"]);
        bruce.consent(alice(), None, None);
        let mut bella = Log::of("bella", &["phone"]);
        bella.apply(Command::Delete);
        let bobby = Log::bobby(&["phone"]);
        let mut odd = plain();
        odd.terms.versions = BVec::from([2]);
        let same = Answer::Claimed(Err(UserRefused::NoConsent));
        for (mut log, claim) in [
            (bruce, plain()),
            (bella, plain()),
            (Log::default(), plain()),
            (bobby, odd),
        ] {
            let before = log.fold.clone();
            let answer = log.fold.answer_without_log(NOW, &folded(claim.clone()));
            assert_eq!(answer.as_ref(), Some(&same), "none of them reaches the log");
            assert_eq!(log.apply(folded(claim)).answer, same);
            assert_eq!(log.fold, before);
        }
    }
}
