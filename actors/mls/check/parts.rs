//! The parts of a Commit bundle, read in bounds before anything is computed, and how they must fit the Commit.
//!
//! Source: transport requirements, section 3.2; RFC 9420, section 12.4.

use super::{
    change::Item,
    proposal::{self, PendingProposal},
    refused::{BundleRefused, TreeRefused, in_part},
};
use crate::{
    limits::{ADDS_PER_COMMIT_MAX, COMMIT_BYTES_MAX, TREE_BYTES_MAX},
    mls::{
        codec::{
            commit::{Commit, Entry, Proposal},
            context::Context,
            framing::Framed,
            group_info::GroupInfo,
            message::HandshakeKind,
            reader::{Malformed, Reader, Unreadable},
            suite::{DIGEST_BYTES, Digest, Suite, sealed_group_secrets_bytes},
            welcome::{Sealed, Welcome},
        },
        tree::{
            Tree,
            container::{self, ContainerRefused},
            delta::{self, Base},
            stored::StoredTree,
            view::GroupView,
        },
    },
    wire::{room::Bundle, tree::TreeContainer},
};
use bytes::Bytes;
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
};

/// A bundle whose parts are all well formed.
pub(crate) struct Parts<'a> {
    pub(crate) commit: Framed<'a, Commit<'a>>,
    pub(crate) confirmation_tag: &'a [u8],
    welcome: Option<Welcome<'a>>,
    pub(crate) group_info: GroupInfo<'a>,
}

impl<'a> Parts<'a> {
    /// Reads every part to its end.
    pub(crate) fn read(bundle: &'a Bundle) -> Result<Self, BundleRefused> {
        let commit = Framed::read(
            &bundle.commit,
            HandshakeKind::Commit,
            COMMIT_BYTES_MAX,
            Commit::read,
        )
        .map_err(in_part("Commit"))?;
        let confirmation_tag = commit.confirmation_tag.unwrap_or_default();
        if confirmation_tag.len() != DIGEST_BYTES {
            let cause = Malformed::Value {
                what: "length of the confirmation tag",
                at: bundle.commit.len(),
            };
            return Err(BundleRefused::Malformed {
                part: "Commit",
                cause,
            });
        }
        let welcome = bundle
            .welcome
            .as_ref()
            .map(|welcome| Welcome::read(welcome))
            .transpose();
        let welcome = welcome.map_err(|cause| in_part("Welcome")(Unreadable::from(cause)))?;
        let group_info = GroupInfo::read(&bundle.group_info).map_err(in_part("GroupInfo"))?;
        Ok(Self {
            commit,
            confirmation_tag,
            welcome,
            group_info,
        })
    }

    /// There is a Welcome exactly if somebody is added, and it is for exactly those.
    pub(crate) fn check_welcome(
        &self,
        added: &BTreeMap<u32, Digest>,
        ciphersuite: u16,
        suite: &Suite,
    ) -> Result<(), BundleRefused> {
        let mismatch = |reason| Err(BundleRefused::WelcomeMismatch { reason });
        let welcome = match (&self.welcome, added.is_empty()) {
            (None, true) => return Ok(()),
            (None, false) => return mismatch("missing, but the Commit adds members"),
            (Some(_), true) => return mismatch("there, but the Commit adds nobody"),
            (Some(welcome), false) => welcome,
        };
        if welcome.ciphersuite != ciphersuite {
            return mismatch("of another ciphersuite");
        }
        let welcomed: BTreeSet<&[u8]> = welcome.references.iter().copied().collect();
        let adds: BTreeSet<&[u8]> = added.values().map(|reference| &reference[..]).collect();
        if welcomed != adds || welcome.references.len() != added.len() {
            return mismatch("not for exactly the KeyPackages added");
        }
        let bytes = sealed_group_secrets_bytes(self.commit.body.path.is_some());
        let fits = |secrets: &Sealed| secrets.fits(suite, bytes);
        if !welcome.secrets.iter().all(fits) {
            return mismatch("secrets of the wrong length");
        }
        Ok(())
    }

    /// The GroupInfo is the one of the next epoch, by the committer; its signature aside.
    pub(crate) fn check_group_info(
        &self,
        next_context: &[u8],
        committer: u32,
        suite: &Suite,
    ) -> Result<(), BundleRefused> {
        let mismatch = |field| Err(BundleRefused::GroupInfoMismatch { field });
        let next =
            Context::read(&mut Reader::new(next_context)).map_err(in_part("next GroupContext"))?;
        let info = &self.group_info;
        let context = &info.context;
        if context.tree_hash != next.tree_hash {
            return Err(TreeRefused::Hash.into());
        }
        let differs = [
            ("cipher_suite", context.ciphersuite != next.ciphersuite),
            ("group_id", context.group_id != next.group_id),
            ("epoch", context.epoch != next.epoch),
            (
                "confirmed_transcript_hash",
                context.confirmed_transcript_hash != next.confirmed_transcript_hash,
            ),
            (
                "extensions",
                context.extensions.encoded != next.extensions.encoded,
            ),
            ("group_context", context.encoded != next_context),
            (
                "confirmation_tag",
                info.confirmation_tag != self.confirmation_tag,
            ),
            ("signer", info.signer != committer),
        ];
        if let Some((field, _)) = differs.into_iter().find(|(_, differs)| *differs) {
            return mismatch(field);
        }
        info.flaw(suite).map_or(Ok(()), mismatch)
    }
}

/// The tree that was sent, in whatever container, is the one that the Commit made of the tree of `view`.
pub(crate) fn check_tree(
    sent: &TreeContainer,
    view: &GroupView,
    made: &MadeTree<'_, '_>,
    hosts: &[String],
) -> Result<(), BundleRefused> {
    match sent {
        TreeContainer::Full(tree) => check_whole(tree, made.whole()),
        TreeContainer::Zstd(frame) => check_whole(&container::decompress(frame)?, made.whole()),
        // Two trees have one delta: another one is wrong, whatever it is.
        TreeContainer::Delta(delta) if delta[..] == made.delta[..] => Ok(()),
        TreeContainer::Delta(delta) => {
            let context = view.context().map_err(in_part("current GroupContext"))?;
            let tree = delta::apply(&context.base(), &view.tree, delta);
            check_whole(&tree.map_err(ContainerRefused::Delta)?, made.whole())
        }
        TreeContainer::DistributionService => Ok(()),
        TreeContainer::Reference(uri) => Ok(container::check_reference(uri, hosts)?),
    }
}

/// The tree that a Commit made; all of it is written only when somebody asks.
pub(crate) struct MadeTree<'t, 'a> {
    tree: &'t Tree<'a>,
    pub(crate) delta: Vec<u8>,
    whole: OnceCell<Bytes>,
}

impl<'t, 'a> MadeTree<'t, 'a> {
    /// Of a tree that was made of the one of `base`.
    pub(crate) fn of(tree: &'t Tree<'a>, base: &Base<'_>) -> Self {
        Self {
            tree,
            delta: tree.delta(base),
            whole: OnceCell::new(),
        }
    }

    /// The whole tree.
    pub(crate) fn whole(&self) -> &Bytes {
        self.whole.get_or_init(|| self.tree.write().into())
    }

    /// The tree is no larger than one that can be read again, whatever was sent in its place.
    pub(crate) fn check_size(&self, before: &GroupView) -> Result<(), ContainerRefused> {
        // What changed is in the delta; a node that came to be besides is blank, a byte.
        let most = before.tree.len() + self.delta.len() + self.tree.used();
        if most <= TREE_BYTES_MAX {
            return Ok(());
        }
        let (bytes, max) = (self.whole().len(), TREE_BYTES_MAX);
        if bytes > max {
            let bytes = bytes as u64;
            return Err(ContainerRefused::TooLarge { bytes, max });
        }
        Ok(())
    }
}

fn check_whole(sent: &[u8], made: &[u8]) -> Result<(), BundleRefused> {
    if sent == made {
        return Ok(());
    }
    let part = in_part("ratchet tree");
    let (sent, made) = (
        StoredTree::read(sent).map_err(&part)?,
        StoredTree::read(made).map_err(&part)?,
    );
    let (sent, made) = (Tree::of(&sent), Tree::of(&made));
    let reason = match made.first_difference(&sent) {
        _ if made.width() != sent.width() => "number of leaves differs",
        Some(node) if node & 1 == 0 => "a leaf differs",
        Some(_) => "a parent node differs",
        None => "encoding differs",
    };
    Err(TreeRefused::Mismatch(reason).into())
}

pub(crate) type Resolved<'a> = (Vec<Item<'a>>, Vec<&'a PendingProposal>);

/// The Proposals of a Commit, those it names taken from the ones that wait.
pub(crate) fn resolve<'a>(
    commit: &Commit<'a>,
    pending: &'a [PendingProposal],
    committer: u32,
) -> Result<Resolved<'a>, BundleRefused> {
    let waiting: BTreeMap<&[u8], &PendingProposal> = pending
        .iter()
        .map(|one| (&one.reference[..], one))
        .collect();
    let mut items = Vec::with_capacity(commit.entries.len());
    let mut covered = Vec::new();
    let mut unknown = Vec::new();
    let mut named = BTreeSet::new();
    for entry in &commit.entries {
        match entry {
            Entry::Value(proposal) => items.push(Item {
                proposal: proposal.clone(),
                proposer: committer,
                reference: None,
            }),
            Entry::Reference(reference) => {
                if !named.insert(*reference) {
                    let references = vec![Bytes::copy_from_slice(reference)];
                    return Err(BundleRefused::InvalidProposals {
                        references,
                        reason: "a proposal is named twice",
                    });
                }
                let Some(one) = waiting.get(reference) else {
                    unknown.push(Bytes::copy_from_slice(reference));
                    continue;
                };
                let proposal = proposal::read(&one.message)
                    .map_err(in_part("pending Proposal"))?
                    .body;
                items.push(Item {
                    proposal,
                    proposer: one.leaf,
                    reference: Some(one.reference.clone()),
                });
                covered.push(*one);
            }
        }
    }
    let adds = items
        .iter()
        .filter(|item| matches!(item.proposal, Proposal::Add(_)))
        .count();
    if adds > ADDS_PER_COMMIT_MAX {
        let cause = Malformed::TooMany {
            what: "Adds",
            max: ADDS_PER_COMMIT_MAX,
        };
        return Err(BundleRefused::Malformed {
            part: "Commit",
            cause,
        });
    }
    if unknown.is_empty() {
        Ok((items, covered))
    } else {
        Err(BundleRefused::UnknownProposals {
            references: unknown,
        })
    }
}
