//! `bench`: what this machine carries, measured on real processes. Figures are ratios in one run, never a test.

mod ceiling;
mod claim;
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

use super::output;

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
    /// Measures.
    ///
    /// # Errors
    /// When a process does not start, or something that was acknowledged is lost.
    pub fn run(self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(output::while_read(async {
            match self.what {
                What::Claim(claim) => claim.run().await,
                What::Commit(commit) => commit.run().await,
                What::Failover(failover) => failover.run().await,
                What::Fanout(fanout) => fanout.run().await,
                What::Submit(submit) => submit.run().await,
                What::Hostile(hostile) => hostile.run().await,
                What::Soak(soak) => soak.run().await,
                What::Latency(latency) => latency.run().await,
                What::IdleRooms(idle_rooms) => idle_rooms.run().await,
                What::Join(join) => join.run().await,
                What::CeilingPeer(peer) => peer.run().await,
            }
        }))
    }
}
