//! What a hostile member can make: everything signed with its own right key, and yet wrong.

use super::super::{
    fixture::{AUDITED, Client, SUITE, World, now},
    tree::Tree,
};
use crate::mls::{
    check::{
        bundle::{Bundle, BundleRefused, CheckedBundle, TreeRefused, check_bundle},
        hub_senders::HubSenders,
        proposal::{PendingProposal, ProposalRefused, check_proposal},
    },
    codec::{
        commit::Commit,
        framing::Framed,
        group_info::GroupInfo,
        message::HandshakeKind,
        reader::{Reader, put_vector},
        suite::Suite,
    },
    tree::cache::TreeCache,
};
use bytes::Bytes;
use openmls::prelude::{KeyPackage, tls_codec::Serialize as _};
use openmls_traits::signatures::Signer as _;
use std::rc::Rc;

pub(super) fn signed(client: &Client, label: &str, content: &[u8]) -> Vec<u8> {
    let mut input = Vec::new();
    put_vector(&mut input, format!("MLS 1.0 {label}").as_bytes());
    put_vector(&mut input, content);
    let mut out = Vec::new();
    put_vector(&mut out, &client.signer.sign(&input).unwrap());
    out
}

/// A PublicMessage of member `by`, rightly signed, with this content type and content.
pub(super) fn framed(world: &World, by: usize, kind: u8, content: &[u8]) -> Bytes {
    let leaf = u32::try_from(by).unwrap().to_be_bytes();
    let mut message = vec![0, 1, 0, 1];
    put_vector(&mut message, &world.view.group_id().unwrap());
    message.extend(world.view.epoch().unwrap().to_be_bytes());
    message.push(1);
    message.extend(leaf);
    message.extend([0, kind]);
    message.extend_from_slice(content);
    let signature = signed(
        &world.clients[by],
        "FramedContentTBS",
        &[&message[..], &world.view.group_context].concat(),
    );
    message.extend(signature);
    if kind == 3 {
        put_vector(&mut message, &[0; 32]);
    }
    put_vector(&mut message, &[0; 32]);
    message.into()
}

/// A Commit without a path with these entries of its list.
pub(super) fn commit(world: &World, by: usize, entries: &[Vec<u8>]) -> Bundle {
    let mut content = Vec::new();
    put_vector(&mut content, &entries.concat());
    content.push(0);
    let commit = framed(world, by, 3, &content);
    Bundle {
        commit: commit.into(),
        welcome: None,
        group_info: world.view.group_info.clone().into(),
        tree: world.view.tree.clone().into(),
    }
}

pub(super) fn value(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[1, 0, kind], content].concat()
}

fn add(client: &Client) -> Vec<u8> {
    value(1, &client.key_package().tls_serialize_detached().unwrap())
}

/// A bundle of `by` that adds one KeyPackage without a path; only its tags and secrets are made up.
pub(super) fn adding(world: &World, by: usize, package: &KeyPackage) -> Bundle {
    let suite = Suite::new(1).unwrap();
    let encoded = package.tls_serialize_detached().unwrap();
    let commit = commit(world, by, &[value(1, &encoded)]).commit;
    let framed = Framed::read(&commit, HandshakeKind::Commit, commit.len(), Commit::read).unwrap();

    let mut tree = Tree::read(&world.view.tree).unwrap();
    let mut reader = Reader::new(&encoded);
    let package = crate::mls::codec::key_package::KeyPackage::read(&mut reader).unwrap();
    tree.add(Rc::new(package.leaf.clone())).unwrap();

    let context = world.view.context().unwrap();
    let tree_hash = tree.root_hash(&tree.hashes(&suite));
    let confirmed = framed.confirmed_transcript_hash(&suite, &world.view.interim_transcript_hash);
    let extensions = context.extensions.encoded;
    let mut info = context.next(context.epoch + 1, &tree_hash, &confirmed, extensions);
    info.extend([36, 0, 4, 33, 32]);
    info.extend([5; 32]);
    put_vector(&mut info, &[0; 32]);
    info.extend(u32::try_from(by).unwrap().to_be_bytes());
    let signature = signed(&world.clients[by], "GroupInfoTBS", &info);

    let mut secrets = Vec::new();
    put_vector(&mut secrets, &package.reference(&suite));
    put_vector(&mut secrets, &[9; 32]);
    put_vector(&mut secrets, &[0; 51]);
    let mut welcome = vec![0, 1, 0, 3, 0, 1];
    put_vector(&mut welcome, &secrets);
    welcome.push(0);
    let group_info = [&[0, 1, 0, 4][..], &info, &signature].concat().into();
    Bundle {
        commit: commit.clone(),
        welcome: Some(welcome.into()),
        group_info,
        tree: tree.write().into(),
    }
}

fn reason(refused: Result<CheckedBundle, BundleRefused>) -> &'static str {
    match refused {
        Err(BundleRefused::InvalidProposals { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lists_that_break_a_rule_are_refused_with_the_rule() {
    let world = World::of(3);
    let new = Client::new("new", SUITE);
    let other_suite = Client::new(
        "new",
        openmls::prelude::Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519,
    );
    let refused = |entries: &[Vec<u8>]| reason(world.check(0, &commit(&world, 0, entries)));
    let remove = |leaf: u8| value(3, &[0, 0, 0, leaf]);
    assert_eq!(refused(&[remove(0)]), "committer is removed");
    assert_eq!(refused(&[remove(3)]), "removes a leaf that is blank");
    assert_eq!(
        refused(&[value(3, &[0xff; 4])]),
        "removes a leaf that is blank"
    );
    assert_eq!(
        refused(&[remove(1), remove(1)]),
        "two proposals change one leaf"
    );
    assert_eq!(refused(&[value(10, &[])]), "SelfRemove is not by reference");
    assert_eq!(
        refused(&[add(&new), add(&new)]),
        "signature key is in the group twice"
    );
    assert_eq!(
        refused(&[add(&new), add(&Client::new("new", SUITE))]),
        "client is in the group twice"
    );
    assert_eq!(
        refused(&[add(&Client::new("u1", SUITE))]),
        "client is in the group twice"
    );
    assert_eq!(
        refused(&[add(&other_suite)]),
        "adds a KeyPackage of another ciphersuite"
    );
    assert_eq!(
        refused(&[value(7, &[0]), value(7, &[0])]),
        "two proposals change the extensions"
    );
    let unknown_extension = value(7, &[3, 0xf0, 1, 0]);
    assert_eq!(
        refused(&[unknown_extension]),
        "a member does not support an extension of the group"
    );
    let required = value(7, &[8, 0, 3, 5, 2, 0xf0, 1, 0, 0]);
    assert_eq!(refused(&[required]), "a member lacks a required extension");
    let package = new.key_package().tls_serialize_detached().unwrap();
    let mut wrong = package.clone();
    *wrong.last_mut().unwrap() ^= 1;
    assert_eq!(
        refused(&[value(1, &wrong)]),
        "adds a KeyPackage with a wrong signature"
    );
}

#[test]
fn kinds_of_commits_and_proposals_that_are_not_taken_are_named() {
    let world = World::of(2);
    for (kind, what) in [
        (4, "PreSharedKey proposal"),
        (8, "proposal type"),
        (0, "proposal type"),
    ] {
        let bundle = commit(&world, 0, &[value(kind, &[0; 40])]);
        assert_eq!(
            world.check(0, &bundle),
            Err(BundleRefused::Unsupported(what))
        );
        let message = framed(&world, 0, 2, &[&[0, kind][..], &[0; 40]].concat());
        let refused = check_proposal(
            &world.view,
            &message,
            &world.clients[0].uri,
            now(),
            &TreeCache::none(),
            &HubSenders::NONE,
        );
        assert_eq!(refused, Err(ProposalRefused::Unsupported(what)));
    }
    let mut encrypted = commit(&world, 0, &[]);
    let mut bytes = encrypted.commit.to_vec();
    bytes[3] = 2;
    encrypted.commit = bytes.into();
    assert_eq!(
        world.check(0, &encrypted),
        Err(BundleRefused::Unsupported("encrypted handshake message"))
    );
}

/// The content of a ReInit.
fn reinit(group_id: &[u8], version: u8) -> Vec<u8> {
    let mut content = Vec::new();
    put_vector(&mut content, group_id);
    content.extend([0, version, 0, 1, 0]);
    content
}

#[test]
fn a_reinit_stands_alone_names_another_group_and_does_not_go_back() {
    let world = World::of(3);
    let refused = |entries: &[Vec<u8>]| match world.check(0, &commit(&world, 0, entries)) {
        Err(BundleRefused::InvalidProposals { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let next = value(5, &reinit(b"next", 1));
    let beside = [next.clone(), value(3, &[0, 0, 0, 1])];
    assert_eq!(refused(&beside), "a ReInit stands beside other proposals");
    let twice = [next.clone(), next.clone()];
    assert_eq!(refused(&twice), "a ReInit stands beside other proposals");
    let back = value(5, &reinit(b"next", 0));
    assert_eq!(refused(&[back]), "goes back to an older version");
    let own = value(5, &reinit(b"clubhouse", 1));
    assert_eq!(
        refused(&[own]),
        "the group that follows has the id of this one"
    );
    // Alone it needs no path; here only the GroupInfo is of another epoch.
    let alone = world.check(0, &commit(&world, 0, &[next]));
    assert!(matches!(
        alone,
        Err(BundleRefused::GroupInfoMismatch { .. } | BundleRefused::Tree(_))
    ));
}

#[test]
fn an_external_init_is_only_for_those_outside() {
    let world = World::of(2);
    let mut content = Vec::new();
    put_vector(&mut content, &[0; 32]);
    let reason = "ExternalInit stands in external Commits only";
    let bundle = commit(&world, 0, &[value(6, &content)]);
    assert_eq!(
        world.check(0, &bundle),
        Err(BundleRefused::InvalidProposals {
            references: vec![],
            reason,
        })
    );
    let message = framed(&world, 0, 2, &[&[0, 6][..], &content].concat());
    let refused = check_proposal(
        &world.view,
        &message,
        &world.clients[0].uri,
        now(),
        &TreeCache::none(),
        &HubSenders::NONE,
    );
    assert_eq!(refused, Err(ProposalRefused::Invalid(reason)));
}

#[test]
fn a_commit_that_needs_a_path_must_have_one_and_one_that_adds_must_have_a_welcome() {
    let world = World::of(3);
    let missing = BundleRefused::Tree(TreeRefused::Path("there must be one"));
    let context = world.view.context().unwrap();
    let same = value(7, context.extensions.encoded);
    for entries in [vec![], vec![value(3, &[0, 0, 0, 1])], vec![same]] {
        assert_eq!(
            world.check(0, &commit(&world, 0, &entries)),
            Err(missing.clone())
        );
    }
    let bundle = commit(&world, 0, &[add(&Client::new("new", SUITE))]);
    assert!(matches!(
        world.check(0, &bundle),
        Err(BundleRefused::WelcomeMismatch { .. })
    ));
}

#[test]
fn pending_proposals_that_exclude_each_other_wait_together_but_cannot_be_committed_together() {
    let mut world = World::of(3);
    world.clients.push(Client::new("new", SUITE));
    let reference = |one: &PendingProposal| {
        let mut entry = vec![2];
        put_vector(&mut entry, &one.reference);
        entry
    };
    let (first, second) = (world.propose_add(0, 3), world.propose_add(1, 3));
    let by_one = world.propose_remove(1, 2);
    let by_two = world.propose_remove(2, 1);
    let refused = |by: usize, named: &[&PendingProposal], references: Vec<Bytes>| {
        let entries: Vec<_> = named.iter().map(|one| reference(one)).collect();
        match world.check(by, &commit(&world, by, &entries)) {
            Err(BundleRefused::InvalidProposals {
                references: told, ..
            }) => assert_eq!(told, references),
            other => panic!("{other:?}"),
        }
    };
    refused(
        0,
        &[&by_one, &first, &second],
        vec![first.reference.clone(), second.reference.clone()],
    );
    let both = vec![by_one.reference.clone(), by_two.reference.clone()];
    refused(1, &[&by_one, &by_two], both.clone());
    refused(0, &[&by_one, &by_two], both);
    refused(1, &[&by_two], vec![by_two.reference.clone()]);
    refused(0, &[&by_one, &by_one], vec![by_one.reference.clone()]);
}

/// The GroupInfo of a bundle, changed and signed anew.
struct Forged {
    context: Vec<u8>,
    extensions: Vec<u8>,
    tag: Vec<u8>,
    signer: u32,
}

#[test]
fn a_group_info_that_differs_in_any_field_is_refused_with_the_field() {
    let mut world = World::of(3);
    let bundle = world.bundle(1, &[], &[], true);
    let info = GroupInfo::read(&bundle.group_info).unwrap();
    let context = info.context.encoded.to_vec();
    let body = &bundle.group_info[4..];
    let extensions_bytes = 1 + usize::from(body[context.len()]);
    let check = |change: &dyn Fn(&mut Forged)| {
        let mut forged = Forged {
            context: context.clone(),
            extensions: body[context.len()..context.len() + extensions_bytes].to_vec(),
            tag: info.confirmation_tag.to_vec(),
            signer: info.signer,
        };
        change(&mut forged);
        let mut content = [forged.context, forged.extensions].concat();
        put_vector(&mut content, &forged.tag);
        content.extend(forged.signer.to_be_bytes());
        let signature = signed(&world.clients[1], "GroupInfoTBS", &content);
        let group_info = [&[0, 1, 0, 4][..], &content, &signature].concat().into();
        let bundle = Bundle {
            group_info,
            ..bundle.clone()
        };
        check_bundle(
            &world.view,
            &[],
            &bundle,
            &world.clients[1].uri,
            now(),
            AUDITED,
        )
    };
    assert!(check(&|_| {}).is_ok());
    let field = |change: &dyn Fn(&mut Forged)| match check(change) {
        Err(BundleRefused::GroupInfoMismatch { field }) => field,
        other => panic!("{other:?}"),
    };
    // The context is version, suite, group id (9 bytes and its length), epoch, and two hashes with their lengths.
    assert_eq!(field(&|forged| forged.context[3] = 3), "cipher_suite");
    assert_eq!(field(&|forged| forged.context[5] ^= 1), "group_id");
    assert_eq!(field(&|forged| forged.context[21] ^= 2), "epoch");
    assert_eq!(
        check(&|forged| forged.context[30] ^= 1),
        Err(TreeRefused::Hash.into())
    );
    assert_eq!(
        field(&|forged| forged.context[70] ^= 1),
        "confirmed_transcript_hash"
    );
    assert_eq!(
        field(&|forged| *forged.context.last_mut().unwrap() ^= 1),
        "extensions"
    );
    assert_eq!(field(&|forged| forged.tag[0] ^= 1), "confirmation_tag");
    assert_eq!(field(&|forged| forged.signer = 0), "signer");
    assert_eq!(field(&|forged| forged.extensions = vec![0]), "external_pub");
    assert_eq!(
        field(&|forged| forged.extensions = vec![4, 0, 4, 1, 0]),
        "external_pub"
    );
    assert_eq!(
        field(&|forged| forged.extensions[5..37].fill(0)),
        "external_pub"
    );
    assert_eq!(
        field(&|forged| forged
            .extensions
            .splice(..1, [forged_length(4), 0, 2, 1, 0])
            .for_each(drop)),
        "ratchet_tree"
    );
    let twice = check(&|forged| {
        let once = forged.extensions[1..].to_vec();
        forged.extensions.clear();
        put_vector(&mut forged.extensions, &[once.clone(), once].concat());
    });
    assert!(matches!(
        twice,
        Err(BundleRefused::Malformed {
            part: "GroupInfo",
            ..
        })
    ));
}

/// Length of the extensions of a GroupInfo, with so many bytes more.
const fn forged_length(more: u8) -> u8 {
    // type, length of content, length of key, key
    2 + 1 + 1 + 32 + more
}
