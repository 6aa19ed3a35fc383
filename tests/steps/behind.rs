//! A provider for which too much waits, and the rooms that it is not brought into.

use super::Story;
use crate::support::until;
use cucumber::{given, then};
use mimi_actors::{ids::RoomUri, limits::SHARDS_DEFAULT, shard::place, wire::answer::Refused};
use mimi_client::member::{MemberError, packages};

#[given(
    regex = r"^(\S+) lets (\d+) items wait for a provider before it is brought into no more rooms$"
)]
async fn lets_wait(story: &mut Story, provider: String, items: String) {
    let key = "MIMI_NODE__LINK__BACKLOG_ITEMS_MAX".to_owned();
    let node = story.net_mut().node_mut(&provider);
    node.kill();
    node.env.push((key, items));
    story.net_mut().restart(&provider).await;
}

/// A room whose events are in the same log as those of another.
fn room_beside(room: &RoomUri) -> RoomUri {
    let shard = |room: &RoomUri| place(&room.to_string(), SHARDS_DEFAULT);
    let others = (0..).map(|number| RoomUri::new(room.hub(), &format!("beside-{number}")).unwrap());
    let mut same = others.filter(|other| shard(other) == shard(room));
    same.next().unwrap()
}

#[given(regex = r"^(\w+) has a KeyPackage of (\w+) for a room beside it$")]
async fn has_package(story: &mut Story, name: String, guest: String) {
    let beside = room_beside(&story.room());
    let user = story.member(&guest).client().user().clone();
    let member = story.member(&name);
    member.create_room(&beside).await.unwrap();
    let claimed = member.claim(Some(beside), &[user]).await.unwrap();
    story.packages = packages(&claimed);
    assert_eq!(story.packages.len(), 1);
}

#[then(regex = r"^(\w+) cannot bring (\w+) into that room, for too much waits for (\S+)$")]
async fn cannot_bring(story: &mut Story, name: String, _guest: String, peer: String) {
    let beside = room_beside(&story.room());
    let packages = story.packages.clone();
    let member = story.member(&name);
    let add = member.prepare_add(&beside, &packages).unwrap();
    let refused = member.commit(&add).await.unwrap_err();
    assert_eq!(
        member.pending_commit(&beside),
        Some(&add),
        "it may be sent again"
    );
    let MemberError::Refused(Refused::PeerBehind {
        provider,
        retry_after_ms,
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(provider.as_str(), peer);
    assert!(retry_after_ms > 0);
}

#[then(regex = r"^(\w+) brings (\w+) into that room$")]
async fn brings(story: &mut Story, name: String, guest: String) {
    let beside = room_beside(&story.room());
    let add = story.member(&name).pending_commit(&beside).cloned();
    let add = add.unwrap();
    // The acknowledgement is in the hub's log a moment after the peer has sent it.
    until("the hub lets it in", async || {
        match story.member(&name).commit(&add).await {
            Ok(_) => Some(()),
            Err(MemberError::Refused(Refused::PeerBehind { .. })) => None,
            Err(other) => panic!("{other:?}"),
        }
    })
    .await;
    let epoch = story.member(&name).epoch(&beside);
    story
        .wait(&guest, "the Welcome", |member| {
            member.epoch(&beside) == epoch
        })
        .await;
}
