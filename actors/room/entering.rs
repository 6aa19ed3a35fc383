//! Clients that join by themselves, by an external Commit: who may, and what such a Commit may do to others.
//!
//! The gate is one function, [`Room::may_enter`]: a user with a client in the room brings in further clients of its
//! own, a member replaces its own leaf, and who had a joining code has the lease. Whoever it is, its Commit needs the
//! lease ([`Room::may_join`]).
//!
//! Source: transport requirements, sections 3.2 and 3.3.

use super::{
    hub::{Commit, Room},
    outcome::Refused,
};
use crate::{
    ids::ClientUri,
    machine::Millis,
    mls::check::proposal::{PendingProposal, ProposalKind},
    wire::{BText, BVec, Payload, refusal::RefusalCode},
};
use std::collections::BTreeSet;

impl Room {
    /// Whether a client may join by an external Commit, or replace its leaf by one.
    ///
    /// # Errors
    /// [`Refused::NotAuthorized`] for a user without a client in the room and without the lease,
    /// [`Refused::WrongEpoch`] for one whose lease the current epoch ended, [`Refused::InvalidProposals`] while a
    /// Remove of the client waits: it would get around it.
    pub fn may_enter(&self, client: &ClientUri) -> Result<(), Refused> {
        let known = self.has_participant(client)
            || self.joining.is_lent_to(client)
            || self.comes_freely(client);
        if !known {
            let overtaken = self.joining.was_lent_to(client);
            return Err(if overtaken {
                self.wrong_epoch()
            } else {
                Refused::NotAuthorized
            });
        }
        let Some(own) = self.roster.member(client) else {
            return Ok(());
        };
        let removals = self.pending().iter();
        let removals = removals.filter(|one| one.kind == ProposalKind::Remove(own.leaf));
        refuse_proposals(
            removals.map(|one| one.reference.clone()).collect(),
            "a Remove of the client waits",
        )
    }

    /// Whether an external Commit is its sender's own: it brings in nobody else, and removes no leaf but the sender's
    /// and those of members that are leaving.
    pub(super) fn check_entry(&self, time: Millis, commit: &Commit) -> Result<(), Refused> {
        self.may_enter(&commit.sender)?;
        let key = commit.checked.joined.first();
        let key = key.map(|joined| &joined.signature_key[..]);
        self.may_join(&commit.sender, key, time)?;
        let own = |client: &ClientUri| *client == commit.sender;
        let [joined] = &commit.checked.joined[..] else {
            return Err(foreign("it brings in somebody else"));
        };
        if !own(&joined.client) || joined.leaf != commit.checked.committer {
            return Err(foreign("it brings in somebody else"));
        }
        let leaving: BTreeSet<u32> = self
            .pending()
            .iter()
            .filter(|one| one.kind == ProposalKind::SelfRemove)
            .map(|one| one.leaf)
            .collect();
        let mut left = commit.checked.left.iter();
        let right = left.all(|left| own(&left.client) || leaving.contains(&left.leaf));
        if right {
            Ok(())
        } else {
            Err(foreign("it removes another client"))
        }
    }

    /// Whether a Commit takes in what it must, and nothing that contradicts itself.
    pub(super) fn check_covered(&self, commit: &Commit) -> Result<(), Refused> {
        let is_covered = |one: &&PendingProposal| commit.checked.covered.contains(&one.reference);
        let covered: Vec<&PendingProposal> = self.pending().iter().filter(is_covered).collect();
        let contradicting = crate::mls::check::proposal::contradicting(&covered);
        refuse_proposals(contradicting, "members remove one another")?;
        let removed = commit.checked.left.iter().map(|left| left.leaf).collect();
        let omitted =
            crate::mls::check::proposal::omitted(self.pending(), &removed, commit.checked.external);
        if omitted.is_empty() {
            return Ok(());
        }
        Err(Refused::OmittedProposals {
            references: BVec::first_max(omitted.into_iter().map(Payload)),
        })
    }
}

fn foreign(detail: &str) -> Refused {
    Refused::invalid(RefusalCode::ExternalCommit, detail)
}

fn refuse_proposals(references: Vec<bytes::Bytes>, detail: &str) -> Result<(), Refused> {
    if references.is_empty() {
        return Ok(());
    }
    Err(Refused::InvalidProposals {
        references: BVec::first_max(references.into_iter().map(Payload)),
        detail: BText::clipped(detail),
    })
}
