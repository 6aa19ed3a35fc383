//! Who may join by itself, as the hub's fold decides it: the lease, the joining codes and who is locked out.
//!
//! The rules of each are beside what is kept: [`super::leases`] and [`super::codes`].
//!
//! Source: transport requirements, sections 3.3 and 7.3.

use super::{
    codes::{Code, KeepCode, Lock, RevokeCode, Uncounted, WrongCode},
    hub::{Fold, Room},
    leases::{Grant, Lease},
    outcome::{Answer, Done, Outcome, Refused},
    policy::CodeAction,
};
use crate::{
    ids::ClientUri,
    limits::{LEASES_UNUSED_PER_PROVIDER_MAX, LEASES_UNUSED_PER_USER_MAX},
    machine::{Millis, Moment},
    policy::{components::Role, state::Policy},
    wire::{
        event::Hash,
        joining::{CodeId, CodeList},
        refusal::RefusalCode,
    },
};

impl Room {
    /// The lease, if somebody has it at this time.
    #[must_use]
    pub fn lease(&self, time: Millis) -> Option<&Lease> {
        self.joining.lease(time)
    }

    /// Whether a request had the lease, and has it no longer.
    pub(super) fn had_lease(&self, request: Hash, time: Millis) -> bool {
        self.joining.had_lease(request, time)
    }

    /// When a client that wasted leases, or whose user or provider did, may ask again, if it may not now; in milliseconds.
    #[must_use]
    pub fn lease_limited(&self, joiner: &ClientUri, time: Millis) -> Option<u32> {
        let of_user = |client: &ClientUri| client.user() == joiner.user();
        let of_provider = |client: &ClientUri| client.provider() == joiner.provider();
        let provider = || {
            let max = LEASES_UNUSED_PER_PROVIDER_MAX;
            let wait_ms = || self.joining.limited_together(of_provider, max, time);
            self.is_foreign(joiner).then(wait_ms).flatten()
        };
        let own = self.joining.limited(joiner, time);
        own.or_else(|| {
            let max = LEASES_UNUSED_PER_USER_MAX;
            self.joining.limited_together(of_user, max, time)
        })
        .or_else(provider)
    }

    /// Whether a client had the lease that the current epoch ended.
    pub(super) fn was_overtaken(&self, joiner: &ClientUri) -> bool {
        self.joining.was_lent_to(joiner)
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
        self.joining.may_join(sender, signature_key, time)
    }

    /// The codes, for a check.
    #[must_use]
    pub fn codes(&self) -> Vec<(CodeId, Code)> {
        self.joining.codes().all()
    }

    /// The codes, for members.
    #[must_use]
    pub fn code_list(&self) -> CodeList {
        self.joining.codes().list()
    }

    /// How the codes of this client are looked at; `uncounted` wrong ones are on their way into the log.
    #[must_use]
    pub fn code_lock<'a>(
        &self,
        joiner: &ClientUri,
        time: Millis,
        uncounted: impl Iterator<Item = &'a ClientUri>,
    ) -> Lock {
        let mut sum = Uncounted::default();
        for client in uncounted {
            sum.client += usize::from(client == joiner);
            sum.user += usize::from(client.user() == joiner.user());
            let peer = client.provider() == joiner.provider() && self.is_foreign(joiner);
            sum.provider += usize::from(peer);
        }
        self.joining.codes().lock(joiner, time, sum)
    }

    /// Whether a code asks for a passphrase.
    #[must_use]
    pub fn has_passphrase(&self, id: CodeId) -> bool {
        self.joining.codes().has_passphrase(id)
    }

    /// Whether a client is another provider's. This one enrols its clients itself; another could make up as many as it
    /// likes, so their wrong codes count for their provider, too.
    fn is_foreign(&self, client: &ClientUri) -> bool {
        *client.provider() != self.hub
    }
}

impl Fold {
    pub(super) fn grant(&mut self, moment: Moment, grant: &Grant) -> Outcome {
        let Moment { time, level, .. } = moment;
        let Some(room) = &mut self.room else {
            return Outcome::refused(Refused::NotAuthorized);
        };
        if room.has_ended() {
            return Outcome::refused(Refused::Ended);
        }
        let may_come = room.may_have_lease(level, &grant.joiner, grant.code);
        match room.joining.grant(time, grant, may_come) {
            Ok(until) => Outcome::answer(Done::Granted { until }),
            Err(refused) => Outcome::refused(refused),
        }
    }

    pub(super) fn keep_code(&mut self, moment: Moment, keep: &KeepCode) -> Outcome {
        let Moment { time, level, .. } = moment;
        let Some(room) = &mut self.room else {
            return Outcome::refused(Refused::NotAuthorized);
        };
        if !room.has_member(&keep.code.creator) {
            return Outcome::refused(Refused::NotAuthorized);
        }
        // Without a role whoever comes gets the first one that there is for it.
        let makes = |policy: &Policy| {
            let role = keep.code.role_index.or_else(|| policy.first_role());
            Some(CodeAction::Make(role.unwrap_or(Role::NOBODY)))
        };
        if let Err(refused) = room.check_code(level, &keep.code.creator, makes) {
            return Outcome::refused(refused);
        }
        match room.joining.keep_code(time, &keep.code) {
            Ok(id) => Outcome::answer(Done::CodeKept(id)),
            Err(refused) => Outcome::refused(refused),
        }
    }

    pub(super) fn revoke_code(&mut self, moment: Moment, revoke: &RevokeCode) -> Outcome {
        let Some(room) = &mut self.room else {
            return Outcome::refused(Refused::NotAuthorized);
        };
        if !room.has_member(&revoke.member) {
            return Outcome::refused(Refused::NotAuthorized);
        }
        let is_own = room.joining.codes().is_made_by(revoke.id, &revoke.member);
        let ends = |_: &Policy| (!is_own).then_some(CodeAction::End);
        if let Err(refused) = room.check_code(moment.level, &revoke.member, ends) {
            return Outcome::refused(refused);
        }
        if room.joining.revoke_code(revoke.id) {
            return Outcome::answer(Answer::CodeRevoked);
        }
        Outcome::refused(Refused::invalid(
            RefusalCode::UnknownCode,
            "the room has no such joining code",
        ))
    }

    pub(super) fn wrong_code(&mut self, time: Millis, wrong: &WrongCode) -> Outcome {
        if let Some(room) = &mut self.room {
            let foreign = room.is_foreign(&wrong.joiner);
            room.joining.count_wrong_code(&wrong.joiner, foreign, time);
        }
        Outcome::refused(Refused::NotAuthorized)
    }
}
