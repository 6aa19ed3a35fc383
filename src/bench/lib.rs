//! `bench`: what this machine carries, measured on real processes. Figures are ratios in one run, never a test.

mod ceiling;
mod claim;
mod clock;
mod commit;
mod failover;
mod fanout;
mod hostile;
mod idle_rooms;
mod join;
mod latency;
mod load;
mod process;
mod soak;
mod submit;

use mimi_actors::{ids::RoomUri, limits::MESSAGE_BYTES_MAX, room::hub::Command};
use mimi_operator::output;
use std::{path::Path, str::FromStr, sync::Arc};

/// Shortest message of a measurement, in bytes: below it MLS itself takes more.
const MESSAGE_BYTES_MIN: usize = 512;
/// How many nodes a provider of a measurement may have.
const NODES_MAX: u64 = 5;

/// A count of which there must be one at least.
fn some<T: FromStr + Default + PartialEq>(text: &str) -> Result<T, String> {
    match text.parse() {
        Ok(count) if count != T::default() => Ok(count),
        Ok(_) => Err("nothing can be measured with none: at least 1".to_owned()),
        Err(_) => Err("a whole number, at least 1".to_owned()),
    }
}

/// A number of nodes.
fn nodes(text: &str) -> Result<u64, String> {
    let nodes = text.parse().ok();
    let nodes = nodes.filter(|nodes| (1..=NODES_MAX).contains(nodes));
    nodes.ok_or_else(|| format!("1 to {NODES_MAX}"))
}

/// A rate or share, above nothing.
fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    let number = number.filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "a number above 0".to_owned())
}

/// The length of a message on the wire, in bytes.
fn message_bytes(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok();
    let bytes = bytes.filter(|bytes| (MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX).contains(bytes));
    bytes.ok_or_else(|| format!("{MESSAGE_BYTES_MIN} to {MESSAGE_BYTES_MAX}"))
}

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Events from a hub's client to a follower's client, every one synced on both sides
    Fanout(fanout::Fanout),
    /// KeyPackages claimed across two providers, of one user and of many, every claim synced
    Claim(claim::Claim),
    /// Events from a follower's client by way of the hub to another follower's client, synced at all three
    Submit(submit::Submit),
    /// How long few messages take from a hub's client to a follower's, synced on both sides
    Latency(latency::Latency),
    /// What honest providers notice of one that misbehaves, in each of several ways
    Hostile(hostile::Hostile),
    /// Memory over minutes of a steady load
    Soak(soak::Soak),
    /// How long a provider of three nodes refuses after the leader of a room was killed with -9
    Failover(failover::Failover),
    /// Commits over many rooms, and what the check of one costs by group size and container of its tree
    Commit(commit::CommitBench),
    /// Many joiners of one room, each by an external Commit of its own with a link
    Join(join::Join),
    /// A node full of rooms that nobody uses: its start and its memory
    IdleRooms(idle_rooms::IdleRooms),
    /// The other process of the raw QUIC measurement
    #[command(hide = true)]
    CeilingPeer(ceiling::CeilingPeer),
}

impl Bench {
    /// Measures processes of `program`, which is the node's. `fill` puts rooms into the log in the data directory of a node
    /// that does not run: into each room the same commands.
    ///
    /// # Errors
    /// When a process does not start, or something that was acknowledged is lost.
    pub fn run(
        self,
        program: &Path,
        fill: impl AsyncFnOnce(&Path, &[RoomUri], &[Arc<Command>]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(output::while_read(async {
            match self.what {
                What::Claim(claim) => claim.run(program).await,
                What::Commit(commit) => commit.run(program).await,
                What::Failover(failover) => failover.run(program).await,
                What::Fanout(fanout) => fanout.run(program).await,
                What::Submit(submit) => submit.run(program).await,
                What::Hostile(hostile) => hostile.run(program).await,
                What::Soak(soak) => soak.run(program).await,
                What::Latency(latency) => latency.run(program).await,
                What::IdleRooms(idle_rooms) => idle_rooms.run(program, fill).await,
                What::Join(join) => join.run(program).await,
                What::CeilingPeer(peer) => peer.run().await,
            }
        }))
    }
}
