//! Who has no business at the cluster's door, and configurations that contradict themselves.

use super::{Story, cluster::says};
use crate::support::{
    Node, aside,
    raw::{self, Back},
    run_to_end,
};
use cucumber::{then, when};
use mimi_actors::ids::ProviderId;
use mimi_operator::cluster_files::{self, Place};
use mimi_quic::{CLUSTER_ALPNS, issue::create_certificate};
use mimi_stage::ground::{Spot, free_place};
use std::{
    net::SocketAddr,
    process::{Command, Stdio},
};

/// Where a node listens for the others.
fn cluster_door(story: &Story, name: &str) -> SocketAddr {
    let config = std::fs::read_to_string(&story.net().node(name).config).unwrap();
    let table: toml::Table = config.parse().unwrap();
    let listen = table["cluster"]["listen"].as_str().unwrap();
    listen.parse().unwrap()
}

#[then(regex = r"^the certificate of a provider opens no door of the cluster$")]
async fn provider_certificate(story: &mut Story) {
    let net = story.net();
    let door = cluster_door(story, "a1");
    let before = net.node("a1").log().len();
    let (certificate, key) = (net.path("b.example.crt"), net.path("b.example.key"));
    let identity = Some((certificate.as_path(), key.as_path()));
    let dialer = raw::dialer(
        &net.path("a.example-cluster-ca/ca.crt"),
        CLUSTER_ALPNS[0].1,
        identity,
    );
    let back = match raw::connect(&dialer, door, "n1.main.a.example").await {
        // The server's refusal comes after the client is done.
        Ok(connection) => Back::Lost(connection.closed().await.to_string()),
        Err(back) => back,
    };
    assert!(matches!(back, Back::Lost(_)), "{back:?}");
    story.print(format!("it is told: {back:?}"));
    says(
        net,
        "a1",
        before,
        &[
            "a connection of a node of the cluster did not come about",
            "127.0.0.1",
        ],
    )
    .await;
}

#[then(regex = r"^a node of another cluster is refused by both sides$")]
async fn other_cluster(story: &mut Story) {
    let target = cluster_door(story, "a1");
    let before = story.net().node("a1").log().len();
    let net = story.net_mut();
    let root = net.dir.path().to_path_buf();
    let provider: ProviderId = "c.example".parse().unwrap();
    create_certificate(&root, &provider, &root).unwrap();
    let first = Place {
        cluster: (target, target),
        ..free_place(1)
    };
    let places = [first, free_place(2)];
    cluster_files::write(&root, &provider, &places, "").unwrap();
    let stranger = Node::new(&Spot {
        data: root.join(cluster_files::data_dir(&provider, 2)),
        config: root.join("c.example-n2.toml"),
        provider,
        place: places[1],
    });
    net.nodes.insert("c2".to_owned(), stranger);
    net.node_mut("c2").start().await;
    let net = story.net();
    says(net, "c2", 0, &["a node of the cluster is not connected"]).await;
    says(
        net,
        "a1",
        before,
        &[
            "a connection of a node of the cluster did not come about",
            "127.0.0.1",
        ],
    )
    .await;
    story.net_mut().node_mut("c2").kill();
}

#[when(regex = r"^node (\d) comes back with an empty disk$")]
async fn empty_disk(story: &mut Story, number: u64) {
    story.announced.push("a node was not let into the cluster");
    let name = format!("a{number}");
    let (net, stage) = story.stage();
    stage.doors.shut(&name);
    stage.chronicle.kill(net, &name);
    std::fs::remove_dir_all(&net.node(&name).data).unwrap();
    net.node_mut(&name).start().await;
}

#[then(regex = r"^node (\d) is refused by the others, which say what to do$")]
async fn refused(story: &mut Story, number: u64) {
    let name = format!("a{number}");
    let net = story.net();
    let known = "was known with another data directory";
    let what = format!("cluster replace --node {number}");
    says(net, &name, 0, &[known, &what]).await;
    // Nobody lets it in, so it ends by itself.
    assert!(!story.net_mut().node_mut(&name).ended().await.success());
}

#[then(regex = r"^a configuration that names one node twice is refused with one line$")]
async fn twice(story: &mut Story) {
    let net = story.net();
    let config = std::fs::read_to_string(&net.node("a1").config).unwrap();
    let table: toml::Table = config.parse().unwrap();
    let own = table["cluster"]["nodes"][0]["address"].as_str().unwrap();
    for (also, address, why) in [
        (1, "127.0.0.1:1", "`cluster.nodes 1`: is listed twice"),
        (9, own, "is another node's address"),
    ] {
        let more = format!("nodes = [{{ id = {also}, address = \"{address}\" }}, ");
        let path = net.path("twice.toml");
        std::fs::write(&path, config.replacen("nodes = [", &more, 1)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mimi-node"));
        command.args(["config", "check", "--config"]).arg(&path);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let (code, said) = aside(move || run_to_end(command)).await;
        assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains(why), "{said}");
    }
}
