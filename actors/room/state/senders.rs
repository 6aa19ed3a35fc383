//! The numbers that senders gave their messages: providers those of their clients, and clients of the hub their own.
//!
//! Promises: numbers only go up, so that what was taken once is known when it comes again. A provider that had a member
//! once stays known, for what it submitted is known by its last number alone.
//!
//! Source: transport requirements, section 4.

use crate::{
    ids::{ClientUri, ProviderId},
    room::numbers::{Fresh, Numbers},
    wire::event::{ClientSeq, SubmitSeq, VerdictRun},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who sent what so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Senders {
    /// The last submission of each provider that has or had a member.
    providers: BTreeMap<ProviderId, SubmitSeq>,
    /// The numbers of each client of this provider.
    clients: BTreeMap<ClientUri, Numbers>,
}

impl Senders {
    /// A provider has a member: its submissions are looked at from here on, also when all its members have left again.
    pub(crate) fn admit(&mut self, provider: &ProviderId) {
        self.providers.entry(provider.clone()).or_default();
    }

    pub(crate) fn ever_had_member_of(&self, provider: &ProviderId) -> bool {
        self.providers.contains_key(provider)
    }

    /// The number that a provider's next submission must have at most; `undecided` is its own oldest one without a
    /// verdict. `None` for a provider that never had a member.
    pub(crate) fn expected_of(
        &self,
        provider: &ProviderId,
        undecided: SubmitSeq,
    ) -> Option<SubmitSeq> {
        let last = self.providers.get(provider)?;
        // What was refused before it had a number here has its verdict, and does not come again.
        Some(last.next().max(undecided))
    }

    /// Takes a provider's submissions up to this one.
    pub(crate) fn take_of(&mut self, provider: &ProviderId, upto: SubmitSeq) {
        let last = self.providers.entry(provider.clone()).or_default();
        *last = upto.max(*last);
    }

    /// Whether a client of the hub has sent anything.
    pub(crate) fn knows(&self, client: &ClientUri) -> bool {
        self.clients.contains_key(client)
    }

    /// Compares a client's run with what was taken of it.
    pub(crate) fn fresh(&self, client: &ClientUri, first: ClientSeq, count: u32) -> Fresh {
        self.clients.get(client).map_or_else(
            || Numbers::default().fresh(first, count),
            |numbers| numbers.fresh(first, count),
        )
    }

    /// Takes a client's next run, with its verdict.
    pub(crate) fn decide(&mut self, client: &ClientUri, run: VerdictRun) {
        let numbers = self.clients.entry(client.clone()).or_default();
        numbers.take(run.count);
        numbers.decide(run);
    }

    /// What became of a client's numbers, as far as that is remembered.
    pub(crate) fn verdicts(
        &self,
        client: &ClientUri,
        first: ClientSeq,
        count: u32,
    ) -> Vec<VerdictRun> {
        let numbers = self.clients.get(client);
        numbers.map_or_else(Vec::new, |numbers| numbers.verdicts(first, count))
    }
}
