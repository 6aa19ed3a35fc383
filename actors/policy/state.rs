//! What the components of a room come to: a policy.
//!
//! Promises: every participant has a role that exists. A room without a participant list has no policy: its members may do
//! everything, as [`super::sets::open`] says it.
//!
//! Source: draft-ietf-mimi-room-policy-03, sections 3 to 5.

use super::{
    capability::Capability,
    components::{
        AssetPolicy, BadComponent, BaseRoomPolicy, ComponentId, Dictionary, JoinLinkPolicy,
        JoinLinks, Operational, ParticipantList, PreAuthList, Role, RoleChanges, RolesList,
        RoomMetadata,
    },
    sets,
};
use crate::ids::UserUri;
use std::collections::BTreeMap;

/// The policy of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    roles: BTreeMap<u32, Role>,
    participants: BTreeMap<UserUri, u32>,
    preauth: PreAuthList,
    base: Option<BaseRoomPolicy>,
    operational: Option<Operational>,
}

/// How many clients in the group each user has.
pub type Clients = BTreeMap<UserUri, usize>;

impl Policy {
    /// The policy of these components, none where there is no participant list. All components that are known are read,
    /// so that none which does not read becomes the room's.
    ///
    /// # Errors
    /// [`BadComponent`] when one does not read, needs another that is not there, or names a role that does not exist.
    pub fn read(dictionary: &Dictionary<'_>) -> Result<Option<Self>, BadComponent> {
        dictionary.read::<RoomMetadata>()?;
        dictionary.read::<JoinLinkPolicy>()?;
        dictionary.read::<JoinLinks>()?;
        dictionary.read::<AssetPolicy>()?;
        let roles: Option<RolesList> = dictionary.read()?;
        let preauth: Option<PreAuthList> = dictionary.read()?;
        let base: Option<BaseRoomPolicy> = dictionary.read()?;
        let operational: Option<Operational> = dictionary.read()?;
        let Some(list) = dictionary.read::<ParticipantList>()? else {
            let lonely = [
                (ComponentId::ROLES, roles.is_some()),
                (ComponentId::PREAUTH, preauth.is_some()),
                (ComponentId::BASE, base.is_some()),
                (ComponentId::OPERATIONAL, operational.is_some()),
            ];
            let lonely = lonely.iter().find(|(_, is_there)| *is_there);
            return match lonely {
                None => Ok(None),
                Some((component, _)) => Err(BadComponent::not(
                    *component,
                    "component_id",
                    "is of no use without a participant_list",
                )),
            };
        };
        let roles = roles.unwrap_or_else(sets::open).roles;
        let policy = Self {
            roles: roles.into_iter().map(|role| (role.index, role)).collect(),
            participants: list
                .participants
                .into_iter()
                .map(|one| (one.user, one.role_index))
                .collect(),
            preauth: preauth.unwrap_or_default(),
            base,
            operational,
        };
        policy.check_roles()?;
        Ok(Some(policy))
    }

    /// Whoever has a role has one that exists.
    fn check_roles(&self) -> Result<(), BadComponent> {
        let missing = |index: &u32| !self.roles.contains_key(index);
        let why = "is of a role that does not exist";
        if self.participants.values().any(missing) {
            let component = ComponentId::PARTICIPANTS;
            return Err(BadComponent::not(component, "role_index", why));
        }
        let mut entries = self.preauth.entries.iter();
        // The entry has the role whole; what it may do is what the roles say.
        if entries.any(|entry| self.roles.get(&entry.target.index) != Some(&entry.target)) {
            let component = ComponentId::PREAUTH;
            let why = "is not as the roles_list has it";
            return Err(BadComponent::not(component, "target_role", why));
        }
        Ok(())
    }

    /// The same, with users who came in by themselves, who stand in no list yet.
    #[must_use]
    pub fn with(mut self, entered: &BTreeMap<UserUri, u32>) -> Self {
        for (user, role) in entered {
            self.participants.entry(user.clone()).or_insert(*role);
        }
        self
    }

    /// The `role_index` of a user; [`Role::NOBODY`] of one that does not take part.
    #[must_use]
    pub fn role_of(&self, user: &UserUri) -> u32 {
        let role = self.participants.get(user).copied();
        role.unwrap_or(Role::NOBODY)
    }

    /// A role. That of who does not take part need not be listed; then it may do nothing.
    #[must_use]
    pub fn role(&self, index: u32) -> Option<&Role> {
        self.roles.get(&index)
    }

    /// Whether a role has a capability.
    #[must_use]
    pub fn may(&self, role: u32, capability: Capability) -> bool {
        self.role(role).is_some_and(|role| role.may(capability))
    }

    /// Whether holders of a role may move users from one role to another.
    #[must_use]
    pub fn may_move(&self, role: u32, from: u32, to: u32) -> bool {
        let role = self.role(role);
        role.is_some_and(|role| role.may_move(from, to))
    }

    /// Whether whoever has this role is kept out: nobody with it may have a client.
    #[must_use]
    pub fn keeps_out(&self, role: u32) -> bool {
        let role = self.role(role);
        role.is_none_or(|role| role.is_banned() || role.active_max == Some(0))
    }

    /// The role that a user who does not take part may take by what its credential says.
    #[must_use]
    pub fn preauthorized(&self, user: &UserUri) -> Option<u32> {
        self.preauth.role_of(user)
    }

    /// The role that somebody who does not take part gets when nothing says which: the first one that its own may be
    /// changed to.
    #[must_use]
    pub fn first_role(&self) -> Option<u32> {
        let nobody = self.role(Role::NOBODY)?;
        let changes: &RoleChanges = &nobody.changes;
        changes.get(&Role::NOBODY)?.first().copied()
    }

    /// Whether participants neither come nor go.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.base.as_ref().is_some_and(|base| base.fixed_membership)
    }

    /// Whether external Commits are taken.
    #[must_use]
    pub fn takes_external_commits(&self) -> bool {
        let allowed = self.operational.as_ref();
        allowed.is_none_or(|policy| policy.external_commit_allowed)
    }

    /// Epochs that a message may be behind the room, if the policy says.
    #[must_use]
    pub fn epoch_tolerance(&self) -> Option<u64> {
        let policy = self.operational.as_ref();
        policy.map(|policy| policy.epoch_tolerance.into())
    }

    /// Whether somebody is left who may change roles.
    #[must_use]
    pub fn is_governed(&self) -> bool {
        self.participants.values().any(|role| {
            self.may(*role, Capability::CHANGE_USER_ROLE)
                || self.may(*role, Capability::CHANGE_ROLES)
        })
    }

    /// The participants, by user, with their `role_index`.
    pub fn participants(&self) -> impl Iterator<Item = (&UserUri, u32)> {
        self.participants.iter().map(|(user, role)| (user, *role))
    }

    /// Whether the group may be like this: whose clients are in it, and how many users have each role.
    ///
    /// # Errors
    /// [`BadComponent`] names the component and field that it contradicts.
    pub fn check_group(&self, clients: &Clients) -> Result<(), BadComponent> {
        let listed = |field, why| Err(BadComponent::not(ComponentId::PARTICIPANTS, field, why));
        for user in clients.keys() {
            match self.role_of(user) {
                Role::NOBODY => return listed("participants", "lacks a user with a client"),
                role if self.keeps_out(role) => {
                    return listed("role_index", "is of a role that may have no client");
                }
                _ => {}
            }
        }
        for role in self
            .roles
            .values()
            .filter(|role| role.index != Role::NOBODY)
        {
            let holders = self.participants.iter();
            let holders = holders.filter(|(_, index)| **index == role.index);
            let (mut all, mut active) = (0, 0);
            for (user, _) in holders {
                all += 1;
                active += u32::from(clients.contains_key(user));
            }
            let bad = |field, why| Err(BadComponent::not(ComponentId::ROLES, field, why));
            if all < role.participants_min {
                return bad("minimum_participants_constraint", "is not reached");
            }
            if role.participants_max.is_some_and(|max| all > max) {
                return bad("maximum_participants_constraint", "is exceeded");
            }
            if active < role.active_min {
                return bad("minimum_active_participants_constraint", "is not reached");
            }
            if role.active_max.is_some_and(|max| active > max) {
                return bad("maximum_active_participants_constraint", "is exceeded");
            }
        }
        self.check_base(clients)
    }

    fn check_base(&self, clients: &Clients) -> Result<(), BadComponent> {
        let Some(base) = &self.base else {
            return Ok(());
        };
        let bad = |field, why| Err(BadComponent::not(ComponentId::BASE, field, why));
        let over = |count: usize, max: Option<u32>| {
            max.is_some_and(|max| count > usize::try_from(max).unwrap_or(usize::MAX))
        };
        if over(clients.values().sum(), base.clients_max) {
            return bad("max_clients", "is exceeded");
        }
        let users = self.participants.values();
        let users = users.filter(|role| **role != Role::BANNED).count();
        if over(users, base.users_max) {
            return bad("max_users", "is exceeded");
        }
        if !base.multi_device && clients.values().any(|count| *count > 1) {
            return bad("multi_device", "is false, and a user has two clients");
        }
        Ok(())
    }
}
