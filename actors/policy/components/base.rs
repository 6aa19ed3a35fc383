//! `base_room_policy`: what kind of room it is.
//!
//! Source: draft-ietf-mimi-room-policy-03, section 5.

use super::{
    BadComponent, Component, ComponentId,
    fields::{Fields, put_list, put_optional_u32},
};
use crate::{
    limits::{POLICY_COMPONENTS_MAX, URI_BYTES_MAX},
    mls::codec::reader::put_vector,
};

/// What kind of room it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseRoomPolicy {
    /// Whether the participants are those that it began with.
    pub fixed_membership: bool,
    /// Whether its participants are some of another room's.
    pub parent_dependent: bool,
    /// That other room; empty without one.
    pub parent_room: String,
    /// Whether a user may have several clients in the group.
    pub multi_device: bool,
    /// Clients in the group, at most.
    pub clients_max: Option<u32>,
    /// Participants that are not banned, at most.
    pub users_max: Option<u32>,
    /// Whether credentials may name pseudonyms.
    pub pseudonyms_allowed: bool,
    /// Whether the room outlives its group.
    pub persistent: bool,
    /// Whether it can be searched for.
    pub discoverable: bool,
    /// The other components of its policy.
    pub components: Vec<ComponentId>,
}

impl Component for BaseRoomPolicy {
    const ID: ComponentId = ComponentId::BASE;

    fn decode(data: &[u8]) -> Result<Self, BadComponent> {
        let mut fields = Fields::new(Self::ID, data);
        let policy = Self {
            fixed_membership: fields.bool("fixed_membership")?,
            parent_dependent: fields.bool("parent_dependant")?,
            parent_room: fields.text("parent_room", URI_BYTES_MAX)?,
            multi_device: fields.bool("multi_device")?,
            clients_max: fields.optional_u32("max_clients")?,
            users_max: fields.optional_u32("max_users")?,
            pseudonyms_allowed: fields.bool("pseudonyms_allowed")?,
            persistent: fields.bool("persistent_room")?,
            discoverable: fields.bool("discoverable")?,
            components: fields.list(
                "policy_component_ids",
                (POLICY_COMPONENTS_MAX, 2 * POLICY_COMPONENTS_MAX),
                |one| one.u16("policy_component_ids").map(ComponentId),
            )?,
        };
        fields.finish()?;
        if policy.parent_dependent == policy.parent_room.is_empty() {
            return Err(fields.refuse("parent_room", "does not go with parent_dependant"));
        }
        Ok(policy)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![
            u8::from(self.fixed_membership),
            u8::from(self.parent_dependent),
        ];
        put_vector(&mut out, self.parent_room.as_bytes());
        out.push(u8::from(self.multi_device));
        put_optional_u32(&mut out, self.clients_max);
        put_optional_u32(&mut out, self.users_max);
        out.extend([
            u8::from(self.pseudonyms_allowed),
            u8::from(self.persistent),
            u8::from(self.discoverable),
        ]);
        put_list(&mut out, &self.components, |out, one| {
            out.extend(one.0.to_be_bytes());
        });
        out
    }
}
