//! KeyPackages: reading one, and what is wrong with it by itself.
//!
//! Source: RFC 9420, sections 10 and 13.5.

use super::{
    bounds::KEY_BYTES_MAX,
    extension::{self, Extension, Place, is_grease},
    leaf::{Leaf, Source},
    reader::{Malformed, Reader, Unreadable},
    suite::{Digest, MLS_10, Suite},
};
use crate::limits::KEY_PACKAGE_BYTES_MAX;

/// The wire format of a KeyPackage inside an MLSMessage.
const WIRE_FORMAT: u16 = 5;

/// A KeyPackage, borrowed from the object it was read from.
#[derive(Clone, Debug)]
pub(crate) struct KeyPackage<'a> {
    /// The bare KeyPackage as encoded, without the MLSMessage around it.
    pub(crate) encoded: &'a [u8],
    signed: &'a [u8],
    pub(crate) version: u16,
    pub(crate) ciphersuite: u16,
    pub(crate) init_key: &'a [u8],
    pub(crate) leaf: Leaf<'a>,
    pub(crate) extensions: Vec<Extension<'a>>,
    signature: &'a [u8],
}

impl<'a> KeyPackage<'a> {
    /// Reads one bare KeyPackage.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Unreadable> {
        let start = reader.clone();
        let version = reader.u16()?;
        let ciphersuite = reader.u16()?;
        let init_key = reader.vector("init key", KEY_BYTES_MAX)?;
        let leaf = Leaf::read(reader)?;
        let extensions = extension::read_list(reader, Place::KeyPackage)?;
        let signed = reader.since(&start);
        let signature = reader.vector("signature", KEY_BYTES_MAX)?;
        let encoded = reader.since(&start);
        if encoded.len() > KEY_PACKAGE_BYTES_MAX {
            let (bytes, max) = (encoded.len(), KEY_PACKAGE_BYTES_MAX);
            return Err(Malformed::TooLarge {
                what: "KeyPackage",
                bytes,
                max,
            }
            .into());
        }
        Ok(Self {
            encoded,
            signed,
            version,
            ciphersuite,
            init_key,
            leaf,
            extensions,
            signature,
        })
    }

    /// Reads a whole MLSMessage that holds a KeyPackage.
    pub(crate) fn read_message(reader: &mut Reader<'a>) -> Result<Self, Unreadable> {
        if reader.u16()? != MLS_10 {
            return Err(Unreadable::Unsupported("protocol version"));
        }
        if reader.u16()? != WIRE_FORMAT {
            return Err(reader.bad_value("wire format").into());
        }
        let package = Self::read(reader)?;
        reader.finish()?;
        Ok(package)
    }

    /// The KeyPackageRef.
    pub(crate) fn reference(&self, suite: &Suite) -> Digest {
        suite.reference("MLS 1.0 KeyPackage Reference", self.encoded)
    }

    /// What is wrong with the package on its own, its lifetime aside.
    pub(crate) fn flaw(&self, suite: &Suite) -> Option<&'static str> {
        // mls-rs lists GREASE of its leaf, as section 13.5 asks, and not that of its KeyPackage, which means nothing.
        let listed = |extension: &Extension<'_>| {
            is_grease(extension.kind) || self.leaf.supports_extension(extension.kind)
        };
        if self.version != MLS_10 {
            Some("version is not MLS 1.0")
        } else if !matches!(self.leaf.source, Source::KeyPackage { .. }) {
            Some("leaf is not one of a KeyPackage")
        } else if self.init_key == self.leaf.encryption_key {
            Some("init key and encryption key are the same")
        } else if !suite.is_encryption_key(self.init_key) {
            Some("init key is none of the ciphersuite")
        } else if !self.extensions.iter().all(listed) {
            Some("capabilities lack an extension of the KeyPackage")
        } else {
            self.leaf.flaw(suite, self.ciphersuite)
        }
    }

    /// Which of the two signatures is wrong, if one is.
    pub(crate) fn wrong_signature(&self, suite: &Suite) -> Option<&'static str> {
        if !self.leaf.signature_is_right(suite, None) {
            return Some("leaf");
        }
        let right = suite.verifies(
            self.leaf.signature_key,
            "KeyPackageTBS",
            &[self.signed],
            self.signature,
        );
        (!right).then_some("KeyPackage")
    }
}
