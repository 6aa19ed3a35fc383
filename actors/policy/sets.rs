//! Sets of roles that rooms may begin with, as the draft describes them; of their capabilities those that a hub acts on.
//!
//! They differ from the draft's examples in one thing: no role must have a holder but the highest, for a room begins with
//! its creator alone.
//!
//! Source: draft-ietf-mimi-room-policy-03, appendix.

use super::{
    capability::Capability,
    components::{Role, RolesList},
};

const NOBODY: u32 = Role::NOBODY;
const BANNED: u32 = Role::BANNED;

/// What ordinary members of most sets may do.
const MEMBER: &[Capability] = &[
    Capability::ADD_OWN_CLIENT,
    Capability::REMOVE_OWN_CLIENT,
    Capability::REMOVE_SELF,
    Capability::SEND_MESSAGE,
    Capability::RECEIVE_MESSAGE,
];
/// Who may change what a room is called.
const SHOWN: &[Capability] = &[
    Capability::CHANGE_NAME,
    Capability::CHANGE_AVATAR,
    Capability::CHANGE_SUBJECT,
    Capability::CHANGE_MOOD,
];
/// Who may bring users in and put them out.
const DOORKEEPER: &[Capability] = &[Capability::ADD_PARTICIPANT, Capability::REMOVE_PARTICIPANT];
/// Who may move users between roles.
const MODERATOR: &[Capability] = &[
    Capability::BAN,
    Capability::UNBAN,
    Capability::KICK,
    Capability::CHANGE_USER_ROLE,
];
/// Who may change codes.
const CODES: &[Capability] = &[Capability::CREATE_JOIN_CODE, Capability::DELETE_JOIN_CODE];
/// Who may change what the room is.
const OWNER: &[Capability] = &[
    Capability::CHANGE_STYLE,
    Capability::CHANGE_PREAUTH,
    Capability::DESTROY_ROOM,
];
/// Who may change the roles themselves.
const FOUNDER: &[Capability] = &[
    Capability::CHANGE_ROLES,
    Capability::CHANGE_OTHER,
    Capability::CHANGE_OPERATIONAL,
    Capability::REINIT,
];

fn role(index: u32, name: &str, capabilities: &[&[Capability]], changes: &[(u32, &[u32])]) -> Role {
    Role {
        index,
        name: name.to_owned(),
        capabilities: capabilities.iter().copied().flatten().copied().collect(),
        changes: changes
            .iter()
            .map(|(from, to)| (*from, to.to_vec()))
            .collect(),
        ..Role::default()
    }
}

/// The role of who does not take part; what may come of it.
fn nobody(capabilities: &[Capability], to: &[u32]) -> Role {
    let changes = [(NOBODY, to)];
    Role {
        active_max: Some(0),
        ..role(
            NOBODY,
            "no_role",
            &[capabilities],
            if to.is_empty() { &[] } else { &changes },
        )
    }
}

/// Who holds it has no client here.
fn outside(role: Role) -> Role {
    Role {
        active_max: Some(0),
        ..role
    }
}

fn banned() -> Role {
    outside(role(BANNED, "banned", &[], &[]))
}

/// There is always a holder.
fn needed(role: Role) -> Role {
    Role {
        participants_min: 1,
        ..role
    }
}

/// From each role up to `highest`, and from none, to each other.
fn all_changes(highest: u32) -> Vec<(u32, Vec<u32>)> {
    let others = |from: u32| (NOBODY..=highest).filter(|to| *to != from).collect();
    (NOBODY..=highest)
        .map(|from| (from, others(from)))
        .collect()
}

fn ruling(highest: u32, role: Role) -> Role {
    Role {
        changes: all_changes(highest).into_iter().collect(),
        ..role
    }
}

/// What a room goes by that has no roles of its own: whoever is in it may do everything.
#[must_use]
pub fn open() -> RolesList {
    let all = Capability::KNOWN;
    let not_of_members = [Capability::OPEN_JOIN, Capability::JOIN_IF_PREAUTHORIZED];
    let member: Vec<Capability> = all
        .iter()
        .copied()
        .filter(|one| !not_of_members.contains(one))
        .collect();
    let roles = vec![
        nobody(&[Capability::USE_JOIN_CODE], &[2]),
        banned(),
        ruling(2, role(2, "member", &[&member], &[])),
    ];
    RolesList { roles }
}

/// Friends and small groups of peers: members bring others in; administrators moderate; one owner at least.
#[must_use]
pub fn cooperative() -> RolesList {
    let ordinary: &[&[Capability]] = &[MEMBER, DOORKEEPER, SHOWN];
    let admin = &[ordinary, &[MODERATOR, &[Capability::CHANGE_DESCRIPTION]]].concat();
    let owner = [&admin[..], &[OWNER, FOUNDER]].concat();
    RolesList {
        roles: vec![
            nobody(&[], &[]),
            banned(),
            role(2, "ordinary_user", ordinary, &[(0, &[2]), (2, &[0])]),
            ruling(3, role(3, "group_admin", admin, &[])),
            needed(ruling(4, role(4, "super_admin", &owner, &[]))),
        ],
    }
}

/// Administrators bring users in; joining codes work.
#[must_use]
pub fn strict_admin() -> RolesList {
    let ordinary: &[&[Capability]] = &[
        MEMBER,
        &[
            Capability::JOIN_IF_PREAUTHORIZED,
            Capability::CHANGE_OWN_ROLE,
        ],
    ];
    let admin = &[
        ordinary,
        &[
            DOORKEEPER,
            MODERATOR,
            CODES,
            SHOWN,
            &[Capability::CHANGE_DESCRIPTION],
        ],
    ]
    .concat();
    let owner = [&admin[..], &[OWNER, FOUNDER]].concat();
    RolesList {
        roles: vec![
            nobody(&[Capability::USE_JOIN_CODE], &[2]),
            banned(),
            role(2, "ordinary_user", ordinary, &[(0, &[2]), (2, &[0])]),
            ruling(3, role(3, "group_admin", admin, &[])),
            needed(ruling(4, role(4, "super_admin", &owner, &[]))),
        ],
    }
}

/// Guests and attendees listen, speakers speak, moderators say who does.
#[must_use]
pub fn moderated() -> RolesList {
    let guest: &[Capability] = &[Capability::REMOVE_SELF, Capability::RECEIVE_MESSAGE];
    let attendee: &[&[Capability]] = &[
        guest,
        &[
            Capability::ADD_OWN_CLIENT,
            Capability::REMOVE_OWN_CLIENT,
            Capability::JOIN_IF_PREAUTHORIZED,
            Capability::CHANGE_OWN_ROLE,
        ],
    ];
    let speaker = &[attendee, &[&[Capability::SEND_MESSAGE]]].concat();
    let moderator = &[&speaker[..], &[DOORKEEPER, MODERATOR, CODES, SHOWN]].concat();
    let described: &[Capability] = &[Capability::CHANGE_DESCRIPTION];
    let owner = [&moderator[..], &[OWNER, FOUNDER, described]].concat();
    RolesList {
        roles: vec![
            nobody(&[Capability::USE_JOIN_CODE], &[2, 3]),
            banned(),
            role(2, "guest", &[guest], &[(0, &[2]), (2, &[0])]),
            role(3, "attendee", attendee, &[(0, &[3]), (3, &[0])]),
            role(4, "speaker", speaker, &[(0, &[4]), (4, &[0])]),
            ruling(5, role(5, "moderator", moderator, &[])),
            needed(ruling(6, role(6, "super_admin", &owner, &[]))),
        ],
    }
}

/// Users and administrators of organisations a, b and c: each administrator moves those of its own.
#[must_use]
pub fn multi_organization() -> RolesList {
    let admin: &[&[Capability]] = &[
        MEMBER,
        DOORKEEPER,
        &[
            Capability::BAN,
            Capability::KICK,
            Capability::CHANGE_USER_ROLE,
        ],
    ];
    let host: &[&[Capability]] = &[&[
        Capability::CHANGE_OWN_ROLE,
        Capability::JOIN_IF_PREAUTHORIZED,
    ]];
    let described: &[Capability] = &[Capability::UNBAN, Capability::CHANGE_DESCRIPTION];
    let owner = [admin, host, &[CODES, SHOWN, OWNER, FOUNDER, described]].concat();
    let user = |index: u32, name: &str, more: &[&[Capability]]| {
        let may = [&[MEMBER], more].concat();
        role(index, name, &may, &[(0, &[index]), (index, &[0])])
    };
    let administrator = |index: u32, name: &str, users: u32, more: &[&[Capability]]| {
        let may = [admin, more].concat();
        let changes: &[(u32, &[u32])] = &[
            (0, &[users, index]),
            (users, &[0, BANNED, index]),
            (index, &[0, BANNED, users]),
        ];
        role(index, name, &may, changes)
    };
    let few = |role: Role| Role {
        participants_max: Some(3),
        ..role
    };
    RolesList {
        roles: vec![
            nobody(&[], &[]),
            banned(),
            user(2, "org_a_user", host),
            user(3, "org_b_user", &[]),
            user(4, "org_c_user", &[]),
            administrator(5, "org_a_admin", 2, host),
            few(administrator(6, "org_b_admin", 3, &[])),
            few(administrator(7, "org_c_admin", 4, &[])),
            needed(ruling(8, role(8, "super_admin", &owner, &[]))),
        ],
    }
}
