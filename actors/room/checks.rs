//! The checks of a room, as a worker runs them: off the actors, on nothing but what the check carries.
//!
//! Source: transport requirements, section 3.2.

use super::desk::{Check, Checked};
use crate::{
    ids::ClientUri,
    mls::{
        bundle::{Bundle, BundleRefused, CheckedBundle, Terms, check_bundle},
        create::{CheckedCreate, check_create},
        proposal::{PendingProposal, ProposalRefused, check_proposal},
        view::GroupView,
    },
    wire::tree::TreeContainer,
};
use bytes::Bytes;

/// What knows whether MLS objects are what they say.
pub trait Verifier {
    /// Checks an epoch-0 group of one.
    ///
    /// # Errors
    /// Why it may not be a room's.
    fn create(
        &self,
        creator: &ClientUri,
        group_info: &Bytes,
        tree: &TreeContainer,
    ) -> Result<CheckedCreate, BundleRefused>;

    /// Checks a Commit bundle of `sender` against the state it must follow from.
    ///
    /// # Errors
    /// Why it may not open an epoch.
    fn bundle(
        &self,
        view: &GroupView,
        pending: &[PendingProposal],
        bundle: &Bundle,
        sender: &ClientUri,
    ) -> Result<CheckedBundle, BundleRefused>;

    /// Checks a Proposal of `sender`.
    ///
    /// # Errors
    /// Why it may not wait for a Commit.
    fn proposal(
        &self,
        view: &GroupView,
        message: &Bytes,
        sender: &ClientUri,
    ) -> Result<PendingProposal, ProposalRefused>;
}

/// The cryptography of RFC 9420.
#[derive(Clone, Debug)]
pub struct Mls {
    /// The hub's Ed25519 public key, which rooms list in external_senders.
    pub hub_signature_key: [u8; 32],
    /// What else it goes by.
    pub terms: Terms,
}

impl Verifier for Mls {
    fn create(
        &self,
        creator: &ClientUri,
        group_info: &Bytes,
        tree: &TreeContainer,
    ) -> Result<CheckedCreate, BundleRefused> {
        check_create(group_info, tree, &self.hub_signature_key, creator)
    }

    fn bundle(
        &self,
        view: &GroupView,
        pending: &[PendingProposal],
        bundle: &Bundle,
        sender: &ClientUri,
    ) -> Result<CheckedBundle, BundleRefused> {
        check_bundle(view, pending, bundle, sender, &self.terms)
    }

    fn proposal(
        &self,
        view: &GroupView,
        message: &Bytes,
        sender: &ClientUri,
    ) -> Result<PendingProposal, ProposalRefused> {
        check_proposal(view, message, sender)
    }
}

/// Does the work of one check.
#[must_use]
pub fn run(check: Check, with: &impl Verifier) -> Checked {
    match check {
        Check::Create {
            creator,
            group_info,
            tree,
        } => {
            let result = with.create(&creator, &group_info, &tree);
            Checked::Create { creator, result }
        }
        Check::Bundle {
            view,
            pending,
            on,
            bundle,
            sender,
        } => {
            let result = with.bundle(&view, &pending, &bundle, &sender);
            Checked::Bundle { on, result }
        }
        Check::Proposals {
            view,
            on,
            messages,
            sender,
        } => {
            let result = messages
                .iter()
                .map(|message| with.proposal(&view, message, &sender))
                .collect();
            Checked::Proposals { sender, on, result }
        }
    }
}
