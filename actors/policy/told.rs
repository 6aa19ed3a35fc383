//! What a Commit changed of a room's policy, as members are told it: by what their own group held before and holds after.
//!
//! Source: transport requirements, section 5.

use super::components::{
    Component as _, ComponentId, Dictionary, ParticipantList, ParticipantListUpdate, Role,
};
use crate::ids::UserUri;

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The components that are not what they were, by number.
    pub components: Vec<ComponentId>,
    /// Who has another role.
    pub roles: Vec<RoleChange>,
}

/// Somebody has another role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// Who.
    pub user: UserUri,
    /// The `role_index` before; 0 for who did not take part.
    pub from: u32,
    /// The `role_index` now; 0 for who takes part no more.
    pub to: u32,
}

impl Told {
    /// What differs between the contents of two `app_data_dictionary` extensions, empty where there was none; nothing if
    /// they are the same. A list that does not read is taken for an empty one.
    #[must_use]
    pub fn between(before: &[u8], after: &[u8]) -> Option<Self> {
        if before == after {
            return None;
        }
        let read = |content| Dictionary::decode(content).unwrap_or_default();
        let (old, new) = (read(before), read(after));
        let list = |all: &Dictionary<'_>| {
            let data = all.get(ComponentId::PARTICIPANTS);
            let list = data.and_then(|data| ParticipantList::decode(data).ok());
            list.unwrap_or_default()
        };
        let listed = list(&old);
        let update = ParticipantListUpdate::between(&listed, &list(&new));
        let changed = update.changed_roles.into_iter();
        let removed = update.removed.into_iter();
        let gone = removed.map(|place| (place, Role::NOBODY));
        let moved = changed.chain(gone).filter_map(|(place, to)| {
            let participant = listed.participants.get(usize::try_from(place).ok()?)?;
            Some(RoleChange {
                user: participant.user.clone(),
                from: participant.role_index,
                to,
            })
        });
        let added = update.added.into_iter().map(|one| RoleChange {
            user: one.user,
            from: Role::NOBODY,
            to: one.role_index,
        });
        Some(Self {
            components: old.differing(&new),
            roles: moved.chain(added).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::components::Participant;

    fn with(roles: &[(&str, u32)]) -> Vec<u8> {
        let participants = roles.iter().map(|(name, role_index)| Participant {
            user: user(name),
            role_index: *role_index,
        });
        let participants = participants.collect();
        let list = ParticipantList { participants }.encode();
        Dictionary::default().encode_with(ComponentId::PARTICIPANTS, &list)
    }

    fn user(name: &str) -> UserUri {
        format!("mimi://a.example/u/{name}").parse().unwrap()
    }

    #[test]
    fn members_are_told_who_has_another_role_and_what_else_differs() {
        let before = with(&[("alice", 6), ("bob", 2), ("carol", 2)]);
        let after = with(&[("alice", 6), ("bob", 4), ("dora", 3)]);
        let after = Dictionary::decode(&after).unwrap();
        let after = after.encode_with(ComponentId::METADATA, b"a name");
        let change = |name, from, to| RoleChange {
            user: user(name),
            from,
            to,
        };
        let told = Told {
            components: vec![ComponentId::PARTICIPANTS, ComponentId::METADATA],
            roles: vec![
                change("bob", 2, 4),
                change("carol", 2, 0),
                change("dora", 0, 3),
            ],
        };
        assert_eq!(Told::between(&before, &after), Some(told));
        assert_eq!(Told::between(&before, &before), None);
        let begun = Told::between(&[], &before).unwrap();
        assert_eq!(begun.roles[0], change("alice", 0, 6));
    }
}
