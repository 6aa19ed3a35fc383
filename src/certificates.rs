//! When the certificates of a node end, said in time: at the start, twice a day, and whenever somebody asks.

use crate::quic::{FileError, ends_at};
use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tracing::{error, warn};

/// A certificate that ends sooner than this is spoken of, in seconds: 14 days.
const ENDS_SOON_S: i64 = 14 * DAY_S;
const DAY_S: i64 = 24 * 3_600;
/// How often a running node speaks of a certificate whose end is near.
const SAID_EVERY: Duration = Duration::from_secs(12 * 3_600);

/// A certificate of the configuration, and when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// The key of the configuration that names it.
    pub(crate) key: String,
    /// Its file; of a chain, the certificate that ends first counts.
    pub(crate) path: PathBuf,
    /// When it ends, in seconds since 1970.
    pub(crate) ends_at_s: i64,
    /// What does not work any more when it has ended.
    effect: &'static str,
    /// Whether the node shows it: without it the node does not start, and nobody comes in.
    own: bool,
}

impl Certificate {
    /// Reads when the certificate in a file ends, and keeps what will not work then.
    ///
    /// # Errors
    /// [`FileError`] when the file does not read.
    pub(crate) fn new(key: &str, path: &Path, effect: &'static str) -> Result<Self, FileError> {
        Ok(Self {
            key: key.to_owned(),
            path: path.to_owned(),
            ends_at_s: ends_at(path)?,
            effect,
            own: false,
        })
    }

    /// The same, as one that the node shows.
    pub(crate) fn own(self) -> Self {
        Self { own: true, ..self }
    }

    /// What is to be said of it at a time, in seconds since 1970; nothing while its end is far.
    pub(crate) fn warning(&self, now_s: i64) -> Option<String> {
        let (key, path, effect) = (&self.key, self.path.display(), self.effect);
        let left_s = self.ends_at_s - now_s;
        let what_to_do = if self.own {
            "put another one there and restart the node, which does not start with one that has ended"
        } else {
            "put another one there and restart the node"
        };
        if left_s > ENDS_SOON_S {
            None
        } else if left_s < 0 {
            let days = -left_s / DAY_S;
            Some(format!(
                "`{key}`: {path} ended {days} days ago: {effect}; {what_to_do}"
            ))
        } else {
            let days = left_s / DAY_S;
            Some(format!(
                "`{key}`: {path} ends in {days} days; then {effect}: {what_to_do}"
            ))
        }
    }

    /// Whether the node shows it, and it has ended at a time, in seconds since 1970.
    pub(crate) fn keeps_all_out(&self, now_s: i64) -> bool {
        self.own && self.ends_at_s < now_s
    }

    fn tell(&self, now_s: i64) {
        match self.warning(now_s) {
            Some(said) if self.ends_at_s < now_s => error!("{said}"),
            Some(said) => warn!("{said}"),
            None => {}
        }
    }
}

/// Speaks of those whose end is near, at once and then twice a day.
pub(crate) async fn keep_telling(certificates: Vec<Certificate>) {
    let mut turn = tokio::time::interval(SAID_EVERY);
    loop {
        turn.tick().await;
        let now_s = now_s();
        certificates
            .iter()
            .for_each(|certificate| certificate.tell(now_s));
    }
}

/// The time, in seconds since 1970.
pub(crate) fn now_s() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_spoken_of_two_weeks_before_its_end_and_afterwards() {
        let certificate = Certificate {
            key: "peer b.example".to_owned(),
            path: "b.crt".into(),
            ends_at_s: 100 * DAY_S,
            effect: "nobody comes in",
            own: false,
        };
        assert_eq!(certificate.warning(85 * DAY_S), None);
        let soon = certificate.warning(97 * DAY_S).unwrap();
        assert_eq!(
            soon,
            "`peer b.example`: b.crt ends in 3 days; then nobody comes in: put another one there and restart the node"
        );
        let over = certificate.warning(102 * DAY_S).unwrap();
        assert!(
            over.contains("b.crt ended 2 days ago: nobody comes in;"),
            "{over}"
        );
        assert!(!certificate.keeps_all_out(102 * DAY_S));
        let own = certificate.own();
        assert!(own.keeps_all_out(102 * DAY_S) && !own.keeps_all_out(97 * DAY_S));
    }
}
