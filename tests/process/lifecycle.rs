//! The process: how it starts, ends, refuses to start, and what a restart brings back.

use crate::support::{self, Net, agree, mode, room, run_to_end, unhurt, wait, wait_epoch};
use mimi_actors::wire::event::Epoch;
use mimi_client::member::Member;
use std::{
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

const A: &str = "a.example";
const B: &str = "b.example";

/// alice and amy of one provider in one room, with some messages.
async fn busy(net: &Net) -> (Member, Member) {
    let (den, mut alice, [mut amy]) = net.gather(("alice", A), [("amy", A)]).await;
    alice.send(&den, &["one", "two", "three"]).await.unwrap();
    for member in [&mut alice, &mut amy] {
        wait(member, "three messages", |member| {
            member.received(&den).len() == 3
        })
        .await;
    }
    (alice, amy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_replays_its_log_to_the_same_state() {
    let mut net = Net::start(&[A]).await;
    let den = room("den", A);
    let (mut alice, mut amy) = busy(&net).await;
    for round in 0..2 {
        let before = net.node(A).settled().await;
        net.node_mut(A).kill();
        net.node_mut(A).start().await;
        assert_eq!(net.node(A).hashes().await, before, "restart {round}");
    }
    for member in [&mut alice, &mut amy] {
        net.reconnect(member).await;
    }
    let update = amy.prepare_update(&den).unwrap();
    amy.commit(&update).await.unwrap();
    wait_epoch(&mut alice, &den, Epoch(2)).await;
    agree(&[&alice, &amy], &den);
    assert!(net.errors().is_empty(), "{:?}", net.errors());
}

/// The snapshots in a data directory: of each shard that has two, the newest.
fn newest_of_two(data: &Path) -> Vec<PathBuf> {
    let list = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    };
    let shards = list(&data.join("snapshots")).into_iter();
    let sealed = |shard: PathBuf| {
        let mut sealed = list(&shard);
        sealed.retain(|dir| dir.join("manifest").exists());
        (sealed.len() == 2).then(|| sealed.remove(1))
    };
    shards.filter_map(sealed).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_newest_snapshots_are_damaged_comes_back_as_it_was_and_delivers_what_it_owes()
{
    const MORE: usize = 60;
    let mut net = Net::prepare(&[A]);
    let every = "MIMI_NODE__STORAGE__SNAPSHOT_ENTRIES".to_owned();
    net.node_mut(A).env.push((every, "10".to_owned()));
    net.node_mut(A).start().await;
    let den = room("den", A);
    let (mut alice, mut amy) = busy(&net).await;
    // amy takes none of these for now.
    for number in 0..MORE {
        alice
            .send(&den, &[&*format!("more {number}")])
            .await
            .unwrap();
    }
    let data = net.node(A).data.clone();
    support::until("a shard has two snapshots", || async {
        (!newest_of_two(&data).is_empty()).then_some(())
    })
    .await;
    let before = net.node(A).settled().await;
    net.node_mut(A).kill();
    let damaged = newest_of_two(&data);
    for snapshot in &damaged {
        let file = snapshot.join("db/db");
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }
    assert!(net.errors().is_empty(), "{:?}", net.errors());

    net.node_mut(A).start().await;
    assert_eq!(net.node(A).hashes().await, before);
    assert_eq!(net.errors().len(), damaged.len(), "{:?}", net.errors());
    assert!(
        damaged
            .iter()
            .all(|snapshot| snapshot.with_extension("damaged").exists())
    );
    net.reconnect(&mut amy).await;
    wait(&mut amy, "what was sent meanwhile", |amy| {
        amy.received(&den).len() == 3 + MORE
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_a_node_cleanly_and_it_comes_back_as_it_was() {
    let mut net = Net::start(&[A]).await;
    let (mut alice, amy) = busy(&net).await;
    let before = net.node(A).settled().await;
    let status = net.node_mut(A).terminate().await;
    assert_eq!(status.code(), Some(0), "{}", net.tails());
    let said = net.node(A).log().last().cloned().unwrap_or_default();
    assert!(said.contains("stopped"), "{said}");
    assert!(!net.node(A).socket().exists());
    net.node_mut(A).start().await;
    assert_eq!(net.node(A).hashes().await, before);
    net.reconnect(&mut alice).await;
    alice.send(&room("den", A), &["four"]).await.unwrap();
    unhurt(&amy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_peer_and_clients_connected_still_ends_cleanly() {
    let mut net = Net::start(&[A, B]).await;
    let _alice = net.member("alice", "phone", A).await;
    let status = net.node_mut(A).terminate().await;
    assert_eq!(status.code(), Some(0), "{}", net.tails());
    assert!(net.errors().is_empty(), "{:?}", net.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_socket_and_the_secrets_are_their_owners_only() {
    let net = Net::start(&[A]).await;
    assert_eq!(mode(&net.node(A).socket()), 0o600);
    for entry in std::fs::read_dir(&net.node(A).data).unwrap() {
        let path = entry.unwrap().path();
        let secret = path
            .extension()
            .is_some_and(|kind| kind == "key" || kind == "pk8");
        if secret {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}

/// Starts a node that must not start; gives the one line that it says.
pub(crate) fn refused_start(net: &Net, provider: &str) -> String {
    let (code, said) = run_to_end(net.node(provider).command());
    assert!(matches!(code, Some(1..)), "{code:?}: {said}");
    let lines: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("mimi-node:"))
        .collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(!net.node(provider).socket().exists() || net.node(provider).runs());
    lines[0].to_owned()
}

fn edit(config: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(config).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(config, text.replacen(from, to, 1)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_start_says_why_in_one_line() {
    let mut net = Net::prepare(&[A, B]);
    let taken = std::net::UdpSocket::bind(net.node(A).link).unwrap();
    let said = refused_start(&net, A);
    let address = net.node(A).link.to_string();
    assert!(said.contains(&address), "taken link port: {said}");
    drop(taken);
    let taken = std::net::UdpSocket::bind(net.node(A).door).unwrap();
    let said = refused_start(&net, A);
    let address = net.node(A).door.to_string();
    assert!(said.contains(&address), "taken door port: {said}");
    drop(taken);

    let key = net.path("a.example.key");
    let permissions = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(&key, permissions(0o644)).unwrap();
    let said = refused_start(&net, A);
    assert!(
        said.contains("a.example.key") && said.contains("chmod 600"),
        "{said}"
    );
    std::fs::set_permissions(&key, permissions(0o600)).unwrap();
    let aside = net.path("aside.key");
    std::fs::rename(&key, &aside).unwrap();
    let said = refused_start(&net, A);
    assert!(said.contains("a.example.key"), "missing key: {said}");
    std::fs::write(&key, "not a key").unwrap();
    std::fs::set_permissions(&key, permissions(0o600)).unwrap();
    let said = refused_start(&net, A);
    assert!(said.contains("a.example.key"), "unreadable key: {said}");
    std::fs::rename(&aside, &key).unwrap();

    let config = net.node(A).config.clone();
    edit(&config, "a.example.crt", "b.example.crt");
    let said = refused_start(&net, A);
    assert!(said.contains("b.example"), "another's certificate: {said}");
    edit(&config, "b.example.crt", "a.example.crt");

    edit(&config, "listen =", "listn =");
    let said = refused_start(&net, A);
    assert!(
        said.contains("link.listn") && said.contains("link.listen"),
        "{said}"
    );
    edit(&config, "listn =", "listen =");

    net.node_mut(A).start().await;
    net.node_mut(A).kill();
    let theirs = net.node(B).config.clone();
    edit(&theirs, "b.example-data", "a.example-data");
    net.node_mut(B).data = net.node(A).data.clone();
    std::fs::remove_file(net.node(A).socket()).unwrap();
    let said = refused_start(&net, B);
    assert!(
        said.contains("a.example"),
        "the data directory of another node: {said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_has_one_process_at_a_time() {
    let mut net = Net::prepare(&[A]);
    net.node_mut(A).start().await;
    let second = net.path("second.toml");
    let text = std::fs::read_to_string(&net.node(A).config).unwrap();
    let text = text
        .replace(
            &net.node(A).link.to_string(),
            &support::free_address().to_string(),
        )
        .replace(
            &net.node(A).door.to_string(),
            &support::free_address().to_string(),
        );
    std::fs::write(&second, text).unwrap();
    let first = std::mem::replace(&mut net.node_mut(A).config, second);
    let said = refused_start(&net, A);
    net.node_mut(A).config = first;
    assert!(said.contains("a.example-data"), "{said}");
    // The first one is not disturbed.
    drop(net.node(A).status().await);
    assert!(net.errors().is_empty(), "{:?}", net.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_node_notices_a_damaged_snapshot_sets_it_aside_and_seals_another() {
    let mut net = Net::prepare(&[A]);
    for (key, value) in [
        ("SNAPSHOT_ENTRIES", "10"),
        ("SCRUB_BYTES_PER_S", "1000000000"),
    ] {
        let key = format!("MIMI_NODE__STORAGE__{key}");
        net.node_mut(A).env.push((key, value.to_owned()));
    }
    net.node_mut(A).start().await;
    let (mut alice, amy) = busy(&net).await;
    let den = room("den", A);
    for number in 0..40 {
        let text = format!("more {number}");
        alice.send(&den, &[&*text]).await.unwrap();
    }
    let data = net.node(A).data.clone();
    let number = mimi_actors::shard::place(&den.to_string(), mimi_actors::limits::SHARDS_DEFAULT);
    let of_den = data.join("snapshots").join(format!("{number:02}"));
    let newest = || {
        let mut newest = newest_of_two(&data).into_iter();
        newest.find(|newest| newest.starts_with(&of_den))
    };
    let two = || async { newest() };
    support::until("a shard has two snapshots", two).await;
    let before = net.node(A).settled().await;
    let damaged = support::until("a shard has two snapshots", two).await;
    let file = damaged.join("db/db");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();

    let aside = damaged.with_extension("damaged");
    support::until("it is set aside", || async { aside.exists().then_some(()) }).await;
    assert_eq!(net.node(A).hashes().await, before);
    // There is something to seal once something is applied.
    let deadline = std::time::Instant::now() + support::WAIT;
    let another = || {
        let mut entries = std::fs::read_dir(&of_den).unwrap().flatten();
        entries.any(|entry| {
            let path = entry.path();
            path.extension().is_none() && path > damaged && path.join("manifest").exists()
        })
    };
    while !another() {
        assert!(std::time::Instant::now() < deadline, "{}", net.tails());
        alice.send(&den, &["still there"]).await.unwrap();
    }
    let errors = net.errors();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].contains("is not what was sealed"), "{errors:?}");
    unhurt(&amy);
    let status = net.node_mut(A).terminate().await;
    assert_eq!(status.code(), Some(0), "{}", net.tails());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_node_whose_log_is_damaged_ends_and_does_not_start_again() {
    let mut net = Net::prepare(&[A]);
    let rate = "MIMI_NODE__STORAGE__SCRUB_BYTES_PER_S".to_owned();
    net.node_mut(A).env.push((rate, "1000000000".to_owned()));
    net.node_mut(A).start().await;
    drop(busy(&net).await);
    let file = net.node(A).data.join("log/engine/0000000000000001.raftlog");
    let mut bytes = std::fs::read(&file).unwrap();
    // A room's name is in the entries of its shard only.
    let name = room("den", A).to_string().into_bytes();
    let mut windows = bytes.windows(name.len());
    let at = windows.position(|window| window == name).unwrap();
    bytes[at] ^= 1;
    std::fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .unwrap()
        .write_all_at(&bytes[at..=at], at as u64)
        .unwrap();
    let status = net.node_mut(A).ended().await;
    assert_ne!(status.code(), Some(0));
    let log = net.node(A).log();
    assert!(
        log.iter().any(|line| line.contains("cluster replace")),
        "{log:?}"
    );
    let said = refused_start(&net, A);
    assert!(said.contains("must not lead or vote"), "{said}");
}
