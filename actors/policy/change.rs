//! What a Commit, or Proposals that are sent together, change of a room's policy and members, and whether whoever does it may.
//!
//! Each change is decided for its own author: who made the Proposal, or the committer of what a Commit holds itself.
//!
//! Source: transport requirements, section 5; draft-ietf-mimi-room-policy-03, sections 3 to 8.

use super::{
    capability::Capability,
    components::{BadComponent, ComponentId, Dictionary, Role, RoomMetadata},
    decide::{Action, Attribute, Denied, decide},
    state::Policy,
};
use crate::ids::UserUri;
use std::collections::BTreeSet;

/// What is changed, and by whom.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    /// Who changes the components.
    pub author: &'a UserUri,
    /// The components before and after.
    pub components: (&'a Dictionary<'a>, &'a Dictionary<'a>),
    /// Users of clients that come, each with who brings it in.
    pub joined: &'a [(UserUri, UserUri)],
    /// Users of clients that go, each with who puts it out.
    pub left: &'a [(UserUri, UserUri)],
    /// Who lets another group follow.
    pub reinit: Option<&'a UserUri>,
}

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// Somebody may not do it.
    #[error("{user}: {denied}")]
    Denied {
        /// Who.
        user: UserUri,
        /// Why.
        denied: Denied,
    },
    /// A component is not what it must be.
    #[error(transparent)]
    Bad(#[from] BadComponent),
}

/// Decides for one user.
///
/// # Errors
/// [`Objection::Denied`] names the user and what is missing.
pub fn allow(policy: &Policy, user: &UserUri, action: Action<'_>) -> Result<(), Objection> {
    decide(policy, user, action).map_err(|denied| Objection::Denied {
        user: user.clone(),
        denied,
    })
}

/// Decides about all that is changed, by the policy before. What holds `after` is not compared with the group here.
///
/// # Errors
/// [`Objection`] says what stands against it.
pub fn check(
    before: &Policy,
    after: Option<&Policy>,
    change: &Change<'_>,
) -> Result<(), Objection> {
    if let Some(user) = change.reinit {
        allow(before, user, Action::ReInit)?;
    }
    check_attributes(before, after, change)?;
    let Some(after) = after else {
        return Ok(());
    };
    check_members(before, after, change)?;
    check_list(before, after, change)?;
    if before.is_governed() && !after.is_governed() {
        let (component, field) = (ComponentId::PARTICIPANTS, "participants");
        let why = "leaves nobody who may change roles";
        return Err(BadComponent::not(component, field, why).into());
    }
    Ok(())
}

fn check_attributes(
    before: &Policy,
    after: Option<&Policy>,
    change: &Change<'_>,
) -> Result<(), Objection> {
    let (old, new) = change.components;
    let change_of = |attribute| allow(before, change.author, Action::Change(attribute));
    for component in old.differing(new) {
        match component {
            ComponentId::PARTICIPANTS => {}
            ComponentId::METADATA => {
                let (old, new) = (old.read()?, new.read()?);
                for attribute in differing(&old.unwrap_or_default(), &new.unwrap_or_default()) {
                    change_of(attribute)?;
                }
            }
            ComponentId::ROLES => change_of(Attribute::Roles)?,
            ComponentId::PREAUTH => change_of(Attribute::Preauth)?,
            ComponentId::BASE => change_of(Attribute::Style)?,
            ComponentId::OPERATIONAL => change_of(Attribute::Operational)?,
            other if other.is_of_mimi() => change_of(Attribute::Other)?,
            // What is nobody's here is the members' own affair.
            _ => {}
        }
    }
    if after.is_none() {
        // Who takes the list away takes all that it held with it.
        change_of(Attribute::Roles)?;
        change_of(Attribute::Style)?;
    }
    Ok(())
}

/// What differs between two descriptions of a room.
fn differing(old: &RoomMetadata, new: &RoomMetadata) -> Vec<Attribute> {
    let fields = [
        (Attribute::Name, old.name == new.name),
        (Attribute::Description, old.descriptions == new.descriptions),
        (Attribute::Avatar, old.avatar == new.avatar),
        (Attribute::Subject, old.subject == new.subject),
        (Attribute::Mood, old.mood == new.mood),
        (Attribute::Other, old.room_uri == new.room_uri),
    ];
    let differ = fields.into_iter().filter(|(_, same)| !same);
    differ.map(|(attribute, _)| attribute).collect()
}

fn check_members(before: &Policy, after: &Policy, change: &Change<'_>) -> Result<(), Objection> {
    for (user, by) in change.joined {
        match (before.role_of(user), after.role_of(user)) {
            (Role::NOBODY, Role::NOBODY) => {
                return Err(Objection::Denied {
                    user: user.clone(),
                    denied: Denied::NotListed,
                });
            }
            (Role::NOBODY, role) => allow(before, by, Action::AddUser { user, role })?,
            _ => allow(before, by, Action::AddClient(user))?,
        }
    }
    for (user, by) in change.left {
        match after.role_of(user) {
            // Who leaves with all its clients is looked at where the list is.
            Role::NOBODY if by == user => {}
            Role::NOBODY => allow(before, by, Action::RemoveUser(user))?,
            Role::BANNED if bans(before, by, user) => {}
            _ => allow(before, by, Action::RemoveClient(user))?,
        }
    }
    Ok(())
}

/// Whether somebody may ban a user, which takes its clients out, too.
fn bans(policy: &Policy, by: &UserUri, user: &UserUri) -> bool {
    let role = Role::BANNED;
    policy.may(policy.role_of(by), Capability::BAN)
        && decide(policy, by, Action::ChangeRole { user, role }).is_ok()
}

fn check_list(before: &Policy, after: &Policy, change: &Change<'_>) -> Result<(), Objection> {
    let users: BTreeSet<&UserUri> = before
        .participants()
        .chain(after.participants())
        .map(|(user, _)| user)
        .collect();
    let (mut changes, mut removes_only) = (false, true);
    for user in users {
        let (from, role) = (before.role_of(user), after.role_of(user));
        if from == role {
            continue;
        }
        changes = true;
        removes_only &= role == Role::NOBODY;
        match (from, role) {
            (Role::NOBODY, role) => {
                allow(before, change.author, Action::AddUser { user, role })?;
            }
            (_, Role::NOBODY) if leaves(change, user) => allow(before, user, Action::Leave)?,
            (_, Role::NOBODY) => allow(before, change.author, Action::RemoveUser(user))?,
            _ => allow(before, change.author, Action::ChangeRole { user, role })?,
        }
    }
    let (old, new) = change.components;
    let differs = |component| old.get(component) != new.get(component);
    let why = "changes in one Commit with the participants";
    if changes && differs(ComponentId::ROLES) {
        return Err(BadComponent::not(ComponentId::ROLES, "roles", why).into());
    }
    if changes && !removes_only && differs(ComponentId::PREAUTH) {
        let field = "preauthorized_entries";
        return Err(BadComponent::not(ComponentId::PREAUTH, field, why).into());
    }
    Ok(())
}

/// Whether a user goes by its own will: it changes the list itself, or proposed that its clients go.
fn leaves(change: &Change<'_>, user: &UserUri) -> bool {
    let mut own = change.left.iter().filter(|(left, _)| left == user);
    let first = own.next();
    user == change.author
        || first.is_some_and(|(_, by)| by == user && own.all(|(_, by)| by == user))
}
