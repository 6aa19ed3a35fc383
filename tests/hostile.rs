//! Hostile input at both doors of a real node: each case has its answer, changes nothing, and disturbs nobody.
//!
//! Source: transport requirements, sections 3 to 5.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "tests stop at what they did not expect"
)]

mod support;

use bytes::Bytes;
use mimi_actors::{
    ids::{ClientUri, RoomUri},
    machine::Millis,
    wire::{
        self, BText, BVec, Payload,
        answer::{Answer, Refused},
        claim::{ClaimRequest, ClaimTerms, UserRefused},
        door::{
            self, Commit, CreateRoom, DoorRefused, EXPORTER_LABEL, Enrol, Login, PackageRefused,
            Propose, Reply, Request, Sent,
        },
        event::{
            Body, ClientSeq, CommitEvent, Epoch, Event, Item, LinkSeq, RoomSeq, SubmitRefused,
            SubmitSeq, Verdict,
        },
        link::{
            self, CommitRequest, Fanout, FanoutGroup, Hello, LinkRefused, ProposeRequest, Submit,
            SubmitGroup, Submitted,
        },
    },
};
use mimi_node::{
    cli::pki::{create_ca, create_certificate},
    client::member::{Member, PackageOptions, PreparedCommit, Proposing, new_claim_id},
    quic::{DOOR_ALPN, LINK_ALPN},
};
use quinn::{Connection, Endpoint};
use serde::Serialize;
use std::time::Instant;
use support::{
    Net, client, invite,
    raw::{self, Back, frame, say, say_and_stay},
    room, user, wait_epoch,
};

const A: &str = "a.example";
const B: &str = "b.example";
const C: &str = "c.example";
/// Fewer cases than this and the corpus has lost some.
const CASES_MIN: usize = 40;

/// Cases whose expected answer the node does not give yet; they are shown, and fail nothing.
const KNOWN: [&str; 3] = [
    // Taken as an empty bundle.
    "proposals: none",
    // The first of the two batches is of a room that nobody here was invited to, and is remembered.
    "fan-out: a gap in the numbers",
    // Numbered and refused later: it tells that the room exists, and is remembered.
    "submission: to a room without its members",
];

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
        let known = KNOWN.contains(&name);
        let result = match (wrong.is_empty(), known) {
            (true, _) => "ok",
            (false, true) => "KNOWN",
            (false, false) => "WRONG",
        };
        self.rows.push(format!("{result:<6} {name:<64} {back}"));
        if known {
            return;
        }
        self.wrong
            .extend(wrong.into_iter().map(|what| format!("{name}: {what}")));
    }

    async fn back(&mut self, name: &str, back: Back, want: impl Fn(&Back) -> bool) {
        let shown = match (&back, reply(&back), link_reply(&back)) {
            (_, Some(reply), _) => format!("{reply:?}"),
            (_, None, Some(reply)) => format!("{reply:?}"),
            (back, ..) => format!("{back:?}"),
        };
        let shown = shown.chars().take(100).collect();
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
    matches!(door_refused(back), Some(DoorRefused::BadFrame { .. }))
}

fn link_bad_frame(back: &Back) -> bool {
    matches!(link_refused(back), Some(LinkRefused::BadFrame { .. }))
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
            Refused::Invalid { .. }
                | Refused::InvalidProposals { .. }
                | Refused::UnknownProposals { .. }
                | Refused::NotMember
                | Refused::NotAuthorized
                | Refused::WrongEpoch { .. }
                | Refused::Exists
        )))
    )
}

fn framed(value: &impl Serialize) -> Vec<u8> {
    frame(&wire::encode(value))
}

fn ask(request: Request) -> Vec<u8> {
    framed(&door::Open::Request(Box::new(request)))
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
        ("version 2", frame(&[2, 0, 2]), true),
        ("an unknown lane", frame(&[1, 9]), true),
        ("an unknown request", frame(&[1, 0, 99]), true),
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
    let users = users.iter().map(|(name, at)| user(name, at)).collect();
    ClaimRequest {
        id: new_claim_id().unwrap(),
        terms: ClaimTerms::new(user(requester, at)),
        users: BVec::truncated(users),
    }
}

fn junk() -> Payload {
    Payload::from(vec![0x5a; 90])
}

fn commit_to(room: RoomUri) -> Commit {
    Commit {
        room,
        commit: junk(),
        welcome: None,
        group_info: junk(),
        tree: junk(),
    }
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
    net.node_mut(A).start().await;
    let den = room("den", A);
    let mut alice = net.member("alice", "phone", A).await;
    let mut amy = net.member("amy", "phone", A).await;
    let mut mallory = net.member("mallory", "phone", A).await;
    let node = net.node(A);
    for name in ["amy", "mallory"] {
        node.consent(name, alice.client().user(), None).await;
    }
    assert_eq!(amy.upload(3).await.unwrap(), 3);
    assert_eq!(mallory.upload(2).await.unwrap(), 2);
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
    strangers(&mut book, &amy, &mallory).await;
    clients(&mut book, &amy, &mut mallory).await;
    bundles(&mut book, &mut amy).await;
    handshakes(&mut book).await;
    peers(&mut book, &amy).await;
    let cases = book.end();
    println!("{cases} hostile cases");
    assert!(cases >= CASES_MIN, "only {cases} cases ran");
}

/// Who has not proved a device.
async fn strangers(book: &mut Book, amy: &Member, mallory: &Member) {
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
    let early: [(&str, Vec<u8>); 8] = [
        ("the hub's key", ask(Request::HubSender)),
        (
            "an upload",
            ask(Request::Upload(BVec::truncated(vec![junk()]))),
        ),
        (
            "a claim",
            ask(Request::Claim(claim_of("amy", A, &[("alice", A)]))),
        ),
        (
            "a creation",
            ask(Request::Create(CreateRoom {
                room: room("new", A),
                group_info: junk(),
                tree: junk(),
            })),
        ),
        ("a Commit", ask(Request::Commit(commit_to(den.clone())))),
        (
            "proposals",
            ask(Request::Propose(Propose {
                room: den,
                proposals: BVec::truncated(vec![junk()]),
            })),
        ),
        ("messages", framed(&door::Open::Sends)),
        ("the event stream", framed(&door::Open::Events)),
    ];
    for (name, bytes) in early {
        let back = say(&connection, &bytes).await;
        book.back(&format!("before login: {name}"), back, not_logged_in)
            .await;
    }

    let other = stranger(book, &dialer).await;
    let (me, her) = (mallory.client(), amy.client());
    let ghost = client("ghost", "phone", A);
    let abroad = client("bob", "phone", B);
    let enrol = |code: &str, client: &ClientUri, of: &Member| {
        ask(Request::Enrol(Enrol {
            code: BText::clipped(code),
            client: client.clone(),
            device_key: of.device().public(),
            proof: proof(&connection, of, client),
        }))
    };
    let proofs: [(&str, Vec<u8>); 8] = [
        ("an empty proof", login(me, Payload::default())),
        ("a proof of noise", login(me, vec![7; 64].into())),
        (
            "mallory's proof for amy",
            login(her, proof(&connection, mallory, her)),
        ),
        (
            "amy's proof of another connection",
            login(her, proof(&other, amy, her)),
        ),
        (
            "amy's proof under mallory's name",
            login(her, proof(&connection, amy, me)),
        ),
        (
            "a user that does not exist",
            login(&ghost, proof(&connection, mallory, &ghost)),
        ),
        (
            "a user of another provider",
            login(&abroad, proof(&connection, mallory, &abroad)),
        ),
        (
            "an enrolment with a code of noise",
            enrol("guess", &client("mallory", "more", A), mallory),
        ),
    ];
    for (name, bytes) in proofs {
        let back = say(&connection, &bytes).await;
        book.back(&format!("login: {name}"), back, not_known).await;
    }
    let back = say(&connection, &enrol("guess", &abroad, mallory)).await;
    book.back("login: an enrolment abroad", back, not_known)
        .await;
}

/// A client that is known, and asks for what is not its own.
async fn clients(book: &mut Book, amy: &Member, mallory: &mut Member) {
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
    let create = |room| {
        ask(Request::Create(CreateRoom {
            room,
            group_info: junk(),
            tree: junk(),
        }))
    };
    let back = say(&connection, &create(room("den", B))).await;
    book.back("client: a room of another provider", back, not_bound)
        .await;
    let back = say(&connection, &create(room("new", A))).await;
    book.back("client: a room out of noise", back, room_refused)
        .await;
    let commit = |room| ask(Request::Commit(commit_to(room)));
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
        matches!(door_refused(back), Some(DoorRefused::Unavailable { .. }))
    })
    .await;
    let propose = Propose {
        room: den.clone(),
        proposals: BVec::truncated(vec![junk(); 3]),
    };
    let back = say(&connection, &ask(Request::Propose(propose))).await;
    book.back(
        "client: proposals of noise to a room of others",
        back,
        room_refused,
    )
    .await;
    let back = say(&connection, &(5_u32 << 20).to_be_bytes()).await;
    book.back("client: a length over the limit of requests", back, reset)
        .await;

    packages(book, &connection, mallory).await;

    let sends = framed(&door::Open::Sends);
    let lane = |frame: Vec<u8>| [&sends[..], &frame].concat();
    let message = |room: &RoomUri, messages: Vec<Payload>| {
        lane(framed(&door::Send {
            room: room.clone(),
            first: ClientSeq(1),
            messages: BVec::truncated(messages),
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
        matches!(refused(back), Some(Err(DoorRefused::BadFrame { .. })))
    })
    .await;
    let large = Payload::from(vec![0; (256 << 10) + 1]);
    let back = say(&connection, &message(&den, vec![large])).await;
    book.back("messages: one that is too large", back, |back| {
        matches!(refused(back), Some(Err(DoorRefused::BadFrame { .. })))
    })
    .await;
    let unwelcome = |back: &Back| match refused(back) {
        Some(Ok(Answer::Refused(Refused::NotAuthorized | Refused::NotMember))) => true,
        Some(Ok(Answer::Sent(runs))) => runs.iter().all(|run| {
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
    let events = framed(&door::Open::Events);
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
    let last = PackageOptions {
        last_resort: true,
        ..PackageOptions::default()
    };
    let cases: [(&str, Payload); 9] = [
        ("of noise", junk()),
        ("of nothing", Payload::default()),
        ("that is cut", cut(&good)),
        ("with a byte more", longer(&good)),
        ("with a bit flipped in its key", flipped(&good, 20)),
        (
            "with a bit flipped in its signature",
            flipped(&good, good.len() - 3),
        ),
        ("of another client", Payload::from(foreign[0].clone())),
        ("that lives a hundred years", make(&eternal)),
        ("of last resort", make(&last)),
    ];
    for (name, package) in cases {
        let upload = Request::Upload(BVec::truncated(vec![package]));
        let back = say(connection, &ask(upload)).await;
        book.back(&format!("upload: a KeyPackage {name}"), back, |back| {
            let Some(Reply::Uploaded(results)) = reply(back) else {
                return false;
            };
            let invalid = |result: &Result<(), PackageRefused>| {
                matches!(
                    result,
                    Err(PackageRefused::Invalid { .. } | PackageRefused::LastResort)
                )
            };
            results.len() == 1 && results.iter().all(invalid)
        })
        .await;
    }
}

/// Bundles of members that are not what they should be.
async fn bundles(book: &mut Book, amy: &mut Member) {
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
        ask(Request::Commit(bundle.frame()))
    };
    let end = |payload: &Payload| payload.len() - 5;
    let middle = |payload: &Payload| payload.len() / 2;
    let welcome = add.welcome.clone().unwrap();
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
        ("that is all amy's", ask(Request::Commit(hers.frame()))),
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
        ("whose tree is cut", with(&|b| b.tree = cut(&add.tree))),
        (
            "whose tree has a bit flipped",
            with(&|b| b.tree = flipped(&add.tree, middle(&add.tree))),
        ),
        (
            "whose tree has a byte more",
            with(&|b| b.tree = longer(&add.tree)),
        ),
        (
            "whose tree is empty",
            with(&|b| b.tree = Payload::default()),
        ),
        (
            "whose tree is another group's",
            with(&|b| b.tree = other.tree.clone()),
        ),
    ];
    for (name, bytes) in cases {
        let back = say(&connection, &bytes).await;
        book.back(&format!("bundle: one {name}"), back, room_refused)
            .await;
    }

    let proposal = amy.prepare_proposals(&den, Proposing::Update).unwrap();
    amy.withdraw(&den, &proposal).unwrap();
    let propose = |proposals: Vec<Payload>| {
        ask(Request::Propose(Propose {
            room: den.clone(),
            proposals: BVec::truncated(proposals),
        }))
    };
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
        book.back(&format!("proposals: {name}"), back, room_refused)
            .await;
    }
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
async fn handshakes(book: &mut Book) {
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
            Ok(connection) => say(&connection, &framed(&link::Open::Control(hello()))).await,
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

fn hello() -> Hello {
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
async fn peers(book: &mut Book, amy: &Member) {
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

    let (den, ours, theirs) = (
        room("den", A),
        client("amy", "phone", A),
        client("bob", "phone", B),
    );
    let third = client("cathy", "phone", C);
    let claim = |claim| ask_link(link::Request::Claim(claim));
    let mut asking = claim_of("bob", B, &[("amy", A)]);
    asking.terms.asking_client = Some(client("bill", "phone", B));
    let commit = |room: RoomUri, sender: &ClientUri| {
        ask_link(link::Request::Commit(CommitRequest {
            room,
            sender: sender.clone(),
            commit: junk(),
            welcome: None,
            group_info: junk(),
            tree: junk(),
        }))
    };
    let propose = |room: RoomUri, sender: &ClientUri| {
        ask_link(link::Request::Propose(ProposeRequest {
            room,
            sender: sender.clone(),
            proposals: BVec::truncated(vec![junk()]),
        }))
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
    assert_eq!(wire::decode::<Hello>(&bytes).unwrap().versions[..], [1]);
}
