//! Strangers and clients at the door for clients.

use super::*;
use mimi_actors::wire::refusal::TryLater;
use mimi_actors::wire::{event::Hash, joining::IntroductionsAsk, user};
use mimi_client::member::Ticket;

/// Who has not proved a device.
pub(super) async fn strangers(book: &mut Book, amy: &Member, mallory: &Member) {
    let dialer = raw::dialer(&book.net.ca(), DOOR_ALPN, None);
    for (name, bytes, whole) in frames((64 << 10) + 1) {
        let connection = stranger(book, &dialer).await;
        let back = say(&connection, &bytes).await;
        let name = format!("stranger: {name}");
        let want = if whole { bad_frame } else { reset };
        book.back(&name, back, want).await;
    }
    let connection = stranger(book, &dialer).await;
    let mut trailing = wire::encode(&door::Open::Request(Box::new(Request::HubSender))).to_vec();
    trailing.push(0);
    let bombs: [(&str, Vec<u8>); 4] = [
        ("bytes behind the value", trailing),
        (
            "a list of 2^34 packages",
            vec![1, 0, 3, 0xff, 0xff, 0xff, 0xff, 0x3f],
        ),
        (
            "a list of 101 packages",
            [&[1, 0, 3, 101][..], &[0; 101]].concat(),
        ),
        (
            "a package of 2^34 bytes",
            vec![1, 0, 3, 1, 0xff, 0xff, 0xff, 0xff, 0x3f],
        ),
    ];
    for (name, body) in bombs {
        let back = say(&connection, &frame(&body)).await;
        book.back(&format!("stranger: {name}"), back, bad_frame)
            .await;
    }

    let den = room("den", A);
    let early: [(&str, Vec<u8>); 10] = [
        ("the hub's key", ask(Request::HubSender)),
        ("an upload", ask(Request::Upload(BVec::from([junk()])))),
        (
            "a claim",
            ask(Request::Claim(claim_of("amy", A, &[("alice", A)]))),
        ),
        ("a creation", create_in(room("new", A))),
        ("a Commit", ask_room(den.clone(), noise())),
        ("proposals", propose_in(den, vec![junk()])),
        (
            "the GroupInfo",
            joining::group_info_of(
                amy.prepare_asking(&room("den", A), &Ticket::default())
                    .unwrap()
                    .request,
            ),
        ),
        (
            "an introduction",
            ask(Request::User(user::Request::Introductions(
                IntroductionsAsk::List,
            ))),
        ),
        ("messages", framed(&door::Open::Sends)),
        (
            "the event stream",
            framed(&door::Open::Events(door::Order::InOrder)),
        ),
    ];
    for (name, bytes) in early {
        let back = say(&connection, &bytes).await;
        book.back(&format!("before login: {name}"), back, not_logged_in)
            .await;
    }

    let (me, her) = (mallory.client(), amy.client());
    let ghost = client("ghost", "phone", A);
    let abroad = client("bob", "phone", B);
    let elsewhere = proof(&stranger(book, &dialer).await, amy, her);
    let enrol = |on: &Connection, client: &ClientUri| {
        ask(Request::Enrol(Enrol {
            code: BText::clipped("guess"),
            client: client.clone(),
            device_key: mallory.device().public(),
            proof: proof(on, mallory, client),
        }))
    };
    let more = client("mallory", "more", A);
    type OnConnection<'a> = Box<dyn Fn(&Connection) -> Vec<u8> + 'a>;
    let wrong: [(&str, OnConnection<'_>); 9] = [
        (
            "an empty proof",
            Box::new(|_| login(me, Payload::default())),
        ),
        (
            "a proof of noise",
            Box::new(|_| login(me, vec![7; 64].into())),
        ),
        (
            "mallory's proof for amy",
            Box::new(|on| login(her, proof(on, mallory, her))),
        ),
        (
            "amy's proof of another connection",
            Box::new(|_| login(her, elsewhere.clone())),
        ),
        (
            "amy's proof under mallory's name",
            Box::new(|on| login(her, proof(on, amy, me))),
        ),
        (
            "a user that does not exist",
            Box::new(|on| login(&ghost, proof(on, mallory, &ghost))),
        ),
        (
            "a user of another provider",
            Box::new(|on| login(&abroad, proof(on, mallory, &abroad))),
        ),
        (
            "an enrolment with a code of noise",
            Box::new(|on| enrol(on, &more)),
        ),
        ("an enrolment abroad", Box::new(|on| enrol(on, &abroad))),
    ];
    for (name, bytes) in wrong {
        // The third wrong one ends a connection: each has its own.
        let connection = stranger(book, &dialer).await;
        let back = say(&connection, &bytes(&connection)).await;
        book.back(&format!("login: {name}"), back, not_known).await;
    }
}

/// What is the operator's to ask of a user, and what nobody can ask.
async fn users(book: &mut Book, his: &Connection, mallory: &Member) {
    use user::{Consent, Request as Ask};
    let code = Hash::of(b"guess");
    let consent = Consent {
        requester: mallory.client().user().clone().into(),
        room: None,
        grant: Some(true),
    };
    for (name, request) in [
        ("its own deletion", Ask::Delete),
        ("another enrolment code", Ask::Add { code }),
        ("consent", Ask::Consent(consent)),
        ("its own end", Ask::Revoke(mallory.client().clone())),
    ] {
        let back = say(his, &ask(Request::User(request))).await;
        book.back(&format!("user: {name}"), back, |back| {
            let refused = user::Answer::Refused(user::Refused::NotAuthorized);
            reply(back) == Some(Reply::User(refused))
        })
        .await;
    }
    let enrol = ask(Request::User(Ask::Enrol { code }));
    let back = say(his, &enrol).await;
    // It is enrolled with the key that it proved, whatever code it shows.
    book.back("user: an enrolment once more", back, |back| {
        reply(back) == Some(Reply::User(user::Answer::Enrolled))
    })
    .await;
    let verdicts = |room, count| {
        ask(Request::Verdicts(door::Verdicts {
            room,
            first: ClientSeq(1),
            count,
            wait_ms: u32::MAX,
        }))
    };
    for (name, room) in [
        ("a room of others", room("den", A)),
        ("no room", room("nowhere", A)),
        ("a room elsewhere that nobody here is in", room("den", C)),
    ] {
        let back = say(his, &verdicts(room, 1)).await;
        book.back(&format!("verdicts: of {name}"), back, room_refused)
            .await;
    }
    let back = say(his, &verdicts(room("den", A), u32::MAX)).await;
    book.back("verdicts: of more than there can be", back, |back| {
        matches!(door_refused(back), Some(DoorRefused::BadFrame(flaw))
            if flaw.field.as_deref() == Some("count"))
    })
    .await;
}

/// A client that is known, and asks for what is not its own.
pub(super) async fn clients(book: &mut Book, amy: &Member, mallory: &mut Member) {
    let dialer = raw::dialer(&book.net.ca(), DOOR_ALPN, None);
    let connection = logged_in(book, &dialer, mallory).await;
    let den = room("den", A);
    let back = say(
        &connection,
        &login(amy.client(), proof(&connection, amy, amy.client())),
    )
    .await;
    book.back("client: a second login as somebody else", back, not_bound)
        .await;
    let mut as_amy = claim_of("amy", A, &[("alice", A)]);
    as_amy.terms.asking_client = Some(amy.client().clone());
    let back = say(&connection, &ask(Request::Claim(as_amy))).await;
    book.back("client: a claim for another requester", back, not_bound)
        .await;
    claims(book, &connection, amy, mallory).await;
    users(book, &connection, mallory).await;
    let back = say(&connection, &create_in(room("den", B))).await;
    book.back("client: a room of another provider", back, not_bound)
        .await;
    let back = say(&connection, &create_in(room("new", A))).await;
    book.back("client: a room out of noise", back, room_refused)
        .await;
    let commit = |room| ask_room(room, noise());
    let back = say(&connection, &commit(den.clone())).await;
    book.back(
        "client: a Commit of noise to a room of others",
        back,
        room_refused,
    )
    .await;
    let back = say(&connection, &commit(room("nowhere", A))).await;
    book.back("client: a Commit to no room", back, room_refused)
        .await;
    let back = say(&connection, &commit(room("den", C))).await;
    book.back("client: a Commit to a hub that is down", back, |back| {
        matches!(door_refused(back), Some(DoorRefused::TryLater(_)))
    })
    .await;
    let back = say(&connection, &propose_in(den.clone(), vec![junk(); 3])).await;
    book.back(
        "client: proposals of noise to a room of others",
        back,
        room_refused,
    )
    .await;
    let back = say(&connection, &(5_u32 << 20).to_be_bytes()).await;
    book.back("client: a length over the limit of requests", back, reset)
        .await;
    let back = say(&connection, &frame(&vec![0x5a; 20 << 20])).await;
    book.back("client: a request of 20 MiB", back, reset).await;

    packages(book, &connection, mallory).await;

    let sends = framed(&door::Open::Sends);
    let lane = |frame: Vec<u8>| [&sends[..], &frame].concat();
    let message = |room: &RoomUri, messages: Vec<Payload>| {
        lane(framed(&door::Send {
            room: room.clone(),
            first: ClientSeq(1),
            messages: BVec::try_from(messages).unwrap(),
        }))
    };
    let back = say(&connection, &lane(frame(&[1, 0xff, 0xff]))).await;
    book.back("messages: a frame of noise", back, reset).await;
    let refused = |back: &Back| {
        let Back::Frame(bytes) = back else {
            return None;
        };
        wire::decode::<Sent>(bytes).ok().map(|sent| sent.answer)
    };
    let back = say(&connection, &message(&den, Vec::new())).await;
    book.back("messages: none in a frame", back, |back| {
        matches!(refused(back), Some(Err(DoorRefused::BadFrame(_))))
    })
    .await;
    let large = Payload::from(vec![0; (256 << 10) + 1]);
    let back = say(&connection, &message(&den, vec![large])).await;
    book.back("messages: one that is too large", back, |back| {
        matches!(refused(back), Some(Err(DoorRefused::BadFrame(_))))
    })
    .await;
    let unwelcome = |back: &Back| match refused(back) {
        Some(Ok(Answer::Refused(Refused::NotAuthorized | Refused::NotMember))) => true,
        Some(Ok(Answer::Sent(runs))) if !runs.is_empty() => runs.iter().all(|run| {
            matches!(
                run.verdict,
                Verdict::Refused(SubmitRefused::NotAuthorized | SubmitRefused::NotMember)
            )
        }),
        _ => false,
    };
    for (name, to) in [
        ("to a room of others", den.clone()),
        ("to no room", room("nowhere", A)),
        ("to an unknown room abroad", room("den", B)),
    ] {
        let back = say(&connection, &message(&to, vec![junk()])).await;
        book.back(&format!("messages: {name}"), back, unwelcome)
            .await;
    }
    let events = framed(&door::Open::Events(door::Order::InOrder));
    let back = say(&connection, &[&events[..], &frame(&[9, 9, 9])].concat()).await;
    // What waits in the inbox may come first.
    book.back("event stream: an acknowledgement of noise", back, |back| {
        !matches!(back, Back::Closed(_) | Back::Lost(_))
    })
    .await;
    let alive = say(&connection, &ask(Request::HubSender)).await;
    assert!(
        matches!(reply(&alive), Some(Reply::HubSender(_))),
        "{alive:?}"
    );
}

/// Claims that get nothing, each for its reason.
async fn claims(book: &mut Book, connection: &Connection, amy: &Member, mallory: &Member) {
    let terms = || ClaimTerms::new(mallory.client().user().clone());
    let claim = |users: &[(&str, &str)]| signed_claim(mallory, terms(), users);
    let ask_claim = |claim: ClaimRequest| ask(Request::Claim(claim));
    let of_amy = [("amy", A)];

    let forged = ClaimRequest {
        proof: signed_claim(amy, terms(), &of_amy).proof,
        ..claim(&of_amy)
    };
    let unsigned = ClaimRequest {
        proof: ClaimProof::default(),
        ..claim(&of_amy)
    };
    for (name, claim) in [
        ("a claim signed by another client", forged),
        ("a claim that nobody signed", unsigned),
    ] {
        let back = say(connection, &ask_claim(claim)).await;
        book.back(&format!("client: {name}"), back, not_bound).await;
    }

    let mut stripped = claim(&of_amy);
    stripped.proof.signatures = BVec::default();
    let mut moved = claim(&of_amy);
    moved.id = new_claim_id().unwrap();
    let own = ClaimTerms {
        versions: BVec::from([9]),
        ..terms()
    };
    let own = signed_claim(mallory, own, &[("mallory", A)]);
    let cases: [(&str, ClaimRequest, Vec<UserRefused>); 9] = [
        ("of nobody", claim(&[]), vec![]),
        (
            "without consent",
            claim(&of_amy),
            vec![UserRefused::NoConsent],
        ),
        (
            "of one user five hundred times",
            claim(&[("amy", A); 500]),
            vec![UserRefused::NoConsent],
        ),
        (
            "of nobody who exists",
            claim(&[("ghost", A)]),
            vec![UserRefused::Unknown],
        ),
        (
            "of unknown versions",
            own,
            vec![UserRefused::IncompatibleProtocol],
        ),
        (
            "without its signatures",
            stripped,
            vec![UserRefused::Unsigned],
        ),
        ("signed for another one", moved, vec![UserRefused::Unsigned]),
        (
            "of users of a provider that is down",
            claim(&[("cathy", C)]),
            vec![UserRefused::TryLater(TryLater::unavailable(1_000))],
        ),
        (
            "of users of a provider that nobody knows",
            claim(&[("eve", "e.example")]),
            vec![UserRefused::ProviderUnknown],
        ),
    ];
    for (name, claim, want) in cases {
        let want: Vec<_> = want.into_iter().map(Err).collect();
        let back = say(connection, &ask_claim(claim)).await;
        book.back(&format!("client: a claim {name}"), back, |back| {
            let Some(Reply::Claimed(answer)) = reply(back) else {
                return false;
            };
            let got: Vec<_> = answer.users.iter().map(|row| row.result.clone()).collect();
            got == want
        })
        .await;
    }

    // One user, ciphersuite or capability more than there may be: the count is said before the elements.
    let many = |claim: ClaimRequest, said: &[u8], more: &[u8]| {
        let body = wire::encode(&door::Open::Request(Box::new(Request::Claim(claim))));
        let places = body.windows(said.len()).enumerate();
        let found: Vec<usize> = places
            .filter_map(|(at, window)| (window == said).then_some(at))
            .collect();
        assert_eq!(found.len(), 1, "{said:?} is found once");
        let mut body = body.to_vec();
        body.splice(found[0]..found[0] + said.len(), more.iter().copied());
        frame(&body)
    };
    let thousand: Vec<String> = (0..1_000).map(|number| format!("user{number}")).collect();
    let thousand: Vec<(&str, &str)> = thousand.iter().map(|name| (name.as_str(), A)).collect();
    let mut crowd = claim(&thousand);
    crowd.proof = ClaimProof::default();
    let wishes = |count| ClaimTerms {
        required_extensions: BVec::try_from(vec![0x7777; count]).unwrap(),
        ..terms()
    };
    let wishful = signed_claim(mallory, wishes(256), &of_amy);
    // The number 0x7777 takes three bytes, so the count is found before the first of them.
    let first = [0xf7, 0xee, 0x01];
    let cases = [
        (
            "of 1,001 users",
            many(
                crowd,
                &[&[0xe8, 0x07, 24][..], b"mimi://a.example/u/user0"].concat(),
                &[&[0xe9, 0x07, 24][..], b"mimi://a.example/u/user0"].concat(),
            ),
        ),
        (
            "of 10,001 users",
            many(
                claim(&thousand),
                &[&[0xe8, 0x07, 24][..], b"mimi://a.example/u/user0"].concat(),
                &[&[0x91, 0x4e, 24][..], b"mimi://a.example/u/user0"].concat(),
            ),
        ),
        (
            "with 65,536 capabilities",
            many(
                wishful,
                &[&[0x80, 0x02][..], &first].concat(),
                &[&[0x80, 0x80, 0x04][..], &first].concat(),
            ),
        ),
    ];
    for (name, bytes) in cases {
        let back = say(connection, &bytes).await;
        book.back(&format!("client: a claim {name}"), back, bad_frame)
            .await;
    }
}

/// KeyPackages that nobody may have in stock.
async fn packages(book: &mut Book, connection: &Connection, mallory: &mut Member) {
    let mut make = |options: &PackageOptions| -> Payload {
        let made: Vec<Bytes> = mallory.key_packages(1, options).unwrap();
        Payload::from(made[0].clone())
    };
    let plain = PackageOptions::default();
    let good = make(&plain);
    let mut amys = Member::create(client("amy", "phone", A), None).unwrap();
    let foreign = amys.key_packages(1, &plain).unwrap();
    let eternal = PackageOptions {
        lifetime_s: Some(100 * 365 * 24 * 3_600),
        ..PackageOptions::default()
    };
    let over = PackageOptions {
        lifetime_s: Some(0),
        ..PackageOptions::default()
    };
    let long = PackageOptions {
        lifetime_s: Some(401 * 24 * 3_600),
        ..PackageOptions::default()
    };
    let of_suite = |suite: u8| {
        let mut other = good.to_vec();
        other[7] = suite;
        Payload::from(other)
    };
    let cases: [(&str, &str, Payload); 13] = [
        ("of noise", "protocol version is not supported", junk()),
        ("of nothing", "malformed KeyPackage", Payload::default()),
        ("that is cut", "malformed KeyPackage", cut(&good)),
        ("with a byte more", "malformed KeyPackage", longer(&good)),
        (
            "with a bit flipped in its key",
            "signature of the KeyPackage is wrong",
            flipped(&good, 20),
        ),
        (
            "with a bit flipped in its signature",
            "signature of the KeyPackage is wrong",
            flipped(&good, good.len() - 3),
        ),
        (
            "of another client",
            "the credential does not name the client that uploads",
            Payload::from(foreign[0].clone()),
        ),
        ("that lives a hundred years", "lifetime of", make(&eternal)),
        ("that lives 401 days", "lifetime of", make(&long)),
        ("whose life is over", "lifetime", make(&over)),
        ("of suite 4", "ciphersuite is not supported", of_suite(4)),
        (
            "of another suite than it is signed for",
            "invalid KeyPackage: capabilities lack the ciphersuite in use",
            of_suite(3),
        ),
        (
            "of a megabyte",
            "malformed KeyPackage",
            Payload::from(vec![0; 1 << 20]),
        ),
    ];
    for (name, want, package) in cases {
        let back = say(connection, &packages::upload(vec![package])).await;
        let exact = |back: &Back| packages::invalid(back, want);
        book.back(&format!("upload: a KeyPackage {name}"), back, exact)
            .await;
    }
}
