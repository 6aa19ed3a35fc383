//! What is made up costs nothing: names of people and rooms that nobody has, Welcomes for nobody. And one Welcome for many lies
//! on the disk once or twice for each shard, not for each of them.

use crate::{
    stage::{A, B, provider},
    support::{Net, client, forger::vector, raw, room},
};
use mimi_actors::{
    doors::check_package,
    ids::{ClientUri, RoomUri},
    limits::{TREE_BYTES_MAX, WELCOME_BYTES_MAX},
    machine::Millis,
    mls::check::bundle::Terms,
    wire::{
        self, BVec, Payload, Versioned,
        claim::ClaimTerms,
        door::{self, Login, Reply, Request},
        event::{Body, Epoch, Event, Invitation, Item, LinkSeq, RoomSeq},
        joining::CodesAsk,
        link::{self, Ack, Fanout, FanoutGroup, OfShard},
        room as asked,
    },
};
use mimi_client::member::{Member, new_claim_id, packages};
use mimi_quic::{DOOR_ALPN, LINK_ALPN};
use quinn::Connection;
use raw::Back;
use std::time::UNIX_EPOCH;

/// Requests of each kind.
const EACH: usize = 150;
/// Users to whom one Welcome goes.
const INVITED: usize = 96;
/// Shards of a provider.
const SHARDS: usize = 16;

fn framed(value: &impl Versioned) -> Vec<u8> {
    raw::frame(&wire::encode(value))
}

/// A connection of b.example to the providers' door of a.example.
async fn peer(net: &Net) -> Connection {
    let (certificate, key) = (net.path("b.example.crt"), net.path("b.example.key"));
    let identity = Some((&*certificate, &*key));
    let dialer = raw::dialer(&net.ca(), LINK_ALPN, identity);
    raw::connect(&dialer, net.any(A).link, A).await.unwrap()
}

async fn asked_of_link(connection: &Connection, request: link::Request) -> link::Reply {
    let open = link::Open::Request(Box::new(request));
    match raw::say(connection, &framed(&open)).await {
        Back::Frame(bytes) => wire::decode(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// What of a lane's first frame of fan-out is acknowledged.
async fn fanned_out(connection: &Connection, items: Vec<(RoomUri, Item)>) -> Ack {
    let groups = items.into_iter().map(|(room, item)| FanoutGroup {
        room,
        items: BVec::from([item]),
    });
    let frame = OfShard {
        shard: 3,
        session: 1,
        said: Fanout {
            first: LinkSeq(1),
            groups: BVec::first_max(groups),
        },
    };
    let bytes = [framed(&link::Open::Fanout), framed(&frame)].concat();
    match raw::say_and_stay(connection, &bytes).await {
        Back::Frame(bytes) => wire::decode::<OfShard<Ack>>(&bytes).unwrap().said,
        other => panic!("{other:?}"),
    }
}

fn event(body: Body) -> Item {
    Item::Event(Event {
        seq: RoomSeq(9),
        time: Millis(1),
        body,
    })
}

/// Bytes that nothing makes smaller.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let byte = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(byte).take(length).collect()
}

/// A Welcome for KeyPackages, and a tree, that are as large as they may be.
fn invitation(clients: Vec<ClientUri>, references: &[Payload]) -> (Item, u64) {
    let sealed =
        |reference: &Payload| [vector(reference), vector(&[7; 32]), vector(&[7; 48])].concat();
    let secrets: Vec<u8> = references.iter().flat_map(sealed).collect();
    // MLS 1.0, a Welcome, suite 1.
    let mut welcome = [&[0, 1, 0, 3, 0, 1], &*vector(&secrets)].concat();
    let within = WELCOME_BYTES_MAX - welcome.len() - 4;
    welcome.extend(vector(&noise(within, 7)));
    assert_eq!(welcome.len(), WELCOME_BYTES_MAX);
    let tree = noise(TREE_BYTES_MAX, 9);
    let bytes = (welcome.len() + tree.len()) as u64;
    let invitation = Invitation {
        epoch: Epoch(1),
        clients: BVec::try_from(clients).unwrap(),
        welcome: welcome.into(),
        tree: tree.into(),
    };
    (event(Body::Invited(invitation)), bytes)
}

/// What the nodes of a.example hold: the actors of each, and what they have folded.
async fn held(net: &Net) -> Vec<(usize, Vec<String>)> {
    let mut held = Vec::new();
    for node in net.of(A) {
        let folded = node.settled().await;
        let status = node.status().await;
        held.push((status.actors_awake + status.actors_asleep, folded));
    }
    held
}

/// The references of a KeyPackage of each client, all of which somebody claims.
async fn claimed(by: &Member, clients: &[ClientUri]) -> Vec<Payload> {
    let users: Vec<_> = clients.iter().map(|client| client.user().clone()).collect();
    let terms = ClaimTerms::new(by.client().user().clone());
    let door = by.door().unwrap();
    let answer = door
        .claim(new_claim_id().unwrap(), terms, &users)
        .await
        .unwrap();
    let packages = packages(&answer).into_iter().zip(clients);
    let now = Millis(u64::try_from(UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap());
    let reference = |(package, client): (Payload, &ClientUri)| {
        let checked = check_package(package, client, now, &Terms::default());
        checked.unwrap().reference
    };
    let references: Vec<_> = packages.map(reference).collect();
    assert_eq!(references.len(), clients.len());
    references
}

/// Asks a.example, where it has so many nodes, for what nobody has; it holds no more for that.
async fn made_up_at(nodes: u64) {
    let net = provider(nodes).await;
    let alice = net.member("alice", "phone", A).await;
    let before = held(&net).await;

    let link = peer(&net).await;
    let bob = client("bob", "phone", B);
    for number in 0..EACH {
        let name = format!("nobody{number}");
        let codes = link::Request::Room {
            room: room(&name, A),
            client: bob.clone(),
            request: asked::Request::Codes(CodesAsk::List),
        };
        let propose = link::Request::Room {
            room: room(&name, A),
            client: bob.clone(),
            request: asked::Request::Propose(BVec::from([vec![7; 99].into()])),
        };
        let vouch = link::Request::Vouch {
            client: client(&name, "phone", A),
            key: [7; 32],
        };
        // A code leads to its user by a name behind sixteen bytes.
        let code = [&[7; 16], name.as_bytes()].concat();
        for request in [codes, propose, vouch, link::Request::Resolve(code.into())] {
            asked_of_link(&link, request).await;
        }
    }
    let talk = |number| {
        let text = event(Body::Application(vec![7; 99].into()));
        (room(&format!("nobody{number}"), B), text)
    };
    let ack = fanned_out(&link, (0..EACH).map(talk).collect()).await;
    assert_eq!(ack.refused.len(), EACH, "{ack:?}");
    let doors = raw::dialer(&net.ca(), DOOR_ALPN, None);
    for number in 0..20 {
        let door = raw::connect(&doors, net.any(A).door, A).await.unwrap();
        let login = Request::Login(Login {
            client: client(&format!("nobody{number}"), "phone", A),
            proof: vec![7; 64].into(),
        });
        let said = framed(&door::Open::Request(Box::new(login)));
        let Back::Frame(reply) = raw::say(&door, &said).await else {
            panic!("it is answered")
        };
        assert!(matches!(wire::decode(&reply), Ok(Reply::Refused(_))));
    }

    assert_eq!(held(&net).await, before);
    alice.door().unwrap().hub_sender().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_nobody_has_cost_no_actor_and_no_log() {
    made_up_at(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_nobody_has_cost_no_actor_and_no_log_at_three_nodes() {
    made_up_at(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_welcome_for_many_lies_on_the_disk_for_each_shard_and_not_for_each_user() {
    let net = provider(1).await;
    let link = peer(&net).await;
    // What is acknowledged is written, and what follows from it soon.
    let settled = async || {
        net.any(A).settled().await;
        net.any(A).status().await.log_bytes
    };

    let before = settled().await;
    let nobody = (0..250).map(|number| client(&format!("nobody{number}"), "phone", A));
    let (item, bytes) = invitation(nobody.collect(), &[]);
    let ack = fanned_out(&link, vec![(room("ghosts", B), item)]).await;
    assert!(ack.refused.is_empty(), "{ack:?}");
    let ghosts = settled().await - before;
    // Once for the room, perhaps more where the log writes whole blocks.
    assert!(ghosts < 3 * bytes, "{ghosts} bytes for {bytes}");

    let alice = net.member("alice", "phone", A).await;
    let mut invited = Vec::new();
    for number in 0..INVITED {
        let who = (&*format!("user{number}"), A);
        let member = net.light_guest(who, alice.client().user(), 1).await;
        invited.push(member.client().clone());
    }
    // Nobody has claimed a KeyPackage of theirs yet.
    let before = settled().await;
    let (item, bytes) = invitation(invited.clone(), &[]);
    let uninvited = peer(&net).await;
    let ack = fanned_out(&uninvited, vec![(room("uninvited", B), item)]).await;
    assert!(ack.refused.is_empty(), "{ack:?}");
    let written = settled().await - before;
    assert!(written < 3 * bytes, "{written} bytes for {bytes}");

    let references = claimed(&alice, &invited).await;
    let before = settled().await;
    let (item, bytes) = invitation(invited, &references);
    let second = peer(&net).await;
    let ack = fanned_out(&second, vec![(room("party", B), item)]).await;
    assert!(ack.refused.is_empty(), "{ack:?}");
    let party = settled().await - before;
    assert!(
        party > bytes * SHARDS as u64 / 2,
        "it reached hardly anybody"
    );
    // Once, or twice where the first of a shard was written before the others came.
    let most = (2 * SHARDS as u64 + 2) * bytes;
    assert!(
        party < most,
        "{party} bytes for {bytes}, {most} would be too many"
    );
    let errors = net.any(A).errors();
    assert!(errors.is_empty(), "{errors:#?}");
}
