//! What was accepted lately, so that a retry gets its first answer.
//!
//! Promises: the newest of each kind are remembered, across epochs, and at most so many as the limits say.
//!
//! Source: transport requirements, section 3.2.

use crate::{
    limits::{
        BUNDLES_REMEMBERED_PER_ROOM_MAX, PROPOSALS_PER_BUNDLE_MAX,
        PROPOSALS_REMEMBERED_PER_ROOM_MAX,
    },
    room::outcome::Accepted,
    wire::{BVec, Payload, event::Hash},
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The references of a request's Proposals.
type References = BVec<Payload, PROPOSALS_PER_BUNDLE_MAX>;

/// First answers, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct FirstAnswers {
    /// By the hash of a Commit bundle.
    bundles: VecDeque<(Hash, Accepted)>,
    /// By the name of a request with Proposals, their references.
    proposals: VecDeque<(Hash, References)>,
}

impl FirstAnswers {
    pub(crate) fn of_bundle(&self, bundle: Hash) -> Option<Accepted> {
        self.bundles
            .iter()
            .rev()
            .find(|(hash, _)| *hash == bundle)
            .map(|(_, accepted)| *accepted)
    }

    pub(crate) fn of_proposals(&self, request: Hash) -> Option<References> {
        let found = self.proposals.iter().rev().find(|(of, _)| *of == request);
        found.map(|(_, references)| references.clone())
    }

    pub(crate) fn remember_bundle(&mut self, bundle: Hash, accepted: Accepted) {
        if self.bundles.len() == BUNDLES_REMEMBERED_PER_ROOM_MAX {
            self.bundles.pop_front();
        }
        self.bundles.push_back((bundle, accepted));
    }

    pub(crate) fn remember_proposals(&mut self, request: Hash, references: References) {
        if self.proposals.len() == PROPOSALS_REMEMBERED_PER_ROOM_MAX {
            self.proposals.pop_front();
        }
        self.proposals.push_back((request, references));
    }
}
