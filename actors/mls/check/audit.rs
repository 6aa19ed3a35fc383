//! The second opinion: OpenMLS's own validation of what the checks here let through.
//!
//! Runs only on bytes that the bounded reader accepted. A panic inside the library is a refusal. OpenMLS reads the
//! clock for lifetimes; where that would contradict the caller's time or punish an old member, its view is set aside.

use super::{bundle::Bundle, proposal::PendingProposal};
use crate::{
    limits::REFUSAL_DETAIL_BYTES_MAX,
    mls::tree::{cache::TreeCache, view::GroupView},
    wire::event::Hash,
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

/// Runs a check of the library; what goes wrong is told in few bytes.
fn guarded<T>(check: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let told = catch_unwind(AssertUnwindSafe(check))
        .unwrap_or_else(|_| Err("the library panicked".to_owned()));
    told.map_err(|mut detail| {
        let cut = (0..=REFUSAL_DETAIL_BYTES_MAX)
            .rev()
            .find(|cut| detail.is_char_boundary(*cut));
        if detail.len() > REFUSAL_DETAIL_BYTES_MAX {
            detail.truncate(cut.unwrap_or_default());
        }
        detail
    })
}

fn read(message: &[u8]) -> Result<MlsMessageBodyIn, String> {
    let read =
        MlsMessageIn::tls_deserialize_exact_bytes(message).map_err(|cause| cause.to_string())?;
    Ok(read.extract())
}

/// Validates a KeyPackage, its lifetime aside.
pub(crate) fn key_package(message: &[u8]) -> Result<(), String> {
    guarded(|| {
        let MlsMessageBodyIn::KeyPackage(package) = read(message)? else {
            return Err("not a KeyPackage".to_owned());
        };
        let provider = OpenMlsRustCrypto::default();
        match package.validate(provider.crypto(), ProtocolVersion::Mls10) {
            // The lifetime is the last thing the library looks at, and it is the caller's to judge.
            Ok(_) | Err(KeyPackageVerifyError::LifetimeError(_)) => Ok(()),
            Err(cause) => Err(cause.to_string()),
        }
    })
}

/// What came of an audit that found nothing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audited {
    /// The library validated everything.
    Whole,
    /// The library does not take the group as it is, because a member was added with a KeyPackage that expired since.
    SetAside,
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

/// Validates a group by its tree and GroupInfo.
pub(crate) fn group(tree: &[u8], group_info: &[u8]) -> Result<Audited, String> {
    guarded(|| {
        let group = public_group(&OpenMlsRustCrypto::default(), tree, group_info)?;
        Ok(if group.is_some() {
            Audited::Whole
        } else {
            Audited::SetAside
        })
    })
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

/// What a Commit must lead to.
pub(crate) struct Next<'a> {
    /// The GroupContext.
    pub(crate) context: &'a [u8],
    /// The interim transcript hash, bare.
    pub(crate) interim_transcript_hash: &'a [u8],
}

/// Validates a Commit in the group of `view` and that it leads to `next`, where the group is kept for the Commit after.
///
/// A group out of the cache was validated when it was put there; the lifetimes of its leaves are not looked at again.
pub(crate) fn commit(
    view: &GroupView,
    covered: &[&PendingProposal],
    bundle: &Bundle,
    next: &Next<'_>,
    cache: &TreeCache,
) -> Result<Audited, String> {
    guarded(|| {
        let provider = OpenMlsRustCrypto::default();
        let kept = cache.take_group(&name(&view.group_context, &view.interim_transcript_hash));
        let group = match kept {
            Some(group) => Some(group),
            None => public_group(&provider, &view.tree, &view.group_info)?.map(Box::new),
        };
        let Some(mut group) = group else {
            return Ok(Audited::SetAside);
        };
        let refused = |cause: &dyn std::error::Error| detail(cause);
        for proposal in covered {
            let processed = group
                .process_message(provider.crypto(), handshake(&proposal.message)?)
                .map_err(|cause| refused(&cause))?;
            let ProcessedMessageContent::ProposalMessage(proposal) = processed.into_content()
            else {
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
        if context != next.context {
            return Err("the library computes another GroupContext".to_owned());
        }
        let name = name(next.context, next.interim_transcript_hash);
        cache.put_group(&name, group, view.tree.len());
        Ok(Audited::Whole)
    })
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
