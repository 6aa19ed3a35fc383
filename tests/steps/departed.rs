//! Devices that are revoked and users that are deleted while they are in rooms.

use super::Story;
use crate::support::WAIT;
use cucumber::{then, when};
use mimi_actors::wire::{
    door::{DoorItem, RoomBody},
    event::Epoch,
};
use mimi_client::member::MemberError;
use mimi_operator::protocol::{Request, Response};

#[when(regex = r"^the device of (\w+) is revoked$")]
async fn revoked(story: &mut Story, name: String) {
    let client = story.member(&name).client().clone();
    let node = story.net().node(client.provider().as_str());
    let answer = node.ask(&Request::RevokeDevice { client }).await;
    assert_eq!(answer, Response::Done);
}

#[when(regex = r"^the device of (\w+) is revoked, which nobody has any more$")]
async fn lost(story: &mut Story, name: String) {
    revoked(story, name.clone()).await;
    story.members.remove(&name);
}

#[when(regex = r"^the user (\w+) is deleted$")]
async fn deleted(story: &mut Story, name: String) {
    let provider = story.user(&name).provider().to_string();
    story.net().node(&provider).delete_user(&name).await;
}

#[then(regex = r"^the connection of (\w+) is over, and (?:he|she) is not let in again$")]
async fn shut_out(story: &mut Story, name: String) {
    let mut member = story.take(&name);
    let door = member.door().unwrap();
    tokio::time::timeout(WAIT, door.closed()).await.unwrap();
    member.disconnect();
    let provider = member.client().provider().to_string();
    let at = story.net().node(&provider).door;
    let refused = member.connect_to_any(&story.net().dialer, &[at]).await;
    assert!(matches!(refused, Err(MemberError::Door(_))), "{refused:?}");
    story.members.insert(name, member);
}

#[then(
    regex = r"^(\w+) is sent what the hub proposes in epoch (\d+) as one with the Commit that opens it$"
)]
async fn as_one(story: &mut Story, name: String, epoch: u64) {
    let door = story.member(&name).door().unwrap();
    let mut lane = door.events().await.unwrap();
    let mut opened = None;
    loop {
        let batch = tokio::time::timeout(WAIT, lane.next()).await;
        for item in batch.unwrap().unwrap().items {
            let DoorItem::Room { events, .. } = item else {
                continue;
            };
            for event in events.iter() {
                match (&event.body, opened) {
                    (RoomBody::Commit { epoch: opens, .. }, _) if *opens == Epoch(epoch) => {
                        opened = Some((event.seq, event.time));
                    }
                    (RoomBody::Proposals(_), Some((seq, time))) => {
                        assert_eq!((event.seq, event.time), (seq.next(), time));
                        return;
                    }
                    _ => {}
                }
            }
        }
    }
}
