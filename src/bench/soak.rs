//! `bench soak`: the memory of two providers over minutes of a load at a part of what they carry.
//!
//! Source: transport requirements, section 5.

use super::load::{self, LoadArgs, Measured, Seat, Shape, round};
use anyhow::ensure;
use mimi_client::member::PackageOptions;
use mimi_operator::output;
use mimi_stage::{Stage, cast::Cast};
use serde_json::{Value, json};
use std::path::Path;

const ALICE: Seat = Seat {
    provider: 'a',
    device: "alice1",
};
const BOB: Seat = Seat {
    provider: 'b',
    device: "bob1",
};

/// Arguments of `bench soak`.
#[derive(Debug, clap::Args)]
pub(super) struct Soak {
    #[command(flatten)]
    load: LoadArgs,
    /// How long the steady load runs, in minutes
    #[arg(long, default_value_t = 10, value_parser = super::some::<u64>)]
    minutes: u64,
    /// Which part of the rate that is reached in `--seconds` the steady load has; without effect with --rate
    #[arg(long, default_value_t = 0.5, value_parser = super::positive)]
    share: f64,
}

impl Soak {
    /// Measures and prints.
    pub(super) async fn run(self, program: &Path) -> anyhow::Result<()> {
        let mut shape = self.load.shape()?;
        let mut reached = None;
        if self.load.rate.is_none() {
            output::progress("the rate that is reached");
            let rate = measure(program, &shape).await?.events_per_s();
            reached = Some(rate.round());
            shape.pace = load::pace(Some(rate * self.share), self.load.batch)?;
        }
        shape.seconds = self.minutes * 60;
        shape.sender_reads = true;
        let measured = measure(program, &shape).await?;
        let figures = json!({
            "bench": "soak",
            "rooms": self.load.rooms,
            "message_bytes": self.load.message_bytes,
            "minutes": self.minutes,
            "reached_per_s": reached,
            "rate_per_s": measured.events_per_s().round(),
            "events": measured.events,
            "latency_ms": { "p50": measured.p50_ms, "p99": measured.p99_ms },
            "sample_every_s": measured.rss_every_s,
            "rss_mib": by_provider(&measured, |samples| json!(samples)),
            "slope_mib_per_min": by_provider(&measured, |samples| {
                json!(round(slope_per_min(samples, measured.rss_every_s)))
            }),
            "slope_second_half_mib_per_min": by_provider(&measured, |samples| {
                let (_, second) = samples.split_at(samples.len() / 2);
                json!(round(slope_per_min(second, measured.rss_every_s)))
            }),
            "lost": measured.lost,
            "duplicates": measured.duplicates,
            "synced": measured.synced(),
        });
        load::print(&figures, self.load.json)?;
        ensure!(measured.lost == 0, "acknowledged events were lost");
        Ok(())
    }
}

/// Something of each provider's samples, by its domain.
fn by_provider(measured: &Measured, of: impl Fn(&[f64]) -> Value) -> Value {
    let each = measured.providers.iter();
    each.map(|(name, used)| (format!("{name}.example"), of(&used.rss_mib)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The slope of the line with the least squares through samples taken every so many seconds.
fn slope_per_min(samples: &[f64], every_s: u64) -> f64 {
    let count = samples.len() as f64;
    let minutes = |place: usize| (place as f64) * (every_s as f64) / 60.0;
    let mean_x = (0..samples.len()).map(minutes).sum::<f64>() / count;
    let mean_y = samples.iter().sum::<f64>() / count;
    let (mut above, mut below) = (0.0, 0.0);
    for (place, sample) in samples.iter().enumerate() {
        let x = minutes(place) - mean_x;
        above += x * (sample - mean_y);
        below += x * x;
    }
    above / below
}

async fn measure(program: &Path, shape: &Shape) -> anyhow::Result<Measured> {
    output::progress("two providers, rooms, members, encrypted messages");
    let mut stage = Stage::build(program, &['a', 'b'], 1, None).await?;
    let mut cast = Cast::default();
    let alice = [(ALICE.device, PackageOptions::default())];
    let alice = cast.enter(&mut stage, 'a', "alice", &alice).await?;
    let who = (BOB.provider, "bob", BOB.device);
    let bob = load::guest(&mut stage, &mut cast, who, &alice).await?;
    let stocked = [BOB.device.to_owned()];
    let added = (std::slice::from_ref(&bob), stocked.as_slice());
    let pools = load::fill_rooms(&mut cast, ALICE.device, added, &[BOB], ALICE, shape).await?;
    let measured = load::measure(&mut stage, &mut cast, (ALICE, BOB), pools, shape).await?;
    stage.end().await?;
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::slope_per_min;

    #[test]
    fn a_line_has_its_own_slope_and_noise_around_a_level_has_none() {
        let slope = slope_per_min(&[10.0, 11.0, 12.0, 13.0], 30);
        assert!((slope - 2.0).abs() < 1e-9, "{slope}");
        let flat = slope_per_min(&[5.0, 6.0, 6.0, 5.0], 60);
        assert!(flat.abs() < 1e-9, "{flat}");
    }
}
