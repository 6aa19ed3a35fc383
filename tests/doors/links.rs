//! A hub and a follower that is difficult: it refuses a room, takes little, takes nothing, asks for time; and networks and
//! strangers that are (`links/roads.rs`, which says how to run the long forms).
//!
//! Which peers and networks are difficult, and where that is shown (ratios of latency and memory: `bench hostile`):
//!
//! | | fault | shown by |
//! | --- | --- | --- |
//! | 16 | a provider is away | features R5-14, R5-20, R5-21; `tests/cluster/nemesis.rs`; `roads`: for seconds, or an hour |
//! | 17 | loss, duplicates, disorder, cuts, flipped bits | `tests/cluster/nemesis.rs` |
//! | | every fifth datagram damaged; only short ones arrive, from the start or from now on | `roads` |
//! | 21 | it never acknowledges | `bench hostile`: `Silent`; R5-21: no more rooms with it; the world's spill |
//! | 22 | it acknowledges what was not sent, goes back, says nothing sensible | here: lanes that are broken |
//! | 23 | old batches again | the world; R5-14: the hub is killed; R5-20 |
//! | 24 | it floods | `cluster::patience`; `bench hostile`: `Floods`, `Reconnects` |
//! | 25 | half frames, idle lanes, handshakes without an end | `quic/tests/lanes.rs`, `quic/tests/links.rs`; `roads`: 500, or 10,000 |
//! | 26 | frames too large | `quic/tests/lanes.rs`; `tests/doors/hostile.rs` |
//! | | it asks for time for one shard of a lane | here: all shards share a lane |
//! | 28 | it takes little | here: without credit; `bench hostile`: `NoCredit` |
//!
//! Source: transport requirements, section 5.

mod roads;
use crate::support::{
    Net, client, invite, room,
    scripted::{Break, Follower},
    until, wait,
};
use mimi_actors::{
    ids::RoomUri,
    limits::SHARDS_DEFAULT,
    shard::place,
    wire::{event::Epoch, version::LINK},
};
use mimi_client::member::Member;
use mimi_operator::protocol::{ParkedRow, Request, Response};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

const A: &str = "a.example";
const B: &str = "b.example";
const C: &str = "c.example";

/// Two real providers, a scripted third, and rooms with alice of the first, bob of the second and carol of the third.
struct Stage {
    net: Net,
    c: Follower,
    alice: Member,
    bob: Member,
    rooms: Vec<RoomUri>,
}

impl Stage {
    async fn with(names: &[&str]) -> Self {
        Self::knowing(LINK.newest, names).await
    }

    /// With a third provider that knows the link up to a version.
    async fn knowing(newest: u8, names: &[&str]) -> Self {
        let mut net = Net::prepare(&[A, B, C]);
        let c = Follower::start(net.dir.path(), C, net.node(C).link);
        c.script().newest = newest;
        for name in [A, B] {
            net.node_mut(name).start().await;
        }
        net.linked().await;
        let mut alice = net.member("alice", "phone", A).await;
        let host = alice.client().user();
        let mut bob = net.guest(("bob", B), host, names.len()).await;
        let mut carol = Member::create(client("carol", "phone", C), None).unwrap();
        c.stock(&mut carol, names.len());
        let users = [bob.client().user().clone(), carol.client().user().clone()];
        let mut rooms = Vec::new();
        for name in names {
            let room = room(name, A);
            alice.create_room(&room).await.unwrap();
            // The link to the third provider may not be up yet.
            until("it is invited", async || {
                invite(&mut alice, &room, &users[1..]).await.ok()
            })
            .await;
            invite(&mut alice, &room, &users[..1]).await.unwrap();
            wait(&mut bob, "bob joins", |bob| {
                bob.epoch(&room) == Some(Epoch(2))
            })
            .await;
            rooms.push(room);
        }
        Self {
            net,
            c,
            alice,
            bob,
            rooms,
        }
    }

    /// Alice sends, and bob, whose provider is not difficult, receives.
    async fn say(&mut self, room: &RoomUri, texts: &[&str]) {
        let before = self.bob.received(room).len();
        self.alice.send(room, texts).await.unwrap();
        wait(&mut self.bob, "bob receives", |bob| {
            bob.received(room).len() == before + texts.len()
        })
        .await;
    }

    /// Waits until the third provider took so many events of a room, and says which.
    async fn taken(&self, room: &RoomUri, count: usize) -> Vec<u64> {
        until("the third provider takes events", async || {
            let taken = self.c.taken(room);
            (taken.len() >= count).then_some(taken)
        })
        .await
    }

    async fn parked(&self) -> Vec<ParkedRow> {
        let request = Request::Parked { provider: None };
        match self.net.node(A).ask(&request).await {
            Response::Parked { rooms, total } => {
                assert_eq!(rooms.len(), total);
                rooms
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_room_waits_alone_and_comes_whole_when_it_is_redriven() {
    let mut stage = Stage::with(&["den", "attic"]).await;
    let (den, attic) = (stage.rooms[0].clone(), stage.rooms[1].clone());
    let begun = stage.taken(&den, 2).await;
    stage.c.script().refuses.insert(den.clone());
    stage.say(&den, &["one", "two"]).await;
    stage.say(&attic, &["three"]).await;
    let parked = until("the room is parked", async || {
        let parked = stage.parked().await;
        (!parked.is_empty()).then_some(parked)
    })
    .await;
    assert_eq!((parked.len(), &parked[0].room), (1, &den));
    assert_eq!(parked[0].refused.as_deref(), Some("frozen for the test"));
    stage.taken(&attic, 3).await;

    // What comes now is not even sent; a restart forgets nothing of that.
    let refused = stage.c.script().refused[&den];
    stage.net.node_mut(A).kill();
    stage.net.restart(A).await;
    stage.net.reconnect(&mut stage.alice).await;
    stage.say(&den, &["four"]).await;
    stage.say(&attic, &["five"]).await;
    stage.taken(&attic, 4).await;
    assert_eq!(stage.c.script().refused[&den], refused);
    assert_eq!(stage.taken(&den, 0).await, begun);
    assert!(stage.parked().await[0].items >= 3);

    stage.c.script().refuses.clear();
    let redrive = Request::Redrive {
        provider: C.parse().unwrap(),
        room: den.clone(),
    };
    let redriven = stage.net.node(A).ask(&redrive).await;
    assert!(
        matches!(redriven, Response::Redriven { items: 3.. }),
        "{redriven:?}"
    );
    stage.say(&den, &["six"]).await;
    let last = begun.last().unwrap() + 4;
    let taken = until("the whole room is there", async || {
        let taken = stage.c.taken(&den);
        (taken.last() == Some(&last)).then_some(taken)
    })
    .await;
    let mut each = taken.clone();
    each.dedup();
    assert!(each.is_sorted(), "{taken:?}");
    assert_eq!(each.len() as u64, last, "no gap: {taken:?}");
    assert!(stage.parked().await.is_empty());
    assert!(stage.net.errors().is_empty(), "{:?}", stage.net.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_asks_for_time_gets_it_and_then_everything() {
    let mut stage = Stage::with(&["den"]).await;
    let den = stage.rooms[0].clone();
    let before = stage.taken(&den, 2).await.len();
    let wait_ms = 1_500;
    stage.c.script().retry_after_ms = Some(wait_ms);
    stage.say(&den, &["one"]).await;
    let asked = until("it has asked for time", async || {
        let mut script = stage.c.script();
        (script.under_way == 0 && script.retry_after_ms.take().is_some()).then(Instant::now)
    })
    .await;
    let (begun, lanes) = {
        let script = stage.c.script();
        (script.begun.len(), script.lanes.len())
    };
    stage.taken(&den, before + 1).await;
    let again = stage.c.script().begun[begun];
    assert_eq!(stage.c.script().lanes.len(), lanes, "on the same lane");
    let waited = again.duration_since(asked) + Duration::from_millis(500);
    assert!(
        waited >= Duration::from_millis(wait_ms.into()),
        "it came again after {waited:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_without_credit_gets_one_frame_at_a_time_and_holds_up_nobody() {
    let mut stage = Stage::with(&["den"]).await;
    let den = stage.rooms[0].clone();
    let before = stage.taken(&den, 2).await.len();
    stage.c.script().credit_bytes = 0;
    stage
        .say(&den, &["the acknowledgement of this takes the credit away"])
        .await;
    stage.taken(&den, before + 1).await;
    stage.c.script().holds = true;
    // Bob has each of them long before the third provider has acknowledged the first.
    for text in ["one", "two", "three", "four", "five"] {
        stage.say(&den, &[text]).await;
    }
    let first = until("a frame comes", async || {
        let under_way = stage.c.script().under_way;
        (under_way > 0).then_some(under_way)
    })
    .await;
    assert_eq!(first, 1);
    stage.c.release();
    stage.taken(&den, before + 6).await;
    let taken = stage.c.taken(&den);
    assert!(taken.is_sorted(), "{taken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_breaks_its_lanes_holds_up_nobody_and_loses_nothing_once_it_behaves() {
    let mut stage = Stage::with(&["den"]).await;
    let den = stage.rooms[0].clone();
    let begun = stage.taken(&den, 2).await;
    let ways = [
        Break::Resets,
        Break::Garbage,
        Break::AcksAhead,
        Break::AcksBack,
    ];
    for way in ways {
        stage.c.script().broken = 0;
        stage.c.script().breaks = Some(way);
        // Bob has both while the third provider takes neither.
        stage.say(&den, &["one"]).await;
        stage.say(&den, &["two"]).await;
        until("lanes are broken, and opened again", async || {
            (stage.c.script().broken >= 2).then_some(())
        })
        .await;
    }
    stage.c.script().breaks = None;
    stage.say(&den, &["three"]).await;
    let last = begun.last().unwrap() + 2 * ways.len() as u64 + 1;
    let taken = until("the third provider has everything", async || {
        let taken = stage.c.taken(&den);
        (taken.last() == Some(&last)).then_some(taken)
    })
    .await;
    let mut each = taken.clone();
    each.dedup();
    assert!(each.is_sorted(), "{taken:?}");
    assert_eq!(each.len() as u64, last, "no gap: {taken:?}");
    assert!(stage.parked().await.is_empty());
    assert!(stage.net.errors().is_empty(), "{:?}", stage.net.errors());
}

/// Rooms of as many shards.
fn of_different_shards(count: usize) -> Vec<String> {
    let mut shards = BTreeSet::new();
    let names = (0..).map(|number| format!("room{number}"));
    names
        .filter(|name| shards.insert(place(&room(name, A).to_string(), SHARDS_DEFAULT)))
        .take(count)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_shards_share_a_lane_and_one_that_is_told_to_come_again_holds_up_no_other() {
    let names = of_different_shards(3);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut stage = Stage::with(&names).await;
    let rooms = stage.rooms.clone();
    let mut before = Vec::new();
    for room in &rooms {
        before.push(stage.taken(room, 2).await.len());
    }
    let lanes = stage.c.script().lanes.clone();
    assert_eq!(lanes.iter().filter(|(_, open)| *open).count(), 1);
    assert_eq!(lanes.last().unwrap().0.len(), 3, "{lanes:?}");

    // One shard rests for longer than the others need.
    let wait_ms = 60_000;
    stage.c.script().retry_after_ms = Some(wait_ms);
    stage.say(&rooms[0], &["one"]).await;
    until("it has asked for time", async || {
        let mut script = stage.c.script();
        (script.under_way == 0 && script.asked_for_time > 0).then(|| script.retry_after_ms.take())
    })
    .await;
    for (room, before) in rooms.iter().zip(&before).skip(1) {
        stage.say(room, &["two"]).await;
        stage.taken(room, before + 1).await;
    }
    assert_eq!(stage.c.taken(&rooms[0]).len(), before[0]);
    assert_eq!(stage.c.script().lanes.len(), lanes.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_knows_version_1_alone_gets_a_lane_for_each_shard() {
    let names = of_different_shards(3);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let stage = Stage::knowing(1, &names).await;
    for room in &stage.rooms {
        stage.taken(room, 2).await;
    }
    let lanes = stage.c.script().lanes.clone();
    let open: Vec<_> = lanes.iter().filter(|(_, open)| *open).collect();
    assert_eq!(open.len(), 3, "{lanes:?}");
    assert!(open.iter().all(|(shards, _)| shards.len() == 1));
}
