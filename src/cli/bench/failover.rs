//! `bench failover`: a provider of three nodes; the one that leads a room is killed with -9 while its member commits
//! through another one; how long until a Commit is accepted again.

use crate::cli::{
    output,
    stage::{Stage, cast::Cast},
};
use crate::client::member::PackageOptions;
use anyhow::{Context, ensure};
use mimi_actors::{ids::RoomUri, wire::event::Epoch};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long a provider may refuse.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait before a login is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Arguments of `bench failover`.
#[derive(Debug, clap::Args)]
pub(super) struct Failover {
    /// How often a leader is killed
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl Failover {
    /// Measures and prints.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        ensure!(self.rounds > 0, "--rounds must be at least 1");
        output::progress("a provider of three nodes");
        let mut stage = Stage::build(&['a'], 3, None).await?;
        let mut cast = Cast::default();
        let devices = [("alice1", PackageOptions::default())];
        cast.enter(&mut stage, 'a', "alice", &devices).await?;
        let room = RoomUri::new(&"a.example".parse()?, "bench")?;
        cast.get("alice1")?.create_room(&room).await?;
        let mut took = Vec::with_capacity(self.rounds);
        for round in 1..=self.rounds {
            let seconds = kill(&mut stage, &mut cast, &room).await?.as_secs_f64();
            output::progress(&format!("round {round} of {}: {seconds:.2} s", self.rounds));
            took.push(seconds);
            stage.restart('a').await?;
        }
        stage.end().await?;
        took.sort_unstable_by(f64::total_cmp);
        let at = |place: usize| took.get(place).copied().unwrap_or_default();
        let (p50, max) = (at(took.len() / 2), at(took.len() - 1));
        if self.json {
            return output::json(&json!({
                "bench": "failover",
                "rounds": took.len(),
                "p50_s": p50,
                "max_s": max,
                "all_s": took,
            }));
        }
        output::line(&format!(
            "{} rounds: median {p50:.2} s, longest {max:.2} s",
            took.len()
        ));
        Ok(())
    }
}

/// Kills the room's leader; how long until its member's next Commit was accepted.
async fn kill(stage: &mut Stage, cast: &mut Cast, room: &RoomUri) -> anyhow::Result<Duration> {
    let leader = stage.leader_of('a', &room.to_string()).await?;
    let door = stage.door_beside('a', leader)?;
    let alice = cast.get("alice1")?;
    let deadline = Instant::now() + PATIENCE;
    // The shard of the user may still be without a leader from the round before.
    while let Err(refused) = alice.connect_to_any(&stage.dialer, &[door]).await {
        if Instant::now() >= deadline {
            return Err(refused).context("log in before the kill");
        }
        tokio::time::sleep(RETRY).await;
    }
    alice.roam(&stage.dialer, &[door]);
    let before = alice.epoch(room).context("Alice is a member")?;
    let update = alice.prepare_update(room)?;
    stage.kill_node('a', leader).await?;
    let killed = Instant::now();
    let accepted = alice.commit_within(&update, PATIENCE).await?.epoch;
    let took = killed.elapsed();
    ensure!(
        accepted == before.next(),
        "the Commit opened epoch {accepted}"
    );
    alice
        .run_until(PATIENCE, |member| {
            member.epoch(room) >= Some(Epoch(accepted.0))
        })
        .await?;
    Ok(took)
}
