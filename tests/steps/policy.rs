//! Room policy in the GroupContext.

use super::{Story, commit::Outcome, support::room};
use cucumber::{given, then, when};
use mimi_client::member::{Component, MemberError};

/// Two components of MIMI's, and one that nobody knows.
fn policy() -> Vec<Component> {
    vec![
        (0x22, b"who takes part".to_vec()),
        (0x30, b"what else holds".to_vec()),
        (0xf0_01, b"private to somebody".to_vec()),
    ]
}

#[given(regex = r"^(\w+) opened the room (\w+) of (\S+) with room policy$")]
async fn opened_with_policy(story: &mut Story, name: String, of: String, hub: String) {
    let hall = room(&of, &hub);
    story.room = Some(hall.clone());
    let member = story.member(&name);
    member.create_room_with(&hall, &policy()).await.unwrap();
}

#[when(regex = r"^(\w+) opens the room (\w+) of (\S+) with room policy out of order$")]
async fn opens_out_of_order(story: &mut Story, name: String, of: String, hub: String) {
    let mut policy = policy();
    policy.reverse();
    let hall = room(&of, &hub);
    match story.member(&name).create_room_with(&hall, &policy).await {
        Err(MemberError::Refused(refused)) => story.answers.push(Outcome::Refused(refused)),
        other => panic!("{other:?}"),
    }
}

#[then(regex = r"^what (\w+) got holds the room policy$")]
fn holds_policy(story: &mut Story, name: String) {
    let entrance = story.joining.entrance(&name);
    for (component, data) in policy() {
        let mut entry = component.to_be_bytes().to_vec();
        entry.push(u8::try_from(data.len()).unwrap());
        entry.extend(data);
        let mut windows = entrance.group_info.windows(entry.len());
        assert!(
            windows.any(|part| part == entry),
            "component {component:#x}"
        );
    }
}
