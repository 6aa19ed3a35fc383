//! Headers of MLS messages: enough to route a message, and to refuse it early.
//!
//! Source: RFC 9420, section 6; transport requirements, section 4.

use super::{
    bounds::SECRET_BYTES_MAX,
    framing,
    reader::{Malformed, Reader, Unreadable},
    welcome::Welcome,
};
use crate::limits::{
    AUTHENTICATED_DATA_BYTES_MAX, COMMIT_BYTES_MAX, GROUP_ID_BYTES_MAX, MESSAGE_BYTES_MAX,
};
use bytes::Bytes;

/// What the hub can see of an application message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationHeader {
    /// The group it is for.
    pub group_id: Bytes,
    /// The epoch it was made in.
    pub epoch: u64,
}

/// Reads a PrivateMessage that carries an application message, to its end.
///
/// # Errors
/// [`Malformed`] when it is anything else.
pub fn application_header(message: &Bytes) -> Result<ApplicationHeader, Malformed> {
    const APPLICATION: u8 = 1;
    let mut reader = Reader::bounded(message, "application message", MESSAGE_BYTES_MAX)?;
    if reader.u16()? != super::suite::MLS_10 {
        return Err(reader.bad_value("protocol version"));
    }
    if reader.u16()? != framing::PRIVATE_MESSAGE {
        return Err(reader.bad_value("wire format"));
    }
    let group_id = message.slice_ref(reader.vector("group id", GROUP_ID_BYTES_MAX)?);
    let epoch = reader.u64()?;
    if reader.u8()? != APPLICATION {
        return Err(reader.bad_value("content type"));
    }
    reader.vector("authenticated data", AUTHENTICATED_DATA_BYTES_MAX)?;
    reader.vector("encrypted sender data", SECRET_BYTES_MAX)?;
    reader.vector("ciphertext", MESSAGE_BYTES_MAX)?;
    reader.finish()?;
    Ok(ApplicationHeader { group_id, epoch })
}

/// What a PublicMessage carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeKind {
    /// A Proposal.
    Proposal,
    /// A Commit.
    Commit,
}

/// Who sent a PublicMessage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The member at this leaf.
    Member(u32),
    /// The external sender with this number in the group's list.
    External(u32),
    /// A client that proposes to add itself.
    NewMemberProposal,
    /// A client that adds itself.
    NewMemberCommit,
}

/// What stands in front of a Proposal or a Commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeHeader {
    /// The group it is for.
    pub group_id: Bytes,
    /// The epoch it was made in.
    pub epoch: u64,
    /// Who says that it sent it.
    pub sender: Sender,
    /// What follows.
    pub kind: HandshakeKind,
}

/// Reads the header of a PublicMessage. What follows the header is not looked at.
///
/// # Errors
/// [`Unreadable::Unsupported`] for a handshake in a PrivateMessage, [`Unreadable::Malformed`] for anything else
/// that is not a PublicMessage with a Proposal or a Commit.
pub fn handshake_header(message: &Bytes) -> Result<HandshakeHeader, Unreadable> {
    framing::read_header(&mut Reader::bounded(
        message,
        "handshake message",
        COMMIT_BYTES_MAX,
    )?)
}

/// The KeyPackageRefs that a Welcome is for, in its order. The Welcome is read to its end.
///
/// # Errors
/// [`Malformed`] when it is not a well-formed Welcome.
pub fn welcome_references(welcome: &Bytes) -> Result<Vec<Bytes>, Malformed> {
    let welcome = Welcome::read(welcome)?;
    Ok(welcome
        .references
        .into_iter()
        .map(Bytes::copy_from_slice)
        .collect())
}
