//! Which release wrote a data directory, and in which versions of its formats.
//!
//! Each file says its own version, but not who wrote it. A node that finds a version that it does not know says here which
//! release to run instead, before it reads anything else.

use crate::store::{MANIFEST_VERSION, MARK_VERSION};
use mimi_actors::wire::version::{FOLD, RECORD};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// This release.
pub(crate) const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// A release that wrote to a data directory. Release 0.1 left no word of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Writer {
    release: String,
    /// Of each format, the newest version that it writes.
    formats: BTreeMap<String, u16>,
}

/// A directory was written by a later release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it was written by mimi-node {release}, which writes version {found} of the format `{format}`; this is mimi-node \
     {RELEASE}, which {}: run {release} or a later release", knows(*known)
)]
pub(crate) struct WrittenLater {
    release: String,
    format: String,
    found: u16,
    known: Option<u16>,
}

fn knows(known: Option<u16>) -> String {
    known.map_or("does not know it".to_owned(), |version| {
        format!("knows it up to version {version}")
    })
}

impl Writer {
    /// This release.
    pub(crate) fn this() -> Self {
        let formats = [
            (RECORD.name, u16::from(RECORD.newest)),
            (FOLD.name, u16::from(FOLD.newest)),
            ("snapshot manifest", u16::from(MANIFEST_VERSION)),
            ("high-water mark", MARK_VERSION),
        ];
        Self {
            release: RELEASE.to_owned(),
            formats: formats
                .map(|(name, version)| (name.to_owned(), version))
                .into(),
        }
    }

    /// Whether this release reads what that one wrote.
    ///
    /// # Errors
    /// [`WrittenLater`] when it knows a format or a version that this one does not.
    pub(crate) fn check(&self) -> Result<(), WrittenLater> {
        let own = Self::this();
        let known = |format: &String| own.formats.get(format).copied();
        let mut formats = self.formats.iter();
        let later = formats.find(|(format, found)| known(format).is_none_or(|own| own < **found));
        match later {
            None => Ok(()),
            Some((format, found)) => Err(WrittenLater {
                release: self.release.clone(),
                format: format.clone(),
                found: *found,
                known: known(format),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_formats_are_the_ones_that_earlier_releases_know() {
        let named: Vec<String> = Writer::this().formats.into_keys().collect();
        let known = ["fold", "high-water mark", "log entry", "snapshot manifest"];
        assert_eq!(named, known);
    }

    #[test]
    fn what_a_later_release_wrote_is_refused_with_its_name_and_the_format() {
        Writer::this().check().unwrap();
        for (format, found, said) in [
            ("fold", 9, "knows it up to version 2"),
            ("index of people", 1, "does not know it"),
        ] {
            let mut later = Writer::this();
            later.release = "7.1.0".to_owned();
            later.formats.insert(format.to_owned(), found);
            let error = later.check().unwrap_err().to_string();
            assert!(error.contains("written by mimi-node 7.1.0"), "{error}");
            assert!(
                error.contains(&format!("version {found} of the format `{format}`")),
                "{error}"
            );
            assert!(error.contains(said), "{error}");
        }
        let mut earlier = Writer::this();
        earlier.release = "0.1.9".to_owned();
        earlier.formats.remove("fold");
        earlier.check().unwrap();
    }
}
