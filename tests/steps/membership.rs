//! Clusters whose members change, as their operators see them.

use super::{Story, support};
use cucumber::{given, then, when};
use mimi_operator::protocol::ClusterStatus;
use mimi_stage::ground::{Spot, free_place};
use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use support::{Net, Node, aside, until};

const A: &str = "a.example";
/// How often it is looked whether something stays as it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Where the other nodes reach a node, as its own configuration says.
pub fn address_of(config: &Path) -> String {
    let table = read(config);
    let id = &table["node"]["id"];
    let nodes = table["cluster"]["nodes"].as_array().unwrap();
    let own = nodes.iter().find(|row| row["id"] == *id).unwrap();
    own["address"].as_str().unwrap().to_owned()
}

/// Puts addresses in the place of `<a4>` and the like.
pub fn with_addresses(net: &Net, words: &str) -> String {
    let mut parts = words.split('<');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('>').unwrap();
        out.push_str(&address_of(&net.node(name).config));
        out.push_str(rest);
    }
    out
}

fn read(config: &Path) -> toml::Table {
    std::fs::read_to_string(config).unwrap().parse().unwrap()
}

fn write(config: &Path, table: &toml::Table) {
    std::fs::write(config, toml::to_string(table).unwrap()).unwrap();
}

#[given(regex = r"^node (\d) of a\.example waits to be taken in$")]
async fn waits(story: &mut Story, number: u64) {
    let net = story.net_mut();
    let (name, _) = net.add_node(A, number, "a1");
    net.node_mut(&name).start().await;
}

#[when(
    regex = r"^node (\d) of a\.example waits to be taken in again with an empty data directory$"
)]
async fn waits_again(story: &mut Story, number: u64) {
    story.announced.push("has left the cluster");
    let node = story.net_mut().node_mut(&format!("a{number}"));
    std::fs::remove_dir_all(&node.data).unwrap();
    let mut table = read(&node.config);
    table["cluster"]["join"] = toml::Value::Boolean(true);
    write(&node.config, &table);
    node.start().await;
}

#[when(regex = r"^(\w+) is told to stop$")]
async fn stopped(story: &mut Story, name: String) {
    assert!(story.net_mut().node_mut(&name).terminate().await.success());
}

/// Whether every shard has exactly these voters and learners.
fn is(status: &ClusterStatus, voters: &[u64], learners: &[u64]) -> bool {
    assert!(!status.shards.is_empty());
    let as_expected = |row: &mimi_operator::protocol::ClusterShardRow| {
        row.voters == voters && row.learners == learners
    };
    status.shards.iter().all(as_expected)
}

fn numbers(list: &str) -> Vec<u64> {
    if list == "nobody else" {
        return Vec::new();
    }
    let names = super::names(list);
    names.iter().map(|number| number.parse().unwrap()).collect()
}

#[then(
    regex = r"^(\w+) sees that ([\d, and]+) vote and that (nobody else|[\d, and]+) belongs to the cluster$"
)]
async fn sees(story: &mut Story, name: String, voters: String, learners: String) {
    let (voters, learners) = (numbers(&voters), numbers(&learners));
    let node = story.net().node(&name);
    until("the members are as they should be", async || {
        is(&node.cluster().await, &voters, &learners).then_some(())
    })
    .await;
}

#[then(
    regex = r"^for (\d+) s (\w+) sees that ([\d, and]+) vote and that (nobody else|[\d, and]+) belongs to the cluster$"
)]
async fn sees_for_long(
    story: &mut Story,
    seconds: u64,
    name: String,
    voters: String,
    learners: String,
) {
    let (voters, learners) = (numbers(&voters), numbers(&learners));
    let node = story.net().node(&name);
    // What must not happen is looked for as long as it took to happen.
    let ends = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < ends {
        let status = node.cluster().await;
        assert!(is(&status, &voters, &learners), "{status:?}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

#[then(regex = r#"^(\w+) says that it is not well: "(.+)"$"#)]
async fn not_well(story: &mut Story, name: String, line: String) {
    story.announced.push("has left the cluster");
    let node = story.net().node(&name);
    until("it says so", async || {
        let said = node.status().await.unwell;
        said.contains(&line).then_some(())
    })
    .await;
}

#[when(regex = r#"^the operator of (\w+) runs "(.+)" and ends it after (\d+) shards$"#)]
async fn interrupted(story: &mut Story, name: String, words: String, shards: usize) {
    let net = story.net();
    let words = with_addresses(net, &words);
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut command = net.command_of(&name, &words);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let done = aside(move || {
        let done = lines
            .map_while(Result::ok)
            .filter(|line| line.ends_with("is done"));
        let done = done.take(shards).count();
        child.kill().unwrap();
        child.wait().unwrap();
        done
    });
    assert_eq!(done.await, shards);
}

#[when(regex = r"^(\w+) has noticed that no majority answers$")]
async fn noticed(story: &mut Story, name: String) {
    let node = story.net().node(&name);
    until("no shard has a leader", async || {
        let shards = node.cluster().await.shards;
        shards.iter().all(|row| row.leader.is_none()).then_some(())
    })
    .await;
}

#[when(regex = r"^the operator of a\.example makes a cluster of 3 out of it$")]
async fn grows(story: &mut Story) {
    let net = story.net_mut();
    assert!(net.node_mut(A).terminate().await.success());
    let out = net.path("grown");
    let alone = net.node(A).config.clone();
    let port = support::free_address().port();
    let mut init = super::operate::binary();
    init.args(["cluster", "init", "--nodes", "3"])
        .args(["--port", &port.to_string()])
        .arg("--from")
        .arg(&alone)
        .arg("--out")
        .arg(&out);
    let output = aside(move || init.output()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    for number in 1..=3 {
        let config = out.join(format!("{A}-n{number}.toml"));
        let node = node_of(&config);
        net.nodes.insert(format!("a{number}"), node);
    }
}

/// The node of a configuration that was written by a command.
fn node_of(config: &Path) -> Node {
    let mut table = read(config);
    // The ports that follow a free one may be taken.
    let id = table["node"]["id"].as_integer().unwrap();
    let place = free_place(u64::try_from(id).unwrap());
    for (section, address) in [("link", place.link), ("door", place.door)] {
        table[section]["listen"] = toml::Value::String(address.to_string());
    }
    write(config, &table);
    Node::new(&Spot {
        provider: A.parse().unwrap(),
        place,
        config: config.to_owned(),
        data: PathBuf::from(table["node"]["data_dir"].as_str().unwrap()),
    })
}

#[when(regex = r"^node 2 is started before node 1, and node 3 last$")]
async fn any_order(story: &mut Story) {
    let net = story.net_mut();
    for name in ["a2", "a1", "a3"] {
        net.node_mut(name).start().await;
    }
}

#[when(regex = r"^the configuration of a1 lists node 2 as well$")]
fn lists_both(story: &mut Story) {
    let net = story.net();
    let (first, second) = (&net.node("a1").config, &net.node("a2").config);
    let mut table = read(first);
    table["cluster"]["nodes"] = read(second)["cluster"]["nodes"].clone();
    write(first, &table);
}

#[when(
    regex = r"^node 3 is stopped and started at another address, of which the others' configuration says nothing$"
)]
async fn moves(story: &mut Story) {
    let net = story.net_mut();
    let node = net.node_mut("a3");
    assert!(node.terminate().await.success());
    let now = support::free_address().to_string();
    let mut table = read(&node.config);
    table["cluster"]["listen"] = toml::Value::String(now.clone());
    let nodes = table["cluster"]["nodes"].as_array_mut().unwrap();
    let own = nodes
        .iter_mut()
        .find(|row| row["id"].as_integer() == Some(3));
    own.unwrap()["address"] = toml::Value::String(now);
    write(&node.config, &table);
    node.start().await;
}

#[then(regex = r"^(\w+) sees that all three nodes are connected$")]
async fn connected(story: &mut Story, name: String) {
    let node = story.net().node(&name);
    until("they are connected", async || {
        let others = node.cluster().await.others;
        let up = others.iter().filter(|other| other.connected).count();
        (up == 2).then_some(())
    })
    .await;
}

#[then(regex = r"^(\w+) sees that every shard has node (\d) at <(\w+)>$")]
async fn has_at(story: &mut Story, name: String, number: u64, of: String) {
    let net = story.net();
    let address = address_of(&net.node(&of).config);
    let node = net.node(&name);
    until("the members say so", async || {
        let shards = node.cluster().await.shards;
        let at: BTreeSet<_> = shards
            .iter()
            .flat_map(|row| row.addresses.iter())
            .filter(|(node, _)| *node == number)
            .map(|(_, address)| address.clone())
            .collect();
        (at == BTreeSet::from([address.clone()])).then_some(())
    })
    .await;
}

#[when(regex = r"^the hub key of (\w+) is replaced$")]
async fn other_hub_key(story: &mut Story, name: String) {
    let net = story.net();
    let other = net.path("other");
    std::fs::create_dir(&other).unwrap();
    let mut make = super::operate::binary();
    make.args(["pki", "hub-key", "--out"]).arg(&other);
    let made = aside(move || make.output()).await.unwrap();
    assert!(made.status.success(), "{made:?}");
    let config = &net.node(&name).config;
    let mut table = read(config);
    table["node"]["hub_key"] = toml::Value::String(other.join("hub.key").display().to_string());
    write(config, &table);
}
