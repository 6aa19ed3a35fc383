//! `config`: check a configuration, or print an example.

use super::failure::Unwell;
use crate::{
    certificates::now_s,
    config::{Config, EXAMPLE},
    preflight,
};
use mimi_operator::output;
use std::path::PathBuf;

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Do what a start does up to its ports: read the file, the environment, certificates, keys and the data directory;
    /// print the configuration. Exit code 3: a node would start, and a certificate ends soon or has ended
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
                let found = preflight::look(&config)?;
                if json {
                    output::json(&config)?;
                } else {
                    output::line(toml::to_string(&config)?.trim_end());
                }
                let now_s = now_s();
                let certificates = found.certificates.iter();
                let warnings: Vec<String> = certificates
                    .filter_map(|certificate| certificate.warning(now_s))
                    .collect();
                if !warnings.is_empty() {
                    return Err(Unwell(warnings.join("; ")).into());
                }
            }
        }
        Ok(())
    }
}
