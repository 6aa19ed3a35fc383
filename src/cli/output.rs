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
    match super::block_on(local::ask(&config.node.admin_socket, request))? {
        Response::Refused { why } => bail!("{why}"),
        response @ (Response::UserAdded { .. }
        | Response::Done
        | Response::Users { .. }
        | Response::Status(_)) => Ok(response),
    }
}
