//! What release 0.1 wrote is read, understood and gone on with.
//!
//! `tests/upgrade/0.1.tar.zst` holds what 0.1 left of two providers when both were stopped, and the state files of five members: rooms
//! on both sides, a joining code and one of introduction, a lease that nobody used, sealed snapshots and a log behind them,
//! a claimed stock of KeyPackages, events that a device had not read, events that one provider owes the other, and a
//! message that is owed to a hub. `make`, beside it, makes it again; `0.1.json` holds what was true of it.

use crate::{
    lifecycle::refused_start,
    support::{Net, agree, room, unhurt, wait, wait_epoch},
};
use mimi_actors::{
    links::{IntroductionLink, JoinLink},
    wire::event::Epoch,
};
use mimi_client::member::Member;
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

const A: &str = "a.example";
const B: &str = "b.example";
/// What is owed is kept for as long as this test may be played, in seconds: a hundred years.
const RETENTION_S: &str = "3153600000";
/// Longer than the lease that the old release gave to somebody who did not use it.
const JOINS_WITHIN: Duration = Duration::from_secs(90);

#[derive(Deserialize)]
struct Facts {
    link: String,
    introduction: String,
    /// Of each provider, the hash of each shard's state.
    states: BTreeMap<String, Vec<String>>,
}

fn unpack(net: &Net) -> Facts {
    let packed: &[u8] = include_bytes!("../upgrade/0.1.tar.zst");
    let unpacked = zstd::stream::read::Decoder::new(packed).unwrap();
    tar::Archive::new(unpacked).unpack(net.dir.path()).unwrap();
    serde_json::from_str(include_str!("../upgrade/0.1.json")).unwrap()
}

async fn restored(net: &Net, name: &str, provider: &str) -> Member {
    let state = net.path(&format!("{provider}-{name}-phone.state"));
    let mut member = Member::restore(state).unwrap();
    net.reconnect(&mut member).await;
    member
}

/// Both providers on the directories of release 0.1, with the members of then.
async fn started() -> (Net, Facts) {
    let mut net = Net::prepare(&[A, B]);
    let facts = unpack(&net);
    for name in [A, B] {
        for (key, value) in [("RETENTION_S", RETENTION_S), ("SNAPSHOT_ENTRIES", "12")] {
            let key = format!("MIMI_NODE__STORAGE__{key}");
            net.node_mut(name).env.push((key, value.to_owned()));
        }
    }
    // One after the other: what one owes changes the other. And speaking as release 0.1: by the rules of this one the
    // shards would be in another state, which says so.
    for name in [A, B] {
        net.node_mut(name).before = true;
        net.node_mut(name).start().await;
        assert_eq!(net.node(name).hashes().await, facts.states[name], "{name}");
        assert!(net.node_mut(name).terminate().await.success());
        net.node_mut(name).before = false;
    }
    for name in [A, B] {
        net.node_mut(name).start().await;
        net.node(name).is_at_level("v0.2").await;
    }
    net.linked().await;
    (net, facts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_release_0_1_replays_to_the_same_state_delivers_what_it_owed_and_goes_on() {
    let (mut net, facts) = started().await;
    let (den, hall) = (room("den", A), room("hall", B));
    let mut alice = restored(&net, "alice", A).await;
    let mut amy = restored(&net, "amy", A).await;
    let mut bob = restored(&net, "bob", B).await;
    for (member, before) in [(&mut amy, 40), (&mut bob, 40)] {
        assert_eq!(member.received(&den).len(), before);
        wait_epoch(member, &den, Epoch(2)).await;
        wait(member, "what was owed", |member| {
            member
                .received(&den)
                .ends_with(&["owed 1", "owed 2", "owed 3"])
        })
        .await;
    }
    wait(&mut bob, "what was owed to the hub", |bob| {
        bob.received(&hall).contains(&"submitted")
    })
    .await;
    wait(&mut alice, "its verdict", |alice| {
        alice.unresolved(&hall).is_empty()
    })
    .await;
    agree(&[&alice, &amy, &bob], &den);
    agree(&[&alice, &bob], &hall);

    // The codes of then admit and introduce; the lease of then holds nobody up for ever.
    let link: JoinLink = facts.link.parse().unwrap();
    let mut carol = restored(&net, "carol", A).await;
    carol.follow_link(&link, None, JOINS_WITHIN).await.unwrap();
    let introduction: IntroductionLink = facts.introduction.parse().unwrap();
    assert_eq!(
        bob.introduced_by(&introduction).await.unwrap(),
        *alice.client().user()
    );

    // And it goes on: through a seal, a kill and another start.
    for member in [&mut alice, &mut amy, &mut bob, &mut carol] {
        wait_epoch(member, &den, Epoch(3)).await;
    }
    for number in 0..30 {
        bob.send(&den, &[&*format!("more {number}")]).await.unwrap();
    }
    let update = amy.prepare_update(&den).unwrap();
    amy.commit(&update).await.unwrap();
    for member in [&mut alice, &mut bob, &mut carol] {
        wait_epoch(member, &den, Epoch(4)).await;
        wait(member, "the last of thirty", |member| {
            member.received(&den).contains(&"more 29")
        })
        .await;
    }
    for name in [A, B] {
        let before = net.node(name).settled().await;
        net.node_mut(name).kill();
        net.node_mut(name).start().await;
        assert_eq!(net.node(name).hashes().await, before, "{name}");
    }
    for member in [&alice, &amy, &bob, &carol] {
        unhurt(member);
    }
    assert!(net.errors().is_empty(), "{:?}", net.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_started_directory_says_which_release_wrote_it_and_an_earlier_one_refuses_it() {
    let mut net = Net::prepare(&[A]);
    unpack(&net);
    let path = net.node(A).data.join("node.json");
    let writer = || {
        let text = std::fs::read_to_string(&path).unwrap();
        let node: serde_json::Value = serde_json::from_str(&text).unwrap();
        node["writer"]["release"].as_str().map(str::to_owned)
    };
    assert_eq!(writer(), None);
    net.node_mut(A).start().await;
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(writer().as_deref(), Some(own));
    assert!(net.node_mut(A).terminate().await.success());

    let text = std::fs::read_to_string(&path).unwrap();
    let later = text
        .replace(own, "9.0.0")
        .replace("\"fold\":2", "\"fold\":200");
    assert_ne!(later, text);
    std::fs::write(&path, &later).unwrap();
    let said = refused_start(&net, A);
    assert!(said.contains("it was written by mimi-node 9.0.0"), "{said}");
    assert!(said.contains("run 9.0.0 or a later release"), "{said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), later);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_speaks_as_an_earlier_release_than_its_shards_does_not_go_on() {
    let mut net = Net::prepare(&[A]);
    net.node_mut(A).start().await;
    net.node(A).is_at_level("v0.2").await;
    let before = net.node(A).settled().await;
    assert!(net.node_mut(A).terminate().await.success());
    let key = "MIMI_NODE__NODE__SPEAK_RELEASE".into();
    net.node_mut(A).env.push((key, "v0.1".to_owned()));
    net.node_mut(A).spawn();
    assert!(!net.node_mut(A).ended().await.success());
    let log = net.node(A).log();
    let why = "goes by the rules of release v0.2, and this node speaks as v0.1";
    assert!(log.iter().any(|line| line.contains(why)), "{log:?}");
    net.node_mut(A).env.pop();
    net.node_mut(A).start().await;
    assert_eq!(net.node(A).hashes().await, before);
}
