//! What a node shows of itself over HTTP, while it starts, works and ends.

use crate::support::{self, Net, Node, run_to_end, until, user, wait};
use mimi_actors::limits::{REQUESTS_IN_FLIGHT_MAX, SHARD_QUEUE_COMMANDS_MAX, SHARDS_DEFAULT};
use rustix::process::Signal;
use std::{collections::BTreeMap, net::SocketAddr, process::Command};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

const A: &str = "a.example";
const B: &str = "b.example";

/// What a node answered.
struct Page {
    status: u16,
    head: String,
    body: String,
}

/// Sends one request of one line; nothing when nobody listens any more.
async fn ask(address: SocketAddr, line: &str) -> Option<Page> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("{line} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some(Page {
            status: head.split(' ').nth(1)?.parse().ok()?,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        })
    };
    timeout(support::WAIT, exchange)
        .await
        .expect("an answer in time")
}

async fn get(address: SocketAddr, path: &str) -> Page {
    ask(address, &format!("GET {path}")).await.unwrap()
}

/// The series of a node, with their labels, and their values.
async fn series(address: SocketAddr) -> BTreeMap<String, f64> {
    let page = get(address, "/metrics").await;
    assert_eq!(page.status, 200, "{}", page.body);
    let lines = page.body.lines().filter(|line| line.starts_with("mimi_"));
    let read = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.map(read).collect()
}

/// Has a node show itself at a free address.
fn show(node: &mut Node) {
    let listen = "MIMI_NODE__ADMIN__LISTEN".to_owned();
    node.env.push((listen, "127.0.0.1:0".to_owned()));
}

/// Where a running node shows itself, as its log says.
fn shown_at(node: &Node) -> Option<SocketAddr> {
    let line = node
        .log()
        .into_iter()
        .find(|line| line.contains("metrics and health are shown"))?;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    Some(line["address"].as_str().unwrap().parse().unwrap())
}

/// Providers that are connected; the first one shows itself.
async fn shown(providers: &[&str]) -> (Net, SocketAddr) {
    let mut net = Net::prepare(providers);
    show(net.node_mut(providers[0]));
    for name in providers {
        net.node_mut(name).spawn();
    }
    for name in providers {
        net.node_mut(name).ready().await;
    }
    net.linked().await;
    let address = shown_at(net.node(providers[0])).unwrap();
    (net, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_traffic_every_shard_link_and_queue_of_a_node_is_shown_with_what_it_did() {
    let (net, address) = shown(&[A, B]).await;
    let (den, mut alice, [mut bob]) = net.gather(("alice", A), [("bob", B)]).await;
    alice.send(&den, &["one", "two", "three"]).await.unwrap();
    wait(&mut bob, "three messages", |bob| {
        bob.received(&den).len() == 3
    })
    .await;

    assert_eq!(get(address, "/livez").await.status, 200);
    let ready = get(address, "/readyz").await;
    assert_eq!((ready.status, &*ready.body), (200, "ready\n"));

    let shard_of = |name: &str, shard: u16| format!("{name}{{shard=\"{shard}\"}}");
    let link_of = |name: &str, shard: u16| format!("{name}{{peer=\"{B}\",shard=\"{shard}\"}}");
    let shards = || 0..SHARDS_DEFAULT;
    // Acknowledgements are recorded late, and each is an entry too. The status knows of no entry without commands.
    let (seen, status) = until("all is acknowledged and applied", async || {
        let seen = series(address).await;
        let status = net.node(A).status().await;
        let still = shards().all(|shard| {
            let applied = status.shards[usize::from(shard)].applied as f64;
            seen[&link_of("mimi_link_unacked_items", shard)] == 0.0
                && seen[&shard_of("mimi_shard_applied_entry", shard)] >= applied
                && seen[&shard_of("mimi_shard_lag_entries", shard)] == 0.0
                && seen[&format!("mimi_queue_depth_items{{queue=\"shard\",shard=\"{shard}\"}}")]
                    == 0.0
        });
        still.then_some((seen, status))
    })
    .await;
    for shard in shards() {
        let role = |role| seen[&format!("mimi_shard_role{{shard=\"{shard}\",role=\"{role}\"}}")];
        assert_eq!(
            (role("leader"), role("voter"), role("learner")),
            (1.0, 0.0, 0.0)
        );
        assert_eq!(seen[&shard_of("mimi_shard_led", shard)], 1.0);
        assert!(seen[&shard_of("mimi_shard_term", shard)] >= 1.0);
        let last = seen[&shard_of("mimi_shard_last_entry", shard)];
        assert_eq!(last, seen[&shard_of("mimi_shard_applied_entry", shard)]);
        let limit = format!("mimi_queue_limit_items{{queue=\"shard\",shard=\"{shard}\"}}");
        assert_eq!(seen[&limit], SHARD_QUEUE_COMMANDS_MAX as f64);
        let (last, acked) = ("mimi_link_last_item", "mimi_link_acked_item");
        assert_eq!(seen[&link_of(last, shard)], seen[&link_of(acked, shard)]);
    }
    // The invitation and three messages went to the other provider, all from the shard of the room.
    let owed = shards().map(|shard| seen[&link_of("mimi_link_last_item", shard)]);
    let owed: Vec<f64> = owed.filter(|last| *last > 0.0).collect();
    assert!(matches!(*owed, [items] if items >= 4.0), "{owed:?}");
    assert_eq!(seen[&format!("mimi_link_connected{{peer=\"{B}\"}}")], 1.0);
    for (name, least) in [
        ("mimi_ready", 1.0),
        ("mimi_log_bytes", 1.0),
        ("mimi_log_syncs_total", 1.0),
        ("mimi_log_entries_total", f64::from(SHARDS_DEFAULT)),
        ("mimi_actors{state=\"awake\"}", 1.0),
        ("mimi_queue_limit_items{queue=\"workers\"}", 1.0),
    ] {
        assert!(seen[name] >= least, "{name} {}", seen[name]);
    }
    assert_eq!(seen["mimi_log_limit_bytes"], status.log_bytes_max as f64);
    let requests = |name| seen[&format!("mimi_queue_{name}_items{{queue=\"requests\"}}")];
    assert_eq!(requests("depth"), 0.0);
    assert_eq!(requests("limit"), REQUESTS_IN_FLIGHT_MAX as f64);
    assert!(net.errors().is_empty(), "{:?}", net.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_pages_are_not_found_and_nothing_but_reading_is_allowed() {
    let (net, address) = shown(&[A]).await;
    let unknown = get(address, "/status").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.body.contains("/metrics"), "{}", unknown.body);
    for path in ["/metrics", "/livez", "/readyz"] {
        for method in ["POST", "PUT", "DELETE"] {
            let refused = ask(address, &format!("{method} {path}")).await.unwrap();
            assert_eq!(refused.status, 405, "{method} {path}");
            assert!(refused.head.contains("allow: get"), "{}", refused.head);
        }
        assert_eq!(get(address, path).await.status, 200, "{path}");
    }
    let metrics = get(address, "/metrics").await.head;
    assert!(
        metrics.contains("content-type: text/plain; version=0.0.4"),
        "{metrics}"
    );
    let garbage = ask(address, "garbage").await.unwrap();
    assert_eq!(garbage.status, 400);
    assert!(net.errors().is_empty(), "{:?}", net.errors());
}

/// Two providers, of which the second holds its answer to a claim back, so that a request stays under way at the first.
async fn busy_with_a_claim() -> (Net, SocketAddr, JoinHandle<()>) {
    let mut net = Net::prepare(&[A, B]);
    show(net.node_mut(A));
    for (key, value) in [
        ("REQUEST_DEADLINE_MS", "30000"),
        ("DRAIN_DEADLINE_MS", "30000"),
    ] {
        let key = format!("MIMI_NODE__LIMITS__{key}");
        net.node_mut(A).env.push((key, value.to_owned()));
    }
    net.node_mut(B).start().await;
    net.node_mut(A).start().await;
    net.linked().await;
    let address = shown_at(net.node(A)).unwrap();
    let mut alice = net.member("alice", "phone", A).await;
    assert_eq!(get(address, "/readyz").await.status, 200);

    net.node(B).freeze();
    // Whether its answer is delivered in the end is not what this shows.
    let claim = tokio::spawn(async move { drop(alice.claim(None, &[user("bob", B)]).await) });
    until("the claim is under way", async || {
        let in_flight = series(address).await["mimi_queue_depth_items{queue=\"requests\"}"];
        (in_flight == 1.0).then_some(())
    })
    .await;
    (net, address, claim)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_lives_and_is_not_ready_until_it_ends() {
    let (mut net, address, claim) = busy_with_a_claim().await;
    net.node(A).signal(Signal::TERM);
    let why = until("the node drains", async || {
        let page = get(address, "/readyz").await;
        (page.status == 503).then_some(page.body)
    })
    .await;
    assert!(
        why.starts_with("draining: ") && why.lines().count() == 1,
        "{why}"
    );
    assert_eq!(get(address, "/livez").await.status, 200);
    let seen = series(address).await;
    assert_eq!(seen["mimi_ready"], 0.0);
    assert_eq!(seen["mimi_shard_led{shard=\"0\"}"], 1.0);

    net.node(B).signal(Signal::CONT);
    let status = net.node_mut(A).ended().await;
    assert_eq!(status.code(), Some(0), "{}", net.tails());
    assert!(ask(address, "GET /livez").await.is_none());
    claim.await.unwrap();
    assert!(net.errors().is_empty(), "{:?}", net.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_and_is_told_again_does_not_wait_for_what_is_under_way() {
    let (mut net, address, claim) = busy_with_a_claim().await;
    net.node(A).signal(Signal::TERM);
    until("the node drains", async || {
        let page = get(address, "/readyz").await;
        (page.status == 503).then_some(())
    })
    .await;
    net.node(A).signal(Signal::TERM);
    // `until` is shorter than the deadline of the drain.
    let status = net.node_mut(A).ended().await;
    assert_eq!(status.code(), Some(0), "{}", net.tails());
    let log = net.node(A).log();
    let again = |line: &String| line.contains("told again: what is under way is not waited for");
    assert!(log.iter().any(again), "{log:?}");
    claim.abort();
    assert!(net.errors().is_empty(), "{:?}", net.errors());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_shards_have_no_majority_is_not_ready_until_they_have_one() {
    let mut net = Net::prepare_clusters(&[(A, 3)], None);
    show(net.node_mut("a1"));
    for name in ["a1", "a2", "a3"] {
        net.node_mut(name).start().await;
    }
    net.led(A).await;
    let address = shown_at(net.node("a1")).unwrap();
    assert_eq!(get(address, "/readyz").await.status, 200);
    let seen = series(address).await;
    let role = |role: &str| {
        let of = |shard| format!("mimi_shard_role{{shard=\"{shard}\",role=\"{role}\"}}");
        (0..SHARDS_DEFAULT)
            .map(|shard| seen[&of(shard)])
            .sum::<f64>()
    };
    assert_eq!(role("leader") + role("voter"), f64::from(SHARDS_DEFAULT));

    for name in ["a2", "a3"] {
        net.node_mut(name).kill();
    }
    let why = until("it is not ready", async || {
        let page = get(address, "/readyz").await;
        (page.status == 503).then_some(page.body)
    })
    .await;
    assert!(why.contains("shard") && why.lines().count() == 1, "{why}");
    assert_eq!(get(address, "/livez").await.status, 200);
    net.node_mut("a2").start().await;
    until("it is ready again", async || {
        (get(address, "/readyz").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_shows_itself_only_where_it_is_told_and_only_to_its_own_machine() {
    let mut net = Net::prepare(&[A]);
    net.node_mut(A).start().await;
    assert_eq!(shown_at(net.node(A)), None);
    net.node_mut(A).kill();

    let listen = "MIMI_NODE__ADMIN__LISTEN";
    let mut check = Command::new(env!("CARGO_BIN_EXE_mimi-node"));
    check
        .args(["config", "check", "--config"])
        .arg(&net.node(A).config)
        .env(listen, "0.0.0.0:7490")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    let (code, said) = run_to_end(check);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("`admin.listen`") && said.contains("use 127.0.0.1"),
        "{said}"
    );

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    net.node_mut(A)
        .env
        .push((listen.to_owned(), address.clone()));
    let (code, said) = run_to_end(net.node(A).command());
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&address) && said.contains("set admin.listen"),
        "{said}"
    );
}
