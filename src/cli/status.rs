//! `status`: what a running node holds, and what is not well with it.

use super::{Target, ask::ask, failure::Unwell};
use crate::certificates::now_s;
use anyhow::bail;
use mimi_operator::{
    output,
    protocol::{Request, Response},
};

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
    /// When the node does not run; [`Unwell`] when it says that something is not well.
    pub fn run(self) -> anyhow::Result<()> {
        let response = ask(&self.target.config, &Request::Status)?;
        let Response::Status(status) = response else {
            bail!("the node answered something else")
        };
        if self.target.json {
            output::json(&status)?;
            return well(&status.unwell);
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
            for trouble in peer.troubles {
                let (address, attempts) = (trouble.address, trouble.attempts);
                let since = ago(trouble.since_s);
                output::line(&format!(
                    "  {address}: {attempts} attempts failed since {since}, the last one: {}",
                    trouble.why
                ));
            }
        }
        for shard in status.shards {
            let hash: String = shard.state_hash.chars().take(16).collect();
            output::line(&format!(
                "shard {:>2}: applied {:>6}, state {hash}, by the rules of {}",
                shard.shard, shard.applied, shard.level
            ));
        }
        for certificate in status.certificates {
            let days = (certificate.ends_at_s - now_s()) / 86_400;
            output::line(&format!(
                "certificate {}: {days} days left",
                certificate.key
            ));
        }
        for line in &status.unwell {
            output::line(&format!("NOT WELL: {line}"));
        }
        well(&status.unwell)
    }
}

/// # Errors
/// [`Unwell`] when something is not well: exit code 3.
fn well(unwell: &[String]) -> anyhow::Result<()> {
    match unwell.len() {
        0 => Ok(()),
        1 => Err(Unwell("one thing is not well; the status says which".to_owned()).into()),
        count => Err(Unwell(format!(
            "{count} things are not well; the status says which"
        ))
        .into()),
    }
}

/// How long ago a time is, in seconds since 1970.
fn ago(then_s: i64) -> String {
    let seconds = (now_s() - then_s).max(0);
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7_200 => format!("{} min ago", seconds / 60),
        7_200..172_800 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
