//! What the providers of members hear, and when.

use super::{Story, names};
use crate::support::{WAIT, until};
use cucumber::{given, then, when};
use mimi_actors::{
    ids::ClientUri,
    machine::Millis,
    wire::{
        door::DoorItem,
        event::{ClientSeq, RoomSeq, Verdict},
    },
};
use mimi_client::member::Member;
use mimi_operator::protocol::{PeerRow, Request, Response};
use std::collections::BTreeSet;

#[then(regex = r"^(\w+) saw nothing from before (?:he|she) joined$")]
fn nothing_before(story: &mut Story, name: String) {
    let den = story.room();
    let counts = story.member(&name).counts();
    assert_eq!(counts.before_joining, 0);
    // The creator's events, and the first message, have lower numbers than the Commit that added this one.
    let first = story.member(&name).seen().map(|seen| seen.seq).min();
    assert!(first > Some(RoomSeq(3)), "{first:?} in {den}");
}

#[then(regex = r"^of the devices at (\S+) (none|only (\w+)'s) is in a room$")]
async fn in_rooms(story: &mut Story, provider: String, _which: String, name: String) {
    let wanted: Vec<ClientUri> = names(&name)
        .iter()
        .map(|name| story.members[name].client().clone())
        .collect();
    let users = match story.net().node(&provider).ask(&Request::ListUsers).await {
        Response::Users { users } => users,
        other => panic!("{other:?}"),
    };
    let devices: Vec<_> = users.iter().flat_map(|user| &user.devices).collect();
    assert!(!devices.is_empty());
    let in_rooms = devices.iter().filter(|device| device.rooms > 0);
    let in_rooms: Vec<ClientUri> = in_rooms.map(|device| device.client.clone()).collect();
    assert_eq!(in_rooms, wanted);
}

#[then(regex = r"^(\w+) processed (\d+) Commits$")]
fn processed(story: &mut Story, name: String, count: u64) {
    let counts = story.member(&name).counts();
    assert_eq!((counts.commits, counts.gaps), (count, 0));
}

#[then(regex = r"^each own message of ([\w, ]+) carries its own number$")]
fn own_numbers(story: &mut Story, list: String) {
    let den = story.room();
    for name in names(&list) {
        let member = story.member(&name);
        let client = member.client().clone();
        let seen: Vec<_> = member.seen().filter(|seen| seen.room == den).collect();
        let own = seen.iter().filter(|seen| seen.sender == client).count();
        assert!(own > 0 && own < seen.len(), "{name}: {seen:?}");
        for seen in seen {
            let own = (seen.sender == client).then_some(ClientSeq(1));
            assert_eq!(seen.own, own, "{name}: {seen:?}");
        }
    }
}

#[when(regex = r"^(\w+) sends (\d+) messages to each of the rooms$")]
async fn sends_to_each(story: &mut Story, name: String, count: usize) {
    for room in story.rooms.clone() {
        let texts: Vec<String> = (1..=count)
            .map(|number| format!("message {number}"))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        story.member(&name).send(&room, &texts).await.unwrap();
    }
}

#[then(regex = r"^([\w, ]+) (?:have|has) received (\d+) messages in each of the rooms, in order$")]
async fn received_in_each(story: &mut Story, list: String, count: usize) {
    let said: Vec<String> = (1..=count)
        .map(|number| format!("message {number}"))
        .collect();
    for name in names(&list) {
        for room in story.rooms.clone() {
            let all = |member: &Member| member.received(&room).len() >= count;
            story.wait(&name, "all messages", all).await;
            let received = story.member(&name).received(&room);
            assert_eq!(received, said, "{name} in {room}");
        }
    }
}

#[then(regex = r"^(\S+) sent (\S+) at least (\d+) events in at most (\d+) frames$")]
async fn in_few_frames(story: &mut Story, hub: String, peer: String, events: u64, frames: u64) {
    let row = peer_row(story, &hub, &peer).await;
    assert!(row.items_sent >= events, "{row:?}");
    assert!(row.frames_sent <= frames, "{row:?}");
}

#[then(regex = r"^(\S+) sent (\S+) at least (\d+) submissions in at most (\d+) frames$")]
async fn submitted_in_few(
    story: &mut Story,
    from: String,
    hub: String,
    submissions: u64,
    frames: u64,
) {
    let row = peer_row(story, &from, &hub).await;
    assert!(row.submissions_sent >= submissions, "{row:?}");
    assert!(row.submit_frames_sent <= frames, "{row:?}");
}

#[then(regex = r"^every message of (\w+) in the rooms is accepted$")]
async fn accepted_in_each(story: &mut Story, name: String) {
    for room in story.rooms.clone() {
        let decided = |member: &Member| member.unresolved(&room).is_empty();
        story.wait(&name, "verdicts", decided).await;
        let verdicts = story.member(&name).verdicts(&room);
        assert!(!verdicts.is_empty(), "{room}");
        for (number, verdict) in verdicts {
            let accepted = matches!(verdict, Verdict::Accepted { .. });
            assert!(accepted, "{number} of {room}: {verdict:?}");
        }
    }
}

#[then(regex = r"^nothing is owed to (\S+) by (\S+) any more$")]
async fn nothing_owed(story: &mut Story, peer: String, hub: String) {
    let node = story.net().node(&hub);
    until("everything is acknowledged", async || {
        let status = node.status().await;
        let row = status.peers.into_iter().find(|row| row.provider == peer)?;
        (row.unacknowledged == 0).then_some(())
    })
    .await;
}

async fn peer_row(story: &Story, hub: &str, peer: &str) -> PeerRow {
    let status = story.net().node(hub).status().await;
    let mut rows = status.peers.into_iter();
    rows.find(|row| row.provider == peer).unwrap()
}

#[given(regex = r"^it is known how much (\S+) sent (\S+)$")]
async fn known_sent(story: &mut Story, hub: String, peer: String) {
    story.sent = Some(peer_row(story, &hub, &peer).await.items_sent);
}

#[then(regex = r"^(\S+) has sent (\S+) nothing more$")]
async fn nothing_more(story: &mut Story, hub: String, peer: String) {
    let row = peer_row(story, &hub, &peer).await;
    assert_eq!(Some(row.items_sent), story.sent);
}

#[then(
    regex = r"^the messages of ([\w, ]+) have epochs that never go back, as ([\w, ]+) see them$"
)]
fn epochs_never_go_back(story: &mut Story, senders: String, list: String) {
    let den = story.room();
    for sender in names(&senders) {
        let client = story.member(&sender).client().clone();
        let mut orders = Vec::new();
        for name in names(&list) {
            let seen = story.member(&name).seen();
            let seen = seen.filter(|seen| seen.room == den && seen.sender == client);
            let order: Vec<_> = seen.map(|seen| (seen.seq, seen.epoch)).collect();
            let epochs: BTreeSet<_> = order.iter().map(|(_, epoch)| *epoch).collect();
            assert!(epochs.len() > 1, "{name}: {order:?}");
            assert!(order.is_sorted(), "{name}: {order:?}");
            assert!(
                order.windows(2).all(|two| two[0].1 <= two[1].1),
                "{name}: {order:?}"
            );
            orders.push(order);
        }
        assert!(orders.iter().all(|order| *order == orders[0]));
    }
}

/// What a member is sent, and does not acknowledge: numbers and times.
async fn sent_to(member: &mut Member, count: usize) -> Vec<(RoomSeq, Millis)> {
    let mut lane = member.door().unwrap().events().await.unwrap();
    let mut sent = Vec::new();
    while sent.len() < count {
        let batch = tokio::time::timeout(WAIT, lane.next()).await;
        for item in batch.unwrap().unwrap().items {
            if let DoorItem::Room { events, .. } = item {
                // The first event, which adds everybody, its sender may not have acknowledged.
                let said = events.iter().filter(|event| event.seq > RoomSeq(1));
                sent.extend(said.map(|event| (event.seq, event.time)));
            }
        }
    }
    sent
}

#[then(regex = r"^(\w+) is sent (\d+) events, each once$")]
async fn each_once(story: &mut Story, name: String, count: usize) {
    let sent = sent_to(story.member(&name), count).await;
    let once = sent.windows(2).all(|two| two[0].0 < two[1].0);
    assert!(once && sent.len() == count, "{sent:?}");
}

#[when(regex = r"^([\w, ]+) say (\d+) messages each$")]
async fn say(story: &mut Story, list: String, count: usize) {
    let den = story.room();
    for number in 0..count {
        for name in names(&list) {
            let text = format!("{name} {number:04}");
            story.member(&name).send(&den, &[&text]).await.unwrap();
        }
    }
    story.sent = Some((count * names(&list).len()) as u64);
}

#[then(
    regex = r"^the events that ([\w, ]+) are sent have one number and one time everywhere, which never goes back$"
)]
async fn one_time(story: &mut Story, list: String) {
    let count = usize::try_from(story.sent.unwrap()).unwrap();
    let mut all = Vec::new();
    for name in names(&list) {
        let sent = sent_to(story.member(&name), count).await;
        assert!(
            sent.windows(2)
                .all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1),
            "{name}: {sent:?}"
        );
        all.push(sent);
    }
    assert!(all.iter().all(|sent| *sent == all[0]), "{all:?}");
    assert!(all[0][0].1 > Millis(0));
}
