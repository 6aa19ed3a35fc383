//! The hub's fold on who may join by itself: the lease, the joining codes and who is locked out.
//!
//! The rules of each are beside what is kept: [`super::leases`] and [`super::codes`].
//!
//! Source: transport requirements, sections 3.3 and 7.3.

use super::{
    codes::{Code, Guesser, KeepCode, RevokeCode, WrongCode},
    hub::{Fold, Room},
    leases::{Grant, Lease, replayed, until_ms},
    outcome::{Answer, Done, Outcome, Refused},
};
use crate::{
    ids::ClientUri,
    limits::{LEASE_MS_MAX, LEASE_MS_MIN},
    machine::Millis,
    wire::{
        BVec, Payload,
        event::Hash,
        joining::{CodeFacts, CodeId, CodeList},
        refusal::RefusalCode,
    },
};

impl Room {
    /// The lease, if somebody has it at this time.
    #[must_use]
    pub fn lease(&self, time: Millis) -> Option<&Lease> {
        let lease = self.joining.lease.as_ref();
        lease.filter(|lease| lease.until > time)
    }

    /// Whether a request had the lease, and has it no longer.
    pub(super) fn had_lease(&self, request: Hash, time: Millis) -> bool {
        let has = self
            .lease(time)
            .is_some_and(|lease| lease.request == request);
        self.joining.granted.contains(&request) && !has
    }

    /// When a client that wasted leases may ask again, if it may not now; in milliseconds.
    #[must_use]
    pub fn lease_limited(&self, joiner: &ClientUri, time: Millis) -> Option<u32> {
        self.joining.limited(joiner, time)
    }

    /// Whether a client of the same user is a member.
    #[must_use]
    pub fn is_participant(&self, client: &ClientUri) -> bool {
        let first = self.members.range(client_floor(client)..).next();
        first.is_some_and(|(member, _)| member.user() == client.user())
    }

    /// Whether a client has the lease, or had it until nobody noticed that its time was over.
    pub(super) fn is_lent_to(&self, client: &ClientUri) -> bool {
        let lease = self.joining.lease.as_ref();
        lease.is_some_and(|lease| lease.joiner == *client)
    }

    /// Whether a client had the lease that the current epoch ended.
    pub(super) fn was_lent_to(&self, client: &ClientUri) -> bool {
        self.joining.overtaken.as_ref() == Some(client)
    }

    /// Whether an external Commit of `sender`, whose leaf has this key, may open an epoch.
    ///
    /// # Errors
    /// [`Refused::LeaseRequired`] without a lease of its own, [`Refused::LeaseExpired`] after it.
    pub fn may_join(
        &self,
        sender: &ClientUri,
        signature_key: Option<&[u8]>,
        time: Millis,
    ) -> Result<(), Refused> {
        let lease = self.joining.lease.as_ref();
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

    /// Why this request gets no lease, however often it is made.
    fn refuses_lease(&self, grant: &Grant, time: Millis) -> Option<Refused> {
        let admitted = match grant.code {
            Some(code) => self.joining.codes.flaw(code, time).is_none(),
            None => self.is_participant(&grant.joiner),
        };
        if !admitted {
            Some(Refused::NotAuthorized)
        } else if self.joining.granted.contains(&grant.request) {
            Some(replayed())
        } else {
            None
        }
    }
}

/// Where the clients of a user begin, in the order of clients.
fn client_floor(client: &ClientUri) -> ClientUri {
    // No name is shorter or sorts before this one.
    ClientUri::new(client.user(), "-").unwrap_or_else(|_| client.clone())
}

impl Fold {
    pub(super) fn grant(&mut self, time: Millis, grant: &Grant) -> Outcome {
        let Some(room) = &mut self.room else {
            return Outcome::refused(Refused::NotAuthorized);
        };
        if room.ended {
            return Outcome::refused(Refused::Ended);
        }
        room.joining.settle(time);
        match &room.joining.lease {
            Some(lease) if lease.request == grant.request => {
                return Outcome::answer(Done::Granted { until: lease.until });
            }
            Some(lease) if lease.joiner != grant.joiner => {
                return Outcome::refused(Refused::Busy {
                    place: 1,
                    expected_wait_ms: until_ms(time, lease.until),
                });
            }
            Some(_) | None => {}
        }
        if let Some(refused) = room.refuses_lease(grant, time) {
            return Outcome::refused(refused);
        }
        // Who asks anew gives up what it had, which counts; a request that is good for nothing costs nothing.
        if let Some(lease) = room.joining.lease.take()
            && lease.joiner == grant.joiner
        {
            room.joining.count_unused(&lease.joiner, time);
        }
        if let Some(retry_after_ms) = room.joining.limited(&grant.joiner, time) {
            return Outcome::refused(Refused::Limited { retry_after_ms });
        }
        let lease_ms = grant.lease_ms.clamp(LEASE_MS_MIN, LEASE_MS_MAX);
        let until = time.plus(lease_ms.into());
        room.joining.remember(grant.request);
        room.joining.lease = Some(Lease {
            joiner: grant.joiner.clone(),
            request: grant.request,
            signature_key: Payload(bytes::Bytes::copy_from_slice(&grant.signature_key)),
            code: grant.code,
            until,
        });
        Outcome::answer(Done::Granted { until })
    }
}

impl Room {
    /// The codes, for a check.
    #[must_use]
    pub fn codes(&self) -> Vec<(CodeId, Code)> {
        let kept = &self.joining.codes.kept;
        kept.iter().map(|(id, code)| (*id, code.clone())).collect()
    }

    /// The codes, for members.
    #[must_use]
    pub fn code_list(&self) -> CodeList {
        let facts = |(id, code): (&CodeId, &Code)| CodeFacts {
            id: *id,
            creator: code.creator.clone(),
            uses_left: code.uses_left,
            not_after: code.not_after,
            role_index: code.role_index,
            has_passphrase: code.passphrase.is_some(),
            revoked: code.revoked,
        };
        BVec::truncated(self.joining.codes.kept.iter().map(facts).collect())
    }

    /// Whether the codes of this client are not looked at; `uncounted` wrong ones are on their way into the log.
    #[must_use]
    pub fn is_locked<'a>(
        &self,
        joiner: &ClientUri,
        time: Millis,
        uncounted: impl Iterator<Item = &'a ClientUri> + Clone,
    ) -> bool {
        let guesses = &self.joining.codes.guesses;
        let own = uncounted.clone().filter(|client| *client == joiner).count();
        let provider = joiner.provider();
        let peers = uncounted.filter(|client| client.provider() == provider);
        let peers = if *provider == self.hub {
            0
        } else {
            peers.count()
        };
        guesses.is_locked(&Guesser::Client(joiner.clone()), time, own)
            || guesses.is_locked(&Guesser::Provider(provider.clone()), time, peers)
    }
}

impl Fold {
    pub(super) fn keep_code(&mut self, time: Millis, keep: &KeepCode) -> Outcome {
        let Some(room) = &mut self.room else {
            return Outcome::refused(Refused::NotAuthorized);
        };
        if !room.is_member(&keep.code.creator) {
            return Outcome::refused(Refused::NotAuthorized);
        }
        match room.joining.codes.keep(time, &keep.code) {
            Ok(id) => Outcome::answer(Done::CodeKept(id)),
            Err(refused) => Outcome::refused(refused),
        }
    }

    pub(super) fn revoke_code(&mut self, revoke: &RevokeCode) -> Outcome {
        let Some(room) = &mut self.room else {
            return Outcome::refused(Refused::NotAuthorized);
        };
        if !room.is_member(&revoke.member) {
            return Outcome::refused(Refused::NotAuthorized);
        }
        let Some(code) = room.joining.codes.kept.get_mut(&revoke.id) else {
            let refused = Refused::invalid(
                RefusalCode::UnknownCode,
                "the room has no such joining code",
            );
            return Outcome::refused(refused);
        };
        code.revoked = true;
        room.joining.end_leases_with(revoke.id);
        Outcome::answer(Answer::CodeRevoked)
    }

    pub(super) fn wrong_code(&mut self, time: Millis, wrong: &WrongCode) -> Outcome {
        if let Some(room) = &mut self.room {
            let provider = wrong.joiner.provider();
            let guesses = &mut room.joining.codes.guesses;
            guesses.count(Guesser::Client(wrong.joiner.clone()), time);
            // This provider enrols its clients itself; another could make up as many as it likes.
            if *provider != room.hub {
                guesses.count(Guesser::Provider(provider.clone()), time);
            }
        }
        Outcome::refused(Refused::NotAuthorized)
    }
}
