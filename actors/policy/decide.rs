//! Whether somebody may do something in a room: one function for all ways.
//!
//! Source: transport requirements, section 5; draft-ietf-mimi-room-policy-03, section 8.

use super::{capability::Capability, components::Role, state::Policy};
use crate::ids::UserUri;

/// What somebody would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Put a user who does not take part into the list, and its clients into the group.
    AddUser {
        /// The user.
        user: &'a UserUri,
        /// With this `role_index`.
        role: u32,
    },
    /// Put a client of a participant into the group.
    AddClient(&'a UserUri),
    /// Come in by itself, without standing in the list.
    Join {
        /// By what.
        by: Door,
        /// With this `role_index`.
        role: u32,
    },
    /// Make a joining code.
    MakeCode {
        /// For this `role_index`.
        role: u32,
    },
    /// End a joining code that somebody else made.
    EndCode,
    /// Take a user out of the list, and its clients out of the group.
    RemoveUser(&'a UserUri),
    /// Leave the list, with all clients.
    Leave,
    /// Take a client of a user out of the group, and leave the list as it is.
    RemoveClient(&'a UserUri),
    /// Give a participant another role: ban it, unban it, give it voice.
    ChangeRole {
        /// The participant.
        user: &'a UserUri,
        /// Its new `role_index`, not 0.
        role: u32,
    },
    /// Send a message.
    Send,
    /// Change what holds for the room.
    Change(Attribute),
    /// End the room.
    Destroy,
    /// Let another group follow this one.
    ReInit,
}

/// By what somebody comes in that does not stand in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The room is open to all.
    Open,
    /// Its credential says so.
    Preauthorized,
    /// A joining code.
    Code,
}

/// What holds for a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// Its name.
    Name,
    /// Its descriptions.
    Description,
    /// Its picture.
    Avatar,
    /// Its subject.
    Subject,
    /// Its mood.
    Mood,
    /// Which roles there are.
    Roles,
    /// Who is preauthorised.
    Preauth,
    /// What kind of room it is.
    Style,
    /// What holds for its group.
    Operational,
    /// Another component of MIMI's.
    Other,
}

impl Attribute {
    /// What its changing takes.
    #[must_use]
    pub const fn needs(self) -> Capability {
        match self {
            Self::Name => Capability::CHANGE_NAME,
            Self::Description => Capability::CHANGE_DESCRIPTION,
            Self::Avatar => Capability::CHANGE_AVATAR,
            Self::Subject => Capability::CHANGE_SUBJECT,
            Self::Mood => Capability::CHANGE_MOOD,
            Self::Roles => Capability::CHANGE_ROLES,
            Self::Preauth => Capability::CHANGE_PREAUTH,
            Self::Style => Capability::CHANGE_STYLE,
            Self::Operational => Capability::CHANGE_OPERATIONAL,
            Self::Other => Capability::CHANGE_OTHER,
        }
    }
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Its role has no such capability.
    #[error("{0} is missing")]
    Lacks(Capability),
    /// Its role has the capability, but not for this change of roles.
    #[error("{capability} does not reach from role {from} to role {to}")]
    OutOfReach {
        /// The capability.
        capability: Capability,
        /// The role that the user has.
        from: u32,
        /// The role that it would have; 0 where it would not take part.
        to: u32,
    },
    /// It is banned.
    #[error("the user is banned")]
    Banned,
    /// It does not take part, or whoever it is about does not.
    #[error("the user does not stand in the participant_list")]
    NotListed,
    /// It takes part already.
    #[error("the user stands in the participant_list already")]
    Listed,
    /// The room takes no external Commits.
    #[error("external_commit_allowed is false")]
    NoExternalCommits,
    /// A Proposal that waits bans it, or takes it out of the list.
    #[error("a Proposal that waits bans the user, or takes it out of the participant_list")]
    PutOut,
    /// Participants neither come nor go.
    #[error("the participants of the room are fixed")]
    Fixed,
    /// What a credential says gives it another role, or none.
    #[error("the preauth_list does not give the user role {0}")]
    NotPreauthorized(u32),
}

/// Whether a user may do something in a room with this policy.
///
/// # Errors
/// [`Denied`] says what is missing.
pub fn decide(policy: &Policy, principal: &UserUri, action: Action<'_>) -> Result<(), Denied> {
    let desk = Decision {
        policy,
        principal,
        role: policy.role_of(principal),
    };
    if desk.role == Role::BANNED {
        return Err(Denied::Banned);
    }
    if desk.role == Role::NOBODY && !matches!(action, Action::Join { .. }) {
        return Err(Denied::NotListed);
    }
    match action {
        Action::AddUser { user, role } => desk.add_user(user, role),
        Action::AddClient(user) => desk.add_client(user),
        Action::Join { by, role } => desk.join(by, role),
        Action::MakeCode { role } => desk.reach(
            &[Capability::CREATE_JOIN_CODE, Capability::ADD_PARTICIPANT],
            Role::NOBODY,
            role,
        ),
        Action::EndCode => {
            desk.one_of(&[Capability::DELETE_JOIN_CODE, Capability::REMOVE_PARTICIPANT])
        }
        Action::RemoveUser(user) => desk.remove_user(user),
        Action::Leave => desk.leave(),
        Action::RemoveClient(user) if user == principal => {
            desk.one_of(&[Capability::REMOVE_OWN_CLIENT, Capability::REMOVE_SELF])
        }
        Action::RemoveClient(_) => desk.has(Capability::KICK),
        Action::ChangeRole { user, role } => desk.change_role(user, role),
        Action::Send => desk.has(Capability::SEND_MESSAGE),
        Action::Change(attribute) => desk.has(attribute.needs()),
        Action::Destroy => desk.has(Capability::DESTROY_ROOM),
        Action::ReInit => desk.has(Capability::REINIT),
    }
}

struct Decision<'a> {
    policy: &'a Policy,
    principal: &'a UserUri,
    role: u32,
}

impl Decision<'_> {
    fn has(&self, capability: Capability) -> Result<(), Denied> {
        match self.policy.may(self.role, capability) {
            true => Ok(()),
            false => Err(Denied::Lacks(capability)),
        }
    }

    /// The role has one of these; the first is the one that is named.
    fn one_of(&self, capabilities: &[Capability]) -> Result<(), Denied> {
        let mut verdicts = capabilities.iter().map(|one| self.has(*one));
        let first = verdicts.next().unwrap_or(Ok(()));
        if first.is_err() && verdicts.any(|other| other.is_ok()) {
            return Ok(());
        }
        first
    }

    /// The role has one of these, and may move a user from one role to another.
    fn reach(&self, capabilities: &[Capability], from: u32, to: u32) -> Result<(), Denied> {
        self.one_of(capabilities)?;
        let mut held = capabilities.iter().filter(|one| self.has(**one).is_ok());
        match held.next() {
            Some(_) if self.policy.may_move(self.role, from, to) => Ok(()),
            Some(&capability) => Err(Denied::OutOfReach {
                capability,
                from,
                to,
            }),
            None => Ok(()),
        }
    }

    fn moves(&self) -> Result<(), Denied> {
        match self.policy.is_fixed() {
            true => Err(Denied::Fixed),
            false => Ok(()),
        }
    }

    fn add_user(&self, user: &UserUri, role: u32) -> Result<(), Denied> {
        self.moves()?;
        if self.policy.role_of(user) != Role::NOBODY {
            return Err(Denied::Listed);
        }
        // Who is banned before it ever came is not brought in.
        let capabilities: &[Capability] = match role {
            Role::BANNED => &[Capability::BAN],
            _ => &[Capability::ADD_PARTICIPANT],
        };
        self.reach(capabilities, Role::NOBODY, role)
    }

    fn add_client(&self, user: &UserUri) -> Result<(), Denied> {
        if user == self.principal {
            return self.has(Capability::ADD_OWN_CLIENT);
        }
        match self.policy.role_of(user) {
            Role::NOBODY => Err(Denied::NotListed),
            Role::BANNED => Err(Denied::Banned),
            _ => self.has(Capability::ADD_PARTICIPANT),
        }
    }

    fn join(&self, by: Door, role: u32) -> Result<(), Denied> {
        self.moves()?;
        if self.role != Role::NOBODY {
            return Err(Denied::Listed);
        }
        let gets = |capability: Capability, holder: u32| match self.policy.may(holder, capability) {
            true => Ok(()),
            false => Err(Denied::Lacks(capability)),
        };
        let (capability, holder) = match by {
            Door::Open => (Capability::OPEN_JOIN, Role::NOBODY),
            Door::Code => (Capability::USE_JOIN_CODE, Role::NOBODY),
            // Who comes by its credential has the role already, as far as this goes: the list of changes is not asked.
            Door::Preauthorized => {
                if self.policy.preauthorized(self.principal) != Some(role) {
                    return Err(Denied::NotPreauthorized(role));
                }
                return gets(Capability::JOIN_IF_PREAUTHORIZED, role);
            }
        };
        gets(capability, holder)?;
        self.reach(&[capability], Role::NOBODY, role)
    }

    fn remove_user(&self, user: &UserUri) -> Result<(), Denied> {
        self.moves()?;
        match self.policy.role_of(user) {
            Role::NOBODY => Err(Denied::NotListed),
            from => self.reach(&[Capability::REMOVE_PARTICIPANT], from, Role::NOBODY),
        }
    }

    fn leave(&self) -> Result<(), Denied> {
        self.moves()?;
        self.reach(&[Capability::REMOVE_SELF], self.role, Role::NOBODY)
    }

    fn change_role(&self, user: &UserUri, role: u32) -> Result<(), Denied> {
        if user == self.principal {
            self.has(Capability::CHANGE_OWN_ROLE)?;
            return match self.policy.preauthorized(user) {
                Some(given) if given == role => Ok(()),
                _ => Err(Denied::NotPreauthorized(role)),
            };
        }
        let from = self.policy.role_of(user);
        let capabilities: &[Capability] = match (from, role) {
            (Role::NOBODY, _) => return Err(Denied::NotListed),
            (_, Role::BANNED) => &[Capability::BAN, Capability::CHANGE_USER_ROLE],
            (Role::BANNED, _) => &[Capability::UNBAN, Capability::CHANGE_USER_ROLE],
            _ => &[Capability::CHANGE_USER_ROLE],
        };
        self.reach(capabilities, from, role)
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
