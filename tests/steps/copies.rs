//! Copies of data directories: older ones in the place of the true one, and doubled ones beside it.

use super::{Story, nemesis::revive, operate::binary};
use crate::support::{Node, free_address};
use cucumber::{then, when};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

/// What became of the starts on copies.
#[derive(Debug, Default)]
pub struct Copies {
    copy: PathBuf,
    ends: Vec<String>,
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, target) = {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            (entry, target)
        };
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Where the true directory is while a copy has its place.
fn truth(node: &Node) -> PathBuf {
    node.data.with_extension("truth")
}

#[when(regex = r"^that node is killed, its directory is copied, and it is started again$")]
async fn copied(story: &mut Story) {
    let (net, stage) = story.stage();
    let marked = stage.marked.clone();
    stage.doors.shut(&marked);
    stage.chronicle.kill(net, &marked);
    let data = net.node(&marked).data.clone();
    let to = data.with_extension("copy");
    copy(&data, &to);
    story.copies.copy = to;
    revive(story, &marked).await;
    story.net().led(super::cluster::A).await;
}

#[when(regex = r"^that node is killed, and started on the copy, (\d) times$")]
async fn on_the_copy(story: &mut Story, times: usize) {
    story.announced.push("a node was not let into the cluster");
    let (net, stage) = story.stage();
    let marked = stage.marked.clone();
    stage.doors.shut(&marked);
    stage.chronicle.kill(net, &marked);
    let from = story.copies.copy.clone();
    let node = story.net_mut().node_mut(&marked);
    fs::rename(&node.data, truth(node)).unwrap();
    fs::rename(from, &node.data).unwrap();
    for _ in 0..times {
        let node = story.net_mut().node_mut(&marked);
        let seen = node.log().len();
        node.spawn();
        assert!(!node.ended().await.success());
        let said = node.log().split_off(seen).join("\n");
        story.copies.ends.push(said);
    }
}

#[then(regex = r"^each time it has ended by itself, and said that its directory is an older copy$")]
fn ended_each_time(story: &mut Story) {
    assert!(!story.copies.ends.is_empty());
    for said in &story.copies.ends {
        assert!(said.contains("the node stopped by itself"), "{said}");
        assert!(said.contains("the directory is an older copy"), "{said}");
    }
}

#[when(regex = r"^that node is started on its own directory$")]
async fn on_its_own(story: &mut Story) {
    let marked = story.stage().1.marked.clone();
    let node = story.net().node(&marked);
    fs::remove_dir_all(&node.data).unwrap();
    fs::rename(truth(node), &node.data).unwrap();
    revive(story, &marked).await;
    story.net().led(super::cluster::A).await;
}

#[then(
    regex = r"^a copy of that node's directory, started at another address, ends by itself and says that the node runs already$"
)]
async fn beside(story: &mut Story) {
    story.announced.push("a node was not let into the cluster");
    let (net, stage) = story.stage();
    let node = net.node(&stage.marked);
    let to = node.data.with_extension("double");
    copy(&node.data, &to);
    let config = doubled(&node.config, &to);
    let command = output_of(config).await;
    let said = String::from_utf8_lossy(&command.stderr).into_owned();
    assert_eq!(command.status.code(), Some(1), "{said}");
    assert!(said.contains("the node stopped by itself"), "{said}");
    assert!(said.contains("runs already"), "{said}");
}

/// The configuration of a node on a copy of its directory, with ports of its own.
fn doubled(config: &Path, data: &Path) -> PathBuf {
    let mut table: toml::Table = fs::read_to_string(config).unwrap().parse().unwrap();
    let text = |text: String| toml::Value::String(text);
    table["node"]["data_dir"] = text(data.display().to_string());
    for section in ["link", "door", "cluster"] {
        table[section]["listen"] = text(free_address().to_string());
    }
    let path = config.with_extension("double.toml");
    fs::write(&path, toml::to_string(&table).unwrap()).unwrap();
    path
}

/// Runs a node to its end.
async fn output_of(config: PathBuf) -> Output {
    let mut command = binary();
    command.arg("serve").arg("--config").arg(config);
    let running = tokio::task::spawn_blocking(move || command.output());
    let ended = tokio::time::timeout(2 * crate::support::WAIT, running).await;
    ended.expect("the copy ends").unwrap().unwrap()
}
