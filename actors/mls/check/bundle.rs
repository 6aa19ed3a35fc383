//! Commit bundles: a Commit, the Welcome for those it adds, the GroupInfo and the tree of the next epoch.
//!
//! Owns: the verdict whether a bundle leads from one [`GroupView`] to the next. Promises: what is accepted leaves the
//! tree and the GroupContext that every member computes from the Commit, byte for byte. Not here: which of several
//! valid bundles wins, and who may add or remove whom. Cannot be seen without secrets: whether the confirmation tag,
//! the membership tag, the path secrets and external_pub are true.
//!
//! Source: transport requirements, section 3.2; RFC 9420, sections 12.2 and 12.4.

use super::{
    audit,
    change::{self, Changed, Group, Item, NOBODY},
    external,
    hub_senders::HubSenders,
    parts::{self, MadeTree, Parts},
    path,
    proposal::{self, PendingProposal},
    refused::in_part,
};
pub use super::{
    refused::{BundleRefused, SenderRefused, TreeRefused},
    terms::Terms,
};
pub use crate::wire::room::Bundle;
use crate::{
    ids::ClientUri,
    limits::{
        ADDS_PER_COMMIT_MAX, CONTROL_EVENT_BYTES_MAX, PROPOSALS_PER_BUNDLE_MAX, URI_BYTES_MAX,
    },
    machine::Millis,
    mls::{
        codec::{
            commit::{Commit, Proposal},
            context::Context,
            extension::{self, Extension},
            framing,
            message::{Sender, handshake_header},
            reader::Malformed,
            suite::{Digest, Suite},
        },
        tree::{
            Hashes, Node, Step, Tree,
            math::to_leaf,
            stored::StoredTree,
            view::{GroupView, Member, NextTree, NextView, member_of},
        },
    },
    wire::{BText, BVec},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// A client that a Commit adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Number of its leaf.
    pub leaf: u32,
    /// The client.
    pub client: ClientUri,
    /// The KeyPackage it was added with; none when it added itself.
    pub key_package_reference: Option<Bytes>,
    /// The signature key of its leaf.
    pub signature_key: Bytes,
}

/// What a valid bundle does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedBundle {
    /// The public state of the next epoch.
    pub next: NextView,
    /// Leaf of the committer; in an external Commit the one it takes.
    pub committer: u32,
    /// Whether it is an external Commit: the committer is who joins.
    pub external: bool,
    /// Whether it ends the group, for another to follow.
    pub reinit: bool,
    /// Who is new, by leaf.
    pub joined: BVec<Joined, ADDS_PER_COMMIT_MAX>,
    /// Who is gone, by leaf, as they were.
    pub left: BVec<Member, PROPOSALS_PER_BUNDLE_MAX>,
    /// Who has another signature key, by leaf, as they are.
    pub updated: Vec<Member>,
    /// ProposalRefs of the pending Proposals that the Commit names, in its order.
    pub covered: Vec<Bytes>,
    /// Where the committer says that the tree lies.
    pub place: Option<BText<URI_BYTES_MAX>>,
    /// Whether OpenMLS validated the Commit too.
    pub audited: bool,
}

/// Decides whether a bundle by `sender` leads on from `view`, in which `pending` Proposals wait.
///
/// `pending` must have come out of [`super::proposal::check_proposal`] on this very view; their signatures are not
/// checked again, but their KeyPackages must still be good `now`. OpenMLS is asked about small groups too, see
/// [`Terms::audited_members_max`]; the verdict is the same without it.
///
/// # Errors
/// [`BundleRefused`] says which rule it breaks; the cheapest checks come first.
pub fn check_bundle(
    view: &GroupView,
    pending: &[PendingProposal],
    bundle: &Bundle,
    sender: &ClientUri,
    now: Millis,
    terms: &Terms,
) -> Result<CheckedBundle, BundleRefused> {
    let context = view.context().map_err(in_part("current GroupContext"))?;
    let member = check_header(&context, &bundle.commit)?;
    let parts = Parts::read(bundle)?;
    let hash = context.tree_hash;
    let stored = terms.trees.take(hash, &view.tree);
    let stored = stored.map_err(in_part("current tree"))?;
    let current = CurrentGroup {
        view,
        context,
        stored: &stored,
        pending,
        now,
    };
    let judged = judge(&current, member, bundle, &parts, sender, terms);
    let (checked, next) = match judged {
        Ok((checked, step)) => (Ok(checked), Some(step)),
        Err(refused) => (Err(refused), None),
    };
    terms.trees.put(hash, stored, next);
    let checked = checked?;
    match checked.joined.iter().find(|joined| !terms.reaches(joined)) {
        // Who enters by itself was brought here by its provider.
        Some(joined) if !checked.external => {
            Err(BundleRefused::NoLink(joined.client.provider().clone()))
        }
        Some(_) | None => Ok(checked),
    }
}

impl Terms {
    fn reaches(&self, joined: &Joined) -> bool {
        let providers = self.providers.as_ref();
        providers.is_none_or(|providers| providers.contains(joined.client.provider()))
    }
}

/// The group that a bundle must lead on from.
struct CurrentGroup<'a> {
    view: &'a GroupView,
    context: Context<'a>,
    stored: &'a StoredTree,
    pending: &'a [PendingProposal],
    now: Millis,
}

/// What a valid bundle does, and how it changes the tree.
type Judged = (CheckedBundle, (Digest, Step));

fn judge(
    current: &CurrentGroup<'_>,
    member: Option<u32>,
    bundle: &Bundle,
    parts: &Parts<'_>,
    sender: &ClientUri,
    terms: &Terms,
) -> Result<Judged, BundleRefused> {
    let CurrentGroup {
        view,
        context,
        stored,
        pending,
        now,
    } = current;
    let suite = Suite::new(context.ciphersuite).ok_or(BundleRefused::Unsupported("ciphersuite"))?;
    let (framed, info) = (&parts.commit, &parts.group_info);

    let tree = Tree::of(stored);
    let leaf = match member {
        Some(leaf) => tree.leaf(leaf).ok_or(SenderRefused::NotMember)?,
        None => Rc::clone(external::own_leaf(&framed.body, sender)?),
    };
    if leaf.client().as_ref() != Some(sender) {
        return Err(SenderRefused::NotBound.into());
    }
    if !framed.signature_is_right(&suite, leaf.signature_key, &view.group_context) {
        return Err(BundleRefused::Signature { of: "Commit" });
    }

    let proposer = member.unwrap_or(NOBODY);
    let (items, covered) = parts::resolve(&framed.body, pending, proposer)?;
    let group = Group {
        suite: &suite,
        suite_number: context.ciphersuite,
        group_id: context.group_id,
        extensions: &context.extensions.list,
        tree: &tree,
        now: *now,
    };
    let references = proposal::contradicting(&covered);
    if !references.is_empty() {
        return Err(BundleRefused::InvalidProposals {
            references,
            reason: "members remove one another",
        });
    }
    if member.is_none() {
        external::check_list(&group, &items, sender)?;
    }
    let mut changed = change::apply(&group, &items, proposer)?;
    check_external_senders(&context.extensions.list, &items, &terms.hub)?;
    let references = proposal::omitted(pending, &changed.removed, member.is_none());
    if !references.is_empty() {
        return Err(BundleRefused::OmittedProposals { references });
    }
    parts.check_welcome(&changed.added, context.ciphersuite, &suite)?;
    let committer = match member {
        Some(leaf) => leaf,
        None => external::enter(&mut changed, &leaf)?,
    };
    let hashes = apply_path(&group, &mut changed, &framed.body, &items, committer)?;
    let tree_hash = changed.tree.root_hash(&hashes);
    let made = MadeTree::of(&changed.tree, &context.base());
    made.check_size(view)?;
    parts::check_tree(&bundle.tree, view, &made, &terms.tree_hosts)?;

    let confirmed = framed.confirmed_transcript_hash(&suite, &view.interim_transcript_hash);
    let extensions = changed
        .extensions
        .as_ref()
        .unwrap_or(&context.extensions)
        .encoded;
    let epoch = context
        .epoch
        .checked_add(1)
        .ok_or(BundleRefused::Unsupported("epoch after the last"))?;
    let next_context = context.next(epoch, &tree_hash, &confirmed, extensions);
    parts.check_group_info(&next_context, committer, &suite)?;
    let new_leaf = changed
        .tree
        .leaf(committer)
        .ok_or(SenderRefused::NotMember)?;
    if !info.signature_is_right(&suite, new_leaf.signature_key) {
        return Err(BundleRefused::Signature { of: "GroupInfo" });
    }

    let joins = changed.added.len() + usize::from(member.is_none());
    let before = stored.members();
    let members = before.max(before + joins - changed.removed.len());
    let interim = framing::interim_transcript_hash(&suite, &confirmed, parts.confirmation_tag);
    let after = audit::Next {
        context: &next_context,
        interim_transcript_hash: &interim,
        may_mend: audit::may_mend(&changed),
    };
    let audited = members <= terms.audited_members_max
        && audit::commit(view, &covered, bundle, &after, terms);
    let next = NextView {
        group_context: next_context.into(),
        confirmation_tag: Bytes::copy_from_slice(parts.confirmation_tag),
        interim_transcript_hash: Bytes::copy_from_slice(&interim),
        group_info: bundle.group_info.0.clone(),
        tree: next_tree(view, made, !changed.added.is_empty()),
    };
    let covered = covered
        .iter()
        .map(|proposal| proposal.reference.clone())
        .collect();
    let step = changed.tree.step(&hashes);
    let result = membership_changes(
        &tree,
        &changed,
        CheckedBundle {
            next,
            committer,
            external: member.is_none(),
            reinit: changed.reinit,
            covered,
            place: bundle.tree.place().cloned(),
            audited,
            joined: BVec::default(),
            left: BVec::default(),
            updated: vec![],
        },
    )?;
    check_event(bundle, &result)?;
    Ok((result, (tree_hash, step)))
}

/// What a provider is sent of the Commit fits an event, also where all clients that come and go are its own.
fn check_event(bundle: &Bundle, checked: &CheckedBundle) -> Result<(), BundleRefused> {
    // A number of two bytes comes before each name.
    let named = |client: &ClientUri| client.to_string().len() + 2;
    let joined: usize = checked.joined.iter().map(|one| named(&one.client)).sum();
    let left: usize = checked.left.iter().map(|one| named(&one.client)).sum();
    let welcome = bundle.welcome.as_ref().map_or(0, |welcome| welcome.len());
    let tree = checked.next.whole_tree().filter(|_| welcome > 0);
    let tree = tree.map_or(0, Bytes::len);
    let bytes = bundle.commit.len() + welcome + tree + joined + left;
    if bytes <= CONTROL_EVENT_BYTES_MAX {
        return Ok(());
    }
    let cause = Malformed::TooLarge {
        what: "Commit with its Welcome, tree and clients",
        bytes,
        max: CONTROL_EVENT_BYTES_MAX,
    };
    Err(in_part("Commit")(cause.into()))
}

/// Whether a change of extensions, if the list has one, leaves the hub in and lets nobody else in.
fn check_external_senders(
    before: &[Extension<'_>],
    items: &[Item<'_>],
    hub: &HubSenders,
) -> Result<(), BundleRefused> {
    for item in items {
        if let Proposal::Extensions(next) = &item.proposal
            && let Some(reason) = hub
                .flaw(before, &next.list)
                .map_err(in_part("external_senders"))?
        {
            return Err(change::Flaw::of(item, reason).into());
        }
    }
    Ok(())
}

/// What the log needs of the tree that a Commit made: all of it when somebody is `welcomed`, else what is shorter.
fn next_tree(view: &GroupView, made: MadeTree<'_, '_>, welcomed: bool) -> NextTree {
    if welcomed || made.delta.len() > view.tree.len() / 2 {
        let tree = made.whole().clone();
        let delta = made.delta.len() < tree.len();
        let delta = delta.then(|| made.delta.into());
        NextTree::Whole { tree, delta }
    } else {
        NextTree::Delta(made.delta.into())
    }
}

/// The leaf that says it committed, none for an external Commit; if group and epoch are the current ones.
fn check_header(context: &Context<'_>, commit: &Bytes) -> Result<Option<u32>, BundleRefused> {
    let header = handshake_header(commit).map_err(in_part("Commit"))?;
    if header.group_id != context.group_id {
        return Err(BundleRefused::WrongGroup);
    }
    if header.epoch != context.epoch {
        return Err(BundleRefused::WrongEpoch {
            commit: header.epoch,
            current: context.epoch,
        });
    }
    match header.sender {
        Sender::Member(leaf) => Ok(Some(leaf)),
        Sender::NewMemberCommit => Ok(None),
        Sender::External(_) | Sender::NewMemberProposal => {
            Err(BundleRefused::Unsupported("Commit from outside the group"))
        }
    }
}

/// Puts the Commit's path into the changed tree; gives the tree hashes of the next epoch.
fn apply_path<'a>(
    group: &Group<'_, 'a>,
    changed: &mut Changed<'a>,
    commit: &Commit<'a>,
    items: &[Item<'a>],
    committer: u32,
) -> Result<Hashes<'a>, BundleRefused> {
    let mut hashes = changed.tree.hashes(group.suite);
    let needed = items.is_empty() || items.iter().any(|item| item.proposal.needs_path());
    match &commit.path {
        None if needed => return Err(TreeRefused::Path("there must be one").into()),
        None => {}
        Some(path) => {
            let added = changed.added.keys().copied().collect();
            let Group {
                suite,
                suite_number,
                group_id,
                ..
            } = *group;
            let place = path::Place {
                suite,
                suite_number,
                group_id,
                committer,
                added: &added,
            };
            path::apply(&mut changed.tree, &mut hashes, path, &changed.keys, &place)
                .map_err(TreeRefused::Path)?;
            let extensions = changed
                .extensions
                .as_ref()
                .map_or(group.extensions, |new| &new.list);
            let required = extension::required(extensions)
                .map_err(|cause| in_part("GroupContext")(cause.into()))?;
            if let Some(lack) = path.leaf.lacks(extensions, &required) {
                return Err(TreeRefused::Path(lack).into());
            }
        }
    }
    Ok(hashes)
}

/// Completes the result of a valid bundle: who came, went and changed.
fn membership_changes(
    old: &Tree<'_>,
    changed: &Changed<'_>,
    mut result: CheckedBundle,
) -> Result<CheckedBundle, BundleRefused> {
    let part = in_part("ratchet tree");
    for (index, before, after) in changed.tree.touched() {
        let (Some(Node::Leaf(leaf)), Some(number)) = (after, to_leaf(index)) else {
            continue;
        };
        let added = changed.added.get(&number);
        let renewed = match &before {
            Some(Node::Leaf(before)) => before.signature_key != leaf.signature_key,
            Some(Node::Parent(_)) | None => true,
        };
        if added.is_some() || (result.external && number == result.committer) {
            let Member {
                leaf,
                client,
                signature_key,
            } = member_of(number, &leaf).map_err(&part)?;
            let key_package_reference = added.map(|reference| Bytes::copy_from_slice(reference));
            let joined = Joined {
                leaf,
                client,
                key_package_reference,
                signature_key,
            };
            let pushed = result.joined.push(joined);
            pushed.map_err(|_| too_many("clients that join", ADDS_PER_COMMIT_MAX))?;
        } else if renewed {
            result
                .updated
                .push(member_of(number, &leaf).map_err(&part)?);
        }
    }
    for number in &changed.removed {
        if let Some(leaf) = old.leaf(*number) {
            let left = result.left.push(member_of(*number, &leaf).map_err(&part)?);
            left.map_err(|_| too_many("clients that leave", PROPOSALS_PER_BUNDLE_MAX))?;
        }
    }
    Ok(result)
}

/// The refusal of a Commit that changes more members than one may.
fn too_many(what: &'static str, max: usize) -> BundleRefused {
    BundleRefused::Malformed {
        part: "Commit",
        cause: Malformed::TooMany { what, max },
    }
}
