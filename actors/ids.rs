//! Identifiers: providers, users, clients and rooms, and the one parser of `mimi://` URIs.
//!
//! Owns: what an identifier may look like. Promises: canonical lower-case ASCII; what is not canonical is
//! refused, never mended, so two spellings of one identifier do not exist. Not here: who may use which identifier.
//!
//! Forms: `mimi://P/u/USER`, `mimi://P/p/PSEUDONYM`, `mimi://P/d/USER/CLIENT`, `mimi://P/r/ROOM`, where `P` is the
//! provider's domain.
//!
//! Source: MIMI protocol draft, section on identifiers; transport requirements, section 2.

use crate::limits::{DOMAIN_BYTES_MAX, DOMAIN_LABEL_BYTES_MAX, SEGMENT_BYTES_MAX, URI_BYTES_MAX};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, marker::PhantomData, str::FromStr, sync::Arc};

/// Why a string is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadIdentifier {
    /// Longer than any identifier may be.
    #[error("identifier is {bytes} bytes long, the limit is {max}")]
    TooLong {
        /// Length found, in bytes.
        bytes: usize,
        /// Longest accepted, in bytes.
        max: usize,
    },
    /// The URI does not begin with `mimi://`.
    #[error("identifier does not begin with mimi://")]
    Scheme,
    /// The provider is not a canonical domain name (lower-case labels, no port, no address, no trailing dot).
    #[error("provider is not a lower-case domain name such as a.example")]
    Domain,
    /// The path is not the one of the kind asked for.
    #[error("path is not {expected}")]
    Path {
        /// The form that was expected.
        expected: &'static str,
    },
    /// A name has a character outside `a-z 0-9 - . _ ~`, is empty, too long, `.` or `..`.
    #[error("a name may hold a-z 0-9 - . _ ~ and at most {max} bytes", max = SEGMENT_BYTES_MAX)]
    Name,
}

fn check_domain(domain: &str) -> Result<(), BadIdentifier> {
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= DOMAIN_LABEL_BYTES_MAX
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let mut labels = domain.split('.');
    let last = labels.next_back().unwrap_or_default();
    let numeric_tail = last.bytes().all(|b| b.is_ascii_digit());
    let several = domain.contains('.');
    if domain.len() > DOMAIN_BYTES_MAX
        || !several
        || numeric_tail
        || !domain.split('.').all(label_ok)
    {
        return Err(BadIdentifier::Domain);
    }
    Ok(())
}

fn check_segment(segment: &str) -> Result<(), BadIdentifier> {
    let char_ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._~".contains(&b);
    let dots = segment == "." || segment == "..";
    if segment.is_empty()
        || segment.len() > SEGMENT_BYTES_MAX
        || dots
        || !segment.bytes().all(char_ok)
    {
        return Err(BadIdentifier::Name);
    }
    Ok(())
}

/// Splits `mimi://P/KIND/REST` after checking length, scheme and domain.
fn split<'a>(
    uri: &'a str,
    kind: &str,
    expected: &'static str,
) -> Result<(ProviderId, &'a str), BadIdentifier> {
    if uri.len() > URI_BYTES_MAX {
        return Err(BadIdentifier::TooLong {
            bytes: uri.len(),
            max: URI_BYTES_MAX,
        });
    }
    let rest = uri.strip_prefix("mimi://").ok_or(BadIdentifier::Scheme)?;
    let (domain, path) = rest
        .split_once('/')
        .ok_or(BadIdentifier::Path { expected })?;
    let provider = ProviderId::from_str(domain)?;
    let names = path
        .strip_prefix(kind)
        .and_then(|names| names.strip_prefix('/'))
        .ok_or(BadIdentifier::Path { expected })?;
    Ok((provider, names))
}

/// A provider: its domain name, for example `a.example`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderId(Arc<str>);

impl ProviderId {
    /// The domain name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProviderId {
    type Err = BadIdentifier;
    fn from_str(domain: &str) -> Result<Self, BadIdentifier> {
        check_domain(domain)?;
        Ok(Self(domain.into()))
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user of a provider: `mimi://P/u/USER`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserUri {
    provider: ProviderId,
    user: Arc<str>,
}

impl UserUri {
    /// Builds the URI from its parts.
    ///
    /// # Errors
    /// [`BadIdentifier::Name`] when `user` is not a canonical name.
    pub fn new(provider: &ProviderId, user: &str) -> Result<Self, BadIdentifier> {
        check_segment(user)?;
        Ok(Self {
            provider: provider.clone(),
            user: user.into(),
        })
    }

    /// The provider whose user this is.
    #[must_use]
    pub fn provider(&self) -> &ProviderId {
        &self.provider
    }

    /// The name of the user at its provider.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }
}

impl FromStr for UserUri {
    type Err = BadIdentifier;
    fn from_str(uri: &str) -> Result<Self, BadIdentifier> {
        let (provider, user) = split(uri, "u", "mimi://PROVIDER/u/USER")?;
        Self::new(&provider, user)
    }
}

impl fmt::Display for UserUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mimi://{}/u/{}", self.provider, self.user)
    }
}

/// A name under which a user of a provider may ask without saying who it is: `mimi://P/p/PSEUDONYM`.
///
/// The name is the BLAKE3 hash, in hexadecimal digits, of the key that signs for it: whoever signs with that key owns it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PseudonymUri {
    provider: ProviderId,
    name: Arc<str>,
}

impl PseudonymUri {
    /// Builds the URI from its parts.
    ///
    /// # Errors
    /// [`BadIdentifier::Name`] when `name` is not a canonical name.
    pub fn new(provider: &ProviderId, name: &str) -> Result<Self, BadIdentifier> {
        check_segment(name)?;
        Ok(Self {
            provider: provider.clone(),
            name: name.into(),
        })
    }

    /// The provider at which it is used.
    #[must_use]
    pub fn provider(&self) -> &ProviderId {
        &self.provider
    }

    /// The name at its provider.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for PseudonymUri {
    type Err = BadIdentifier;
    fn from_str(uri: &str) -> Result<Self, BadIdentifier> {
        let (provider, name) = split(uri, "p", "mimi://PROVIDER/p/PSEUDONYM")?;
        Self::new(&provider, name)
    }
}

impl fmt::Display for PseudonymUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mimi://{}/p/{}", self.provider, self.name)
    }
}

/// Somebody who asks for KeyPackages: a user, or whoever uses a pseudonym.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Requester {
    /// A user by its name.
    User(UserUri),
    /// A user that does not say which.
    Pseudonym(PseudonymUri),
}

impl Requester {
    /// The provider that speaks for it.
    #[must_use]
    pub fn provider(&self) -> &ProviderId {
        match self {
            Self::User(user) => user.provider(),
            Self::Pseudonym(pseudonym) => pseudonym.provider(),
        }
    }

    /// The user, if it says which.
    #[must_use]
    pub fn user(&self) -> Option<&UserUri> {
        match self {
            Self::User(user) => Some(user),
            Self::Pseudonym(_) => None,
        }
    }
}

impl From<UserUri> for Requester {
    fn from(user: UserUri) -> Self {
        Self::User(user)
    }
}

impl From<PseudonymUri> for Requester {
    fn from(pseudonym: PseudonymUri) -> Self {
        Self::Pseudonym(pseudonym)
    }
}

impl FromStr for Requester {
    type Err = BadIdentifier;
    fn from_str(uri: &str) -> Result<Self, BadIdentifier> {
        let pseudonym = PseudonymUri::from_str(uri).map(Self::Pseudonym);
        pseudonym.or_else(|_| uri.parse().map(Self::User))
    }
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => fmt::Display::fmt(user, f),
            Self::Pseudonym(pseudonym) => fmt::Display::fmt(pseudonym, f),
        }
    }
}

/// A client (one device) of a user: `mimi://P/d/USER/CLIENT`. A basic credential's identity is exactly these bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientUri {
    user: UserUri,
    client: Arc<str>,
}

impl ClientUri {
    /// Builds the URI from its parts.
    ///
    /// # Errors
    /// [`BadIdentifier::Name`] when `client` is not a canonical name.
    pub fn new(user: &UserUri, client: &str) -> Result<Self, BadIdentifier> {
        check_segment(client)?;
        Ok(Self {
            user: user.clone(),
            client: client.into(),
        })
    }

    /// The user whose device this is.
    #[must_use]
    pub fn user(&self) -> &UserUri {
        &self.user
    }

    /// The provider of the user.
    #[must_use]
    pub fn provider(&self) -> &ProviderId {
        self.user.provider()
    }

    /// The name of the device at its user.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }
}

impl FromStr for ClientUri {
    type Err = BadIdentifier;
    fn from_str(uri: &str) -> Result<Self, BadIdentifier> {
        const FORM: &str = "mimi://PROVIDER/d/USER/CLIENT";
        let (provider, names) = split(uri, "d", FORM)?;
        let (user, client) = names
            .split_once('/')
            .ok_or(BadIdentifier::Path { expected: FORM })?;
        Self::new(&UserUri::new(&provider, user)?, client)
    }
}

impl fmt::Display for ClientUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "mimi://{}/d/{}/{}",
            self.user.provider, self.user.user, self.client
        )
    }
}

/// A room: `mimi://P/r/ROOM`, where `P` is the hub, for ever.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomUri {
    hub: ProviderId,
    room: Arc<str>,
}

impl RoomUri {
    /// Builds the URI from its parts.
    ///
    /// # Errors
    /// [`BadIdentifier::Name`] when `room` is not a canonical name.
    pub fn new(hub: &ProviderId, room: &str) -> Result<Self, BadIdentifier> {
        check_segment(room)?;
        Ok(Self {
            hub: hub.clone(),
            room: room.into(),
        })
    }

    /// The provider that owns the room.
    #[must_use]
    pub fn hub(&self) -> &ProviderId {
        &self.hub
    }

    /// Holds the hub's name together with others in memory, if it is this one.
    pub(crate) fn share_hub(&mut self, hub: &ProviderId) {
        if self.hub == *hub {
            self.hub = hub.clone();
        }
    }

    /// The name of the room at its hub.
    #[must_use]
    pub fn room(&self) -> &str {
        &self.room
    }
}

impl FromStr for RoomUri {
    type Err = BadIdentifier;
    fn from_str(uri: &str) -> Result<Self, BadIdentifier> {
        let (hub, room) = split(uri, "r", "mimi://PROVIDER/r/ROOM")?;
        Self::new(&hub, room)
    }
}

impl fmt::Display for RoomUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mimi://{}/r/{}", self.hub, self.room)
    }
}

/// Reads an identifier out of the text form that every serialisation uses.
struct TextForm<T>(PhantomData<T>);

impl<T: FromStr<Err = BadIdentifier>> de::Visitor<'_> for TextForm<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a canonical identifier")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! text_form {
    ($($kind:ty),*) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(TextForm(PhantomData))
            }
        }
        impl fmt::Debug for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}
text_form!(
    ProviderId,
    UserUri,
    PseudonymUri,
    Requester,
    ClientUri,
    RoomUri
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_kind_of_identifier_reads_back_as_it_was_written() {
        for (text, ok) in [
            (
                "mimi://a.example/u/alice",
                "mimi://a.example/u/alice"
                    .parse::<UserUri>()
                    .map(|id| id.to_string()),
            ),
            (
                "mimi://a.example/d/alice/phone",
                "mimi://a.example/d/alice/phone"
                    .parse::<ClientUri>()
                    .map(|id| id.to_string()),
            ),
            (
                "mimi://a.example/r/clubhouse",
                "mimi://a.example/r/clubhouse"
                    .parse::<RoomUri>()
                    .map(|id| id.to_string()),
            ),
        ] {
            assert_eq!(ok.as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_not_canonical_is_refused_not_mended() {
        for uri in [
            "",
            "mimi:",
            "mimi://",
            "mimi:///u/alice",
            "MIMI://a.example/u/alice",
            "http://a.example/u/alice",
            "mimi://A.example/u/alice",
            "mimi://a.example/u/Alice",
            "mimi://a.example./u/alice",
            "mimi://a..example/u/alice",
            "mimi://a.example:443/u/alice",
            "mimi://u@a.example/u/alice",
            "mimi://127.0.0.1/u/alice",
            "mimi://[::1]/u/alice",
            "mimi://localhost/u/alice",
            "mimi://-a.example/u/alice",
            "mimi://a-.example/u/alice",
            "mimi://*.example/u/alice",
            "mimi://a.example/u/",
            "mimi://a.example/u",
            "mimi://a.example/u/alice/",
            "mimi://a.example/u/al%69ce",
            "mimi://a.example/u/al\0ice",
            "mimi://a.example/u/..",
            "mimi://a.example/u/\u{430}lice",
            "mimi://a.example/u/al ice",
            "mimi://a.example/u/alice?x",
            "mimi://a.example/u/alice#x",
            "mimi://a.example//u/alice",
            "mimi://\u{fc}.example/u/alice",
            "mimi://a.example/u/\u{202e}alice",
            "mimi://a.example/r/alice",
            "mimi://a.example/d/alice",
        ] {
            assert!(uri.parse::<UserUri>().is_err(), "{uri:?} was accepted");
        }
        let long = format!("mimi://a.example/u/{}", "x".repeat(SEGMENT_BYTES_MAX + 1));
        assert_eq!(long.parse::<UserUri>(), Err(BadIdentifier::Name));
        let label = format!("mimi://{}.example/u/alice", "x".repeat(64));
        assert_eq!(label.parse::<UserUri>(), Err(BadIdentifier::Domain));
        let uri = format!("mimi://a.example/u/{}", "x".repeat(URI_BYTES_MAX));
        assert!(matches!(
            uri.parse::<UserUri>(),
            Err(BadIdentifier::TooLong { .. })
        ));
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_as_it_was(text in "mimi://[a-zA-Z0-9.-]{1,20}/[udr]/[ -~]{1,20}") {
            if let Ok(id) = text.parse::<UserUri>() { prop_assert_eq!(id.to_string(), text.clone()); }
            if let Ok(id) = text.parse::<ClientUri>() { prop_assert_eq!(id.to_string(), text.clone()); }
            if let Ok(id) = text.parse::<RoomUri>() { prop_assert_eq!(id.to_string(), text); }
        }
    }
}
