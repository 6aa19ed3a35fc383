//! How often rooms at this hub take Commits.

use super::RateConfig;
use mimi_actors::{bucket::Rate, room::checks::COMMIT_RATE};
use serde::{Deserialize, Serialize};

/// How often rooms at this hub take Commits. The same on every node of a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommitsConfig {
    /// Accepted Commits of one member in one room.
    pub member: RateConfig,
}

impl CommitsConfig {
    /// The rate as every Commit carries it into the log.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.member.rate()
    }

    /// The first thing that cannot be: its key, and what is wrong.
    pub(super) fn flaw(&self) -> Option<(&'static str, &'static str)> {
        Some(("commits.member", self.member.flaw()?))
    }
}

impl Default for CommitsConfig {
    fn default() -> Self {
        Self {
            member: RateConfig::of(COMMIT_RATE),
        }
    }
}
