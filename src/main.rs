//! The `mimi-node` binary: arguments in, one clear line out when something is wrong.

use clap::Parser;
use mimi_node::{
    cli::{Cli, cluster::NotWell, verify::Unproven},
    config::ConfigError,
};
use std::process::ExitCode;

/// Exit code of a configuration that is not usable, as of arguments that are not, and of a history that proves nothing.
const USAGE: u8 = 2;
/// Exit code of a command that did what it was asked, and found that something is not well.
const NOT_WELL: u8 = 3;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mimi-node: {}", format!("{error:#}").replace('\n', " "));
            if error.is::<ConfigError>() || error.is::<Unproven>() {
                ExitCode::from(USAGE)
            } else if error.is::<NotWell>() {
                ExitCode::from(NOT_WELL)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
