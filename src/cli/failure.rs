//! How a command ends: its exit code, and the one line on standard error that says why.
//!
//! This is the one place for exit codes:
//!
//! | code | means |
//! | --- | --- |
//! | 0 | done; `verify`: valid |
//! | 1 | not done, or not known whether; `verify`: violated |
//! | 2 | the arguments or the configuration are not usable; `verify`: too little happened |
//! | 3 | answered, and something is not well: the answer says what |
//! | 141 | whoever read the output has closed it (128 + SIGPIPE, as other commands end then) |
//!
//! With `--json` the line is one JSON object: `code` is a word that stays the same, `message` the same text as for people,
//! `exit` the exit code and, where it is known, `retry_after_ms`.

use crate::{config::ConfigError, preflight::Unusable};
use mimi_operator::{ask::AskError, output, protocol::Code};
#[cfg(feature = "tools")]
use mimi_verify::Unproven;
use serde_json::json;
use std::process::ExitCode;

/// Not done, or not known whether.
const FAILED: u8 = 1;
/// The arguments or the configuration are not usable.
const USAGE: u8 = 2;
/// Answered, and something is not well.
const UNWELL: u8 = 3;
/// 128 + SIGPIPE.
const CLOSED: u8 = 141;

/// What a running node refused.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// The word for machines.
    pub code: Code,
    /// Why, and what to do about it.
    pub why: String,
    /// When to try again, where that is known.
    pub retry_after_ms: Option<u32>,
}

/// The answer was given, and it says that something is not well.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unwell(pub String);

/// What the command line does not hold, or should not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

/// Says how a command ended; gives its exit code.
pub fn end(result: anyhow::Result<()>, as_json: bool) -> ExitCode {
    let written = output::ended();
    if let Err(output::Ended::Closed) = written {
        return ExitCode::from(CLOSED);
    }
    let result = result.and(written.map_err(anyhow::Error::from));
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let (code, exit) = judge(&error);
    let message = format!("{error:#}").replace('\n', " ");
    if as_json {
        let mut said = json!({ "code": code, "message": message, "exit": exit });
        if let Some(Refused {
            retry_after_ms: Some(ms),
            ..
        }) = error.downcast_ref()
            && let Some(fields) = said.as_object_mut()
        {
            fields.insert("retry_after_ms".to_owned(), json!(ms));
        }
        output::error(&said.to_string());
    } else {
        output::error(&format!("mimi-node: {message}"));
    }
    ExitCode::from(exit)
}

/// The word for machines, and the exit code.
fn judge(error: &anyhow::Error) -> (Code, u8) {
    if let Some(refused) = error.downcast_ref::<Refused>() {
        (refused.code, FAILED)
    } else if let Some(asking) = error.downcast_ref::<AskError>() {
        (asking.code(), FAILED)
    } else if error.is::<ConfigError>() || error.is::<Unusable>() {
        (Code::Config, USAGE)
    } else if error.is::<Usage>() {
        (Code::Usage, USAGE)
    } else if is_unproven(error) {
        (Code::Unproven, USAGE)
    } else if error.is::<Unwell>() {
        (Code::Unwell, UNWELL)
    } else {
        (Code::Failed, FAILED)
    }
}

/// Whether `verify` says that too little happened.
#[cfg(feature = "tools")]
fn is_unproven(error: &anyhow::Error) -> bool {
    error.is::<Unproven>()
}

/// Nothing is verified without the tools.
#[cfg(not(feature = "tools"))]
fn is_unproven(_: &anyhow::Error) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_has_its_word_and_its_exit_code() {
        let refused = Refused {
            code: Code::StorageFull,
            why: "full".to_owned(),
            retry_after_ms: None,
        };
        let late = AskError::Late { waited_s: 1 };
        for (error, code, exit) in [
            (refused.into(), Code::StorageFull, 1),
            (anyhow::Error::from(late).context("ask"), Code::Late, 1),
            (Usage("no".to_owned()).into(), Code::Usage, 2),
            (Unwell("a peer".to_owned()).into(), Code::Unwell, 3),
            (anyhow::anyhow!("no such file"), Code::Failed, 1),
        ] {
            assert_eq!(judge(&error), (code, exit), "{error}");
        }
    }

    #[test]
    fn words_for_machines_are_written_as_they_were() {
        let word = |code: Code| serde_json::to_string(&code).unwrap();
        assert_eq!(word(Code::NoLeader), "\"no_leader\"");
        assert_eq!(word(Code::NothingWaits), "\"nothing_waits\"");
        assert_eq!(
            serde_json::from_str::<Code>("\"late\"").unwrap(),
            Code::Late
        );
    }
}
