//! The only place that prints: results on standard output, for people or as JSON for machines; what else there is to say
//! on standard error.
//!
//! Promises: whoever stops reading ends the command quietly, and whatever it started is put in order first; an output
//! that cannot be written (a full disk) is a failure, never a silence.

use serde::Serialize;
use std::{
    io::{self, Write},
    sync::OnceLock,
};
use tokio::sync::Notify;

/// The first fault of standard output.
static FAULT: OnceLock<io::Error> = OnceLock::new();
/// Rings when there is one.
static FAULTY: Notify = Notify::const_new();

/// Why there is no more output.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// Whoever read it has gone.
    #[error("the output was closed")]
    Closed,
    /// It cannot be written.
    #[error("standard output cannot be written: {0}")]
    Failed(String),
}

/// Prints one line for people.
pub fn line(text: &str) {
    if FAULT.get().is_some() {
        return;
    }
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        // The first fault is the one that is told.
        let _ = FAULT.set(error);
        FAULTY.notify_one();
    }
}

/// Tells people what long work is at; machines read standard output.
pub fn progress(text: &str) {
    error(&format!("... {text}"));
}

/// Says something on standard error; nobody may be there to read it.
pub fn error(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints a value as one line of JSON.
///
/// # Errors
/// When the value does not serialise.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?);
    Ok(())
}

/// Whether everything printed so far was taken.
///
/// # Errors
/// [`Ended`] says why not.
pub fn ended() -> Result<(), Ended> {
    match FAULT.get() {
        None => Ok(()),
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Ended::Closed),
        Some(error) => Err(Ended::Failed(error.to_string())),
    }
}

/// Does long work for as long as somebody reads what it prints.
///
/// # Errors
/// What the work says, or [`Ended`].
pub async fn while_read(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::select! {
        done = work => done,
        () = FAULTY.notified() => Ok(ended()?),
    }
}
