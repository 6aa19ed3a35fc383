//! Leaves of the ratchet tree: reading them, and the checks that need nothing but the leaf.
//!
//! Source: RFC 9420, sections 7.2 and 7.3.

use super::{
    bounds::KEY_BYTES_MAX,
    credential,
    extension::{self, Extension, Place, is_default},
    reader::{Reader, Unreadable, put_vector},
    suite::{MLS_10, Suite},
};
use crate::{ids::ClientUri, machine::Millis};

/// Where a leaf comes from; the number is the one on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source<'a> {
    /// 1: out of a KeyPackage, with its lifetime in seconds.
    KeyPackage { not_before_s: u64, not_after_s: u64 },
    /// 2: out of an Update.
    Update,
    /// 3: out of the path of a Commit, with its parent hash.
    Commit { parent_hash: &'a [u8] },
}

/// A leaf, borrowed from the object it was read from.
#[derive(Clone, Debug)]
pub(crate) struct Leaf<'a> {
    /// The whole leaf as encoded.
    pub(crate) encoded: &'a [u8],
    /// What its signature covers, as far as it is inside the leaf.
    signed: &'a [u8],
    pub(crate) encryption_key: &'a [u8],
    pub(crate) signature_key: &'a [u8],
    /// The credential's identity.
    pub(crate) identity: &'a [u8],
    pub(crate) versions: Vec<u16>,
    pub(crate) ciphersuites: Vec<u16>,
    pub(crate) extension_types: Vec<u16>,
    pub(crate) proposal_types: Vec<u16>,
    pub(crate) credential_types: Vec<u16>,
    pub(crate) source: Source<'a>,
    extensions: Vec<Extension<'a>>,
    signature: &'a [u8],
}

impl<'a> Leaf<'a> {
    /// Reads one leaf.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Unreadable> {
        let start = reader.clone();
        let encryption_key = reader.vector("encryption key", KEY_BYTES_MAX)?;
        let signature_key = reader.vector("signature key", KEY_BYTES_MAX)?;
        let identity = credential::read_identity(reader)?;
        let versions = reader.u16_list("versions")?;
        let ciphersuites = reader.u16_list("ciphersuites")?;
        let extension_types = reader.u16_list("extension types")?;
        let proposal_types = reader.u16_list("proposal types")?;
        let credential_types = reader.u16_list("credential types")?;
        let source = match reader.u8()? {
            1 => Source::KeyPackage {
                not_before_s: reader.u64()?,
                not_after_s: reader.u64()?,
            },
            2 => Source::Update,
            3 => Source::Commit {
                parent_hash: reader.vector("parent hash", KEY_BYTES_MAX)?,
            },
            _ => return Err(reader.bad_value("leaf node source").into()),
        };
        let extensions = extension::read_list(reader, Place::Leaf)?;
        let signed = reader.since(&start);
        let signature = reader.vector("signature", KEY_BYTES_MAX)?;
        Ok(Self {
            encoded: reader.since(&start),
            signed,
            encryption_key,
            signature_key,
            identity,
            versions,
            ciphersuites,
            extension_types,
            proposal_types,
            credential_types,
            source,
            extensions,
            signature,
        })
    }

    /// The client that the credential names.
    pub(crate) fn client(&self) -> Option<ClientUri> {
        credential::client_of(self.identity)
    }

    /// Whether it is out of a KeyPackage that is good at this time.
    pub(crate) fn is_good_at(&self, now: Millis) -> bool {
        matches!(self.source, Source::KeyPackage { not_before_s, not_after_s }
            if (not_before_s..not_after_s).contains(&now.as_seconds()))
    }

    /// Whether the client implements this extension type.
    pub(crate) fn supports_extension(&self, kind: u16) -> bool {
        is_default(kind) || self.extension_types.contains(&kind)
    }

    /// Whether the client implements this proposal type.
    pub(crate) fn supports_proposal(&self, kind: u16) -> bool {
        matches!(kind, 1..=7) || self.proposal_types.contains(&kind)
    }

    /// Whether the leaf's own signature is right; `place` is the group and leaf it is made for, unless it is out
    /// of a KeyPackage.
    pub(crate) fn signature_is_right(&self, suite: &Suite, place: Option<(&[u8], u32)>) -> bool {
        let mut tail = Vec::new();
        if let Some((group_id, leaf)) = place {
            put_vector(&mut tail, group_id);
            tail.extend(leaf.to_be_bytes());
        }
        suite.verifies(
            self.signature_key,
            "LeafNodeTBS",
            &[self.signed, &tail],
            self.signature,
        )
    }

    /// What is wrong with the leaf on its own, its signature aside.
    pub(crate) fn flaw(&self, suite: &Suite, suite_number: u16) -> Option<&'static str> {
        let listed = |extension: &Extension<'_>| self.supports_extension(extension.kind);
        if self.client().is_none() {
            Some("credential identity is not the URI of a client")
        } else if !suite.is_encryption_key(self.encryption_key) {
            Some("encryption key is none of the ciphersuite")
        } else if !suite.is_signature_key(self.signature_key) {
            Some("signature key is none of the ciphersuite")
        } else if !self.versions.contains(&MLS_10) {
            Some("capabilities lack MLS 1.0")
        } else if !self.ciphersuites.contains(&suite_number) {
            Some("capabilities lack the ciphersuite in use")
        } else if !self.credential_types.contains(&credential::BASIC) {
            Some("capabilities lack the type of the credential")
        } else if !self.extensions.iter().all(listed) {
            Some("capabilities lack an extension of the leaf")
        } else {
            None
        }
    }

    /// What the group's extensions ask for and this leaf does not offer.
    pub(crate) fn lacks(
        &self,
        context_extensions: &[Extension<'_>],
        required: &extension::Required,
    ) -> Option<&'static str> {
        if !context_extensions
            .iter()
            .all(|extension| self.supports_extension(extension.kind))
        {
            Some("a member does not support an extension of the group")
        } else if !required
            .extensions
            .iter()
            .all(|kind| self.supports_extension(*kind))
        {
            Some("a member lacks a required extension")
        } else if !required
            .proposals
            .iter()
            .all(|kind| self.supports_proposal(*kind))
        {
            Some("a member lacks a required proposal type")
        } else if !required
            .credentials
            .iter()
            .all(|kind| self.credential_types.contains(kind))
        {
            Some("a member lacks a required credential type")
        } else {
            None
        }
    }
}
