//! `bench hostile`: how long messages take between two honest providers while a third, to which the hub owes the same
//! messages, misbehaves; each way for a while, after a while in which it behaves. All in one run.
//!
//! Source: transport requirements, section 5; reliability notes, fault rows 16, 17, 21 to 26, 28.

mod crowd;
mod peer;

use super::{
    load::{self, Running, Seat, Shape, round},
    process,
};
use anyhow::{Context, ensure};
use mimi_client::member::PackageOptions;
use mimi_operator::output;
use mimi_stage::{Stage, cast::Cast};
use peer::{Flood, Peer};
use serde_json::json;
use std::{path::Path, time::Duration};

const ALICE: Seat = Seat {
    provider: 'a',
    device: "alice1",
};
const BOB: Seat = Seat {
    provider: 'b',
    device: "bob1",
};
const CAROL: Seat = Seat {
    provider: 'c',
    device: "carol1",
};
/// How long each window runs before it is measured.
const SETTLE: Duration = Duration::from_secs(1);

/// Ways to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It takes everything and acknowledges nothing.
    Silent,
    /// It acknowledges late, and allows nothing more.
    NoCredit,
    /// It resets every lane.
    Resets,
    /// It answers with bytes that are no frame.
    Garbage,
    /// It sends messages for a room of the hub in which it is, all of them unreadable.
    Floods,
    /// It connects and goes, without end.
    Reconnects,
    /// It asks after people whom nobody knows, many at a time.
    MadeUp,
    /// It welcomes people whom nobody knows into rooms of its own, with a Welcome and a tree as large as they may be.
    Ghosts,
    /// It claims of a thousand people at a time, and signs nothing.
    Claims,
    /// Strangers connect at the clients' door and go, many at a time.
    Strangers,
    /// Strangers log in there as people whom nobody knows.
    Logins,
}

const WAYS: [Way; 11] = [
    Way::Silent,
    Way::NoCredit,
    Way::Resets,
    Way::Garbage,
    Way::Floods,
    Way::Reconnects,
    Way::MadeUp,
    Way::Ghosts,
    Way::Claims,
    Way::Strangers,
    Way::Logins,
];

/// Arguments of `bench hostile`.
#[derive(Debug, clap::Args)]
pub(super) struct Hostile {
    /// How long to measure each way, and the baseline, in seconds
    #[arg(long, default_value_t = 10, value_parser = super::some::<u64>)]
    seconds: u64,
    /// Messages a second between the honest two
    #[arg(long, default_value_t = 100.0, value_parser = super::positive)]
    rate: f64,
    /// Rooms, with members of all three
    #[arg(long, default_value_t = 16, value_parser = super::some::<usize>)]
    rooms: usize,
    /// Length of a message on the wire, in bytes
    #[arg(long, default_value_t = 1_024, value_parser = super::message_bytes)]
    message_bytes: usize,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// What was measured in a window.
struct Window {
    p50_ms: f64,
    p99_ms: f64,
    rss_mib: f64,
}

impl Hostile {
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
        output::progress("three providers, rooms, members, encrypted messages");
        let mut stage = Stage::build(program, &['a', 'b', 'c'], 1, None).await?;
        let mut cast = Cast::default();
        let alice = [(ALICE.device, PackageOptions::default())];
        let alice = cast.enter(&mut stage, 'a', "alice", &alice).await?;
        let mut users = Vec::new();
        for (name, seat) in [("bob", BOB), ("carol", CAROL)] {
            let who = (seat.provider, name, seat.device);
            users.push(load::guest(&mut stage, &mut cast, who, &alice).await?);
        }
        let stocked = [BOB.device.to_owned(), CAROL.device.to_owned()];
        let added = (users.as_slice(), stocked.as_slice());
        let joining = [BOB, CAROL];
        let pools =
            load::fill_rooms(&mut cast, ALICE.device, added, &joining, ALICE, &shape).await?;
        let room = pools.first().context("a room")?.0.clone();
        let flood = Flood::new(room, cast.get(CAROL.device)?.client().clone());
        let seats = (ALICE, BOB);
        let running = Running::begin(&mut stage, &mut cast, seats, pools, &shape).await?;
        let baseline = self.window(&mut stage, &running).await?;

        stage.kill('c').await?;
        let mut peer = Peer::start(&mut stage, flood)?;
        let mut windows = Vec::new();
        for way in WAYS {
            output::progress(&format!("{way:?}"));
            peer.way.send_replace(way);
            let window = self.window(&mut stage, &running).await?;
            ensure!(!peer.has_ended(), "the hostile peer gave up");
            windows.push((way, window));
        }
        let received = running.received();
        let (lost, duplicates) = running.end().await?;
        drop(peer);
        stage.end().await?;
        let worst = windows.iter().map(|(_, window)| window.p99_ms);
        let worst = worst.fold(0.0, f64::max);
        let each = windows.iter().map(|(way, window)| {
            let ratio = round(window.p99_ms / baseline.p99_ms);
            let figures = json!({
                "p50": window.p50_ms,
                "p99": window.p99_ms,
                "ratio_p99": ratio,
                "rss_mib": window.rss_mib,
            });
            (format!("{way:?}"), figures)
        });
        let figures = json!({
            "bench": "hostile",
            "rooms": self.rooms,
            "rate_per_s": self.rate,
            "seconds_each": self.seconds,
            "events": received,
            "baseline_ms": { "p50": baseline.p50_ms, "p99": baseline.p99_ms },
            "baseline_rss_mib": baseline.rss_mib,
            "hostile_ms": each.collect::<serde_json::Map<_, _>>(),
            "ratio_p99": round(worst / baseline.p99_ms),
            "lost": lost,
            "duplicates": duplicates,
        });
        load::print(&figures, self.json)?;
        ensure!(lost == 0, "acknowledged events were lost");
        Ok(())
    }

    /// Measures for a while; the memory is the hub's.
    async fn window(&self, stage: &mut Stage, running: &Running) -> anyhow::Result<Window> {
        tokio::time::sleep(SETTLE).await;
        running.latencies();
        tokio::time::sleep(Duration::from_secs(self.seconds)).await;
        let (p50_ms, p99_ms) = running.latencies();
        let rss_mib = round(load::sum(&stage.pids('a')?, process::rss_mib)?);
        Ok(Window {
            p50_ms,
            p99_ms,
            rss_mib,
        })
    }
}
