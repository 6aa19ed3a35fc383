//! `participant_list`: who takes part in a room, and in which role.
//!
//! Source: draft-ietf-mimi-protocol-06, section 4.

use super::{
    BadComponent, Component, ComponentId,
    fields::{Fields, put_list, put_u32s},
};
use crate::{
    ids::UserUri,
    limits::{POLICY_COMPONENT_BYTES_MAX, POLICY_PARTICIPANTS_MAX, URI_BYTES_MAX},
    mls::codec::reader::put_vector,
};
use std::collections::BTreeSet;

/// A user and its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// The user.
    pub user: UserUri,
    /// The `role_index` of its role; never 0, which says that a user does not take part.
    pub role_index: u32,
}

/// Who takes part; the order is the one that a [`ParticipantListUpdate`] counts in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParticipantList {
    /// Each user once.
    pub participants: Vec<Participant>,
}

/// What an AppDataUpdate does to a list: roles, then removals, then additions at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParticipantListUpdate {
    /// The place in the list, and the new `role_index`.
    pub changed_roles: Vec<(u32, u32)>,
    /// Places in the list.
    pub removed: Vec<u32>,
    /// Who comes.
    pub added: Vec<Participant>,
}

fn read_participant(fields: &mut Fields<'_>) -> Result<Participant, BadComponent> {
    let user = fields.text("user", URI_BYTES_MAX)?;
    let user = user.parse();
    let user = user.map_err(|_| fields.refuse("user", "is no URI of a user"))?;
    let role_index = fields.u32("role_index")?;
    if role_index == 0 {
        return Err(fields.refuse("role_index", "is 0, the role of who does not take part"));
    }
    Ok(Participant { user, role_index })
}

fn put_participant(out: &mut Vec<u8>, participant: &Participant) {
    put_vector(out, participant.user.to_string().as_bytes());
    out.extend(participant.role_index.to_be_bytes());
}

const BOUNDS: (usize, usize) = (POLICY_PARTICIPANTS_MAX, POLICY_COMPONENT_BYTES_MAX);

impl Component for ParticipantList {
    const ID: ComponentId = ComponentId::PARTICIPANTS;

    fn decode(data: &[u8]) -> Result<Self, BadComponent> {
        let mut fields = Fields::new(Self::ID, data);
        let participants = fields.list("participants", BOUNDS, read_participant)?;
        fields.finish()?;
        let mut users = BTreeSet::new();
        if !participants.iter().all(|one| users.insert(&one.user)) {
            return Err(fields.refuse("user", "stands in the list twice"));
        }
        Ok(Self { participants })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_list(&mut out, &self.participants, put_participant);
        out
    }
}

impl ParticipantListUpdate {
    /// Reads the `update` of an AppDataUpdate of this component.
    ///
    /// # Errors
    /// [`BadComponent`] when it is not one.
    pub fn decode(data: &[u8]) -> Result<Self, BadComponent> {
        let mut fields = Fields::new(ComponentId::PARTICIPANTS, data);
        let changed_roles = fields.list("changedRoleParticipants", BOUNDS, |change| {
            Ok((change.u32("user_index")?, change.u32("role_index")?))
        })?;
        let removed = fields.list("removedIndices", BOUNDS, |place| {
            place.u32("removedIndices")
        })?;
        let added = fields.list("addedParticipants", BOUNDS, read_participant)?;
        fields.finish()?;
        Ok(Self {
            changed_roles,
            removed,
            added,
        })
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_list(&mut out, &self.changed_roles, |out, (place, role)| {
            out.extend(place.to_be_bytes());
            out.extend(role.to_be_bytes());
        });
        put_u32s(&mut out, &self.removed);
        put_list(&mut out, &self.added, put_participant);
        out
    }

    /// The list that it makes of another.
    ///
    /// # Errors
    /// [`BadComponent`] when a place is not in the list, or a user is touched twice.
    pub fn apply(&self, list: &ParticipantList) -> Result<ParticipantList, BadComponent> {
        let refuse = |field, why| BadComponent::not(ComponentId::PARTICIPANTS, field, why);
        let mut places: Vec<Option<Participant>> =
            list.participants.iter().cloned().map(Some).collect();
        let mut touched = BTreeSet::new();
        let mut at = |field, place: u32| {
            let index = usize::try_from(place).unwrap_or(usize::MAX);
            if index >= list.participants.len() {
                return Err(refuse(field, "is no place in the list"));
            }
            match touched.insert(place) {
                true => Ok(index),
                false => Err(refuse(field, "names a user twice")),
            }
        };
        for (place, role_index) in &self.changed_roles {
            let index = at("user_index", *place)?;
            if let Some(Some(participant)) = places.get_mut(index) {
                participant.role_index = *role_index;
            }
        }
        for place in &self.removed {
            let index = at("removedIndices", *place)?;
            if let Some(participant) = places.get_mut(index) {
                *participant = None;
            }
        }
        let stood = |user: &UserUri| list.participants.iter().any(|one| one.user == *user);
        let mut added = BTreeSet::new();
        let fresh = |one: &Participant| !stood(&one.user) && added.insert(one.user.clone());
        if !self.added.iter().all(fresh) {
            return Err(refuse("addedParticipants", "names a user twice"));
        }
        let participants = places.into_iter().flatten();
        let participants = participants.chain(self.added.iter().cloned()).collect();
        Ok(ParticipantList { participants })
    }

    /// What changed between two lists, but for the order.
    #[must_use]
    pub fn between(before: &ParticipantList, after: &ParticipantList) -> Self {
        let mut update = Self::default();
        let role_in = |list: &ParticipantList, user: &UserUri| {
            let mut all = list.participants.iter();
            all.find(|one| one.user == *user).map(|one| one.role_index)
        };
        for (place, one) in (0_u32..).zip(&before.participants) {
            match role_in(after, &one.user) {
                None => update.removed.push(place),
                Some(role) if role != one.role_index => update.changed_roles.push((place, role)),
                Some(_) => {}
            }
        }
        let added = after.participants.iter();
        let added = added.filter(|one| role_in(before, &one.user).is_none());
        update.added = added.cloned().collect();
        update
    }
}
