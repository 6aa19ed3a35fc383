//! `bench failover`: a provider of three nodes, a room led by each, and somebody who writes to each room all the time at
//! the doors of nodes that are well. Something happens to one node; the longest time in which a room accepted nothing.

mod fault;
mod writer;

use anyhow::{Context, ensure};
use fault::{Fault, Small};
use mimi_actors::ids::RoomUri;
use mimi_operator::output;
use mimi_stage::{Stage, proxy::Network};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};
use writer::Writers;

/// Nodes of the provider.
const NODES: u64 = 3;
/// How long it is looked at what a fault does.
const WATCHED: Duration = Duration::from_secs(8);
/// How long it is looked at what its end does.
const AFTER: Duration = Duration::from_secs(5);
/// How long everything must have gone well before the next fault.
const QUIET: Duration = Duration::from_secs(1);
/// How long a node that was hit may take to come back.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// Arguments of `bench failover`.
#[derive(Debug, clap::Args)]
pub(super) struct Failover {
    /// What happens to a node that leads a room
    #[arg(long, value_enum, default_value_t = Fault::Kill)]
    fault: Fault,
    /// How often it happens
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Draws the pauses; printed, so that a run can be repeated
    #[arg(long)]
    seed: Option<u64>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl Failover {
    /// Measures and prints.
    pub(super) async fn run(self, program: &Path) -> anyhow::Result<()> {
        ensure!(self.rounds > 0, "--rounds must be at least 1");
        let seed = self.seed.unwrap_or_else(|| rand::rng().random());
        output::progress(&format!("a provider of three nodes; seed {seed}"));
        let mut dice = StdRng::seed_from_u64(seed);
        let mut took: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        let mut skipped = BTreeMap::new();
        for fault in self.fault.each() {
            match self.measure(program, fault, &mut dice, &mut took).await? {
                Ok(()) => {}
                Err(why) => {
                    output::progress(&format!("{}: SKIPPED: {why}", fault.name()));
                    skipped.insert(fault.name(), why);
                }
            }
        }
        let rows: Vec<_> = took.into_iter().map(Row::new).collect();
        if self.json {
            let rows: Vec<_> = rows.iter().map(Row::json).collect();
            return output::json(&json!({
                "bench": "failover",
                "rounds": self.rounds,
                "seed": seed,
                "faults": rows,
                "skipped": skipped,
            }));
        }
        output::line("longest time in which a room accepted nothing, in seconds");
        for row in rows {
            output::line(&row.to_string());
        }
        Ok(())
    }

    /// Some rounds of one fault; what is missing where it cannot be made to happen here.
    async fn measure(
        &self,
        program: &Path,
        fault: Fault,
        dice: &mut StdRng,
        took: &mut BTreeMap<&'static str, Vec<f64>>,
    ) -> anyhow::Result<Result<(), String>> {
        let small = Small::default();
        let network = Network::default();
        let prepare = |data: &Path| {
            if fault == Fault::DiskFull {
                small.mount(data);
            }
        };
        let mut stage = Stage::build_over(program, 'a', NODES, &network, prepare).await?;
        if let Some(why) = small.refused() {
            stage.end().await?;
            return Ok(Err(why));
        }
        let rooms = rooms(&mut stage).await?;
        let mut writers = Writers::begin(&mut stage, rooms.values(), fault.text_bytes()).await?;
        for round in 1..=self.rounds {
            let turn = u64::try_from(round)? % NODES + 1;
            let room = rooms.get(&turn).context("each node leads a room")?;
            let victim = stage.leader_of('a', &room.to_string()).await?;
            writers.beside(&mut stage, victim)?;
            writers.quiet(QUIET).await?;
            let strikes = fault::strike(fault, &mut stage, &network, victim, dice).await?;
            for (name, from, to) in strikes {
                let seconds = writers.longest_silence(from, to).as_secs_f64();
                let progress = format!("{name}, round {round} of {}: {seconds:.2} s", self.rounds);
                output::progress(&progress);
                took.entry(name).or_default().push(seconds);
            }
            stage.restart_within('a', READY_DEADLINE).await?;
        }
        writers.end().await?;
        stage.end().await?;
        Ok(Ok(()))
    }
}

/// A room for each node, which leads its shard.
async fn rooms(stage: &mut Stage) -> anyhow::Result<BTreeMap<u64, RoomUri>> {
    let hub = "a.example".parse()?;
    let deadline = Instant::now() + READY_DEADLINE;
    loop {
        let mut rooms = BTreeMap::new();
        for number in 0..64 {
            let room = RoomUri::new(&hub, &format!("bench{number}"))?;
            let leader = stage.leader_of('a', &room.to_string()).await?;
            rooms.entry(leader).or_insert(room);
        }
        if rooms.len() as u64 == NODES {
            return Ok(rooms);
        }
        ensure!(Instant::now() < deadline, "some node leads no shard");
        tokio::time::sleep(QUIET).await;
    }
}

/// What came of one fault.
struct Row {
    fault: &'static str,
    all: Vec<f64>,
}

impl Row {
    fn new((fault, mut all): (&'static str, Vec<f64>)) -> Self {
        all.sort_unstable_by(f64::total_cmp);
        Self { fault, all }
    }

    fn at(&self, place: usize) -> f64 {
        self.all.get(place).copied().unwrap_or_default()
    }

    fn least_median_most(&self) -> [f64; 3] {
        let count = self.all.len();
        [0, count / 2, count.saturating_sub(1)].map(|place| self.at(place))
    }

    fn json(&self) -> serde_json::Value {
        let [min, p50, max] = self.least_median_most();
        json!({ "fault": self.fault, "min_s": min, "p50_s": p50, "max_s": max, "all_s": self.all })
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [min, p50, max] = self.least_median_most();
        let (name, rounds) = (self.fault, self.all.len());
        write!(
            f,
            "{name:12} min {min:5.2}  median {p50:5.2}  max {max:5.2}  ({rounds} rounds)"
        )
    }
}
