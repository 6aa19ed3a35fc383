//! Providers, users, devices, rooms; nodes that are killed and come back.

use super::{Story, names, support};
use cucumber::{given, then, when};
use mimi_actors::{limits::SHARDS_DEFAULT, shard::place, wire::event::Epoch};
use mimi_client::member::PackageOptions;
use mimi_operator::protocol::{Request, Response};
use support::{Net, invite, room, user};

#[given(regex = r"^the providers (.+)$")]
async fn providers(story: &mut Story, list: String) {
    let list = names(&list);
    let list: Vec<_> = list.iter().map(String::as_str).collect();
    story.net = Some(Net::start(&list).await);
}

#[given(regex = r"^((?:\w+, )*(?:\w+ and )?\w+) at (\S+\.example)$")]
async fn at(story: &mut Story, list: String, provider: String) {
    for name in names(&list) {
        let member = story.net().member(&name, "phone", &provider).await;
        story.users.insert(name.clone(), user(&name, &provider));
        story.members.insert(name, member);
    }
}

#[given(regex = r"^(\w+) at (\S+) with the clients? (.+)$")]
async fn at_with(story: &mut Story, name: String, provider: String, clients: String) {
    story.users.insert(name.clone(), user(&name, &provider));
    for client in names(&clients) {
        let member = story.net().member(&name, &client, &provider).await;
        story.members.insert(client, member);
    }
}

#[given(regex = r"^(\S+) knows no (\w+)$")]
fn unknown(story: &mut Story, provider: String, name: String) {
    story.users.insert(name.clone(), user(&name, &provider));
}

#[given(regex = r"^([\w, ]+) uploaded (\d+) KeyPackages?$")]
#[when(regex = r"^([\w, ]+) uploads (\d+) KeyPackages?$")]
async fn uploaded(story: &mut Story, list: String, count: usize) {
    for name in names(&list) {
        assert_eq!(story.member(&name).upload(count).await.unwrap(), count);
    }
}

#[given(regex = r"^([\w, ]+) uploaded (\d+) KeyPackages? of another ciphersuite$")]
async fn uploaded_other(story: &mut Story, list: String, count: usize) {
    for name in names(&list) {
        let options = PackageOptions::incompatible();
        let taken = story.member(&name).upload_with(count, &options).await;
        assert_eq!(taken.unwrap(), vec![Ok(()); count]);
    }
}

#[given(regex = r"^([\w, ]+) consents? to (\w+)$")]
async fn consents(story: &mut Story, list: String, requester: String) {
    let requester = story.user(&requester);
    for name in names(&list) {
        let provider = story.user(&name).provider().to_string();
        let node = story.net().node(&provider);
        node.consent(&name, &requester, None).await;
    }
}

#[given(regex = r"^(\w+) consents to (\w+) for the room (\w+) of (\S+)$")]
async fn consents_for(story: &mut Story, name: String, requester: String, of: String, hub: String) {
    let requester = story.user(&requester);
    let provider = story.user(&name).provider().to_string();
    let node = story.net().node(&provider);
    node.consent(&name, &requester, Some(&room(&of, &hub)))
        .await;
}

#[given(regex = r"^(\w+) was deleted$")]
async fn deleted(story: &mut Story, name: String) {
    let provider = story.user(&name).provider().to_string();
    story.net().node(&provider).delete_user(&name).await;
}

#[given(regex = r"^([\w, ]+) (?:is|are) offline$")]
fn offline(story: &mut Story, list: String) {
    for name in names(&list) {
        story.member(&name).disconnect();
    }
}

#[when(regex = r"^(\w+) comes back$")]
async fn comes_back(story: &mut Story, name: String) {
    let mut member = story.take(&name);
    story.net().reconnect(&mut member).await;
    story.members.insert(name, member);
}

#[given(regex = r"^the room (\w+) of (\S+) with ([\w, ]+)$")]
async fn shared_room(story: &mut Story, name: String, hub: String, list: String) {
    let den = room(&name, &hub);
    story.room = Some(den.clone());
    let list = names(&list);
    let creator = story.user(&list[0]);
    for name in story.users.keys().cloned().collect::<Vec<_>>() {
        let owner = story.user(&name);
        if owner == creator {
            continue;
        }
        for inviter in story.users.values() {
            let node = story.net().node(owner.provider().as_str());
            node.consent(&name, inviter, None).await;
        }
        assert_eq!(story.member(&name).upload(4).await.unwrap(), 4);
    }
    let users: Vec<_> = list[1..].iter().map(|name| story.user(name)).collect();
    let alice = story.member(&list[0]);
    alice.create_room(&den).await.unwrap();
    assert_eq!(invite(alice, &den, &users).await.unwrap(), Epoch(1));
    agree_on(story, &list, Epoch(1)).await;
}

#[when(regex = r"^(\w+) creates the room (\w+) of (\S+) with (\w+)$")]
async fn creates_with(story: &mut Story, name: String, of: String, hub: String, other: String) {
    let den = room(&of, &hub);
    story.room = Some(den.clone());
    let users = vec![story.user(&other)];
    let creator = story.member(&name);
    creator.create_room(&den).await.unwrap();
    assert_eq!(invite(creator, &den, &users).await.unwrap(), Epoch(1));
    agree_on(story, &[name, other], Epoch(1)).await;
}

#[given(regex = r"^(\d+) rooms of (\S+) in one shard with ([\w, ]+)$")]
async fn rooms_of_a_shard(story: &mut Story, count: usize, hub: String, list: String) {
    let shard = |name: &str| place(&room(name, &hub).to_string(), SHARDS_DEFAULT);
    let names = (1..).map(|number| format!("room-{number}"));
    let same: Vec<String> = names.filter(|name| shard(name) == 7).take(count).collect();
    for name in same {
        shared_room(story, name, hub.clone(), list.clone()).await;
        let room = story.room();
        story.rooms.push(room);
    }
}

#[given(regex = r"^(\d+) rooms of (\S+) with ([\w, ]+)$")]
async fn shared_rooms(story: &mut Story, count: usize, hub: String, list: String) {
    for number in 1..=count {
        shared_room(story, format!("room-{number}"), hub.clone(), list.clone()).await;
        let room = story.room();
        story.rooms.push(room);
    }
}

/// Waits until these members are in an epoch, and compares what they have.
pub async fn agree_on(story: &mut Story, list: &[String], epoch: Epoch) {
    let den = story.room();
    for name in list {
        let what = format!("epoch {epoch}");
        story
            .wait(name, &what, |member| member.epoch(&den) >= Some(epoch))
            .await;
        assert_eq!(story.member(name).epoch(&den), Some(epoch), "{name}");
    }
    let members: Vec<_> = list.iter().map(|name| &story.members[name]).collect();
    support::agree(&members, &den);
}

#[then(regex = r"^([\w, ]+) agree on epoch (\d+)$")]
async fn agree(story: &mut Story, list: String, epoch: u64) {
    agree_on(story, &names(&list), Epoch(epoch)).await;
}

#[when(regex = r"^(\S+\.example) is killed$")]
fn killed(story: &mut Story, provider: String) {
    story.net_mut().node_mut(&provider).kill();
}

#[when(regex = r"^(\S+\.example) is started again$")]
async fn started(story: &mut Story, provider: String) {
    story.net_mut().restart(&provider).await;
    story.reconnect(&provider).await;
}

#[given(regex = r"^(\S+) is at rest$")]
async fn at_rest(story: &mut Story, provider: String) {
    let hashes = story.net().node(&provider).settled().await;
    story.hashes.insert(provider, hashes);
}

#[then(regex = r"^no state of (\S+) has changed$")]
async fn unchanged(story: &mut Story, provider: String) {
    let hashes = story.net().node(&provider).hashes().await;
    assert_eq!(story.hashes[&provider], hashes);
}

/// As the one before, once whatever may be on its way has arrived.
#[then(regex = r"^no state of (\S+) has changed, nor does it$")]
async fn stays_unchanged(story: &mut Story, provider: String) {
    let hashes = story.net().node(&provider).settled().await;
    assert_eq!(story.hashes[&provider], hashes);
}

#[then(regex = r"^(\S+) holds (\d+) KeyPackages of (\w+)$")]
async fn holds(story: &mut Story, provider: String, count: usize, name: String) {
    let client = story.member(&name).client().clone();
    let users = match story.net().node(&provider).ask(&Request::ListUsers).await {
        Response::Users { users } => users,
        other => panic!("{other:?}"),
    };
    let device = users
        .iter()
        .flat_map(|user| &user.devices)
        .find(|device| device.client == client);
    assert_eq!(device.unwrap().key_packages, count);
}
