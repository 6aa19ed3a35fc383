//! What a node runs out of: descriptors, room, the time of its certificates; and what its operator sees over HTTP.

use super::{
    Story,
    clocks::DAY_S,
    operate::{command_for, output_of, spawned},
    support,
};
use crate::support::{Net, Node, free_address, until};
use cucumber::{given, then, when};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
};

/// Where a node's operator looks over HTTP.
const LISTEN: &str = "MIMI_NODE__ADMIN__LISTEN";
/// Entries of a shard after which it is sealed, where a story seals often.
const SEALED_AFTER: &str = "10";
/// What a node says that cannot seal.
const NOT_SEALED: &str = "no snapshot was sealed; the log is kept";

/// What a story holds so that a node has it not.
#[derive(Debug, Default)]
pub struct Resources {
    /// Connections that say nothing.
    silent: Vec<UnixStream>,
}

/// Gives a node that has not started an address for its operator's tools.
pub fn answers_over_http(node: &mut Node) {
    let address = free_address().to_string();
    node.env.push((LISTEN.to_owned(), address));
}

/// Whether a node says that it is ready, and what else it says.
pub fn readiness(net: &Net, name: &str) -> Option<(bool, String)> {
    let env = &net.node(name).env;
    let (_, address) = env.iter().find(|(key, _)| key == LISTEN)?;
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let ready = text.starts_with("HTTP/1.1 200");
    let body = text.split("\r\n\r\n").nth(1).unwrap_or_default();
    Some((ready, body.trim().to_owned()))
}

/// Waits until a node is ready.
pub async fn is_ready(net: &Net, name: &str) {
    until(&format!("{name} is ready"), async || {
        readiness(net, name).filter(|(ready, _)| *ready)
    })
    .await;
}

#[given(regex = r"^(\S+) answers its operator over HTTP$")]
fn listens(story: &mut Story, name: String) {
    answers_over_http(story.net_mut().node_mut(&name));
}

#[then(regex = r"^(\S+) is ready$")]
async fn ready(story: &mut Story, name: String) {
    is_ready(story.net(), &name).await;
}

#[then(regex = r#"^(\S+) is not ready: "(.+)"$"#)]
async fn not_ready(story: &mut Story, name: String, expected: String) {
    let net = story.net();
    until(&format!("{name} is not ready: {expected}"), async || {
        let said = readiness(net, &name)?;
        (!said.0 && super::operate::fits(&said.1, &expected)).then_some(())
    })
    .await;
}

#[given("all clocks can be set")]
async fn settable(story: &mut Story) {
    story.net_mut().make_clocks_settable().await;
}

#[when(regex = r"^the clock of (\S+) is set (\d+) days ahead$")]
fn clock_set(story: &mut Story, name: String, days: i64) {
    story.net().set_clock(&name, days * DAY_S);
}

#[when(regex = r"^users are added at (\S+) until it refuses$")]
async fn added_until_refused(story: &mut Story, name: String) {
    // What a node holds for a full disk is some hundred entries.
    for number in 0..2_000 {
        let command = command_for(story, &name, &format!("user add u{number}"));
        let output = output_of(spawned(command)).await;
        let refused = !output.status.success();
        story.desk.ends(output);
        if refused {
            return;
        }
    }
    panic!("{name} refuses nothing");
}

#[when(regex = r"^(\S+) may open no descriptor more$")]
fn no_descriptors(story: &mut Story, name: String) {
    let pid = story.net().node(&name).pid();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count();
    limit_descriptors(pid, open as u64);
}

#[when(regex = r"^(\S+) may open descriptors again$")]
fn descriptors_again(story: &mut Story, name: String) {
    limit_descriptors(story.net().node(&name).pid(), 4_096);
}

fn limit_descriptors(pid: u32, current: u64) {
    let pid = Pid::from_raw(pid.try_into().unwrap());
    let limit = Rlimit {
        current: Some(current),
        maximum: Some(4_096),
    };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

#[when(regex = r"^(\d+) connections to the socket of (\S+) say nothing$")]
fn say_nothing(story: &mut Story, count: usize, name: String) {
    let socket = story.net().node(&name).socket();
    for _ in 0..count {
        let silent = UnixStream::connect(&socket).unwrap();
        story.resources.silent.push(silent);
    }
}

#[given(regex = r"^(\S+) seals often$")]
fn seals_often(story: &mut Story, name: String) {
    let often = ("MIMI_NODE__STORAGE__SNAPSHOT_ENTRIES", SEALED_AFTER);
    let node = story.net_mut().node_mut(&name);
    node.env.push((often.0.to_owned(), often.1.to_owned()));
}

#[when(regex = r"^alice of (\S+) has a room and talks in it$")]
async fn talks(story: &mut Story, provider: String) {
    let den = support::room("den", &provider);
    let mut alice = story.net().member("alice", "phone", &provider).await;
    alice.create_room(&den).await.unwrap();
    alice.send(&den, &["hello"]).await.unwrap();
    story.members.insert("alice".to_owned(), alice);
    story.room = Some(den);
}

#[when(regex = r"^alice talks on until the log of (\S+) says that nothing can be sealed$")]
async fn talks_on(story: &mut Story, name: String) {
    story.announced.push(NOT_SEALED);
    let den = story.room();
    for number in 0.. {
        let text = number.to_string();
        // None is refused meanwhile: what is sealed is not what is kept.
        story.member("alice").send(&den, &[&text]).await.unwrap();
        let log = story.net().node(&name).log();
        if log.iter().any(|line| line.contains(NOT_SEALED)) {
            return;
        }
        assert!(number < 2_000, "everything is sealed");
    }
}

/// Snapshots below a directory.
fn count(dir: &Path) -> usize {
    let shards = fs::read_dir(dir).into_iter().flatten().flatten();
    shards
        .map(|shard| fs::read_dir(shard.path()).into_iter().flatten().count())
        .sum()
}

#[then(regex = r"^alice talks on, and (\S+) seals again$")]
async fn seals_again(story: &mut Story, name: String) {
    let den = story.room();
    let dir = story.net().node(&name).data.join("snapshots");
    let before = count(&dir);
    for number in 0..2_000 {
        let text = format!("again {number}");
        story.member("alice").send(&den, &[&text]).await.unwrap();
        if count(&dir) > before {
            return;
        }
    }
    panic!("nothing is sealed any more");
}
