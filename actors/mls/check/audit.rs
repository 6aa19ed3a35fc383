//! The second opinion: what OpenMLS thinks of that which the checks here let through.
//!
//! It decides nothing: the verdict is the same where nobody is asked, in rooms above `audited_members_max`. What OpenMLS
//! refuses is told to [`super::objections`], for people: either a check is missing here, or OpenMLS refuses what RFC 9420
//! allows. Runs only on bytes that the bounded reader accepted; a panic inside the library is an objection.

use super::{change::Changed, objections::Objections, proposal::PendingProposal, terms::Terms};
use crate::{
    limits::REFUSAL_DETAIL_BYTES_MAX,
    mls::{
        codec::leaf::Source,
        tree::{Node, cache::AuditedGroup, view::GroupView},
    },
    wire::{event::Hash, room::Bundle},
};
use openmls::{
    group::{ProposalStore, PublicGroup},
    key_packages::errors::KeyPackageVerifyError,
    prelude::{
        CreationFromExternalError, DeserializeBytes, MlsMessageBodyIn, MlsMessageIn,
        OpenMlsProvider, ProcessedMessageContent, ProtocolMessage, ProtocolVersion, RatchetTreeIn,
        tls_codec::Serialize as _,
    },
    treesync::errors::LeafNodeValidationError,
};
use openmls_rust_crypto::OpenMlsRustCrypto;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a check of the library; what goes wrong is told in few bytes, and with it of what it is.
fn guarded<T>(
    objections: &Objections,
    of: impl FnOnce() -> String,
    check: impl FnOnce() -> Result<T, String>,
) -> Option<T> {
    let told = catch_unwind(AssertUnwindSafe(check))
        .unwrap_or_else(|_| Err("the library panicked".to_owned()));
    let why = match told {
        Ok(told) => return Some(told),
        Err(why) => why,
    };
    let mut objection = format!("{}: {why}", of());
    let cut = objection.floor_char_boundary(REFUSAL_DETAIL_BYTES_MAX);
    objection.truncate(cut);
    objections.tell(objection);
    None
}

/// A group as people know it: its id is often the URI of its room, and may be any bytes.
fn of_group(what: &str, group_id: &[u8]) -> String {
    format!("{what} of group {}", group_id.escape_ascii())
}

fn read(message: &[u8]) -> Result<MlsMessageBodyIn, String> {
    let read =
        MlsMessageIn::tls_deserialize_exact_bytes(message).map_err(|cause| cause.to_string())?;
    Ok(read.extract())
}

/// Asks about a KeyPackage, its lifetime aside.
pub(crate) fn key_package(message: &[u8], terms: &Terms) {
    let of = || "a KeyPackage".to_owned();
    guarded(&terms.objections, of, || {
        let MlsMessageBodyIn::KeyPackage(package) = read(message)? else {
            return Err("not a KeyPackage".to_owned());
        };
        let provider = OpenMlsRustCrypto::default();
        match package.validate(provider.crypto(), ProtocolVersion::Mls10) {
            // The lifetime is the last thing the library looks at, and it is the caller's to judge.
            Ok(_) | Err(KeyPackageVerifyError::LifetimeError(_)) => Ok(()),
            Err(cause) => Err(cause.to_string()),
        }
    });
}

/// Builds the library's public group from a tree and a GroupInfo; `None` when only an expired leaf is in the way.
fn public_group(
    provider: &OpenMlsRustCrypto,
    tree: &[u8],
    group_info: &[u8],
) -> Result<Option<PublicGroup>, String> {
    let tree =
        RatchetTreeIn::tls_deserialize_exact_bytes(tree).map_err(|cause| cause.to_string())?;
    let MlsMessageBodyIn::GroupInfo(group_info) = read(group_info)? else {
        return Err("not a GroupInfo".to_owned());
    };
    match PublicGroup::from_external(
        provider.crypto(),
        provider.storage(),
        tree,
        group_info,
        ProposalStore::new(),
    ) {
        Ok((group, _)) => Ok(Some(group)),
        Err(CreationFromExternalError::LeafNodeValidation(LeafNodeValidationError::Lifetime(
            _,
        ))) => Ok(None),
        Err(cause) => Err(cause.to_string()),
    }
}

/// Asks about a group by its tree and GroupInfo.
pub(crate) fn group(group_id: &[u8], tree: &[u8], group_info: &[u8], terms: &Terms) {
    let of = || of_group("the beginning", group_id);
    guarded(&terms.objections, of, || {
        public_group(&OpenMlsRustCrypto::default(), tree, group_info)
    });
}

fn handshake(message: &[u8]) -> Result<ProtocolMessage, String> {
    let MlsMessageBodyIn::PublicMessage(message) = read(message)? else {
        return Err("not a PublicMessage".to_owned());
    };
    Ok(message.into())
}

/// Names a group in one epoch, with all that OpenMLS goes by in the next Commit.
fn name(group_context: &[u8], interim_transcript_hash: &[u8]) -> [u8; 32] {
    Hash::of_parts([group_context, interim_transcript_hash]).0
}

/// What a Commit leads to.
pub(crate) struct Next<'a> {
    /// The GroupContext.
    pub(crate) context: &'a [u8],
    /// The interim transcript hash, bare.
    pub(crate) interim_transcript_hash: &'a [u8],
    /// Whether OpenMLS may take the group again after it, if it did not before.
    pub(crate) may_mend: bool,
}

/// Whether a Commit changes what OpenMLS may have had against its group: the extensions, a leaf that goes, or one that
/// was still out of a KeyPackage, which may have expired.
pub(crate) fn may_mend(changed: &Changed<'_>) -> bool {
    let of_package = |before: Option<Node<'_>>| matches!(before, Some(Node::Leaf(leaf)) if matches!(leaf.source, Source::KeyPackage { .. }));
    let mut touched = changed.tree.touched();
    changed.extensions.is_some()
        || !changed.removed.is_empty()
        || touched.any(|(_, before, _)| of_package(before))
}

/// Asks about a Commit in the group of `view`, and whether it leads to `next`; tells whether OpenMLS found it right.
///
/// The group is kept for the Commit after, or that OpenMLS does not follow it: then it is asked again only when it may
/// have changed its mind, for to ask costs the signatures of all members. The lifetimes of leaves of a group that is kept
/// are not looked at again.
pub(crate) fn commit(
    view: &GroupView,
    covered: &[&PendingProposal],
    bundle: &Bundle,
    next: &Next<'_>,
    terms: &Terms,
) -> bool {
    let cache = &terms.trees;
    let now = name(&view.group_context, &view.interim_transcript_hash);
    let of = || of_group("a Commit", &view.group_id().unwrap_or_default());
    let ask = |kept| {
        let follow = || follow(view, kept, covered, bundle, next);
        guarded(&terms.objections, of, follow).flatten()
    };
    let group = match cache.take_group(&now) {
        Some(AuditedGroup::Followed(group)) => ask(Some(group)),
        Some(AuditedGroup::Lost) => {
            // Another Commit may win this epoch.
            cache.put_group(&now, AuditedGroup::Lost, 0);
            None
        }
        None => ask(None),
    };
    let then = name(next.context, next.interim_transcript_hash);
    let audited = group.is_some();
    match group {
        Some(group) => cache.put_group(&then, AuditedGroup::Followed(group), view.tree.len()),
        None if next.may_mend => {}
        None => cache.put_group(&then, AuditedGroup::Lost, 0),
    }
    audited
}

/// The library's group after a Commit; `None` when it does not take the one before, for an expired leaf.
fn follow(
    view: &GroupView,
    kept: Option<Box<PublicGroup>>,
    covered: &[&PendingProposal],
    bundle: &Bundle,
    next: &Next<'_>,
) -> Result<Option<Box<PublicGroup>>, String> {
    let provider = OpenMlsRustCrypto::default();
    let group = match kept {
        Some(group) => Some(group),
        None => public_group(&provider, &view.tree, &view.group_info)?.map(Box::new),
    };
    let Some(mut group) = group else {
        return Ok(None);
    };
    let refused = |cause: &dyn std::error::Error| detail(cause);
    for proposal in covered {
        let processed = group
            .process_message(provider.crypto(), handshake(&proposal.message)?)
            .map_err(|cause| refused(&cause))?;
        let ProcessedMessageContent::ProposalMessage(proposal) = processed.into_content() else {
            return Err("not a Proposal".to_owned());
        };
        group
            .add_proposal(provider.storage(), *proposal)
            .map_err(|cause| refused(&cause))?;
    }
    let processed = group
        .process_message(provider.crypto(), handshake(&bundle.commit)?)
        .map_err(|cause| refused(&cause))?;
    let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
        return Err("not a Commit".to_owned());
    };
    group
        .merge_commit(provider.storage(), *staged)
        .map_err(|cause| refused(&cause))?;
    let context = group
        .group_context()
        .tls_serialize_detached()
        .map_err(|cause| refused(&cause))?;
    if context == next.context {
        Ok(Some(group))
    } else {
        Err("the library computes another GroupContext".to_owned())
    }
}

/// An error with its causes.
fn detail(cause: &dyn std::error::Error) -> String {
    let mut text = cause.to_string();
    let mut next = cause.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
