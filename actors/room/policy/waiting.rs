//! What a room's policy says to Proposals that are to wait for a Commit.
//!
//! Source: transport requirements, sections 4 and 5.

use super::{added_by, components_of, dictionary, refused, too_many};
use crate::{
    ids::UserUri,
    limits::POLICY_PROPOSALS_PENDING_PER_ROOM_MAX,
    mls::{
        check::proposal::{PendingProposal, ProposalKind},
        tree::view::app_data,
    },
    policy::{
        change::{self, Change, Objection, allow},
        components::{ComponentId, Role},
        decide::Action,
        state::{Clients, Policy},
    },
    room::{
        hub::{Propose, Room},
        outcome::Refused,
        state::Entered,
    },
    wire::version::Level,
};
use std::collections::BTreeSet;

impl Room {
    /// Whether Proposals may wait.
    ///
    /// # Errors
    /// As [`Self::next_rules`].
    pub(in crate::room) fn check_proposals(
        &self,
        level: Level,
        propose: &Propose,
        fresh: &[PendingProposal],
    ) -> Result<(), Refused> {
        if level < Level::SECOND {
            return Ok(());
        }
        let refuse = |objection| refused(&objection, "proposals");
        let is_change = |one: &&PendingProposal| one.kind == ProposalKind::Extensions;
        let old = app_data(&self.view().group_context);
        let mut listed = None;
        for one in fresh.iter().filter(is_change) {
            let new = components_of(&one.message).unwrap_or_default();
            let read = self.judge_proposed(propose.sender.user(), old, &new);
            listed = read.map_err(refuse)?;
        }
        let Some(policy) = self.policy() else {
            return Ok(());
        };
        let waiting = self.pending().iter().filter(is_change).count();
        let more = fresh.iter().filter(is_change).count();
        if more > 0 && waiting + more > POLICY_PROPOSALS_PENDING_PER_ROOM_MAX {
            // A Commit changes the extensions once.
            let what = "pending proposals that change the policy";
            return Err(too_many(what, POLICY_PROPOSALS_PENDING_PER_ROOM_MAX));
        }
        let user = propose.sender.user();
        self.check_effective(user).map_err(refuse)?;
        let listed = listed.as_ref();
        for one in fresh {
            self.judge_alone(policy, listed, user, one)
                .map_err(refuse)?;
        }
        self.check_leavers(policy, fresh).map_err(refuse)?;
        let group = listed.map_or(Ok(()), |listed| self.check_proposed(listed, fresh));
        group.map_err(refuse)
    }

    /// Judges a change of components that is proposed; gives the policy that it would make.
    fn judge_proposed(
        &self,
        author: &UserUri,
        old: &[u8],
        new: &[u8],
    ) -> Result<Option<Policy>, Objection> {
        if old == new {
            return Ok(None);
        }
        let read = dictionary(new)?;
        let after = Policy::read(&read)?;
        let Some(before) = self.policy() else {
            return Ok(after);
        };
        let old = dictionary(old)?;
        let entered = self.rules.entered();
        let change = Change {
            author,
            components: (&old, &read),
            joined: &[],
            left: &[],
            reinit: None,
        };
        let list = ComponentId::PARTICIPANTS;
        // A new list takes in whoever stood in none.
        let nobody = Entered::new();
        let same = old.get(list) == read.get(list);
        let entered = if same { entered } else { &nobody };
        let after = after.map(|after| after.with(entered));
        change::check(before, after.as_ref(), &change)?;
        Ok(after)
    }

    /// Judges a Proposal by itself; `listed` is the policy that one beside it would make.
    fn judge_alone(
        &self,
        policy: &Policy,
        listed: Option<&Policy>,
        by: &UserUri,
        one: &PendingProposal,
    ) -> Result<(), Objection> {
        match one.kind {
            // What the hub proposes is no member's to answer for.
            ProposalKind::Update | ProposalKind::Extensions | ProposalKind::Expel(_) => Ok(()),
            ProposalKind::SelfRemove => allow(policy, by, Action::RemoveClient(by)),
            ProposalKind::ReInit => allow(policy, by, Action::ReInit),
            ProposalKind::Remove(leaf) => {
                let leaves = self.roster.by_leaf();
                let Some(user) = leaves.get(&leaf).map(|client| client.user()) else {
                    return Ok(());
                };
                let role = listed.map_or(policy.role_of(user), |listed| listed.role_of(user));
                let action = match role {
                    _ if by == user => Action::RemoveClient(user),
                    Role::NOBODY => Action::RemoveUser(user),
                    Role::BANNED => Action::ChangeRole { user, role },
                    _ => Action::RemoveClient(user),
                };
                allow(policy, by, action)
            }
            ProposalKind::Add => {
                let Some((client, _)) = added_by(&one.message) else {
                    return Ok(());
                };
                let user = client.user();
                let role = listed.map_or(Role::NOBODY, |listed| listed.role_of(user));
                if policy.role_of(user) == Role::NOBODY && role != Role::NOBODY {
                    return allow(policy, by, Action::AddUser { user, role });
                }
                allow(policy, by, Action::AddClient(user))
            }
        }
    }

    /// Every Commit must let go who leaves, so nobody may leave whom the constraints hold.
    fn check_leavers(&self, policy: &Policy, fresh: &[PendingProposal]) -> Result<(), Objection> {
        if !fresh.iter().any(PendingProposal::leaves) {
            return Ok(());
        }
        let all = self.pending().iter().chain(fresh);
        let leavers = all.filter(|one| one.leaves()).map(|one| one.leaf);
        let clients = self.clients_without(&leavers.collect());
        policy.check_group(&clients).map_err(Objection::Bad)
    }

    /// Members take in whatever waits: a list that does not fit the group with all of it would keep them from committing.
    fn check_proposed(&self, listed: &Policy, fresh: &[PendingProposal]) -> Result<(), Objection> {
        let all = || self.pending().iter().chain(fresh);
        let removed = all().filter_map(|one| match one.kind {
            ProposalKind::Remove(leaf) => Some(leaf),
            ProposalKind::SelfRemove | ProposalKind::Expel(_) => Some(one.leaf),
            ProposalKind::Add
            | ProposalKind::Update
            | ProposalKind::Extensions
            | ProposalKind::ReInit => None,
        });
        let mut clients = self.clients_without(&removed.collect());
        for (client, _) in all().filter_map(|one| added_by(&one.message)) {
            *clients.entry(client.user().clone()).or_default() += 1;
        }
        listed.check_group(&clients).map_err(Objection::Bad)
    }

    /// Whether the hub may have these leaves removed: every Commit would have to, and where a constraint of the policy, or of one
    /// that waits, holds one of them none could be made.
    pub(in crate::room) fn may_be_without(&self, leavers: &BTreeSet<u32>) -> bool {
        let Some(policy) = self.policy() else {
            return true;
        };
        let clients = self.clients_without(leavers);
        let changes = self.pending().iter();
        let changes = changes.filter(|one| one.kind == ProposalKind::Extensions);
        let fits = |one: &PendingProposal| {
            let components = components_of(&one.message).unwrap_or_default();
            let listed = dictionary(&components).and_then(|all| Policy::read(&all));
            listed.is_ok_and(|listed| {
                listed.is_none_or(|listed| listed.check_group(&clients).is_ok())
            })
        };
        policy.check_group(&clients).is_ok() && changes.into_iter().all(fits)
    }

    fn clients_without(&self, removed: &BTreeSet<u32>) -> Clients {
        let leaves = self.roster.by_leaf();
        let mut clients = Clients::new();
        let stay = leaves.iter().filter(|(leaf, _)| !removed.contains(leaf));
        for (_, client) in stay {
            *clients.entry(client.user().clone()).or_default() += 1;
        }
        clients
    }
}
