//! Ratchet trees in their containers.

use super::{
    Story,
    commit::{Outcome, send_flawed},
    names, support,
};
use cucumber::{given, then, when};
use mimi_actors::{
    limits::TREE_BYTES_MAX,
    mls::tree::container::{Before, compress, pack},
    wire::{
        BText, Payload,
        answer::Answer,
        room::Request,
        tree::{TreeContainer, TreeKind},
    },
};
use std::{
    io::ErrorKind,
    net::{TcpListener, TcpStream},
};
use support::{TREE_HOST, room};

pub(super) fn kind(name: &str) -> TreeKind {
    let mut kinds = TreeKind::ALL.into_iter();
    kinds.find(|kind| kind.name() == name).unwrap()
}

/// Where members say that their trees lie, and who listens there.
#[derive(Debug, Default)]
pub struct Place {
    host: Option<TcpListener>,
    /// Lengths of GroupInfos, in bytes.
    group_infos: Vec<usize>,
}

impl Place {
    fn uri(&self) -> String {
        let host = self.host.as_ref().map(|host| host.local_addr().unwrap());
        let host = host.map_or_else(|| TREE_HOST.to_owned(), |host| host.to_string());
        format!("https://{host}/trees/1")
    }
}

#[given(regex = r"^(\S+\.example) allows trees at a host that writes down who comes$")]
async fn allows_host(story: &mut Story, provider: String) {
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    host.set_nonblocking(true).unwrap();
    story.trees.host = Some(host);
    let keys = [("tree_hosts", "[\"127.0.0.1\"]")];
    story.restart_with(&provider, "limits", &keys).await;
}

#[then(regex = r"^nobody came to that host$")]
fn nobody_came(story: &mut Story) {
    let host = story.trees.host.as_ref().unwrap();
    let came = host.accept().unwrap_err();
    assert_eq!(came.kind(), ErrorKind::WouldBlock);
    // Whoever comes is seen.
    let _visitor = TcpStream::connect(host.local_addr().unwrap()).unwrap();
    host.accept().unwrap();
}

#[given(regex = r"^([\w, ]+) sends? trees as (\w+)$")]
fn send_as(story: &mut Story, list: String, container: String) {
    let place = story.trees.uri();
    for name in names(&list) {
        let member = story.member(&name);
        member.send_trees_as(kind(&container));
        member.keep_trees_at(&place);
    }
}

#[then(regex = r"^the GroupInfo of (?:his|her) bundle has less than (\d+) bytes$")]
fn group_info_is_small(story: &mut Story, bytes: usize) {
    let (_, prepared) = story.prepared.last_key_value().unwrap();
    assert!(prepared.group_info.len() < bytes, "{prepared:?}");
}

#[when(regex = r"^(\w+) prepares a commit of which the GroupInfo is measured$")]
fn measures(story: &mut Story, name: String) {
    let den = story.room();
    let member = story.member(&name);
    let prepared = member.prepare_update(&den).unwrap();
    member.abandon_commit(&den).unwrap();
    story.trees.group_infos.push(prepared.group_info.len());
}

#[then(regex = r"^the GroupInfo has as many bytes as before$")]
fn same_size(story: &mut Story) {
    let [before, now] = story.trees.group_infos[..] else {
        panic!("{:?}", story.trees);
    };
    assert_eq!(now, before);
}

#[then(regex = r"^the GroupInfo that (\w+) got has less than (\d+) bytes$")]
fn got_small(story: &mut Story, name: String, bytes: usize) {
    let entrance = story.joining.entrance(&name);
    let (group_info, tree) = (entrance.group_info.len(), entrance.tree.len());
    assert!((100..bytes).contains(&group_info), "{group_info}");
    assert!(tree > group_info, "{tree}");
}

#[then(regex = r"^the tree of (?:his|her) bundle is sent as (\w+)$")]
fn is_sent_as(story: &mut Story, container: String) {
    let (_, prepared) = story.prepared.last_key_value().unwrap();
    assert_eq!(prepared.tree.kind(), kind(&container));
}

/// A delta of its parts: what it starts from, its number of nodes and what follows.
fn delta(epoch: u64, tree_hash: &[u8], rest: &[u8]) -> TreeContainer {
    let mut bytes = vec![1];
    bytes.extend(epoch.to_be_bytes());
    bytes.push(32);
    bytes.extend_from_slice(tree_hash);
    bytes.extend_from_slice(rest);
    TreeContainer::Delta(bytes.into())
}

#[when(regex = r"^(\w+) sends a bundle whose tree is (.+)$")]
async fn flawed_tree(story: &mut Story, name: String, flaw: String) {
    let den = story.room();
    let member = story.member(&name);
    let entrance = member.entrance(&den).unwrap();
    let old = entrance.tree.0.clone();
    let before = Before::of_group_info(&entrance.group_info, old.clone()).unwrap();
    let mut flawed = member.prepare_update(&den).unwrap();
    let tree = Payload::from(flawed.tree.carried().to_vec());
    let packed = pack(&tree, TreeKind::Delta, Some(&before), None).unwrap();
    let rest = packed.carried()[42..].to_vec();
    flawed.tree = match flaw.as_str() {
        "a delta that starts from another epoch" => {
            delta(before.epoch + 1, &before.tree_hash, &rest)
        }
        "a delta that starts from another tree" => delta(before.epoch, &[7; 32], &rest),
        "a delta to another tree" => {
            member.abandon_commit(&den).unwrap();
            let other = member.prepare_update(&den).unwrap();
            pack(
                &Payload::from(other.tree.carried().to_vec()),
                TreeKind::Delta,
                Some(&before),
                None,
            )
            .unwrap()
        }
        "a delta with a node too many" => {
            // The third leaf, which stays as it is: everything else is the same list, with a longer length.
            let third = mimi_actors::mls::tree::delta::nodes(&old).unwrap()[4].to_vec();
            let mut list = rest[6..].to_vec();
            list.extend(4_u32.to_be_bytes());
            list.extend_from_slice(&third);
            let length = u16::try_from(list.len()).unwrap() | 0x4000;
            let nodes = rest[..4].to_vec();
            delta(
                before.epoch,
                &before.tree_hash,
                &[nodes, length.to_be_bytes().to_vec(), list].concat(),
            )
        }
        "a delta of no bytes" => TreeContainer::Delta(Payload::default()),
        "a zstd frame of another tree" => TreeContainer::Zstd(compress(&old).into()),
        "a zstd frame that is cut" => {
            let frame = compress(&tree);
            TreeContainer::Zstd(frame[..frame.len() - 1].to_vec().into())
        }
        "two zstd frames" => {
            TreeContainer::Zstd([compress(&tree), compress(&tree)].concat().into())
        }
        "a zstd bomb" => TreeContainer::Zstd(compress(&vec![0; TREE_BYTES_MAX]).into()),
        "a zstd frame of 2 MiB" => TreeContainer::Zstd(compress(&vec![0; 2 << 20]).into()),
        "at a host that nobody knows" => {
            TreeContainer::Reference(BText::clipped("https://169.254.169.254/latest"))
        }
        _ => panic!("{flaw}"),
    };
    send_flawed(story, &name, &flawed).await;
}

#[given(regex = r"^(\w+) has a group for the room (\w+) of (\S+)$")]
fn has_a_group(story: &mut Story, _name: String, attic: String, hub: String) {
    story.room = Some(room(&attic, &hub));
}

#[when(regex = r"^(\w+) offers it with its tree as (\w+)$")]
async fn offers(story: &mut Story, name: String, container: String) {
    let (attic, place) = (story.room(), story.trees.uri());
    let member = story.member(&name);
    let hub = member.door().unwrap().hub_sender().await.unwrap();
    let mut opening = member.prepare_room(&attic, &hub).unwrap();
    let tree = Payload::from(opening.tree.carried().to_vec());
    let before = Before::of_group_info(&opening.group_info, tree.0.clone()).unwrap();
    opening.tree = pack(&tree, kind(&container), Some(&before), Some(&place)).unwrap();
    let answer = member
        .door()
        .unwrap()
        .ask(attic, Request::Create(opening))
        .await
        .unwrap();
    if let Answer::Refused(refused) = answer {
        story.answers.push(Outcome::Refused(refused));
    } else {
        assert_eq!(answer, Answer::Created);
        story.answers.clear();
    }
}

#[then(regex = r"^the room is created$")]
fn created(story: &mut Story) {
    assert!(story.answers.is_empty());
}
