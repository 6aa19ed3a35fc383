//! The policy of a room as it holds in the current epoch, and who came in by itself and stands in no list yet.
//!
//! Promises: it follows from the group's components, its members and who came in by itself, so nothing of it is stored but
//! the last; the same again after a snapshot. It holds only while the group is as it says: components that a room had before
//! hubs read them bind nobody until they fit.
//!
//! Source: transport requirements, section 5.

use crate::{
    ids::UserUri,
    policy::{
        components::Dictionary,
        state::{Clients, Policy},
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// Users who came in by themselves, with the `role_index` that each got; the list is to take them in.
pub(crate) type Entered = BTreeMap<UserUri, u32>;

/// What holds in a room; nothing beyond what holds in every room where there is no policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rules {
    entered: Entered,
    policy: Option<Arc<Policy>>,
}

impl Rules {
    /// What the components come to in a group of these clients.
    pub(crate) fn in_force(
        components: &[u8],
        entered: Entered,
        clients: impl FnOnce() -> Clients,
    ) -> Self {
        let read = || Policy::read(&Dictionary::decode(components).ok()?).ok()?;
        let policy = if components.is_empty() { None } else { read() };
        let policy = policy.map(|policy| policy.with(&entered));
        let policy = policy.filter(|policy| policy.check_group(&clients()).is_ok());
        match policy {
            Some(policy) => Self {
                entered,
                policy: Some(Arc::new(policy)),
            },
            None => Self::default(),
        }
    }

    /// The policy, with those who came in by themselves among its participants.
    pub(crate) fn policy(&self) -> Option<&Policy> {
        self.policy.as_deref()
    }

    /// Who stands in no list yet.
    pub(crate) fn entered(&self) -> &Entered {
        &self.entered
    }
}
