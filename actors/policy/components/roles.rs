//! `roles_list`: which roles there are in a room, and what each may do.
//!
//! Source: draft-ietf-mimi-room-policy-03, section 3.

use super::{
    BadComponent, Component, ComponentId,
    fields::{Fields, put_list, put_optional_u32, put_u32s},
};
use crate::{
    limits::{
        POLICY_CAPABILITIES_PER_ROLE_MAX, POLICY_COMPONENT_BYTES_MAX, POLICY_ROLES_MAX,
        POLICY_TEXT_BYTES_MAX,
    },
    mls::codec::reader::put_vector,
    policy::capability::Capability,
};
use std::collections::{BTreeMap, BTreeSet};

/// Who holds it may move a user from one role to another of these; 0 is who does not take part.
pub type RoleChanges = BTreeMap<u32, Vec<u32>>;

/// A role: what its holders may do, and how many there may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// By which it is named elsewhere; 0 is who does not take part, 1 is who is banned, if its name says so.
    pub index: u32,
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// What its holders may do; written in ascending order.
    pub capabilities: BTreeSet<Capability>,
    /// Users that must have it, at least.
    pub participants_min: u32,
    /// Users that may have it, at most.
    pub participants_max: Option<u32>,
    /// Users with a client in the group that must have it, at least.
    pub active_min: u32,
    /// Users with a client in the group that may have it, at most.
    pub active_max: Option<u32>,
    /// Which changes of role its holders may make of others.
    pub changes: RoleChanges,
}

impl Role {
    /// Its `role_index` where it is the role of who does not take part.
    pub const NOBODY: u32 = 0;
    /// Its `role_index` where it is the role of who is banned.
    pub const BANNED: u32 = 1;

    /// Whether its holders may do something.
    #[must_use]
    pub fn may(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// Whether its holders may move users from one role to another.
    #[must_use]
    pub fn may_move(&self, from: u32, to: u32) -> bool {
        let targets = self.changes.get(&from);
        targets.is_some_and(|targets| targets.contains(&to))
    }

    /// Whether it is the role of who is banned: by number and by name.
    #[must_use]
    pub fn is_banned(&self) -> bool {
        self.index == Self::BANNED && self.name == "banned"
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, BadComponent> {
        let index = fields.u32("role_index")?;
        let name = fields.text("role_name", POLICY_TEXT_BYTES_MAX)?;
        let description = fields.text("role_description", POLICY_TEXT_BYTES_MAX)?;
        let bounds = (
            POLICY_CAPABILITIES_PER_ROLE_MAX,
            2 * POLICY_CAPABILITIES_PER_ROLE_MAX,
        );
        let capabilities = fields.list("role_capabilities", bounds, |one| {
            one.u16("role_capabilities").map(Capability)
        })?;
        // In whatever order: the draft asks for none.
        let count = capabilities.len();
        let capabilities: BTreeSet<Capability> = capabilities.into_iter().collect();
        if capabilities.len() < count {
            return Err(fields.refuse("role_capabilities", "names one twice"));
        }
        let participants_min = fields.u32("minimum_participants_constraint")?;
        let participants_max = fields.optional_u32("maximum_participants_constraint")?;
        let active_min = fields.u32("minimum_active_participants_constraint")?;
        let active_max = fields.optional_u32("maximum_active_participants_constraint")?;
        let bounds = (POLICY_ROLES_MAX, POLICY_COMPONENT_BYTES_MAX);
        let changes = fields.list("authorized_role_changes", bounds, |one| {
            let from = one.u32("from_role_index")?;
            let bounds = (POLICY_ROLES_MAX, 4 * POLICY_ROLES_MAX);
            let targets = one.list("target_role_indexes", bounds, |target| {
                target.u32("target_role_indexes")
            })?;
            Ok((from, targets))
        })?;
        let count = changes.len();
        let changes: RoleChanges = changes.into_iter().collect();
        if changes.len() < count {
            return Err(fields.refuse("from_role_index", "stands there twice"));
        }
        let over = |min: u32, max: Option<u32>| max.is_some_and(|max| min > max);
        if over(participants_min, participants_max) {
            return Err(fields.refuse("minimum_participants_constraint", "is above the maximum"));
        }
        if over(active_min, active_max) {
            let field = "minimum_active_participants_constraint";
            return Err(fields.refuse(field, "is above the maximum"));
        }
        Ok(Self {
            index,
            name,
            description,
            capabilities,
            participants_min,
            participants_max,
            active_min,
            active_max,
            changes,
        })
    }

    pub(super) fn put(out: &mut Vec<u8>, role: &Self) {
        out.extend(role.index.to_be_bytes());
        put_vector(out, role.name.as_bytes());
        put_vector(out, role.description.as_bytes());
        let capabilities: Vec<u16> = role.capabilities.iter().map(|one| one.0).collect();
        put_list(out, &capabilities, |out, one| out.extend(one.to_be_bytes()));
        out.extend(role.participants_min.to_be_bytes());
        put_optional_u32(out, role.participants_max);
        out.extend(role.active_min.to_be_bytes());
        put_optional_u32(out, role.active_max);
        let changes: Vec<_> = role.changes.iter().collect();
        put_list(out, &changes, |out, (from, targets)| {
            out.extend(from.to_be_bytes());
            put_u32s(out, targets);
        });
    }
}

/// The roles of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RolesList {
    /// Each index once.
    pub roles: Vec<Role>,
}

impl Component for RolesList {
    const ID: ComponentId = ComponentId::ROLES;

    fn decode(data: &[u8]) -> Result<Self, BadComponent> {
        let mut fields = Fields::new(Self::ID, data);
        let bounds = (POLICY_ROLES_MAX, POLICY_COMPONENT_BYTES_MAX);
        let roles = fields.list("roles", bounds, Role::read)?;
        fields.finish()?;
        let mut known = BTreeSet::new();
        if !roles.iter().all(|role| known.insert(role.index)) {
            return Err(fields.refuse("role_index", "stands in the list twice"));
        }
        let exists = |index: &u32| *index == Role::NOBODY || known.contains(index);
        let mut changes = roles.iter().flat_map(|role| &role.changes);
        if !changes.all(|(from, targets)| exists(from) && targets.iter().all(exists)) {
            let field = "authorized_role_changes";
            return Err(fields.refuse(field, "names a role that does not exist"));
        }
        let taken = roles.iter().find(|role| role.index == Role::BANNED);
        if taken.is_some_and(|role| !role.is_banned()) {
            return Err(fields.refuse("role_name", "of role 1 is not \"banned\""));
        }
        Ok(Self { roles })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_list(&mut out, &self.roles, Role::put);
        out
    }
}
