//! What happens to a node, and when.

use super::{AFTER, WATCHED};
use anyhow::Context;
use mimi_stage::{Stage, proxy::Network};
use rand::{Rng, rngs::StdRng};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// For how long a node pauses again and again.
const PAUSING: Duration = Duration::from_secs(15);
/// How long each pause is, in milliseconds.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 1_000..=3_000;
/// How long the node runs in between, in milliseconds.
const RUN_MS: std::ops::RangeInclusive<u64> = 200..=2_000;
/// Size of the file system of a node whose disk is to be full.
const SMALL: &str = "size=1g";

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Fault {
    /// It is killed with -9.
    Kill,
    /// It neither hears nor is heard by the other nodes; also measures the end of that.
    Isolate,
    /// The end of an isolation; measured with it.
    Heal,
    /// The others do not hear it.
    OneWayOut,
    /// It does not hear the others.
    OneWayIn,
    /// It stops for 1 to 3 s again and again.
    Pause,
    /// Its disk is full.
    DiskFull,
    /// Each of these.
    All,
}

impl Fault {
    /// The faults that this stands for.
    pub(super) fn each(self) -> Vec<Self> {
        match self {
            Self::All => vec![
                Self::Kill,
                Self::Isolate,
                Self::OneWayOut,
                Self::OneWayIn,
                Self::Pause,
                Self::DiskFull,
            ],
            Self::Heal => vec![Self::Isolate],
            Self::Kill
            | Self::Isolate
            | Self::OneWayOut
            | Self::OneWayIn
            | Self::Pause
            | Self::DiskFull => vec![self],
        }
    }

    /// How long a message is that is written meanwhile, in bytes: the log takes its file in pieces of 2 MiB, and what it
    /// has already cannot be full.
    pub(super) fn text_bytes(self) -> usize {
        if self == Self::DiskFull { 16 << 10 } else { 2 }
    }

    /// What it is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Isolate => "isolate",
            Self::Heal => "heal",
            Self::OneWayOut => "one-way-out",
            Self::OneWayIn => "one-way-in",
            Self::Pause => "pause",
            Self::DiskFull => "disk-full",
            Self::All => "all",
        }
    }
}

/// What is measured: its name, from when and to when.
pub(super) type Watched = (&'static str, Instant, Instant);

/// Has it happen to a node, and ends it. What was killed is not running afterwards.
pub(super) async fn strike(
    fault: Fault,
    stage: &mut Stage,
    network: &Network,
    victim: u64,
    dice: &mut StdRng,
) -> anyhow::Result<Vec<Watched>> {
    let began = Instant::now();
    match fault {
        Fault::Kill => {
            stage.kill_node('a', victim).await?;
            tokio::time::sleep(WATCHED).await;
        }
        Fault::Isolate | Fault::Heal | Fault::All => {
            cut(network, victim, (true, true));
            tokio::time::sleep(WATCHED).await;
            let healed = Instant::now();
            network.heal();
            tokio::time::sleep(WATCHED + AFTER).await;
            let isolated = (Fault::Isolate.name(), began, healed);
            return Ok(vec![isolated, (Fault::Heal.name(), healed, Instant::now())]);
        }
        Fault::OneWayOut | Fault::OneWayIn => {
            let out = fault == Fault::OneWayOut;
            cut(network, victim, (out, !out));
            tokio::time::sleep(WATCHED).await;
            network.heal();
        }
        Fault::Pause => {
            while began.elapsed() < PAUSING {
                stage.pause_node('a', victim, true)?;
                let pause_ms = dice.random_range(PAUSE_MS);
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                stage.pause_node('a', victim, false)?;
                let run_ms = dice.random_range(RUN_MS);
                tokio::time::sleep(Duration::from_millis(run_ms)).await;
            }
        }
        Fault::DiskFull => {
            let filler = fill(&stage.data_of('a', victim)?)?;
            tokio::time::sleep(WATCHED).await;
            std::fs::remove_file(filler)?;
        }
    }
    tokio::time::sleep(AFTER).await;
    Ok(vec![(fault.name(), began, Instant::now())])
}

/// Cuts what a node sends to the others, what they send to it, or both.
fn cut(network: &Network, victim: u64, (out, into): (bool, bool)) {
    let others = (1..=super::NODES).filter(|node| *node != victim);
    let others: Vec<String> = others.map(|node| Stage::name_of('a', node)).collect();
    let victim = [Stage::name_of('a', victim)];
    if out {
        network.cut(&victim, &others);
    }
    if into {
        network.cut(&others, &victim);
    }
}

/// Fills the file system of a directory; gives the file that does.
fn fill(directory: &Path) -> anyhow::Result<PathBuf> {
    let path = directory.join("filler");
    let mut file = std::fs::File::create(&path)?;
    let zeros = vec![0; 1 << 16];
    while file.write_all(&zeros).is_ok() {}
    drop(file.flush());
    Ok(path)
}

/// Small file systems in memory, one for each data directory, for as long as this exists.
#[derive(Default)]
pub(super) struct Small(Mutex<Mounted>);

#[derive(Default)]
struct Mounted {
    at: Vec<PathBuf>,
    refused: Option<String>,
}

impl Small {
    fn mounted(&self) -> MutexGuard<'_, Mounted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a small file system at a directory, where this user may.
    pub(super) fn mount(&self, at: &Path) {
        match try_mount(at) {
            Ok(()) => self.mounted().at.push(at.to_owned()),
            Err(error) => self.mounted().refused = Some(format!("{error:#}")),
        }
    }

    /// Why there is none.
    pub(super) fn refused(&self) -> Option<String> {
        self.mounted().refused.clone()
    }
}

fn try_mount(at: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(at)?;
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", SMALL, "tmpfs"])
        .arg(at)
        .output()
        .context("run mount")?;
    let said = String::from_utf8_lossy(&mount.stderr);
    anyhow::ensure!(
        mount.status.success(),
        "a small file system needs root: {}",
        said.trim()
    );
    Ok(())
}

impl Drop for Small {
    fn drop(&mut self) {
        for at in &self.mounted().at {
            // Lazily: a node that has not ended yet may still hold it.
            drop(Command::new("umount").arg("-l").arg(at).status());
        }
    }
}
