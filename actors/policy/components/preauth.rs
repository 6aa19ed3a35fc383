//! `preauth_list`: who may take a role by what its credential says, without standing in the participant list.
//!
//! Source: draft-ietf-mimi-room-policy-03, section 4.

use super::{
    BadComponent, Component, ComponentId, Role,
    fields::{Fields, put_list},
};
use crate::{
    ids::UserUri,
    limits::{
        POLICY_COMPONENT_BYTES_MAX, POLICY_PREAUTH_CLAIMS_MAX, POLICY_PREAUTH_ENTRIES_MAX,
        POLICY_TEXT_BYTES_MAX,
    },
    mls::codec::reader::put_vector,
};

/// The number of a basic credential.
const BASIC: u16 = 1;

/// Something that a credential says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The type of the credential.
    pub credential_type: u16,
    /// Which claim. Of a basic credential there are two: `user`, the user's URI, and `provider`, its domain.
    pub id: Vec<u8>,
    /// What it must say.
    pub value: Vec<u8>,
}

impl Claim {
    /// Whether the credential of a user's client says it.
    #[must_use]
    pub fn is_said_by(&self, user: &UserUri) -> bool {
        let said = match &self.id[..] {
            b"user" => user.to_string(),
            b"provider" => user.provider().to_string(),
            _ => return false,
        };
        self.credential_type == BASIC && said.as_bytes() == self.value
    }
}

/// A role for whoever makes all these claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreAuthEntry {
    /// All of them must hold.
    pub claims: Vec<Claim>,
    /// The role, as the draft has it: whole.
    pub target: Role,
}

/// Who may take which role; the first entry that fits counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PreAuthList {
    /// In the order in which they are tried.
    pub entries: Vec<PreAuthEntry>,
}

impl PreAuthList {
    /// The `role_index` that a user may take, if any.
    #[must_use]
    pub fn role_of(&self, user: &UserUri) -> Option<u32> {
        let fits = |entry: &&PreAuthEntry| entry.claims.iter().all(|one| one.is_said_by(user));
        self.entries
            .iter()
            .find(fits)
            .map(|entry| entry.target.index)
    }
}

impl Component for PreAuthList {
    const ID: ComponentId = ComponentId::PREAUTH;

    fn decode(data: &[u8]) -> Result<Self, BadComponent> {
        let mut fields = Fields::new(Self::ID, data);
        let bounds = (POLICY_PREAUTH_ENTRIES_MAX, POLICY_COMPONENT_BYTES_MAX);
        let entries = fields.list("preauthorized_entries", bounds, |entry| {
            let bounds = (POLICY_PREAUTH_CLAIMS_MAX, POLICY_COMPONENT_BYTES_MAX);
            let claims = entry.list("claimset", bounds, |claim| {
                Ok(Claim {
                    credential_type: claim.u16("credential_type")?,
                    id: claim.bytes("id", POLICY_TEXT_BYTES_MAX)?.to_vec(),
                    value: claim.bytes("claim_value", POLICY_TEXT_BYTES_MAX)?.to_vec(),
                })
            })?;
            let target = Role::read(entry)?;
            Ok(PreAuthEntry { claims, target })
        })?;
        fields.finish()?;
        if entries.iter().any(|entry| entry.claims.is_empty()) {
            return Err(fields.refuse("claimset", "is empty, so it fits everybody"));
        }
        Ok(Self { entries })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_list(&mut out, &self.entries, |out, entry| {
            put_list(out, &entry.claims, |out, claim| {
                out.extend(claim.credential_type.to_be_bytes());
                put_vector(out, &claim.id);
                put_vector(out, &claim.value);
            });
            Role::put(out, &entry.target);
        });
        out
    }
}
