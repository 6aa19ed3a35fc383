//! Commit bundles and Proposals that must not be taken.

use super::*;
use crate::support::until;
use mimi_actors::{
    limits::TREE_BYTES_MAX,
    mls::tree::container::{Before, compress, pack},
    wire::refusal::Flaw,
    wire::tree::{TreeContainer, TreeKind},
};
use mimi_client::member::{Entrance, Ticket};

/// The front of a zstd frame that declares a GiB, without the rest.
const GIB_FRAME: [u8; 12] = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40, 1, 0, 0];

/// Whether the room refused with this code.
fn refused_with(back: &Back, code: &str) -> bool {
    match reply(back) {
        Some(Reply::Room(Answer::Refused(Refused::Invalid(Flaw { code: found, .. })))) => {
            found.name() == code
        }
        _ => false,
    }
}

/// What honest members have made, and what can be made of it.
struct Makings {
    /// alice adds mallory.
    add: PreparedCommit,
    /// amy's update.
    hers: PreparedCommit,
    /// A Commit of another group.
    other: PreparedCommit,
    /// The external Commit of mallory's device, which knows all that alice does.
    entry: PreparedCommit,
    /// A message of alice.
    private: Payload,
    /// The Welcome of her Commit, and its tree: whole, as a delta, and compressed.
    welcome: Payload,
    tree: Payload,
    delta: Payload,
    frame: Payload,
    /// What it takes to enter before her Commit.
    entrance: Entrance,
    /// A Proposal of amy.
    proposal: Vec<Payload>,
}

impl Makings {
    async fn gather(book: &mut Book, amy: &mut Member, mallory: &mut Member) -> Self {
        let den = room("den", A);
        let claimed = {
            // Claimed before the state is noted: a claim is remembered.
            let mallory = [user("mallory", A)];
            let answer = book.alice.claim(Some(den.clone()), &mallory).await.unwrap();
            mimi_client::member::packages(&answer)
        };
        let add = book.alice.prepare_add(&den, &claimed).unwrap();
        book.alice.abandon_commit(&den).unwrap();
        let hers = amy.prepare_update(&den).unwrap();
        amy.abandon_commit(&den).unwrap();
        book.alice.encrypt(&den, &["as a Commit"]).unwrap();
        let private = book.alice.frames(&den, ClientSeq(1))[0].messages[0].clone();
        let other = another_group(book).await;
        let entrance = book.alice.entrance(&den).unwrap();
        let entry = mallory.prepare_entry(&den, &entrance).unwrap();
        let proposal = amy.prepare_proposals(&den, Proposing::Update).unwrap();
        amy.withdraw(&den, &proposal).unwrap();
        let tree = Payload::from(add.tree.carried().to_vec());
        let before = Before::of_group_info(&entrance.group_info, entrance.tree.0.clone()).unwrap();
        let packed = |kind| {
            let packed = pack(&tree, kind, Some(&before), None).unwrap();
            Payload::from(packed.carried().to_vec())
        };
        Self {
            welcome: add.welcome.clone().unwrap(),
            delta: packed(TreeKind::Delta),
            frame: packed(TreeKind::Zstd),
            tree,
            add,
            hers,
            other,
            entry,
            private,
            entrance,
            proposal,
        }
    }
}

/// What is done to a bundle.
type Change = fn(&Makings, &mut PreparedCommit);

/// A name, the code that the case must get (two where it depends on what a flipped bit belongs to), and what is done.
type Case<T> = (&'static str, &'static str, T);

/// What is done to alice's bundle.
const BUNDLES: [Case<Change>; 23] = [
    ("whose Commit is cut", "malformed", |m, b| {
        b.commit = cut(&m.add.commit)
    }),
    ("whose Commit has a byte more", "malformed", |m, b| {
        b.commit = longer(&m.add.commit)
    }),
    (
        "whose Commit has a bit flipped",
        "signature|malformed",
        |m, b| b.commit = flipped(&m.add.commit, middle(&m.add.commit)),
    ),
    // The membership tag behind the confirmation tag is for members only: no hub can check it.
    (
        "whose Commit has another confirmation tag",
        "group_info_mismatch",
        |m, b| b.commit = flipped(&m.add.commit, end(&m.add.commit) - 33),
    ),
    ("whose Commit is empty", "malformed_commit", |_, b| {
        b.commit = Payload::default()
    }),
    (
        "whose Commit is a PrivateMessage",
        "malformed_commit",
        |m, b| b.commit = m.private.clone(),
    ),
    (
        "whose Commit is its GroupInfo",
        "malformed_commit",
        |_, b| b.commit = b.group_info.clone(),
    ),
    ("whose Commit is amy's", "sender_not_bound", |m, b| {
        b.commit = m.hers.commit.clone()
    }),
    ("that is all amy's", "sender_not_bound", |m, b| {
        b.clone_from(&m.hers)
    }),
    ("of another group", "wrong_group", |m, b| {
        b.commit = m.other.commit.clone()
    }),
    ("that is all another group's", "wrong_group", |m, b| {
        *b = PreparedCommit {
            room: room("den", A),
            ..m.other.clone()
        };
    }),
    ("whose GroupInfo is cut", "malformed", |m, b| {
        b.group_info = cut(&m.add.group_info)
    }),
    (
        "whose GroupInfo has a bit flipped",
        "tree_mismatch",
        |m, b| b.group_info = flipped(&m.add.group_info, 60),
    ),
    (
        "whose GroupInfo has another signature",
        "signature",
        |m, b| b.group_info = flipped(&m.add.group_info, end(&m.add.group_info)),
    ),
    (
        "whose GroupInfo is another group's",
        "tree_mismatch",
        |m, b| b.group_info = m.other.group_info.clone(),
    ),
    ("whose Welcome is cut", "malformed", |m, b| {
        b.welcome = Some(cut(&m.welcome))
    }),
    (
        "whose Welcome names another package",
        "welcome_mismatch",
        |m, b| b.welcome = Some(flipped(&m.welcome, 20)),
    ),
    ("whose Welcome is its Commit", "malformed", |_, b| {
        b.welcome = Some(b.commit.clone())
    }),
    ("whose tree is cut", "malformed", |m, b| {
        b.tree = cut(&m.tree).into()
    }),
    (
        "whose tree has a bit flipped",
        "tree_mismatch|malformed",
        |m, b| b.tree = flipped(&m.tree, middle(&m.tree)).into(),
    ),
    ("whose tree has a byte more", "malformed", |m, b| {
        b.tree = longer(&m.tree).into()
    }),
    ("whose tree is empty", "malformed", |_, b| {
        b.tree = Payload::default().into()
    }),
    ("whose tree is another group's", "tree_mismatch", |m, b| {
        b.tree = m.other.tree.clone()
    }),
];

/// What is done to mallory's.
const ENTRIES: [Case<Change>; 4] = [
    ("external, of another client", "sender_not_bound", |_, _| ()),
    ("external, that is cut", "malformed", |m, b| {
        b.commit = cut(&m.entry.commit)
    }),
    ("external, with a Welcome", "sender_not_bound", |m, b| {
        b.welcome.clone_from(&m.add.welcome)
    }),
    (
        "external, with the GroupInfo of a member's Commit",
        "sender_not_bound",
        |m, b| b.group_info = m.add.group_info.clone(),
    ),
];

/// Makes what is sent.
type Make<T> = fn(&Makings) -> T;

/// How the tree of alice's bundle comes.
const TREES: [Case<Make<TreeContainer>>; 24] = [
    ("as a delta of nothing", "bad_tree_delta", |_| {
        TreeContainer::Delta(Payload::default())
    }),
    ("as a delta that is cut", "bad_tree_delta", |m| {
        TreeContainer::Delta(cut(&m.delta))
    }),
    ("as a delta with a byte more", "bad_tree_delta", |m| {
        TreeContainer::Delta(longer(&m.delta))
    }),
    ("as a delta of another version", "bad_tree_delta", |m| {
        TreeContainer::Delta(flipped(&m.delta, 0))
    }),
    ("as a delta from another epoch", "bad_tree_delta", |m| {
        TreeContainer::Delta(flipped(&m.delta, 8))
    }),
    ("as a delta from another tree", "bad_tree_delta", |m| {
        TreeContainer::Delta(flipped(&m.delta, 20))
    }),
    ("as a delta to a tree without end", "bad_tree_delta", |m| {
        TreeContainer::Delta(flipped(&m.delta, 43))
    }),
    ("as a delta with another key", "tree_mismatch", |m| {
        TreeContainer::Delta(flipped(&m.delta, 60))
    }),
    ("as a delta that is a whole tree", "bad_tree_delta", |m| {
        TreeContainer::Delta(m.tree.clone())
    }),
    ("as a delta that is a GroupInfo", "bad_tree_delta", |m| {
        TreeContainer::Delta(m.add.group_info.clone())
    }),
    ("as a zstd frame of nothing", "bad_tree_zstd", |_| zstd(&[])),
    ("as a zstd frame that is cut", "bad_tree_zstd", |m| {
        zstd(&cut(&m.frame))
    }),
    ("as a zstd frame with a byte more", "bad_tree_zstd", |m| {
        zstd(&longer(&m.frame))
    }),
    ("as two zstd frames", "bad_tree_zstd", |m| {
        zstd(&[&m.frame[..], &m.frame[..]].concat())
    }),
    (
        "as a zstd frame behind a skipped one",
        "bad_tree_zstd",
        |m| zstd(&[&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0][..], &m.frame[..]].concat()),
    ),
    ("as a zstd frame that is a tree", "bad_tree_zstd", |m| {
        zstd(&m.tree)
    }),
    ("as a zstd bomb", "bad_tree_zstd", |_| {
        zstd(&compress(&vec![0; TREE_BYTES_MAX]))
    }),
    ("as a zstd frame of a GiB", "tree_too_large", |_| {
        zstd(&GIB_FRAME)
    }),
    (
        "as a zstd frame of a tree too large",
        "tree_too_large",
        |_| zstd(&compress(&vec![0; TREE_BYTES_MAX + 1])),
    ),
    ("as a zstd frame of the tree before", "tree_mismatch", |m| {
        zstd(&compress(&m.entrance.tree))
    }),
    ("as a zstd frame of no tree", "malformed", |_| {
        zstd(&compress(&[7; 90]))
    }),
    ("at another host", "tree_host_unknown", |_| {
        TreeContainer::Reference(BText::clipped("https://trees.b.example/1"))
    }),
    ("at an address", "tree_host_unknown", |_| {
        TreeContainer::Reference(BText::clipped("http://127.0.0.1:7490/metrics"))
    }),
    ("at no place", "tree_host_unknown", |_| {
        TreeContainer::Reference(BText::clipped(""))
    }),
];

/// What alice proposes.
const PROPOSALS: [Case<Make<Vec<Payload>>>; 7] = [
    ("none", "malformed", |_| Vec::new()),
    ("noise", "unsupported", |_| vec![junk()]),
    ("a PrivateMessage", "unsupported", |m| {
        vec![m.private.clone()]
    }),
    ("a Commit", "malformed", |m| vec![m.add.commit.clone()]),
    ("amy's, sent by alice", "sender_not_bound", |m| {
        m.proposal.clone()
    }),
    ("one that is cut", "malformed", |m| {
        vec![cut(&m.proposal[0])]
    }),
    ("one of another group", "wrong_group", |m| {
        vec![m.other.commit.clone()]
    }),
];

fn zstd(bytes: &[u8]) -> TreeContainer {
    TreeContainer::Zstd(bytes.to_vec().into())
}

/// Near the end of a message, where its signatures are.
fn end(payload: &Payload) -> usize {
    payload.len() - 5
}

fn middle(payload: &Payload) -> usize {
    payload.len() / 2
}

fn changed(bundle: &PreparedCommit, change: impl FnOnce(&mut PreparedCommit)) -> Vec<u8> {
    let mut bundle = bundle.clone();
    change(&mut bundle);
    commit_of(&bundle)
}

/// Whether the room refused with one of these codes.
fn has_code(back: &Back, codes: &str) -> bool {
    code(back).is_some_and(|code| codes.split('|').any(|one| one == code))
}

/// Bundles of members that are not what they should be.
pub(super) async fn bundles(book: &mut Book, amy: &mut Member, mallory: &mut Member) {
    let den = room("den", A);
    let dialer = raw::dialer(&book.net.ca(), DOOR_ALPN, None);
    let made = Makings::gather(book, amy, mallory).await;
    let connection = logged_in(book, &dialer, &book.alice).await;
    book.hashes = book.net.node(A).settled().await;
    for (name, code, tree) in TREES {
        let bytes = changed(&made.add, |bundle| bundle.tree = tree(&made));
        let back = say(&connection, &bytes).await;
        let right = |back: &Back| refused_with(back, code);
        book.back(&format!("bundle: one whose tree comes {name}"), back, right)
            .await;
    }
    for (name, codes, change) in BUNDLES {
        let bytes = changed(&made.add, |bundle| change(&made, bundle));
        let back = say(&connection, &bytes).await;
        let exact = |back: &Back| has_code(back, codes);
        book.back(&format!("bundle: one {name}"), back, exact).await;
    }
    for (name, _, change) in ENTRIES {
        let bytes = changed(&made.entry, |bundle| change(&made, bundle));
        let back = say(&connection, &bytes).await;
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
    for (name, codes, change) in ENTRIES {
        let bytes = changed(&made.entry, |bundle| change(&made, bundle));
        let back = say(&connection, &bytes).await;
        let exact = |back: &Back| has_code(back, codes);
        book.back(&format!("bundle: one {name}"), back, exact).await;
    }
    for (name, codes, proposals) in PROPOSALS {
        let back = say(&connection, &propose_in(den.clone(), proposals(&made))).await;
        let exact = |back: &Back| has_code(back, codes);
        book.back(&format!("proposals: {name}"), back, exact).await;
    }
}

/// The code of a room's refusal, or its name where it has a shape of its own.
fn code(back: &Back) -> Option<String> {
    let Some(Reply::Room(Answer::Refused(refused))) = reply(back) else {
        return None;
    };
    Some(match refused {
        Refused::Invalid(Flaw { code, .. }) => code.to_string(),
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
        Refused::Invalid(Flaw { code, detail, .. }) => format!("{code}: {}", &*detail),
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
