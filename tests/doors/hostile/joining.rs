//! Requests for the GroupInfo, joining codes and introduction codes that nobody may get anything for.

use super::*;
use mimi_actors::{
    group_info,
    limits::CODE_BYTES_MAX,
    links::JoinLink,
    wire::joining::{CodeId, CodeTerms, CodesAsk, GroupInfoRequest},
    wire::refusal::Flaw,
    wire::user,
};
use mimi_client::member::Ticket;
use ring::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use std::{convert::Infallible, sync::Arc};

/// Requests of who asks again and again.
const ASKERS: usize = 1_000;
/// How many of them wait at the same time.
const ASKERS_AT_ONCE: usize = 50;

/// A signature key that the test holds itself, so that it can sign what no member would.
fn pair() -> Ed25519KeyPair {
    let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap()
}

/// The request, changed and signed as it is then.
fn signed(
    request: &GroupInfoRequest,
    change: impl FnOnce(&mut GroupInfoRequest),
) -> GroupInfoRequest {
    let pair = pair();
    let mut request = request.clone();
    request.signature_key = pair.public_key().as_ref().to_vec().into();
    change(&mut request);
    let sign = |content: &[u8]| Ok::<_, Infallible>(pair.sign(content).as_ref().to_vec());
    let Ok(()) = group_info::sign_request(&mut request, sign);
    request
}

/// The request, changed after it was signed.
fn forged(
    request: &GroupInfoRequest,
    change: impl FnOnce(&mut GroupInfoRequest),
) -> GroupInfoRequest {
    let mut request = request.clone();
    change(&mut request);
    request
}

pub(super) fn group_info_of(request: GroupInfoRequest) -> Vec<u8> {
    let room = request.room.clone();
    ask_room(room, room::Request::GroupInfo(Arc::new(request)))
}

fn codes(room: RoomUri, ask_for: CodesAsk) -> Vec<u8> {
    ask_room(room, room::Request::Codes(ask_for))
}

/// A request of a client of the peer for the GroupInfo.
fn passed_on(request: GroupInfoRequest) -> link::Request {
    link::Request::Room {
        room: request.room.clone(),
        client: request.joiner.clone(),
        request: room::Request::GroupInfo(Arc::new(request)),
    }
}

/// A refusal of the room with this code.
fn invalid(code: &'static str) -> impl Fn(&Back) -> bool {
    move |back| {
        matches!(
            reply(back),
            Some(Reply::Room(Answer::Refused(Refused::Invalid(Flaw { code: said, .. })))) if said.name() == code
        )
    }
}

pub(super) fn not_authorized(back: &Back) -> bool {
    reply(back) == Some(Reply::Room(Answer::Refused(Refused::NotAuthorized)))
}

fn ticket(code: Vec<u8>) -> Ticket {
    Ticket {
        code: Some(code.into()),
        passphrase: None,
    }
}

/// A day, in milliseconds.
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// What is wrong with each request for the GroupInfo, and the code of its refusal.
type Flawed = (
    &'static str,
    fn(&GroupInfoRequest) -> GroupInfoRequest,
    &'static str,
);

const FLAWS: [Flawed; 20] = [
    (
        "signed with noise",
        |good| forged(good, |r| r.signature = junk()),
        "signature",
    ),
    (
        "without a signature",
        |good| forged(good, |r| r.signature = Payload::default()),
        "signature",
    ),
    (
        "for another room than was signed",
        |good| forged(good, |r| r.room = room("nowhere", A)),
        "signature",
    ),
    (
        "of another time than was signed",
        |good| forged(good, |r| r.time.0 += 1),
        "signature",
    ),
    (
        "with another id than was signed",
        |good| forged(good, |r| r.id = [0; 16]),
        "signature",
    ),
    (
        "with another key than was signed",
        |good| forged(good, |r| r.hpke_key = vec![9; 32].into()),
        "signature",
    ),
    (
        "with a code that was not signed",
        |good| forged(good, |r| r.code = Some(junk())),
        "signature",
    ),
    (
        "with another's signature key",
        |good| forged(good, |r| r.signature_key = vec![7; 32].into()),
        "signature",
    ),
    (
        "with a signature key of nothing",
        |good| forged(good, |r| r.signature_key = Payload::default()),
        "signature",
    ),
    (
        "of ciphersuite 0",
        |good| signed(good, |r| r.ciphersuite = 0),
        "ciphersuite",
    ),
    (
        "of ciphersuite 65535",
        |good| signed(good, |r| r.ciphersuite = u16::MAX),
        "ciphersuite",
    ),
    (
        "of a ciphersuite with other signatures",
        |good| signed(good, |r| r.ciphersuite = 2),
        "signature",
    ),
    (
        "with a key of nothing",
        |good| signed(good, |r| r.hpke_key = Payload::default()),
        "hpke_key",
    ),
    (
        "with a key that is cut",
        |good| signed(good, |r| r.hpke_key = vec![9; 31].into()),
        "hpke_key",
    ),
    (
        "with a key of zeros",
        |good| signed(good, |r| r.hpke_key = vec![0; 32].into()),
        "hpke_key",
    ),
    (
        "with a key of 1 MiB",
        |good| signed(good, |r| r.hpke_key = vec![1; 1 << 20].into()),
        "hpke_key",
    ),
    (
        "of yesterday",
        |good| signed(good, |r| r.time.0 -= DAY_MS),
        "request_time",
    ),
    (
        "of tomorrow",
        |good| signed(good, |r| r.time.0 += DAY_MS),
        "request_time",
    ),
    (
        "of the end of time",
        |good| signed(good, |r| r.time.0 = u64::MAX),
        "request_time",
    ),
    (
        "with a code that is too long",
        |good| signed(good, |r| r.code = Some(vec![1; CODE_BYTES_MAX + 1].into())),
        "code",
    ),
];

/// Clients of the node, with and without a right to join.
pub(super) async fn joiners(book: &mut Book, amy: &mut Member, mallory: &Member) {
    let dialer = raw::dialer(&book.net.ca(), DOOR_ALPN, None);
    let den = room("den", A);
    let none = Ticket::default();
    let hers = logged_in(book, &dialer, amy).await;
    let his = logged_in(book, &dialer, mallory).await;
    let good = amy.prepare_asking(&den, &none).unwrap().request;
    for (name, flawed, code) in FLAWS {
        let back = say(&hers, &group_info_of(flawed(&good))).await;
        let name = format!("GroupInfo: a request {name}");
        book.back(&name, back, invalid(code)).await;
    }
    let mut long = group_info_of(signed(&good, |r| r.code = Some(vec![1; 8].into())));
    long.truncate(long.len() - 20);
    let back = say(&hers, &long).await;
    book.back("GroupInfo: a request that is cut", back, reset)
        .await;
    let body = group_info_of(good.clone());
    let back = say(&hers, &frame(&[&body[4..], &[0]].concat())).await;
    book.back("GroupInfo: a byte behind the request", back, bad_frame)
        .await;
    let back = say(&his, &group_info_of(good.clone())).await;
    book.back("GroupInfo: another client's request", back, not_bound)
        .await;

    for (name, of, code) in [
        ("a room that is not his", den.clone(), None),
        ("no room", room("nowhere", A), None),
        (
            "no room, with a code",
            room("nowhere", A),
            Some(vec![1; 16]),
        ),
    ] {
        let right = code.map_or_else(Ticket::default, ticket);
        let request = mallory.prepare_asking(&of, &right).unwrap().request;
        let back = say(&his, &group_info_of(request)).await;
        book.back(&format!("GroupInfo: of {name}"), back, not_authorized)
            .await;
    }
    let abroad = mallory
        .prepare_asking(&room("den", C), &none)
        .unwrap()
        .request;
    let back = say(&his, &group_info_of(abroad)).await;
    book.back("GroupInfo: of a hub that is down", back, |back| {
        matches!(door_refused(back), Some(DoorRefused::TryLater(_)))
    })
    .await;

    // A request that had its lease: what it was worth went with the epoch.
    let back = say(&hers, &group_info_of(good.clone())).await;
    assert!(
        matches!(reply(&back), Some(Reply::Room(Answer::GroupInfo(_)))),
        "{back:?}"
    );
    let update = book.alice.prepare_update(&den).unwrap();
    book.alice.commit(&update).await.unwrap();
    let epoch = update.epoch;
    wait_epoch(&mut book.alice, &den, epoch).await;
    wait_epoch(amy, &den, epoch).await;
    book.rest().await;
    let back = say(&hers, &group_info_of(good)).await;
    book.back(
        "GroupInfo: a request that had its lease",
        back,
        invalid("replayed"),
    )
    .await;
}

/// Who makes, ends and tries codes without a right to.
pub(super) async fn codes_of(book: &mut Book, amy: &mut Member, mallory: &Member) {
    let dialer = raw::dialer(&book.net.ca(), DOOR_ALPN, None);
    let (den, nowhere) = (room("den", A), room("nowhere", A));
    let hers = logged_in(book, &dialer, amy).await;
    let his = logged_in(book, &dialer, mallory).await;
    let terms = |uses, lifetime_ms| {
        CodesAsk::Create(CodeTerms {
            uses,
            lifetime_ms,
            ..CodeTerms::default()
        })
    };
    for (name, of, what) in [
        ("made by a stranger", &den, terms(None, None)),
        ("made for no room", &nowhere, terms(None, None)),
        ("listed by a stranger", &den, CodesAsk::List),
        ("listed of no room", &nowhere, CodesAsk::List),
        ("ended by a stranger", &den, CodesAsk::Revoke(CodeId(1))),
    ] {
        let back = say(&his, &codes(of.clone(), what)).await;
        book.back(&format!("codes: {name}"), back, not_authorized)
            .await;
    }
    // Version 1 has a name inside; whoever asks is the client of the connection all the same.
    let inside = postcard::to_stdvec(&(&den, amy.client(), CodesAsk::List)).unwrap();
    let named = frame(&[&[1, 0, 9][..], &inside].concat());
    let back = say(&his, &named).await;
    book.back("codes: listed in another's name", back, not_authorized)
        .await;
    for (name, what, code) in [
        ("for no join", terms(Some(0), None), "code_terms"),
        ("for no time", terms(None, Some(0)), "code_terms"),
        (
            "that nobody made, ended",
            CodesAsk::Revoke(CodeId(77)),
            "unknown_code",
        ),
    ] {
        let back = say(&hers, &codes(den.clone(), what)).await;
        book.back(&format!("codes: one {name}"), back, invalid(code))
            .await;
    }
    let empty = CodesAsk::Create(CodeTerms {
        passphrase: Some(BText::clipped("")),
        ..CodeTerms::default()
    });
    let back = say(&hers, &codes(den.clone(), empty)).await;
    book.back(
        "codes: one with an empty passphrase",
        back,
        invalid("code_terms"),
    )
    .await;

    let made = tried(book, amy, mallory, &his).await;
    let lease = amy.prepare_asking(&den, &Ticket::default()).unwrap();
    let back = say(&hers, &group_info_of(lease.request)).await;
    let free = matches!(reply(&back), Some(Reply::Room(Answer::GroupInfo(_))));
    assert!(free, "somebody has the lease: {back:?}");
    book.used("a lease").await;

    askers(book, &den).await;
    // Whoever was told a code keeps it: no log does.
    let log = book.net.node(A).log().join("\n");
    for (link, _) in &made {
        let link = link.to_string();
        let (_, code) = link.split_once("?code=").unwrap();
        assert!(!log.contains(code), "the log holds a code");
    }
    // A member's Commit ends the lease, and costs nobody anything.
    let update = book.alice.prepare_update(&den).unwrap();
    book.alice.commit(&update).await.unwrap();
    wait_epoch(&mut book.alice, &den, update.epoch).await;
    wait_epoch(amy, &den, update.epoch).await;
    book.rest().await;

    introductions(book, amy, &his).await;
}

/// Codes that do not admit mallory, and some that were not made for this room; gives all that were made. Wrong ones are
/// counted: that is all.
async fn tried(
    book: &mut Book,
    amy: &mut Member,
    mallory: &Member,
    his: &Connection,
) -> Vec<(JoinLink, CodeId)> {
    let (den, nowhere) = (room("den", A), room("nowhere", A));
    let mut made = Vec::new();
    for terms in [
        CodeTerms {
            uses: Some(1),
            ..CodeTerms::default()
        },
        CodeTerms {
            lifetime_ms: Some(1),
            ..CodeTerms::default()
        },
        CodeTerms {
            passphrase: Some(BText::clipped("sesame")),
            ..CodeTerms::default()
        },
        CodeTerms {
            uses: Some(1),
            ..CodeTerms::default()
        },
        CodeTerms::default(),
    ] {
        made.push(book.alice.create_link(&den, terms).await.unwrap());
    }
    book.alice.revoke_code(&den, made[0].1).await.unwrap();
    let annex = room("annex", A);
    book.alice.create_room(&annex).await.unwrap();
    // Zoe uses up the code for one join.
    let mut zoe = book.net.member("zoe", "phone", A).await;
    book.rest().await;
    let used = zoe.follow_link(&made[3].0, None, support::WAIT).await;
    let epoch = used.unwrap().epoch;
    wait_epoch(&mut book.alice, &den, epoch).await;
    wait_epoch(amy, &den, epoch).await;
    book.used("the use of a code").await;
    let before = book.alice.list_codes(&den).await.unwrap();
    book.rest().await;
    let text = |place: usize| made[place].0.code.clone().unwrap().to_vec();
    let flipped_bit = {
        let mut code = text(2);
        code[15] ^= 1;
        code
    };
    for (name, of, code, counted) in [
        ("that was ended", &den, text(0), false),
        ("whose time is over", &den, text(1), false),
        ("that is used up", &den, text(3), false),
        ("of another room, for none", &nowhere, text(2), false),
        ("of another room, for one", &annex, text(2), true),
        ("with a bit flipped", &den, flipped_bit, true),
        ("of one byte", &den, vec![0], true),
        ("of nothing", &den, vec![], true),
        ("without its passphrase", &den, text(2), true),
        ("of noise, the fifth wrong one", &den, vec![7; 16], true),
        ("that is right, of who is locked out", &den, text(4), false),
    ] {
        let request = mallory.prepare_asking(of, &ticket(code)).unwrap().request;
        let back = say(his, &group_info_of(request)).await;
        if counted {
            book.used("a wrong code").await;
        }
        book.back(&format!("codes: a code {name}"), back, not_authorized)
            .await;
    }
    assert_eq!(
        book.alice.list_codes(&den).await.unwrap(),
        before,
        "a code was consumed"
    );
    made
}

/// Codes of introduction that introduce nobody.
async fn introductions(book: &mut Book, amy: &Member, his: &Connection) {
    let forged = mimi_actors::user::introductions::code(amy.client().user(), [1; 16]);
    for (name, code) in [
        ("that nobody made", forged),
        ("of nobody", b"0123456789abcdefghost".to_vec()),
        ("of noise", vec![0xff; 64]),
        ("of nothing", Vec::new()),
    ] {
        let resolve = Request::Resolve {
            provider: A.parse().unwrap(),
            code: code.into(),
        };
        let back = say(his, &ask(resolve)).await;
        book.back(&format!("introductions: a code {name}"), back, |back| {
            let refused = user::Answer::Introduced(Introduced::NotAuthorized);
            reply(back) == Some(Reply::User(refused))
        })
        .await;
    }
}

/// A thousand requests for the GroupInfo while amy has the lease: each is told to wait, and none gets it.
async fn askers(book: &mut Book, den: &RoomUri) {
    let dialer = raw::dialer(&book.net.ca(), DOOR_ALPN, None);
    let connection = logged_in(book, &dialer, &book.alice).await;
    let mut told = std::collections::BTreeMap::new();
    for _ in 0..ASKERS / ASKERS_AT_ONCE {
        let asking = (0..ASKERS_AT_ONCE).map(|_| {
            let asking = book.alice.prepare_asking(den, &Ticket::default()).unwrap();
            let request = forged(&asking.request, |request| request.wait_ms = 0);
            let connection = connection.clone();
            async move { say(&connection, &group_info_of(request)).await }
        });
        for back in futures::future::join_all(asking).await {
            let name = match reply(&back) {
                Some(Reply::Room(Answer::Refused(Refused::Busy { .. }))) => "busy",
                Some(Reply::Room(Answer::Refused(Refused::TryLater(_)))) => "overloaded",
                _ => "something else",
            };
            *told.entry(name).or_insert(0) += 1;
        }
    }
    let right = !told.contains_key("something else");
    let name = "GroupInfo: a thousand requests while somebody has the lease";
    book.note(name, right, format!("{told:?}")).await;
}

/// A peer that speaks for others.
pub(super) async fn peers(book: &mut Book, amy: &Member) {
    let (certificate, key) = (
        book.net.path("b.example.crt"),
        book.net.path("b.example.key"),
    );
    let identity = Some((certificate.as_path(), key.as_path()));
    let dialer = raw::dialer(&book.net.ca(), LINK_ALPN, identity);
    let peer = raw::connect(&dialer, book.net.node(A).link, A)
        .await
        .unwrap();
    let den = room("den", A);
    let good = amy
        .prepare_asking(&den, &Ticket::default())
        .unwrap()
        .request;
    let own = signed(&good, |r| r.joiner = client("bob", "phone", B));
    let elsewhere = signed(&own, |r| r.room = room("den", C));
    let list = |room: RoomUri, member: &ClientUri| link::Request::Room {
        room,
        client: member.clone(),
        request: room::Request::Codes(CodesAsk::List),
    };
    let bob = client("bob", "phone", B);
    for (name, request, want) in [
        (
            "the GroupInfo for our client",
            passed_on(good),
            LinkRefused::SenderNotBound,
        ),
        (
            "the GroupInfo of a room of a third",
            passed_on(elsewhere),
            LinkRefused::NotOwner,
        ),
        (
            "codes in our client's name",
            list(den.clone(), amy.client()),
            LinkRefused::SenderNotBound,
        ),
        (
            "codes of a room of a third",
            list(room("den", C), &bob),
            LinkRefused::NotOwner,
        ),
    ] {
        let back = say(&peer, &ask_link(request)).await;
        book.back(&format!("peer: {name}"), back, |back| {
            link_refused(back) == Some(want.clone())
        })
        .await;
    }
    // The hub checks the joiner's signature itself, whatever its provider says.
    for (name, request, code) in [
        (
            "signed with noise",
            forged(&own, |r| r.signature = junk()),
            "signature",
        ),
        (
            "with another id than was signed",
            forged(&own, |r| r.id = [0; 16]),
            "signature",
        ),
        (
            "with another key than was signed",
            forged(&own, |r| r.hpke_key = vec![9; 32].into()),
            "signature",
        ),
        (
            "for another joiner than was signed",
            forged(&own, |r| r.joiner = client("bill", "phone", B)),
            "signature",
        ),
        (
            "of ciphersuite 0",
            signed(&own, |r| r.ciphersuite = 0),
            "ciphersuite",
        ),
        (
            "with a key of zeros",
            signed(&own, |r| r.hpke_key = vec![0; 32].into()),
            "hpke_key",
        ),
        (
            "of yesterday",
            signed(&own, |r| r.time.0 -= DAY_MS),
            "request_time",
        ),
        (
            "of tomorrow",
            signed(&own, |r| r.time.0 += DAY_MS),
            "request_time",
        ),
    ] {
        let back = say(&peer, &ask_link(passed_on(request))).await;
        let name = format!("peer: the GroupInfo by a request {name}");
        book.back(&name, back, |back| match link_reply(back) {
            Some(link::Reply::Room(Answer::Refused(Refused::Invalid(Flaw {
                code: said, ..
            })))) => said.name() == code,
            _ => false,
        })
        .await;
    }
    for (name, of) in [("of our room", den), ("of no room", room("nowhere", A))] {
        let request = signed(&own, |r| r.room = of);
        let back = say(&peer, &ask_link(passed_on(request))).await;
        book.back(&format!("peer: the GroupInfo {name}"), back, |back| {
            let told = Answer::Refused(Refused::NotAuthorized);
            link_reply(back) == Some(link::Reply::Room(told))
        })
        .await;
    }
}
