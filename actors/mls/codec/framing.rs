//! PublicMessages: what is around a Proposal or a Commit, and what its signature and hashes cover.
//!
//! Source: RFC 9420, sections 6.1, 6.2 and 8.2.

use super::{
    bounds::KEY_BYTES_MAX,
    message::{HandshakeHeader, HandshakeKind, Sender},
    reader::{Reader, Unreadable, put_vector},
    suite::{Digest, MLS_10, Suite},
};
use crate::limits::{AUTHENTICATED_DATA_BYTES_MAX, GROUP_ID_BYTES_MAX};
use bytes::Bytes;

/// Wire format of a PublicMessage.
pub(crate) const PUBLIC_MESSAGE: u16 = 1;
/// Wire format of a PrivateMessage.
pub(crate) const PRIVATE_MESSAGE: u16 = 2;

/// Reads the version and the wire format of an MLSMessage.
pub(crate) fn read_wire_format(reader: &mut Reader<'_>) -> Result<u16, Unreadable> {
    if reader.u16()? != MLS_10 {
        return Err(Unreadable::Unsupported("protocol version"));
    }
    Ok(reader.u16()?)
}

/// Reads an MLSMessage down to the content type of its PublicMessage.
pub(crate) fn read_header(reader: &mut Reader<'_>) -> Result<HandshakeHeader, Unreadable> {
    match read_wire_format(reader)? {
        PUBLIC_MESSAGE => {}
        PRIVATE_MESSAGE => return Err(Unreadable::Unsupported("encrypted handshake message")),
        _ => return Err(reader.bad_value("wire format").into()),
    }
    let group_id = Bytes::copy_from_slice(reader.vector("group id", GROUP_ID_BYTES_MAX)?);
    let epoch = reader.u64()?;
    let sender = match reader.u8()? {
        1 => Sender::Member(reader.u32()?),
        2 => Sender::External(reader.u32()?),
        3 => Sender::NewMemberProposal,
        4 => Sender::NewMemberCommit,
        _ => return Err(reader.bad_value("sender type").into()),
    };
    reader.vector("authenticated data", AUTHENTICATED_DATA_BYTES_MAX)?;
    let kind = match reader.u8()? {
        2 => HandshakeKind::Proposal,
        3 => HandshakeKind::Commit,
        _ => return Err(reader.bad_value("content type").into()),
    };
    Ok(HandshakeHeader {
        group_id,
        epoch,
        sender,
        kind,
    })
}

/// A PublicMessage and what was read from it.
pub(crate) struct Framed<'a, T> {
    /// The Proposal or the Commit.
    pub(crate) body: T,
    /// The confirmation tag of a Commit.
    pub(crate) confirmation_tag: Option<&'a [u8]>,
    /// Version, wire format and FramedContent.
    content: &'a [u8],
    /// Wire format, FramedContent and signature with its length.
    transcript: &'a [u8],
    /// Wire format, FramedContent, signature and confirmation tag.
    authenticated: &'a [u8],
    signature: &'a [u8],
}

impl<'a, T> Framed<'a, T> {
    /// Reads a whole MLSMessage of at most `max` bytes whose content is of this kind.
    pub(crate) fn read(
        message: &'a [u8],
        kind: HandshakeKind,
        max: usize,
        body: impl FnOnce(&mut Reader<'a>) -> Result<T, Unreadable>,
    ) -> Result<Self, Unreadable> {
        let what = match kind {
            HandshakeKind::Proposal => "Proposal",
            HandshakeKind::Commit => "Commit",
        };
        let mut reader = Reader::bounded(message, what, max)?;
        let start = reader.clone();
        let header = read_header(&mut reader)?;
        if header.kind != kind {
            return Err(reader.bad_value("content type").into());
        }
        let body = body(&mut reader)?;
        let content = reader.since(&start);
        let signature = reader.vector("signature", KEY_BYTES_MAX)?;
        let transcript = without_version(reader.since(&start));
        let confirmation_tag = match kind {
            HandshakeKind::Commit => Some(reader.vector("confirmation tag", KEY_BYTES_MAX)?),
            HandshakeKind::Proposal => None,
        };
        let authenticated = without_version(reader.since(&start));
        if matches!(header.sender, Sender::Member(_)) {
            reader.vector("membership tag", KEY_BYTES_MAX)?;
        }
        reader.finish()?;
        Ok(Self {
            body,
            confirmation_tag,
            content,
            transcript,
            authenticated,
            signature,
        })
    }

    /// Whether the signature of a member is right, made in the epoch with this GroupContext.
    pub(crate) fn signature_is_right(
        &self,
        suite: &Suite,
        signature_key: &[u8],
        group_context: &[u8],
    ) -> bool {
        suite.verifies(
            signature_key,
            "FramedContentTBS",
            &[self.content, group_context],
            self.signature,
        )
    }

    /// The ProposalRef.
    pub(crate) fn reference(&self, suite: &Suite) -> Digest {
        suite.reference("MLS 1.0 Proposal Reference", self.authenticated)
    }

    /// The confirmed transcript hash after this Commit.
    pub(crate) fn confirmed_transcript_hash(&self, suite: &Suite, interim: &[u8]) -> Digest {
        suite.hash(&[interim, self.transcript].concat())
    }
}

/// The interim transcript hash of the epoch with this confirmed transcript hash and confirmation tag.
pub(crate) fn interim_transcript_hash(
    suite: &Suite,
    confirmed: &[u8],
    confirmation_tag: &[u8],
) -> Digest {
    let mut input = confirmed.to_vec();
    put_vector(&mut input, confirmation_tag);
    suite.hash(&input)
}

fn without_version(message: &[u8]) -> &[u8] {
    message.get(2..).unwrap_or_default()
}
