//! The part of a Welcome that is not encrypted.
//!
//! Source: RFC 9420, section 12.4.3.1.

use super::{
    bounds::{KEY_BYTES_MAX, SECRET_BYTES_MAX, WELCOME_SECRETS_MAX},
    reader::{Malformed, Reader},
    suite::{MLS_10, Suite},
};
use crate::limits::WELCOME_BYTES_MAX;

/// Wire format of a Welcome.
const WIRE_FORMAT: u16 = 3;

/// What can be seen of a Welcome.
pub(crate) struct Welcome<'a> {
    pub(crate) ciphersuite: u16,
    /// The KeyPackageRefs its secrets are for, in its order.
    pub(crate) references: Vec<&'a [u8]>,
    /// Those secrets, each for one of the references.
    pub(crate) secrets: Vec<Sealed>,
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
        let each = secrets.each("secrets", WELCOME_SECRETS_MAX, |secrets| {
            let reference = secrets.vector("KeyPackage reference", KEY_BYTES_MAX)?;
            Ok::<_, Malformed>((reference, Sealed::read(secrets)?))
        })?;
        let (references, secrets) = each.into_iter().unzip();
        reader.vector("encrypted GroupInfo", WELCOME_BYTES_MAX)?;
        reader.finish()?;
        Ok(Self {
            ciphersuite,
            references,
            secrets,
        })
    }
}

/// An HPKECiphertext: only who has the secret key learns what is in it, but its lengths tell that it can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    kem_output_bytes: usize,
    ciphertext_bytes: usize,
}

impl Sealed {
    /// Reads past one.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            kem_output_bytes: reader.vector("KEM output", KEY_BYTES_MAX)?.len(),
            ciphertext_bytes: reader.vector("ciphertext", SECRET_BYTES_MAX)?.len(),
        })
    }

    /// Whether it has the lengths of a ciphertext of so many bytes in the suite.
    pub(crate) fn fits(self, suite: &Suite, ciphertext_bytes: usize) -> bool {
        self.kem_output_bytes == suite.kem_output_bytes()
            && self.ciphertext_bytes == ciphertext_bytes
    }
}
