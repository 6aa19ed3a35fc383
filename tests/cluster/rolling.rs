//! A cluster and its peer go from the release before to this one, node by node, while they are used.

use super::nodes::{ALICE, BOB};
use crate::support::{Net, WAIT, agree, unhurt, wait, wait_epoch};
use mimi_actors::{ids::RoomUri, wire::event::Epoch};
use mimi_client::member::Member;
use mimi_quic::DoorDialer;
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

const A: &str = "a.example";
const B: &str = "b.example";
/// How long a member listens between two messages.
const PAUSE: Duration = Duration::from_millis(20);
/// Users that are made at each node once it is upgraded: their shards are led by all nodes.
const USERS_BY_WAY_OF_EACH: usize = 12;
/// After so many messages she commits.
const MESSAGES_FOR_A_COMMIT: usize = 20;

/// Connects a member to whichever node answers, and sends again what has no verdict, until both work.
async fn take_up(member: &mut Member, den: &RoomUri, dialer: &DoorDialer, doors: &[SocketAddr]) {
    let deadline = Instant::now() + WAIT;
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
            let accepted = member.commit_within(&update, WAIT).await.unwrap();
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
    let (den, mut alice, [mut bob]) = net.gather(ALICE, [BOB]).await;
    let dialer = net.dialer.clone();
    let doors: Vec<_> = net.of(A).map(|node| node.door).collect();
    let ends = AtomicBool::new(false);
    let rolling = async {
        for name in ["a1", "a2", "b1", "a3"] {
            // The shards of a go on as before as long as one of its nodes runs the release before.
            for level in net
                .node("a1")
                .levels()
                .await
                .iter()
                .filter(|_| name != "a1")
            {
                assert_eq!(level, "v0.1", "before {name} is upgraded");
            }
            upgrade(&mut net, name).await;
            net.led(A).await;
            net.linked().await;
            // Whoever leads their shards, of either release, is reached by way of this node.
            for number in 0..USERS_BY_WAY_OF_EACH {
                drop(net.node(name).add_user(&format!("{name}-{number}")).await);
            }
        }
        for name in ["a1", "a2", "a3", "b1"] {
            net.node(name).is_at_level("v0.2").await;
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
        unhurt(member);
    }
    net.level(A).await;
    assert!(net.errors().is_empty(), "{:?}", net.errors());
}
