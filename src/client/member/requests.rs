//! Requests of a member, each as one call.

use super::{Component, Member, MemberError, PackageOptions, PreparedCommit, Proposing, mls};
use crate::door::DoorError;
use mimi_actors::{
    ids::{ClientUri, RoomUri, UserUri},
    limits::{CLAIM_USERS_MAX, PROPOSALS_PER_BUNDLE_MAX},
    wire::{
        BVec, Payload,
        answer::{Accepted, Answer},
        claim::{ClaimId, ClaimResponse, ClaimTerms, ClaimedUser, UserRefused},
        door::PackageRefused,
        refusal::Refuses,
        room::Request,
    },
};
use ring::rand::{SecureRandom as _, SystemRandom};

impl Member {
    /// Uploads `count` fresh KeyPackages; says how many were taken.
    ///
    /// # Errors
    /// [`MemberError::Door`] when the provider does not answer.
    pub async fn upload(&mut self, count: usize) -> Result<usize, MemberError> {
        let results = self.upload_with(count, &PackageOptions::default()).await?;
        Ok(results.iter().filter(|result| result.is_ok()).count())
    }

    /// Uploads `count` fresh KeyPackages made with `options`; for each, whether it was taken.
    ///
    /// # Errors
    /// [`MemberError::Door`] when the provider does not answer.
    pub async fn upload_with(
        &mut self,
        count: usize,
        options: &PackageOptions,
    ) -> Result<Vec<Result<(), PackageRefused>>, MemberError> {
        let packages = self.key_packages(count, options)?;
        self.save().await?;
        Ok(self.door()?.upload(packages).await?)
    }

    /// Claims a KeyPackage of each client of these users, for `room` if it is named.
    ///
    /// # Errors
    /// [`MemberError::Door`] when the provider does not answer; [`Self::claim_again`] then takes the claim up again.
    pub async fn claim(
        &mut self,
        room: Option<RoomUri>,
        users: &[UserUri],
    ) -> Result<ClaimResponse, MemberError> {
        self.claim_again(new_claim_id()?, room, users).await
    }

    /// As [`Self::claim`], with an id of the caller: the same id and terms get the same packages.
    ///
    /// # Errors
    /// [`MemberError::Door`] when the provider does not answer.
    pub async fn claim_again(
        &mut self,
        id: ClaimId,
        room: Option<RoomUri>,
        users: &[UserUri],
    ) -> Result<ClaimResponse, MemberError> {
        let mut terms = ClaimTerms::new(self.client().user().clone());
        terms.room = room;
        self.claim_with(id, &terms, users).await
    }

    /// As [`Self::claim_again`], with terms of the caller. Users for whom an answer has no room are claimed again.
    ///
    /// # Errors
    /// [`MemberError::Door`] when the provider does not answer.
    pub async fn claim_with(
        &mut self,
        id: ClaimId,
        terms: &ClaimTerms,
        users: &[UserUri],
    ) -> Result<ClaimResponse, MemberError> {
        let mut claimed: Vec<ClaimedUser> = Vec::with_capacity(users.len());
        let mut left = users.to_vec();
        while !left.is_empty() {
            let some = left.get(..CLAIM_USERS_MAX).unwrap_or(&left);
            let answer = self.door()?.claim(id, terms.clone(), some).await?;
            let rows = answer.users.into_vec();
            let full = |row: &ClaimedUser| row.result == Err(UserRefused::AnswerFull);
            if rows.iter().all(full) {
                return Err(DoorError::Unexpected.into());
            }
            let answered = rows.into_iter().filter(|row| !full(row));
            claimed.extend(answered);
            left.retain(|user| !claimed.iter().any(|row| row.user == *user));
        }
        let place = |row: &ClaimedUser| users.iter().position(|user| *user == row.user);
        claimed.sort_by_key(place);
        Ok(ClaimResponse {
            users: BVec::try_from(claimed).map_err(mls("claim KeyPackages"))?,
        })
    }

    /// Makes a room of the own provider.
    ///
    /// # Errors
    /// [`MemberError::Refused`] when the hub does not open it; the group is forgotten then, unless the same request may be
    /// sent again.
    pub async fn create_room(&mut self, room: &RoomUri) -> Result<(), MemberError> {
        self.create_room_with(room, &[]).await
    }

    /// As [`Self::create_room`], with room policy.
    ///
    /// # Errors
    /// As there.
    pub async fn create_room_with(
        &mut self,
        room: &RoomUri,
        policy: &[Component],
    ) -> Result<(), MemberError> {
        let hub = self.door()?.hub_sender().await?;
        let opening = self.prepare_room_with(room, &hub, policy)?;
        self.save().await?;
        let request = Request::Create(opening);
        let answer = self.door()?.ask(room.clone(), request).await?;
        if answer == Answer::Created {
            return Ok(());
        }
        let Answer::Refused(refused) = answer else {
            return Err(DoorError::Unexpected.into());
        };
        if !refused.refusal().retry.is_same() {
            self.abandon_room(room)?;
            self.save().await?;
        }
        Err(MemberError::Refused(refused))
    }

    /// Sends a prepared Commit and does what the hub says: merges it, or gives it up.
    ///
    /// A Commit whose fate is unknown ([`MemberError::Door`]) stays pending: send it again, or wait for its event.
    ///
    /// # Errors
    /// [`MemberError::Lost`] when another Commit won, [`MemberError::Refused`] for all other refusals.
    pub async fn commit(&mut self, prepared: &PreparedCommit) -> Result<Accepted, MemberError> {
        let pending = self.pending_commit(&prepared.room) == Some(prepared);
        // Once its event has come, sending it again only asks for the first answer.
        let decided = self.epoch(&prepared.room) >= Some(prepared.epoch);
        if !pending && !decided {
            // If the hub took it, nobody could merge it here.
            return Err(mls("commit")(
                "this Commit was given up, or is of another device",
            ));
        }
        self.save().await?;
        let request = Request::Commit(prepared.bundle());
        let answer = self.door()?.ask(prepared.room.clone(), request).await?;
        let outcome = self.commit_answered(&prepared.room, answer);
        self.save().await?;
        outcome
    }

    /// Proposes; gives the references under which the Proposals wait.
    ///
    /// # Errors
    /// [`MemberError::Refused`] when the room does not take them, [`MemberError::TooMany`] when there are more than a request
    /// holds; they are withdrawn then.
    pub async fn propose(
        &mut self,
        room: &RoomUri,
        what: Proposing<'_>,
    ) -> Result<Vec<Payload>, MemberError> {
        let proposals = self.prepare_proposals(room, what)?;
        let Ok(all) = BVec::try_from(proposals.clone()) else {
            self.withdraw(room, &proposals)?;
            return Err(MemberError::TooMany {
                what: "Proposals in a request",
                max: PROPOSALS_PER_BUNDLE_MAX,
            });
        };
        self.save().await?;
        let request = Request::Propose(all);
        let answer = self.door()?.ask(room.clone(), request).await?;
        if let Answer::Proposed(references) = answer {
            return Ok(references.into_vec());
        }
        let Answer::Refused(refused) = answer else {
            return Err(DoorError::Unexpected.into());
        };
        self.withdraw(room, &proposals)?;
        self.save().await?;
        Err(MemberError::Refused(refused))
    }

    /// As [`Self::propose`], to remove clients.
    ///
    /// # Errors
    /// As there.
    pub async fn propose_remove(
        &mut self,
        room: &RoomUri,
        clients: &[ClientUri],
    ) -> Result<Vec<Payload>, MemberError> {
        self.propose(room, Proposing::Remove(clients)).await
    }

    /// As [`Self::propose`], to add the clients of KeyPackages.
    ///
    /// # Errors
    /// As there.
    pub async fn propose_add(
        &mut self,
        room: &RoomUri,
        packages: &[Payload],
    ) -> Result<Vec<Payload>, MemberError> {
        self.propose(room, Proposing::Add(packages)).await
    }

    /// As [`Self::propose`], to leave: the next Commit of another member lets this device go.
    ///
    /// # Errors
    /// As there.
    pub async fn leave_room(&mut self, room: &RoomUri) -> Result<Vec<Payload>, MemberError> {
        self.propose(room, Proposing::Leave).await
    }

    /// As [`Self::propose`], to renew the own leaf.
    ///
    /// # Errors
    /// As there.
    pub async fn propose_update(&mut self, room: &RoomUri) -> Result<Vec<Payload>, MemberError> {
        self.propose(room, Proposing::Update).await
    }
}

/// A fresh claim id.
///
/// # Errors
/// [`MemberError::Mls`] when the system has no randomness to give.
pub fn new_claim_id() -> Result<ClaimId, MemberError> {
    let mut id = [0; 16];
    SystemRandom::new()
        .fill(&mut id)
        .map_err(mls("make a claim id"))?;
    Ok(ClaimId(id))
}
