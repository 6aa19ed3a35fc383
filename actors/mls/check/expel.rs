//! Removes that the hub proposes, as an external sender of its rooms' groups: of members whom their own provider does not
//! know any more.
//!
//! Promises: what is made here reads back, and any member can verify it. Not here: whether one is to be removed, and by
//! what the hub signs.
//!
//! Source: RFC 9420, sections 6.1 and 12.1.8; transport requirements, section 5.

use super::{
    hub_senders::HubSenders,
    proposal::{self, PendingProposal, ProposalKind},
};
use crate::{
    machine::Millis,
    mls::{
        codec::{
            extension,
            framing::PUBLIC_MESSAGE,
            reader::{Unreadable, put_vector},
            sealed::sign_content,
            suite::{MLS_10, Suite},
        },
        tree::view::GroupView,
    },
};
use bytes::Bytes;

/// RFC 9420, section 6: `SenderType` external.
const EXTERNAL: u8 = 2;
/// RFC 9420, section 6: `ContentType` proposal.
const PROPOSAL: u8 = 2;
/// RFC 9420, section 17.4: the proposal type remove.
const REMOVE: u16 = 3;

/// Why the hub cannot propose in a group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotProposed {
    /// The group's state does not read.
    #[error("the group's state does not read: {0:?}")]
    Unreadable(Unreadable),
    /// Members verify signatures of another kind than the hub makes.
    #[error("members of ciphersuite {0} do not verify the Ed25519 signatures of a hub")]
    Ciphersuite(u16),
    /// The group lists no key of the hub.
    #[error("no key of the hub is among the group's external senders")]
    NotListed,
}

impl From<Unreadable> for NotProposed {
    fn from(cause: Unreadable) -> Self {
        Self::Unreadable(cause)
    }
}

/// A Remove of the member at `leaf`, for `epoch` of the group of `view`: its own, or the one after. `sign` signs with the key
/// of the hub that has this public key.
///
/// # Errors
/// [`NotProposed`] says why members would not take it.
pub fn expel(
    view: &GroupView,
    epoch: u64,
    leaf: u32,
    hub: &HubSenders,
    sign: impl FnOnce(&[u8; 32], &[u8]) -> Vec<u8>,
) -> Result<PendingProposal, NotProposed> {
    let context = view.context()?;
    let suite = context.ciphersuite;
    let suite = Suite::new(suite)
        .filter(Suite::signs_with_ed25519)
        .ok_or(NotProposed::Ciphersuite(suite))?;
    let senders = extension::external_senders(&context.extensions.list)?;
    let (index, key) = hub.place_in(&senders).ok_or(NotProposed::NotListed)?;

    let mut message = Vec::with_capacity(context.group_id.len() + 128);
    message.extend(MLS_10.to_be_bytes());
    message.extend(PUBLIC_MESSAGE.to_be_bytes());
    put_vector(&mut message, context.group_id);
    message.extend(epoch.to_be_bytes());
    message.push(EXTERNAL);
    message.extend(index.to_be_bytes());
    put_vector(&mut message, &[]);
    message.push(PROPOSAL);
    message.extend(REMOVE.to_be_bytes());
    message.extend(leaf.to_be_bytes());
    // Whoever is no member signs without the GroupContext.
    let signature = sign(key, &sign_content("FramedContentTBS", &message));
    put_vector(&mut message, &signature);
    let reference = proposal::read(&message)?.reference(&suite);
    Ok(PendingProposal {
        reference: Bytes::copy_from_slice(&reference),
        leaf,
        kind: ProposalKind::Expel(leaf),
        message: message.into(),
        accepted: Millis::default(),
    })
}
