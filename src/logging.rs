//! Log lines: text on a terminal, JSON otherwise, to standard error.

use crate::config::{LogConfig, LogFormat};
use std::{
    backtrace::BacktraceStatus,
    io::{IsTerminal, Write},
};
use tracing_subscriber::{EnvFilter, filter::ParseError};

/// Variable that wins over the configuration's filter.
const FILTER_VARIABLE: &str = "RUST_LOG";

/// Makes the message of a panic name its place from the root of its package: nobody needs the directories of the machine
/// that built the program.
pub fn keep_places_short() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, |at| {
            format!(" at {}:{}:{}", short(at.file()), at.line(), at.column())
        });
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        let said = panic.payload_as_str().unwrap_or("(not a text)");
        let backtrace = std::backtrace::Backtrace::capture();
        let mut said = format!("thread '{name}' panicked{place}: {said}\n");
        if backtrace.status() == BacktraceStatus::Captured {
            said.push_str(&format!("{backtrace}\n"));
        }
        // Nobody may be there to read it.
        let _ = std::io::stderr().write_all(said.as_bytes());
    }));
}

/// A source file, from the directory of its package on.
fn short(file: &str) -> &str {
    const REGISTRY: &str = "/registry/src/";
    const LIBRARY: &str = "/library/";
    if let Some((_, inside)) = file.split_once(REGISTRY) {
        // The first part names the registry.
        return inside.split_once('/').map_or(inside, |(_, package)| package);
    }
    file.split_once(LIBRARY)
        .map_or(file, |(_, library)| library)
}

/// Begins to log.
///
/// # Errors
/// When the filter does not read.
pub fn start(config: &LogConfig) -> Result<(), ParseError> {
    let from_environment = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    let filter = filter(&from_environment, &config.filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A reader of the log that has gone must not hurt the node.
        .log_internal_errors(false);
    let terminal = std::io::stderr().is_terminal();
    // A logger that was set before stays.
    let _ = if is_text(config.format, terminal) {
        builder.with_ansi(terminal).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    Ok(())
}

fn filter(from_environment: &str, configured: &str) -> Result<EnvFilter, ParseError> {
    if from_environment.is_empty() {
        EnvFilter::try_new(configured)
    } else {
        EnvFilter::try_new(from_environment)
    }
}

fn is_text(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_and_a_bad_filter_is_an_error() {
        assert_eq!(filter("", "info").unwrap().to_string(), "info");
        assert_eq!(filter("debug", "info").unwrap().to_string(), "debug");
        assert!(filter("a=b=c", "info").is_err());
        assert!(filter("", &LogConfig::default().filter).is_ok());
    }

    #[test]
    fn text_is_for_terminals_unless_told_otherwise() {
        assert!(is_text(LogFormat::Auto, true) && !is_text(LogFormat::Auto, false));
        assert!(is_text(LogFormat::Text, false) && !is_text(LogFormat::Json, true));
    }
}
