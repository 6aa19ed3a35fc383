//! The lease of a room's GroupInfo: one joiner at a time, for a few seconds, never in a member's way.
//!
//! Promises: at most one lease for each room; it ends with the epoch, with its time, or with its code; only the client
//! that has it can open an epoch from outside; leases without a Commit cost whoever had them.
//!
//! Source: transport requirements, section 3.3.

use super::{codes::Codes, outcome::Refused};
use crate::{
    ids::ClientUri,
    limits::{
        LEASE_WASTERS_PER_ROOM_MAX, LEASES_REMEMBERED_PER_ROOM_MAX, LEASES_UNUSED_MAX,
        LEASES_UNUSED_WINDOW_MS,
    },
    machine::Millis,
    wire::{Payload, event::Hash, joining::CodeId, refusal::RefusalCode},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Grant a joiner the lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The client.
    pub joiner: ClientUri,
    /// Names its request.
    pub request: Hash,
    /// The signature key that its leaf must have.
    pub signature_key: Payload,
    /// The code that admits it; absent when its user is a participant.
    pub code: Option<CodeId>,
    /// For how long, in milliseconds.
    pub lease_ms: u32,
}

/// A lease, as long as it lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The client that has it.
    pub joiner: ClientUri,
    /// Names its request.
    pub request: Hash,
    /// The signature key that its leaf must have.
    pub signature_key: Payload,
    /// The code that is reserved with it.
    pub code: Option<CodeId>,
    /// When it ends.
    pub until: Millis,
}

/// Who joins a room by itself: the lease, who wasted some, and the codes that admit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Joining {
    pub(super) lease: Option<Lease>,
    /// Who had the lease that the current epoch ended: it may learn that.
    pub(super) overtaken: Option<ClientUri>,
    /// When leases without a Commit ended, of each client.
    pub(super) unused: BTreeMap<ClientUri, VecDeque<Millis>>,
    /// Requests that had a lease, oldest first: none of them gets another.
    pub(super) granted: VecDeque<Hash>,
    pub(super) codes: Codes,
}

impl Joining {
    /// Ends the lease whose time is over.
    pub(super) fn settle(&mut self, time: Millis) {
        if let Some(lease) = self.lease.take_if(|lease| lease.until <= time) {
            self.count_unused(&lease.joiner, lease.until);
        }
        let counts = |at: &Millis| at.plus(LEASES_UNUSED_WINDOW_MS) > time;
        self.unused.retain(|_, ends| {
            ends.retain(counts);
            !ends.is_empty()
        });
    }

    pub(super) fn count_unused(&mut self, joiner: &ClientUri, at: Millis) {
        if self.unused.len() >= LEASE_WASTERS_PER_ROOM_MAX && !self.unused.contains_key(joiner) {
            let oldest = self.unused.iter().min_by_key(|(_, ends)| ends.back());
            if let Some(oldest) = oldest.map(|(client, _)| client.clone()) {
                self.unused.remove(&oldest);
            }
        }
        let ends = self.unused.entry(joiner.clone()).or_default();
        if ends.len() == LEASES_UNUSED_MAX {
            ends.pop_front();
        }
        ends.push_back(at);
    }

    /// When the client may ask again, if it may not now; in milliseconds.
    pub(super) fn limited(&self, joiner: &ClientUri, time: Millis) -> Option<u32> {
        let ends = self.unused.get(joiner)?;
        let counted = ends.iter().map(|end| end.plus(LEASES_UNUSED_WINDOW_MS));
        let counted: Vec<_> = counted.filter(|over| *over > time).collect();
        let first = counted.first()?;
        (counted.len() >= LEASES_UNUSED_MAX).then(|| until_ms(time, *first))
    }

    pub(super) fn remember(&mut self, request: Hash) {
        if self.granted.len() == LEASES_REMEMBERED_PER_ROOM_MAX {
            self.granted.pop_front();
        }
        self.granted.push_back(request);
    }

    /// The code is ended: so is the lease that reserved it.
    pub(super) fn end_leases_with(&mut self, code: CodeId) {
        self.lease.take_if(|lease| lease.code == Some(code));
    }

    /// An epoch begins: whatever was built on the last one is of no use. The code of a joiner whose Commit opened it
    /// is used.
    pub(super) fn epoch_opened(&mut self, by_joiner: bool) {
        if let Some(code) = self.lease.as_ref().and_then(|lease| lease.code)
            && by_joiner
        {
            self.codes.consume(code);
        }
        let ended = self.lease.take().filter(|_| !by_joiner);
        self.overtaken = ended.map(|lease| lease.joiner);
    }
}

/// The refusal of a request that had its lease.
pub(super) fn replayed() -> Refused {
    Refused::invalid(
        RefusalCode::Replayed,
        "the request had its lease; make a new one",
    )
}

/// How long it is from `now` until `then`, in milliseconds.
pub(super) fn until_ms(now: Millis, then: Millis) -> u32 {
    u32::try_from(then.0.saturating_sub(now.0)).unwrap_or(u32::MAX)
}
