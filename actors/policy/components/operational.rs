//! `mls_operational_policy`: what holds for the room's MLS group; the part that a hub acts on, and the rest as it is.
//!
//! Source: draft-ietf-mimi-room-policy-03, section 7.

use super::{BadComponent, Component, ComponentId, fields::Fields};
use crate::{
    limits::{EPOCH_TOLERANCE_EPOCHS, POLICY_COMPONENT_BYTES_MAX},
    mls::codec::reader::put_vector,
};

/// Vectors of one list of capabilities.
const CAPABILITIES: usize = 10;
/// Lists of capabilities: mandatory, default, forbidden.
const LISTS: usize = 3;
/// Bytes between what is read: strategy and times of pending Proposals, and how often leaves are renewed.
const BETWEEN_BYTES: usize = 1 + 2 * 8 + 3 * 8;

/// What holds for the MLS group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operational {
    /// Vectors before the flags: 30 of capabilities, then the formats of handshakes. Not acted on.
    before: Vec<Vec<u8>>,
    /// Whether who is outside the group may propose.
    pub external_proposal_allowed: bool,
    /// Whether anybody may join by an external Commit.
    pub external_commit_allowed: bool,
    /// Not acted on.
    between: Vec<u8>,
    /// Epochs that a message may be behind the room, at most [`EPOCH_TOLERANCE_EPOCHS`].
    pub epoch_tolerance: u8,
    /// Not acted on.
    after: Vec<u8>,
}

impl Operational {
    /// One that says nothing but these.
    #[must_use]
    pub fn new(
        external_proposal_allowed: bool,
        external_commit_allowed: bool,
        epoch_tolerance: u8,
    ) -> Self {
        Self {
            before: vec![Vec::new(); LISTS * CAPABILITIES + 1],
            external_proposal_allowed,
            external_commit_allowed,
            between: vec![0; BETWEEN_BYTES],
            epoch_tolerance,
            after: Vec::new(),
        }
    }
}

impl Component for Operational {
    const ID: ComponentId = ComponentId::OPERATIONAL;

    fn decode(data: &[u8]) -> Result<Self, BadComponent> {
        let mut fields = Fields::new(Self::ID, data);
        let mut before = Vec::with_capacity(LISTS * CAPABILITIES + 1);
        for number in 0..=LISTS * CAPABILITIES {
            let field = match number / CAPABILITIES {
                0 => "mandatory_capabilities",
                1 => "default_capabilities",
                2 => "forbidden_capabilities",
                _ => "handshake_formats",
            };
            before.push(fields.bytes(field, POLICY_COMPONENT_BYTES_MAX)?.to_vec());
        }
        let external_proposal_allowed = fields.bool("external_proposal_allowed")?;
        let external_commit_allowed = fields.bool("external_commit_allowed")?;
        let mut between = Vec::with_capacity(BETWEEN_BYTES);
        for _ in 0..BETWEEN_BYTES {
            between.push(fields.u8("pending_proposal_policy")?);
        }
        let epoch_tolerance = fields.u8("epoch_tolerance")?;
        if u64::from(epoch_tolerance) > EPOCH_TOLERANCE_EPOCHS {
            return Err(fields.refuse("epoch_tolerance", "is above what this hub keeps"));
        }
        let after = fields.rest("pad_to_size", POLICY_COMPONENT_BYTES_MAX)?;
        Ok(Self {
            before,
            external_proposal_allowed,
            external_commit_allowed,
            between,
            epoch_tolerance,
            after: after.to_vec(),
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for vector in &self.before {
            put_vector(&mut out, vector);
        }
        out.push(u8::from(self.external_proposal_allowed));
        out.push(u8::from(self.external_commit_allowed));
        out.extend(&self.between);
        out.push(self.epoch_tolerance);
        out.extend(&self.after);
        out
    }
}
