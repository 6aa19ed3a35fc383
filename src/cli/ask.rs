//! Asking the node that a command is for.

use super::failure::Refused;
use crate::config::Config;
use mimi_operator::{
    ask::{self, EXCHANGE_DEADLINE},
    output,
    protocol::{Request, Response},
};
use std::{path::Path, pin::pin, time::Duration};

/// After how long people are told that a node has not answered yet.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// Asks the node that a configuration describes; a refusal is an error.
///
/// # Errors
/// When no node runs there, or it refuses.
pub(super) fn ask(config: &Path, request: &Request) -> anyhow::Result<Response> {
    let config = Config::load(config)?;
    let response = block_on(patiently(&config.node.admin_socket, request))?;
    if let Response::Refused {
        code,
        why,
        retry_after_ms,
    } = response
    {
        return Err(Refused {
            code,
            why,
            retry_after_ms,
        }
        .into());
    }
    Ok(response)
}

/// Asks, and says so when it takes long.
async fn patiently(socket: &Path, request: &Request) -> anyhow::Result<Response> {
    let mut asking = pin!(ask::ask(socket, request));
    if let Ok(answered) = tokio::time::timeout(TOLD_AFTER, &mut asking).await {
        return Ok(answered?);
    }
    let patience_s = EXCHANGE_DEADLINE.as_secs();
    output::progress(&format!(
        "the node has not answered yet; it is waited for, up to {patience_s} s"
    ));
    Ok(asking.await?)
}

/// Runs a short command that talks to a running node.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
