//! The only place that prints results: for people, or as JSON for machines.
#![expect(
    clippy::print_stdout,
    reason = "results of commands go to standard output"
)]

use crate::admin::{
    local,
    protocol::{Request, Response},
};
use crate::config::Config;
use anyhow::bail;
use serde::Serialize;
use std::path::Path;

/// Prints one line for people.
pub fn line(text: &str) {
    println!("{text}");
}

/// Tells people what long work is at; machines read standard output.
pub fn progress(text: &str) {
    eprintln!("... {text}");
}

/// Prints a value as one line of JSON.
///
/// # Errors
/// When the value does not serialise.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Asks the node that a configuration describes; a refusal is an error.
///
/// # Errors
/// When no node runs there, or it refuses.
pub fn ask(config: &Path, request: &Request) -> anyhow::Result<Response> {
    let config = Config::load(config)?;
    let response = super::block_on(local::ask(&config.node.admin_socket, request))?;
    if let Response::Refused { why } = response {
        bail!("{why}");
    }
    Ok(response)
}
