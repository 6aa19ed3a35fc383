//! The components of a room's policy, as they lie in the `app_data_dictionary` of its GroupContext.
//!
//! Owns: which of them are read, their bytes, and how large they may be. What is not listed in [`ComponentId`] stays opaque
//! bytes that the hub passes on. Promises: what reads writes itself again byte for byte; an error names component and field.
//! Not here: whether components fit together and with the group ([`super::state`]), who may change them
//! ([`super::decide`]).
//!
//! Source: transport requirements, section 5; draft-ietf-mimi-protocol-06, sections 4 and 5; draft-ietf-mimi-room-policy-03.

mod assets;
mod base;
mod fields;
mod links;
mod metadata;
mod operational;
mod participants;
mod preauth;
mod roles;

pub use assets::{AssetPolicy, DownloadPrivacy, UploadDomains};
pub use base::BaseRoomPolicy;
pub use fields::{BadComponent, Why};
pub use links::{JoinLinkPolicy, JoinLinks};
pub use metadata::{Description, RoomMetadata};
pub use operational::Operational;
pub use participants::{Participant, ParticipantList, ParticipantListUpdate};
pub use preauth::{Claim, PreAuthEntry, PreAuthList};
pub use roles::{Role, RoleChanges, RolesList};

use crate::{
    limits::{POLICY_COMPONENTS_BYTES_MAX, POLICY_COMPONENTS_MAX},
    mls::codec::reader::put_vector,
};
use fields::Fields;
use std::{collections::BTreeMap, fmt};

/// The number of a component.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComponentId(pub u16);

impl ComponentId {
    /// Stands for the `app_data_dictionary` itself; the registry gives the number to nothing.
    pub const DICTIONARY: Self = Self(0);
    /// `participant_list`: who takes part, and in which role.
    pub const PARTICIPANTS: Self = Self(0x0022);
    /// `room_metadata`: name, subject and the like.
    pub const METADATA: Self = Self(0x0023);
    /// `mls_operational_policy`.
    pub const OPERATIONAL: Self = Self(0x0024);
    /// `roles_list`: which roles there are, and what each may do.
    pub const ROLES: Self = Self(0x0025);
    /// `preauth_list`: who may take a role by its credential.
    pub const PREAUTH: Self = Self(0x0026);
    /// `base_room_policy`.
    pub const BASE: Self = Self(0x0027);
    /// `join_link_policy`.
    pub const JOIN_LINK_POLICY: Self = Self(0x0029);
    /// `join_links`.
    pub const JOIN_LINKS: Self = Self(0x002a);
    /// `asset_policy`.
    pub const ASSETS: Self = Self(0x002c);

    /// Whether it is one of those that the MIMI drafts give numbers to, read here or not.
    #[must_use]
    pub const fn is_of_mimi(self) -> bool {
        matches!(self.0, 0x0020..=0x0030)
    }

    /// Its name in the drafts, for those that are read here.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::DICTIONARY => "app_data_dictionary",
            Self::PARTICIPANTS => "participant_list",
            Self::METADATA => "room_metadata",
            Self::OPERATIONAL => "mls_operational_policy",
            Self::ROLES => "roles_list",
            Self::PREAUTH => "preauth_list",
            Self::BASE => "base_room_policy",
            Self::JOIN_LINK_POLICY => "join_link_policy",
            Self::JOIN_LINKS => "join_links",
            Self::ASSETS => "asset_policy",
            _ => return None,
        })
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "component {:#06x}", self.0),
        }
    }
}

impl fmt::Debug for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A component that is read here.
pub trait Component: Sized {
    /// Its number.
    const ID: ComponentId;

    /// Its value, of the bytes in the dictionary.
    ///
    /// # Errors
    /// [`BadComponent`] when they are not one, or exceed a limit.
    fn decode(data: &[u8]) -> Result<Self, BadComponent>;

    /// Its bytes in the dictionary.
    #[must_use]
    fn encode(&self) -> Vec<u8>;
}

/// The components of a GroupContext, by number; each as it lies there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dictionary<'a>(BTreeMap<ComponentId, &'a [u8]>);

impl<'a> Dictionary<'a> {
    /// Reads the content of an `app_data_dictionary`.
    ///
    /// # Errors
    /// [`BadComponent`] when it is not one, or its components do not ascend.
    pub fn decode(content: &'a [u8]) -> Result<Self, BadComponent> {
        let mut fields = Fields::new(ComponentId::DICTIONARY, content);
        let bounds = (POLICY_COMPONENTS_MAX, POLICY_COMPONENTS_BYTES_MAX);
        let all = fields.list("component_data", bounds, |entry| {
            let number = ComponentId(entry.u16("component_id")?);
            let data = entry.bytes("data", POLICY_COMPONENTS_BYTES_MAX)?;
            Ok((number, data))
        })?;
        fields.finish()?;
        let mut pairs = all.iter().zip(all.iter().skip(1));
        if pairs.any(|(one, next)| one.0 >= next.0) {
            return Err(fields.refuse("component_id", "does not ascend"));
        }
        Ok(Self(all.into_iter().collect()))
    }

    /// The value of a component, if it is there.
    ///
    /// # Errors
    /// [`BadComponent`] when it is there and does not read.
    pub fn read<C: Component>(&self) -> Result<Option<C>, BadComponent> {
        self.get(C::ID).map(C::decode).transpose()
    }

    /// The bytes of a component, if it is there.
    #[must_use]
    pub fn get(&self, component: ComponentId) -> Option<&'a [u8]> {
        self.0.get(&component).copied()
    }

    /// The numbers of the components that are in one of two and not the same in both, ascending.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<ComponentId> {
        let all = self.0.keys().chain(other.0.keys());
        let mut differing: Vec<ComponentId> = all
            .copied()
            .filter(|component| self.get(*component) != other.get(*component))
            .collect();
        differing.sort_unstable();
        differing.dedup();
        differing
    }

    /// The same with a component as it is to be, as the content of an `app_data_dictionary`.
    #[must_use]
    pub fn encode_with(&self, component: ComponentId, data: &[u8]) -> Vec<u8> {
        let mut all = self.0.clone();
        all.insert(component, data);
        let mut inner = Vec::new();
        for (number, data) in all {
            inner.extend(number.0.to_be_bytes());
            put_vector(&mut inner, data);
        }
        let mut out = Vec::new();
        put_vector(&mut out, &inner);
        out
    }
}

#[cfg(test)]
mod tests;
