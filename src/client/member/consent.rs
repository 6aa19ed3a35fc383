//! Consent: asking others for theirs, and giving or refusing one's own.

use super::{Member, MemberError};
use crate::door::DoorError;
use mimi_actors::{
    ids::{RoomUri, UserUri},
    wire::{
        consent::{Consents, ConsentsAsk, Said, Scope, Standing},
        user,
    },
};

/// Somebody, for one room or for any.
fn scope(user: &UserUri, room: Option<&RoomUri>) -> Scope {
    Scope {
        user: user.clone(),
        room: room.cloned(),
    }
}

impl Member {
    /// Asks somebody for consent, for one room or for any. The answer says nothing about whom was asked; a grant comes as
    /// [`Note::ConsentSaid`](mimi_actors::wire::post::Note::ConsentSaid), perhaps much later, perhaps never.
    ///
    /// # Errors
    /// [`MemberError::NotTaken`] when too much was asked lately; [`MemberError::Door`] when the provider does not answer, or
    /// has no link to the other one.
    pub async fn ask_consent(
        &mut self,
        of: &UserUri,
        room: Option<&RoomUri>,
    ) -> Result<(), MemberError> {
        self.consents_say(ConsentsAsk::Request(scope(of, room)))
            .await
    }

    /// Takes back what was asked.
    ///
    /// # Errors
    /// As [`Self::ask_consent`].
    pub async fn cancel_consent(
        &mut self,
        of: &UserUri,
        room: Option<&RoomUri>,
    ) -> Result<(), MemberError> {
        self.consents_say(ConsentsAsk::Cancel(scope(of, room)))
            .await
    }

    /// Gives somebody consent, asked or not.
    ///
    /// # Errors
    /// As [`Self::ask_consent`].
    pub async fn grant_consent(
        &mut self,
        to: &UserUri,
        room: Option<&RoomUri>,
    ) -> Result<(), MemberError> {
        self.consents_say(ConsentsAsk::Grant(scope(to, room))).await
    }

    /// As [`Self::grant_consent`], with a KeyPackage of each device of this user that has one in stock.
    ///
    /// # Errors
    /// As [`Self::ask_consent`].
    pub async fn grant_consent_with_packages(
        &mut self,
        to: &UserUri,
        room: Option<&RoomUri>,
    ) -> Result<(), MemberError> {
        self.consents_say(ConsentsAsk::GrantWithPackages(scope(to, room)))
            .await
    }

    /// Refuses somebody consent or takes it back, asked or not. Nobody hears of it, unless [`Self::tell_revocations`] was said.
    ///
    /// # Errors
    /// As [`Self::ask_consent`].
    pub async fn revoke_consent(
        &mut self,
        of: &UserUri,
        room: Option<&RoomUri>,
    ) -> Result<(), MemberError> {
        self.consents_say(ConsentsAsk::Revoke(scope(of, room)))
            .await
    }

    /// Says whether others are told from now on that their consent is refused or taken back.
    ///
    /// # Errors
    /// As [`Self::ask_consent`].
    pub async fn tell_revocations(&mut self, tells: bool) -> Result<(), MemberError> {
        self.consents_say(ConsentsAsk::TellRevocations(tells)).await
    }

    /// What there is about consent: who waits for an answer, what was asked, and all that was said about others.
    ///
    /// # Errors
    /// As [`Self::ask_consent`].
    pub async fn consents(&mut self) -> Result<AllConsents, MemberError> {
        let mut all = AllConsents::default();
        let mut after = None;
        loop {
            let ask = ConsentsAsk::List { after };
            let user::Answer::Consents(part) = self.consents_asked(ask).await? else {
                return Err(DoorError::Unexpected.into());
            };
            let Consents {
                waiting,
                asked,
                tells_revocations,
                said,
                more,
            } = *part;
            all.waiting = waiting.into_vec();
            all.asked = asked.into_vec();
            all.tells_revocations = tells_revocations;
            all.said.extend(said);
            let last = all.said.last().filter(|_| more);
            let Some(last) = last else {
                return Ok(all);
            };
            after = Some((last.requester.clone(), last.room.clone()));
        }
    }

    async fn consents_say(&mut self, ask: ConsentsAsk) -> Result<(), MemberError> {
        let answer = self.consents_asked(ask).await?;
        if matches!(answer, user::Answer::Done | user::Answer::Unchanged) {
            return Ok(());
        }
        Err(DoorError::Unexpected.into())
    }

    async fn consents_asked(&mut self, ask: ConsentsAsk) -> Result<user::Answer, MemberError> {
        let request = user::Request::Consents(ask);
        let answer = self.door()?.ask_user(request).await?;
        if let user::Answer::Refused(refused) = answer {
            return Err(MemberError::NotTaken(refused));
        }
        Ok(answer)
    }
}

/// All that a user said and asked about consent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllConsents {
    /// Who waits for an answer, oldest first.
    pub waiting: Vec<Scope>,
    /// What the user asked of others, and heard from them, oldest first.
    pub asked: Vec<(Scope, Standing)>,
    /// Whether others are told that consent is refused.
    pub tells_revocations: bool,
    /// What the user said about others.
    pub said: Vec<Said>,
}
