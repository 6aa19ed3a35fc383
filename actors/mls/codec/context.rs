//! The GroupContext: reading one, and the one of the next epoch.
//!
//! Source: RFC 9420, section 8.1.

use super::{
    bounds::KEY_BYTES_MAX,
    commit::ContextExtensions,
    reader::{Reader, Unreadable, put_vector},
    suite::{Digest, MLS_10},
};
use crate::limits::GROUP_ID_BYTES_MAX;

/// A GroupContext, borrowed from the object it was read from.
#[derive(Clone, Debug)]
pub(crate) struct Context<'a> {
    /// The GroupContext as encoded.
    pub(crate) encoded: &'a [u8],
    pub(crate) ciphersuite: u16,
    pub(crate) group_id: &'a [u8],
    pub(crate) epoch: u64,
    pub(crate) tree_hash: &'a [u8],
    pub(crate) confirmed_transcript_hash: &'a [u8],
    pub(crate) extensions: ContextExtensions<'a>,
}

impl<'a> Context<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Unreadable> {
        let start = reader.clone();
        if reader.u16()? != MLS_10 {
            return Err(Unreadable::Unsupported("protocol version"));
        }
        let ciphersuite = reader.u16()?;
        let group_id = reader.vector("group id", GROUP_ID_BYTES_MAX)?;
        let epoch = reader.u64()?;
        let tree_hash = reader.vector("tree hash", KEY_BYTES_MAX)?;
        let confirmed_transcript_hash =
            reader.vector("confirmed transcript hash", KEY_BYTES_MAX)?;
        let extensions = ContextExtensions::read(reader)?;
        let encoded = reader.since(&start);
        Ok(Self {
            encoded,
            ciphersuite,
            group_id,
            epoch,
            tree_hash,
            confirmed_transcript_hash,
            extensions,
        })
    }

    /// The GroupContext of the next epoch, encoded.
    pub(crate) fn next(
        &self,
        epoch: u64,
        tree_hash: &Digest,
        confirmed: &Digest,
        extensions: &[u8],
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded.len() + 64);
        out.extend(MLS_10.to_be_bytes());
        out.extend(self.ciphersuite.to_be_bytes());
        put_vector(&mut out, self.group_id);
        out.extend(epoch.to_be_bytes());
        put_vector(&mut out, tree_hash);
        put_vector(&mut out, confirmed);
        out.extend_from_slice(extensions);
        out
    }
}
