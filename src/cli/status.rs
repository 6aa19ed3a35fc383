//! `status`: what a running node holds.

use super::{Target, output};
use crate::admin::protocol::{Request, Response};
use anyhow::bail;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct StatusCommand {
    #[command(flatten)]
    target: Target,
}

impl StatusCommand {
    /// Does it.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn run(self) -> anyhow::Result<()> {
        let response = output::ask(&self.target.config, &Request::Status)?;
        let Response::Status(status) = response else {
            bail!("the node answered something else")
        };
        if self.target.json {
            return output::json(&status);
        }
        output::line(&format!(
            "{} node {} (pid {})",
            status.provider, status.node, status.pid
        ));
        output::line(&format!(
            "log {:.1} of {:.0} MiB, {} entries in {} syncs since the start",
            mib(status.log_bytes),
            mib(status.log_bytes_max),
            status.log_entries,
            status.log_syncs,
        ));
        let (awake, asleep) = (status.actors_awake, status.actors_asleep);
        output::line(&format!("actors: {awake} awake, {asleep} asleep"));
        for peer in status.peers {
            let state = if peer.connected {
                "connected"
            } else {
                "not connected"
            };
            let owed = peer.unacknowledged;
            output::line(&format!(
                "peer {}: {state}, {owed} items unacknowledged",
                peer.provider
            ));
        }
        for shard in status.shards {
            let hash: String = shard.state_hash.chars().take(16).collect();
            output::line(&format!(
                "shard {:>2}: applied {:>6}, state {hash}",
                shard.shard, shard.applied
            ));
        }
        Ok(())
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
