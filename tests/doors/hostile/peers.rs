//! Peers at the door for providers.

use super::*;

pub(super) fn hello() -> Hello {
    Hello {
        versions: BVec::truncated(vec![1]),
        node: 1,
        features: BVec::default(),
    }
}

/// A batch of fan-out, on a lane of its own.
fn fanout(batches: &[Fanout]) -> Vec<u8> {
    let mut bytes = framed(&link::Open::Fanout { shard: 3 });
    for batch in batches {
        bytes.extend(framed(batch));
    }
    bytes
}

fn batch(first: u64, room: RoomUri, items: Vec<Item>) -> Fanout {
    let items = BVec::truncated(items);
    Fanout {
        first: LinkSeq(first),
        groups: BVec::truncated(vec![FanoutGroup { room, items }]),
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
        messages: BVec::truncated(vec![junk()]),
    };
    bytes.extend(framed(&Submit {
        groups: BVec::truncated(vec![group]),
    }));
    bytes
}

/// A provider that is let in, and does what it may not.
pub(super) async fn peers(book: &mut Book, amy: &Member) {
    let (certificate, key) = (
        book.net.path("b.example.crt"),
        book.net.path("b.example.key"),
    );
    let identity = Some((certificate.as_path(), key.as_path()));
    let dialer = raw::dialer(&book.net.ca(), LINK_ALPN, identity);
    let address = book.net.node(A).link;
    let peer = async || raw::connect(&dialer, address, A).await.unwrap();

    for (name, bytes, whole) in frames(5 << 20) {
        // A Login is no request of a peer.
        let back = say(&peer().await, &bytes).await;
        let want = if whole { link_bad_frame } else { reset };
        book.back(&format!("peer: {name}"), back, want).await;
    }
    let old = Hello {
        versions: BVec::truncated(vec![99]),
        ..hello()
    };
    let back = say(&peer().await, &framed(&link::Open::Control(old))).await;
    book.back("peer: no version in common", back, |back| {
        *back == Back::Closed(3)
    })
    .await;

    versions::link(book, &peer().await).await;

    let (den, ours, theirs) = (
        room("den", A),
        client("amy", "phone", A),
        client("bob", "phone", B),
    );
    let third = client("cathy", "phone", C);
    let claim = |claim| ask_link(link::Request::Claim(claim));
    let mut asking = claim_of("bob", B, &[("amy", A)]);
    asking.terms.asking_client = Some(client("bill", "phone", B));
    let claim_for = |requester: &str, at: &str, room: Option<RoomUri>| {
        let mut claim = claim_of(requester, at, &[("amy", A)]);
        claim.terms.asking_client = Some(client(requester, "phone", at));
        claim.terms.room = room;
        claim
    };
    let relayed = |claim| ask_link(link::Request::Relayed(claim));
    let lair = || Some(room("lair", B));
    let mut astray = claim_for("cathy", C, lair());
    astray.terms.asking_client = Some(theirs.clone());
    let commit = |room: RoomUri, sender: &ClientUri| {
        ask_link(link::Request::Room {
            room,
            client: sender.clone(),
            request: noise(),
        })
    };
    let propose = |room: RoomUri, sender: &ClientUri| {
        ask_link(link::Request::Room {
            room,
            client: sender.clone(),
            request: room::Request::Propose(BVec::truncated(vec![junk()])),
        })
    };
    let refused: Vec<(&str, Vec<u8>, LinkRefused)> = vec![
        (
            "a claim for our user",
            claim(claim_of("amy", A, &[("alice", A)])),
            LinkRefused::SenderNotBound,
        ),
        (
            "a claim for a user of a third",
            claim(claim_of("cathy", C, &[("amy", A)])),
            LinkRefused::SenderNotBound,
        ),
        (
            "a claim by another user's client",
            claim(asking),
            LinkRefused::SenderNotBound,
        ),
        (
            "a claim that it passes on for a room of a third",
            relayed(claim_for("cathy", C, Some(room("den", C)))),
            LinkRefused::NotOwner,
        ),
        (
            "a claim that it passes on for a room of ours",
            relayed(claim_for("cathy", C, Some(den.clone()))),
            LinkRefused::NotOwner,
        ),
        (
            "a claim that it passes on for no room",
            relayed(claim_for("cathy", C, None)),
            LinkRefused::NotOwner,
        ),
        (
            "a claim that it passes on for another user's client",
            relayed(astray),
            LinkRefused::SenderNotBound,
        ),
        (
            "a key of a client of a third",
            ask_link(link::Request::Vouch {
                client: third.clone(),
                key: [0; 32],
            }),
            LinkRefused::SenderNotBound,
        ),
        (
            "a Commit of our client",
            commit(den.clone(), &ours),
            LinkRefused::SenderNotBound,
        ),
        (
            "a Commit of a third's client",
            commit(den.clone(), &third),
            LinkRefused::SenderNotBound,
        ),
        (
            "a Commit to a room of a third",
            commit(room("den", C), &theirs),
            LinkRefused::NotOwner,
        ),
        (
            "a Commit to its own room",
            commit(room("den", B), &theirs),
            LinkRefused::NotOwner,
        ),
        (
            "proposals of our client",
            propose(den.clone(), &ours),
            LinkRefused::SenderNotBound,
        ),
        (
            "proposals to a room of a third",
            propose(room("den", C), &theirs),
            LinkRefused::NotOwner,
        ),
    ];
    for (name, bytes, want) in refused {
        let back = say(&peer().await, &bytes).await;
        book.back(&format!("peer: {name}"), back, |back| {
            link_refused(back).as_ref() == Some(&want)
        })
        .await;
    }
    let back = say(
        &peer().await,
        &claim(claim_of("bob", B, &[("cathy", C), ("bob", B)])),
    )
    .await;
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
    // Alice may claim amy's packages: the hub of a room may not in her name, nor her provider without her.
    let terms = ClaimTerms {
        room: lair(),
        ..ClaimTerms::new(book.alice.client().user().clone())
    };
    let mut by_hub = signed_claim(amy, terms.clone(), &[("amy", A)]);
    by_hub.terms.asking_client = Some(book.alice.client().clone());
    let mut bare = signed_claim(&book.alice, terms, &[("amy", A)]);
    bare.proof.signatures = BVec::default();
    let bob = signed_claim(amy, ClaimTerms::new(user("bob", B)), &[("amy", A)]);
    let bob = ClaimRequest {
        terms: ClaimTerms {
            asking_client: Some(theirs.clone()),
            ..bob.terms.clone()
        },
        ..bob
    };
    let retry_after_ms = 1_000;
    for (name, bytes, want) in [
        (
            "a claim that it passes on, signed by somebody else",
            relayed(by_hub),
            UserRefused::Unsigned,
        ),
        (
            "a claim that it passes on, without its signatures",
            relayed(bare),
            UserRefused::Unsigned,
        ),
        (
            "a claim that it passes on for a client whose provider is down",
            relayed(claim_for("cathy", C, lair())),
            UserRefused::Unavailable { retry_after_ms },
        ),
        (
            "a claim that nobody signed",
            claim(claim_for("bob", B, None)),
            UserRefused::Unsigned,
        ),
        (
            "a claim signed for other terms",
            claim(bob),
            UserRefused::Unsigned,
        ),
        (
            "a claim for a room of ours that it is not in",
            claim({
                let mut claim = claim_of("bob", B, &[("cathy", C)]);
                claim.terms.room = Some(den.clone());
                claim
            }),
            UserRefused::NotRelayed,
        ),
    ] {
        let back = say(&peer().await, &bytes).await;
        book.back(&format!("peer: {name}"), back, |back| {
            let Some(link::Reply::Claimed(answer)) = link_reply(back) else {
                return false;
            };
            answer.users.len() == 1 && answer.users.iter().all(|row| row.result == Err(want))
        })
        .await;
    }
    let vouch = link::Request::Vouch {
        client: ours.clone(),
        key: [0; 32],
    };
    let back = say(&peer().await, &ask_link(vouch)).await;
    book.back("peer: a key that is not our client's", back, |back| {
        link_reply(back) == Some(link::Reply::Vouched(false))
    })
    .await;
    for (name, requester, client) in [
        (
            "a refill for a user of a third",
            user("cathy", C),
            theirs.clone(),
        ),
        (
            "a refill of a client of a third",
            user("amy", A),
            third.clone(),
        ),
    ] {
        let word = Item::Refilled { requester, client };
        let said = fanout(&[batch(1, room("den", C), vec![word])]);
        let back = say(&peer().await, &said).await;
        book.back(&format!("peer: {name}"), back, protocol).await;
    }
    let outsider = |back: &Back| {
        let answer = link_reply(back);
        matches!(
            answer,
            Some(link::Reply::Room(Answer::Refused(
                Refused::NotAuthorized | Refused::NotMember | Refused::Invalid { .. }
            )))
        )
    };
    for (name, bytes) in [
        (
            "a Commit of a client that is no member",
            commit(den.clone(), &theirs),
        ),
        ("a Commit to no room", commit(room("nowhere", A), &theirs)),
        (
            "proposals of a client that is no member",
            propose(den.clone(), &theirs),
        ),
    ] {
        let back = say(&peer().await, &bytes).await;
        book.back(&format!("peer: {name}"), back, outsider).await;
    }

    let said = || event(1, Body::Application(junk()));
    let left = CommitEvent {
        epoch: Epoch(2),
        commit: junk(),
        left: BVec::truncated(vec![third.clone()]),
        entered: None,
        invitation: None,
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "a room of a third",
            fanout(&[batch(1, room("den", C), vec![said()])]),
        ),
        (
            "our own room",
            fanout(&[batch(1, den.clone(), vec![said()])]),
        ),
        ("nothing", fanout(&[batch(1, room("den", B), Vec::new())])),
        (
            "the number zero",
            fanout(&[batch(0, room("den", B), vec![said()])]),
        ),
        (
            "clients of a third",
            fanout(&[batch(1, room("den", B), vec![event(1, Body::Commit(left))])]),
        ),
        (
            "noise",
            [
                framed(&link::Open::Fanout { shard: 0 }),
                frame(&[1, 0xff, 0xff]),
            ]
            .concat(),
        ),
        (
            "a list of 2^34 rooms",
            [
                framed(&link::Open::Fanout { shard: 0 }),
                frame(&[1, 1, 0xff, 0xff, 0xff, 0xff, 0x3f]),
            ]
            .concat(),
        ),
    ];
    for (name, bytes) in cases {
        let back = say(&peer().await, &bytes).await;
        book.back(&format!("fan-out: {name}"), back, protocol).await;
    }
    let gap = [
        batch(1, room("unknown", B), vec![said()]),
        batch(7, room("unknown", B), vec![said()]),
    ];
    let connection = peer().await;
    let back = say(&connection, &fanout(&gap)).await;
    let closed = matches!(back, Back::Closed(2))
        || tokio::time::timeout(support::WAIT, connection.closed())
            .await
            .is_ok();
    let shown = format!("{back:?}").chars().take(60).collect();
    book.note("fan-out: a gap in the numbers", closed, shown)
        .await;
    // The first batch of that case may be applied after its lane has ended.
    book.hashes = book.net.node(A).settled().await;

    for (name, bytes) in [
        ("of our client", submit(den.clone(), amy.client().clone())),
        ("of a third's client", submit(den.clone(), third)),
        (
            "of noise",
            [framed(&link::Open::Submit), frame(&[1, 0xff, 0xff])].concat(),
        ),
    ] {
        let back = say(&peer().await, &bytes).await;
        book.back(&format!("submission: {name}"), back, protocol)
            .await;
    }
    let rejected = |back: &Back| {
        let Back::Frame(bytes) = back else {
            return false;
        };
        let Ok(answer) = wire::decode::<Submitted>(bytes) else {
            return false;
        };
        answer.refused.len() == 1
            && answer.refused[0].reason == SubmitRefused::NotAuthorized
            && answer.gaps.is_empty()
    };
    for (name, to) in [
        ("to a room of a third", room("den", C)),
        ("to no room", room("nowhere", A)),
        ("to a room without its members", den.clone()),
    ] {
        let back = say_and_stay(&peer().await, &submit(to, theirs.clone())).await;
        book.back(&format!("submission: {name}"), back, rejected)
            .await;
    }
    let back = say(&peer().await, &framed(&link::Open::Control(hello()))).await;
    let Back::Frame(bytes) = back else {
        panic!("an honest peer got {back:?}");
    };
    assert_eq!(wire::decode::<Hello>(&bytes).unwrap().versions[..], [2, 1]);
}
