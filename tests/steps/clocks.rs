//! Nodes whose clocks are set while they run.

use super::{
    Story,
    resources::{answers_over_http, readiness},
    support,
};
use crate::support::{Net, until};
use cucumber::{given, then, when};
use mimi_actors::wire::answer::Refused;
use mimi_client::member::{MemberError, Ticket};
use std::time::{Duration, Instant};

/// The provider.
const A: &str = "a.example";
/// How often somebody may commit here: eight times at once, and then once a second.
const COMMITS: [(&str, &str); 2] = [
    ("MIMI_NODE__COMMITS__MEMBER__BURST", "8"),
    ("MIMI_NODE__COMMITS__MEMBER__PER_MINUTE", "60"),
];
/// The device that commits.
const PHONE: &str = "phone";
/// Seconds in an hour.
const HOUR_S: i64 = 3_600;
/// Seconds in a day.
pub const DAY_S: i64 = 24 * HOUR_S;

#[given(regex = r"^3 nodes of a\.example, whose clocks are set, and a room of alice's phone$")]
async fn nodes(story: &mut Story) {
    let mut net = Net::prepare_clusters(&[(A, 3)], None);
    net.make_clocks_settable().await;
    for node in net.nodes.values_mut() {
        answers_over_http(node);
        for (key, value) in COMMITS {
            node.env.push((key.to_owned(), value.to_owned()));
        }
    }
    net.start_all().await;
    let den = support::room("den", A);
    for device in ["phone", "tablet", "laptop"] {
        let member = net.member("alice", device, A).await;
        story.members.insert(device.to_owned(), member);
    }
    story.member("phone").create_room(&den).await.unwrap();
    story.room = Some(den);
    story.net = Some(net);
}

fn set_all(story: &Story, ahead_s: i64) {
    for name in story.net().nodes.keys() {
        story.net().set_clock(name, ahead_s);
    }
}

#[when(regex = r"^all clocks are set an hour ahead$")]
async fn ahead(story: &mut Story) {
    set_all(story, HOUR_S);
    until("some node has noticed", async || {
        let lines = story.net().nodes.values().map(support::Node::log);
        let mut lines = lines.flatten();
        lines
            .any(|line| line.contains("3600 s ahead"))
            .then_some(())
    })
    .await;
}

#[when(regex = r"^the phone commits$")]
async fn commits(story: &mut Story) {
    let den = story.room();
    let phone = story.member("phone");
    let update = phone.prepare_update(&den).unwrap();
    let deadline = Instant::now() + support::WAIT;
    // The room may be between two leaders.
    while let Err(error) = phone.commit(&update).await {
        assert!(Instant::now() < deadline, "the phone commits: {error}");
        tokio::time::sleep(super::RETRY_AFTER).await;
    }
}

#[when(regex = r"^the tablet asks for the GroupInfo and does not enter$")]
async fn asks(story: &mut Story) {
    let den = story.room();
    let tablet = story.member("tablet");
    let asking = tablet.prepare_asking(&den, &Ticket::default()).unwrap();
    tablet.send_asking(&asking).await.unwrap();
}

#[when(regex = r"^all clocks are right again$")]
fn right(story: &mut Story) {
    set_all(story, 0);
}

#[then(regex = r"^the laptop joins by itself within (\d+) s$")]
async fn joins(story: &mut Story, within_s: u64) {
    let den = story.room();
    let began = Instant::now();
    let within = Duration::from_secs(within_s);
    let laptop = story.member("laptop");
    let ticket = Ticket::default();
    let joined = laptop.join_by_itself(&den, &ticket, within);
    joined.await.unwrap();
    story.print(format!("joined after {:.1?}", began.elapsed()));
}

#[when(regex = r"^the clock of one node that leads is set (\d+) days ahead$")]
async fn one_ahead(story: &mut Story, days: i64) {
    let net = story.net();
    let leader = net.leader_of(A, &story.room().to_string()).await;
    net.set_clock(&leader, days * DAY_S);
    story.hashes.insert("apart".to_owned(), vec![leader]);
}

#[then(regex = r"^that node leads nothing within (\d+) s, and the phone commits on$")]
async fn leads_nothing(story: &mut Story, within_s: u64) {
    let leader = story.hashes["apart"][0].clone();
    let deadline = Instant::now() + Duration::from_secs(within_s);
    loop {
        let status = story.net().node(&leader).cluster().await;
        let led = status.shards.iter();
        if led.filter(|row| row.leader == Some(status.node)).count() == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{leader} leads on");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    commits(story).await;
}

#[then(regex = r"^that node says that it is not ready, because its clock is (\d+) days ahead$")]
fn says_apart(story: &mut Story, days: u64) {
    let apart = &story.hashes["apart"][0];
    let (ready, why) = readiness(story.net(), apart).expect("it answers its operator");
    assert!(!ready, "{why}");
    let (_, said) = why.split_once(") is ").expect(&why);
    let ms: i64 = said.split(' ').next().unwrap().parse().expect(&why);
    let about_s = i64::try_from(days).unwrap() * DAY_S;
    assert!((ms / 1_000 - about_s).abs() < 60, "{why}");
}

/// Commits until the hub says that it is too often, and how long to wait; what it refused is tried first the next time.
async fn commits_too_often(story: &mut Story) -> Duration {
    let den = story.room();
    let deadline = Instant::now() + support::WAIT;
    loop {
        let refused = story.prepared.remove(PHONE);
        let phone = story.member(PHONE);
        let update = refused.unwrap_or_else(|| phone.prepare_update(&den).unwrap());
        let Err(error) = phone.commit(&update).await else {
            continue;
        };
        story.prepared.insert(PHONE.to_owned(), update);
        if let MemberError::Refused(Refused::Limited { retry_after_ms }) = error {
            return Duration::from_millis(retry_after_ms.into());
        }
        // The room may be between two leaders.
        assert!(Instant::now() < deadline, "the phone commits: {error}");
        tokio::time::sleep(super::RETRY_AFTER).await;
    }
}

#[when(regex = r"^the phone commits until it is told to wait$")]
async fn too_often(story: &mut Story) {
    commits_too_often(story).await;
}

#[then(
    regex = r"^the phone commits until it is told to wait, and that Commit is accepted when it has waited so long$"
)]
async fn told_truly(story: &mut Story) {
    let wait = commits_too_often(story).await;
    story.print(format!("told to wait {wait:.1?}"));
    assert!(wait < support::WAIT, "{wait:?}");
    tokio::time::sleep(wait).await;
    let update = story.prepared.remove(PHONE).unwrap();
    story.member(PHONE).commit(&update).await.unwrap();
}
