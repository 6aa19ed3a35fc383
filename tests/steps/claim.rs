//! Claims of KeyPackages.

use super::{Story, names, support};
use cucumber::{gherkin::Step, then, when};
use mimi_actors::{
    ids::{RoomUri, UserUri},
    wire::{
        BVec, Payload,
        claim::{ClaimProof, ClaimRequest, ClaimResponse, ClaimTerms, UserRefused},
    },
};
use mimi_client::member::{Member, new_claim_id, packages};
use std::{collections::BTreeSet, time::Instant};

pub async fn claim(
    story: &mut Story,
    name: &str,
    list: &str,
    room: Option<RoomUri>,
    suites: &[u16],
) {
    let users: Vec<_> = names(list).iter().map(|name| story.user(name)).collect();
    let member = story.member(name);
    let request = request(member, users, room, suites);
    let answer = ask(story, name, &request).await;
    story.asked = Some(request);
    story.claims.push(answer);
}

/// Claims with these terms.
pub async fn claim_with(
    story: &mut Story,
    name: &str,
    list: &str,
    change: impl FnOnce(&mut ClaimTerms),
) {
    let users: Vec<_> = names(list).iter().map(|name| story.user(name)).collect();
    let mut request = request(story.member(name), users, None, &[]);
    change(&mut request.terms);
    let answer = ask(story, name, &request).await;
    story.asked = Some(request);
    story.claims.push(answer);
}

/// Sends a claim; while all providers run, sends it again until none is unavailable.
async fn ask(story: &mut Story, name: &str, request: &ClaimRequest) -> ClaimResponse {
    let all = story.everybody_runs();
    let deadline = Instant::now() + support::WAIT;
    loop {
        let door = story.member(name).door().unwrap();
        let (id, terms) = (request.id, request.terms.clone());
        let answer = door.claim(id, terms, &request.users).await.unwrap();
        let lacks = answer
            .users
            .iter()
            .any(|row| matches!(row.result, Err(UserRefused::TryLater(_))));
        if !lacks || !all || Instant::now() > deadline {
            return answer;
        }
        tokio::time::sleep(super::RETRY_AFTER).await;
    }
}

/// A claim with every default, not signed yet.
pub fn request_of(member: &Member, users: Vec<UserUri>) -> ClaimRequest {
    request(member, users, None, &[])
}

fn request(
    member: &Member,
    users: Vec<UserUri>,
    room: Option<RoomUri>,
    suites: &[u16],
) -> ClaimRequest {
    let mut terms = ClaimTerms::new(member.client().user().clone());
    terms.asking_client = Some(member.client().clone());
    terms.room = room;
    terms.ciphersuites = BVec::try_from(suites.to_vec()).unwrap();
    ClaimRequest {
        id: new_claim_id().unwrap(),
        terms,
        users: BVec::try_from(users).unwrap(),
        proof: ClaimProof::default(),
    }
}

#[when(regex = r"^(\w+) claims KeyPackages of ((?:\w+, )*(?:\w+ and )?\w+)$")]
async fn claims(story: &mut Story, name: String, list: String) {
    claim(story, &name, &list, None, &[]).await;
}

#[when(
    regex = r"^(\w+) claims KeyPackages of ((?:\w+, )*(?:\w+ and )?\w+) for the room (\w+) of (\S+)$"
)]
async fn claims_for(story: &mut Story, name: String, list: String, of: String, hub: String) {
    let room = support::room(&of, &hub);
    claim(story, &name, &list, Some(room), &[]).await;
}

#[when(regex = r"^(\w+) asks for KeyPackages of (\w+), preferring ciphersuite (\d+) to (\d+)$")]
async fn claims_preferring(story: &mut Story, name: String, list: String, first: u16, second: u16) {
    claim(story, &name, &list, None, &[first, second]).await;
}

#[when(regex = r"^(\w+) repeats the claim$")]
async fn repeats(story: &mut Story, name: String) {
    let request = story.asked.clone().unwrap();
    let answer = ask(story, &name, &request).await;
    story.claims.push(answer);
}

#[when(
    regex = r"^(\w+), (\w+) and (\w+) claim KeyPackages of (\w+) (\d+) times each at the same time$"
)]
async fn claim_at_once(
    story: &mut Story,
    first: String,
    second: String,
    third: String,
    of: String,
    times: usize,
) {
    let users = vec![story.user(&of)];
    let mut under_way = Vec::new();
    for _ in 0..times {
        for name in [&first, &second, &third] {
            let member = &story.members[name];
            let request = request(member, users.clone(), None, &[]);
            let (id, terms) = (request.id, request.terms);
            under_way.push(member.door().unwrap().claim(id, terms, &users));
        }
    }
    let answers = futures::future::join_all(under_way).await;
    story.claims = answers.into_iter().map(Result::unwrap).collect();
}

/// The rows of the table of results: user, client, result.
fn rows(answer: &ClaimResponse) -> Vec<[String; 3]> {
    let mut rows = Vec::new();
    for claimed in &answer.users {
        let user = claimed.user.user().to_owned();
        match &claimed.result {
            Err(UserRefused::TryLater(_)) => {
                rows.push([user, String::new(), "unavailable".to_owned()]);
            }
            Err(UserRefused::Limited { .. }) => {
                rows.push([user, String::new(), "too many claims".to_owned()]);
            }
            Err(refused) => rows.push([user, String::new(), refused.to_string()]),
            Ok(clients) => {
                for client in clients {
                    let result = match &client.result {
                        Ok(package) => format!("KeyPackage of suite {}", suite(package)),
                        Err(refused) => refused.to_string(),
                    };
                    rows.push([user.clone(), client.client.client().to_owned(), result]);
                }
            }
        }
    }
    rows
}

/// The ciphersuite of a KeyPackage: behind the version and wire format of the MLSMessage, and its own version.
fn suite(package: &Payload) -> u16 {
    u16::from_be_bytes([package[6], package[7]])
}

#[then(regex = r"^the claim answers$")]
pub(super) fn answers(story: &mut Story, step: &Step) {
    let table = &step.table.as_ref().expect("a table").rows;
    let expected: Vec<[String; 3]> = table
        .iter()
        .map(|row| {
            // A device without a name of its own in the story is its user's phone.
            let client = if row[0] == row[1] { "phone" } else { &row[1] };
            let result = match row[2].as_str() {
                "KeyPackage" => "KeyPackage of suite 1",
                other => other,
            };
            [row[0].clone(), client.to_owned(), result.to_owned()]
        })
        .collect();
    let found = rows(story.claims.last().unwrap());
    assert_eq!(found, expected);
}

/// The packages of a user in a claim.
fn of(story: &Story, claim: &ClaimResponse, name: &str) -> Vec<Payload> {
    let user = story.user(name);
    let mut claim = claim.clone();
    claim.users = claim
        .users
        .filter_map(|row| (row.user == user).then_some(row));
    packages(&claim)
}

#[then(regex = r"^the packages of (\w+) are (the same as in|not those of) the claim before$")]
fn same(story: &mut Story, name: String, how: String) {
    let [.., before, last] = &story.claims[..] else {
        panic!("there were no two claims");
    };
    let (before, last) = (of(story, before, &name), of(story, last, &name));
    assert!(!before.is_empty() && before.len() == last.len());
    if how.starts_with("not") {
        assert!(last.iter().all(|package| !before.contains(package)));
    } else {
        assert_eq!(before, last);
    }
}

#[then(regex = r"^(\d+) different packages were handed out, and (\d+) times there was none left$")]
fn handed_out(story: &mut Story, packaged: usize, none: usize) {
    let all: Vec<_> = story.claims.iter().flat_map(packages).collect();
    let different: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), different.len()), (packaged, packaged));
    let rows = story.claims.iter().flat_map(rows);
    let exhausted = rows.filter(|row| row[2] == "KPs exhausted").count();
    assert_eq!(exhausted, none);
}
