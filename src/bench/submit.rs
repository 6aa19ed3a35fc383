//! `bench submit`: the client of a follower sends, the hub judges, the client of another follower counts; every event
//! synced at all three providers.
//!
//! Source: transport requirements, section 4.

use super::load::{self, LoadArgs, Measured, Seat, Shape, round};
use anyhow::ensure;
use mimi_client::member::PackageOptions;
use mimi_operator::output;
use mimi_stage::{Stage, cast::Cast};
use serde_json::json;
use std::path::Path;

const BOB: Seat = Seat {
    provider: 'b',
    device: "bob1",
};
const CAROL: Seat = Seat {
    provider: 'c',
    device: "carol1",
};

/// Arguments of `bench submit`.
#[derive(Debug, clap::Args)]
pub(super) struct Submit {
    #[command(flatten)]
    load: LoadArgs,
}

impl Submit {
    /// Measures and prints.
    pub(super) async fn run(self, program: &Path) -> anyhow::Result<()> {
        let shape = self.load.shape()?;
        output::progress("three providers, rooms, members, encrypted messages");
        let mut stage = Stage::build(program, &['a', 'b', 'c'], 1, None).await?;
        let measured = measure(&mut stage, &shape).await?;
        stage.end().await?;
        let figures = json!({
            "bench": "submit",
            "providers": 3,
            "rooms": self.load.rooms,
            "message_bytes": self.load.message_bytes,
            "seconds": round(measured.window_s),
            "events": measured.events,
            "events_per_s": measured.events_per_s().round(),
            "latency_ms": { "p50": measured.p50_ms, "p99": measured.p99_ms },
            "cpu_s_per_100k": round(measured.cpu_s_per_100k()),
            "cpu_s_per_100k_by_side": measured.by_provider(|used| used.cpu_s_per_100k),
            "peak_rss_mib": measured.by_provider(|used| used.peak_rss_mib),
            "lost": measured.lost,
            "duplicates": measured.duplicates,
            "synced": measured.synced(),
            "batch": self.load.batch,
        });
        load::print(&figures, self.load.json)?;
        ensure!(measured.lost == 0, "acknowledged events were lost");
        Ok(())
    }
}

async fn measure(stage: &mut Stage, shape: &Shape) -> anyhow::Result<Measured> {
    let mut cast = Cast::default();
    let alice = [("alice1", PackageOptions::default())];
    let alice = cast.enter(stage, 'a', "alice", &alice).await?;
    let mut users = Vec::new();
    for (name, seat) in [("bob", BOB), ("carol", CAROL)] {
        let who = (seat.provider, name, seat.device);
        users.push(load::guest(stage, &mut cast, who, &alice).await?);
    }
    let stocked = [BOB.device.to_owned(), CAROL.device.to_owned()];
    let added = (users.as_slice(), stocked.as_slice());
    let joining = [BOB, CAROL];
    let pools = load::fill_rooms(&mut cast, "alice1", added, &joining, BOB, shape).await?;
    load::measure(stage, &mut cast, (BOB, CAROL), pools, shape).await
}
