//! Several nodes of one provider: any of them takes any request, and none of them is needed.

use crate::support::{self, Net, agree, cast::Who, until, wait, wait_epoch};
use mimi_actors::{
    ids::RoomUri,
    wire::{
        answer::{Answer, Refused},
        event::Epoch,
        refusal::RefusalCode,
        room::Request,
    },
};
use mimi_client::member::Member;
use std::time::Instant;

const A: &str = "a.example";
const B: &str = "b.example";
/// A member of the cluster's provider, and one of another.
pub(crate) const ALICE: Who<'_> = ("alice", A);
pub(crate) const BOB: Who<'_> = ("bob", B);

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
    let (den, mut alice, [mut bob]) = net.gather(ALICE, [BOB]).await;
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

/// Asks for rooms with one group at the doors of these nodes of the member's provider, whose shards they lie in by chance.
async fn one_group_for_many_rooms(net: &mut Net, member: &mut Member, nodes: &[&str]) {
    for name in nodes {
        net.node(name).is_at_level("v0.2").await;
    }
    let room = |name: usize| -> RoomUri {
        let hub = member.client().provider();
        format!("mimi://{hub}/r/named{name}").parse().unwrap()
    };
    let rooms: Vec<RoomUri> = (0..6).map(room).collect();
    let hub = member.door().unwrap().hub_sender().await.unwrap();
    let opening = member.prepare_room(&rooms[0], &hub).unwrap();
    for round in 0..2 {
        for (number, room) in rooms.iter().enumerate() {
            let node = nodes[(number + round) % nodes.len()];
            let door = net.node(node).door;
            let answer = until("the room's answer", async || {
                member.connect(&net.dialer, door).await.ok()?;
                member.login().await.ok()?;
                let create = Request::Create(opening.clone());
                let answer = member.door().ok()?.ask(room.clone(), create).await.ok()?;
                let later = matches!(answer, Answer::Refused(Refused::TryLater(_)));
                (!later).then_some(answer)
            })
            .await;
            if number == 0 {
                // The second time it is a retry.
                assert_eq!(answer, Answer::Created);
                continue;
            }
            let Answer::Refused(Refused::Invalid(flaw)) = answer else {
                panic!("{room} was told {answer:?}")
            };
            assert_eq!(flaw.code, RefusalCode::GroupTaken);
            assert_eq!(flaw.field.as_deref(), Some("group_id"));
        }
        if round == 0 {
            for name in nodes {
                net.node_mut(name).kill();
            }
            for name in nodes {
                net.node_mut(name).start().await;
            }
            net.led(member.client().provider().as_str()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_rooms_of_a_provider_have_one_group_whichever_node_is_asked() {
    let mut net = Net::start_clusters(&[(A, 3), (B, 1)]).await;
    let (_, mut alice, [mut bob]) = net.gather(ALICE, [BOB]).await;
    one_group_for_many_rooms(&mut net, &mut alice, &["a1", "a2", "a3"]).await;
    one_group_for_many_rooms(&mut net, &mut bob, &["b1"]).await;
    net.led(A).await;
    net.level(A).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_leader_is_killed_its_rooms_accept_again_and_it_catches_up_when_it_is_back() {
    let mut net = Net::start_clusters(&[(A, 3), (B, 1)]).await;
    let (den, mut alice, [mut bob]) = net.gather(ALICE, [BOB]).await;
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
async fn a_minority_refuses_and_accepts_again_once_it_is_none() {
    let mut net = Net::start_clusters(&[(A, 3), (B, 1)]).await;
    let (den, mut alice, [mut bob]) = net.gather(ALICE, [BOB]).await;
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
    let (den, mut alice, [mut bob]) = net.gather(ALICE, [BOB]).await;
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
async fn a_node_takes_the_place_of_a_lost_one_and_its_vote_counts_when_another_is_lost() {
    let mut net = Net::start_clusters(&[(A, 3), (B, 1)]).await;
    let (den, mut alice, [mut bob]) = net.gather(ALICE, [BOB]).await;
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

    // Its vote counts when another is lost.
    wait_epoch(&mut alice, &den, Epoch(2)).await;
    net.node_mut("a2").kill();
    net.led(A).await;
    let epoch = commit_until(&net, &mut alice, &den).await;
    assert_eq!(epoch, Epoch(3));
}
