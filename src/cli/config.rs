//! `config`: check a configuration, or print an example.

use super::output;
use crate::config::{Config, EXAMPLE};
use std::path::PathBuf;

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Read a file and the environment as a node would, and print what comes of it
    Check {
        /// The file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print every key at its default, commented
    Example,
}

impl ConfigCommand {
    /// Does it.
    ///
    /// # Errors
    /// When the configuration is not usable.
    pub fn run(self) -> anyhow::Result<()> {
        match self.what {
            What::Example => output::line(EXAMPLE.trim_end()),
            What::Check { config, json } => {
                let config = Config::load(&config)?;
                if json {
                    output::json(&config)?;
                } else {
                    output::line(toml::to_string(&config)?.trim_end());
                }
            }
        }
        Ok(())
    }
}
