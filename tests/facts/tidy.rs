//! What Cargo cannot enforce: who may import what, how long a file may be, what no source may hold.
//!
//! Comments and strings are not looked at, so that they may name what code may not use.

#[path = "../planted/bugs.rs"]
mod bugs;
mod circles;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const LINES_MAX: usize = 700;
const LINES_WARNED: usize = 500;
/// What a newcomer reads first has so many bytes, at most.
const README_BYTES_MAX: usize = 9 << 10;
/// The one spelling in which a source names what it implements.
const ANCHOR: &str = "Source: transport requirements, section";

/// A crate, and the only places that may name it.
const IMPORTERS: [(&str, &[&str]); 14] = [
    (
        "openmls",
        &["actors/mls/", "actors/sim/mls/", "src/client/"],
    ),
    (
        "clap",
        &["src/cli/", "src/bench/", "src/demo/", "src/verify/"],
    ),
    ("openraft", &["src/cluster/"]),
    ("sled", &["src/store/"]),
    ("raft_engine", &["src/store/"]),
    ("fjall", &["src/store/"]),
    ("protobuf", &["src/store/"]),
    ("quinn", &["src/quic/"]),
    ("rustls", &["src/quic/"]),
    ("axum", &["src/admin/"]),
    ("metrics", &["src/admin/"]),
    ("metrics_exporter_prometheus", &["src/admin/"]),
    (
        "openmls_rust_crypto",
        &["actors/mls/", "actors/sim/mls/", "src/client/"],
    ),
    (
        "ractor",
        &[
            "actors/host.rs",
            "actors/supervisor.rs",
            // These two hand the supervisor's cell to the actors that they wake, and do no more with it.
            "src/cluster/shard/directory.rs",
            "src/cluster/shard/mod.rs",
        ],
    ),
];

/// Our packages, and those of ours that each is built on. What plays, measures and judges nodes knows no node: it gets
/// the node's program by name, and is linked into it.
const PACKAGES: [(&str, &[&str]); 11] = [
    // For the simulated world, which is judged as a run of nodes is.
    ("mimi-actors", &["mimi-history"]),
    (
        "mimi-bench",
        &[
            "mimi-actors",
            "mimi-client",
            "mimi-operator",
            "mimi-quic",
            "mimi-stage",
        ],
    ),
    ("mimi-client", &["mimi-actors", "mimi-quic"]),
    (
        "mimi-demo",
        &["mimi-actors", "mimi-client", "mimi-operator", "mimi-stage"],
    ),
    ("mimi-history", &[]),
    (
        "mimi-node",
        &[
            "mimi-actors",
            "mimi-bench",
            "mimi-demo",
            "mimi-operator",
            "mimi-quic",
            "mimi-verify",
        ],
    ),
    ("mimi-operator", &["mimi-actors", "mimi-quic"]),
    ("mimi-quic", &["mimi-actors"]),
    (
        "mimi-stage",
        &["mimi-actors", "mimi-client", "mimi-operator", "mimi-quic"],
    ),
    ("mimi-verify", &["mimi-history", "mimi-operator"]),
    ("planted", &[]),
];

/// A source file: its path from the root, its lines, and its code without comments and strings.
struct Source {
    path: String,
    lines: usize,
    text: String,
    code: String,
}

impl Source {
    /// The lines of code that hold `word` as a whole word.
    fn uses<'a>(&'a self, word: &'a str) -> impl Iterator<Item = String> + 'a {
        let lines = self.code.lines().enumerate();
        lines
            .filter(move |(_, line)| has_word(line, word))
            .map(|(number, line)| format!("{}:{}: {}", self.path, number + 1, line.trim()))
    }
}

#[test]
fn only_the_places_named_import_a_crate() {
    let mut found = Vec::new();
    for source in sources(&["src", "actors"]) {
        for (name, places) in IMPORTERS {
            if !places.iter().any(|place| source.path.starts_with(place)) {
                let path = format!("{name}::");
                let import = format!("use {name}");
                let uses = source.uses(name);
                found.extend(uses.filter(|line| line.contains(&path) || line.contains(&import)));
            }
        }
    }
    none(&found);
}

#[test]
fn rooms_users_and_links_never_import_one_another() {
    let parts = ["room", "user", "link"];
    let mut found = Vec::new();
    for part in parts {
        for source in sources(&[&format!("actors/{part}")]) {
            for other in parts.into_iter().filter(|other| *other != part) {
                found.extend(imports(&source, other));
            }
        }
    }
    none(&found);
}

#[test]
fn actors_see_no_clock_no_randomness_and_no_order_of_a_hash_map() {
    let mut found = Vec::new();
    // The last three make real MLS members, which need randomness and the real clock.
    let exempt = [
        "actors/host.rs",
        "actors/supervisor.rs",
        "actors/mls/fixture.rs",
        "actors/mls/mls_rs_tests.rs",
        "actors/sim/mls/real.rs",
    ];
    for source in sources(&["actors"]) {
        if exempt.contains(&&*source.path) {
            continue;
        }
        for word in [
            "Instant",
            "SystemTime",
            "HashMap",
            "HashSet",
            "rand",
            "thread_rng",
            "tokio",
        ] {
            found.extend(source.uses(word));
        }
    }
    none(&found);
}

#[test]
fn packages_are_built_on_those_of_ours_that_the_table_names() {
    let members = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let (_, members) = members.split_once("members = [").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    let places = members.split('"').skip(1).step_by(2);
    let mut found = BTreeMap::new();
    for place in places.chain([""]) {
        let manifest = fs::read_to_string(root().join(place).join("Cargo.toml")).unwrap();
        let (_, package) = manifest.split_once("\nname = \"").unwrap();
        let name = package.split('"').next().unwrap().to_owned();
        let needs = package
            .split_once("\n[dependencies]\n")
            .map_or("", |(_, needs)| needs.split("\n[").next().unwrap());
        let ours = needs.lines().filter(|line| line.starts_with("mimi-"));
        let ours = ours.map(|line| line.split(['.', ' ']).next().unwrap().to_owned());
        found.insert(name, ours.collect::<BTreeSet<String>>());
    }
    let told = PACKAGES.iter().map(|(name, needs)| {
        let needs = needs.iter().map(|need| (*need).to_owned());
        ((*name).to_owned(), needs.collect())
    });
    assert_eq!(found, told.collect::<BTreeMap<_, BTreeSet<_>>>());
}

#[test]
fn actors_without_the_runtime_have_none_in_their_graph() {
    let banned = [
        "tokio",
        "ractor",
        "quinn",
        "sled",
        "raft-engine",
        "openraft",
        "rustls",
    ];
    without_features("mimi-actors", &banned);
}

#[test]
fn a_node_without_the_tools_has_none_in_its_graph() {
    let banned = [
        "mimi-bench",
        "mimi-client",
        "mimi-demo",
        "mimi-history",
        "mimi-stage",
        "mimi-verify",
    ];
    without_features("mimi-node", &banned);
}

/// What a test says of a node holds for its program, and not for a part of its inside.
#[test]
fn programs_of_tests_know_nodes_from_outside_alone() {
    let mut found = Vec::new();
    for source in sources(&["tests"]) {
        // Is built with the sources of a commit before.
        if source.path != "tests/upgrade/write_0_1.rs" {
            found.extend(source.uses("mimi_node"));
        }
    }
    none(&found);
}

/// A package without its default features is built on none of `banned`.
fn without_features(package: &str, banned: &[&str]) {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "-p", package, "--no-default-features"])
        .args(["-e", "normal", "--prefix", "none"])
        .current_dir(root())
        .output()
        .unwrap();
    let text = String::from_utf8(tree.stdout).unwrap();
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    assert!(text.starts_with(package));
    for banned in banned {
        let prefix = format!("{banned} v");
        assert!(
            !text.lines().any(|line| line.starts_with(&prefix)),
            "{banned} is in the graph"
        );
    }
}

#[test]
fn no_file_is_too_long_to_be_read_at_once() {
    let mut found = Vec::new();
    for source in sources(&["src", "actors", "tests", "benches"]) {
        if source.lines > LINES_MAX {
            found.push(format!("{}: {} lines", source.path, source.lines));
        } else if source.lines > LINES_WARNED {
            println!("warning: {} has {} lines", source.path, source.lines);
        }
    }
    none(&found);
}

#[test]
fn nothing_is_left_to_be_done_and_nothing_waits_without_a_bound() {
    let mut found = Vec::new();
    for source in sources(&["src", "actors", "tests"]) {
        for word in ["todo", "unimplemented", "dbg"] {
            let call = format!("{word}!");
            found.extend(source.uses(word).filter(|line| line.contains(&call)));
        }
        let here = source.path == "tests/facts/tidy.rs";
        for (number, line) in source.text.lines().enumerate() {
            if !here && (has_word(line, "TODO") || has_word(line, "FIXME")) {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
        if source.path.starts_with("tests/") {
            continue;
        }
        for word in [
            "unbounded",
            "unbounded_channel",
            "UnboundedSender",
            "UnboundedReceiver",
        ] {
            found.extend(source.uses(word));
        }
        // The channel of the standard library has no bound; its sync_channel has one.
        let channel = source.uses("channel");
        found.extend(channel.filter(|line| line.contains("mpsc::channel()")));
    }
    none(&found);
}

/// Tests of one program run side by side.
#[test]
fn no_test_changes_what_its_whole_process_shares() {
    let mut found = Vec::new();
    for source in sources(&["tests"]) {
        for word in [
            "set_var",
            "remove_var",
            "set_hook",
            "take_hook",
            "set_current_dir",
            "setrlimit",
            "umask",
        ] {
            found.extend(source.uses(word));
        }
    }
    none(&found);
}

#[test]
fn documents_link_to_what_is_there_and_name_files_that_are() {
    let root = root();
    let mut found = Vec::new();
    let mut pages = files(&root.join("docs"), "md");
    pages.push(root.join("README.md"));
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        let name = page.strip_prefix(&root).unwrap().display();
        let links = text.split("](").skip(1);
        for link in links
            .filter_map(|rest| rest.split_once(')'))
            .map(|(to, _)| to)
        {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let to = match file {
                "" => page.clone(),
                file => page.parent().unwrap().join(file),
            };
            let there = fs::read_to_string(&to).unwrap_or_default();
            let named = heading.is_empty() || headings(&there).any(|is| is == heading);
            let outside = link.contains("://");
            if !(outside || to.exists() && named) {
                found.push(format!("{name}: nothing is at {link}"));
            }
        }
        let told = text.split('`').skip(1).step_by(2);
        let tops = ["src/", "actors/", "tests/", "docs/", "configs/", "benches/"];
        for path in told.filter(|told| tops.iter().any(|top| told.starts_with(top))) {
            // A place may be named with what is in it, or with what a command gets.
            let path = path.split([' ', '*']).next().unwrap_or(path);
            if !root.join(path).exists() {
                found.push(format!("{name}: there is no {path}"));
            }
        }
    }
    let bytes = fs::read(root.join("README.md")).unwrap().len();
    if bytes > README_BYTES_MAX {
        found.push(format!("README.md: {bytes} bytes"));
    }
    none(&found);
}

/// The headings of a page, as links name them.
fn headings(page: &str) -> impl Iterator<Item = String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[test]
fn every_bug_can_be_planted_and_stands_in_the_tables_and_no_source_knows_of_any() {
    let root = root();
    let bugs = bugs::read(&root).unwrap_or_else(|misfit| panic!("{misfit}"));
    let misfits = bugs::plant(&root, &bugs).err().unwrap_or_default();
    let mut found: Vec<String> = misfits.iter().map(ToString::to_string).collect();
    for bug in &bugs {
        let stands = |words: &str| -> usize {
            let edits = bug.edits.iter();
            edits.map(|edit| edit.becomes.matches(words).count()).sum()
        };
        let own = stands(&format!("crate::planted::is(\"{}\")", bug.name));
        if own == 0 || own != stands("planted::is") {
            found.push(format!(
                "{}: its guards ask for it, and nothing else",
                bug.name
            ));
        }
    }
    for source in sources(&["src", "actors"]) {
        if source.text.contains("planted") {
            found.push(format!("{}: names what is planted", source.path));
        }
    }
    let in_files = bugs.iter().map(|bug| {
        let worlds = bug.worlds.len();
        format!("{}: {} ({worlds})", bug.name, bug.what)
    });
    let in_files: BTreeSet<String> = in_files.collect();
    let in_tables = bugs_in_tables(&fs::read_to_string(root.join("docs/TESTING.md")).unwrap());
    for odd in in_files.symmetric_difference(&in_tables) {
        found.push(format!(
            "tests/planted/bugs or docs/TESTING.md lacks this: {odd}"
        ));
    }
    none(&found);
}

/// The rows of the tables of planted bugs: the name, what is wrong, and in how many tables it stands.
fn bugs_in_tables(page: &str) -> BTreeSet<String> {
    let (_, section) = page.split_once("\n## Planted bugs").unwrap();
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut times: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let name = row.split('`').nth(1).unwrap_or_default();
        let what = row.trim_end_matches(" |").rsplit("| ").next();
        *times.entry((name, what.unwrap_or_default())).or_default() += 1;
    }
    let rows = times.into_iter();
    rows.map(|((name, what), times)| format!("{name}: {what} ({times})"))
        .collect()
}

#[test]
fn every_feature_names_the_section_it_proves_in_its_first_line() {
    let mut found = Vec::new();
    for path in files(&root().join("tests/features"), "feature") {
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap_or_default();
        if !(first.starts_with("# Source: ") && first.contains(", section")) {
            found.push(format!("{}: {first}", path.display()));
        }
    }
    none(&found);
}

#[test]
fn sources_name_the_sections_they_implement_in_one_spelling() {
    let mut sections: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = Vec::new();
    let mut texts: Vec<(String, String)> = sources(&["src", "actors"])
        .into_iter()
        .map(|source| (source.path, source.text))
        .collect();
    for path in files(&root().join("tests/features"), "feature") {
        let text = fs::read_to_string(&path).unwrap();
        texts.push((path.display().to_string(), text));
    }
    for (path, text) in texts {
        // An anchor may share its sentence with another source, but not be worded otherwise.
        for (number, line) in text.lines().enumerate() {
            if line.contains("transport requirements")
                && !line.contains("transport requirements, section")
            {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
            if let Some((_, rest)) = line.split_once(ANCHOR) {
                for section in numbers(rest) {
                    *sections.entry(section).or_default() += 1;
                }
            }
        }
    }
    for (section, count) in &sections {
        println!("section {section}: named {count} times");
    }
    assert!(sections.contains_key("3.2"), "no source names section 3.2");
    none(&found);
}

#[test]
fn code_is_told_from_comments_and_strings() {
    let code =
        code_of("a(\"quinn::x\"); // sled::y\n/* ractor:: */ b('\"', r#\"c\"d\"#); 'l: loop {}");
    for hidden in ["quinn", "sled", "ractor", "c\"d"] {
        assert!(!code.contains(hidden), "{code}");
    }
    for kept in ["a(", "b(", "'l: loop {}"] {
        assert!(code.contains(kept), "{code}");
    }
    assert_eq!(code.lines().count(), 2);
    assert!(has_word("use rand::x", "rand") && !has_word("operand::x", "rand"));
    assert_eq!(numbers("s 3.2, 4 and 5."), ["3.2", "4", "5"]);
}

/// Where `actors/PART` names `other` of the same crate, in a path or in a grouped import.
fn imports(source: &Source, other: &str) -> Vec<String> {
    let mut found: Vec<String> = source
        .uses(other)
        .filter(|line| line.contains(&format!("crate::{other}")))
        .collect();
    let mut rest = &*source.code;
    while let Some((_, after)) = rest.split_once("use crate::{") {
        let end = after.find("};").unwrap_or(after.len());
        let mut depth = 0;
        let mut name = String::new();
        for c in after[..end].chars().chain([',']) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    if name.trim().split("::").next() == Some(other) {
                        found.push(format!("{}: use crate::{}", source.path, name.trim()));
                    }
                    name.clear();
                }
                c if depth == 0 => name.push(c),
                _ => {}
            }
        }
        rest = &after[end..];
    }
    found
}

/// The numbers of sections at the beginning of a text such as `s 3.2, 4 and 5.`
fn numbers(text: &str) -> Vec<String> {
    let words = text.trim_start_matches('s').split([' ', ',', ';']);
    words
        .take_while(|word| {
            word.is_empty() || *word == "and" || *word == "to" || word.starts_with(char::is_numeric)
        })
        .filter(|word| word.starts_with(char::is_numeric))
        .map(|word| word.trim_end_matches('.').to_owned())
        .collect()
}

fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part))
}

#[track_caller]
fn none(found: &[String]) {
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(places: &[&str]) -> Vec<Source> {
    let paths = places
        .iter()
        .flat_map(|place| files(&root().join(place), "rs"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        Source {
            path: path.strip_prefix(root()).unwrap().display().to_string(),
            lines: text.lines().count(),
            code: code_of(&text),
            text,
        }
    };
    paths.map(read).collect()
}

/// The files below a folder that end in `.EXTENSION`, in order; none when there is no folder.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Rust code with comments and strings left out, on the same lines.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = skipped(rest);
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            rest = &rest[skipped..];
        }
    }
    code
}

/// How many bytes of a comment, string or character `text` begins with.
fn skipped(text: &str) -> usize {
    let until = |end: &str, from: usize| {
        text[from..]
            .find(end)
            .map_or(text.len(), |at| from + at + end.len())
    };
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return until("*/", 2);
    }
    if let Some(raw) = text.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return until(&format!("\"{}", "#".repeat(hashes)), hashes + 2);
        }
    }
    if text.starts_with('"') {
        let mut escaped = false;
        for (at, c) in text.char_indices().skip(1) {
            match c {
                '"' if !escaped => return at + 1,
                '\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        return text.len();
    }
    // A character, not a lifetime: three characters, or an escape.
    let mut chars = text.char_indices();
    if chars.next().is_some_and(|(_, c)| c == '\'') {
        return match (chars.next(), chars.next()) {
            (Some((_, '\\')), Some((at, _))) => until("'", at + 1),
            (Some(_), Some((at, '\''))) => at + 1,
            _ => 0,
        };
    }
    0
}
