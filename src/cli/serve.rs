//! `serve`: run a node.

use crate::{config::Config, logging, node, quic::private::keep_to_owner};
use anyhow::anyhow;
use std::path::PathBuf;

/// Threads for work that waits for the disk, beside one for each core that computes for long, at most; more of it queues.
/// Each keeps some MiB of what it last used to itself.
const DISK_THREADS_MAX: usize = 2;

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Configuration of the node
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

impl Serve {
    /// Runs until SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When the node cannot start, or its storage fails.
    pub fn run(self) -> anyhow::Result<()> {
        keep_to_owner();
        let config = Config::load(&self.config)?;
        logging::start(&config.log).map_err(|error| anyhow!("read RUST_LOG: {error}"))?;
        let cores = std::thread::available_parallelism()?.get();
        tokio::runtime::Builder::new_multi_thread()
            .max_blocking_threads(cores + DISK_THREADS_MAX)
            .enable_all()
            .build()?
            .block_on(node::running::run(config))
    }
}
