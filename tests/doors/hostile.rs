//! Hostile input at both doors of a real node: each case has its answer, changes nothing, and disturbs nobody.
//!
//! That nothing changes is seen in the state hash of every shard. Stocks of KeyPackages, leases, code uses, pending
//! Proposals and what is left of every limit lie in the folds that are hashed, so a case that used any of them up would
//! show: where an honest request uses one on the way, the hash is seen to change (`Book::used`). What may be counted (a
//! wrong joining code) is let settle first.
//!
//! What is tried, where, and what is said to it (R: a scenario of `tests/features` shows it, with this tag):
//!
//! | request | input | where | answer |
//! | --- | --- | --- | --- |
//! | claim | empty, one user 500 times, unknown, no consent, nothing in common | `clients` `claims` | a result for each user |
//! | | over 1,000 users, 65,536 capabilities | `clients` `claims` | `BadFrame`: the frame has no room for them |
//! | | in another's name, unsigned, signed for another; by a hub for others | `clients`, `peers` | `SenderNotBound`, `Unsigned`, `NotRelayed` |
//! | | retries, races, drains, the reserve, last resort | R3.1-18 to R3.1-25 | the same packages, `Limited`, `Exhausted` |
//! | upload | each flaw by itself, rightly signed | `packages`, `clients` | `Invalid` with the reason |
//! | | there already: itself, its init key; given away before a restart; one too many | `packages` | `Ok` once, `Duplicate`, `Duplicate`, `Full` |
//! | Commit | epochs before and after, accepted again | `forged` `epochs` | `WrongEpoch`; the first answer |
//! | | GroupInfo wrong in one field each | `forged` `group_infos` | `group_info_mismatch` and the field; `tree_mismatch` |
//! | | no member, removed | `peers`, `forged` | `NotAuthorized` |
//! | | blank leaf, leaf outside, another's leaf | `forged` `lists` | `NotMember`, `sender_not_bound` |
//! | | by another provider's connection | `peers` | `SenderNotBound` |
//! | | Proposals unknown, void, excluding each other, left out | `forged` `lists` | `UnknownProposals`, `InvalidProposals`, `OmittedProposals` |
//! | | Welcome missing, too much, for others | `bundles`, `forged` `sizes`, R3.2-04 to R3.2-07 | `welcome_mismatch` |
//! | | PrivateMessage | `bundles` | `malformed_commit` |
//! | | too large, too many | `forged` `sizes`, `clients` | `malformed`, a reset lane above a frame |
//! | | epoch after epoch by one member | R3.2-01 | `Limited` |
//! | | trees and their containers | `bundles` | `bad_tree_delta`, `bad_tree_zstd`, `tree_too_large`, … |
//! | external Commit | without the lease, with another's, after it | `bundles`, R3.3-12, R3.3-05 | `LeaseRequired`, `LeaseExpired` |
//! | | of a stranger, of who was removed; of another's leaf | R3.2-25, `forged` `entries` | `NotAuthorized`, `InvalidProposals` |
//! | GroupInfo | no room, no right | `joining` | `NotAuthorized`, the same for both |
//! | | forged key, id, time or signature; old; replayed; other suite; at both doors | `joining` | the code of what is wrong |
//! | | a thousand askers; leases that are not used | `joining`, R3.3-05 | `Busy`, `Limited` |
//! | codes | wrong, ended, expired, used up, another room's, locked out | `joining` `codes_of` | `NotAuthorized` |
//! | | two joiners and one use; a code in a log | R7.3-03, `joining` | one enters; there is none |
//! | Proposals | another's leaf, blank, outside; unsupported; too many, too large | `forged` `proposals`, `bundles` | `sender_not_bound`, `NotMember`, `unsupported`, `TooMany`, `malformed` |
//!
//! Not refused, because the hub cannot know it or keeps no record of it: a Welcome of another group (it is sealed), an
//! Add of a KeyPackage that was never claimed, path secrets and external_pub that are not true.
//!
//! Source: transport requirements, sections 3 to 5 and 7.3.

mod bundles;
mod clients;
mod forged;
mod forger;
mod joining;
mod packages;
mod peers;
mod versions;

use crate::support::{
    self, Net, client, invite,
    raw::{self, Back, frame, say, say_and_stay},
    room, user, wait_epoch,
};
use bytes::Bytes;
use mimi_actors::{
    ids::{ClientUri, RoomUri, UserUri},
    limits::{CLAIM_USERS_MAX, LEASE_MS_MAX},
    machine::Millis,
    wire::{
        self, BText, BVec, Payload, Versioned,
        answer::{Answer, Refused},
        claim::{ClaimProof, ClaimRequest, ClaimTerms, UserRefused},
        door::{
            self, DoorRefused, EXPORTER_LABEL, Enrol, Login, PackageRefused, Reply, Request, Sent,
        },
        event::{
            Body, ClientSeq, CommitEvent, Epoch, Event, Item, LinkSeq, RoomSeq, SubmitRefused,
            SubmitSeq, Verdict,
        },
        joining::Introduced,
        link::{self, Fanout, FanoutGroup, Hello, LinkRefused, Submit, SubmitGroup, Submitted},
        room::{self, Beginning},
    },
};
use mimi_client::member::{Member, PackageOptions, PreparedCommit, Proposing, new_claim_id};
use mimi_quic::{
    DOOR_ALPN, LINK_ALPN,
    issue::{create_ca, create_certificate},
};
use quinn::{Connection, Endpoint};
use std::time::Instant;

const A: &str = "a.example";
const B: &str = "b.example";
const C: &str = "c.example";
/// Fewer cases than this and the corpus has lost some.
const CASES_MIN: usize = 360;

/// The cases that ran, and what was wrong with them.
struct Book {
    net: Net,
    alice: Member,
    hashes: Vec<String>,
    rows: Vec<String>,
    wrong: Vec<String>,
}

impl Book {
    /// Notes a case: its answer, that nothing has changed, and that an honest client is still served.
    async fn note(&mut self, name: &str, right: bool, back: String) {
        let mut wrong = Vec::new();
        if !right {
            wrong.push(format!("answered {back}"));
        }
        let hashes = self.net.node(A).hashes().await;
        if hashes != self.hashes {
            wrong.push("changed the state".to_owned());
            self.hashes = hashes;
        }
        let asked = Instant::now();
        if let Err(error) = self.alice.door().unwrap().hub_sender().await {
            wrong.push(format!("the honest client got {error}"));
        }
        if asked.elapsed().as_millis() > 2_000 {
            wrong.push(format!("the honest client waited {:?}", asked.elapsed()));
        }
        let result = if wrong.is_empty() { "ok" } else { "WRONG" };
        self.rows.push(format!("{result:<6} {name:<64} {back}"));
        self.wrong
            .extend(wrong.into_iter().map(|what| format!("{name}: {what}")));
    }

    /// Takes the state as it is now for what must not change.
    async fn rest(&mut self) {
        self.hashes = self.net.node(A).settled().await;
    }

    /// Takes the state as it is now, which must show that an honest request has used something up.
    async fn used(&mut self, what: &str) {
        let before = std::mem::take(&mut self.hashes);
        self.rest().await;
        assert_ne!(self.hashes, before, "the state does not show {what}");
    }

    async fn back(&mut self, name: &str, back: Back, want: impl Fn(&Back) -> bool) {
        let shown = match (&back, reply(&back), link_reply(&back)) {
            (_, Some(reply), _) => format!("{reply:?}"),
            (_, None, Some(reply)) => format!("{reply:?}"),
            (back, ..) => format!("{back:?}"),
        };
        let shown = shown.chars().take(200).collect();
        self.note(name, want(&back), shown).await;
    }

    fn end(self) -> usize {
        println!("{}", self.rows.join("\n"));
        let errors = self.net.errors();
        assert!(
            self.wrong.is_empty() && errors.is_empty(),
            "{}\n{errors:#?}\n{}",
            self.wrong.join("\n"),
            self.net.tails()
        );
        self.rows.len()
    }
}

fn reply(back: &Back) -> Option<Reply> {
    let Back::Frame(bytes) = back else {
        return None;
    };
    wire::decode(bytes).ok()
}

fn link_reply(back: &Back) -> Option<link::Reply> {
    let Back::Frame(bytes) = back else {
        return None;
    };
    wire::decode(bytes).ok()
}

fn door_refused(back: &Back) -> Option<DoorRefused> {
    match reply(back)? {
        Reply::Refused(refused) => Some(refused),
        _ => None,
    }
}

fn link_refused(back: &Back) -> Option<LinkRefused> {
    match link_reply(back)? {
        link::Reply::Refused(refused) => Some(refused),
        _ => None,
    }
}

fn bad_frame(back: &Back) -> bool {
    matches!(door_refused(back), Some(DoorRefused::BadFrame(_)))
}

fn link_bad_frame(back: &Back) -> bool {
    matches!(link_refused(back), Some(LinkRefused::BadFrame(_)))
}

fn reset(back: &Back) -> bool {
    *back == Back::Reset(1)
}

fn protocol(back: &Back) -> bool {
    *back == Back::Closed(2)
}

fn not_known(back: &Back) -> bool {
    door_refused(back) == Some(DoorRefused::NotKnown)
}

fn not_logged_in(back: &Back) -> bool {
    door_refused(back) == Some(DoorRefused::NotLoggedIn)
}

fn not_bound(back: &Back) -> bool {
    matches!(door_refused(back), Some(DoorRefused::SenderNotBound { .. }))
}

/// A refusal of the room, whichever.
fn room_refused(back: &Back) -> bool {
    matches!(
        reply(back),
        Some(Reply::Room(Answer::Refused(
            Refused::Invalid(_)
                | Refused::InvalidProposals { .. }
                | Refused::UnknownProposals { .. }
                | Refused::NotMember
                | Refused::NotAuthorized
                | Refused::WrongEpoch { .. }
                | Refused::Exists
        )))
    )
}

fn framed(value: &impl Versioned) -> Vec<u8> {
    frame(&wire::encode(value))
}

fn ask(request: Request) -> Vec<u8> {
    framed(&door::Open::Request(Box::new(request)))
}

/// A request to a room.
fn ask_room(room: RoomUri, request: room::Request) -> Vec<u8> {
    ask(Request::Room(room, request))
}

/// A bundle, as it goes to its room.
fn commit_of(prepared: &PreparedCommit) -> Vec<u8> {
    let request = room::Request::Commit(prepared.bundle());
    ask_room(prepared.room.clone(), request)
}

fn propose_in(room: RoomUri, proposals: Vec<Payload>) -> Vec<u8> {
    ask_room(
        room,
        room::Request::Propose(BVec::try_from(proposals).unwrap()),
    )
}

/// A creation out of noise.
fn create_in(room: RoomUri) -> Vec<u8> {
    let beginning = Beginning {
        group_info: junk(),
        tree: junk().into(),
    };
    ask_room(room, room::Request::Create(beginning))
}

fn ask_link(request: link::Request) -> Vec<u8> {
    framed(&link::Open::Request(Box::new(request)))
}

/// What does not even look like a frame, and frames that hold no value: the same at both doors.
fn frames(over_limit: u32) -> Vec<(&'static str, Vec<u8>, bool)> {
    let uri = |text: &[u8]| {
        // Login, with this for the client.
        let mut body = vec![1, 0, 1, u8::try_from(text.len()).unwrap()];
        body.extend_from_slice(text);
        body.extend_from_slice(&[1, 7]);
        frame(&body)
    };
    vec![
        ("a length of zero", vec![0, 0, 0, 0], false),
        (
            "a length over the limit",
            over_limit.to_be_bytes().to_vec(),
            false,
        ),
        ("a length of 2^32-1", vec![0xff; 4], false),
        ("half a header", vec![0, 0], false),
        ("a frame that ends early", vec![0, 0, 0, 9, 1, 0, 2], false),
        ("a version and nothing", frame(&[1]), true),
        ("version 0", frame(&[0, 0, 2]), true),
        ("a version to come", frame(&[9, 0, 2]), true),
        ("an unknown lane", frame(&[1, 9]), true),
        ("an unknown request", frame(&[1, 0, 99]), true),
        ("an unknown lane of version 2", frame(&[2, 9]), true),
        ("an unknown request of version 2", frame(&[2, 0, 99]), true),
        (
            "a variant of 2^60",
            frame(&[1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            true,
        ),
        (
            "a number that never ends",
            frame(&[&[1, 0][..], &[0xff; 20]].concat()),
            true,
        ),
        ("a text that is no UTF-8", uri(&[0xff, 0xfe, 0xfd]), true),
        (
            "a name in capitals",
            uri(b"mimi://A.example/d/alice/phone"),
            true,
        ),
        (
            "a name with a way up",
            uri(b"mimi://a.example/d/../phone"),
            true,
        ),
        ("64 bytes of noise", frame(&[0xa5; 64]), true),
    ]
}

/// A connection to the clients' door, without a login.
async fn stranger(book: &Book, dialer: &Endpoint) -> Connection {
    raw::connect(dialer, book.net.node(A).door, A)
        .await
        .unwrap()
}

fn proof(connection: &Connection, of: &Member, client: &ClientUri) -> Payload {
    let mut exported = [0; 32];
    let context = client.to_string();
    connection
        .export_keying_material(&mut exported, EXPORTER_LABEL, context.as_bytes())
        .unwrap();
    of.device().prove(client, &exported).into()
}

fn login(client: &ClientUri, proof: Payload) -> Vec<u8> {
    let client = client.clone();
    ask(Request::Login(Login { client, proof }))
}

async fn logged_in(book: &Book, dialer: &Endpoint, member: &Member) -> Connection {
    let connection = stranger(book, dialer).await;
    let client = member.client();
    let hello = login(client, proof(&connection, member, client));
    let back = say(&connection, &hello).await;
    assert_eq!(reply(&back), Some(Reply::LoggedIn), "{back:?}");
    connection
}

fn claim_of(requester: &str, at: &str, users: &[(&str, &str)]) -> ClaimRequest {
    ClaimRequest {
        id: new_claim_id().unwrap(),
        terms: ClaimTerms::new(user(requester, at)),
        users: users_of(users),
        proof: ClaimProof::default(),
    }
}

/// As [`claim_of`], signed by a client of the requester.
fn signed_claim(by: &Member, terms: ClaimTerms, users: &[(&str, &str)]) -> ClaimRequest {
    let (id, users) = (new_claim_id().unwrap(), users_of(users));
    let mut terms = terms;
    terms.asking_client = Some(by.client().clone());
    let proof = by.device().sign_claim(id, &terms, &users);
    ClaimRequest {
        id,
        terms,
        users,
        proof,
    }
}

fn users_of(names: &[(&str, &str)]) -> BVec<UserUri, CLAIM_USERS_MAX> {
    let users: Vec<_> = names.iter().map(|(name, at)| user(name, at)).collect();
    BVec::try_from(users).unwrap()
}

fn junk() -> Payload {
    Payload::from(vec![0x5a; 90])
}

/// A Commit of noise.
fn noise() -> room::Request {
    room::Request::Commit(room::Bundle {
        commit: junk(),
        welcome: None,
        group_info: junk(),
        tree: junk().into(),
    })
}

fn flipped(bytes: &Payload, place: usize) -> Payload {
    let mut bytes = bytes.to_vec();
    bytes[place] ^= 0x10;
    bytes.into()
}

fn cut(bytes: &Payload) -> Payload {
    Payload(bytes.slice(..bytes.len() / 2))
}

fn longer(bytes: &Payload) -> Payload {
    [&bytes[..], &[0]].concat().into()
}

/// A node with alice and amy in a room, and mallory, who is in none.
async fn stage() -> (Book, Member, Member) {
    let mut net = Net::prepare(&[A, B, C]);
    let lease_ms = (
        "MIMI_NODE__LIMITS__GROUP_INFO_LEASE_MS",
        LEASE_MS_MAX.to_string(),
    );
    net.node_mut(A)
        .env
        .push((lease_ms.0.to_owned(), lease_ms.1));
    net.node_mut(A).start().await;
    let den = room("den", A);
    let mut alice = net.member("alice", "phone", A).await;
    let host = alice.client().user().clone();
    let mut amy = net.guest(("amy", A), &host, 3).await;
    let mallory = net.guest(("mallory", A), &host, 2).await;
    alice.create_room(&den).await.unwrap();
    let users = [amy.client().user().clone()];
    invite(&mut alice, &den, &users).await.unwrap();
    wait_epoch(&mut alice, &den, Epoch(1)).await;
    wait_epoch(&mut amy, &den, Epoch(1)).await;
    let hashes = net.node(A).settled().await;
    let book = Book {
        net,
        alice,
        hashes,
        rows: Vec::new(),
        wrong: Vec::new(),
    };
    (book, amy, mallory)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_input_has_its_answer_changes_nothing_and_disturbs_nobody() {
    let (mut book, mut amy, mut mallory) = stage().await;
    clients::strangers(&mut book, &amy, &mallory).await;
    clients::clients(&mut book, &amy, &mut mallory).await;
    bundles::handshakes(&mut book).await;
    joining::joiners(&mut book, &mut amy, &mallory).await;
    joining::codes_of(&mut book, &mut amy, &mallory).await;
    bundles::bundles(&mut book, &mut amy, &mut mallory).await;
    forged::members(&mut book, &mut amy, &mut mallory).await;
    joining::peers(&mut book, &amy).await;
    peers::peers(&mut book, &amy).await;
    versions::door(&mut book, &amy).await;
    packages::uploads(&mut book, &mut mallory).await;
    packages::consumed(&mut book, &mut mallory).await;
    let cases = book.end();
    println!("{cases} hostile cases");
    assert!(cases >= CASES_MIN, "only {cases} cases ran");
}
