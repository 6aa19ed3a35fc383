//! Room policy in the GroupContext: who has which role, and what becomes of what policy forbids.

use super::{
    Story,
    commit::{Outcome, commit, outcome},
    names,
    setting::agree_on,
    support::room,
};
use cucumber::{given, then, when};
use mimi_actors::{
    policy::components::{
        Claim, Component as _, ComponentId, Participant, ParticipantList, ParticipantListUpdate,
        PreAuthEntry, PreAuthList, Role, RoomMetadata,
    },
    policy::sets,
    wire::event::Epoch,
};
use mimi_client::member::{Component, Member, MemberError, PreparedCommit, packages};

/// A participant list of one, and two components that nobody here knows.
fn policy(member: &Member) -> Vec<Component> {
    vec![
        (0x22, listing(member, 2)),
        (0x30, b"what else holds".to_vec()),
        (0xf0_01, b"private to somebody".to_vec()),
    ]
}

/// A participant list of this member alone.
fn listing(member: &Member, role_index: u32) -> Vec<u8> {
    let user = member.client().user().clone();
    let participants = vec![Participant { user, role_index }];
    ParticipantList { participants }.encode()
}

#[given(regex = r"^(\w+) opened the room (\w+) of (\S+) with room policy$")]
async fn opened_with_policy(story: &mut Story, name: String, of: String, hub: String) {
    let hall = room(&of, &hub);
    story.room = Some(hall.clone());
    let member = story.member(&name);
    let policy = policy(member);
    member.create_room_with(&hall, &policy).await.unwrap();
}

async fn opens_with(story: &mut Story, name: &str, hall: (&str, &str), policy: &[Component]) {
    let hall = room(hall.0, hall.1);
    match story.member(name).create_room_with(&hall, policy).await {
        Err(MemberError::Refused(refused)) => story.answers.push(Outcome::Refused(refused)),
        other => panic!("{other:?}"),
    }
}

#[when(regex = r"^(\w+) opens the room (\w+) of (\S+) with room policy out of order$")]
async fn opens_out_of_order(story: &mut Story, name: String, of: String, hub: String) {
    let mut policy = policy(story.member(&name));
    policy.reverse();
    opens_with(story, &name, (&of, &hub), &policy).await;
}

#[when(regex = r"^(\w+) opens the room (\w+) of (\S+), in which (?:she|he) is a (\w+)$")]
async fn opens_as(story: &mut Story, name: String, of: String, hub: String, role: String) {
    let list = listing(story.member(&name), index(&role));
    let policy = [(0x22, list), (0x25, sets::moderated().encode())];
    opens_with(story, &name, (&of, &hub), &policy).await;
}

#[when(regex = r"^(\w+) opens the room (\w+) of (\S+) with a participant list that does not read$")]
async fn opens_garbled(story: &mut Story, name: String, of: String, hub: String) {
    let policy = [(0x22, b"who takes part".to_vec())];
    opens_with(story, &name, (&of, &hub), &policy).await;
}

#[then(regex = r"^what (\w+) got holds the room policy$")]
fn holds_policy(story: &mut Story, name: String) {
    let entrance = story.joining.entrance(&name).group_info.clone();
    for (component, data) in policy(story.member("alice")) {
        let mut entry = component.to_be_bytes().to_vec();
        entry.push(u8::try_from(data.len()).unwrap());
        entry.extend(data);
        let mut windows = entrance.windows(entry.len());
        assert!(
            windows.any(|part| part == entry),
            "component {component:#x}"
        );
    }
}

/// A role of a moderated room.
fn index(role: &str) -> u32 {
    let roles = sets::moderated().roles;
    let role = roles.iter().find(|one| one.name.ends_with(role));
    role.expect("a role of a moderated room").index
}

#[given(regex = r"^the moderated room (\w+) of (\S+), which (\w+) owns, with (.+)$")]
async fn moderated(story: &mut Story, of: String, hub: String, owner: String, others: String) {
    let hall = room(&of, &hub);
    story.room = Some(hall.clone());
    let creator = story.user(&owner);
    for (name, user) in story.users.clone() {
        if user == creator {
            continue;
        }
        let node = story.net().node(user.provider().as_str());
        for inviter in story.users.values() {
            node.consent(&name, inviter, None).await;
        }
        assert_eq!(story.member(&name).upload(4).await.unwrap(), 4);
    }
    let member = story.member(&owner);
    let list = listing(member, index("super_admin"));
    let policy = [(0x22, list), (0x25, sets::moderated().encode())];
    member.create_room_with(&hall, &policy).await.unwrap();
    let others = others.replace(" and ", ", ");
    let others = others.split(", ");
    let others: Vec<_> = others.map(|one| one.split_once(" as ").unwrap()).collect();
    let added = others.iter().map(|(name, role)| Participant {
        user: story.user(name),
        role_index: index(role),
    });
    let added: Vec<_> = added.collect();
    let users: Vec<_> = added.iter().map(|one| one.user.clone()).collect();
    let member = story.member(&owner);
    let claimed = member.claim(Some(hall.clone()), &users).await.unwrap();
    let update = ParticipantListUpdate {
        added,
        ..ParticipantListUpdate::default()
    };
    let prepared = member
        .prepare_participants(&hall, &update, &packages(&claimed), &[])
        .unwrap();
    assert_eq!(member.commit(&prepared).await.unwrap().epoch, Epoch(1));
    let all = others.iter().map(|(name, _)| (*name).to_owned());
    let all: Vec<_> = all.chain([owner]).collect();
    agree_on(story, &all, Epoch(1)).await;
}

#[when(regex = r"^(\w+) lets users of (\S+) in as (\w+)$")]
async fn lets_in(story: &mut Story, name: String, provider: String, role: String) {
    let (hall, index) = (story.room(), index(&role));
    let roles = sets::moderated().roles;
    let target = roles.into_iter().find(|one| one.index == index).unwrap();
    let claim = Claim {
        credential_type: 1,
        id: b"provider".to_vec(),
        value: provider.into_bytes(),
    };
    let entry = PreAuthEntry {
        claims: vec![claim],
        target,
    };
    let entries = vec![entry];
    let list = PreAuthList { entries }.encode();
    let component = (ComponentId::PREAUTH.0, list);
    let member = story.member(&name);
    let prepared = member.prepare_policy(&hall, &[component], &[], &[]);
    try_commit(story, &name, &prepared.unwrap()).await;
}

/// Commits what was prepared, and keeps what the hub says.
async fn try_commit(story: &mut Story, name: &str, prepared: &PreparedCommit) {
    let all = story.everybody_runs();
    let result = commit(all, story.member(name), prepared).await;
    story.answers.push(outcome(result));
}

/// A change of the list that gives a user a role, whether it stands there or not.
fn giving(member: &Member, list: &ParticipantList, role_index: u32) -> ParticipantListUpdate {
    let user = member.client().user().clone();
    let stands = |one: &Participant| one.user == user;
    let mut update = ParticipantListUpdate::default();
    match list.participants.iter().position(stands) {
        Some(place) => {
            let place = u32::try_from(place).unwrap();
            update.changed_roles.push((place, role_index));
        }
        None => update.added.push(Participant { user, role_index }),
    }
    update
}

#[when(regex = r"^(\w+) makes (\w+) an? (\w+)$")]
async fn makes(story: &mut Story, name: String, whom: String, role: String) {
    let hall = story.room();
    let list = story.member(&name).participants(&hall).unwrap();
    let update = giving(story.member(&whom), &list, index(&role));
    let member = story.member(&name);
    let prepared = member.prepare_participants(&hall, &update, &[], &[]);
    try_commit(story, &name, &prepared.unwrap()).await;
}

#[when(regex = r"^(\w+) adds (\w+) as (\w+)$")]
async fn adds_as(story: &mut Story, name: String, whom: String, role: String) {
    let (hall, user) = (story.room(), story.user(&whom));
    let list = story.member(&name).participants(&hall).unwrap();
    let update = giving(story.member(&whom), &list, index(&role));
    let member = story.member(&name);
    let claimed = member.claim(Some(hall.clone()), &[user]).await.unwrap();
    let prepared = member.prepare_participants(&hall, &update, &packages(&claimed), &[]);
    try_commit(story, &name, &prepared.unwrap()).await;
}

#[when(regex = r"^(\w+) adds (\w+) and leaves the list as it is$")]
async fn adds_unlisted(story: &mut Story, name: String, whom: String) {
    let (hall, user) = (story.room(), story.user(&whom));
    let member = story.member(&name);
    let claimed = member.claim(Some(hall.clone()), &[user]).await.unwrap();
    let prepared = member.prepare_add(&hall, &packages(&claimed)).unwrap();
    try_commit(story, &name, &prepared).await;
}

#[when(regex = r"^(\w+) bans (\w+)$")]
async fn bans(story: &mut Story, name: String, whom: String) {
    let hall = story.room();
    let list = story.member(&name).participants(&hall).unwrap();
    let update = giving(story.member(&whom), &list, Role::BANNED);
    let client = story.member(&whom).client().clone();
    let member = story.member(&name);
    let prepared = member.prepare_participants(&hall, &update, &[], &[client]);
    try_commit(story, &name, &prepared.unwrap()).await;
}

#[when(regex = r"^(\w+) calls the room (\w+)$")]
async fn calls(story: &mut Story, name: String, called: String) {
    let hall = story.room();
    let metadata = RoomMetadata {
        name: called,
        ..RoomMetadata::default()
    };
    let component = (ComponentId::METADATA.0, metadata.encode());
    let member = story.member(&name);
    let prepared = member.prepare_policy(&hall, &[component], &[], &[]);
    try_commit(story, &name, &prepared.unwrap()).await;
}

#[when(regex = r"^(\w+) tries to propose that (\w+) goes$")]
async fn tries_to_propose(story: &mut Story, name: String, whom: String) {
    let hall = story.room();
    let target = story.member(&whom).client().clone();
    match story.member(&name).propose_remove(&hall, &[target]).await {
        Err(MemberError::Refused(refused)) => story.answers.push(Outcome::Refused(refused)),
        other => panic!("{other:?}"),
    }
}

#[then(regex = r"^([\w, ]+) knows? that (\w+) is an? (\w+) now, and was an? (\w+)$")]
async fn knows_change(story: &mut Story, list: String, whom: String, to: String, from: String) {
    let user = story.user(&whom);
    let (from, to) = (index(&from), index(&to));
    for name in names(&list) {
        let what = format!("the new role of {whom}");
        let is_told = |member: &Member| {
            let mut changes = member.policy_changes();
            changes.any(|change| {
                let mut roles = change.told.roles.iter();
                roles.any(|one| one.user == user && (one.from, one.to) == (from, to))
            })
        };
        story.wait(&name, &what, is_told).await;
    }
}

#[then(regex = r"^([\w, ]+) knows? that the (\w+) changed$")]
async fn knows_component(story: &mut Story, list: String, component: String) {
    for name in names(&list) {
        let is_it = |one: &ComponentId| one.name() == Some(&component);
        let is_told = |member: &Member| {
            let mut changes = member.policy_changes();
            changes.any(|change| change.told.components.iter().any(is_it))
        };
        story.wait(&name, &component, is_told).await;
    }
}

#[then(regex = r"^([\w, ]+) knows? that (?:she|he) has (no )?voice$")]
async fn knows_voice(story: &mut Story, list: String, no: String) {
    let hall = story.room();
    for name in names(&list) {
        let has = |member: &Member| member.has_voice(&hall) == no.is_empty();
        story.wait(&name, "whether it has voice", has).await;
    }
}
