//! Peers at the door for providers.

use super::*;
use mimi_actors::{
    ids::UserUri,
    limits::{SHARDS_MAX, SHARED_LANES_MAX},
    wire::{
        consent::{ConsentEntry, ConsentOp, place},
        link::OfShard,
        refusal::TryLater,
    },
};
use std::net::SocketAddr;

pub(super) fn hello() -> Hello {
    Hello {
        versions: BVec::from([1]),
        node: 1,
        features: BVec::default(),
    }
}

/// Batches of fan-out of a shard, on a lane of their own.
fn fanout(batches: &[Fanout]) -> Vec<u8> {
    let frames: Vec<_> = batches.iter().map(|batch| of(3, 1, batch)).collect();
    shared(&frames)
}

/// Frames of fan-out on a lane that shards share.
fn shared(frames: &[OfShard<Fanout>]) -> Vec<u8> {
    let mut bytes = framed(&link::Open::Fanout);
    bytes.extend(frames.iter().flat_map(framed));
    bytes
}

/// A frame of a shard.
fn of<T: Clone>(shard: u16, session: u64, said: &T) -> OfShard<T> {
    let said = said.clone();
    OfShard {
        shard,
        session,
        said,
    }
}

/// One batch with one event of a room, of a shard and in a session.
fn one_of(shard: u16, session: u64, first: u64) -> OfShard<Fanout> {
    of(
        shard,
        session,
        &batch(first, room("unknown", B), vec![said()]),
    )
}

fn batch(first: u64, room: RoomUri, items: Vec<Item>) -> Fanout {
    let items = BVec::try_from(items).unwrap();
    Fanout {
        first: LinkSeq(first),
        groups: BVec::from([FanoutGroup { room, items }]),
    }
}

fn event(seq: u64, body: Body) -> Item {
    Item::Event(Event {
        seq: RoomSeq(seq),
        time: Millis(1),
        body,
    })
}

fn submit(room: RoomUri, sender: ClientUri) -> Vec<u8> {
    let mut bytes = framed(&link::Open::Submit);
    let group = SubmitGroup {
        room,
        sender,
        first: SubmitSeq(1),
        undecided: SubmitSeq(1),
        messages: BVec::from([junk()]),
    };
    let submit = Submit {
        groups: BVec::from([group]),
    };
    bytes.extend(framed(&of(3, 1, &submit)));
    bytes
}

/// A client of the node, of the provider that speaks, and of a third.
fn ours() -> ClientUri {
    client("amy", "phone", A)
}

fn theirs() -> ClientUri {
    client("bob", "phone", B)
}

fn third() -> ClientUri {
    client("cathy", "phone", C)
}

fn den() -> RoomUri {
    room("den", A)
}

fn lair() -> Option<RoomUri> {
    Some(room("lair", B))
}

fn claim(claim: ClaimRequest) -> Vec<u8> {
    ask_link(link::Request::Claim(claim))
}

/// A claim that the hub of a room passes on.
fn relayed(claim: ClaimRequest) -> Vec<u8> {
    ask_link(link::Request::Relayed(claim))
}

/// A claim of amy, for a room or none.
fn claim_for(requester: &str, at: &str, room: Option<RoomUri>) -> ClaimRequest {
    let mut claim = claim_of(requester, at, &[("amy", A)]);
    claim.terms.asking_client = Some(client(requester, "phone", at));
    claim.terms.room = room;
    claim
}

/// The same claim, by another client.
fn by(mut claim: ClaimRequest, client: ClientUri) -> ClaimRequest {
    claim.terms.asking_client = Some(client);
    claim
}

fn to_room(room: RoomUri, client: ClientUri, request: room::Request) -> Vec<u8> {
    ask_link(link::Request::Room {
        room,
        client,
        request,
    })
}

fn commit(room: RoomUri, sender: ClientUri) -> Vec<u8> {
    to_room(room, sender, noise())
}

fn propose(room: RoomUri, sender: ClientUri) -> Vec<u8> {
    let proposals = BVec::from([junk()]);
    to_room(room, sender, room::Request::Propose(proposals))
}

fn vouch(client: ClientUri) -> Vec<u8> {
    ask_link(link::Request::Vouch {
        client,
        key: [0; 32],
    })
}

fn said() -> Item {
    event(1, Body::Application(junk()))
}

/// One batch with one event of a room.
fn one(first: u64, room: RoomUri, item: Item) -> Vec<u8> {
    fanout(&[batch(first, room, vec![item])])
}

/// A lane of fan-out with a frame that is none.
fn noisy(body: &[u8]) -> Vec<u8> {
    [framed(&link::Open::Fanout), frame(body)].concat()
}

/// What each request says, by its name.
type Case = (&'static str, fn() -> Vec<u8>);

/// What is refused as a whole.
const REFUSED: [(Case, LinkRefused); 14] = [
    (
        ("a claim for our user", || {
            claim(claim_of("amy", A, &[("alice", A)]))
        }),
        LinkRefused::SenderNotBound,
    ),
    (
        ("a claim for a user of a third", || {
            claim(claim_of("cathy", C, &[("amy", A)]))
        }),
        LinkRefused::SenderNotBound,
    ),
    (
        ("a claim by another user's client", || {
            let asking = claim_of("bob", B, &[("amy", A)]);
            claim(by(asking, client("bill", "phone", B)))
        }),
        LinkRefused::SenderNotBound,
    ),
    (
        ("a claim that it passes on for a room of a third", || {
            relayed(claim_for("cathy", C, Some(room("den", C))))
        }),
        LinkRefused::NotOwner,
    ),
    (
        ("a claim that it passes on for a room of ours", || {
            relayed(claim_for("cathy", C, Some(den())))
        }),
        LinkRefused::NotOwner,
    ),
    (
        ("a claim that it passes on for no room", || {
            relayed(claim_for("cathy", C, None))
        }),
        LinkRefused::NotOwner,
    ),
    (
        (
            "a claim that it passes on for another user's client",
            || relayed(by(claim_for("cathy", C, lair()), theirs())),
        ),
        LinkRefused::SenderNotBound,
    ),
    (
        ("a key of a client of a third", || vouch(third())),
        LinkRefused::SenderNotBound,
    ),
    (
        ("a Commit of our client", || commit(den(), ours())),
        LinkRefused::SenderNotBound,
    ),
    (
        ("a Commit of a third's client", || commit(den(), third())),
        LinkRefused::SenderNotBound,
    ),
    (
        ("a Commit to a room of a third", || {
            commit(room("den", C), theirs())
        }),
        LinkRefused::NotOwner,
    ),
    (
        ("a Commit to its own room", || {
            commit(room("den", B), theirs())
        }),
        LinkRefused::NotOwner,
    ),
    (
        ("proposals of our client", || propose(den(), ours())),
        LinkRefused::SenderNotBound,
    ),
    (
        ("proposals to a room of a third", || {
            propose(room("den", C), theirs())
        }),
        LinkRefused::NotOwner,
    ),
];

/// Claims of one user that get nothing, and why. Alice may claim amy's packages: the hub of a room may not in her name, nor
/// her provider without her.
type Claim = fn(alice: &Member, amy: &Member) -> Vec<u8>;

const CLAIMS: [(&str, Claim, UserRefused); 6] = [
    (
        "a claim that it passes on, signed by somebody else",
        |alice, amy| {
            let by_hub = signed_claim(amy, terms_of(alice), &[("amy", A)]);
            relayed(by(by_hub, alice.client().clone()))
        },
        UserRefused::Unsigned,
    ),
    (
        "a claim that it passes on, without its signatures",
        |alice, _| {
            let mut bare = signed_claim(alice, terms_of(alice), &[("amy", A)]);
            bare.proof.signatures = BVec::default();
            relayed(bare)
        },
        UserRefused::Unsigned,
    ),
    (
        "a claim that it passes on for a client whose provider is down",
        |_, _| relayed(claim_for("cathy", C, lair())),
        UserRefused::TryLater(TryLater::unavailable(1_000)),
    ),
    (
        "a claim that nobody signed",
        |_, _| claim(claim_for("bob", B, None)),
        UserRefused::Unsigned,
    ),
    (
        "a claim signed for other terms",
        |_, amy| {
            let bob = signed_claim(amy, ClaimTerms::new(user("bob", B)), &[("amy", A)]);
            claim(by(bob, theirs()))
        },
        UserRefused::Unsigned,
    ),
    (
        "a claim for a room of ours that it is not in",
        |_, _| {
            let mut of_ours = claim_of("bob", B, &[("cathy", C)]);
            of_ours.terms.room = Some(den());
            claim(of_ours)
        },
        UserRefused::NotRelayed,
    ),
];

fn terms_of(alice: &Member) -> ClaimTerms {
    ClaimTerms {
        room: lair(),
        ..ClaimTerms::new(alice.client().user().clone())
    }
}

/// Words to users, about refilled stocks and consent, that end the connection.
const REFILLS: [Case; 6] = [
    ("a refill for a user of a third", || {
        refilled(user("cathy", C), theirs())
    }),
    ("a refill of a client of a third", || {
        refilled(user("amy", A), third())
    }),
    ("a request for consent of a user of a third", || {
        consent(ConsentOp::Request, user("cathy", C), user("amy", A))
    }),
    ("a request for consent to a user of a third", || {
        consent(ConsentOp::Request, user("bob", B), user("cathy", C))
    }),
    ("a grant of a user of ours", || {
        consent(ConsentOp::Grant, user("amy", A), user("alice", A))
    }),
    ("what is no consent entry", || {
        let entry = Payload::from(vec![4; 40]);
        one(1, place(&user("amy", A)).unwrap(), Item::Consent(entry))
    }),
];

/// What the peer says about consent.
fn consent(op: ConsentOp, requester: UserUri, target: UserUri) -> Vec<u8> {
    let entry = ConsentEntry {
        op,
        requester,
        target,
        room: None,
        key_packages: BVec::default(),
        extensions: Payload::default(),
    };
    let item = Item::Consent(entry.write().into());
    one(1, place(entry.receiver()).unwrap(), item)
}

fn refilled(requester: UserUri, client: ClientUri) -> Vec<u8> {
    one(1, room("den", C), Item::Refilled { requester, client })
}

/// Requests to rooms of clients that are in none.
const OUTSIDERS: [Case; 3] = [
    ("a Commit of a client that is no member", || {
        commit(den(), theirs())
    }),
    ("a Commit to no room", || {
        commit(room("nowhere", A), theirs())
    }),
    ("proposals of a client that is no member", || {
        propose(den(), theirs())
    }),
];

/// Fan-out that ends the connection.
const FANOUTS: [Case; 12] = [
    ("a room of a third", || one(1, room("den", C), said())),
    ("our own room", || one(1, den(), said())),
    ("nothing", || {
        fanout(&[batch(1, room("den", B), Vec::new())])
    }),
    ("the number zero", || one(0, room("den", B), said())),
    ("clients of a third", || {
        let left = CommitEvent {
            epoch: Epoch(2),
            commit: junk(),
            left: BVec::from([third()]),
            entered: None,
            invitation: None,
        };
        one(1, room("den", B), event(1, Body::Commit(left)))
    }),
    ("noise", || noisy(&[2, 0xff, 0xff])),
    ("a list of 2^34 rooms", || {
        noisy(&[2, 3, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x3f])
    }),
    ("of a shard that no provider has", || {
        shared(&[one_of(SHARDS_MAX, 1, 1)])
    }),
    ("of the last shard there could be a number for", || {
        shared(&[one_of(u16::MAX, 1, 1)])
    }),
    ("of no session", || shared(&[one_of(3, 0, 1)])),
    ("without a shard, on a lane that shards share", || {
        let alone = batch(1, room("den", B), vec![said()]);
        let first = wire::encode_in(1, &alone, 256).unwrap();
        [framed(&link::Open::Fanout), frame(&first)].concat()
    }),
    ("of version 1, of a shard that no provider has", || {
        let open = link::Open::OneShard { shard: SHARDS_MAX };
        let alone = batch(1, room("den", B), vec![said()]);
        [framed(&open), framed(&alone)].concat()
    }),
];

/// Submissions that end the connection.
const SUBMISSIONS: [Case; 3] = [
    ("of our client", || submit(den(), ours())),
    ("of a third's client", || submit(den(), third())),
    ("of noise", || {
        [framed(&link::Open::Submit), frame(&[2, 0xff, 0xff])].concat()
    }),
];

/// Names a room.
type Naming = fn() -> RoomUri;

/// Submissions of which each message is refused.
const NOT_AUTHORIZED: [(&str, Naming); 3] = [
    ("to a room of a third", || room("den", C)),
    ("to no room", || room("nowhere", A)),
    ("to a room without its members", den),
];

/// A provider that is let in: it may dial as often as it likes.
struct Peer {
    dialer: Endpoint,
    address: SocketAddr,
}

impl Peer {
    fn of(book: &Book) -> Self {
        let (certificate, key) = (
            book.net.path("b.example.crt"),
            book.net.path("b.example.key"),
        );
        let identity = Some((certificate.as_path(), key.as_path()));
        Self {
            dialer: raw::dialer(&book.net.ca(), LINK_ALPN, identity),
            address: book.net.node(A).link,
        }
    }

    async fn dial(&self) -> Connection {
        raw::connect(&self.dialer, self.address, A).await.unwrap()
    }

    /// Says something on a connection of its own.
    async fn say(&self, bytes: &[u8]) -> Back {
        say(&self.dial().await, bytes).await
    }
}

/// A provider that is let in, and does what it may not.
pub(super) async fn peers(book: &mut Book, amy: &Member) {
    let peer = Peer::of(book);
    for (name, bytes, whole) in frames(5 << 20) {
        // A Login is no request of a peer.
        let back = peer.say(&bytes).await;
        let want = if whole { link_bad_frame } else { reset };
        book.back(&format!("peer: {name}"), back, want).await;
    }
    let old = Hello {
        versions: BVec::from([99]),
        ..hello()
    };
    let back = peer.say(&framed(&link::Open::Control(old))).await;
    book.back("peer: no version in common", back, |back| {
        *back == Back::Closed(3)
    })
    .await;
    versions::link(book, &peer.dial().await).await;
    requests(book, &peer, amy).await;
    fanouts(book, &peer).await;
    submissions(book, &peer).await;
    let back = peer.say(&framed(&link::Open::Control(hello()))).await;
    let Back::Frame(bytes) = back else {
        panic!("an honest peer got {back:?}");
    };
    assert_eq!(wire::decode::<Hello>(&bytes).unwrap().versions[..], [2, 1]);
}

async fn requests(book: &mut Book, peer: &Peer, amy: &Member) {
    for ((name, bytes), want) in REFUSED {
        let back = peer.say(&bytes()).await;
        book.back(&format!("peer: {name}"), back, |back| {
            link_refused(back).as_ref() == Some(&want)
        })
        .await;
    }
    let foreign = claim(claim_of("bob", B, &[("cathy", C), ("bob", B)]));
    let back = peer.say(&foreign).await;
    book.back(
        "peer: a claim of users of others",
        back,
        |back| match link_reply(back) {
            Some(link::Reply::Claimed(answer)) => {
                let foreign = Err(UserRefused::ForeignUser);
                answer.users.len() == 2 && answer.users.iter().all(|row| row.result == foreign)
            }
            _ => false,
        },
    )
    .await;
    for (name, bytes, want) in CLAIMS {
        let back = peer.say(&bytes(&book.alice, amy)).await;
        book.back(&format!("peer: {name}"), back, |back| {
            let Some(link::Reply::Claimed(answer)) = link_reply(back) else {
                return false;
            };
            answer.users.len() == 1 && answer.users.iter().all(|row| row.result == Err(want))
        })
        .await;
    }
    let back = peer.say(&vouch(ours())).await;
    book.back("peer: a key that is not our client's", back, |back| {
        link_reply(back) == Some(link::Reply::Vouched(false))
    })
    .await;
    for (name, bytes) in REFILLS {
        let back = peer.say(&bytes()).await;
        book.back(&format!("peer: {name}"), back, protocol).await;
    }
    let outsider = |back: &Back| {
        let answer = link_reply(back);
        matches!(
            answer,
            Some(link::Reply::Room(Answer::Refused(
                Refused::NotAuthorized | Refused::NotMember | Refused::Invalid(_)
            )))
        )
    };
    for (name, bytes) in OUTSIDERS {
        let back = peer.say(&bytes()).await;
        book.back(&format!("peer: {name}"), back, outsider).await;
    }
}

async fn fanouts(book: &mut Book, peer: &Peer) {
    for (name, bytes) in FANOUTS {
        let back = peer.say(&bytes()).await;
        book.back(&format!("fan-out: {name}"), back, protocol).await;
    }
    let gap = [
        batch(1, room("unknown", B), vec![said()]),
        batch(7, room("unknown", B), vec![said()]),
    ];
    let before = [one_of(3, 2, 1), one_of(3, 1, 1)];
    // The first frame may be answered before the second is seen.
    for (name, frames) in [
        ("fan-out: a gap in the numbers", fanout(&gap)),
        (
            "fan-out: of a session before the one that runs",
            shared(&before),
        ),
    ] {
        let connection = peer.dial().await;
        let back = say(&connection, &frames).await;
        let closed = matches!(back, Back::Closed(2))
            || tokio::time::timeout(support::WAIT, connection.closed())
                .await
                .is_ok();
        let shown = format!("{back:?}").chars().take(60).collect();
        book.note(name, closed, shown).await;
    }
    let connection = peer.dial().await;
    let mut lanes = Vec::new();
    for _ in 0..=SHARED_LANES_MAX {
        let (mut to, from) = connection.open_bi().await.unwrap();
        to.write_all(&framed(&link::Open::Fanout)).await.unwrap();
        lanes.push((to, from));
    }
    let closed = tokio::time::timeout(support::WAIT, connection.closed()).await;
    let shown = format!("{closed:?}").chars().take(60).collect();
    book.note(
        "fan-out: on more lanes than shards may share",
        closed.is_ok(),
        shown,
    )
    .await;
    // The first batch of that case may be applied after its lane has ended.
    book.hashes = book.net.node(A).settled().await;
}

async fn submissions(book: &mut Book, peer: &Peer) {
    for (name, bytes) in SUBMISSIONS {
        let back = peer.say(&bytes()).await;
        book.back(&format!("submission: {name}"), back, protocol)
            .await;
    }
    let rejected = |back: &Back| {
        let Back::Frame(bytes) = back else {
            return false;
        };
        let Ok(OfShard {
            shard: 3,
            session: 1,
            said: answer,
        }) = wire::decode::<OfShard<Submitted>>(bytes)
        else {
            return false;
        };
        answer.refused.len() == 1
            && answer.refused[0].reason == SubmitRefused::NotAuthorized
            && answer.gaps.is_empty()
    };
    for (name, to) in NOT_AUTHORIZED {
        let back = say_and_stay(&peer.dial().await, &submit(to(), theirs())).await;
        book.back(&format!("submission: {name}"), back, rejected)
            .await;
    }
}
