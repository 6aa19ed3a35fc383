//! `bench fanout`: two providers, rooms at one, members on each side; every event synced on both sides and counted at a
//! client of the follower.
//!
//! Source: transport requirements, section 5.

use super::{
    ceiling,
    load::{self, LoadArgs, Measured, Seat, Shape, round},
};
use anyhow::{Context, ensure};
use mimi_actors::limits::CLAIM_USERS_MAX;
use mimi_client::member::PackageOptions;
use mimi_operator::output;
use mimi_stage::{Stage, cast::Cast};
use serde_json::json;
use std::{path::Path, time::Duration};

/// How long raw QUIC is measured.
const CEILING: Duration = Duration::from_secs(3);
const ALICE: Seat = Seat {
    provider: 'a',
    device: "alice1",
};
const BOB: Seat = Seat {
    provider: 'b',
    device: "bob1",
};

/// Arguments of `bench fanout`.
#[derive(Debug, clap::Args)]
pub(super) struct Fanout {
    #[command(flatten)]
    load: LoadArgs,
    /// Members at the follower in each room; one of them reads
    #[arg(long, default_value_t = 1, value_parser = super::some::<usize>)]
    members: usize,
    /// Nodes of each provider; with three, every event is synced on two of them
    #[arg(long, default_value_t = 1, value_parser = super::nodes)]
    nodes: u64,
}

impl Fanout {
    /// Measures and prints.
    pub(super) async fn run(self, program: &Path) -> anyhow::Result<()> {
        ensure!(
            (1..=CLAIM_USERS_MAX).contains(&self.members),
            "--members must be 1 to {CLAIM_USERS_MAX}"
        );
        let shape = self.load.shape()?;
        output::progress("raw QUIC between two processes");
        let ceiling =
            ceiling::measure(program, self.load.message_bytes, self.load.batch, CEILING).await?;
        output::progress("two providers, rooms, members, encrypted messages");
        let mut stage = Stage::build(program, &['a', 'b'], self.nodes, None).await?;
        let measured = self.measure(&mut stage, &shape).await?;
        stage.end().await?;
        self.print(&measured, ceiling)?;
        ensure!(measured.lost == 0, "acknowledged events were lost");
        Ok(())
    }

    async fn measure(&self, stage: &mut Stage, shape: &Shape) -> anyhow::Result<Measured> {
        let mut cast = Cast::default();
        let alice = cast
            .enter(
                stage,
                'a',
                "alice",
                &[(ALICE.device, PackageOptions::default())],
            )
            .await?;
        let (mut users, mut devices) = (Vec::new(), Vec::new());
        for number in 1..=self.members {
            let (name, device) = (format!("bob{number}"), format!("bob{number}"));
            let who = ('b', name.as_str(), device.as_str());
            let user = load::guest(stage, &mut cast, who, &alice).await?;
            users.push(user);
            devices.push(device);
        }
        let added = (users.as_slice(), devices.as_slice());
        let pools = load::fill_rooms(&mut cast, ALICE.device, added, &[BOB], ALICE, shape).await?;
        load::measure(stage, &mut cast, (ALICE, BOB), pools, shape).await
    }

    fn print(&self, measured: &Measured, ceiling: f64) -> anyhow::Result<()> {
        let side = |name| measured.providers.get(&name).context("both providers");
        let (hub, follower) = (side('a')?, side('b')?);
        let figures = json!({
            "bench": "fanout",
            "providers": 2,
            "nodes_per_provider": self.nodes,
            "rooms": self.load.rooms,
            "members_at_the_follower": self.members,
            "message_bytes": self.load.message_bytes,
            "seconds": round(measured.window_s),
            "events": measured.events,
            "events_per_s": measured.events_per_s().round(),
            "latency_ms": { "p50": measured.p50_ms, "p99": measured.p99_ms },
            "cpu_s_per_100k": round(measured.cpu_s_per_100k()),
            "cpu_s_per_100k_by_side": {
                "hub": round(hub.cpu_s_per_100k),
                "follower": round(follower.cpu_s_per_100k),
            },
            "peak_rss_mib": {
                "hub": hub.peak_rss_mib.round(),
                "follower": follower.peak_rss_mib.round(),
            },
            "lost": measured.lost,
            "duplicates": measured.duplicates,
            "synced": measured.synced(),
            "syncs": { "hub": hub.syncs, "follower": follower.syncs },
            "quic_ceiling_events_per_s": ceiling.round(),
            "ratio": round(measured.events_per_s() / ceiling),
            "encrypted_messages": self.load.pool * self.load.rooms,
            "batch": self.load.batch,
        });
        load::print(&figures, self.load.json)
    }
}
