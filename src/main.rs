//! The `mimi-node` binary: arguments in, one clear line out when something is wrong.

use clap::Parser;
use mimi_node::{cli::Cli, config::ConfigError};
use std::process::ExitCode;

/// Exit code of a configuration that is not usable, as of arguments that are not.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mimi-node: {}", format!("{error:#}").replace('\n', " "));
            if error.is::<ConfigError>() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
