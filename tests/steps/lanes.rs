//! In which order members read what they missed.

use super::{Story, names};
use cucumber::{given, then, when};
use mimi_actors::wire::{door::Order, event::Epoch};

/// Messages of a round.
const MESSAGES: usize = 60;

fn order(words: &str) -> Order {
    match words {
        "everything in order" => Order::InOrder,
        "control events first" => Order::ControlFirst,
        "control events first, then the newest messages" => Order::ControlThenNewest,
        _ => panic!("{words}"),
    }
}

fn text(round: u64, number: usize) -> String {
    format!("round {round}, message {number}")
}

#[given(regex = r"^([\w, ]+) reads? (.+)$")]
fn reads(story: &mut Story, list: String, words: String) {
    for name in names(&list) {
        story.member(&name).read_as(order(&words));
    }
}

#[when(regex = r"^(\w+) sends many messages and commits, (\d+) times over$")]
async fn sends_and_commits(story: &mut Story, name: String, rounds: u64) {
    let den = story.room();
    for round in 1..=rounds {
        let texts: Vec<String> = (0..MESSAGES).map(|number| text(round, number)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        story.member(&name).send(&den, &texts).await.unwrap();
        story
            .wait(&name, "its own messages", |member| {
                member.unresolved(&den).is_empty()
            })
            .await;
        let member = story.member(&name);
        let update = member.prepare_update(&den).unwrap();
        member.commit(&update).await.unwrap();
    }
}

#[then(regex = r"^(\w+) has read all messages of (\d+) rounds, (.+)$")]
async fn has_read(story: &mut Story, name: String, rounds: u64, words: String) {
    let den = story.room();
    let wanted = usize::try_from(rounds).unwrap() * MESSAGES;
    story
        .wait(&name, "all messages", |member| {
            member.received(&den).len() >= wanted && member.epoch(&den) == Some(Epoch(rounds + 1))
        })
        .await;
    let member = story.member(&name);
    assert_eq!(
        member.faults().count(),
        0,
        "{:?}",
        member.faults().collect::<Vec<_>>()
    );
    let mut received = member.received(&den);
    let mut sent: Vec<String> = (1..=rounds)
        .flat_map(|round| (0..MESSAGES).map(move |number| text(round, number)))
        .collect();
    let as_sent = received == sent;
    let newest = received.first().copied() != Some(sent[0].as_str());
    received.sort_unstable();
    sent.sort_unstable();
    assert_eq!(received, sent);
    match order(&words) {
        Order::InOrder | Order::ControlFirst => assert!(as_sent, "not in the order they were sent"),
        Order::ControlThenNewest => assert!(newest, "the oldest message came first"),
    }
}
