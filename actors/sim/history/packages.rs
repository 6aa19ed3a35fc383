//! What the checkers know of KeyPackages: who got which, how often who claimed, which adds are pending.

use super::History;
use crate::sim::facts::at;
use crate::{
    ids::{ClientUri, ProviderId, RoomUri, UserUri},
    machine::Millis,
    user::{command::Claim, outcome::Claimed},
    wire::{
        claim::{ClaimId, ClaimResponse, ClaimedClient},
        event::Hash,
        post::Refilled,
    },
};
use mimi_history::Fact;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What may be handed out once: a KeyPackage, and a last-resort one to each hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) struct Handout {
    package: Hash,
    last_resort_for: Option<ProviderId>,
}

impl fmt::Display for Handout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.package, f)?;
        let hub = self.last_resort_for.iter();
        hub.into_iter().try_for_each(|hub| write!(f, " for {hub}"))
    }
}

/// Packages as the logs hand them out.
#[derive(Debug, Default)]
pub(in crate::sim) struct Packages {
    /// Last-resort packages, which may go to one claim of each hub.
    last_resorts: BTreeSet<Hash>,
    /// Claims that the hub of their room passed on.
    relayed: BTreeSet<ClaimId>,
    /// When claims were counted: by requester and user, by provider and user, by user.
    counted: BTreeMap<(String, UserUri), Vec<u64>>,
    /// Adds of clients that had no package, whose requesters are still to be told of a refill.
    pending_adds: BTreeSet<Refilled>,
    refills: BTreeSet<Refilled>,
}

impl History {
    /// A user's log has handed packages to a claim, or remembers that it did.
    pub(in crate::sim) fn handed(
        &mut self,
        claim: &Claim,
        user: &UserUri,
        claimed: &Claimed,
        counted: bool,
        time: Millis,
    ) {
        let Ok(clients) = claimed else { return };
        let id = claim.id;
        if counted {
            self.counted(claim, user, time);
            self.missed(claim, clients);
        }
        let (from, hub) = (claim.terms.requester.provider(), &claim.hub);
        let by_the_hub = [from, user.provider()].contains(&hub)
            || user.provider() == from
            || self.packages.relayed.contains(&id);
        self.demand("relay", by_the_hub, || {
            format!("{user} gave packages for a room of {hub}, which did not pass the claim on")
        });
        let gone = self.deleted.contains(user);
        let forged = self.forged_claims.contains(&id);
        self.demand("I21", !forged, || {
            format!("{user} gave packages to a forged claim")
        });
        self.demand("I30", !gone, || {
            format!("{user} is deleted and gave packages")
        });
        for client in clients {
            let Ok(package) = &client.result else {
                continue;
            };
            let package = Hash::of(package);
            let is_last = self.packages.last_resorts.contains(&package);
            let package = Handout {
                package,
                last_resort_for: is_last.then(|| claim.hub.clone()),
            };
            let given = Fact::Handed {
                claim: &id,
                client: &client.client,
                package: &package,
            };
            self.see_at(at(time), given);
        }
    }

    /// A claim counts towards the limits, which hold at any time.
    fn counted(&mut self, claim: &Claim, user: &UserUri, time: Millis) {
        if claim.terms.requester.user() == Some(user) {
            return;
        }
        let rules = &claim.rules;
        for (who, rate) in [
            (claim.terms.requester.to_string(), rules.requester_on_user),
            (claim.peer.to_string(), rules.provider_on_user),
            (String::new(), rules.user),
        ] {
            let times = self
                .packages
                .counted
                .entry((who.clone(), user.clone()))
                .or_default();
            times.push(time.0);
            let interval_ms = 60_000 / u64::from(rate.per_minute.max(1));
            let many = (1_u64..).zip(times.iter().rev()).find(|(count, since)| {
                let refilled = time.0.saturating_sub(**since) / interval_ms;
                *count > u64::from(rate.burst.max(1)) + refilled
            });
            let many = many.map(|(count, _)| count);
            self.demand("limits", many.is_none(), || {
                format!("{user} was claimed {many:?} times by {who:?}, above {rate:?}")
            });
        }
    }

    /// Whoever got nothing of a client for a room is to hear of its refill; whoever got something need not.
    fn missed(&mut self, claim: &Claim, clients: &[ClaimedClient]) {
        let (Some(requester), Some(room)) = (claim.terms.requester.user(), &claim.terms.room)
        else {
            return;
        };
        for client in clients {
            let who = Refilled {
                requester: requester.clone(),
                room: room.clone(),
                client: client.client.clone(),
            };
            if client.result.is_ok() {
                self.packages.pending_adds.remove(&who);
            } else {
                self.packages.pending_adds.insert(who);
            }
        }
    }

    /// A user's log took packages of a client: who wanted it in vain is told now.
    pub(in crate::sim) fn restocked(&mut self, client: &ClientUri, told: &[Refilled]) {
        let pending = self
            .packages
            .pending_adds
            .iter()
            .filter(|who| who.client == *client);
        let forgotten = pending.clone().find(|who| !told.contains(who)).cloned();
        self.demand("refills", forgotten.is_none(), || {
            format!("a refill was kept from those who wanted it: {forgotten:?}")
        });
        self.packages
            .pending_adds
            .retain(|who| who.client != *client);
        self.packages.refills.extend(told.iter().cloned());
    }

    /// A client of `requester` heard that another one can be added.
    pub(in crate::sim) fn heard_of_refill(
        &mut self,
        user: &UserUri,
        room: &RoomUri,
        client: &ClientUri,
    ) {
        self.packages.refills.remove(&Refilled {
            requester: user.clone(),
            room: room.clone(),
            client: client.clone(),
        });
    }

    /// The refills that somebody who exists has not heard of.
    pub(in crate::sim) fn refill_unheard(&self) -> Option<&Refilled> {
        let exists = |who: &&Refilled| !self.deleted.contains(&who.requester);
        self.packages.refills.iter().find(exists)
    }

    /// A package is a last-resort one.
    pub(in crate::sim) fn last_resort(&mut self, package: &[u8]) {
        self.packages.last_resorts.insert(Hash::of(package));
    }

    /// A hub passes a claim on.
    pub(in crate::sim) fn relayed(&mut self, id: ClaimId) {
        self.packages.relayed.insert(id);
    }

    /// A claim was answered, perhaps on a way on which the answer is lost.
    pub(in crate::sim) fn claim_answered(&mut self, id: ClaimId, response: &ClaimResponse) {
        for user in &response.users {
            let Ok(clients) = &user.result else { continue };
            for client in clients {
                let Ok(package) = &client.result else {
                    continue;
                };
                let hash = Hash::of(package);
                let first = Handout {
                    package: hash,
                    last_resort_for: None,
                };
                let handed = self.ledger.handouts.handed.range(first..);
                let mut same = handed.take_while(|(handout, _)| handout.package == hash);
                let known = same.any(|(_, (to, _))| *to == id);
                self.demand("I3", known, || {
                    format!(
                        "a KeyPackage of {} was given that no log handed out to the claim",
                        client.client
                    )
                });
            }
        }
    }
}
