//! Asking a running node, over the socket that only the account of its operator can open.

use crate::protocol::{Code, Request, Response};
use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

/// How long one exchange may take.
pub const EXCHANGE_DEADLINE: Duration = Duration::from_secs(90);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no socket.
    #[error(
        "no node runs here: there is no socket {}; start it with `mimi-node serve`, or name the configuration of one that \
         runs",
        path.display()
    )]
    NotRunning {
        /// Where it would be.
        path: PathBuf,
    },
    /// There is a socket, and nobody behind it.
    #[error(
        "no node runs here: nobody listens on {}, which an ended node left; start it with `mimi-node serve`",
        path.display()
    )]
    Gone {
        /// Where it is.
        path: PathBuf,
    },
    /// It cannot be connected to.
    #[error("connect to {}: {source}; commands must run as the account that the node runs as", path.display())]
    Connect {
        /// Where it is.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The node ended.
    #[error(
        "the node ended before it answered, so it may have been done: start it again, or ask another one of its provider, \
         then look, or repeat the command"
    )]
    Ended,
    /// It did not answer.
    #[error(
        "the node did not answer within {waited_s} s, so it may have been done: look at its log, then repeat the command"
    )]
    Late {
        /// How long it was waited for, in seconds.
        waited_s: u64,
    },
    /// It answered something else.
    #[error(
        "the node's answer does not read ({0}): this command and the node are of different versions"
    )]
    Unreadable(String),
}

impl AskError {
    fn connect(path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        if source.kind() == ErrorKind::NotFound {
            Self::NotRunning { path }
        } else if source.kind() == ErrorKind::ConnectionRefused {
            Self::Gone { path }
        } else {
            Self::Connect { path, source }
        }
    }

    /// The word for machines.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotRunning { .. } | Self::Gone { .. } | Self::Connect { .. } => Code::NotRunning,
            Self::Ended => Code::Ended,
            Self::Late { .. } => Code::Late,
            Self::Unreadable(_) => Code::Failed,
        }
    }
}

/// Asks the node that listens at `path`.
///
/// # Errors
/// When no node listens there, or it does not answer in time.
pub async fn ask(path: &Path, request: &Request) -> Result<Response, AskError> {
    let connect = UnixStream::connect(path).await;
    let stream = connect.map_err(|source| AskError::connect(path, source))?;
    let (from, mut to) = stream.into_split();
    let unreadable = |error: serde_json::Error| AskError::Unreadable(error.to_string());
    let mut line = serde_json::to_vec(request).map_err(unreadable)?;
    line.push(b'\n');
    let mut answer = String::new();
    let mut reader = BufReader::new(from);
    let exchange = async {
        to.write_all(&line).await?;
        reader.read_line(&mut answer).await
    };
    match tokio::time::timeout(EXCHANGE_DEADLINE, exchange).await {
        Err(_) => {
            let waited_s = EXCHANGE_DEADLINE.as_secs();
            return Err(AskError::Late { waited_s });
        }
        Ok(Ok(0) | Err(_)) => return Err(AskError::Ended),
        Ok(Ok(_)) => {}
    }
    serde_json::from_str(&answer).map_err(unreadable)
}
