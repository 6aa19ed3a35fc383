//! Versions of what crosses a door or lies on a disk: each format counts its own.
//!
//! A frame or record begins with the version that it is written in. This build writes the newest version of each format
//! and reads all that [`Format`] names; what an earlier version wrote becomes today's value in [`crate::upgrade`], which
//! is the one place that knows earlier shapes.

use super::reading::{self, NotRead};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt;

/// A format, and which of its versions this build knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// What it is, for an error's reader.
    pub name: &'static str,
    /// The newest version, which is written where nothing else was agreed.
    pub newest: u8,
    /// The oldest version that is read.
    pub oldest: u8,
}

/// The client door.
pub const DOOR: Format = Format {
    name: "client door",
    newest: 2,
    oldest: 1,
};
/// The link between two providers.
pub const LINK: Format = Format {
    name: "link",
    newest: 2,
    oldest: 1,
};
/// The way between the nodes of a provider.
pub const CLUSTER: Format = Format {
    name: "cluster",
    newest: 2,
    oldest: 1,
};
/// Entries of a shard's log; a shard's [`Level`] says in which version they are written.
pub const RECORD: Format = Format {
    name: "log entry",
    newest: 2,
    oldest: 1,
};
/// Folds in snapshots. Each is written in the oldest version that has a word for what is in it: what follows from entries of
/// one level is read by the release of that level.
pub const FOLD: Format = Format {
    name: "fold",
    newest: 2,
    oldest: 1,
};

/// A release, and the newest version of each protocol that it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its name: `v0.1`.
    pub name: &'static str,
    /// On a link.
    pub link: u8,
    /// Between the nodes of a provider.
    pub cluster: u8,
    /// Of the shards' logs.
    pub level: Level,
}

/// By which release's formats and rules a shard's log is written and applied.
///
/// Each shard has its own, and only its log changes it, once every member of the shard speaks that release: replicas of
/// two releases never differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Level(u8);

impl Default for Level {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut releases = RELEASES.iter();
        match releases.find(|release| release.level == *self) {
            Some(release) => f.write_str(release.name),
            None => write!(f, "level {} of a later release", self.0),
        }
    }
}

impl Level {
    /// That of release 0.1, in which every log begins.
    pub const FIRST: Self = Self(1);
    /// That of release 0.2: entries may say to which level a shard goes.
    pub const SECOND: Self = Self(2);

    /// The version in which entries are written.
    #[must_use]
    pub const fn record(self) -> u8 {
        if self.0 <= Self::FIRST.0 { 1 } else { 2 }
    }

    /// The level of the release that speaks this version between nodes.
    #[must_use]
    pub fn spoken(cluster: u8) -> Self {
        let mut releases = RELEASES.iter();
        let release = releases.find(|release| release.cluster == cluster);
        release.map_or(Self::FIRST, |release| release.level)
    }

    /// The level to which a shard goes from this one, as far as its leader (`own`) and all its other members are: none
    /// while one is not connected, or is of this level itself.
    #[must_use]
    pub fn next(self, own: Self, others: impl IntoIterator<Item = Option<Self>>) -> Option<Self> {
        let known: Option<Vec<Self>> = others.into_iter().collect();
        let lowest = known?.into_iter().fold(own, Self::min);
        (lowest > self).then_some(lowest)
    }
}

/// This release and the one before, which a node can be told to speak as.
pub const RELEASES: [Release; 2] = [
    Release {
        name: "v0.2",
        link: LINK.newest,
        cluster: CLUSTER.newest,
        level: Level::SECOND,
    },
    Release {
        name: "v0.1",
        link: 1,
        cluster: 1,
        level: Level::FIRST,
    },
];

impl Release {
    /// This release.
    pub const OWN: Self = RELEASES[0];

    /// The release with a name; this one where it is empty.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut releases = RELEASES.into_iter();
        if name.is_empty() {
            return releases.next();
        }
        releases.find(|release| release.name == name)
    }
}

impl Format {
    /// Whether this build reads a version.
    #[must_use]
    pub const fn reads(self, version: u8) -> bool {
        self.oldest <= version && version <= self.newest
    }

    /// In which version whoever sent a frame is answered: its own, or, where that is not known here, the oldest.
    #[must_use]
    pub fn spoken(self, frame: &[u8]) -> u8 {
        let said = frame.first().copied();
        said.filter(|version| self.reads(*version))
            .unwrap_or(self.oldest)
    }

    /// All versions that this build knows, the newest first.
    pub fn versions(self) -> impl Iterator<Item = u8> {
        (self.oldest..=self.newest).rev()
    }
}

/// A value that an earlier version of its format has no word for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("version {version} has no such {what}")]
pub struct NotInVersion {
    /// The version.
    pub version: u8,
    /// What is meant.
    pub what: &'static str,
}

/// Why a value was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unwritten {
    /// The version has no word for it.
    #[error(transparent)]
    NotInVersion(#[from] NotInVersion),
    /// It refused to serialise, which no type of a frame does.
    #[error("it does not serialise: {0}")]
    Shape(#[from] postcard::Error),
}

/// What begins with a version of its own.
///
/// Most types look the same in all versions; those that do not say so by `read` and `write`, in [`crate::upgrade`].
pub trait Versioned: Serialize + DeserializeOwned {
    /// Its format.
    const FORMAT: Format;

    /// Reads a value that was written in `version`; gives what follows it.
    ///
    /// # Errors
    /// When the bytes are not such a value.
    fn read(version: u8, body: &[u8]) -> Result<(Self, &[u8]), NotRead> {
        let _same_in_all = version;
        reading::take(body)
    }

    /// Whether `version` has a word for the value.
    ///
    /// # Errors
    /// [`NotInVersion`] when it has none; then it is not [written](Self::write).
    fn is_in(&self, version: u8) -> Result<(), NotInVersion> {
        let _same_in_all = version;
        Ok(())
    }

    /// Writes the value as `version` has it, after what is in `out`.
    ///
    /// # Errors
    /// [`Unwritten`] when that version has no word for it.
    fn write(&self, version: u8, out: Vec<u8>) -> Result<Vec<u8>, Unwritten> {
        let _same_in_all = version;
        Ok(postcard::to_extend(self, out)?)
    }
}

/// Says that types are of a format and look the same in all its versions.
#[macro_export]
macro_rules! versioned {
    ($format:expr; $($name:ty),+ $(,)?) => {
        $(impl $crate::wire::version::Versioned for $name {
            const FORMAT: $crate::wire::version::Format = $format;
        })+
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_goes_to_the_level_that_all_its_members_speak() {
        let (first, second) = (Level::FIRST, Level::SECOND);
        assert_eq!(first.next(second, []), Some(second));
        assert_eq!(
            first.next(second, [Some(second), Some(second)]),
            Some(second)
        );
        assert_eq!(first.next(second, [Some(second), Some(first)]), None);
        assert_eq!(first.next(second, [Some(second), None]), None);
        assert_eq!(first.next(first, [Some(second)]), None);
        assert_eq!(second.next(second, [Some(second)]), None);
        assert_eq!(second.next(first, []), None);
    }

    #[test]
    fn each_release_has_a_level_of_its_own_that_its_nodes_are_known_by() {
        for release in RELEASES {
            assert_eq!(Level::spoken(release.cluster), release.level);
            assert_eq!(release.level.to_string(), release.name);
        }
        assert_eq!(Level::default().record(), RECORD.oldest);
        assert_eq!(Release::OWN.level.record(), RECORD.newest);
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::{Format, Versioned};
    use serde::{Deserialize, Serialize, de::DeserializeOwned};

    /// Anything as a frame of its own, for tests of its parts.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub(crate) struct Sample<T>(pub(crate) T);

    impl<T: Serialize + DeserializeOwned> Versioned for Sample<T> {
        const FORMAT: Format = Format {
            name: "sample",
            newest: 1,
            oldest: 1,
        };
    }
}
