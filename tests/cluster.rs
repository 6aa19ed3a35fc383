//! Several nodes of one provider: any of them takes any request, and none of them is needed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests stop at what they did not expect"
)]

mod support;

use mimi_actors::wire::event::Epoch;
use support::{Net, agree, invite, room, wait, wait_epoch};

const A: &str = "a.example";
const B: &str = "b.example";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_have_one_state_and_take_any_request() {
    let net = Net::start_clusters(&[(A, 3), (B, 1)]).await;
    let den = room("den", A);
    let mut alice = net.member("alice", "phone", A).await;
    let mut bob = net.member("bob", "phone", B).await;
    net.any(B).consent("bob", alice.client().user(), None).await;
    assert_eq!(bob.upload(5).await.unwrap(), 5);
    alice.create_room(&den).await.unwrap();
    let users = [bob.client().user().clone()];
    invite(&mut alice, &den, &users).await.unwrap();
    wait_epoch(&mut bob, &den, Epoch(1)).await;
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
