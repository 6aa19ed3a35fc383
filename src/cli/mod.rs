//! The command line: one file for each subcommand.

mod ask;
pub mod cluster;
pub mod cluster_init;
pub mod config;
pub mod device;
pub mod failure;
pub mod peer;
pub mod pki;
pub mod serve;
pub mod status;
pub mod user;

use clap::{Parser, Subcommand, error::ErrorKind};
use failure::Usage;
use mimi_operator::output;
use std::{path::PathBuf, process::ExitCode};

/// The node of a messaging provider: end-to-end encrypted (MLS) rooms across providers.
#[derive(Debug, Parser)]
#[command(name = "mimi-node", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until it is told to stop
    Serve(serve::Serve),
    /// Play a story over three providers on this machine, and check everything it claims
    #[cfg(feature = "tools")]
    Demo(mimi_demo::Demo),
    /// Measure this machine
    #[cfg(feature = "tools")]
    Bench(mimi_bench::Bench),
    /// Check a configuration, or print an example
    Config(config::ConfigCommand),
    /// Make certificates for development
    Pki(pki::Pki),
    /// Show the nodes of the provider, take nodes in and let them go
    Cluster(cluster::Cluster),
    /// Add, delete and list users, and write down their consent
    User(user::User),
    /// Show what other providers refused, and send it again
    Peer(peer::Peer),
    /// Take a device's access away
    Device(device::Device),
    /// Show what a running node holds
    Status(status::StatusCommand),
    /// Judge a recorded history; exit code 0: valid, 1: violated, 2: too little happened
    #[cfg(feature = "tools")]
    Verify(mimi_verify::Verify),
}

/// Where to find the node that a command is for.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// Configuration of the running node
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does what the arguments say, and says how it ended ([`failure`]).
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().take_while(|argument| argument != "--");
    let as_json = arguments.any(|argument| argument == "--json");
    let result = match Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(said) => unparsed(&said),
    };
    failure::end(result, as_json)
}

/// Help is printed as it is; what is wrong with the arguments becomes one line.
fn unparsed(said: &clap::Error) -> anyhow::Result<()> {
    let text = said.to_string();
    if matches!(
        said.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        output::line(text.trim_end());
        return Ok(());
    }
    if said.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Err(
            Usage("a command is missing; `--help` shows which there are".to_owned()).into(),
        );
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let about = lines.take_while(|line| !line.starts_with("Usage:"));
    let about: Vec<&str> = about.collect();
    let about = about.join(" ");
    let about = about.strip_prefix("error: ").unwrap_or(&about);
    Err(Usage(format!("{about}; `--help` shows what there is")).into())
}

impl Cli {
    fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Serve(serve) => serve.run(),
            #[cfg(feature = "tools")]
            Command::Demo(demo) => demo.run(&std::env::current_exe()?),
            #[cfg(feature = "tools")]
            Command::Bench(bench) => bench.run(&std::env::current_exe()?, crate::node::fill::fill),
            Command::Config(config) => config.run(),
            Command::Pki(pki) => pki.run(),
            Command::Cluster(cluster) => cluster.run(),
            Command::User(user) => user.run(),
            Command::Device(device) => device.run(),
            Command::Peer(peer) => peer.run(),
            Command::Status(status) => status.run(),
            #[cfg(feature = "tools")]
            Command::Verify(verify) => verify.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn help_names_the_tools_where_they_are_linked_and_nowhere_else() {
        let help = Cli::command().render_long_help().to_string();
        let named = |name: &str| {
            let mut words = help
                .lines()
                .filter_map(|line| line.split_whitespace().next());
            words.any(|word| word == name)
        };
        for tool in ["demo", "bench", "verify"] {
            assert_eq!(named(tool), cfg!(feature = "tools"), "{help}");
        }
        assert!(named("serve"), "{help}");
    }
}
