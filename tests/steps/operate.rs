//! What an operator does, and what is said back: commands with their exit codes and lines, signals, files that are not as
//! they should be.

use super::{Story, support};
use cucumber::{given, then, when};
use mimi_operator::protocol::{Request, Response};
use mimi_quic::issue::{create_ca, create_certificate};
use rustix::process::{Pid, Signal};
use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};
use support::{Net, until};

/// What stands for anything in a line that is expected.
const ANYTHING: char = '…';

/// The commands of a story.
#[derive(Debug, Default)]
pub struct Desk {
    /// The last command that has ended.
    ended: Option<Output>,
    /// Where commands without a provider run.
    dir: Option<tempfile::TempDir>,
    /// A node that a command has started.
    serving: Option<Serving>,
    /// A port that is taken.
    taken: Option<std::net::UdpSocket>,
}

/// A process of a story, ended with it.
#[derive(Debug)]
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // It is our own child and was not waited for: the id is still its.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Desk {
    fn ended(&self) -> &Output {
        self.ended.as_ref().expect("a command has ended")
    }

    fn dir(&mut self) -> &Path {
        self.dir
            .get_or_insert_with(|| tempfile::tempdir().unwrap())
            .path()
    }

    /// Takes note of a command that has ended.
    pub fn ends(&mut self, output: Output) {
        self.ended = Some(output);
    }

    /// The last line on standard error.
    fn said(&self) -> String {
        let stderr = String::from_utf8_lossy(&self.ended().stderr).into_owned();
        stderr.lines().last().unwrap_or_default().to_owned()
    }
}

pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mimi-node"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn spawned(mut command: Command) -> Child {
    command.spawn().unwrap()
}

/// Waits for a command; the reading goes on meanwhile, so that none stands still for a full pipe.
pub async fn output_of(child: Child) -> Output {
    let pid = Pid::from_child(&child);
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output());
    let ended = tokio::time::timeout(2 * support::WAIT, waiting).await;
    let Ok(output) = ended else {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        panic!("a command did not end");
    };
    output.unwrap().unwrap()
}

/// Whether a line is as expected, where `…` stands for anything.
pub fn fits(line: &str, expected: &str) -> bool {
    let mut rest = line;
    let mut parts = expected.split(ANYTHING).peekable();
    let first = parts.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else {
        return false;
    };
    rest = after;
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    true
}

fn config_of(story: &Story, name: &str) -> PathBuf {
    story.net().node(name).config.clone()
}

/// A command to a node: its words, and the configuration.
pub fn command_for(story: &Story, name: &str, words: &str) -> Command {
    let mut command = binary();
    let node = story.net().node(name);
    let words = super::membership::with_addresses(story.net(), words);
    command
        .args(words.split_whitespace())
        .arg("--config")
        .arg(&node.config)
        .envs(node.env.iter().map(|(key, value)| (key, value)));
    command
}

#[given(regex = r"^the files of (\S+)$")]
fn files_of(story: &mut Story, provider: String) {
    story.net = Some(Net::prepare(&[&*provider]));
}

#[given(regex = r"^the files of (\S+) and (\S+)$")]
fn files_of_two(story: &mut Story, one: String, other: String) {
    story.net = Some(Net::prepare(&[&*one, &*other]));
}

#[given(regex = r"^(\d) nodes of (\S+), alone$")]
async fn nodes_alone(story: &mut Story, nodes: u64, provider: String) {
    story.net = Some(Net::start_clusters(&[(&*provider, nodes)]).await);
}

#[given(regex = r"^(\S+) runs$")]
#[when(regex = r"^(\S+) is started$")]
async fn started(story: &mut Story, name: String) {
    story.net_mut().node_mut(&name).start().await;
}

#[when(regex = r"^the process(?:es)? of ([\w., ]+) (?:is|are) killed$")]
fn killed(story: &mut Story, list: String) {
    for name in super::names(&list) {
        story.net_mut().node_mut(&name).kill();
    }
}

#[when(regex = r#"^the operator of (\S+) runs "(.+)"$"#)]
async fn runs(story: &mut Story, name: String, words: String) {
    let command = command_for(story, &name, &words);
    story.desk.ended = Some(output_of(spawned(command)).await);
}

#[when(regex = r#"^somebody runs "(.+)"$"#)]
async fn runs_alone(story: &mut Story, words: String) {
    let mut command = binary();
    command
        .args(words.split_whitespace())
        .current_dir(story.desk.dir());
    story.desk.ended = Some(output_of(spawned(command)).await);
}

#[when(regex = r#"^the operator of (\S+) runs "(.+)" until the node is frozen and killed$"#)]
async fn runs_until_killed(story: &mut Story, name: String, words: String) {
    story.net().node(&name).freeze();
    let mut child = spawned(command_for(story, &name, &words));
    // It says that it waits: its request has been sent.
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let reading = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        (line, stderr)
    });
    let (line, mut stderr) = tokio::time::timeout(support::WAIT, reading)
        .await
        .expect("it says that it waits")
        .unwrap();
    assert!(line.starts_with("... "), "{line}");
    story.net_mut().node_mut(&name).kill();
    let mut output = output_of(child).await;
    let mut rest = line.into_bytes();
    stderr.read_to_end(&mut rest).unwrap();
    output.stderr = rest;
    story.desk.ended = Some(output);
}

#[when(regex = r#"^the operator of (\S+) runs "(.+)", which nobody reads$"#)]
async fn nobody_reads(story: &mut Story, name: String, words: String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = command_for(story, &name, &words);
    command.stdout(writer);
    story.desk.ended = Some(output_of(spawned(command)).await);
}

#[when(regex = r#"^somebody runs "(.+)", of which one line is read$"#)]
async fn one_line_read(story: &mut Story, words: String) {
    let mut command = binary();
    command.args(words.split_whitespace());
    let mut child = spawned(command);
    let stdout = child.stdout.take().unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        line
    });
    let line = tokio::time::timeout(2 * support::WAIT, reading).await;
    assert!(!line.unwrap().unwrap().is_empty());
    story.desk.ended = Some(output_of(child).await);
}

#[when(regex = r#"^the operator of (\S+) runs "(.+)" onto a full disk$"#)]
async fn onto_full_disk(story: &mut Story, name: String, words: String) {
    let mut command = command_for(story, &name, &words);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    command.stdout(full.unwrap());
    story.desk.ended = Some(output_of(spawned(command)).await);
}

#[when(regex = r#"^(\d+) users are added at (\S+) while the leader of each is killed$"#)]
async fn added_meanwhile(story: &mut Story, count: usize, name: String) {
    let victim = {
        let cluster = story.net().node(&name).cluster().await;
        let other = cluster.shards.iter().filter_map(|row| row.leader);
        other
            .into_iter()
            .find(|leader| *leader != cluster.node)
            .expect("another node leads a shard")
    };
    let adding: Vec<_> = (0..count)
        .map(|number| spawned(command_for(story, &name, &format!("user add u{number}"))))
        .collect();
    let victim = support::net::name_of(story.net().node(&name).provider.as_str(), victim);
    story.net_mut().node_mut(&victim).kill();
    for child in adding {
        let output = output_of(child).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
    }
}

#[then(regex = r"^it ends with (\d+)$")]
fn ends_with(story: &mut Story, code: i32) {
    let output = story.desk.ended();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
}

#[then(regex = r#"^it says "(.+)"$"#)]
fn says(story: &mut Story, expected: String) {
    let said = story.desk.said();
    assert!(
        fits(&said, &expected),
        "said:     {said}\nexpected: {expected}"
    );
}

#[then("it says nothing")]
fn says_nothing(story: &mut Story) {
    let said = String::from_utf8_lossy(&story.desk.ended().stderr);
    assert_eq!(said, "");
}

#[then(regex = r#"^it says in JSON: code "(\w+)", exit (\d+), message "(.+)"$"#)]
fn says_in_json(story: &mut Story, code: String, exit: u64, expected: String) {
    let said: serde_json::Value = serde_json::from_str(&story.desk.said()).unwrap();
    let message = said["message"].as_str().unwrap();
    assert_eq!(said["code"], code, "{said}");
    assert_eq!(said["exit"], exit, "{said}");
    assert!(
        fits(message, &expected),
        "said:     {message}\nexpected: {expected}"
    );
}

#[then(regex = r#"^it prints "(.+)"$"#)]
fn prints(story: &mut Story, expected: String) {
    let printed = String::from_utf8_lossy(&story.desk.ended().stdout).into_owned();
    let found = printed.lines().any(|line| fits(line, &expected));
    assert!(found, "expected: {expected}\nprinted:\n{printed}");
}

#[then("it has said that it waits")]
fn said_that_it_waits(story: &mut Story) {
    let said = String::from_utf8_lossy(&story.desk.ended().stderr);
    let line = "... the node has not answered yet; it is waited for, up to 90 s";
    assert_eq!(said.lines().next(), Some(line), "{said}");
}

#[when(regex = r"^(\S+) gets a SIG(\w+)$")]
fn gets(story: &mut Story, name: String, signal: String) {
    let signal = match &*signal {
        "HUP" => Signal::HUP,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "QUIT" => Signal::QUIT,
        "TERM" => Signal::TERM,
        "PIPE" => Signal::PIPE,
        other => panic!("no such signal: {other}"),
    };
    story.net().node(&name).signal(signal);
}

#[then(regex = r"^the node (\S+) ends with (\d+)$")]
async fn node_ends(story: &mut Story, name: String, code: i32) {
    let status: ExitStatus = story.net_mut().node_mut(&name).ended().await;
    assert_eq!(
        (status.code(), status.signal()),
        (Some(code), None),
        "{}",
        story.net().tails()
    );
}

#[then(regex = r#"^the log of (\S+) says "(.+)"$"#)]
async fn log_says(story: &mut Story, name: String, expected: String) {
    let node = story.net().node(&name);
    until(&format!("the log says {expected}"), async || {
        let log = node.log();
        let found = log.iter().any(|line| fits(&message(line), &expected));
        found.then_some(())
    })
    .await;
}

#[then(regex = r#"^the log of (\S+) says because of "(.+)": "(.+)"$"#)]
async fn log_says_why(story: &mut Story, name: String, why: String, expected: String) {
    let node = story.net().node(&name);
    until(&format!("the log says {expected}: {why}"), async || {
        let log = node.log();
        let found = log.iter().any(|line| {
            fits(&message(line), &expected)
                && field(line, "why").is_some_and(|said| fits(&said, &why))
        });
        found.then_some(())
    })
    .await;
}

#[then(regex = r#"^the lines "(.+)" in the log of (\S+) name an address$"#)]
fn lines_name_address(story: &mut Story, expected: String, name: String) {
    let log = story.net().node(&name).log();
    let lines: Vec<_> = log
        .iter()
        .filter(|line| fits(&message(line), &expected))
        .collect();
    assert!(!lines.is_empty());
    for line in lines {
        let address = field(line, "address").unwrap_or_default();
        assert!(address.parse::<std::net::SocketAddr>().is_ok(), "{line}");
    }
}

/// What a node has logged of its start: its lines come after its readiness is seen elsewhere.
async fn log_of_start(story: &Story, name: &str) -> Vec<String> {
    until("the log of the start is read", async || {
        let log = story.net().node(name).log();
        let ready = log.iter().any(|line| message(line) == "node ready");
        ready.then_some(log)
    })
    .await
}

#[then(regex = r"^no line of the log of (\S+) names a source file$")]
async fn no_source_files(story: &mut Story, name: String) {
    let log = log_of_start(story, &name).await;
    assert!(log.iter().any(|line| line.contains("fjall")), "{log:#?}");
    for line in &log {
        for part in ["log.file", ".rs", "/registry/", "/rustc/"] {
            assert!(!line.contains(part), "{line}");
        }
    }
}

#[then(regex = r"^no line of the log of (\S+) is of openraft, raft_engine or fjall$")]
async fn libraries_are_quiet(story: &mut Story, name: String) {
    let log = log_of_start(story, &name).await;
    assert!(log.len() > 16, "{log:#?}");
    for line in &log {
        let target = field(line, "target").unwrap_or_default();
        let loud = ["openraft", "raft_engine", "fjall", "lsm_tree"];
        assert!(!loud.iter().any(|loud| target.starts_with(loud)), "{line}");
    }
}

#[then(regex = r"^the operator of (\S+) sees that all is well$")]
async fn all_is_well(story: &mut Story, name: String) {
    let node = story.net().node(&name);
    until("all is well", async || {
        node.status().await.unwell.is_empty().then_some(())
    })
    .await;
    let output = output_of(spawned(command_for(story, &name, "status"))).await;
    assert_eq!(output.status.code(), Some(0));
}

#[given(regex = r"^(\S+) has a certificate of another CA$")]
fn other_ca(story: &mut Story, provider: String) {
    let other = story.net().path("other");
    create_ca(&other).unwrap();
    create_certificate(&other, &provider.parse().unwrap(), &other).unwrap();
    uses_certificate_in(story, &provider, "other");
}

/// Has a provider use the certificate and key in a directory.
fn uses_certificate_in(story: &mut Story, provider: &str, directory: &str) {
    for kind in ["crt", "key"] {
        let file = format!("{provider}.{kind}");
        let other = format!("{directory}/{file}");
        configured(story, provider.to_owned(), other, file);
    }
}

#[given(regex = r"^the certificate of (\S+) ends in (\d+) days$")]
async fn ends_in(story: &mut Story, provider: String, days: u16) {
    let mut command = binary();
    command
        .args(["pki", "cert", "--ca", ".", "--out", "soon"])
        .args(["--domain", &provider, "--days", &days.to_string()])
        .current_dir(story.net().dir.path());
    let output = output_of(spawned(command)).await;
    assert!(output.status.success(), "{output:?}");
    uses_certificate_in(story, &provider, "soon");
}

#[given(regex = r"^the certificate of (\S+) has ended$")]
fn has_ended(story: &mut Story, provider: String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![provider.clone()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    let file = |kind: &str| story.net().path(&format!("{provider}.{kind}"));
    std::fs::write(file("crt"), certificate.pem()).unwrap();
    std::fs::write(file("key"), key.serialize_pem()).unwrap();
}

/// A field of a line of a log.
fn field(line: &str, name: &str) -> Option<String> {
    let read: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(read[name].as_str()?.to_owned())
}

/// What a line of a log says, without its time and fields; a line that is no JSON is that itself.
fn message(line: &str) -> String {
    let read: Option<serde_json::Value> = serde_json::from_str(line).ok();
    let message = read.and_then(|read| Some(read["message"].as_str()?.to_owned()));
    message.unwrap_or_else(|| line.to_owned())
}

#[then(regex = r#"^"(.+)" is said (\d+) times? in the log of (\S+)$"#)]
async fn said_so_often(story: &mut Story, expected: String, count: usize, name: String) {
    let said = || {
        let log = story.net().node(&name).log();
        let found = log.iter().filter(|line| fits(&message(line), &expected));
        found.count()
    };
    // Lines are read a little after they were written.
    until(&format!("{expected} is said {count} times"), async || {
        (said() >= count).then_some(())
    })
    .await;
    assert_eq!(said(), count, "{:#?}", story.net().node(&name).log());
}

#[then(regex = r"^(\S+) still answers$")]
async fn still_answers(story: &mut Story, name: String) {
    drop(story.net().node(&name).status().await);
}

#[given(regex = r"^the configuration of (\S+) says '(.+)' for '(.+)'$")]
fn configured(story: &mut Story, name: String, to: String, from: String) {
    let config = config_of(story, &name);
    let to = to.replace("\\n", "\n");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains(&from), "{text}");
    std::fs::write(config, text.replacen(&from, &to, 1)).unwrap();
}

#[given(regex = r"^the file (\S+) has the mode (\d+)$")]
#[when(regex = r"^the file (\S+) gets the mode (\d+)$")]
fn has_mode(story: &mut Story, file: String, mode: String) {
    let mode = u32::from_str_radix(&mode, 8).unwrap();
    let path = story.net().path(&file);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[then(regex = r"^everything in (\S+) is its owner's alone$")]
fn closed_to_others(story: &mut Story, directory: String) {
    let mut left = vec![story.net().path(&directory)];
    let mut looked_at = 0;
    while let Some(path) = left.pop() {
        // The engine makes and removes files meanwhile.
        let Ok(metadata) = std::fs::symlink_metadata(&path) else {
            continue;
        };
        let mode = metadata.permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
        looked_at += 1;
        if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path()));
        }
    }
    assert!(looked_at > 3);
}

#[given(regex = r#"^a file (\S+) that says "(.*)"$"#)]
fn a_file(story: &mut Story, file: String, text: String) {
    std::fs::write(story.net().path(&file), text).unwrap();
}

#[then(regex = r#"^the file (\S+) still says "(.*)"$"#)]
fn still_says(story: &mut Story, file: String, text: String) {
    let found = std::fs::read_to_string(story.net().path(&file)).unwrap();
    assert_eq!(found, text);
}

#[given(regex = r"^there is no file (\S+)$")]
fn no_file(story: &mut Story, file: String) {
    std::fs::remove_file(story.net().path(&file)).unwrap();
}

#[given(regex = r"^the data directory of (\S+) is so deep that its socket has (\d+) bytes$")]
fn deep(story: &mut Story, provider: String, bytes: usize) {
    let socket = "/admin.sock".len();
    let root = story.net().dir.path().as_os_str().len() + 1;
    let name = "d".repeat(bytes - socket - root);
    let from = format!("{provider}-data");
    configured(story, provider.clone(), name.clone(), from);
    let data = story.net().path(&name);
    story.net_mut().node_mut(&provider).data = data;
}

#[given(regex = r"^somebody else listens at the (link|door) of (\S+)$")]
fn taken(story: &mut Story, which: String, name: String) {
    let node = story.net().node(&name);
    let address = if which == "link" {
        node.link
    } else {
        node.door
    };
    story.desk.taken = Some(std::net::UdpSocket::bind(address).unwrap());
}

/// The lines of the block of code that follows a heading of the README, without their comments.
fn block_after(heading: &str) -> Vec<String> {
    let readme = include_str!("../../README.md");
    let (_, after) = readme.split_once(heading).expect("the heading is there");
    let block = after.split("```").nth(1).expect("a block of code follows");
    let lines = block
        .lines()
        .skip(1)
        .map(|line| match line.split_once(" # ") {
            Some((command, _)) => command.trim(),
            None => line.trim(),
        });
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[when(regex = r#"^the commands under "(.+)" in the README are run, one after the other$"#)]
async fn readme_is_run(story: &mut Story, heading: String) {
    let lines = block_after(&heading);
    assert!(lines.len() >= 5, "{lines:?}");
    let directory = story.desk.dir().to_owned();
    let binaries = Path::new(env!("CARGO_BIN_EXE_mimi-node")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    // The ports of this machine may be taken.
    let (link, door) = (support::free_address(), support::free_address());
    for line in &lines {
        let serves = line.contains(" serve ");
        let mut shell = Command::new("sh");
        shell
            .args([
                "-ec",
                &if serves {
                    format!("exec {line}")
                } else {
                    line.clone()
                },
            ])
            .current_dir(&directory)
            .env("PATH", &path)
            .env("MIMI_NODE__LINK__LISTEN", link.to_string())
            .env("MIMI_NODE__DOOR__LISTEN", door.to_string())
            .stdin(Stdio::null());
        if serves {
            shell.stdout(Stdio::null()).stderr(Stdio::null());
            story.desk.serving = Some(Serving(shell.spawn().unwrap()));
            let socket = directory.join("data/admin.sock");
            until("the node answers", async || {
                let answer = mimi_operator::ask::ask(&socket, &Request::Status).await;
                matches!(answer, Ok(Response::Status(_))).then_some(())
            })
            .await;
            continue;
        }
        shell.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = output_of(shell.spawn().unwrap()).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{line}\n{said}");
        story.desk.ended = Some(output);
    }
    assert!(story.desk.serving.is_some(), "{lines:?}");
}
