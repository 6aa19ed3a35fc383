//! Nodes of two releases: who is greeted, and what is lost that one of them has no word for.

use super::{super::Answering, Greeting, Site, until};
use futures::future::{BoxFuture, join_all};
use mimi_actors::{
    ids::ClientUri,
    limits::SHARDS_DEFAULT,
    room::verdicts::AskVerdicts,
    shard_request::{ShardReply, ShardRequest},
    wire::{
        event::ClientSeq,
        version::{Level, Release},
    },
};
use std::{future::ready, sync::Arc};

/// Shards of a level, which answer nothing.
struct OfLevel(Level);

impl Answering for OfLevel {
    fn asked(&self, _: ShardRequest) -> BoxFuture<'_, BoxFuture<'static, ShardReply>> {
        panic!("nobody asks them")
    }

    fn level(&self) -> Level {
        self.0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_an_earlier_release_than_the_shards_is_not_greeted() {
    let site = Site::new(1);
    let node = site.start(1).await;
    let before = Release::named("v0.1").unwrap();
    let (_endpoint, _link, greeting) = site.dial_as(before, SHARDS_DEFAULT, 7, 1).await;
    assert!(matches!(greeting, Greeting::Welcome(_)));
    node.mesh.open(Arc::new(OfLevel(Level::SECOND)));
    let (_endpoint, _link, greeting) = site.dial_as(before, SHARDS_DEFAULT, 7, 1).await;
    let Greeting::Refused { why, .. } = greeting else {
        panic!("{greeting:?}");
    };
    assert!(why.contains("node 7 speaks as v0.1"), "{why}");
    let (_endpoint, _link, greeting) = site.dial(7, 1).await;
    assert!(matches!(greeting, Greeting::Welcome(_)));
    node.end().await;
}

/// Shards of the first level that have done whatever they are asked.
struct Willing;

impl Answering for Willing {
    fn asked(&self, _: ShardRequest) -> BoxFuture<'_, BoxFuture<'static, ShardReply>> {
        let answer: BoxFuture<'static, ShardReply> = Box::pin(ready(ShardReply::Done));
        Box::pin(ready(answer))
    }

    fn level(&self) -> Level {
        Level::FIRST
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_release_before_has_no_word_for_is_lost_alone() {
    let mut site = Site::new(2);
    site.before.insert(2);
    let nodes = [site.start(1).await, site.start(2).await];
    for node in &nodes {
        node.mesh.open(Arc::new(Willing));
    }
    let alice: ClientUri = "mimi://a.example/d/alice/phone".parse().unwrap();
    let known = || ShardRequest::DeviceKey(alice.clone());
    let verdicts = AskVerdicts {
        sender: alice.clone(),
        first: ClientSeq(1),
        count: 1,
        wait_ms: 0,
    };
    let room = "mimi://a.example/r/den".parse().unwrap();
    let unknown = ShardRequest::Verdicts(room, verdicts);
    let ask = |request| nodes[0].mesh.forward(2, 0, request);
    until("the other node is there", || ask(known()).is_ok()).await;
    let asked = [known(), unknown, known()].map(|request| ask(request).unwrap());
    let answers = join_all(asked).await;
    let done = |answer: &Result<ShardReply, _>| *answer == Ok(ShardReply::Done);
    assert_eq!(
        answers.iter().map(done).collect::<Vec<_>>(),
        [true, false, true]
    );
    for node in nodes {
        node.end().await;
    }
}
