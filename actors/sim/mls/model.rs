//! MLS without cryptography: epochs, a chain of hashes that only members know, trees of leaves, KeyPackage references.
//!
//! Promises: equal seeds give equal bytes; what a real member would refuse (a Commit of another epoch, a Proposal that
//! it never saw, a message that it has no key for, a KeyPackage of somebody else) is refused here. Not here:
//! signatures; a sender is who the header says, so the checks compare it with who was at the door.

mod member;
pub(super) mod packages;
mod proposals;
pub(super) mod sealing;
mod trees;
mod welcome;

use super::{Intent, Took, Wish};
use crate::{
    group_info::Sealing,
    ids::{ClientUri, RoomUri},
    limits::EPOCH_TOLERANCE_EPOCHS,
    machine::Millis,
    mls::{
        check::{
            bundle::{Bundle, BundleRefused, CheckedBundle, Joined, SenderRefused},
            create::CheckedCreate,
            expel::NotProposed,
            proposal::{PendingProposal, ProposalRefused, contradicting, omitted},
        },
        codec::{
            context::Context,
            message::{HandshakeKind, Sender, application_header, handshake_header},
            reader::Reader,
            sealed::NotSealed,
        },
        tree::{
            container::{self, Before},
            view::{GroupView, Member as InGroup},
        },
    },
    room::checks::Verifier,
    shard::names::GroupName,
    user::command::StoredPackage,
    wire::{
        BText, BVec, Payload,
        door::{PackageRefused, RoomBody},
        event::{Epoch, Hash},
        joining::{GroupInfoRequest, SealedGroupInfo},
        refusal::RefusalCode,
        room::Beginning,
        tree::TreeContainer,
    },
};
use bytes::Bytes;
#[allow(unreachable_pub, reason = "reached through the enum of members")]
pub use member::{Entrance, Member};
use proposals::{check_expel, check_proposal, read_pending};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use trees::{check_tree, decode_tree, encode_tree, next_view, put_vector};
use welcome::Welcoming;

const MLS_10: u16 = 1;
const SUITE: u16 = 1;
const PUBLIC_MESSAGE: u16 = 1;
const PRIVATE_MESSAGE: u16 = 2;
const PACKAGE_LIFE_S: u64 = 30 * 24 * 3_600;
/// How long before now the life of a KeyPackage begins, in seconds: clocks differ.
const SKEW_S: u64 = 3_600;
/// Epochs whose messages a member can still read: the current one and as many as the hub tolerates.
const EPOCHS_KEPT: usize = 6;
const _: () = assert!(EPOCHS_KEPT as u64 == EPOCH_TOLERANCE_EPOCHS + 1);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Leaf {
    client: ClientUri,
    key: u64,
}

type Tree = Vec<Option<Leaf>>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Package {
    client: ClientUri,
    nonce: u64,
    not_before_s: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Proposed {
    Update { key: u64 },
    Remove { leaf: u32 },
    Leave,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Committed {
    parent: Hash,
    covered: Vec<Bytes>,
    add: Vec<Bytes>,
    remove: Vec<u32>,
    /// Who joins by this Commit, which is an external one.
    joiner: Option<ClientUri>,
    key: u64,
    /// Whether it ends the group.
    reinit: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sealed {
    key: Hash,
    leaf: u32,
    content: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Info {
    group_context: Bytes,
    signer: u32,
}

/// Public state from which a Commit leads on.
#[derive(Clone, Debug)]
struct Base {
    epoch: u64,
    chain: Hash,
    tree: Tree,
}

/// Why a Commit leads nowhere.
enum Flaw {
    Parent,
    Unknown(Vec<Bytes>),
    Invalid(&'static str),
}

/// Where a Commit leads.
struct Next {
    chain: Hash,
    tree: Tree,
    joined: Vec<(u32, Leaf, Option<Bytes>)>,
    /// The committer's leaf: in an external Commit the one it takes.
    committer: u32,
    left: Vec<(u32, Leaf)>,
    updated: Vec<u32>,
}

fn encode(value: &impl Serialize) -> Bytes {
    postcard::to_stdvec(value).unwrap_or_default().into()
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        Ok(_) | Err(_) => None,
    }
}

fn group_context(group_id: &[u8], epoch: u64, tree: &Tree, chain: Hash) -> Bytes {
    let mut out = Vec::new();
    out.extend(MLS_10.to_be_bytes());
    out.extend(SUITE.to_be_bytes());
    put_vector(&mut out, group_id);
    out.extend(epoch.to_be_bytes());
    put_vector(&mut out, &Hash::of(&encode_tree(tree)).0);
    put_vector(&mut out, &chain.0);
    put_vector(&mut out, &[]);
    out.into()
}

/// The front of a PublicMessage, and then the model's own content.
fn public_message(group_id: &[u8], epoch: u64, from: From, kind: u8, content: &[u8]) -> Bytes {
    let mut out = Vec::new();
    out.extend(MLS_10.to_be_bytes());
    out.extend(PUBLIC_MESSAGE.to_be_bytes());
    put_vector(&mut out, group_id);
    out.extend(epoch.to_be_bytes());
    match from {
        From::Member(leaf) => {
            out.push(1);
            out.extend(leaf.to_be_bytes());
        }
        From::Hub => {
            out.push(2);
            out.extend(0_u32.to_be_bytes());
        }
        From::Joiner => out.push(4),
    }
    put_vector(&mut out, &[]);
    out.push(kind);
    out.extend_from_slice(content);
    out.into()
}

/// Who sends a PublicMessage.
#[derive(Clone, Copy)]
enum From {
    /// The member at a leaf.
    Member(u32),
    /// The first external sender of the group.
    Hub,
    /// A client that joins by it.
    Joiner,
}

/// The sender of a Proposal that is no member's, but the hub's.
const HUB: u32 = u32::MAX;

/// What follows the front of a PublicMessage; of one of the hub, it is as long as a member's.
fn content_of(message: &[u8], group_id: &[u8], from_member: bool) -> Option<Bytes> {
    let from = if from_member {
        From::Member(0)
    } else {
        From::Joiner
    };
    let front = public_message(group_id, 0, from, 0, &[]).len();
    message.get(front..).map(Bytes::copy_from_slice)
}

fn chain_after(chain: Hash, commit: &[u8]) -> Hash {
    Hash::of_parts([&chain.0[..], commit])
}

fn message_key(chain: Hash) -> Hash {
    Hash::of_parts([&chain.0[..], b"application"])
}

fn leaf_of(tree: &Tree, client: &ClientUri) -> Option<u32> {
    let place = tree
        .iter()
        .position(|leaf| leaf.as_ref().is_some_and(|leaf| leaf.client == *client))?;
    u32::try_from(place).ok()
}

fn leaf_at(tree: &Tree, leaf: u32) -> Option<&Leaf> {
    tree.get(leaf as usize)?.as_ref()
}

fn set(tree: &mut Tree, leaf: u32, to: Option<Leaf>) {
    if let Some(place) = tree.get_mut(leaf as usize) {
        *place = to;
    }
}

/// Puts a leaf in the first free place, and tells which.
fn add(tree: &mut Tree, leaf: Leaf) -> u32 {
    let place = tree.iter().position(Option::is_none).unwrap_or(tree.len());
    if place == tree.len() {
        tree.push(None);
    }
    let place = u32::try_from(place).unwrap_or(u32::MAX);
    set(tree, place, Some(leaf));
    place
}

impl Base {
    /// An external Commit adds nobody, and removes its sender's own former leaf, or none.
    fn check_entry(&self, joiner: &ClientUri, content: &Committed) -> Result<(), Flaw> {
        if !content.add.is_empty() {
            return Err(Flaw::Invalid("an external Commit adds another client"));
        }
        let own = |leaf: &u32| leaf_at(&self.tree, *leaf).is_some_and(|is| is.client == *joiner);
        if content.remove.iter().all(own) {
            Ok(())
        } else {
            Err(Flaw::Invalid("an external Commit removes another client"))
        }
    }

    /// What every member, and the hub, computes from a Commit.
    fn after(
        &self,
        committer: Option<u32>,
        commit: &[u8],
        content: &Committed,
        pending: &[(Bytes, u32, Proposed)],
    ) -> Result<Next, Flaw> {
        if content.parent != self.chain {
            return Err(Flaw::Parent);
        }
        let alone = content.covered.is_empty() && content.add.is_empty();
        if content.reinit && !(alone && content.remove.is_empty() && content.joiner.is_none()) {
            return Err(Flaw::Invalid("a ReInit stands beside other proposals"));
        }
        let known = |reference: &Bytes| pending.iter().find(|(known, ..)| known == reference);
        let unknown: Vec<Bytes> = content
            .covered
            .iter()
            .filter(|reference| known(reference).is_none())
            .cloned()
            .collect();
        if !unknown.is_empty() {
            return Err(Flaw::Unknown(unknown));
        }
        let mut tree = self.tree.clone();
        let mut updated = BTreeSet::new();
        let mut removed: BTreeSet<u32> = BTreeSet::new();
        for (_, sender, proposed) in content.covered.iter().filter_map(known) {
            match proposed {
                Proposed::Update { .. } | Proposed::Remove { .. } if committer.is_none() => {
                    return Err(Flaw::Invalid("an external Commit takes in only who leaves"));
                }
                Proposed::Update { .. } if Some(*sender) == committer => {
                    return Err(Flaw::Invalid("the committer's own Update"));
                }
                Proposed::Update { key } => {
                    if !updated.insert(*sender) {
                        return Err(Flaw::Invalid("two Updates of one leaf"));
                    }
                    if let Some(Some(leaf)) = tree.get_mut(*sender as usize) {
                        leaf.key = *key;
                    }
                }
                Proposed::Remove { leaf } => {
                    if !removed.insert(*leaf) {
                        return Err(Flaw::Invalid("two Removes of one leaf"));
                    }
                }
                Proposed::Leave => {
                    if !removed.insert(*sender) {
                        return Err(Flaw::Invalid("two Removes of one leaf"));
                    }
                }
            }
        }
        for leaf in &content.remove {
            if !removed.insert(*leaf) {
                return Err(Flaw::Invalid("two Removes of one leaf"));
            }
        }
        if let Some(joiner) = &content.joiner {
            self.check_entry(joiner, content)?;
        }
        if committer.is_some_and(|committer| removed.contains(&committer))
            || removed.iter().any(|leaf| updated.contains(leaf))
        {
            return Err(Flaw::Invalid(
                "a Remove of the committer or of an updated leaf",
            ));
        }
        let mut left = Vec::new();
        for leaf in removed {
            let Some(gone) = leaf_at(&self.tree, leaf) else {
                return Err(Flaw::Invalid("a Remove of a blank leaf"));
            };
            left.push((leaf, gone.clone()));
            set(&mut tree, leaf, None);
        }
        let mut joined = Vec::new();
        for bytes in &content.add {
            let Some(package) = decode::<Package>(bytes) else {
                return Err(Flaw::Invalid("an Add that is no KeyPackage"));
            };
            if leaf_of(&tree, &package.client).is_some() {
                return Err(Flaw::Invalid("an Add of a member"));
            }
            let leaf = Leaf {
                client: package.client,
                key: package.nonce,
            };
            let place = add(&mut tree, leaf.clone());
            joined.push((place, leaf, Some(reference_of(bytes))));
        }
        let committer = match (committer, &content.joiner) {
            (Some(committer), None) => committer,
            (None, Some(joiner)) => {
                let leaf = Leaf {
                    client: joiner.clone(),
                    key: content.key,
                };
                if leaf_of(&tree, joiner).is_some() {
                    return Err(Flaw::Invalid("a client is in the group twice"));
                }
                let place = add(&mut tree, leaf.clone());
                joined.push((place, leaf, None));
                place
            }
            (Some(_), Some(_)) | (None, None) => return Err(Flaw::Invalid("sender")),
        };
        if let Some(Some(leaf)) = tree.get_mut(committer as usize) {
            leaf.key = content.key;
            if content.joiner.is_none() {
                updated.insert(committer);
            }
        }
        while tree.last().is_some_and(Option::is_none) {
            tree.pop();
        }
        Ok(Next {
            chain: chain_after(self.chain, commit),
            tree,
            joined,
            committer,
            left,
            updated: updated.into_iter().collect(),
        })
    }
}

fn reference_of(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&Hash::of(bytes).0)
}

/// The chain as the view keeps it: the hub sees it, as it sees transcript hashes.
fn base_of(view: &GroupView) -> Option<Base> {
    let chain: [u8; 32] = view.interim_transcript_hash[..].try_into().ok()?;
    Some(Base {
        epoch: view.epoch().ok()?,
        chain: Hash(chain),
        tree: decode_tree(&view.tree)?,
    })
}

fn view_of(group_id: &[u8], epoch: u64, tree: &Tree, chain: Hash, group_info: Bytes) -> GroupView {
    GroupView {
        group_context: group_context(group_id, epoch, tree, chain),
        confirmation_tag: Bytes::copy_from_slice(&chain.0),
        interim_transcript_hash: Bytes::copy_from_slice(&chain.0),
        group_info,
        tree: encode_tree(tree),
    }
}

fn in_group(leaf: u32, of: &Leaf) -> InGroup {
    InGroup {
        leaf,
        client: of.client.clone(),
        signature_key: Bytes::copy_from_slice(&of.key.to_be_bytes()),
    }
}

/// What the model checks with.
pub(super) struct Checks;

impl Verifier for Checks {
    fn create(
        &self,
        creator: &ClientUri,
        beginning: &Beginning,
    ) -> Result<CheckedCreate, BundleRefused> {
        check_create(creator, beginning.group_info.0.clone(), &beginning.tree)
    }

    fn bundle(
        &self,
        view: &GroupView,
        pending: &[PendingProposal],
        bundle: &Bundle,
        sender: &ClientUri,
        _now: Millis,
    ) -> Result<CheckedBundle, BundleRefused> {
        check_bundle(view, pending, bundle, sender)
    }

    fn proposal(
        &self,
        view: &GroupView,
        message: &Bytes,
        sender: &ClientUri,
        _now: Millis,
    ) -> Result<PendingProposal, ProposalRefused> {
        check_proposal(view, message, sender)
    }

    fn expel(
        &self,
        view: &GroupView,
        epoch: u64,
        leaf: u32,
    ) -> Result<PendingProposal, NotProposed> {
        check_expel(view, epoch, leaf)
    }

    fn request_flaw(&self, request: &GroupInfoRequest) -> Option<RefusalCode> {
        (request.signature != sealing::sign_request(request)).then_some(RefusalCode::Signature)
    }

    fn seal(&self, sealing: &Sealing) -> Result<SealedGroupInfo, NotSealed> {
        Ok(sealing::seal(sealing))
    }

    fn random(&self, of: Hash) -> Option<[u8; 16]> {
        of.0.first_chunk().copied()
    }
}

fn check_create(
    creator: &ClientUri,
    group_info: Bytes,
    tree: &TreeContainer,
) -> Result<CheckedCreate, BundleRefused> {
    let mismatch = |field| BundleRefused::GroupInfoMismatch { field };
    let info: Info = decode(&group_info).ok_or_else(|| mismatch("group_info"))?;
    let tree = container::founding(tree)?;
    let leaves: Tree = decode_tree(&tree).ok_or_else(|| mismatch("tree"))?;
    let [Some(leaf)] = &leaves[..] else {
        return Err(mismatch("tree"));
    };
    if leaf.client != *creator {
        return Err(BundleRefused::Sender(SenderRefused::NotBound));
    }
    let mut view = view_of(&[], 0, &leaves, Hash::default(), group_info);
    view.group_context = info.group_context;
    let group_id = view.group_id().map_err(|_| mismatch("group_context"))?;
    let chain = first_chain(&group_id, leaf);
    if view.group_context != group_context(&group_id, 0, &leaves, chain) {
        return Err(mismatch("group_context"));
    }
    view.interim_transcript_hash = Bytes::copy_from_slice(&chain.0);
    let members = vec![in_group(0, leaf)];
    Ok(CheckedCreate { view, members })
}

/// The name of the group that a GroupInfo of the model is of.
pub(super) fn group_of(group_info: &[u8]) -> Option<GroupName> {
    let info: Info = decode(group_info)?;
    let context = Context::read(&mut Reader::new(&info.group_context)).ok()?;
    Some(GroupName::of(context.group_id))
}

fn first_chain(group_id: &[u8], leaf: &Leaf) -> Hash {
    Hash::of_parts([group_id, &leaf.key.to_be_bytes()])
}

fn check_bundle(
    view: &GroupView,
    pending: &[PendingProposal],
    bundle: &Bundle,
    sender: &ClientUri,
) -> Result<CheckedBundle, BundleRefused> {
    let invalid = |reason| BundleRefused::InvalidProposals {
        references: Vec::new(),
        reason,
    };
    let header =
        handshake_header(&bundle.commit).map_err(|_| BundleRefused::Unsupported("commit"))?;
    let base = base_of(view).ok_or_else(|| invalid("the view is not the model's"))?;
    if header.kind != HandshakeKind::Commit {
        return Err(BundleRefused::Unsupported("no Commit"));
    }
    if header.epoch != base.epoch {
        let (commit, current) = (header.epoch, base.epoch);
        return Err(BundleRefused::WrongEpoch { commit, current });
    }
    let member = match header.sender {
        Sender::Member(leaf) => Some(leaf),
        Sender::NewMemberCommit => None,
        Sender::External(_) | Sender::NewMemberProposal => {
            return Err(BundleRefused::Unsupported("sender"));
        }
    };
    let content: Committed = content_of(&bundle.commit, &header.group_id, member.is_some())
        .and_then(|content| decode(&content))
        .ok_or_else(|| invalid("no Commit content"))?;
    let client = match member {
        Some(leaf) => {
            &leaf_at(&base.tree, leaf)
                .ok_or(SenderRefused::NotMember)?
                .client
        }
        None => content.joiner.as_ref().ok_or(SenderRefused::NotBound)?,
    };
    if client != sender {
        return Err(SenderRefused::NotBound.into());
    }
    check_covered(&content, pending)?;
    let known = read_pending(&header.group_id, pending);
    let next = base
        .after(member, &bundle.commit, &content, &known)
        .map_err(|flaw| match flaw {
            Flaw::Parent => BundleRefused::GroupInfoMismatch {
                field: "confirmed_transcript_hash",
            },
            Flaw::Unknown(references) => BundleRefused::UnknownProposals { references },
            Flaw::Invalid(reason) => invalid(reason),
        })?;
    let tree = encode_tree(&next.tree);
    check_tree(view, &bundle.tree, &tree)?;
    let removed = next.left.iter().map(|(leaf, _)| *leaf).collect();
    let references = omitted(pending, &removed, member.is_none());
    if !references.is_empty() {
        return Err(BundleRefused::OmittedProposals { references });
    }
    let epoch = base.epoch + 1;
    let committer = next.committer;
    let group_info = info_of(&header.group_id, epoch, &next.tree, next.chain, committer);
    if bundle.group_info.0 != group_info {
        return Err(BundleRefused::GroupInfoMismatch {
            field: "group_context",
        });
    }
    check_welcome(&next, bundle.welcome.as_deref())?;
    let joined = next.joined.iter();
    let updated = next.updated.iter();
    Ok(CheckedBundle {
        next: next_view(
            view,
            view_of(&header.group_id, epoch, &next.tree, next.chain, group_info),
            bundle.welcome.is_some(),
        )?,
        committer,
        external: member.is_none(),
        reinit: content.reinit,
        place: bundle.tree.place().cloned(),
        // Nobody makes a Commit in this world that changes more members than one may.
        joined: BVec::first_max(joined.map(|(leaf, joined, reference)| Joined {
            leaf: *leaf,
            client: joined.client.clone(),
            key_package_reference: reference.clone(),
            signature_key: Bytes::copy_from_slice(&joined.key.to_be_bytes()),
        })),
        left: BVec::first_max(next.left.iter().map(|(leaf, of)| in_group(*leaf, of))),
        updated: updated
            .filter_map(|leaf| Some(in_group(*leaf, leaf_at(&next.tree, *leaf)?)))
            .collect(),
        covered: content.covered,
        audited: false,
    })
}

/// No Commit takes in members that remove one another.
fn check_covered(content: &Committed, pending: &[PendingProposal]) -> Result<(), BundleRefused> {
    let covered: Vec<&PendingProposal> = pending
        .iter()
        .filter(|one| content.covered.contains(&one.reference))
        .collect();
    let references = contradicting(&covered);
    if references.is_empty() {
        return Ok(());
    }
    Err(BundleRefused::InvalidProposals {
        references,
        reason: "members remove one another",
    })
}

fn check_welcome(next: &Next, welcome: Option<&Bytes>) -> Result<(), BundleRefused> {
    let mismatch = |reason| Err(BundleRefused::WelcomeMismatch { reason });
    let added: Vec<&Bytes> = next
        .joined
        .iter()
        .filter_map(|(_, _, reference)| reference.as_ref())
        .collect();
    match welcome {
        None if added.is_empty() => Ok(()),
        None => mismatch("it is missing"),
        Some(_) if added.is_empty() => mismatch("nobody is added"),
        Some(welcome) => match Welcoming::read(welcome) {
            Some(told) if told.references.iter().collect::<Vec<_>>() == added => Ok(()),
            Some(_) | None => mismatch("its references are others"),
        },
    }
}

fn info_of(group_id: &[u8], epoch: u64, tree: &Tree, chain: Hash, signer: u32) -> Bytes {
    encode(&Info {
        group_context: group_context(group_id, epoch, tree, chain),
        signer,
    })
}
