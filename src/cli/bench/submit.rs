//! `bench submit`: the client of a follower sends, the hub judges, the client of another follower counts; every event
//! synced at all three providers.
//!
//! Source: transport requirements, section 4.

use super::load::{self, Measured, Seat, Shape, round};
use crate::{
    admin::protocol::Request,
    cli::{
        output,
        stage::{Stage, cast::Cast},
    },
    client::member::PackageOptions,
};
use anyhow::ensure;
use mimi_actors::limits::SUBMIT_ITEMS_MAX;
use serde_json::json;

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
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rooms
    #[arg(long, default_value_t = 16)]
    rooms: usize,
    /// Messages in one frame of the sending client
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Length of a message on the wire, in bytes
    #[arg(long, default_value_t = 1_024)]
    message_bytes: usize,
    /// Messages encrypted for each room
    #[arg(long, default_value_t = 256)]
    pool: usize,
    /// Messages a second; as many as are taken without it
    #[arg(long)]
    rate: Option<f64>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

impl Submit {
    /// Measures and prints.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let batch_max = SUBMIT_ITEMS_MAX.min(self.pool);
        ensure!(
            (1..=batch_max).contains(&self.batch),
            "--batch must be 1 to {batch_max}"
        );
        let shape = Shape {
            rooms: self.rooms,
            seconds: self.seconds,
            batch: self.batch,
            message_bytes: self.message_bytes,
            pool: self.pool,
            pace: load::pace(self.rate, self.batch)?,
        };
        output::progress("three providers, rooms, members, encrypted messages");
        let mut stage = Stage::build(&['a', 'b', 'c'], 1, None).await?;
        let measured = measure(&mut stage, &shape).await?;
        stage.end().await?;
        let figures = json!({
            "bench": "submit",
            "providers": 3,
            "rooms": self.rooms,
            "message_bytes": self.message_bytes,
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
            "batch": self.batch,
        });
        load::print(&figures, self.json)?;
        ensure!(measured.lost == 0, "acknowledged events were lost");
        Ok(())
    }
}

async fn measure(stage: &mut Stage, shape: &Shape) -> anyhow::Result<Measured> {
    let mut cast = Cast::default();
    let usual = PackageOptions::default;
    let alice = cast
        .enter(stage, 'a', "alice", &[("alice1", usual())])
        .await?;
    let mut users = Vec::new();
    for (name, seat) in [("bob", BOB), ("carol", CAROL)] {
        let devices = [(seat.device, usual())];
        users.push(cast.enter(stage, seat.provider, name, &devices).await?);
        let consent = Request::Consent {
            user: name.to_owned(),
            requester: alice.clone().into(),
            room: None,
            grant: Some(true),
        };
        stage.ask(seat.provider, &consent).await?;
    }
    let stocked = [BOB.device.to_owned(), CAROL.device.to_owned()];
    let added = (users.as_slice(), stocked.as_slice());
    let joining = [BOB, CAROL];
    let pools = load::fill_rooms(&mut cast, "alice1", added, &joining, BOB, shape).await?;
    load::measure(stage, &mut cast, (BOB, CAROL), pools, shape).await
}
