//! Why there is no endpoint, no connection, or no longer one.

use crate::holder::{Protocol, holder};
use quinn::{ConnectionError, TransportErrorCode};
use std::{io, net::SocketAddr, path::PathBuf};

/// Characters of the other side's words that are repeated, at most.
const WORDS_CHARS_MAX: usize = 200;
/// What rustls puts in front of a reason that is not its own.
const NOT_OURS: &str = "unexpected error: ";

/// Why an endpoint cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error("listen on UDP {address}: the port is in use{holder}")]
    InUse {
        /// The address asked for.
        address: SocketAddr,
        /// Who has it, as far as can be seen.
        holder: String,
    },
    /// The address is not this machine's, or not for this user.
    #[error("listen on UDP {address}")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The certificate or key is not usable for TLS.
    #[error("prepare TLS: {0}")]
    Tls(String),
    /// A trust setting is not usable.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl BindError {
    pub(super) fn socket(address: SocketAddr, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::AddrInUse {
            let holder = holder(Protocol::Udp, address);
            Self::InUse { address, holder }
        } else {
            Self::Socket { address, source }
        }
    }

    pub(super) fn tls(error: impl std::fmt::Display) -> Self {
        Self::Tls(error.to_string())
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// It could not be begun.
    #[error("begin to connect: {0}")]
    Begin(#[from] quinn::ConnectError),
    /// The handshake failed, or the connection was lost.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// The peer's certificate does not say who it is.
    #[error("the peer's certificate does not name exactly one provider")]
    Nameless,
    /// Whoever dials has as many connections as it may.
    #[error("{who} has {max} connections, more are not taken")]
    Crowded {
        /// The peer, or the address of a client.
        who: String,
        /// How many one may have.
        max: usize,
    },
}

impl ConnectError {
    /// Whether it is only that this side stops.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        matches!(self, Self::Begin(quinn::ConnectError::EndpointStopping))
    }
}

/// Why a connection has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The other side closed it.
    #[error("closed by the other side (code {code}): {reason}")]
    ByPeer {
        /// Its code.
        code: u64,
        /// Its words, printable.
        reason: String,
    },
    /// This side closed it.
    #[error("closed on this side")]
    Here,
    /// Nothing came from the other side for too long.
    #[error("the other side does not answer")]
    Silent,
    /// QUIC or TLS failed: a refused certificate, no common protocol, a restarted peer.
    #[error("{0}")]
    Failed(String),
}

impl From<ConnectionError> for Ended {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::ByPeer {
                code: close.error_code.into_inner(),
                reason: printable(&String::from_utf8_lossy(&close.reason)),
            },
            ConnectionError::LocallyClosed => Self::Here,
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::TransportError(error) if alert(error.code).is_some() => {
                Self::Failed(printable(&format!(
                    "refused on this side: {}",
                    error.reason.replace(NOT_OURS, "")
                )))
            }
            ConnectionError::ConnectionClosed(close) if alert(close.error_code).is_some() => {
                let reason = String::from_utf8_lossy(&close.reason).replace(NOT_OURS, "");
                let code = alert(close.error_code).unwrap_or_default();
                Self::Failed(printable(&format!(
                    "refused by the other side (TLS alert {code}): {reason}"
                )))
            }
            failed @ (ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::Reset
            | ConnectionError::CidsExhausted) => {
                Self::Failed(printable(&failed.to_string().replace(NOT_OURS, "")))
            }
        }
    }
}

impl From<ConnectionError> for ConnectError {
    fn from(error: ConnectionError) -> Self {
        Self::Ended(error.into())
    }
}

/// The TLS alert that a code of QUIC stands for.
fn alert(code: TransportErrorCode) -> Option<u64> {
    const ALERTS: std::ops::Range<u64> = 0x100..0x200;
    let code = u64::from(code);
    ALERTS.contains(&code).then(|| code - ALERTS.start)
}

/// Words of the other side, fit for a log line and a terminal.
fn printable(words: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_graphic() || c == ' ' {
            c
        } else {
            '?'
        }
    };
    words.chars().take(WORDS_CHARS_MAX).map(plain).collect()
}

/// A file that holds a certificate or key, and does not do.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}", path = path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub why: String,
}

/// Why a trust setting is not usable.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The CA file does not read, or holds nothing to trust.
    #[error(transparent)]
    File(#[from] FileError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_other_side_are_short_and_printable() {
        assert_eq!(printable("a\x1b[31m\nb\u{202e}c"), "a?[31m?b?c");
        assert_eq!(printable(&"x".repeat(1_000)).len(), WORDS_CHARS_MAX);
    }
}
