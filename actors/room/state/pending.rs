//! The Proposals of the current epoch that wait for a Commit, in the order in which they were accepted.
//!
//! Promises: each waits once; no more wait than a Commit can take in.
//!
//! Source: transport requirements, sections 3.2 and 4.

use crate::{
    limits::{PROPOSALS_PENDING_PER_CLIENT_MAX, PROPOSALS_PENDING_PER_ROOM_MAX},
    machine::Millis,
    mls::check::proposal::{PendingProposal, ProposalKind},
    room::outcome::Refused,
    wire::{BText, event::Hash},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What waits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Pending(Vec<PendingProposal>);

impl Pending {
    pub(crate) fn all(&self) -> &[PendingProposal] {
        &self.0
    }

    /// Tells this set of Proposals from any other, in their order.
    pub(crate) fn hash(&self) -> Hash {
        Hash::of_parts(self.0.iter().map(|proposal| &proposal.reference[..]))
    }

    /// Whether a Proposal waits.
    pub(crate) fn holds(&self, proposal: &PendingProposal) -> bool {
        let mut all = self.0.iter();
        all.any(|pending| pending.reference == proposal.reference)
    }

    /// Those of `proposals` that do not wait yet, each once.
    pub(crate) fn fresh(&self, proposals: &[PendingProposal]) -> Vec<PendingProposal> {
        let mut seen = BTreeSet::new();
        let fresh = proposals.iter().filter(|p| !self.holds(p));
        fresh
            .filter(|p| seen.insert(&p.reference))
            .cloned()
            .collect()
    }

    /// Whether so many more of one leaf may wait.
    ///
    /// # Errors
    /// [`Refused::TooMany`] when they may not.
    pub(crate) fn check_room_for(&self, leaf: u32, fresh: usize) -> Result<(), Refused> {
        // What the hub proposes has places of its own.
        let of_members = || {
            let all = self.0.iter();
            all.filter(|pending| !matches!(pending.kind, ProposalKind::Expel(_)))
        };
        let own = of_members().filter(|pending| pending.leaf == leaf).count();
        for (count, max, what) in [
            (
                own,
                PROPOSALS_PENDING_PER_CLIENT_MAX,
                "pending proposals of one client",
            ),
            (
                of_members().count(),
                PROPOSALS_PENDING_PER_ROOM_MAX,
                "pending proposals of one room",
            ),
        ] {
            if count + fresh > max {
                let max = u32::try_from(max).unwrap_or(u32::MAX);
                return Err(Refused::TooMany {
                    what: BText::clipped(what),
                    max,
                });
            }
        }
        Ok(())
    }

    /// Lets fresh ones wait, accepted at this time.
    pub(crate) fn accept(&mut self, time: Millis, fresh: Vec<PendingProposal>) {
        let accepted = |proposal| PendingProposal {
            accepted: time,
            ..proposal
        };
        self.0.extend(fresh.into_iter().map(accepted));
    }

    /// An epoch begins: what was proposed in the last one has been taken in, or is void.
    pub(crate) fn epoch_opened(&mut self) {
        self.0.clear();
    }
}
