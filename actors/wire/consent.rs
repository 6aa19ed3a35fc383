//! Consent between users: what devices say of it at the client door, and what providers tell each other.
//!
//! Whoever wants somebody in a room asks for consent; whom it asks grants or revokes it, also unasked, for one room or for
//! any. A request is acknowledged by the requester's own provider, which owes it to the other side from then on: what the
//! requester is told can say nothing about whom it asked, not even whether there is such a user.
//!
//! On a link an entry stands as the bytes of the MIMI protocol's `ConsentEntry`, in a group of its receiver's [`place`].
//!
//! Source: transport requirements, section 6.1; MIMI protocol, section 5.8 (requestConsent, updateConsent).

use super::{BVec, Payload};
use crate::{
    ids::{ProviderId, Requester, RoomUri, UserUri},
    limits::{
        CLIENTS_PER_USER_MAX, CONSENT_ENTRY_BYTES_MAX, CONSENT_EXTENSIONS_BYTES_MAX,
        CONSENT_REQUESTS_WAITING_MAX, CONSENTS_ASKED_PER_USER_MAX, CONSENTS_LISTED_MAX,
        URI_BYTES_MAX,
    },
    mls::codec::{
        key_package::KeyPackage,
        reader::{Malformed, Reader, Unreadable, put_vector},
    },
};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What stands before a KeyPackage in an MLSMessage: the version and the wire format.
const MLS_MESSAGE: [u8; 4] = [0, 1, 0, 5];

/// Components in the extensions of an entry, at most; each takes three bytes or more.
const COMPONENTS_MAX: usize = CONSENT_EXTENSIONS_BYTES_MAX / 3;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConsentOp {
    /// The requester wants no answer any more.
    Cancel,
    /// The requester asks.
    Request,
    /// The target consents.
    Grant,
    /// The target does not, or no longer.
    Revoke,
}

impl ConsentOp {
    const fn byte(self) -> u8 {
        match self {
            Self::Cancel => 0,
            Self::Request => 1,
            Self::Grant => 2,
            Self::Revoke => 3,
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.u8()? {
            0 => Ok(Self::Cancel),
            1 => Ok(Self::Request),
            2 => Ok(Self::Grant),
            3 => Ok(Self::Revoke),
            _ => Err(reader.bad_value("consent operation")),
        }
    }
}

/// What one user's provider tells another's: the MIMI protocol's `ConsentEntry`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentEntry {
    /// What it says.
    pub op: ConsentOp,
    /// Who will claim the target's KeyPackages.
    pub requester: UserUri,
    /// Whose consent it is.
    pub target: UserUri,
    /// For this room alone; absent for any room.
    pub room: Option<RoomUri>,
    /// Of a grant, KeyPackages of the target's clients, each an MLSMessage; often none: a claim gets them.
    pub key_packages: BVec<Payload, CLIENTS_PER_USER_MAX>,
    /// The components of `consent_extensions` as they came, without the length of the list; this provider looks at none.
    pub extensions: Payload,
}

impl ConsentEntry {
    /// Whom it is for: the target of what the requester says, and the other way round.
    #[must_use]
    pub const fn receiver(&self) -> &UserUri {
        match self.op {
            ConsentOp::Request | ConsentOp::Cancel => &self.target,
            ConsentOp::Grant | ConsentOp::Revoke => &self.requester,
        }
    }

    /// Whose word it is.
    #[must_use]
    pub const fn sender(&self) -> &UserUri {
        match self.op {
            ConsentOp::Request | ConsentOp::Cancel => &self.requester,
            ConsentOp::Grant | ConsentOp::Revoke => &self.target,
        }
    }

    /// Whether a provider may say it to another: each speaks for its own users, to the other's.
    #[must_use]
    pub fn is_between(&self, from: &ProviderId, to: &ProviderId) -> bool {
        self.sender().provider() == from && self.receiver().provider() == to
    }

    /// Reads an entry. KeyPackages of a grant are passed over where there are more of them than a user has clients, or one
    /// cannot be read: the grant holds without them.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are no entry, or break a limit.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::bounded(bytes, "consent entry", CONSENT_ENTRY_BYTES_MAX)?;
        let op = ConsentOp::read(&mut reader)?;
        let requester = uri(&mut reader, "requester")?;
        let target = uri(&mut reader, "target")?;
        let room = if reader.present()? {
            Some(uri(&mut reader, "room")?)
        } else {
            None
        };
        let mut key_packages = BVec::default();
        if op == ConsentOp::Grant {
            let carried = reader.inner("KeyPackages", CONSENT_ENTRY_BYTES_MAX)?;
            let each = carried.each("KeyPackages", CLIENTS_PER_USER_MAX, |reader| {
                let package = KeyPackage::read(reader)?;
                let message = [&MLS_MESSAGE[..], package.encoded].concat();
                Ok::<_, Unreadable>(Payload::from(message))
            });
            key_packages = BVec::first_max(each.unwrap_or_default());
        }
        let components = reader.inner("consent extensions", CONSENT_EXTENSIONS_BYTES_MAX)?;
        let extensions = read_components(components)?;
        reader.finish()?;
        Ok(Self {
            op,
            requester,
            target,
            room,
            key_packages,
            extensions,
        })
    }

    /// The entry in bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = vec![self.op.byte()];
        put_vector(&mut out, self.requester.to_string().as_bytes());
        put_vector(&mut out, self.target.to_string().as_bytes());
        match &self.room {
            Some(room) => {
                out.push(1);
                put_vector(&mut out, room.to_string().as_bytes());
            }
            None => out.push(0),
        }
        if self.op == ConsentOp::Grant {
            let bare = self.key_packages.iter();
            let bare = bare.filter_map(|message| message.strip_prefix(&MLS_MESSAGE[..]));
            put_vector(&mut out, &bare.collect::<Vec<_>>().concat());
        }
        put_vector(&mut out, &self.extensions);
        out
    }
}

/// Reads an IdentifierUri.
fn uri<T: FromStr>(reader: &mut Reader<'_>, what: &'static str) -> Result<T, Malformed> {
    let bytes = reader.vector(what, URI_BYTES_MAX)?;
    let text = str::from_utf8(bytes).ok();
    let parsed = text.and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| reader.bad_value(what))
}

/// The components of an AppDataDictionary, which stand in the order of their ids, each once.
fn read_components(components: Reader<'_>) -> Result<Payload, Malformed> {
    let start = components.clone();
    let mut last: Option<u16> = None;
    let mut end = components.clone();
    components.each("components", COMPONENTS_MAX, |reader| {
        let id = reader.u16()?;
        if last.is_some_and(|last| last >= id) {
            return Err(reader.bad_value("order of components"));
        }
        last = Some(id);
        reader.vector("component", CONSENT_EXTENSIONS_BYTES_MAX)?;
        end = reader.clone();
        Ok(())
    })?;
    Ok(Payload::from(end.since(&start).to_vec()))
}

/// The room that stands for a user on a link, where what is owed to it is ordered and set aside: one of the name of the user,
/// at the user's own provider. Events of that provider's rooms never go to it, so nothing else stands there.
#[must_use]
pub fn place(user: &UserUri) -> Option<RoomUri> {
    RoomUri::new(user.provider(), user.user()).ok()
}

/// Somebody else, and for what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// The other user.
    pub user: UserUri,
    /// For this room alone; absent for any room.
    pub room: Option<RoomUri>,
}

/// What a device says or asks about consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsentsAsk {
    /// Ask somebody for consent. Acknowledged as soon as the own provider has it, durably, whoever was asked.
    Request(Scope),
    /// Take a request back.
    Cancel(Scope),
    /// Give consent, asked or not.
    Grant(Scope),
    /// The same, and a KeyPackage of each client of the user that has one in stock, as a claim would get them: the other side
    /// need not claim.
    GrantWithPackages(Scope),
    /// Take consent back, or refuse it, asked or not. The other side is told only if the user [wants that](Self::TellRevocations).
    Revoke(Scope),
    /// Whether others are told from now on that consent they asked for, or had, is refused. At first they are not.
    TellRevocations(bool),
    /// Say what there is; of what the user said about others, what follows `after`.
    List {
        /// Whom the last list ended with, and for which room.
        after: Option<(Requester, Option<RoomUri>)>,
    },
}

impl ConsentsAsk {
    /// Who may be told of it.
    #[must_use]
    pub const fn told_to(&self) -> Option<&UserUri> {
        match self {
            Self::Request(scope)
            | Self::Cancel(scope)
            | Self::Grant(scope)
            | Self::GrantWithPackages(scope)
            | Self::Revoke(scope) => Some(&scope.user),
            Self::TellRevocations(_) | Self::List { .. } => None,
        }
    }
}

/// What became of a request, as far as its user was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// There is no answer. There may never be one.
    Asked,
    /// It was granted.
    Granted,
    /// It was refused, or taken back.
    Revoked,
}

/// What a user said and asked about consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consents {
    /// Who waits for an answer, oldest first.
    pub waiting: BVec<Scope, CONSENT_REQUESTS_WAITING_MAX>,
    /// What the user asked of others, and heard from them, oldest first.
    pub asked: BVec<(Scope, Standing), CONSENTS_ASKED_PER_USER_MAX>,
    /// Whether others are told that consent is refused.
    pub tells_revocations: bool,
    /// What the user said about others, in order: about whom, for which room alone, whether it was granted.
    pub said: BVec<Said, CONSENTS_LISTED_MAX>,
    /// Whether there is more of that.
    pub more: bool,
}

/// What a user said about somebody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// About whom.
    pub requester: Requester,
    /// For this room alone; absent for any room.
    pub room: Option<RoomUri>,
    /// Granted or denied.
    pub granted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mls::fixture;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        digits
            .map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    fn entry(op: ConsentOp, room: Option<&str>) -> ConsentEntry {
        ConsentEntry {
            op,
            requester: "mimi://a.example/u/alice".parse().unwrap(),
            target: "mimi://b.example/u/bob".parse().unwrap(),
            room: room.map(|room| room.parse().unwrap()),
            key_packages: BVec::default(),
            extensions: Payload::default(),
        }
    }

    const CLUBHOUSE: &str = "mimi://a.example/r/clubhouse";
    const REQUEST: &str = "01186d696d693a2f2f612e6578616d706c652f752f616c696365166d696d693a2f2f622e6578616d706c652f752f626f620000";
    const GRANT: &str = "02186d696d693a2f2f612e6578616d706c652f752f616c696365166d696d693a2f2f622e6578616d706c652f752f626f62011c6d696d693a2f2f612e6578616d706c652f722f636c7562686f7573650000";

    #[test]
    fn entries_are_byte_for_byte_those_of_the_protocol() {
        for (hex, expected) in [
            (REQUEST, entry(ConsentOp::Request, None)),
            (GRANT, entry(ConsentOp::Grant, Some(CLUBHOUSE))),
        ] {
            assert_eq!(expected.write(), bytes(hex));
            assert_eq!(ConsentEntry::read(&bytes(hex)), Ok(expected));
        }
    }

    #[test]
    fn every_operation_reads_back_with_its_room_and_its_extensions() {
        for op in [
            ConsentOp::Cancel,
            ConsentOp::Request,
            ConsentOp::Grant,
            ConsentOp::Revoke,
        ] {
            for room in [None, Some(CLUBHOUSE)] {
                let mut entry = entry(op, room);
                entry.extensions = Payload::from(vec![0x80, 2, 3, 1, 2, 3, 0x80, 3, 0]);
                assert_eq!(ConsentEntry::read(&entry.write()), Ok(entry));
            }
        }
    }

    /// The grant with these bytes in the place of its KeyPackages.
    fn carrying(packages: &[u8]) -> Vec<u8> {
        let mut carried = bytes(GRANT);
        carried.truncate(carried.len() - 2);
        put_vector(&mut carried, packages);
        carried.push(0);
        carried
    }

    #[test]
    fn key_packages_of_a_grant_are_messages_here_and_bare_in_its_bytes() {
        let packages = ["bob", "bobby"].map(|name| Payload(fixture::key_package_of(name)));
        let bare = packages.iter().map(|message| &message[4..]);
        let carried = carrying(&bare.collect::<Vec<_>>().concat());
        let mut expected = entry(ConsentOp::Grant, Some(CLUBHOUSE));
        expected.key_packages = BVec::from(packages);
        assert_eq!(expected.write(), carried);
        assert_eq!(ConsentEntry::read(&carried), Ok(expected));
    }

    #[test]
    fn a_grant_holds_without_key_packages_that_cannot_be_read() {
        let read = ConsentEntry::read(&carrying(&[7, 7, 7]));
        assert_eq!(read, Ok(entry(ConsentOp::Grant, Some(CLUBHOUSE))));
    }

    #[test]
    fn what_is_no_entry_is_refused_and_the_field_is_named() {
        let with = |at: usize, byte: u8| {
            let mut bytes = bytes(REQUEST);
            bytes[at] = byte;
            ConsentEntry::read(&bytes)
        };
        let value = |what: &'static str, at| Err(Malformed::Value { what, at });
        assert_eq!(with(0, 4), value("consent operation", 1));
        assert_eq!(with(2, b'x'), value("requester", 26));
        assert_eq!(with(27, b'x'), value("target", 49));
        assert_eq!(with(49, 2), value("optional octet", 50));
        let mut trailing = bytes(REQUEST);
        trailing.push(0);
        assert!(matches!(
            ConsentEntry::read(&trailing),
            Err(Malformed::Trailing { .. })
        ));
        let mut twice = entry(ConsentOp::Request, None);
        twice.extensions = Payload::from(vec![0x80, 2, 0, 0x80, 2, 0]);
        assert!(ConsentEntry::read(&twice.write()).is_err());
        let mut large = entry(ConsentOp::Request, None);
        let mut component = vec![0x80, 2];
        put_vector(&mut component, &[7; CONSENT_EXTENSIONS_BYTES_MAX]);
        large.extensions = component.into();
        assert!(matches!(
            ConsentEntry::read(&large.write()),
            Err(Malformed::TooLarge { .. })
        ));
    }

    #[test]
    fn each_provider_speaks_for_its_own_users_to_the_others() {
        let [a, b, c]: [ProviderId; 3] =
            ["a.example", "b.example", "c.example"].map(|name| name.parse().unwrap());
        for (op, from, to) in [
            (ConsentOp::Request, &a, &b),
            (ConsentOp::Cancel, &a, &b),
            (ConsentOp::Grant, &b, &a),
            (ConsentOp::Revoke, &b, &a),
        ] {
            let entry = entry(op, None);
            assert!(entry.is_between(from, to), "{op:?}");
            for (other_from, other_to) in [(to, from), (&c, to), (from, &c)] {
                assert!(!entry.is_between(other_from, other_to), "{op:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..80), cut in 0_usize..60) {
            let mut mixed = self::bytes(REQUEST);
            mixed.truncate(cut);
            mixed.extend(bytes);
            if let Ok(entry) = ConsentEntry::read(&mixed)
                && entry.op != ConsentOp::Grant
            {
                prop_assert_eq!(entry.write(), mixed);
            }
        }
    }
}
