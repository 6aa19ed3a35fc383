//! GroupInfo: reading it, and the checks that do not depend on where it came from.
//!
//! Source: RFC 9420, section 12.4.3; transport requirements, section 3.3.

use super::{
    bounds::KEY_BYTES_MAX,
    context::Context,
    extension::{self, Extension, Place},
    framing::read_wire_format,
    reader::{Reader, Unreadable},
    suite::{DIGEST_BYTES, Suite},
};
use crate::limits::GROUP_INFO_BYTES_MAX;
use bytes::Bytes;

/// Wire format of a GroupInfo.
const WIRE_FORMAT: u16 = 4;

/// A GroupInfo, borrowed from the message it was read from.
pub(crate) struct GroupInfo<'a> {
    pub(crate) context: Context<'a>,
    extensions: Vec<Extension<'a>>,
    pub(crate) confirmation_tag: &'a [u8],
    pub(crate) signer: u32,
    signed: &'a [u8],
    signature: &'a [u8],
}

impl<'a> GroupInfo<'a> {
    /// Reads a whole MLSMessage that holds a GroupInfo.
    pub(crate) fn read(message: &'a [u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::bounded(message, "GroupInfo", GROUP_INFO_BYTES_MAX)?;
        if read_wire_format(&mut reader)? != WIRE_FORMAT {
            return Err(reader.bad_value("wire format").into());
        }
        let start = reader.clone();
        let context = Context::read(&mut reader)?;
        let extensions = extension::read_list(&mut reader, Place::GroupInfo)?;
        let confirmation_tag = reader.vector("confirmation tag", KEY_BYTES_MAX)?;
        let signer = reader.u32()?;
        let signed = reader.since(&start);
        let signature = reader.vector("signature", KEY_BYTES_MAX)?;
        reader.finish()?;
        Ok(Self {
            context,
            extensions,
            confirmation_tag,
            signer,
            signed,
            signature,
        })
    }

    /// The field that no GroupInfo at a hub may have as this one has it, if there is one.
    pub(crate) fn flaw(&self, suite: &Suite) -> Option<&'static str> {
        let external_pub =
            extension::find(&self.extensions, extension::EXTERNAL_PUB).and_then(|content| {
                Reader::new(content)
                    .vector("external_pub", KEY_BYTES_MAX)
                    .ok()
            });
        if self.confirmation_tag.len() != DIGEST_BYTES {
            Some("confirmation_tag")
        } else if extension::find(&self.extensions, extension::RATCHET_TREE).is_some() {
            Some("ratchet_tree")
        } else if !external_pub.is_some_and(|key| suite.is_encryption_key(key)) {
            Some("external_pub")
        } else {
            None
        }
    }

    /// Whether it is signed with this key.
    pub(crate) fn signature_is_right(&self, suite: &Suite, signature_key: &[u8]) -> bool {
        suite.verifies(
            signature_key,
            "GroupInfoTBS",
            &[self.signed],
            self.signature,
        )
    }
}

/// The id of the group that a GroupInfo is of, as the message says; nothing is checked.
///
/// # Errors
/// [`Unreadable`] when the message holds no GroupInfo.
pub fn group_id(message: &[u8]) -> Result<&[u8], Unreadable> {
    Ok(GroupInfo::read(message)?.context.group_id)
}

/// The signature keys of those outside the group who may propose, as the GroupInfo of a message says.
///
/// # Errors
/// [`Unreadable`] when the message holds no GroupInfo.
pub fn external_sender_keys(message: &[u8]) -> Result<Vec<Bytes>, Unreadable> {
    let info = GroupInfo::read(message)?;
    let keys = extension::external_sender_keys(&info.context.extensions.list)?;
    Ok(keys.into_iter().map(Bytes::copy_from_slice).collect())
}
