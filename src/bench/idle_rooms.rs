//! `bench idle-rooms`: a node with very many rooms that nobody uses: how long it takes to start, and what memory they take.
//!
//! The node's own code puts the rooms into its log, by commands that are made and checked here once, and seals them as it
//! always does; then a real process starts on that directory. Each room has two members, is in epoch 1 and has emitted one event. The members' users are
//! not there and their notices count as delivered: what users and KeyPackages take is not in the figures.

use super::{clock::now, process};
use anyhow::{Context, bail, ensure};
use mimi_actors::{
    ids::RoomUri,
    mls::check::{
        bundle::{Terms, check_bundle},
        create::check_create,
        hub_senders::HubSenders,
    },
    room::{
        checks::COMMIT_RATE,
        hub::{CheckedOn, Command, Commit, Create},
    },
    wire::{
        Payload,
        door::HubSender,
        event::{Epoch, Hash},
    },
};
use mimi_client::member::{Member, PackageOptions};
use mimi_operator::{
    output,
    protocol::{Request, Response, Status},
};
use mimi_stage::Stage;
use serde_json::json;
use std::{
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a start may take.
const START_DEADLINE: Duration = Duration::from_secs(1_800);
/// How long a node may take until it has nothing left to do.
const IDLE_DEADLINE: Duration = Duration::from_secs(1_800);
/// How often a node is looked at that should become idle.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// By how much the memory of a node may change between two looks that is idle, in MiB.
const STEADY_MIB: f64 = 2.0;
/// Looks in a row at which nothing may have changed.
const STEADY_LOOKS: usize = 4;

/// Arguments of `bench idle-rooms`.
#[derive(Debug, clap::Args)]
pub(super) struct IdleRooms {
    /// Rooms
    #[arg(long, default_value_t = 100_000, value_parser = super::some::<u32>)]
    rooms: u32,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl IdleRooms {
    /// Measures and prints.
    pub(super) async fn run(
        self,
        program: &Path,
        fill: impl AsyncFnOnce(&Path, &[RoomUri], &[Arc<Command>]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        ensure!(self.rooms > 0, "--rooms must be 1 or more");
        let mut stage = Stage::build(program, &['a'], 1, None).await?;
        stage.kill('a').await?;
        quick_to_sleep(stage.config('a')?)?;
        output::progress(&format!("{} rooms into the log, and sealed", self.rooms));
        let filled = Instant::now();
        let hub = "a.example".parse()?;
        let rooms = (0..self.rooms).map(|number| RoomUri::new(&hub, &format!("idle-{number}")));
        let rooms: Vec<RoomUri> = rooms.collect::<Result<_, _>>()?;
        fill(&stage.data('a')?, &rooms, &commands()?).await?;
        let fill_s = filled.elapsed().as_secs_f64();
        output::progress("a start on them");
        let started = Instant::now();
        stage.restart_within('a', START_DEADLINE).await?;
        let start_s = started.elapsed().as_secs_f64();
        let pid = stage
            .pids('a')?
            .into_iter()
            .next()
            .context("the node runs")?;
        let status = idle(&mut stage, pid).await?;
        let rss_mib = process::rss_mib(pid)?;
        let peak_mib = process::peak_rss_mib(pid)?;
        stage.end().await?;
        let asleep = status.actors_asleep;
        ensure!(
            asleep >= self.rooms as usize,
            "{asleep} actors are asleep, {} rooms were made",
            self.rooms
        );
        let figures = json!({
            "bench": "idle-rooms",
            "rooms": self.rooms,
            "rss_gib": hundredths(rss_mib / 1_024.0),
            "rss_mib": hundredths(rss_mib),
            "start_s": hundredths(start_s),
            "peak_rss_gib": hundredths(peak_mib / 1_024.0),
            "bytes_per_room": (rss_mib * f64::from(1 << 20) / f64::from(self.rooms)).round(),
            "fill_s": hundredths(fill_s),
        });
        if self.json {
            return output::json(&figures);
        }
        for (name, value) in figures.as_object().into_iter().flatten() {
            output::line(&format!("{name:>16}  {value}"));
        }
        Ok(())
    }
}

/// Has a node put to sleep at once whom nobody uses.
fn quick_to_sleep(config: &Path) -> anyhow::Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).open(config)?;
    file.write_all(b"[limits]\nidle_s = 1\n")?;
    Ok(())
}

/// Waits until every actor sleeps, the log does not grow, and the memory of `pid` has stayed as it is for some looks: a start
/// may have snapshots sealed, one shard after the other, which takes memory for as long as it lasts.
async fn idle(stage: &mut Stage, pid: u32) -> anyhow::Result<Status> {
    let deadline = Instant::now() + IDLE_DEADLINE;
    let (mut entries, mut rss_mib, mut steady) = (0, 0.0, 0);
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let Response::Status(status) = stage.ask('a', &Request::Status).await? else {
            bail!("the node answered something else");
        };
        let now_mib = process::rss_mib(pid)?;
        let is_as_before = status.actors_awake == 0
            && status.log_entries == entries
            && (now_mib - rss_mib).abs() < STEADY_MIB;
        steady = if is_as_before { steady + 1 } else { 0 };
        if steady == STEADY_LOOKS {
            return Ok(status);
        }
        (entries, rss_mib) = (status.log_entries, now_mib);
        ensure!(Instant::now() < deadline, "the node does not become idle");
    }
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// What makes a room of two members: its creation, and the Commit that adds the second. All rooms get the same, for the
/// hub tells groups apart by their room.
fn commands() -> anyhow::Result<Vec<Arc<Command>>> {
    let mut alice = Member::create("mimi://a.example/d/alice/1".parse()?, None)?;
    let mut bob = Member::create("mimi://a.example/d/bob/1".parse()?, None)?;
    let room = "mimi://a.example/r/idle".parse()?;
    let hub = HubSender {
        provider: "a.example".parse()?,
        signature_key: alice.device().public(),
    };
    let opening = alice.prepare_room(&room, &hub)?;
    let creator = alice.client().clone();
    let created = check_create(
        &opening.group_info,
        &opening.tree,
        &HubSenders::new(&hub.provider, vec![hub.signature_key]),
        &creator,
        &Terms::default(),
    )?;
    let packages = bob.key_packages(1, &PackageOptions::default())?;
    let packages: Vec<_> = packages.into_iter().map(Payload).collect();
    let add = alice.prepare_add(&room, &packages)?;
    let checked = check_bundle(
        &created.view,
        &[],
        &add.bundle(),
        &creator,
        now(),
        &Terms::default(),
    )?;
    let commit = Commit {
        sender: creator.clone(),
        on: CheckedOn {
            epoch: Epoch(0),
            pending: Hash::of_parts([]),
        },
        bundle: Hash::of(&add.commit),
        commit: add.commit,
        welcome: add.welcome,
        checked,
        rate: COMMIT_RATE,
        behind: Vec::new(),
    };
    let create = Create {
        creator,
        view: created.view,
        members: created.members,
    };
    Ok(vec![
        Arc::new(Command::Create(create)),
        Arc::new(Command::Commit(Box::new(commit))),
    ])
}
