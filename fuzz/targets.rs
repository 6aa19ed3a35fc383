//! What a stranger's bytes are read by: one function for each decoder that they reach. None may panic, and whatever is taken is
//! the same when it is written and read again.
//!
//! The programs in `fuzz_targets/` hand them what libFuzzer makes up; `tests/facts/fuzz.rs` hands them changed golden frames, for
//! seconds or for as long as it is told.

use bytes::Bytes;
use mimi_actors::{
    ids::{ClientUri, ProviderId, PseudonymUri, Requester, RoomUri, UserUri},
    limits::{TREE_BYTES_MAX, ZSTD_RATIO_MAX},
    links::{IntroductionLink, JoinLink},
    machine::Millis,
    mls::{
        check::{
            bundle::Terms, create::check_create, hub_senders::HubSenders,
            key_package::check_key_package,
        },
        codec::message::{application_header, handshake_header, welcome_references},
        tree::{
            container::decompress,
            delta::{Base, apply, between},
        },
    },
    policy::{
        components::{
            AssetPolicy, BaseRoomPolicy, Component, Dictionary, JoinLinkPolicy, JoinLinks,
            Operational, ParticipantList, ParticipantListUpdate, PreAuthList, RolesList,
            RoomMetadata,
        },
        state::Policy,
    },
    shard_request::{ShardReply, ShardRequest},
    user::introductions,
    wire::{
        self, Versioned,
        consent::ConsentEntry,
        door,
        link::{self, OfShard},
    },
};
use std::{fmt, str::FromStr};

/// What is handed an input.
pub type Target = fn(&[u8]);

/// Each, by the name of its program.
pub const TARGETS: [(&str, Target); 9] = [
    ("client_door", client_door),
    ("providers_door", providers_door),
    ("cluster_door", cluster_door),
    ("mls_reader", mls_reader),
    ("tree_zstd", tree_zstd),
    ("tree_delta", tree_delta),
    ("links", links),
    ("policy", policy),
    ("consent", consent),
];

/// A frame that is taken says the same when it is written in the newest version.
fn frame<T: Versioned + PartialEq + fmt::Debug>(input: &Bytes) {
    if let Ok(taken) = wire::decode::<T>(input) {
        let again = wire::decode::<T>(&wire::encode(&taken));
        assert_eq!(again.as_ref(), Ok(&taken));
    }
}

/// Frames that clients send, and those that a client is sent.
pub fn client_door(input: &[u8]) {
    let input = Bytes::copy_from_slice(input);
    frame::<door::Open>(&input);
    frame::<door::Send>(&input);
    frame::<door::Acks>(&input);
    frame::<door::Reply>(&input);
    frame::<door::Sent>(&input);
    frame::<door::Events>(&input);
}

/// Frames between providers.
pub fn providers_door(input: &[u8]) {
    let input = Bytes::copy_from_slice(input);
    frame::<link::Open>(&input);
    frame::<link::Hello>(&input);
    frame::<link::Reply>(&input);
    frame::<OfShard<link::Fanout>>(&input);
    frame::<OfShard<link::Ack>>(&input);
    frame::<OfShard<link::Submit>>(&input);
    frame::<OfShard<link::Submitted>>(&input);
    frame::<link::Fanout>(&input);
    frame::<link::Submit>(&input);
}

/// What the nodes of a provider ask each other's shards.
pub fn cluster_door(input: &[u8]) {
    let input = Bytes::copy_from_slice(input);
    frame::<ShardRequest>(&input);
    frame::<ShardReply>(&input);
}

/// MLS objects: messages, a KeyPackage, a new group; the first byte says where its GroupInfo ends and its tree begins.
pub fn mls_reader(input: &[u8]) {
    let whole = Bytes::copy_from_slice(input);
    let _ = handshake_header(&whole);
    let _ = application_header(&whole);
    let _ = welcome_references(&whole);
    let Ok(client) = "mimi://a.example/d/alice/phone".parse::<ClientUri>() else {
        return;
    };
    let (now, terms) = (Millis(1_767_225_600_000), Terms::default());
    let _ = check_key_package(&whole, &client, now, &terms);
    if let Some((share, rest)) = input.split_first() {
        let at = rest.len() * usize::from(*share) / 256;
        let (info, tree) = rest.split_at(at);
        let (info, tree) = (Bytes::copy_from_slice(info), Bytes::copy_from_slice(tree));
        let _ = check_create(&info, &tree.into(), &HubSenders::NONE, &client, &terms);
    }
}

/// A compressed tree: nothing larger than a tree may be.
pub fn tree_zstd(input: &[u8]) {
    if let Ok(tree) = decompress(input) {
        assert!(tree.len() <= TREE_BYTES_MAX && tree.len() <= input.len() * ZSTD_RATIO_MAX);
    }
}

/// A delta applied to a tree: whatever is taken has no other spelling.
///
/// The input is a 16-bit length, a tree of that length, and a delta behind epoch and tree hash, which are written in
/// front of it so that the input gets past them.
pub fn tree_delta(input: &[u8]) {
    let Some((length, rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (tree, rest) = rest.split_at(length);
    let base = Base {
        epoch: 7,
        tree_hash: &[7; 32],
    };
    let mut delta = vec![1];
    delta.extend(base.epoch.to_be_bytes());
    delta.push(32);
    delta.extend_from_slice(base.tree_hash);
    delta.extend_from_slice(rest);
    if let Ok(next) = apply(&base, tree, &delta) {
        assert_eq!(between(&base, tree, &next).as_deref(), Ok(&delta[..]));
    }
    let _ = apply(&base, tree, rest);
}

/// Names and links, as people pass them on.
pub fn links(input: &[u8]) {
    let Ok(own) = "a.example".parse::<ProviderId>() else {
        return;
    };
    let _ = introductions::user_of(&own, input);
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    named::<ProviderId>(text);
    named::<UserUri>(text);
    named::<PseudonymUri>(text);
    named::<Requester>(text);
    named::<ClientUri>(text);
    named::<RoomUri>(text);
    named::<JoinLink>(text);
    named::<IntroductionLink>(text);
}

/// What a room says of who may do what: a dictionary of components, and each component alone.
pub fn policy(input: &[u8]) {
    if let Ok(all) = Dictionary::decode(input) {
        let _ = Policy::read(&all);
    }
    component::<ParticipantList>(input);
    component::<RoomMetadata>(input);
    component::<Operational>(input);
    component::<RolesList>(input);
    component::<PreAuthList>(input);
    component::<BaseRoomPolicy>(input);
    component::<JoinLinkPolicy>(input);
    component::<JoinLinks>(input);
    component::<AssetPolicy>(input);
    if let Ok(update) = ParticipantListUpdate::decode(input) {
        assert_eq!(update.encode(), input);
    }
}

/// A component that is taken says the same when it is written, in as many bytes.
fn component<C: Component>(input: &[u8]) {
    if let Ok(taken) = C::decode(input) {
        let written = taken.encode();
        assert_eq!(written.len(), input.len());
        let again = C::decode(&written).map(|again| again.encode());
        assert_eq!(again.as_ref(), Ok(&written));
    }
}

/// What users say to each other about consent.
pub fn consent(input: &[u8]) {
    if let Ok(entry) = ConsentEntry::read(input) {
        assert_eq!(ConsentEntry::read(&entry.write()).as_ref(), Ok(&entry));
    }
}

/// A name that is taken is written as it was.
fn named<T: FromStr + fmt::Display>(text: &str) {
    if let Ok(name) = text.parse::<T>() {
        assert_eq!(name.to_string(), text);
    }
}
