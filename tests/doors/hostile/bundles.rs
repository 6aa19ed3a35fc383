//! Commit bundles and Proposals that must not be taken.

use super::*;
use crate::support::until;
use mimi_actors::{
    limits::TREE_BYTES_MAX,
    mls::container::{Before, compress, pack},
    wire::tree::{TreeContainer, TreeKind},
};
use mimi_node::client::member::Ticket;

/// The front of a zstd frame that declares a GiB, without the rest.
const GIB_FRAME: [u8; 12] = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40, 1, 0, 0];

/// Whether the room refused with this code.
fn refused_with(back: &Back, code: &str) -> bool {
    match reply(back) {
        Some(Reply::Room(Answer::Refused(Refused::Invalid { code: found, .. }))) => *found == *code,
        _ => false,
    }
}

/// Bundles of members that are not what they should be.
pub(super) async fn bundles(book: &mut Book, amy: &mut Member, mallory: &mut Member) {
    let den = room("den", A);
    let dialer = raw::dialer(&book.net.ca(), DOOR_ALPN, None);
    let claimed = {
        // Claimed before the state is noted: a claim is remembered.
        let mallory = [user("mallory", A)];
        let answer = book.alice.claim(Some(den.clone()), &mallory).await.unwrap();
        mimi_node::client::member::packages(&answer)
    };
    let connection = logged_in(book, &dialer, &book.alice).await;
    let add = book.alice.prepare_add(&den, &claimed).unwrap();
    book.alice.abandon_commit(&den).unwrap();
    let hers = amy.prepare_update(&den).unwrap();
    amy.abandon_commit(&den).unwrap();
    book.alice.encrypt(&den, &["as a Commit"]).unwrap();
    let private = book.alice.frames(&den, ClientSeq(1))[0].messages[0].clone();
    let other = another_group(book).await;
    book.hashes = book.net.node(A).settled().await;

    let with = |change: &dyn Fn(&mut PreparedCommit)| {
        let mut bundle = add.clone();
        change(&mut bundle);
        commit_of(&bundle)
    };
    // An external Commit of mallory's device, which knows all that alice does, and one of amy's.
    let told = book.alice.entrance(&den).unwrap();
    let entry = mallory.prepare_entry(&den, &told).unwrap();
    let entry_with = |change: &dyn Fn(&mut PreparedCommit)| {
        let mut bundle = entry.clone();
        change(&mut bundle);
        commit_of(&bundle)
    };
    let entries: Vec<(&str, Vec<u8>)> = vec![
        ("external, of another client", entry_with(&|_| ())),
        (
            "external, that is cut",
            entry_with(&|b| b.commit = cut(&entry.commit)),
        ),
        (
            "external, with a Welcome",
            entry_with(&|b| b.welcome.clone_from(&add.welcome)),
        ),
        (
            "external, with the GroupInfo of a member's Commit",
            entry_with(&|b| b.group_info = add.group_info.clone()),
        ),
    ];
    let end = |payload: &Payload| payload.len() - 5;
    let middle = |payload: &Payload| payload.len() / 2;
    let welcome = add.welcome.clone().unwrap();
    let tree = Payload::from(add.tree.carried().to_vec());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "whose Commit is cut",
            with(&|b| b.commit = cut(&add.commit)),
        ),
        (
            "whose Commit has a byte more",
            with(&|b| b.commit = longer(&add.commit)),
        ),
        (
            "whose Commit has a bit flipped",
            with(&|b| b.commit = flipped(&add.commit, middle(&add.commit))),
        ),
        // The membership tag behind the confirmation tag is for members only: no hub can check it.
        (
            "whose Commit has another confirmation tag",
            with(&|b| b.commit = flipped(&add.commit, end(&add.commit) - 33)),
        ),
        (
            "whose Commit is empty",
            with(&|b| b.commit = Payload::default()),
        ),
        (
            "whose Commit is a PrivateMessage",
            with(&|b| b.commit = private.clone()),
        ),
        (
            "whose Commit is its GroupInfo",
            with(&|b| b.commit = b.group_info.clone()),
        ),
        (
            "whose Commit is amy's",
            with(&|b| b.commit = hers.commit.clone()),
        ),
        ("that is all amy's", commit_of(&hers)),
        (
            "of another group",
            with(&|b| b.commit = other.commit.clone()),
        ),
        (
            "that is all another group's",
            with(&|b| {
                *b = PreparedCommit {
                    room: den.clone(),
                    ..other.clone()
                };
            }),
        ),
        (
            "whose GroupInfo is cut",
            with(&|b| b.group_info = cut(&add.group_info)),
        ),
        (
            "whose GroupInfo has a bit flipped",
            with(&|b| b.group_info = flipped(&add.group_info, 60)),
        ),
        (
            "whose GroupInfo has another signature",
            with(&|b| b.group_info = flipped(&add.group_info, end(&add.group_info))),
        ),
        (
            "whose GroupInfo is another group's",
            with(&|b| b.group_info = other.group_info.clone()),
        ),
        (
            "whose Welcome is cut",
            with(&|b| b.welcome = Some(cut(&welcome))),
        ),
        (
            "whose Welcome names another package",
            with(&|b| b.welcome = Some(flipped(&welcome, 20))),
        ),
        (
            "whose Welcome is its Commit",
            with(&|b| b.welcome = Some(b.commit.clone())),
        ),
        ("whose tree is cut", with(&|b| b.tree = cut(&tree).into())),
        (
            "whose tree has a bit flipped",
            with(&|b| b.tree = flipped(&tree, middle(&tree)).into()),
        ),
        (
            "whose tree has a byte more",
            with(&|b| b.tree = longer(&tree).into()),
        ),
        (
            "whose tree is empty",
            with(&|b| b.tree = Payload::default().into()),
        ),
        (
            "whose tree is another group's",
            with(&|b| b.tree = other.tree.clone()),
        ),
    ];
    let group_info = &add.group_info;
    let entrance = book.alice.entrance(&den).unwrap();
    let before = Before::of_group_info(&entrance.group_info, entrance.tree.0.clone()).unwrap();
    let packed = |kind| pack(&tree, kind, Some(&before), None).unwrap();
    let delta = Payload::from(packed(TreeKind::Delta).carried().to_vec());
    let frame = Payload::from(packed(TreeKind::Zstd).carried().to_vec());
    let zstd = |bytes: &[u8]| TreeContainer::Zstd(bytes.to_vec().into());
    let coded: Vec<(&str, &str, TreeContainer)> = vec![
        (
            "as a delta of nothing",
            "bad_tree_delta",
            TreeContainer::Delta(Payload::default()),
        ),
        (
            "as a delta that is cut",
            "bad_tree_delta",
            TreeContainer::Delta(cut(&delta)),
        ),
        (
            "as a delta with a byte more",
            "bad_tree_delta",
            TreeContainer::Delta(longer(&delta)),
        ),
        (
            "as a delta of another version",
            "bad_tree_delta",
            TreeContainer::Delta(flipped(&delta, 0)),
        ),
        (
            "as a delta from another epoch",
            "bad_tree_delta",
            TreeContainer::Delta(flipped(&delta, 8)),
        ),
        (
            "as a delta from another tree",
            "bad_tree_delta",
            TreeContainer::Delta(flipped(&delta, 20)),
        ),
        (
            "as a delta to a tree without end",
            "bad_tree_delta",
            TreeContainer::Delta(flipped(&delta, 43)),
        ),
        (
            "as a delta with another key",
            "tree_mismatch",
            TreeContainer::Delta(flipped(&delta, 60)),
        ),
        (
            "as a delta that is a whole tree",
            "bad_tree_delta",
            TreeContainer::Delta(tree.clone()),
        ),
        (
            "as a delta that is a GroupInfo",
            "bad_tree_delta",
            TreeContainer::Delta(group_info.clone()),
        ),
        ("as a zstd frame of nothing", "bad_tree_zstd", zstd(&[])),
        (
            "as a zstd frame that is cut",
            "bad_tree_zstd",
            zstd(&cut(&frame)),
        ),
        (
            "as a zstd frame with a byte more",
            "bad_tree_zstd",
            zstd(&longer(&frame)),
        ),
        (
            "as two zstd frames",
            "bad_tree_zstd",
            zstd(&[&frame[..], &frame[..]].concat()),
        ),
        (
            "as a zstd frame behind a skipped one",
            "bad_tree_zstd",
            zstd(&[&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0][..], &frame[..]].concat()),
        ),
        (
            "as a zstd frame that is a tree",
            "bad_tree_zstd",
            zstd(&tree),
        ),
        (
            "as a zstd bomb",
            "bad_tree_zstd",
            zstd(&compress(&vec![0; TREE_BYTES_MAX])),
        ),
        (
            "as a zstd frame of a GiB",
            "tree_too_large",
            zstd(&GIB_FRAME),
        ),
        (
            "as a zstd frame of a tree too large",
            "tree_too_large",
            zstd(&compress(&vec![0; TREE_BYTES_MAX + 1])),
        ),
        (
            "as a zstd frame of the tree before",
            "tree_mismatch",
            zstd(&compress(&entrance.tree)),
        ),
        (
            "as a zstd frame of no tree",
            "malformed",
            zstd(&compress(&[7; 90])),
        ),
        (
            "at another host",
            "tree_host_unknown",
            TreeContainer::Reference(BText::clipped("https://trees.b.example/1")),
        ),
        (
            "at an address",
            "tree_host_unknown",
            TreeContainer::Reference(BText::clipped("http://127.0.0.1:7490/metrics")),
        ),
        (
            "at no place",
            "tree_host_unknown",
            TreeContainer::Reference(BText::clipped("")),
        ),
    ];
    for (name, code, tree) in coded {
        let bytes = with(&|b| b.tree = tree.clone());
        let back = say(&connection, &bytes).await;
        let right = |back: &Back| refused_with(back, code);
        book.back(&format!("bundle: one whose tree comes {name}"), back, right)
            .await;
    }
    for (name, bytes) in cases {
        let back = say(&connection, &bytes).await;
        let exact = |back: &Back| has_code(back, name);
        book.back(&format!("bundle: one {name}"), back, exact).await;
    }
    for (name, bytes) in &entries {
        let back = say(&connection, bytes).await;
        let exact = |back: &Back| code(back).as_deref() == Some("LeaseRequired");
        let name = format!("bundle: one {name}, without the lease");
        book.back(&name, back, exact).await;
    }
    // With it, what is wrong with each is looked at.
    until("alice has the lease", async || {
        let asked = book.alice.ask_group_info(&den, &Ticket::default()).await;
        asked.ok()
    })
    .await;
    book.hashes = book.net.node(A).settled().await;
    for (name, bytes) in entries {
        let back = say(&connection, &bytes).await;
        let exact = |back: &Back| has_code(back, name);
        book.back(&format!("bundle: one {name}"), back, exact).await;
    }

    let proposal = amy.prepare_proposals(&den, Proposing::Update).unwrap();
    amy.withdraw(&den, &proposal).unwrap();
    let propose = |proposals: Vec<Payload>| propose_in(den.clone(), proposals);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("none", propose(Vec::new())),
        ("noise", propose(vec![junk()])),
        ("a PrivateMessage", propose(vec![private.clone()])),
        ("a Commit", propose(vec![add.commit.clone()])),
        ("amy's, sent by alice", propose(proposal.clone())),
        ("one that is cut", propose(vec![cut(&proposal[0])])),
        ("one of another group", propose(vec![other.commit.clone()])),
    ];
    for (name, bytes) in cases {
        let back = say(&connection, &bytes).await;
        let exact = |back: &Back| has_code(back, name);
        book.back(&format!("proposals: {name}"), back, exact).await;
    }
}

/// The code that each case must get; two where it depends on what the flipped bit belongs to.
const CODES: [(&str, &str); 34] = [
    ("whose Commit is cut", "malformed"),
    ("whose Commit has a byte more", "malformed"),
    ("whose Commit has a bit flipped", "signature|malformed"),
    (
        "whose Commit has another confirmation tag",
        "group_info_mismatch",
    ),
    ("whose Commit is empty", "malformed_commit"),
    ("whose Commit is a PrivateMessage", "malformed_commit"),
    ("whose Commit is its GroupInfo", "malformed_commit"),
    ("whose Commit is amy's", "sender_not_bound"),
    ("that is all amy's", "sender_not_bound"),
    ("of another group", "wrong_group"),
    ("that is all another group's", "wrong_group"),
    ("whose GroupInfo is cut", "malformed"),
    ("whose GroupInfo has a bit flipped", "tree_mismatch"),
    ("whose GroupInfo has another signature", "signature"),
    ("whose GroupInfo is another group's", "tree_mismatch"),
    ("whose Welcome is cut", "malformed"),
    ("whose Welcome names another package", "welcome_mismatch"),
    ("whose Welcome is its Commit", "malformed"),
    ("whose tree is cut", "malformed"),
    ("whose tree has a bit flipped", "tree_mismatch|malformed"),
    ("whose tree has a byte more", "malformed"),
    ("whose tree is empty", "malformed"),
    ("whose tree is another group's", "tree_mismatch"),
    ("external, of another client", "sender_not_bound"),
    ("external, that is cut", "malformed"),
    ("external, with a Welcome", "sender_not_bound"),
    (
        "external, with the GroupInfo of a member's Commit",
        "sender_not_bound",
    ),
    ("none", "malformed"),
    ("noise", "unsupported"),
    ("a PrivateMessage", "unsupported"),
    ("a Commit", "malformed"),
    ("amy's, sent by alice", "sender_not_bound"),
    ("one that is cut", "malformed"),
    ("one of another group", "wrong_group"),
];

fn has_code(back: &Back, name: &str) -> bool {
    let row = CODES.iter().find(|(case, _)| *case == name);
    let (_, codes) = row.expect("every case has a code");
    code(back).is_some_and(|code| codes.split('|').any(|one| one == code))
}

/// The code of a room's refusal, or its name where it has a shape of its own.
fn code(back: &Back) -> Option<String> {
    let Some(Reply::Room(Answer::Refused(refused))) = reply(back) else {
        return None;
    };
    Some(match refused {
        Refused::Invalid { code, .. } => code.to_string(),
        Refused::NotMember => "not_member".to_owned(),
        Refused::NotAuthorized => "not_authorized".to_owned(),
        Refused::InvalidProposals { .. } => "invalid_proposals".to_owned(),
        Refused::UnknownProposals { .. } => "unknown_proposals".to_owned(),
        Refused::WrongEpoch { .. } => "wrong_epoch".to_owned(),
        other => format!("{other:?}"),
    })
}

/// A room's refusal: its code, how many references it names, and its explanation.
pub(super) fn told(back: &Back) -> Option<String> {
    let Some(Reply::Room(Answer::Refused(refused))) = reply(back) else {
        return None;
    };
    Some(match refused {
        Refused::Invalid { code, detail } => format!("{}: {}", &*code, &*detail),
        Refused::InvalidProposals { references, detail } => {
            format!("invalid_proposals {}: {}", references.len(), &*detail)
        }
        Refused::UnknownProposals { references } => {
            format!("unknown_proposals {}", references.len())
        }
        Refused::OmittedProposals { references } => {
            format!("omitted_proposals {}", references.len())
        }
        Refused::TooMany { what, max } => format!("too_many {}: {max}", &*what),
        _ => code(back)?,
    })
}

/// A Commit of alice in a room of her own, which nobody sends.
async fn another_group(book: &mut Book) -> PreparedCommit {
    let attic = room("attic", A);
    book.alice.create_room(&attic).await.unwrap();
    let prepared = book.alice.prepare_update(&attic).unwrap();
    book.alice.abandon_commit(&attic).unwrap();
    prepared
}

/// Who does not get in as a provider.
pub(super) async fn handshakes(book: &mut Book) {
    let net = &book.net;
    let (ca, address) = (net.ca(), net.node(A).link);
    let unknown = net.path("unknown-ca");
    create_ca(&unknown).unwrap();
    create_certificate(&unknown, &B.parse().unwrap(), &unknown).unwrap();
    create_certificate(
        net.dir.path(),
        &"z.example".parse().unwrap(),
        net.dir.path(),
    )
    .unwrap();
    let pair = |dir: &std::path::Path, name: &str| {
        (
            dir.join(format!("{name}.crt")),
            dir.join(format!("{name}.key")),
        )
    };
    let here = net.dir.path();
    let cases = [
        ("no certificate", LINK_ALPN, None),
        (
            "a certificate of an unknown CA",
            LINK_ALPN,
            Some(pair(&unknown, B)),
        ),
        (
            "a provider that is no peer",
            LINK_ALPN,
            Some(pair(here, "z.example")),
        ),
        ("our own certificate", LINK_ALPN, Some(pair(here, A))),
        ("the clients' protocol", DOOR_ALPN, Some(pair(here, B))),
        ("an unknown protocol", &b"h3"[..], Some(pair(here, B))),
    ];
    for (name, alpn, identity) in cases {
        let identity = identity.as_ref().map(|(c, k)| (c.as_path(), k.as_path()));
        let dialer = raw::dialer(&ca, alpn, identity);
        // A server refuses a client's certificate only after the client believes itself connected.
        let back = match raw::connect(&dialer, address, A).await {
            Err(back) => back,
            Ok(connection) => say(&connection, &framed(&link::Open::Control(peers::hello()))).await,
        };
        book.back(&format!("handshake: {name}"), back, |back| {
            matches!(back, Back::Lost(_))
        })
        .await;
    }
    let dialer = raw::dialer(&ca, LINK_ALPN, None);
    let back = raw::connect(&dialer, book.net.node(A).door, A).await;
    let back = back.map_or_else(|back| back, |_| Back::Silence);
    book.back(
        "handshake: the providers' protocol at the clients' door",
        back,
        |back| matches!(back, Back::Lost(_)),
    )
    .await;
}
