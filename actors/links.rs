//! Links that lead into a room, or to a user: an identifier and, perhaps, a code.
//!
//! Forms: `mimi://P/r/ROOM` only locates the room; `mimi://P/r/ROOM?code=CODE` also admits to it, where `CODE` is
//! base64url without padding. `mimi://P/i/CODE` introduces a user of the provider. Like identifiers they have one
//! spelling: what is not canonical is refused, never mended.
//!
//! Source: transport requirements, section 7.3.

use crate::{
    ids::{BadIdentifier, ProviderId, RoomUri},
    limits::{CODE_BYTES_MAX, URI_BYTES_MAX},
    wire::Payload,
};
use std::{fmt, str::FromStr};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Longest link, in bytes.
const LINK_BYTES_MAX: usize = URI_BYTES_MAX + "?code=".len() + CODE_BYTES_MAX.div_ceil(3) * 4;

/// Why a text is not a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLink {
    /// What it leads to is not an identifier.
    #[error(transparent)]
    Identifier(#[from] BadIdentifier),
    /// What follows the identifier is not `?code=` and a code.
    #[error("a link ends after the identifier, or goes on with ?code=CODE")]
    Query,
    /// The code is not base64url without padding, of one byte to the most that a code may have.
    #[error("the code is not base64url without padding, or too long")]
    Code,
}

/// A link into a room.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinLink {
    /// The room.
    pub room: RoomUri,
    /// The code that admits to it; absent in a link that only locates the room.
    pub code: Option<Payload>,
}

impl FromStr for JoinLink {
    type Err = BadLink;
    fn from_str(link: &str) -> Result<Self, BadLink> {
        if link.len() > LINK_BYTES_MAX {
            return Err(BadLink::Code);
        }
        let Some((room, query)) = link.split_once('?') else {
            return Ok(Self {
                room: link.parse()?,
                code: None,
            });
        };
        let code = query.strip_prefix("code=").ok_or(BadLink::Query)?;
        Ok(Self {
            room: room.parse()?,
            code: Some(read_code(code)?),
        })
    }
}

impl fmt::Display for JoinLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.room.fmt(f)?;
        match &self.code {
            Some(code) => write!(f, "?code={}", code_text(code)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for JoinLink {
    /// Without the code: what is logged admits nobody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = if self.code.is_some() { "?code=…" } else { "" };
        write!(f, "{}{code}", self.room)
    }
}

/// A link that introduces a user, whose name is in the code.
#[derive(Clone, PartialEq, Eq)]
pub struct IntroductionLink {
    /// The user's provider.
    pub provider: ProviderId,
    /// The code.
    pub code: Payload,
}

impl FromStr for IntroductionLink {
    type Err = BadLink;
    fn from_str(link: &str) -> Result<Self, BadLink> {
        if link.len() > LINK_BYTES_MAX {
            return Err(BadLink::Code);
        }
        let rest = link.strip_prefix("mimi://").ok_or(BadIdentifier::Scheme)?;
        let (provider, code) = rest.split_once("/i/").ok_or(BadIdentifier::Path {
            expected: "mimi://PROVIDER/i/CODE",
        })?;
        Ok(Self {
            provider: provider.parse()?,
            code: read_code(code)?,
        })
    }
}

impl fmt::Display for IntroductionLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mimi://{}/i/{}", self.provider, code_text(&self.code))
    }
}

impl fmt::Debug for IntroductionLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mimi://{}/i/…", self.provider)
    }
}

/// Base64url without padding.
fn code_text(code: &[u8]) -> String {
    let mut text = String::with_capacity(code.len().div_ceil(3) * 4);
    for chunk in code.chunks(3) {
        let bits = chunk
            .iter()
            .chain([0_u8, 0].iter())
            .take(3)
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..=chunk.len() {
            let six = (bits >> (18 - 6 * place)) & 0x3f;
            let letter = usize::try_from(six).ok().and_then(|six| ALPHABET.get(six));
            text.push(letter.map_or('A', |letter| char::from(*letter)));
        }
    }
    text
}

/// Reads base64url: no padding, and no bits left over that are not zero.
fn read_code(text: &str) -> Result<Payload, BadLink> {
    let mut code = Vec::with_capacity(text.len() / 4 * 3 + 2);
    for chunk in text.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for letter in chunk {
            let six = ALPHABET.iter().position(|known| known == letter);
            let six = six.and_then(|six| u32::try_from(six).ok());
            bits = bits << 6 | six.ok_or(BadLink::Code)?;
        }
        let (bytes, unused) = match chunk.len() {
            4 => (3, 0),
            3 => (2, 2),
            2 => (1, 4),
            _ => return Err(BadLink::Code),
        };
        if bits & ((1 << unused) - 1) != 0 {
            return Err(BadLink::Code);
        }
        let whole = (bits >> unused).to_be_bytes();
        code.extend(whole.get(4 - bytes..).unwrap_or_default());
    }
    if code.is_empty() || code.len() > CODE_BYTES_MAX {
        return Err(BadLink::Code);
    }
    Ok(code.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn link(text: &str) -> Result<JoinLink, BadLink> {
        text.parse()
    }

    #[test]
    fn a_link_reads_back_as_it_was_written() {
        for (text, code) in [
            ("mimi://a.example/r/club", None),
            ("mimi://a.example/r/club?code=AA", Some(&b"\0"[..])),
            ("mimi://a.example/r/club?code=-_8", Some(&b"\xfb\xff"[..])),
            ("mimi://a.example/r/club?code=Zm9v", Some(&b"foo"[..])),
            ("mimi://a.example/r/club?code=Zm9vYg", Some(&b"foob"[..])),
        ] {
            let read = link(text).unwrap();
            assert_eq!(read.code.as_ref().map(|code| &code[..]), code);
            assert_eq!(read.room.to_string(), "mimi://a.example/r/club");
            assert_eq!(read.to_string(), text);
        }
        let introduction: IntroductionLink = "mimi://a.example/i/Zm9v".parse().unwrap();
        assert_eq!(introduction.to_string(), "mimi://a.example/i/Zm9v");
    }

    #[test]
    fn a_second_spelling_is_refused() {
        for text in [
            "mimi://a.example/r/club?",
            "mimi://a.example/r/club?code",
            "mimi://a.example/r/club?code=",
            "mimi://a.example/r/club?Code=Zm9v",
            "mimi://a.example/r/club?code=Zm9v&x=1",
            "mimi://a.example/r/club?x=1&code=Zm9v",
            "mimi://a.example/r/club?code=Zm9v?code=Zm9v",
            "mimi://a.example/r/club?code=Zm9vYg==",
            "mimi://a.example/r/club?code=Zm9vYh",
            "mimi://a.example/r/club?code=Z",
            "mimi://a.example/r/club?code=Zm9 ",
            "mimi://a.example/r/club?code=Zm+/",
            "mimi://a.example/r/club?code=Zm9v#x",
            "mimi://a.example/r/club?code=%5a",
            "mimi://A.example/r/club?code=Zm9v",
            "mimi://a.example/u/alice?code=Zm9v",
            "mimi://a.example/r/club/?code=Zm9v",
            " mimi://a.example/r/club",
        ] {
            assert!(link(text).is_err(), "{text:?} was accepted");
        }
        for text in [
            "mimi://a.example/i/",
            "mimi://a.example/r/Zm9v",
            "x://a.example/i/Zm9v",
        ] {
            assert!(
                text.parse::<IntroductionLink>().is_err(),
                "{text:?} was accepted"
            );
        }
        let long = format!("mimi://a.example/r/club?code={}", "A".repeat(1_368));
        assert_eq!(link(&long), Err(BadLink::Code));
    }

    #[test]
    fn what_is_logged_of_a_link_admits_nobody() {
        let read = link("mimi://a.example/r/club?code=Zm9v").unwrap();
        assert_eq!(format!("{read:?}"), "mimi://a.example/r/club?code=…");
    }

    proptest! {
        #[test]
        fn every_code_has_one_text_and_every_text_one_code(code in proptest::collection::vec(any::<u8>(), 1..200), text in "[A-Za-z0-9_=-]{1,20}") {
            prop_assert_eq!(&read_code(&code_text(&code)).unwrap()[..], &code[..]);
            if let Ok(code) = read_code(&text) { prop_assert_eq!(code_text(&code), text); }
        }
    }
}
