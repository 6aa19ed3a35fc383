//! A Welcome of the model: as MLS has it where providers look at it, and the model's own where only members do.
//!
//! Source: RFC 9420, section 12.4.3.1.

use super::{MLS_10, SUITE, trees::put_vector};
use crate::{limits::WELCOME_BYTES_MAX, mls::codec::reader::Reader, wire::event::Hash};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Wire format of a Welcome.
const WIRE_FORMAT: u16 = 3;

/// What somebody who is welcomed learns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Welcoming {
    pub(super) references: Vec<Bytes>,
    pub(super) group_id: Bytes,
    pub(super) epoch: u64,
    pub(super) chain: Hash,
    pub(super) tree_hash: Hash,
}

impl Welcoming {
    /// As an MLSMessage.
    pub(super) fn message(&self) -> Bytes {
        let mut secrets = Vec::new();
        for reference in &self.references {
            put_vector(&mut secrets, reference);
            // Nothing is sealed in the model.
            put_vector(&mut secrets, &[]);
            put_vector(&mut secrets, &[]);
        }
        let mut out = Vec::new();
        for number in [MLS_10, WIRE_FORMAT, SUITE] {
            out.extend(number.to_be_bytes());
        }
        put_vector(&mut out, &secrets);
        put_vector(&mut out, &super::encode(self));
        out.into()
    }

    /// What an MLSMessage holds; `None` if it is no Welcome of the model.
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let mut reader = Reader::bounded(message, "Welcome", WELCOME_BYTES_MAX).ok()?;
        for number in [MLS_10, WIRE_FORMAT, SUITE] {
            (reader.u16().ok()? == number).then_some(())?;
        }
        reader.vector("secrets", WELCOME_BYTES_MAX).ok()?;
        let within = reader
            .vector("encrypted GroupInfo", WELCOME_BYTES_MAX)
            .ok()?;
        reader.finish().ok()?;
        super::decode(within)
    }
}
