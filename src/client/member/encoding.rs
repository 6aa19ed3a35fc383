//! What OpenMLS gives and takes, as the bytes that go to the hub.

use super::{MemberError, mls};
use mimi_actors::wire::Payload;
use openmls::{
    prelude::{
        MlsMessageIn, MlsMessageOut, ProtocolMessage,
        tls_codec::{DeserializeBytes, Serialize as _},
    },
    treesync::RatchetTree,
};

/// A handshake or application message out of its bytes.
pub(super) fn protocol_message(bytes: &Payload) -> Result<ProtocolMessage, MemberError> {
    MlsMessageIn::tls_deserialize_exact_bytes(bytes)
        .map_err(mls("decode an MLSMessage"))?
        .try_into_protocol_message()
        .map_err(mls("decode an MLSMessage"))
}

/// An MLSMessage as bytes.
pub(super) fn message(message: &MlsMessageOut) -> Result<Payload, MemberError> {
    message
        .to_bytes()
        .map(Payload::from)
        .map_err(mls("encode an MLSMessage"))
}

/// A ratchet tree as the bare vector of RFC 9420.
pub(super) fn tree(tree: &RatchetTree) -> Result<Payload, MemberError> {
    tree.tls_serialize_detached()
        .map(Payload::from)
        .map_err(mls("encode a ratchet tree"))
}
