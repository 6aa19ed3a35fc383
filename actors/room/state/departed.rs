//! Members whom their own provider does not know any more, until a Commit has removed them.
//!
//! Promises: each is a member; who comes again by itself is none of them.
//!
//! Source: transport requirements, section 5.

use crate::{ids::ClientUri, mls::tree::view::Member, wire::post::DepartedWhy};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who is to go, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Departed(BTreeMap<ClientUri, DepartedWhy>);

impl Departed {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A member is to go. What was said of it first counts.
    pub(crate) fn add(&mut self, client: &ClientUri, why: DepartedWhy) {
        if !self.0.contains_key(client) {
            self.0.insert(client.clone(), why);
        }
    }

    pub(crate) fn holds(&self, client: &ClientUri) -> bool {
        self.0.contains_key(client)
    }

    /// In the order of clients.
    pub(crate) fn clients(&self) -> impl Iterator<Item = &ClientUri> {
        self.0.keys()
    }

    /// An epoch begins without these members, or with new leaves of theirs.
    pub(crate) fn left(&mut self, left: &[Member]) {
        for left in left {
            self.0.remove(&left.client);
        }
    }

    /// The group has ended: nobody can be removed any more.
    pub(crate) fn ended(&mut self) {
        self.0.clear();
    }
}
