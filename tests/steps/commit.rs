//! Commits, Proposals, and who wins.

use super::{Story, WAIT, names, setting::agree_on, wait};
use cucumber::{given, then, when};
use mimi_actors::wire::refusal::Flaw;
use mimi_actors::wire::{
    Payload,
    answer::{Accepted, Answer, Refused},
    door::DoorRefused,
    event::{Epoch, Hash},
    room::Request,
};
use mimi_client::{
    door::DoorError,
    member::{Member, MemberError, PreparedCommit, packages},
};
use std::time::Instant;

/// What the hub said to a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Accepted(Accepted),
    Refused(Refused),
    Unavailable,
}

/// Several members and one epoch.
#[derive(Debug, Default)]
pub struct Contest {
    results: Vec<(String, Hash, Result<Accepted, MemberError>)>,
    winners: usize,
}

impl Contest {
    fn won(&self) -> Vec<&(String, Hash, Result<Accepted, MemberError>)> {
        self.results.iter().filter(|row| row.2.is_ok()).collect()
    }
}

/// Lets members commit at the same time.
async fn contest(story: &mut Story, list: &[String]) {
    let den = story.room();
    let mut contenders = Vec::new();
    for name in list {
        let mut member = story.take(name);
        let prepared = member.prepare_update(&den).unwrap();
        contenders.push((name.clone(), member, prepared));
    }
    let under_way = contenders
        .into_iter()
        .map(|(name, mut member, prepared)| async move {
            let result = member.commit(&prepared).await;
            (name, member, Hash::of(&prepared.commit), result)
        });
    let done = futures::future::join_all(under_way).await;
    story.contest.results.clear();
    for (name, member, hash, result) in done {
        story.members.insert(name.clone(), member);
        story.contest.results.push((name, hash, result));
    }
}

#[when(regex = r"^(\w+) and (\w+) commit for the same epoch at the same time$")]
async fn commit_at_once(story: &mut Story, first: String, second: String) {
    contest(story, &[first, second]).await;
}

#[then(regex = r"^exactly one commit is accepted$")]
fn one_accepted(story: &mut Story) {
    assert_eq!(story.contest.won().len(), 1, "{:?}", story.contest);
}

#[then(
    regex = r"^the other is refused as wrong epoch, with the current epoch and the winner's hash$"
)]
fn other_refused(story: &mut Story) {
    let (_, hash, accepted) = story.contest.won()[0];
    let opened = accepted.as_ref().unwrap().epoch;
    assert!(story.contest.results.len() > 1);
    for (_, _, result) in story.contest.results.iter().filter(|row| row.2.is_err()) {
        let Err(MemberError::Lost { current, winner }) = result else {
            panic!("{result:?}");
        };
        assert_eq!((*current, winner), (opened, hash));
    }
}

#[when(regex = r"^the loser commits again$")]
async fn loser_again(story: &mut Story) {
    let loser = story.contest.results.iter().find(|row| row.2.is_err());
    let loser = loser.unwrap().0.clone();
    let den = story.room();
    let member = story.member(&loser);
    let again = member.prepare_update(&den).unwrap();
    member.commit(&again).await.unwrap();
}

#[when(regex = r"^([\w, ]+) contest (\d+) epochs$")]
async fn contest_many(story: &mut Story, list: String, epochs: u64) {
    let list = names(&list);
    for _ in 0..epochs {
        contest(story, &list).await;
        one_accepted(story);
        other_refused(story);
        let epoch = story.contest.won()[0].2.as_ref().unwrap().epoch;
        story.contest.winners += 1;
        agree_on(story, &list, epoch).await;
    }
}

#[then(regex = r"^each of the (\d+) epochs had exactly one winner$")]
fn winners(story: &mut Story, epochs: usize) {
    assert_eq!(story.contest.winners, epochs);
}

#[when(regex = r"^(\w+) prepares a commit$")]
fn prepares(story: &mut Story, name: String) {
    let den = story.room();
    let prepared = story.member(&name).prepare_update(&den).unwrap();
    story.prepared.insert(name, prepared);
}

async fn prepare_add(story: &mut Story, name: &str, whom: &str) -> PreparedCommit {
    let (den, user) = (story.room(), story.user(whom));
    let member = story.member(name);
    let claimed = member.claim(Some(den.clone()), &[user]).await.unwrap();
    member.prepare_add(&den, &packages(&claimed)).unwrap()
}

#[when(regex = r"^(\w+) prepares a commit that adds (\w+)$")]
async fn prepares_add(story: &mut Story, name: String, whom: String) {
    let prepared = prepare_add(story, &name, &whom).await;
    story.prepared.insert(name, prepared);
}

pub(super) fn outcome(result: Result<Accepted, MemberError>) -> Outcome {
    match result {
        Ok(accepted) => Outcome::Accepted(accepted),
        Err(MemberError::Lost { current, winner }) => {
            Outcome::Refused(Refused::WrongEpoch { current, winner })
        }
        Err(
            MemberError::Refused(Refused::TryLater(_))
            | MemberError::Door(DoorError::Refused(DoorRefused::TryLater(_))),
        ) => Outcome::Unavailable,
        Err(MemberError::Refused(refused)) => Outcome::Refused(refused),
        Err(other) => panic!("{other:?}"),
    }
}

#[when(regex = r"^(\w+) sends (?:his|her) bundle$")]
async fn sends_bundle(story: &mut Story, name: String) {
    let prepared = story.prepared[&name].clone();
    let all = story.everybody_runs();
    let result = commit(all, story.member(&name), &prepared).await;
    story.answers.push(outcome(result));
}

/// Commits; while all providers run, sends the same bundle again until nobody is unavailable.
pub(super) async fn commit(
    all: bool,
    member: &mut Member,
    prepared: &PreparedCommit,
) -> Result<Accepted, MemberError> {
    let deadline = Instant::now() + WAIT;
    loop {
        let result = member.commit(prepared).await;
        let unavailable = matches!(
            result,
            Err(MemberError::Refused(Refused::TryLater(_))
                | MemberError::Door(DoorError::Refused(DoorRefused::TryLater(_))))
        );
        if !unavailable || !all || Instant::now() > deadline {
            return result;
        }
        tokio::time::sleep(super::RETRY_AFTER).await;
    }
}

#[then(regex = r"^it is refused as unavailable$")]
fn unavailable(story: &mut Story) {
    assert_eq!(story.answers.last(), Some(&Outcome::Unavailable));
}

#[then(regex = r"^it is refused as wrong epoch$")]
fn wrong_epoch(story: &mut Story) {
    let last = story.answers.last();
    let right = matches!(last, Some(Outcome::Refused(Refused::WrongEpoch { .. })));
    assert!(right, "{last:?}");
}

#[then(regex = r"^it is accepted( as before)?$")]
fn accepted(story: &mut Story, as_before: String) {
    let last = story.answers.last().unwrap();
    assert!(matches!(last, Outcome::Accepted(_)), "{last:?}");
    if !as_before.is_empty() {
        let first = story.answers.iter();
        let first = first
            .clone()
            .find(|one| matches!(one, Outcome::Accepted(_)));
        assert_eq!(first, Some(last));
    }
}

#[then(regex = r"^it is refused with the code (\w+), for (\w+)$")]
fn refused_for(story: &mut Story, code: String, reason: String) {
    let Some(Outcome::Refused(Refused::Invalid(Flaw { detail, .. }))) = story.answers.last() else {
        panic!("{:?}", story.answers);
    };
    assert!(detail.contains(&reason), "{}", &**detail);
    refused_with(story, code);
}

#[then(regex = r"^it is refused with the code (\w+)$")]
fn refused_with(story: &mut Story, code: String) {
    match story.answers.last() {
        Some(Outcome::Refused(Refused::Invalid(Flaw {
            code: found,
            detail,
            ..
        }))) => {
            assert_eq!(found.name(), code, "{}", &**detail);
        }
        other => panic!("{other:?}"),
    }
}

/// Where `needle` is in `bytes`.
fn find(bytes: &[u8], needle: &[u8]) -> usize {
    let places = bytes.windows(needle.len());
    let place = places.enumerate().find(|(_, window)| *window == needle);
    place.expect("the bytes are there").0
}

/// A GroupInfo without its external_pub extension, which is the only one it has.
fn without_external_pub(group_info: &[u8]) -> Payload {
    let key = [&[0x00, 0x04, 0x21, 0x20][..]].concat();
    let place = find(group_info, &key);
    // Type, length of the data, and the key as a vector; before them the length of the list.
    assert_eq!(group_info[place - 1], 36);
    let mut bytes = group_info[..place - 1].to_vec();
    bytes.push(0);
    bytes.extend_from_slice(&group_info[place + 36..]);
    bytes.into()
}

/// A GroupInfo with the tree in an extension, beside its external_pub, which is the only one it has.
fn with_tree_inside(group_info: &[u8], tree: &[u8]) -> Payload {
    let place = find(group_info, &[0x00, 0x04, 0x21, 0x20]);
    assert_eq!(group_info[place - 1], 36);
    let two_bytes = |length: usize| (u16::try_from(length).unwrap() | 0x4000).to_be_bytes();
    let mut extension = vec![0x00, 0x02];
    extension.extend(two_bytes(tree.len()));
    extension.extend_from_slice(tree);
    let mut bytes = group_info[..place - 1].to_vec();
    bytes.extend(two_bytes(36 + extension.len()));
    bytes.extend_from_slice(&extension);
    bytes.extend_from_slice(&group_info[place..]);
    bytes.into()
}

/// A GroupInfo whose signature has one bit that is another.
fn signed_by_nobody(group_info: &[u8]) -> Payload {
    let mut bytes = group_info.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    bytes.into()
}

/// Sends a bundle that is not what the member prepared; the member forgets it.
pub(super) async fn send_flawed(story: &mut Story, name: &str, flawed: &PreparedCommit) {
    story.hashes.clear();
    for provider in ["a.example", "b.example"] {
        let hashes = story.net().node(provider).settled().await;
        story.hashes.insert(provider.to_owned(), hashes);
    }
    let den = story.room();
    let member = story.member(name);
    let request = Request::Commit(flawed.bundle());
    let asked = member.door().unwrap().ask(den.clone(), request);
    let answer = asked.await.unwrap();
    member.abandon_commit(&den).unwrap();
    story.answers.push(match answer {
        Answer::Committed(accepted) => Outcome::Accepted(accepted),
        Answer::Refused(refused) => Outcome::Refused(refused),
        other => panic!("{other:?}"),
    });
}

#[when(regex = r"^(\w+) sends a bundle that adds (\w+) (with.+)$")]
async fn flawed(story: &mut Story, name: String, whom: String, flaw: String) {
    let den = story.room();
    let mut flawed = prepare_add(story, &name, &whom).await;
    let member = story.member(&name);
    member.abandon_commit(&den).unwrap();
    // A bundle of the same epoch that is not this one.
    let other = prepare_add(story, &name, &whom).await;
    match flaw.as_str() {
        "without its Welcome" => flawed.welcome = None,
        "without external_pub" => flawed.group_info = without_external_pub(&flawed.group_info),
        "with the tree inside its GroupInfo" => {
            let tree = flawed.tree.carried();
            flawed.group_info = with_tree_inside(&flawed.group_info, tree);
        }
        "with a GroupInfo signed by nobody" => {
            flawed.group_info = signed_by_nobody(&flawed.group_info);
        }
        "with the tree of the epoch before" => {
            let member = story.member(&name);
            member.abandon_commit(&den).unwrap();
            flawed.tree = member.prepare_update(&den).unwrap().tree;
        }
        "with the GroupInfo of another" => flawed.group_info = other.group_info,
        "with another group's Welcome" => flawed.welcome = other.welcome,
        _ => panic!("{flaw}"),
    }
    send_flawed(story, &name, &flawed).await;
}

#[when(regex = r"^(\w+) sends a bundle with a Welcome for nobody$")]
async fn flawed_update(story: &mut Story, name: String) {
    let den = story.room();
    let welcome = prepare_add(story, &name, "amy").await.welcome;
    let member = story.member(&name);
    member.abandon_commit(&den).unwrap();
    let mut flawed = member.prepare_update(&den).unwrap();
    flawed.welcome = welcome;
    send_flawed(story, &name, &flawed).await;
}

#[when(regex = r"^(\w+) commits$")]
async fn commits(story: &mut Story, name: String) {
    commits_times(story, name, 1).await;
}

#[when(regex = r"^(\w+) commits, having heard of no proposal$")]
async fn commits_unaware(story: &mut Story, name: String) {
    let den = story.room();
    let member = story.member(&name);
    assert_eq!(member.pending_proposals(&den), 0);
    let prepared = member.prepare_update(&den).unwrap();
    member.commit(&prepared).await.unwrap();
}

#[when(regex = r"^(\w+) commits (\d+) times$")]
async fn commits_times(story: &mut Story, name: String, times: u64) {
    let den = story.room();
    let mut member = story.take(&name);
    for _ in 0..times {
        commit_up_to_date(story, &mut member, &den).await;
    }
    story.members.insert(name, member);
}

/// Commits; a member that is behind hears so, catches up and commits again.
async fn commit_up_to_date(story: &Story, member: &mut Member, den: &mimi_actors::ids::RoomUri) {
    let prepared = member.prepare_update(den).unwrap();
    match commit(story.everybody_runs(), member, &prepared).await {
        Ok(_) => {}
        Err(MemberError::Lost { current, .. }) => {
            wait(story.net(), member, "the winner", |member| {
                member.epoch(den) == Some(current)
            })
            .await;
            member.abandon_commit(den).unwrap();
            let again = member.prepare_update(den).unwrap();
            member.commit(&again).await.unwrap();
        }
        Err(error) => panic!("{error:?}"),
    }
}

#[given(regex = r"^(\S+\.example) lets a member commit (\d+) times, and once a minute after that$")]
async fn limits_commits(story: &mut Story, provider: String, times: String) {
    let keys = [("member__burst", &*times), ("member__per_minute", "1")];
    story.restart_with(&provider, "commits", &keys).await;
}

#[then(regex = r"^it is refused, to be tried again after at most (\d+) s$")]
fn refused_limited(story: &mut Story, within_s: u32) {
    match story.answers.last() {
        Some(Outcome::Refused(Refused::Limited { retry_after_ms })) => {
            assert!((1..=within_s * 1_000).contains(retry_after_ms));
        }
        other => panic!("{other:?}"),
    }
}

#[when(regex = r"^(\w+) adds (\w+)$")]
async fn adds(story: &mut Story, name: String, whom: String) {
    let den = story.room();
    // The member may have lost an epoch and not heard of the winner yet.
    let newest = story
        .members
        .values()
        .filter_map(|member| member.epoch(&den))
        .max();
    story
        .wait(&name, "the newest epoch", |member| {
            member.epoch(&den) >= newest
        })
        .await;
    let prepared = prepare_add(story, &name, &whom).await;
    story.member(&name).commit(&prepared).await.unwrap();
}

#[when(regex = r"^(\w+) removes (\w+)$")]
async fn removes(story: &mut Story, name: String, whom: String) {
    let den = story.room();
    let target = story.member(&whom).client().clone();
    let member = story.member(&name);
    let prepared = member.prepare_remove(&den, &[target]).unwrap();
    member.commit(&prepared).await.unwrap();
}

#[then(regex = r"^(\w+) is in no room$")]
async fn in_no_room(story: &mut Story, name: String) {
    let member = story.member(&name);
    let soon = std::time::Duration::from_millis(500);
    let joined = member.run_until(soon, |member| member.rooms().next().is_some());
    assert!(matches!(joined.await, Err(MemberError::Deadline)));
}

#[then(regex = r"^(\w+) joined in epoch (\d+)$")]
fn joined_in(story: &mut Story, name: String, epoch: u64) {
    let den = story.room();
    let member = story.member(&name);
    assert_eq!(member.epoch(&den), Some(Epoch(epoch)));
    assert_eq!(member.counts().commits, 0);
    assert_eq!(member.counts().before_joining, 0);
}

#[when(regex = r"^(\w+) proposes to remove (\w+)$")]
async fn proposes_remove(story: &mut Story, name: String, whom: String) {
    let den = story.room();
    let target = story.member(&whom).client().clone();
    let taken = story.member(&name).propose_remove(&den, &[target]).await;
    assert_eq!(taken.unwrap().len(), 1);
}

#[when(regex = r"^(\w+) proposes to leave$")]
async fn proposes_leave(story: &mut Story, name: String) {
    proposes_remove(story, name.clone(), name).await;
}

#[when(regex = r"^(\w+) proposes an update$")]
async fn proposes_update(story: &mut Story, name: String) {
    let den = story.room();
    let taken = story.member(&name).propose_update(&den).await.unwrap();
    assert_eq!(taken.len(), 1);
    story.proposed = taken;
}

#[then(regex = r"^both proposals are taken$")]
async fn both_taken(story: &mut Story) {
    let den = story.room();
    for name in ["alice", "bob", "carol"] {
        story
            .wait(name, "two proposals", |member| {
                member.pending_proposals(&den) == 2
            })
            .await;
    }
}

/// What comes of an Update that a member commits once it has seen so many Proposals.
pub(super) async fn commit_seen(
    story: &mut Story,
    name: &str,
    count: usize,
) -> Result<Accepted, MemberError> {
    let den = story.room();
    let seen = |member: &Member| member.pending_proposals(&den) == count;
    story.wait(name, "the proposals", seen).await;
    let member = story.member(name);
    let prepared = member.prepare_update(&den).unwrap();
    member.commit(&prepared).await
}

#[when(regex = r"^(\w+), having seen (\d+) proposals?, commits$")]
async fn commits_proposals(story: &mut Story, name: String, count: usize) {
    commit_seen(story, &name, count).await.unwrap();
}

#[then(regex = r"^([\w, ]+) saw (\d+) proposals?$")]
fn saw_proposals(story: &mut Story, list: String, count: u64) {
    let den = story.room();
    for name in names(&list) {
        let member = story.member(&name);
        assert_eq!(member.counts().proposals, count, "{name}");
        assert_eq!(member.pending_proposals(&den), 0, "{name}");
    }
}

#[when(regex = r"^(\w+) commits while (\w+) proposes an update$")]
async fn commits_while(story: &mut Story, name: String, other: String) {
    let den = story.room();
    let (mut first, mut second) = (story.take(&name), story.take(&other));
    let prepared = first.prepare_update(&den).unwrap();
    let (committed, proposed) = tokio::join!(first.commit(&prepared), second.propose_update(&den));
    committed.unwrap();
    if let Err(error) = proposed {
        let late = matches!(error, MemberError::Refused(Refused::WrongEpoch { .. }));
        assert!(late, "{error:?}");
    }
    story.members.insert(name, first);
    story.members.insert(other, second);
}

#[then(regex = r"^(\w+) is not in the room any more$")]
async fn not_in_room(story: &mut Story, name: String) {
    let den = story.room();
    story
        .wait(&name, "its removal", |member| member.epoch(&den).is_none())
        .await;
}
