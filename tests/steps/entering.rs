//! External Commits, members that leave, and the Proposals that a Commit must or must not take in.

use super::{Story, cluster, names, setting::agree_on, support};
use cucumber::{given, then, when};
use mimi_actors::wire::{Payload, answer::Refused, event::Epoch};
use mimi_node::client::member::{Entrance, Member, MemberError, Ticket};

use super::commit::{Outcome, commit_seen, outcome};

#[given(regex = r"^(\w+) has another device, (\w+)$")]
async fn another_device(story: &mut Story, name: String, device: String) {
    let provider = story.user(&name).provider().to_string();
    let member = story.net().member(&name, &device, &provider).await;
    story.members.insert(device, member);
}

/// What a member tells of the room.
fn entrance(story: &mut Story, name: &str) -> Entrance {
    let den = story.room();
    story.member(name).entrance(&den).unwrap()
}

async fn enter(story: &mut Story, name: &str, entrance: &Entrance) {
    let den = story.room();
    let member: &mut Member = story.member(name);
    // The lease, without which nobody enters; who gets none tries all the same.
    match member.ask_group_info(&den, &Ticket::default()).await {
        Ok(_) | Err(MemberError::Refused(Refused::NotAuthorized)) => {}
        Err(other) => panic!("{other:?}"),
    }
    let prepared = member.prepare_entry(&den, entrance).unwrap();
    let result = member.commit(&prepared).await;
    story.prepared.insert(name.to_owned(), prepared);
    story.answers.push(outcome(result));
}

#[when(regex = r"^(\w+) enters? with what (\w+) tells it$")]
async fn enters(story: &mut Story, name: String, teller: String) {
    let told = entrance(story, &teller);
    enter(story, &name, &told).await;
}

#[when(regex = r"^(\w+) prepares to enter with what (\w+) tells it$")]
fn prepares_to_enter(story: &mut Story, name: String, teller: String) {
    let told = entrance(story, &teller);
    let den = story.room();
    let prepared = story.member(&name).prepare_entry(&den, &told).unwrap();
    story.prepared.insert(name, prepared);
}

#[when(regex = r"^(\w+) sends its bundle$")]
async fn sends_its_bundle(story: &mut Story, name: String) {
    let prepared = story.prepared[&name].clone();
    let result = story.member(&name).commit(&prepared).await;
    story.answers.push(outcome(result));
}

#[when(regex = r"^(\w+) asks to leave$")]
async fn leaves(story: &mut Story, name: String) {
    let den = story.room();
    let taken = story.member(&name).leave_room(&den).await.unwrap();
    story.proposed.extend(taken);
}

#[when(regex = r"^(\w+) proposes that (\w+) goes$")]
async fn proposes(story: &mut Story, name: String, whom: String) {
    let den = story.room();
    let target = story.member(&whom).client().clone();
    let taken = story.member(&name).propose_remove(&den, &[target]).await;
    story.proposed.extend(taken.unwrap());
}

#[when(regex = r"^(\w+), having seen (\d+) proposals?, tries to commit$")]
async fn tries_to_commit(story: &mut Story, name: String, count: usize) {
    let result = commit_seen(story, &name, count).await;
    story.answers.push(outcome(result));
}

#[when(regex = r"^(\w+), having seen (\d+) proposals?, waits$")]
async fn waits(story: &mut Story, name: String, count: usize) {
    let den = story.room();
    story
        .wait(&name, "the proposals", |member| {
            member.pending_proposals(&den) == count
        })
        .await;
}

#[then(regex = r"^it is refused, for it omits the proposal$")]
fn omits(story: &mut Story) {
    match story.answers.last() {
        Some(Outcome::Refused(Refused::OmittedProposals { references })) => {
            assert_eq!(references[..], story.proposed[..]);
        }
        other => panic!("{other:?}"),
    }
}

#[then(regex = r"^it is refused, with the references of all (\d+) proposals$")]
fn refused_with_references(story: &mut Story, count: usize) {
    let Some(Outcome::Refused(Refused::InvalidProposals { references, .. })) = story.answers.last()
    else {
        panic!("{:?}", story.answers.last());
    };
    let sorted = |list: &[Payload]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    assert_eq!(references.len(), count);
    assert_eq!(sorted(references), sorted(&story.proposed));
}

#[then(regex = r"^it is refused as not authorized$")]
fn not_authorized(story: &mut Story) {
    assert_eq!(
        story.answers.last(),
        Some(&Outcome::Refused(Refused::NotAuthorized))
    );
}

#[then(regex = r"^the room has the members ([\w, ]+), as (\w+) sees it$")]
async fn members(story: &mut Story, list: String, seer: String) {
    let den = story.room();
    let mut wanted: Vec<_> = names(&list)
        .iter()
        .map(|name| story.member(name).client().clone())
        .collect();
    wanted.sort();
    let members = |member: &Member| {
        let mut members = member.members(&den);
        members.sort();
        members
    };
    story
        .wait(&seer, "the members", |member| members(member) == wanted)
        .await;
}

/// Further devices of a watched user, each at another node than the one that leads the room, as far as there are some.
#[given(regex = r"^(\w+) has the devices ([\w, ]+) at nodes that do not lead the room$")]
async fn devices_elsewhere(story: &mut Story, name: String, list: String) {
    let (net, cast) = story.stage();
    let provider = cast.one(&name).member.client().provider().to_string();
    let mut nodes: Vec<String> = cast.others(net);
    if provider != cluster::A {
        let own = net.nodes.iter();
        let own = own.filter(|(_, node)| node.provider.as_str() == provider);
        nodes = own.map(|(name, _)| name.clone()).collect();
    }
    let mut made = Vec::new();
    for (device, node) in names(&list).into_iter().zip(nodes.iter().cycle()) {
        let code = net.any(&provider).add_user(&name).await;
        let client = support::client(&name, &device, &provider);
        let mut member = Member::create(client, None).unwrap();
        let door = net.node(node).door;
        member.connect(&net.dialer, door).await.unwrap();
        member.enrol(&code).await.unwrap();
        made.push((device, member));
    }
    let den = cast.den.clone();
    story.room = Some(den);
    story.members.extend(made);
}

#[then(regex = r"^those who are watched are in epoch (\d+), with ([\w, ]+)$")]
async fn all_agree(story: &mut Story, epoch: u64, list: String) {
    let (den, epoch) = (story.room(), Epoch(epoch));
    let devices = names(&list);
    agree_on(story, &devices, epoch).await;
    let (_, cast) = story.stage();
    cast.catch_up().await;
    let watched = story.cast.iter().flat_map(cluster::Cast::members);
    let watched = watched.map(|(_, member)| member);
    let devices = devices.iter().map(|name| &story.members[name]);
    let everybody: Vec<_> = watched.chain(devices).collect();
    support::agree(&everybody, &den);
    assert_eq!(everybody[0].epoch(&den), Some(epoch));
}
