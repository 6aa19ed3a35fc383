//! In which order members read what they missed.

use super::{Story, names, support};
use cucumber::{given, then, when};
use mimi_actors::wire::{
    door::{DoorItem, Order, PAST_EPOCHS, RoomBody},
    event::{Epoch, RoomSeq},
    post::Notice,
};
use mimi_client::member::Ticket;
use std::time::Duration;
use support::{invite, room};
use tokio::time::{Instant, timeout_at};

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

/// What a member is sent first of a room in this order, before it acknowledges anything: control events up to the
/// first message, and the messages that come with that one.
async fn sent_first(story: &mut Story, name: &str, order: Order) -> (Vec<Epoch>, Vec<RoomSeq>) {
    let mut member = story.take(name);
    story.net().reconnect(&mut member).await;
    let mut lane = member.door().unwrap().events_in(order).await.unwrap();
    let (mut opened, mut messages) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + support::WAIT;
    while messages.is_empty() {
        let batch = timeout_at(deadline, lane.next()).await.unwrap().unwrap();
        for item in batch.items {
            let DoorItem::Room { events, .. } = item else {
                continue;
            };
            for event in events {
                match event.body {
                    RoomBody::Commit { epoch, .. } if messages.is_empty() => opened.push(epoch),
                    RoomBody::Commit { .. } | RoomBody::Proposals(_) => {}
                    RoomBody::Application(_) => messages.push(event.seq),
                }
            }
        }
    }
    member.disconnect();
    story.members.insert(name.to_owned(), member);
    (opened, messages)
}

#[then(regex = r"^(\w+) is first sent what comes first when one reads (.+)$")]
async fn is_first_sent(story: &mut Story, name: String, words: String) {
    let order = order(&words);
    let (opened, messages) = sent_first(story, &name, order).await;
    let (_, in_order) = sent_first(story, &name, Order::InOrder).await;
    assert!(messages.len() > 1 && in_order.is_sorted());
    // Control events overtake the messages of the epochs that a member can still read, and no more.
    let overtaking: Vec<Epoch> = (2..=1 + PAST_EPOCHS).map(Epoch).collect();
    let backwards: Vec<RoomSeq> = messages.iter().rev().copied().collect();
    match order {
        Order::InOrder => assert_eq!((opened, messages[0]), (vec![], in_order[0])),
        Order::ControlFirst => {
            assert_eq!((opened, messages[0]), (overtaking, in_order[0]));
            assert!(messages.is_sorted());
        }
        Order::ControlThenNewest => {
            assert_eq!(opened, overtaking);
            assert!(backwards.is_sorted() && messages[0] > in_order[0]);
        }
    }
}

#[when(regex = r"^(\w+) opens the room (\w+) of (\S+) and adds (\w+)$")]
async fn opens_and_adds(story: &mut Story, name: String, of: String, hub: String, whom: String) {
    let attic = room(&of, &hub);
    let users = [story.user(&whom)];
    let member = story.member(&name);
    member.create_room(&attic).await.unwrap();
    invite(member, &attic, &users).await.unwrap();
}

#[then(regex = r"^(\w+) is sent the Welcome to (\w+) before any event$")]
async fn welcome_first(story: &mut Story, name: String, of: String) {
    let mut member = story.take(&name);
    story.net().reconnect(&mut member).await;
    let mut lane = member.door().unwrap().events().await.unwrap();
    let deadline = Instant::now() + support::WAIT;
    let (mut welcomed, mut events) = (false, 0);
    while events == 0 {
        let batch = timeout_at(deadline, lane.next()).await.unwrap().unwrap();
        for item in batch.items {
            match item {
                DoorItem::Inbox { room, notice, .. } if room.room() == of => {
                    welcomed |= matches!(
                        notice,
                        Notice::Joined {
                            welcome: Some(_),
                            ..
                        }
                    );
                }
                DoorItem::Room { events: more, .. } => events += more.len(),
                _ => {}
            }
        }
    }
    assert!(welcomed, "{events} events came first");
    member.disconnect();
    story.members.insert(name, member);
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

#[given(regex = r"^(\S+) keeps events for (\d+) s$")]
async fn keeps(story: &mut Story, provider: String, retention_s: String) {
    let node = story.net_mut().node_mut(&provider);
    let key = "MIMI_NODE__STORAGE__RETENTION_S".to_owned();
    node.kill();
    node.env.push((key, retention_s));
    story.net_mut().restart(&provider).await;
}

#[when(regex = r"^(\w+) stays away until nothing of the room is kept any more$")]
async fn stays_away(story: &mut Story, name: String) {
    // A stream of its own asks from the beginning, again and again, without an acknowledgement.
    let den = story.room();
    let last = story
        .members
        .values()
        .map(|member| member.last_seq(&den))
        .max();
    let mut member = story.take(&name);
    support::until("the events are forgotten", async || {
        story.net().reconnect(&mut member).await;
        let mut lane = member.door().unwrap().events().await.unwrap();
        let soon = Instant::now() + Duration::from_millis(300);
        while let Ok(Ok(batch)) = timeout_at(soon, lane.next()).await {
            let all =
                |item: &DoorItem| matches!(item, DoorItem::Gap { upto, .. } if Some(*upto) >= last);
            if batch.items.iter().any(all) {
                return Some(());
            }
        }
        None
    })
    .await;
    member.disconnect();
    story.members.insert(name, member);
}

#[then(regex = r"^(\w+) is told that events are missing$")]
async fn is_told_of_gap(story: &mut Story, name: String) {
    let den = story.room();
    story
        .wait(&name, "word of the gap", |member| {
            member.missed(&den).is_some()
        })
        .await;
}

#[when(regex = r"^(\w+) takes its own place in the room anew$")]
async fn takes_own_place(story: &mut Story, name: String) {
    let den = story.room();
    let member = story.member(&name);
    let (ticket, wait) = (Ticket::default(), support::WAIT);
    member.join_by_itself(&den, &ticket, wait).await.unwrap();
}
