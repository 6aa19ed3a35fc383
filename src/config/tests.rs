//! What a file and the environment may say, and what comes of it.

use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Result<Config, ConfigError> {
    Config::read("node.toml", text, [])
}

fn refused(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

fn with_environment(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::read("node.toml", "[limits]\nidle_s = 5", variables)
}

fn peer(address: &str, trust: TrustConfig) -> Config {
    let peer = PeerConfig {
        domain: "b.example".to_owned(),
        addresses: vec![address.to_owned()],
        trust,
    };
    Config {
        peer: vec![peer],
        ..Config::default()
    }
}

#[test]
fn the_example_shows_every_key_at_its_default() {
    assert_eq!(read(EXAMPLE).unwrap(), Config::default());
    let table: toml::Table = EXAMPLE.parse().unwrap();
    let defaults = toml::Table::try_from(Config::default()).unwrap();
    for (section, keys) in defaults.iter().filter(|(section, _)| *section != "peer") {
        let shown = table[section].as_table().unwrap();
        assert!(
            keys.as_table().unwrap().keys().eq(shown.keys()),
            "{section}"
        );
    }
    // What is shown about peers reads as well, once it is no comment.
    let (_, peers) = EXAMPLE.split_once("# [[peer]]").unwrap();
    let peers = format!("[[peer]]{}", peers.replace("\n# ", "\n"));
    let one_trust = |trust: &str| {
        let keep = |line: &&str| !line.starts_with("trust") || line.contains(trust);
        peers.lines().filter(keep).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(read(&one_trust("ca =")).unwrap().peers().unwrap().len(), 1);
    assert!(read(&one_trust("pinned_key =")).is_ok());
}

#[test]
fn every_key_of_the_example_is_explained() {
    let mut before = "";
    for line in EXAMPLE.lines() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(before.starts_with("# "), "{line} has no comment");
        }
        before = line;
    }
}

#[test]
fn the_pair_of_providers_reads_and_each_lists_the_other() {
    for (text, own, other) in [
        (
            include_str!("../../configs/two-providers/a.toml"),
            "a.example",
            "b.example",
        ),
        (
            include_str!("../../configs/two-providers/b.toml"),
            "b.example",
            "a.example",
        ),
    ] {
        let config = read(text).unwrap();
        config.check().unwrap();
        assert_eq!(config.provider().unwrap().as_str(), own);
        let peers = config.peers().unwrap();
        assert!(peers.keys().map(ProviderId::as_str).eq([other]));
    }
}

#[test]
fn the_three_nodes_read_and_begin_one_cluster() {
    let mut founders = Vec::new();
    for (node, text) in [
        (1, include_str!("../../configs/three-nodes/n1.toml")),
        (2, include_str!("../../configs/three-nodes/n2.toml")),
        (3, include_str!("../../configs/three-nodes/n3.toml")),
    ] {
        let config = read(text).unwrap();
        config.check().unwrap();
        assert_eq!(config.node.id, node);
        let cluster = config.cluster().unwrap().unwrap();
        let own = &cluster.nodes[&node];
        assert_eq!(*own, config.cluster.listen.to_string());
        founders.push(cluster);
    }
    assert!(founders.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_cluster_is_checked() {
    type Change = fn(&mut Config);
    let cluster = |change: Change| {
        let mut config = read(include_str!("../../configs/three-nodes/n1.toml")).unwrap();
        change(&mut config);
        config.check().map_err(|error| error.to_string())
    };
    assert_eq!(cluster(|_| {}), Ok(()));
    assert_eq!(cluster(|c| c.node.id = 3), Ok(()));
    let refused: [(Change, &str); 9] = [
        (|c| c.cluster.name.clear(), "needs a name"),
        (|c| c.cluster.name = "Main".to_owned(), "cluster.name"),
        (|c| c.node.hub_key = PathBuf::new(), "the same file"),
        (|c| c.node.id = 4, "must list this node too (id 4)"),
        (|c| c.cluster.nodes[1].id = 1, "is listed twice"),
        (
            |c| c.cluster.nodes[1].address = c.cluster.nodes[0].address.clone(),
            "is another node's address",
        ),
        (|c| c.cluster.nodes[1].id = 0, "begin at 1"),
        (
            |c| c.cluster.listen = c.door.listen,
            "must not be the address",
        ),
        (
            |c| {
                c.cluster.nodes.truncate(1);
                c.cluster.join = true;
            },
            "a node of the cluster to join",
        ),
    ];
    for (change, expected) in refused {
        let error = cluster(change).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    for (text, expected) in [
        (
            "[link]\nlistn = 1",
            "unknown key `link.listn`; did you mean `link.listen`?",
        ),
        (
            "[dor]\nlisten = 1",
            "unknown key `dor`; did you mean `door`?",
        ),
        ("lnk = 1", "unknown key `lnk`; did you mean `link`?"),
        (
            "[[peer]]\naddress = []",
            "unknown key `peer.address`; did you mean `peer.addresses`?",
        ),
        (
            "[[peer]]\ntrust = { pinned_keys = \"\" }",
            "unknown key `peer.trust.pinned_keys`; did you mean `peer.trust.pinned_key`?",
        ),
        (
            "[limits]\nrequest_dedline_ms = 1",
            "unknown key `limits.request_dedline_ms`; did you mean `limits.request_deadline_ms`?",
        ),
    ] {
        assert_eq!(refused(text), format!("node.toml: {expected}"));
    }
}

#[test]
fn what_does_not_read_is_refused_with_its_place() {
    assert_eq!(
        refused("[limits]\nidle_s = \"soon\""),
        "node.toml: `limits.idle_s`: invalid type: found string \"soon\", expected u64"
    );
    assert!(refused("[link]\nlisten = \"here\"").starts_with("node.toml: `link.listen`: "));
    assert!(refused("[log]\nformat = \"xml\"").contains("`log.format`: unknown variant"));
    assert!(refused("[node]\n\nid = = 1").starts_with("node.toml:3: "));
    assert!(refused("[[peer]]\ndomain = \"b.example\"").contains("missing field"));
    assert!(refused("[node]\nid = 1\nid = 2").starts_with("node.toml:3: duplicate key"));
    let nowhere = Config::load(Path::new("/nowhere/node.toml")).unwrap_err();
    assert!(nowhere.to_string().contains("mimi-node config example"));
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = with_environment(&[
        ("MIMI_NODE__LINK__LISTEN", "0.0.0.0:9999"),
        ("MIMI_NODE__NODE__PROVIDER", "z.example"),
        ("MIMI_NODE__NODE__ID", "7"),
        ("MIMI_NODE__NODE__DATA_DIR", "/var/lib/mimi"),
        ("MIMI_NODE__LIMITS__REQUEST_DEADLINE_MS", "2500"),
        (
            "MIMI_NODE__PEER",
            "[{domain=\"b.example\", addresses=[\"b.example:7470\"], trust={ca=\"ca.crt\"}}]",
        ),
        ("MIMI_NODE_OTHER", "not ours"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    config.check().unwrap();
    assert_eq!(config.link.listen.to_string(), "0.0.0.0:9999");
    assert_eq!(
        (config.node.provider.as_str(), config.node.id),
        ("z.example", 7)
    );
    assert_eq!(config.node.data_dir, Path::new("/var/lib/mimi"));
    assert_eq!(config.limits.request_deadline_ms, 2_500);
    assert_eq!(config.limits.idle_s, 5);
    assert_eq!(config.peers().unwrap().len(), 1);

    let unknown = with_environment(&[("MIMI_NODE__LINK__LISTN", "x")]).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "the environment (MIMI_NODE__SECTION__KEY): unknown key `link.listn`; did you mean `link.listen`?"
    );
    for (variable, key) in [
        ("MIMI_NODE__NODE__ID", "`node.id`"),
        ("MIMI_NODE__LINK", "`link`"),
    ] {
        let error = with_environment(&[(variable, "one")]).unwrap_err();
        let expected = format!("the environment (MIMI_NODE__SECTION__KEY): {key}: ");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let mut config = peer("b.example:7470", TrustConfig::Ca("ca.crt".into()));
    config.tls.key = "/secret/node.key".into();
    config.resolve(Path::new("/etc/mimi"));
    assert_eq!(config.node.data_dir, Path::new("/etc/mimi/data"));
    assert_eq!(
        config.tls.certificate,
        Path::new("/etc/mimi/pki/a.example.crt")
    );
    assert_eq!(config.tls.key, Path::new("/secret/node.key"));
    assert_eq!(
        config.node.admin_socket,
        Path::new("/etc/mimi/data/admin.sock")
    );
    let trust = TrustConfig::Ca("/etc/mimi/ca.crt".into());
    assert_eq!(config.peer[0].trust, trust);
}

#[test]
fn what_cannot_be_is_refused_with_its_key() {
    let changed = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config.check().unwrap_err().to_string()
    };
    for (refused, key) in [
        (
            changed(|c| c.node.provider = "A.example".to_owned()),
            "node.provider",
        ),
        (changed(|c| c.node.id = 0), "node.id"),
        (
            changed(|c| c.node.speak_release = "v0.7".to_owned()),
            "node.speak_release",
        ),
        (changed(|c| c.node.shards = 0), "node.shards"),
        (changed(|c| c.node.shards = 1_025), "node.shards"),
        (changed(|c| c.door.listen = c.link.listen), "door.listen"),
        (
            changed(|c| c.limits.request_deadline_ms = 99),
            "limits.request_deadline_ms",
        ),
        (
            changed(|c| c.storage.log_bytes_max = 1),
            "storage.log_bytes_max",
        ),
        (
            changed(|c| c.storage.snapshot_entries = 9),
            "storage.snapshot_entries",
        ),
        (changed(|c| c.log.filter = "a=b=c".to_owned()), "log.filter"),
    ] {
        assert!(refused.starts_with(&format!("`{key}`: ")), "{refused}");
    }
}

#[test]
fn metrics_and_health_are_shown_to_this_machine_only() {
    let listen = |text: &str| {
        let mut config = Config::default();
        config.admin.listen = text.to_owned();
        config.check().and_then(|()| config.admin_listen())
    };
    assert_eq!(listen("").unwrap(), None);
    for text in ["127.0.0.1:7490", "[::1]:7490", "127.8.9.10:0"] {
        assert_eq!(listen(text).unwrap(), text.parse().ok(), "{text}");
    }
    for text in ["0.0.0.0:7490", "[::]:7490", "10.0.0.1:7490"] {
        let error = listen(text).unwrap_err().to_string();
        assert!(error.starts_with("`admin.listen`: "), "{error}");
        assert!(error.contains("from other machines"), "{error}");
        assert!(error.contains("use 127.0.0.1 or [::1]"), "{error}");
    }
    for text in ["7490", "127.0.0.1", "localhost:7490", ":7490"] {
        let error = listen(text).unwrap_err().to_string();
        assert!(error.contains("as 127.0.0.1:7490"), "{error}");
    }
}

#[test]
fn a_peer_is_checked() {
    let ca = || TrustConfig::Ca("ca.crt".into());
    for address in ["b.example:7470", "127.0.0.1:1", "[::1]:7470", "host:65535"] {
        assert!(peer(address, ca()).check().is_ok(), "{address}");
    }
    for address in [
        "b.example",
        ":7470",
        "b.example:0",
        "::1:7470",
        "b.example:99999",
        "a b:1",
    ] {
        let error = peer(address, ca()).check().unwrap_err().to_string();
        assert!(
            error.ends_with("is not an address, as host:port"),
            "{error}"
        );
    }
    for pin in ["12".to_owned(), "g".repeat(64), "+f".repeat(32)] {
        let config = peer("b.example:7470", TrustConfig::PinnedKey(pin));
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("64 hexadecimal digits"), "{error}");
    }
    let pinned = peer("b.example:7470", TrustConfig::PinnedKey("0f".repeat(32)));
    let trust = pinned.peers().unwrap().into_values().next().unwrap().trust;
    assert_eq!(trust, PeerTrust::PinnedKey([0x0f; 32]));

    let mut config = peer("b.example:7470", ca());
    config.peer.push(config.peer[0].clone());
    assert!(config.check().unwrap_err().to_string().contains("twice"));
    config.peer[1].domain = config.node.provider.clone();
    assert!(config.check().unwrap_err().to_string().contains("own peer"));
    config.peer[1].domain = "c.example".to_owned();
    config.peer[1].addresses.clear();
    assert!(
        config
            .check()
            .unwrap_err()
            .to_string()
            .contains("at least one")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn damage_anywhere_in_a_file_never_makes_its_reader_panic(
        place in any::<prop::sample::Index>(),
        gone in 0_usize..40,
        damage in "[a-z0-9_.=\"\\[\\]{}#\n é-]{0,12}",
    ) {
        let mut text = include_str!("../../configs/node.toml").to_owned();
        let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let at = place.index(starts.len());
        let end = starts.get(at + gone).copied().unwrap_or(text.len());
        text.replace_range(starts[at]..end, &damage);
        if let Ok(config) = read(&text) {
            drop(config.check());
        }
    }
}
