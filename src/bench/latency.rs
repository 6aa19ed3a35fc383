//! `bench latency`: few messages, one at a time, from the hub's client to the follower's, synced on both sides.
//!
//! Source: transport requirements, section 5.

use super::load::{self, Measured, Seat, Shape, round};
use anyhow::ensure;
use mimi_client::member::PackageOptions;
use mimi_operator::output;
use mimi_stage::{Stage, cast::Cast};
use serde_json::json;
use std::path::Path;

const ALICE: Seat = Seat {
    provider: 'a',
    device: "alice1",
};
const BOB: Seat = Seat {
    provider: 'b',
    device: "bob1",
};

/// Arguments of `bench latency`.
#[derive(Debug, clap::Args)]
pub(super) struct Latency {
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 10, value_parser = super::some::<u64>)]
    seconds: u64,
    /// Messages a second
    #[arg(long, default_value_t = 100.0, value_parser = super::positive)]
    rate: f64,
    /// Rooms
    #[arg(long, default_value_t = 16, value_parser = super::some::<usize>)]
    rooms: usize,
    /// Length of a message on the wire, in bytes
    #[arg(long, default_value_t = 1_024, value_parser = super::message_bytes)]
    message_bytes: usize,
    /// Nodes of each provider
    #[arg(long, default_value_t = 1, value_parser = super::nodes)]
    nodes: u64,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl Latency {
    /// Measures and prints.
    pub(super) async fn run(self, program: &Path) -> anyhow::Result<()> {
        let shape = Shape {
            rooms: self.rooms,
            seconds: self.seconds,
            batch: 1,
            message_bytes: self.message_bytes,
            pool: 64,
            pace: load::pace(Some(self.rate), 1)?,
            sender_reads: false,
        };
        output::progress("two providers, rooms, members, encrypted messages");
        let mut stage = Stage::build(program, &['a', 'b'], self.nodes, None).await?;
        let measured = measure(&mut stage, &shape).await?;
        stage.end().await?;
        let figures = json!({
            "bench": "latency",
            "nodes_per_provider": self.nodes,
            "rooms": self.rooms,
            "message_bytes": self.message_bytes,
            "seconds": round(measured.window_s),
            "events": measured.events,
            "events_per_s": round(measured.events_per_s()),
            "latency_ms": { "p50": measured.p50_ms, "p99": measured.p99_ms },
            "lost": measured.lost,
            "synced": measured.synced(),
        });
        load::print(&figures, self.json)?;
        ensure!(measured.lost == 0, "acknowledged events were lost");
        Ok(())
    }
}

async fn measure(stage: &mut Stage, shape: &Shape) -> anyhow::Result<Measured> {
    let mut cast = Cast::default();
    let alice = [(ALICE.device, PackageOptions::default())];
    let alice = cast.enter(stage, ALICE.provider, "alice", &alice).await?;
    let who = (BOB.provider, "bob", BOB.device);
    let bob = load::guest(stage, &mut cast, who, &alice).await?;
    let stocked = [BOB.device.to_owned()];
    let added = (std::slice::from_ref(&bob), stocked.as_slice());
    let pools = load::fill_rooms(&mut cast, ALICE.device, added, &[BOB], ALICE, shape).await?;
    load::measure(stage, &mut cast, (ALICE, BOB), pools, shape).await
}
