//! Who may propose from outside a room's group: its hub, by one of its keys and under its own name.
//!
//! Promises: a room always lists a key of its hub, so that its hub can sign what a joiner gets; nobody else is let in
//! after the beginning. The keys of a hub change by rotation: rooms go over to a newer one when a member commits it.
//!
//! Source: transport requirements, section 3.3; RFC 9420, section 12.1.8.1.

use crate::{
    ids::ProviderId,
    mls::codec::{
        extension::{self, Extension, ExternalSender},
        reader::Unreadable,
    },
};

/// A hub as an external sender of its rooms' groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubSenders {
    identity: Vec<u8>,
    keys: Vec<[u8; 32]>,
}

impl HubSenders {
    /// A hub without a name and keys, which no group can list.
    pub const NONE: Self = Self {
        identity: Vec::new(),
        keys: Vec::new(),
    };

    /// The hub of a provider, with its Ed25519 public keys: the one that new rooms list before all others.
    #[must_use]
    pub fn new(provider: &ProviderId, keys: Vec<[u8; 32]>) -> Self {
        Self {
            identity: format!("mimi://{provider}").into_bytes(),
            keys,
        }
    }

    /// The key with which what a joiner of a group gets is signed: the first of the hub's that the group lists, and the
    /// first of all where it lists none.
    #[must_use]
    pub fn signing_key(&self, listed: &[bytes::Bytes]) -> Option<&[u8; 32]> {
        let is_listed = |key: &&[u8; 32]| listed.iter().any(|listed| listed[..] == key[..]);
        let mut keys = self.keys.iter();
        keys.clone().find(is_listed).or_else(|| keys.next())
    }

    /// The first of a group's external senders that is the hub: its number in the list, and the hub's key.
    pub(super) fn place_in(&self, senders: &[ExternalSender<'_>]) -> Option<(u32, &[u8; 32])> {
        let (number, sender) = (0..).zip(senders).find(|(_, sender)| self.is(sender))?;
        let key = self.keys.iter().find(|key| key[..] == *sender.key)?;
        Some((number, key))
    }

    fn is(&self, sender: &ExternalSender<'_>) -> bool {
        let mut keys = self.keys.iter();
        sender.identity == self.identity && keys.any(|key| key[..] == *sender.key)
    }

    /// Whether a new group lets the hub in.
    pub(super) fn is_in(&self, extensions: &[Extension<'_>]) -> Result<bool, Unreadable> {
        let senders = extension::external_senders(extensions)?;
        Ok(senders.iter().any(|sender| self.is(sender)))
    }

    /// What is wrong with extensions that would come after those of a room: the hub stays in, and nobody else comes.
    pub(super) fn flaw(
        &self,
        before: &[Extension<'_>],
        next: &[Extension<'_>],
    ) -> Result<Option<&'static str>, Unreadable> {
        let before = extension::external_senders(before)?;
        let next = extension::external_senders(next)?;
        if before == next {
            return Ok(None);
        }
        let comes = |sender: &&ExternalSender<'_>| !before.contains(sender);
        let mut coming = next.iter().filter(comes);
        Ok(if !coming.all(|sender| self.is(sender)) {
            Some("external_senders gets a sender that is not the room's hub")
        } else if next.iter().any(|sender| self.is(sender)) {
            None
        } else {
            Some("external_senders is left without the room's hub")
        })
    }
}
