//! The lease of a room's GroupInfo: one joiner at a time, for a few seconds, never in a member's way.
//!
//! Promises: at most one lease for each room; it ends with the epoch, with its time, or with its code; only the client
//! that has it can open an epoch from outside; leases without a Commit cost whoever had them.
//!
//! Source: transport requirements, section 3.3.

use super::{
    codes::{Code, Codes},
    outcome::Refused,
};
use crate::{
    ids::ClientUri,
    limits::{
        LEASE_MS_MAX, LEASE_MS_MIN, LEASE_WASTERS_PER_ROOM_MAX, LEASES_REMEMBERED_PER_ROOM_MAX,
        LEASES_UNUSED_MAX, LEASES_UNUSED_WINDOW_MS,
    },
    machine::Millis,
    wire::{Payload, event::Hash, joining::CodeId, refusal::RefusalCode},
};
use bytes::Bytes;
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
    lease: Option<Lease>,
    /// Who had the lease that the current epoch ended: it may learn that.
    overtaken: Option<ClientUri>,
    /// When leases without a Commit ended, of each client.
    unused: BTreeMap<ClientUri, VecDeque<Millis>>,
    /// Requests that had a lease, oldest first: none of them gets another.
    granted: VecDeque<Hash>,
    codes: Codes,
}

impl Joining {
    /// The lease, if somebody has it at this time.
    pub(super) fn lease(&self, time: Millis) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| lease.until > time)
    }

    /// Whether a request had the lease, and has it no longer.
    pub(super) fn had_lease(&self, request: Hash, time: Millis) -> bool {
        let lease = self.lease(time);
        let has = lease.is_some_and(|lease| lease.request == request);
        self.granted.contains(&request) && !has
    }

    /// Whether a client has the lease, or had it until nobody noticed that its time was over.
    pub(super) fn is_lent_to(&self, client: &ClientUri) -> bool {
        let lease = self.lease.as_ref();
        lease.is_some_and(|lease| lease.joiner == *client)
    }

    /// Whether a client had the lease that the current epoch ended.
    pub(super) fn was_lent_to(&self, client: &ClientUri) -> bool {
        self.overtaken.as_ref() == Some(client)
    }

    /// Whether an external Commit of `sender`, whose leaf has this key, may open an epoch.
    ///
    /// # Errors
    /// [`Refused::LeaseRequired`] without a lease of its own, [`Refused::LeaseExpired`] after it.
    pub(super) fn may_join(
        &self,
        sender: &ClientUri,
        signature_key: Option<&[u8]>,
        time: Millis,
    ) -> Result<(), Refused> {
        let lease = self.lease.as_ref();
        let lease = lease.filter(|lease| lease.joiner == *sender);
        let lease = lease.ok_or(Refused::LeaseRequired)?;
        if lease.until <= time {
            return Err(Refused::LeaseExpired);
        }
        if signature_key.is_some_and(|key| *key != lease.signature_key[..]) {
            return Err(Refused::LeaseRequired);
        }
        Ok(())
    }

    /// Gives the lease to a joiner, if nobody else has it and the joiner may have it; when it ends.
    ///
    /// # Errors
    /// [`Refused::Busy`] while another client has it; [`Refused::NotAuthorized`] for who is neither admitted by a code nor
    /// a client of a participant; a refusal of a request that had its lease; [`Refused::Limited`] for who wasted some.
    pub(super) fn grant(
        &mut self,
        time: Millis,
        grant: &Grant,
        may_come: bool,
    ) -> Result<Millis, Refused> {
        self.settle(time);
        match &self.lease {
            Some(lease) if lease.request == grant.request => return Ok(lease.until),
            Some(lease) if lease.joiner != grant.joiner => {
                return Err(Refused::Busy {
                    place: 1,
                    expected_wait_ms: until_ms(time, lease.until),
                });
            }
            Some(_) | None => {}
        }
        let admitted = match grant.code {
            Some(code) => self.codes.flaw(code, time).is_none(),
            None => true,
        };
        if !(admitted && may_come) {
            return Err(Refused::NotAuthorized);
        }
        if self.granted.contains(&grant.request) {
            return Err(replayed());
        }
        // A client that asks again loses its lease, which counts as unused; a request that is refused above costs nothing.
        if let Some(lease) = self.lease.take() {
            self.count_unused(&lease.joiner, time);
        }
        if let Some(retry_after_ms) = self.limited(&grant.joiner, time) {
            return Err(Refused::Limited { retry_after_ms });
        }
        let lease_ms = grant.lease_ms.clamp(LEASE_MS_MIN, LEASE_MS_MAX);
        let until = time.plus(lease_ms.into());
        self.remember(grant.request);
        self.lease = Some(Lease {
            joiner: grant.joiner.clone(),
            request: grant.request,
            signature_key: Payload(Bytes::copy_from_slice(&grant.signature_key)),
            code: grant.code,
            until,
        });
        Ok(until)
    }

    /// When the client may ask again, if it may not now; in milliseconds.
    pub(super) fn limited(&self, joiner: &ClientUri, time: Millis) -> Option<u32> {
        let ends = self.unused.get(joiner)?;
        let counted = ends.iter().map(|end| end.plus(LEASES_UNUSED_WINDOW_MS));
        let counted: Vec<_> = counted.filter(|over| *over > time).collect();
        let first = counted.first()?;
        (counted.len() >= LEASES_UNUSED_MAX).then(|| until_ms(time, *first))
    }

    /// When one of several clients may ask again, who may waste so many leases together; in milliseconds. For a desk: the log
    /// counts for each client alone.
    pub(super) fn limited_together(
        &self,
        is_one: impl Fn(&ClientUri) -> bool,
        max: usize,
        time: Millis,
    ) -> Option<u32> {
        let ours = self.unused.iter().filter(|(client, _)| is_one(client));
        let over =
            ours.flat_map(|(_, ends)| ends.iter().map(|end| end.plus(LEASES_UNUSED_WINDOW_MS)));
        let mut counted: Vec<_> = over.filter(|over| *over > time).collect();
        counted.sort_unstable();
        // When this one counts no longer, they are below it.
        let first = counted.len().checked_sub(max)?;
        counted.get(first).map(|over| until_ms(time, *over))
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

    /// The code that is reserved with the lease.
    pub(super) fn code(&self) -> Option<CodeId> {
        self.lease.as_ref().and_then(|lease| lease.code)
    }

    /// The codes that admit.
    pub(super) fn codes(&self) -> &Codes {
        &self.codes
    }

    /// Keeps a code.
    ///
    /// # Errors
    /// As [`Codes::keep`].
    pub(super) fn keep_code(&mut self, time: Millis, code: &Code) -> Result<CodeId, Refused> {
        self.codes.keep(time, code)
    }

    /// Ends a code, and the lease that reserved it; whether there is such a code.
    pub(super) fn revoke_code(&mut self, id: CodeId) -> bool {
        let known = self.codes.revoke(id);
        if known {
            self.lease.take_if(|lease| lease.code == Some(id));
        }
        known
    }

    /// Counts a wrong code of a client, and, with `foreign`, of its provider.
    pub(super) fn count_wrong_code(&mut self, joiner: &ClientUri, foreign: bool, time: Millis) {
        self.codes.count_wrong(joiner, foreign, time);
    }

    /// Ends the lease whose time is over.
    fn settle(&mut self, time: Millis) {
        if let Some(lease) = self.lease.take_if(|lease| lease.until <= time) {
            self.count_unused(&lease.joiner, lease.until);
        }
        let counts = |at: &Millis| at.plus(LEASES_UNUSED_WINDOW_MS) > time;
        self.unused.retain(|_, ends| {
            ends.retain(counts);
            !ends.is_empty()
        });
    }

    fn count_unused(&mut self, joiner: &ClientUri, at: Millis) {
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

    fn remember(&mut self, request: Hash) {
        if self.granted.len() == LEASES_REMEMBERED_PER_ROOM_MAX {
            self.granted.pop_front();
        }
        self.granted.push_back(request);
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
