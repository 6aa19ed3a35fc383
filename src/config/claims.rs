//! By which rules a provider gives the KeyPackages of its users.

use mimi_actors::{bucket::Rate, user::command::Rules};
use serde::{Deserialize, Serialize};

/// What a requester is told of a user whose packages it does not get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Privacy {
    /// Why: no consent, deleted, unknown, or nothing in common.
    #[default]
    Full,
    /// Always that there is no consent, after the same time.
    Folded,
}

/// By which rules the KeyPackages of the provider's users are given. The same on every node of a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimsConfig {
    /// What a requester is told of a refusal.
    pub privacy: Privacy,
    /// Whether last-resort packages are given, once to each hub, when there is nothing else.
    pub allow_last_resort: bool,
    /// Share of a stock that is kept for requesters with consent for every room, in percent.
    pub reserve_percent: u8,
    /// Share of a stock at which its owner is told that it is low, in percent.
    pub low_stock_percent: u8,
    /// Claims of one requester on one user.
    pub requester_on_user: RateConfig,
    /// Claims of one provider's users on one user.
    pub provider_on_user: RateConfig,
    /// Claims of all on one user.
    pub user: RateConfig,
    /// Claims of one requester, each user counted. Each shard counts its own users, up to twice its even share.
    pub requester: RateConfig,
    /// Claims of one provider's users, each user counted, likewise.
    pub provider: RateConfig,
}

/// So many at once, and so many more each minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateConfig {
    /// At once, after a rest.
    pub burst: u32,
    /// More, each minute; at most 60,000.
    pub per_minute: u32,
}

impl RateConfig {
    /// As buckets count.
    pub(super) fn rate(self) -> Rate {
        Rate {
            burst: self.burst,
            per_minute: self.per_minute,
        }
    }

    pub(super) fn of(rate: Rate) -> Self {
        Self {
            burst: rate.burst,
            per_minute: rate.per_minute,
        }
    }

    /// What is wrong with it, if anything.
    pub(super) fn flaw(self) -> Option<&'static str> {
        let bad = self.burst == 0 || !(1..=60_000).contains(&self.per_minute);
        bad.then_some("burst is at least 1, per_minute 1 to 60000")
    }
}

impl ClaimsConfig {
    /// The rules as every claim carries them, where there is one shard.
    #[must_use]
    pub fn rules(&self) -> Rules {
        Rules {
            folded: self.privacy == Privacy::Folded,
            allow_last_resort: self.allow_last_resort,
            reserve_percent: self.reserve_percent,
            low_stock_percent: self.low_stock_percent,
            requester_on_user: self.requester_on_user.rate(),
            provider_on_user: self.provider_on_user.rate(),
            user: self.user.rate(),
            requester: self.requester.rate(),
            provider: self.provider.rate(),
        }
    }

    /// The first thing that cannot be: its key, and what is wrong.
    pub(super) fn flaw(&self) -> Option<(&'static str, String)> {
        for (key, percent) in [
            ("claims.reserve_percent", self.reserve_percent),
            ("claims.low_stock_percent", self.low_stock_percent),
        ] {
            if percent > 100 {
                return Some((key, "at most 100".to_owned()));
            }
        }
        let rates = [
            ("claims.requester_on_user", self.requester_on_user),
            ("claims.provider_on_user", self.provider_on_user),
            ("claims.user", self.user),
            ("claims.requester", self.requester),
            ("claims.provider", self.provider),
        ];
        rates
            .into_iter()
            .find_map(|(key, rate)| Some((key, rate.flaw()?.to_owned())))
    }
}

impl Default for ClaimsConfig {
    fn default() -> Self {
        let rules = Rules::default();
        Self {
            privacy: Privacy::Full,
            allow_last_resort: rules.allow_last_resort,
            reserve_percent: rules.reserve_percent,
            low_stock_percent: rules.low_stock_percent,
            requester_on_user: RateConfig::of(rules.requester_on_user),
            provider_on_user: RateConfig::of(rules.provider_on_user),
            user: RateConfig::of(rules.user),
            requester: RateConfig::of(rules.requester),
            provider: RateConfig::of(rules.provider),
        }
    }
}
