//! What checks go by, beside the group.

use super::{hub_senders::HubSenders, objections::Objections};
use crate::{ids::ProviderId, limits::KEY_PACKAGE_LIFETIME_S_MAX, mls::tree::cache::TreeCache};
use std::collections::BTreeSet;

/// What a check goes by, beside the group and the time.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Members up to which OpenMLS is asked too what it thinks of a group's Commits. It decides nothing.
    pub audited_members_max: usize,
    /// Longest lifetime of a KeyPackage that is uploaded, in seconds.
    pub key_package_lifetime_max_s: u64,
    /// Hosts that a tree may be said to lie at; nothing is fetched from there.
    pub tree_hosts: Vec<String>,
    /// Where trees are kept from one Commit to the next.
    pub trees: TreeCache,
    /// The providers whose clients a Commit may bring in, this one among them; all where there are none given.
    pub providers: Option<BTreeSet<ProviderId>>,
    /// The hub of the room, which stays in external_senders.
    pub hub: HubSenders,
    /// Where it is told what OpenMLS has against that which is taken.
    pub objections: Objections,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            audited_members_max: 0,
            key_package_lifetime_max_s: KEY_PACKAGE_LIFETIME_S_MAX,
            tree_hosts: Vec::new(),
            trees: TreeCache::none(),
            providers: None,
            hub: HubSenders::NONE,
            objections: Objections::unheard(),
        }
    }
}
