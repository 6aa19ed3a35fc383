//! External Commits, members that leave, and the Proposals that a Commit must or must not take in.

use super::{
    Story, cluster,
    commit::{Outcome, commit_seen, outcome},
    names,
    setting::agree_on,
    support,
};
use cucumber::{given, then, when};
use mimi_actors::wire::{
    BVec, Payload,
    answer::{Answer, Refused},
    door::{DoorItem, RoomBody},
    event::Epoch,
    room::Request,
};
use mimi_client::member::{Entrance, Member, MemberError, Proposing, Ticket};

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

#[when(regex = r"^(\w+) proposes in one request that (\w+) and (\w+) go$")]
async fn proposes_both(story: &mut Story, name: String, first: String, second: String) {
    let den = story.room();
    let targets = [first, second].map(|whom| story.members[&whom].client().clone());
    let taken = story.member(&name).propose_remove(&den, &targets).await;
    assert_eq!(taken.unwrap().len(), targets.len());
}

/// What a member makes and sends as one request, the answer among the others.
async fn propose(story: &mut Story, name: &str, proposals: Vec<Payload>) {
    let den = story.room();
    let request = Request::Propose(BVec::try_from(proposals).unwrap());
    let answer = story.member(name).door().unwrap().ask(den, request).await;
    match answer.unwrap() {
        Answer::Refused(refused) => story.answers.push(Outcome::Refused(refused)),
        other => panic!("{other:?}"),
    }
}

#[when(regex = r"^(\w+) proposes in one request an update and what is no proposal$")]
async fn proposes_noise(story: &mut Story, name: String) {
    let den = story.room();
    let member = story.member(&name);
    let made = member.prepare_proposals(&den, Proposing::Update).unwrap();
    member.withdraw(&den, &made).unwrap();
    let half = made[0][..made[0].len() / 2].to_vec();
    propose(story, &name, [made, vec![half.into()]].concat()).await;
}

#[when(regex = r"^(\w+) makes a proposal and keeps it$")]
fn keeps_proposal(story: &mut Story, name: String) {
    let den = story.room();
    let member = story.member(&name);
    let made = member.prepare_proposals(&den, Proposing::Update).unwrap();
    member.withdraw(&den, &made).unwrap();
    story.proposed = made;
}

#[when(regex = r"^(\w+) sends the proposal that (?:he|she) kept$")]
async fn sends_kept(story: &mut Story, name: String) {
    let kept = std::mem::take(&mut story.proposed);
    assert_eq!(kept.len(), 1);
    propose(story, &name, kept).await;
}

#[then(regex = r"^([\w, ]+) are each sent (\d+) proposals in one event$")]
async fn sent_in_one(story: &mut Story, list: String, count: usize) {
    for name in names(&list) {
        let door = story.member(&name).door().unwrap();
        let mut lane = door.events().await.unwrap();
        let mut bundles = Vec::new();
        while bundles.is_empty() {
            let batch = tokio::time::timeout(support::WAIT, lane.next()).await;
            for item in batch.unwrap().unwrap().items {
                let DoorItem::Room { events, .. } = item else {
                    continue;
                };
                bundles.extend(events.iter().filter_map(|event| match &event.body {
                    RoomBody::Proposals(proposals) => Some(proposals.len()),
                    _ => None,
                }));
            }
        }
        assert_eq!(bundles, [count], "{name}");
    }
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
    let (net, stage) = story.stage();
    let provider = stage.one(&name).member.client().provider().to_string();
    let mut nodes: Vec<String> = stage.others(net);
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
    let den = stage.den.clone();
    story.room = Some(den);
    story.members.extend(made);
}

#[then(regex = r"^those who are watched are in epoch (\d+), with ([\w, ]+)$")]
async fn all_agree(story: &mut Story, epoch: u64, list: String) {
    let (den, epoch) = (story.room(), Epoch(epoch));
    let devices = names(&list);
    agree_on(story, &devices, epoch).await;
    let (_, stage) = story.stage();
    stage.catch_up().await;
    let watched = story.stage.iter().flat_map(cluster::Stage::members);
    let watched = watched.map(|(_, member)| member);
    let devices = devices.iter().map(|name| &story.members[name]);
    let everybody: Vec<_> = watched.chain(devices).collect();
    support::agree(&everybody, &den);
    assert_eq!(everybody[0].epoch(&den), Some(epoch));
}
