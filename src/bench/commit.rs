//! `bench commit`: Commits over many rooms from prepared bundles, against a node with a synced log; and what the check of
//! one bundle costs, by group size and container of its tree.
//!
//! Source: transport requirements, section 3.2.

mod check;

use super::process;
use anyhow::{Context, bail, ensure};
use mimi_actors::{
    ids::RoomUri,
    wire::{answer::Answer, room, tree::TreeKind},
};
use mimi_client::member::{PackageOptions, packages};
use mimi_operator::{
    output,
    protocol::{Request, Response},
};
use mimi_stage::{Stage, cast::Cast};
use serde_json::json;
use std::{path::Path, time::Instant};

/// Clients of the second user in a room, at most.
const CLIENTS_MAX: usize = 31;
/// The limit on Commits is there against those who do what this bench does.
const UNLIMITED: &str = "[commits]
member = { burst = 1000000, per_minute = 60000 }
";
/// KeyPackages that each of them uploads at a time.
const PACKAGES: usize = 64;

/// Arguments of `bench commit`.
#[derive(Debug, clap::Args)]
pub(super) struct CommitBench {
    /// Rooms, each with one Commit under way
    #[arg(long, default_value_t = 64, value_parser = super::some::<usize>)]
    rooms: usize,
    /// Members of each room
    #[arg(long, default_value_t = 10, value_parser = super::some::<usize>)]
    members: usize,
    /// Commits prepared for each room
    #[arg(long, default_value_t = 100, value_parser = super::some::<usize>)]
    commits: usize,
    /// Container of the trees under load: full, zstd, delta or distributionService
    #[arg(long, default_value = "delta", value_parser = container)]
    container: TreeKind,
    /// Sizes of the groups in which one check is measured
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,5000", value_parser = super::some::<usize>)]
    sizes: Vec<usize>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

fn container(name: &str) -> Result<TreeKind, String> {
    let mut measured = check::CONTAINERS.into_iter();
    let found = measured.find(|kind| kind.name() == name);
    found.ok_or_else(|| "full, zstd, delta or distributionService".to_owned())
}

impl CommitBench {
    /// Measures and prints.
    pub(super) async fn run(self, program: &Path) -> anyhow::Result<()> {
        ensure!(
            (2..=CLIENTS_MAX + 1).contains(&self.members),
            "--members must be 2 to {}",
            CLIENTS_MAX + 1
        );
        ensure!(self.rooms > 0 && self.commits > 0, "nothing to measure");
        let mut figures = self.load(program).await?;
        let mut per_commit = Vec::new();
        for members in &self.sizes {
            output::progress(&format!("checks in a group of {members}"));
            per_commit.extend(check::measure(*members)?);
        }
        let all = figures.as_object_mut().context("figures are an object")?;
        all.insert("per_commit".to_owned(), per_commit.into());
        if self.json {
            return output::json(&figures);
        }
        for (name, value) in figures.as_object().into_iter().flatten() {
            match value.as_array() {
                None => output::line(&format!("{name:>28}  {value}")),
                Some(rows) => rows.iter().for_each(|row| output::line(&row.to_string())),
            }
        }
        Ok(())
    }

    async fn load(&self, program: &Path) -> anyhow::Result<serde_json::Value> {
        output::progress("a provider, rooms, members, prepared Commits");
        let mut stage = Stage::build_with(program, &['a'], 1, None, UNLIMITED).await?;
        let mut cast = Cast::default();
        let rooms = self.prepare(&mut stage, &mut cast).await?;
        let last = rooms
            .first()
            .and_then(|(room, chain)| Some((room, chain.last()?)));
        let bytes = last.map_or(0, |(room, bundle)| check::frame_bytes(room, bundle));
        output::progress("load");
        let before = usage(&mut stage).await?;
        let began = Instant::now();
        let door = cast.get("alice1")?.door()?;
        let running = rooms.into_iter().map(|(room, chain)| async move {
            for bundle in chain {
                let commit = room::Request::Commit(bundle);
                let answer = door.ask(room.clone(), commit).await?;
                ensure!(
                    matches!(answer, Answer::Committed(_)),
                    "{room}: the hub answered {answer:?}"
                );
            }
            Ok(())
        });
        futures::future::try_join_all(running).await?;
        let seconds = began.elapsed().as_secs_f64();
        let after = usage(&mut stage).await?;
        stage.end().await?;
        let commits = (self.rooms * self.commits) as f64;
        let (cpu_s, syncs) = (after.0 - before.0, after.1 - before.1);
        ensure!(syncs > 0, "nothing was synced");
        Ok(json!({
            "bench": "commit",
            "rooms": self.rooms,
            "members": self.members,
            "container": self.container.name(),
            "bytes": bytes,
            "commits": commits,
            "seconds": (seconds * 1_000.0).round() / 1_000.0,
            "commits_per_s": (commits / seconds).round(),
            "hub_cpu_us_per_commit": (cpu_s * 1e6 / commits).round(),
            "log_syncs": syncs,
        }))
    }

    /// Rooms at the node, and for each a chain of Commits by Alice, each good when the one before was accepted.
    async fn prepare(
        &self,
        stage: &mut Stage,
        cast: &mut Cast,
    ) -> anyhow::Result<Vec<(RoomUri, Vec<room::Bundle>)>> {
        let usual = PackageOptions::default;
        let names: Vec<String> = (1..self.members)
            .map(|number| format!("bob{number}"))
            .collect();
        let devices: Vec<_> = names.iter().map(|name| (name.as_str(), usual())).collect();
        let alice = cast
            .enter(stage, 'a', "alice", &[("alice1", usual())])
            .await?;
        let bob = cast.enter(stage, 'a', "bob", &devices).await?;
        let consent = Request::Consent {
            user: "bob".into(),
            requester: alice.into(),
            room: None,
            grant: Some(true),
        };
        stage.ask('a', &consent).await?;
        let mut rooms = Vec::with_capacity(self.rooms);
        for number in 0..self.rooms {
            if number % PACKAGES == 0 {
                for name in &names {
                    cast.get(name)?.upload(PACKAGES).await?;
                }
            }
            let room = RoomUri::new(&"a.example".parse()?, &format!("bench-{number}"))?;
            let member = cast.get("alice1")?;
            member.send_trees_as(self.container);
            let claimed = member
                .claim(Some(room.clone()), std::slice::from_ref(&bob))
                .await?;
            member.create_room(&room).await?;
            let add = member.prepare_add(&room, &packages(&claimed))?;
            member.commit(&add).await?;
            let mut chain = Vec::with_capacity(self.commits);
            for _ in 0..self.commits {
                chain.push(member.prepare_update(&room)?.bundle());
                member.commit_accepted(&room)?;
            }
            rooms.push((room, chain));
        }
        Ok(rooms)
    }
}

/// CPU seconds that the node has used, and how often it synced its log.
async fn usage(stage: &mut Stage) -> anyhow::Result<(f64, u64)> {
    let Response::Status(status) = stage.ask('a', &Request::Status).await? else {
        bail!("the node says nothing of itself");
    };
    let pids = stage.pids('a')?;
    let pid = pids.first().context("the node runs")?;
    Ok((process::cpu_s(*pid)?, status.log_syncs))
}
