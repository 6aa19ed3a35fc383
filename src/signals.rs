//! What signals mean to a node.
//!
//! | signal | means |
//! | --- | --- |
//! | SIGTERM, SIGINT, SIGQUIT | end in order; told again, without waiting for what is under way |
//! | SIGHUP, SIGUSR1, SIGUSR2 | nothing: a node reads its configuration once, at its start |

use std::{future::pending, io};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// Ignores, with a line in the log each time, what would end a process and is not meant to.
///
/// # Errors
/// When the system does not allow it.
pub(crate) fn ignore_the_rest() -> io::Result<impl Future<Output = ()> + use<>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut first = signal(SignalKind::user_defined1())?;
    let mut second = signal(SignalKind::user_defined2())?;
    Ok(async move {
        loop {
            let name = tokio::select! {
                _ = hangup.recv() => "SIGHUP",
                _ = first.recv() => "SIGUSR1",
                _ = second.recv() => "SIGUSR2",
            };
            warn!(
                signal = name,
                "a signal is ignored: the configuration is read at the start; restart the node for another one"
            );
        }
    })
}

/// Waits to be told to stop.
pub(crate) struct Stop([(&'static str, Option<Signal>); 3]);

impl Stop {
    /// Listens from now on; until now these signals end the process at once.
    pub(crate) fn listen() -> Self {
        let of = |name, kind| match signal(kind) {
            Ok(signal) => (name, Some(signal)),
            Err(error) => {
                warn!(signal = name, %error, "this signal will end the node at once");
                (name, None)
            }
        };
        Self([
            of("SIGTERM", SignalKind::terminate()),
            of("SIGINT", SignalKind::interrupt()),
            of("SIGQUIT", SignalKind::quit()),
        ])
    }

    /// Returns when the node is told to stop.
    pub(crate) async fn told(&mut self) {
        let [term, int, quit] = &mut self.0;
        let name = tokio::select! {
            name = received(term) => name,
            name = received(int) => name,
            name = received(quit) => name,
        };
        info!(signal = name, "told to stop");
    }
}

async fn received((name, signal): &mut (&'static str, Option<Signal>)) -> &'static str {
    match signal {
        Some(signal) => {
            signal.recv().await;
            name
        }
        None => pending().await,
    }
}
