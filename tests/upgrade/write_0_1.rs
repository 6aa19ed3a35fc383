//! Makes `0.1.tar.zst` and `0.1.json`: played by `tests/upgrade/make`, on the commit before release 0.2, and no part of this one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout, reason = "a tool")]

mod support;

use mimi_actors::wire::{event::Epoch, joining::CodeTerms};
use mimi_node::client::member::Ticket;
use std::path::PathBuf;
use support::{Net, invite, room, unhurt, wait, wait_epoch};

const A: &str = "a.example";
const B: &str = "b.example";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes to UPGRADE_TO"]
async fn write() {
    let to = PathBuf::from(std::env::var_os("UPGRADE_TO").unwrap());
    let mut net = Net::prepare(&[A, B]);
    for name in [A, B] {
        let every = "MIMI_NODE__STORAGE__SNAPSHOT_ENTRIES".to_owned();
        net.node_mut(name).env.push((every, "12".to_owned()));
        net.node_mut(name).start().await;
    }
    net.linked().await;
    let (den, hall) = (room("den", A), room("hall", B));
    let mut alice = net.member("alice", "phone", A).await;
    let mut amy = net.member("amy", "phone", A).await;
    let mut carol = net.member("carol", "phone", A).await;
    let mut bob = net.member("bob", "phone", B).await;
    let mut dave = net.member("dave", "phone", B).await;
    net.node(A).consent("amy", alice.client().user(), None).await;
    net.node(A).consent("alice", bob.client().user(), None).await;
    for name in ["bob", "dave"] {
        net.node(B).consent(name, alice.client().user(), None).await;
    }
    for member in [&mut alice, &mut amy, &mut bob, &mut dave] {
        assert_eq!(member.upload(5).await.unwrap(), 5);
    }
    alice.create_room(&den).await.unwrap();
    let users = [amy.client().user().clone(), bob.client().user().clone()];
    invite(&mut alice, &den, &users).await.unwrap();
    for number in 0..40 {
        alice.send(&den, &[&*format!("{number}")]).await.unwrap();
    }
    for member in [&mut amy, &mut bob] {
        wait_epoch(member, &den, Epoch(1)).await;
        wait(member, "forty", |member| member.received(&den).len() == 40).await;
    }
    bob.create_room(&hall).await.unwrap();
    invite(&mut bob, &hall, &[alice.client().user().clone()]).await.unwrap();
    wait_epoch(&mut alice, &hall, Epoch(1)).await;
    for number in 0..20 {
        bob.send(&hall, &[&*format!("{number}")]).await.unwrap();
    }
    wait(&mut alice, "twenty", |alice| alice.received(&hall).len() == 20).await;
    let dave_is = [dave.client().user().clone()];
    let claimed = alice.claim(None, &dave_is).await.unwrap();
    assert!(claimed.users[0].result.is_ok());
    let terms = CodeTerms { uses: None, lifetime_ms: None, role_index: None, passphrase: None };
    let (link, _) = alice.create_link(&den, terms).await.unwrap();
    let (introduction, _) = alice.introduce(None).await.unwrap();
    // A lease that nobody uses.
    let ticket = Ticket { code: link.code.clone(), passphrase: None };
    drop(carol.ask_group_info(&den, &ticket).await.unwrap());

    let settled_b = net.node(B).settled().await;
    for member in [&mut amy, &mut bob, &mut dave, &mut carol] {
        member.save().await.unwrap();
        member.disconnect();
    }
    assert!(net.node_mut(B).terminate().await.success());
    // What b.example is owed, and what amy has not read.
    let update = alice.prepare_update(&den).unwrap();
    alice.commit(&update).await.unwrap();
    wait_epoch(&mut alice, &den, Epoch(2)).await;
    for text in ["owed 1", "owed 2", "owed 3"] {
        alice.send(&den, &[text]).await.unwrap();
    }
    wait(&mut alice, "her own", |alice| alice.unresolved(&den).is_empty()).await;
    // And what a.example owes to the hub of the other room.
    alice.send(&hall, &["submitted"]).await.unwrap();
    for member in [&alice, &amy, &bob, &carol, &dave] {
        unhurt(member);
    }
    let settled_a = net.node(A).settled().await;
    alice.save().await.unwrap();
    alice.disconnect();
    net.node_mut(A).kill();
    assert!(net.errors().is_empty(), "{:?}", net.errors());
    let facts = serde_json::json!({
        "link": link.to_string(),
        "introduction": introduction.to_string(),
        "states": { A: settled_a, B: settled_b },
    });
    std::fs::create_dir_all(&to).unwrap();
    std::fs::write(to.join("facts.json"), serde_json::to_string_pretty(&facts).unwrap()).unwrap();
    let kept = |name: &str| name.ends_with("-data") || name.ends_with(".state");
    for entry in std::fs::read_dir(net.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if kept(&name) {
            let copied = std::process::Command::new("cp").arg("-a").arg(&path).arg(&to).status();
            assert!(copied.unwrap().success());
        }
    }
}
