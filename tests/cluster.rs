//! Several nodes of one provider: any of them takes any request, and none of them is needed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests stop at what they did not expect"
)]

mod support;

use mimi_actors::{ids::RoomUri, wire::event::Epoch};
use mimi_node::{client::member::Member, quic::DoorDialer};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use support::{Net, agree, invite, room, until, wait, wait_epoch};

const A: &str = "a.example";
const B: &str = "b.example";

/// alice of the cluster and bob of another provider in one room.
async fn pair(net: &Net) -> (RoomUri, Member, Member) {
    let den = room("den", A);
    let mut alice = net.member("alice", "phone", A).await;
    let mut bob = net.member("bob", "phone", B).await;
    net.any(B).consent("bob", alice.client().user(), None).await;
    assert_eq!(bob.upload(5).await.unwrap(), 5);
    alice.create_room(&den).await.unwrap();
    let users = [bob.client().user().clone()];
    invite(&mut alice, &den, &users).await.unwrap();
    wait_epoch(&mut bob, &den, Epoch(1)).await;
    (den, alice, bob)
}

/// Commits an update, again and again as it was, from whichever node answers; gives the epoch.
async fn commit_until(net: &Net, member: &mut Member, den: &RoomUri) -> Epoch {
    let doors: Vec<_> = net.of(A).map(|node| node.door).collect();
    member.roam(&net.dialer, &doors);
    let update = member.prepare_update(den).unwrap();
    let accepted = member.commit_within(&update, support::WAIT).await;
    accepted.unwrap().epoch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_have_one_state_and_take_any_request() {
    let net = Net::start_clusters(&[(A, 3), (B, 1)]).await;
    let (den, mut alice, mut bob) = pair(&net).await;
    // Through each node in turn: what leads the room is only one of them.
    for (number, name) in ["a1", "a2", "a3"].into_iter().enumerate() {
        alice
            .connect(&net.dialer, net.node(name).door)
            .await
            .unwrap();
        alice.login().await.unwrap();
        alice.send(&den, &[&format!("by {name}")]).await.unwrap();
        let update = alice.prepare_update(&den).unwrap();
        alice.commit(&update).await.unwrap();
        wait_epoch(&mut alice, &den, Epoch(number as u64 + 2)).await;
    }
    wait(&mut bob, "three messages", |bob| {
        bob.received(&den).len() == 3
    })
    .await;
    wait_epoch(&mut bob, &den, Epoch(4)).await;
    agree(&[&alice, &bob], &den);
    net.level(A).await;
    assert!(net.errors().is_empty(), "{:?}", net.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_leader_is_killed_its_rooms_accept_again_and_it_catches_up_when_it_is_back() {
    let mut net = Net::start_clusters(&[(A, 3), (B, 1)]).await;
    let (den, mut alice, mut bob) = pair(&net).await;
    let leader = net.leader_of(A, &den.to_string()).await;
    alice.send(&den, &["before"]).await.unwrap();
    // She is connected to the very node that dies, and moves to another one by herself.
    let doors = [net.node(&leader).door];
    alice.connect_to_any(&net.dialer, &doors).await.unwrap();
    net.node_mut(&leader).kill();
    let killed = Instant::now();
    assert_eq!(commit_until(&net, &mut alice, &den).await, Epoch(2));
    println!("accepted again {:?} after the kill", killed.elapsed());
    alice.send(&den, &["after"]).await.unwrap();
    wait_epoch(&mut bob, &den, Epoch(2)).await;
    wait(&mut bob, "both messages", |bob| {
        bob.received(&den).len() == 2
    })
    .await;
    wait_epoch(&mut alice, &den, Epoch(2)).await;
    net.node_mut(&leader).start().await;
    net.led(A).await;
    net.level(A).await;
    agree(&[&alice, &bob], &den);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_all_nodes_are_killed_at_once() {
    let mut net = Net::start_clusters(&[(A, 3), (B, 1)]).await;
    let (den, mut alice, mut bob) = pair(&net).await;
    alice.send(&den, &["one", "two"]).await.unwrap();
    for name in ["a1", "a2", "a3"] {
        net.node_mut(name).kill();
    }
    for name in ["a1", "a2", "a3"] {
        net.node_mut(name).start().await;
    }
    net.led(A).await;
    net.reconnect(&mut alice).await;
    let epoch = commit_until(&net, &mut alice, &den).await;
    assert_eq!(epoch, Epoch(2));
    wait_epoch(&mut bob, &den, Epoch(2)).await;
    wait(&mut bob, "both messages", |bob| {
        bob.received(&den).len() == 2
    })
    .await;
    wait_epoch(&mut alice, &den, Epoch(2)).await;
    agree(&[&alice, &bob], &den);
    net.level(A).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_refuses_and_accepts_again_once_it_is_none() {
    let mut net = Net::start_clusters(&[(A, 3), (B, 1)]).await;
    let (den, mut alice, mut bob) = pair(&net).await;
    let leader = net.leader_of(A, &den.to_string()).await;
    let others: Vec<String> = ["a1", "a2", "a3"]
        .into_iter()
        .filter(|name| *name != leader)
        .map(str::to_owned)
        .collect();
    for name in &others {
        net.node_mut(name).kill();
    }
    alice
        .connect(&net.dialer, net.node(&leader).door)
        .await
        .unwrap();
    let update = alice.prepare_update(&den).unwrap();
    until("the minority refuses", async || {
        let shards = net.node(&leader).cluster().await.shards;
        let led = shards.iter().any(|row| row.leader.is_some());
        (!shards.is_empty() && !led).then_some(())
    })
    .await;
    assert!(
        alice.login().await.is_err(),
        "nobody knows whether the device was revoked"
    );
    net.node_mut(&others[0]).start().await;
    net.led(A).await;
    net.reconnect(&mut alice).await;
    alice.commit(&update).await.unwrap();
    wait_epoch(&mut bob, &den, Epoch(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_told_to_stop_hands_its_leaderships_on_first() {
    let mut net = Net::start_clusters(&[(A, 3), (B, 1)]).await;
    let (den, mut alice, mut bob) = pair(&net).await;
    let leader = net.leader_of(A, &den.to_string()).await;
    assert!(net.node_mut(&leader).terminate().await.success());
    net.led(A).await;
    net.reconnect(&mut alice).await;
    let epoch = commit_until(&net, &mut alice, &den).await;
    assert_eq!(epoch, Epoch(2));
    wait_epoch(&mut bob, &den, Epoch(2)).await;
    wait_epoch(&mut alice, &den, Epoch(2)).await;
    agree(&[&alice, &bob], &den);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_takes_the_place_of_a_lost_one_and_the_lost_one_stays_out() {
    let mut net = Net::start_clusters(&[(A, 3), (B, 1)]).await;
    let (den, mut alice, mut bob) = pair(&net).await;
    net.node_mut("a3").kill();
    let (name, address) = net.add_node(A, 4, "a1");
    net.node_mut(&name).start().await;
    let arguments = [
        "cluster",
        "replace",
        "--node",
        "3",
        "--with",
        "4",
        "--address",
        &address,
        "--json",
    ];
    let replaced = net.cli("a1", &arguments);
    let said = String::from_utf8_lossy(&replaced.stderr);
    assert!(replaced.status.success(), "{said}\n{}", net.tails());
    for row in net.node("a1").cluster().await.shards {
        assert_eq!(row.voters, [1, 2, 4], "shard {}", row.shard);
    }
    net.led(A).await;
    let epoch = commit_until(&net, &mut alice, &den).await;
    assert_eq!(epoch, Epoch(2));
    wait_epoch(&mut bob, &den, Epoch(2)).await;
    net.level(A).await;

    // Node 2 loses its disk and comes back with an empty one: it is not let in, and decides nothing.
    net.node_mut("a2").kill();
    std::fs::remove_dir_all(&net.node("a2").data).unwrap();
    net.node_mut("a2").start().await;
    until("node 2 is refused", async || {
        let log = net.node("a2").log();
        log.iter()
            .any(|line| line.contains("was known with another data directory"))
            .then_some(())
    })
    .await;
    wait_epoch(&mut alice, &den, Epoch(2)).await;
    net.node_mut("a2").kill();
    net.led(A).await;
    let epoch = commit_until(&net, &mut alice, &den).await;
    assert_eq!(epoch, Epoch(3));
}

/// How long a member of a rolling cluster listens between two messages.
const PAUSE: Duration = Duration::from_millis(20);
/// Users that are made at each node once it is upgraded: their shards are led by all nodes.
const USERS_BY_WAY_OF_EACH: usize = 12;
/// After so many messages she commits.
const MESSAGES_FOR_A_COMMIT: usize = 20;

/// Connects a member to whichever node answers, and sends again what has no verdict, until both work.
async fn take_up(member: &mut Member, den: &RoomUri, dialer: &DoorDialer, doors: &[SocketAddr]) {
    let deadline = Instant::now() + support::WAIT;
    loop {
        let connected = member.connect_to_any(dialer, doors).await;
        let error = match connected {
            Ok(()) => match member.resend(den).await {
                Ok(()) => return,
                Err(error) => error,
            },
            Err(error) => error,
        };
        assert!(Instant::now() < deadline, "{}: {error}", member.client());
        tokio::time::sleep(PAUSE).await;
    }
}

/// Sends messages, and commits now and then, until it is told to end; gives how many messages and Commits.
async fn talk(
    member: &mut Member,
    den: &RoomUri,
    (dialer, doors): (&DoorDialer, &[SocketAddr]),
    ends: &AtomicBool,
) -> (usize, u64) {
    let (mut said, mut committed) = (0_usize, 0);
    while !ends.load(Ordering::SeqCst) {
        said += 1;
        if member.send(den, &[&said.to_string()]).await.is_err() {
            take_up(member, den, dialer, doors).await;
        }
        if said.is_multiple_of(MESSAGES_FOR_A_COMMIT) {
            member.roam(dialer, doors);
            let update = member.prepare_update(den).unwrap();
            let accepted = member.commit_within(&update, support::WAIT).await.unwrap();
            committed += 1;
            while member.epoch(den) < Some(accepted.epoch) {
                if member.pump(PAUSE).await.is_err() {
                    take_up(member, den, dialer, doors).await;
                }
            }
        }
        if member.pump(PAUSE).await.is_err() {
            take_up(member, den, dialer, doors).await;
        }
    }
    take_up(member, den, dialer, doors).await;
    (said, committed)
}

/// Ends a node of the release before, and starts this release on its directory.
async fn upgrade(net: &mut Net, name: &str) {
    let node = net.node_mut(name);
    assert!(node.terminate().await.success());
    node.before = false;
    node.start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_rolls_from_the_release_before_node_by_node_under_load_and_loses_nothing() {
    let mut net = Net::prepare_clusters(&[(A, 3), (B, 1)], None);
    for node in net.nodes.values_mut() {
        node.before = true;
    }
    net.start_all().await;
    let (den, mut alice, mut bob) = pair(&net).await;
    let dialer = net.dialer.clone();
    let doors: Vec<_> = net.of(A).map(|node| node.door).collect();
    let ends = AtomicBool::new(false);
    let rolling = async {
        for name in ["a1", "a2", "b1", "a3"] {
            upgrade(&mut net, name).await;
            net.led(A).await;
            net.linked().await;
            // Whoever leads their shards, of either release, is reached by way of this node.
            for number in 0..USERS_BY_WAY_OF_EACH {
                drop(net.node(name).add_user(&format!("{name}-{number}")).await);
            }
        }
        ends.store(true, Ordering::SeqCst);
    };
    let load = talk(&mut alice, &den, (&dialer, &doors), &ends);
    let ((said, committed), ()) = tokio::join!(load, rolling);
    println!("{said} messages and {committed} Commits meanwhile");
    assert!(committed > 0);

    wait(&mut alice, "every verdict", |alice| {
        alice.unresolved(&den).is_empty()
    })
    .await;
    net.reconnect(&mut bob).await;
    wait_epoch(&mut bob, &den, Epoch(committed + 1)).await;
    wait(&mut bob, "every message", |bob| {
        bob.received(&den).len() >= said
    })
    .await;
    let all: Vec<String> = (1..=said).map(|number| number.to_string()).collect();
    assert_eq!(bob.received(&den), all);
    agree(&[&alice, &bob], &den);
    for member in [&alice, &bob] {
        support::unhurt(member);
    }
    net.level(A).await;
    assert!(net.errors().is_empty(), "{:?}", net.errors());
}
