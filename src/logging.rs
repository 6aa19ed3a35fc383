//! Log lines: text on a terminal, JSON otherwise, to standard error.

use crate::config::{LogConfig, LogFormat};
use std::{
    backtrace::BacktraceStatus,
    fmt,
    io::{IsTerminal, Write},
};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, ParseError},
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

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
        return inside
            .split_once('/')
            .map_or(inside, |(_, package)| package);
    }
    file.split_once(LIBRARY)
        .map_or(file, |(_, library)| library)
}

/// What libraries may say at most, unless a filter names them.
const QUIET: [(&str, LevelFilter); 7] = [
    ("openraft", LevelFilter::OFF),
    ("raft_engine", LevelFilter::WARN),
    ("quinn", LevelFilter::WARN),
    ("quinn_proto", LevelFilter::WARN),
    ("ractor", LevelFilter::WARN),
    ("fjall", LevelFilter::WARN),
    ("lsm_tree", LevelFilter::WARN),
];

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
        builder
            .json()
            .flatten_event(true)
            .map_event_format(WithoutPlaces)
            .try_init()
    };
    Ok(())
}

/// What is asked for, and what libraries say no more than unless they are asked for by name.
fn filter(from_environment: &str, configured: &str) -> Result<EnvFilter, ParseError> {
    let asked = if from_environment.is_empty() {
        configured
    } else {
        from_environment
    };
    let of_all = asked
        .split(',')
        .filter_map(|part| part.trim().parse().ok())
        .next_back();
    let of_all = of_all.unwrap_or(LevelFilter::ERROR);
    let quieter = QUIET.iter().filter(|(_, level)| *level < of_all);
    let mut directives: Vec<String> = quieter
        .map(|(name, level)| format!("{name}={level}"))
        .collect();
    // The last word on a name counts.
    directives.push(asked.to_owned());
    EnvFilter::try_new(directives.join(","))
}

/// Lines as they are, except that those of libraries do not name the files of the machine that built the program.
struct WithoutPlaces<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithoutPlaces<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // What libraries say through the crate `log` comes as events of this target.
        if event.metadata().target() != "log" {
            return self.0.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        writeln!(writer, "{}", without_places(&line))
    }
}

/// A line of JSON without what says where in a library it was written.
fn without_places(line: &str) -> String {
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_str(line) else {
        return line.trim_end().to_owned();
    };
    fields.retain(|name, _| !name.starts_with("log."));
    serde_json::Value::Object(fields).to_string()
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
    use std::collections::BTreeSet;

    #[test]
    fn the_environment_wins_and_a_bad_filter_is_an_error() {
        let last = |filter: EnvFilter| filter.to_string().rsplit(',').next().unwrap().to_owned();
        assert_eq!(last(filter("", "info").unwrap()), "info");
        assert_eq!(last(filter("debug", "info").unwrap()), "debug");
        assert!(filter("a=b=c", "info").is_err());
        assert!(filter("", &LogConfig::default().filter).is_ok());
    }

    #[test]
    fn libraries_stay_quiet_unless_they_are_named() {
        let directives = |asked: &str| -> BTreeSet<String> {
            let filter = filter("", asked).unwrap().to_string();
            filter.split(',').map(str::to_owned).collect()
        };
        for asked in ["info", "debug", "mimi_node=debug,info"] {
            let directives = directives(asked);
            assert!(directives.contains("openraft=off"), "{directives:?}");
            assert!(directives.contains("raft_engine=warn"), "{directives:?}");
        }
        let named = directives("info,openraft=debug");
        assert!(named.contains("openraft=debug"), "{named:?}");
        assert!(!named.contains("openraft=off"), "{named:?}");
        assert_eq!(directives("off"), BTreeSet::from(["off".to_owned()]));
        assert!(!directives("error").contains("raft_engine=warn"));
    }

    #[test]
    fn lines_name_no_file_of_the_machine_that_built_the_program() {
        let line =
            r#"{"level":"INFO","log.file":"/home/x/registry/src/i/fjall/src/db.rs","message":"m"}"#;
        assert_eq!(without_places(line), r#"{"level":"INFO","message":"m"}"#);
        assert_eq!(without_places("text\n"), "text");
        assert_eq!(
            short("/home/x/.cargo/registry/src/index.crates.io-1/openraft-0.9/src/a.rs"),
            "openraft-0.9/src/a.rs"
        );
        assert_eq!(short("/rustc/0a/library/core/src/x.rs"), "core/src/x.rs");
        assert_eq!(short("src/node.rs"), "src/node.rs");
    }

    #[test]
    fn text_is_for_terminals_unless_told_otherwise() {
        assert!(is_text(LogFormat::Auto, true) && !is_text(LogFormat::Auto, false));
        assert!(is_text(LogFormat::Text, false) && !is_text(LogFormat::Json, true));
    }
}
