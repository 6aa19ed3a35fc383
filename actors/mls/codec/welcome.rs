//! The part of a Welcome that is not encrypted.
//!
//! Source: RFC 9420, section 12.4.3.1.

use super::{
    bounds::{KEY_BYTES_MAX, SECRET_BYTES_MAX, WELCOME_SECRETS_MAX},
    reader::{Malformed, Reader},
    suite::MLS_10,
};
use crate::limits::WELCOME_BYTES_MAX;

/// Wire format of a Welcome.
const WIRE_FORMAT: u16 = 3;

/// What can be seen of a Welcome.
pub(crate) struct Welcome<'a> {
    pub(crate) ciphersuite: u16,
    /// The KeyPackageRefs its secrets are for, in its order.
    pub(crate) references: Vec<&'a [u8]>,
}

impl<'a> Welcome<'a> {
    /// Reads a whole MLSMessage that holds a Welcome.
    pub(crate) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::bounded(message, "Welcome", WELCOME_BYTES_MAX)?;
        if reader.u16()? != MLS_10 {
            return Err(reader.bad_value("protocol version"));
        }
        if reader.u16()? != WIRE_FORMAT {
            return Err(reader.bad_value("wire format"));
        }
        let ciphersuite = reader.u16()?;
        let secrets = reader.inner("secrets", WELCOME_BYTES_MAX)?;
        let references = secrets.each("secrets", WELCOME_SECRETS_MAX, |secrets| {
            let reference = secrets.vector("KeyPackage reference", KEY_BYTES_MAX)?;
            read_ciphertext(secrets)?;
            Ok::<_, Malformed>(reference)
        })?;
        reader.vector("encrypted GroupInfo", WELCOME_BYTES_MAX)?;
        reader.finish()?;
        Ok(Self {
            ciphersuite,
            references,
        })
    }
}

/// Reads past an HPKECiphertext.
pub(crate) fn read_ciphertext(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    reader.vector("KEM output", KEY_BYTES_MAX)?;
    reader.vector("ciphertext", SECRET_BYTES_MAX)?;
    Ok(())
}
