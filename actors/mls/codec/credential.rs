//! Credentials: a basic credential whose identity is exactly the client's URI.
//!
//! Source: transport requirements, section 2; RFC 9420, section 5.3.

use super::reader::{Reader, Unreadable};
use crate::{ids::ClientUri, limits::URI_BYTES_MAX};

/// The number of the basic credential type.
pub const BASIC: u16 = 1;

/// Reads a credential and gives its identity.
///
/// # Errors
/// [`Unreadable::Unsupported`] for any type but the basic one, [`Unreadable::Malformed`] when it is broken.
pub fn read_identity<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Unreadable> {
    if reader.u16()? != BASIC {
        return Err(Unreadable::Unsupported("credential that is not basic"));
    }
    Ok(reader.vector("credential identity", URI_BYTES_MAX)?)
}

/// The client that an identity names, if it is exactly a client's URI.
#[must_use]
pub fn client_of(identity: &[u8]) -> Option<ClientUri> {
    std::str::from_utf8(identity).ok()?.parse().ok()
}

/// The identity of a client's credential.
#[must_use]
pub fn identity_of(client: &ClientUri) -> Vec<u8> {
    client.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_the_uri_and_nothing_else() {
        let client: ClientUri = "mimi://a.example/d/alice/phone".parse().unwrap();
        assert_eq!(client_of(&identity_of(&client)), Some(client));
        for identity in [
            &b"mimi://a.example/u/alice"[..],
            b"alice",
            b"",
            b"\xff",
            b"mimi://a.example/d/alice/phone ",
        ] {
            assert_eq!(client_of(identity), None);
        }
    }
}
