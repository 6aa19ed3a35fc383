//! Joining a room by itself: asking its hub for the GroupInfo, with a joining code or as another device of a
//! participant, and entering with it. And what others need for that: links with codes.
//!
//! Source: transport requirements, sections 3.3 and 7.3.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "whatever is no answer to the request is refused alike"
)]

use super::{Entrance, Member, MemberError, SUITE, mls};
use crate::door::DoorError;
use mimi_actors::{
    group_info::{self, Content},
    ids::{RoomUri, UserUri},
    links::{IntroductionLink, JoinLink},
    machine::Millis,
    mls::{
        codec::sealed::{self, SealingKey},
        tree::container::{self, Before},
    },
    wire::{
        BText, Payload,
        answer::{Accepted, Answer, Refused},
        door::DoorRefused,
        joining::{
            CodeFacts, CodeId, CodeTerms, CodesAsk, GroupInfoRequest, Introduced,
            IntroductionFacts, IntroductionsAsk, SealedGroupInfo,
        },
        refusal::{Refuses, Retry},
        room::Request,
        tree::TreeContainer,
        user,
    },
};
use openmls_traits::signatures::Signer as _;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::{Instant, sleep, timeout_at};

/// How long a request waits in the hub's queue before it is told its place.
const TURN_WAIT: Duration = Duration::from_secs(8);
/// Wait before a request is sent again that was refused for want of time, at least.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// By what right a device asks for the GroupInfo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    /// The code of a link; none for another device of a participant.
    pub code: Option<Payload>,
    /// The passphrase that belongs to the code.
    pub passphrase: Option<String>,
}

/// A GroupInfo request of this device, and the key that opens its answer.
pub struct Asking {
    /// The request.
    pub request: GroupInfoRequest,
    key: SealingKey,
}

impl Member {
    /// Makes a request for the GroupInfo of a room.
    ///
    /// # Errors
    /// [`MemberError::Mls`] when there is no randomness, or the passphrase is too long.
    pub fn prepare_asking(&self, room: &RoomUri, ticket: &Ticket) -> Result<Asking, MemberError> {
        let suite = SUITE as u16;
        let key = SealingKey::generate(suite).map_err(mls("make a key"))?;
        let passphrase = ticket.passphrase.as_deref().map(|text| {
            let bad = || mls("use the passphrase")("too long, or with control characters");
            BText::exact(text).ok_or_else(bad)
        });
        let id = sealed::random().ok_or_else(|| mls("ask for the GroupInfo")("no randomness"))?;
        let mut request = GroupInfoRequest {
            room: room.clone(),
            joiner: self.client().clone(),
            id,
            time: now(),
            ciphersuite: suite,
            hpke_key: Payload(key.public().clone()),
            signature_key: self.signer.public().to_vec().into(),
            container: self.trees.asked(room),
            wait_ms: u32::try_from(TURN_WAIT.as_millis()).unwrap_or(u32::MAX),
            code: ticket.code.clone(),
            passphrase: passphrase.transpose()?,
            signature: Payload::default(),
            envelope: Payload::default(),
            before: Payload::default(),
        };
        group_info::sign_request(&mut request, |content| {
            let signature = self.signer.sign(content);
            signature.map_err(|error| mls("sign a request")(format!("{error:?}")))
        })?;
        Ok(Asking { request, key })
    }

    /// Asks the hub for what entering a room takes; the device then has the room's lease.
    ///
    /// # Errors
    /// [`MemberError::Refused`]: with [`Refused::Busy`] when others are first, [`Refused::NotAuthorized`] when the device
    /// has no right to join, or the room does not exist.
    pub async fn ask_group_info(
        &mut self,
        room: &RoomUri,
        ticket: &Ticket,
    ) -> Result<Entrance, MemberError> {
        let asking = self.prepare_asking(room, ticket)?;
        let sealed = self.send_asking(&asking).await?;
        self.open_answer(&asking, &sealed)
    }

    /// Opens the answer to a request of this device; the tree may come of the one that the last answer held.
    ///
    /// # Errors
    /// As [`Asking::open`], and when the tree does not come of that one; the next request is for a whole tree then.
    pub fn open_answer(
        &mut self,
        asking: &Asking,
        sealed: &SealedGroupInfo,
    ) -> Result<Entrance, MemberError> {
        let room = &asking.request.room;
        let entrance = asking.open_with(sealed, self.trees.held(room));
        self.trees.hold(room, entrance.as_ref().ok());
        entrance
    }

    /// Sends a request for the GroupInfo; the same one again, as long as its lease lasts, gets the same lease.
    ///
    /// # Errors
    /// As [`Self::ask_group_info`].
    pub async fn send_asking(&self, asking: &Asking) -> Result<SealedGroupInfo, MemberError> {
        let room = asking.request.room.clone();
        let request = Request::GroupInfo(Arc::new(asking.request.clone()));
        match self.door()?.ask(room, request).await? {
            Answer::GroupInfo(sealed) => Ok(*sealed),
            Answer::Refused(refused) => Err(MemberError::Refused(refused)),
            _ => Err(DoorError::Unexpected.into()),
        }
    }

    /// Joins a room by itself: asks for the GroupInfo and enters with it, again and again until the deadline, as long
    /// as others are first or faster.
    ///
    /// # Errors
    /// [`MemberError::Refused`] when the hub refuses for another reason, [`MemberError::Deadline`].
    pub async fn join_by_itself(
        &mut self,
        room: &RoomUri,
        ticket: &Ticket,
        within: Duration,
    ) -> Result<Accepted, MemberError> {
        let deadline = Instant::now() + within;
        loop {
            let entering = timeout_at(deadline, self.try_to_join(room, ticket));
            let again_after = match entering.await.map_err(|_| MemberError::Deadline)? {
                Ok(accepted) => return Ok(accepted),
                Err(error) => join_again_after(&error).ok_or(error)?,
            };
            if Instant::now() + again_after >= deadline {
                return Err(MemberError::Deadline);
            }
            sleep(again_after).await;
        }
    }

    /// Asks for the GroupInfo and enters with it, once.
    ///
    /// # Errors
    /// As [`Self::join_by_itself`]; [`join_again_after`] tells those that another try can mend.
    pub async fn try_to_join(
        &mut self,
        room: &RoomUri,
        ticket: &Ticket,
    ) -> Result<Accepted, MemberError> {
        let entrance = self.ask_group_info(room, ticket).await?;
        let prepared = self.prepare_entry(room, &entrance)?;
        loop {
            // The hub may have taken it: only the same Commit gets its first answer.
            let result = self.commit(&prepared).await;
            match result.as_ref().err().and_then(unanswered) {
                Some(retry_after) => sleep(retry_after).await,
                None => return result,
            }
        }
    }

    /// Follows a link into its room.
    ///
    /// # Errors
    /// As [`Self::join_by_itself`].
    pub async fn follow_link(
        &mut self,
        link: &JoinLink,
        passphrase: Option<&str>,
        within: Duration,
    ) -> Result<Accepted, MemberError> {
        let ticket = Ticket {
            code: link.code.clone(),
            passphrase: passphrase.map(str::to_owned),
        };
        self.join_by_itself(&link.room, &ticket, within).await
    }

    /// Makes a link that admits to a room of which this device is a member; also the name of its code.
    ///
    /// # Errors
    /// [`MemberError::Refused`] when the hub does not make it.
    pub async fn create_link(
        &mut self,
        room: &RoomUri,
        terms: CodeTerms,
    ) -> Result<(JoinLink, CodeId), MemberError> {
        let Answer::CodeMade(made) = self.codes(room, CodesAsk::Create(terms)).await? else {
            return Err(DoorError::Unexpected.into());
        };
        let link = JoinLink {
            room: room.clone(),
            code: Some(made.code),
        };
        Ok((link, made.id))
    }

    /// The joining codes of a room of which this device is a member.
    ///
    /// # Errors
    /// [`MemberError::Refused`] when it is none.
    pub async fn list_codes(&mut self, room: &RoomUri) -> Result<Vec<CodeFacts>, MemberError> {
        match self.codes(room, CodesAsk::List).await? {
            Answer::Codes(list) => Ok(list.into_vec()),
            _ => Err(DoorError::Unexpected.into()),
        }
    }

    /// Ends a joining code.
    ///
    /// # Errors
    /// [`MemberError::Refused`] when the hub does not.
    pub async fn revoke_code(&mut self, room: &RoomUri, id: CodeId) -> Result<(), MemberError> {
        match self.codes(room, CodesAsk::Revoke(id)).await? {
            Answer::CodeRevoked => Ok(()),
            _ => Err(DoorError::Unexpected.into()),
        }
    }

    async fn codes(&mut self, room: &RoomUri, ask: CodesAsk) -> Result<Answer, MemberError> {
        let request = Request::Codes(ask);
        match self.door()?.ask(room.clone(), request).await? {
            Answer::Refused(refused) => Err(MemberError::Refused(refused)),
            answer => Ok(answer),
        }
    }

    /// Makes a link that introduces this device's user; also the name of its code.
    ///
    /// # Errors
    /// [`MemberError::Door`] when the provider does not answer.
    pub async fn introduce(
        &mut self,
        lifetime: Option<Duration>,
    ) -> Result<(IntroductionLink, CodeId), MemberError> {
        let lifetime_ms = lifetime.map(|l| u64::try_from(l.as_millis()).unwrap_or(u64::MAX));
        let ask = IntroductionsAsk::Create { lifetime_ms };
        match self.introductions_asked(ask).await? {
            Introduced::Created(made) => {
                let link = IntroductionLink {
                    provider: self.client().provider().clone(),
                    code: made.code,
                };
                Ok((link, made.id))
            }
            other => Err(not_introduced(other)),
        }
    }

    /// The introduction codes of this device's user.
    ///
    /// # Errors
    /// [`MemberError::Door`] when the provider does not answer.
    pub async fn introductions(&mut self) -> Result<Vec<IntroductionFacts>, MemberError> {
        match self.introductions_asked(IntroductionsAsk::List).await? {
            Introduced::Listed(list) => Ok(list.into_vec()),
            other => Err(not_introduced(other)),
        }
    }

    /// Ends an introduction code.
    ///
    /// # Errors
    /// [`MemberError::Refused`] when there is none of this name.
    pub async fn end_introduction(&mut self, id: CodeId) -> Result<(), MemberError> {
        let ask = IntroductionsAsk::Revoke(id);
        match self.introductions_asked(ask).await? {
            Introduced::Revoked => Ok(()),
            other => Err(not_introduced(other)),
        }
    }

    /// Who made an introduction link.
    ///
    /// # Errors
    /// [`MemberError::Refused`] with [`Refused::NotAuthorized`] when nobody did, or it is over.
    pub async fn introduced_by(&mut self, link: &IntroductionLink) -> Result<UserUri, MemberError> {
        let (provider, code) = (link.provider.clone(), link.code.clone());
        match introduced(self.door()?.resolve(provider, code).await?)? {
            Introduced::Resolved(user) => Ok(user),
            other => Err(not_introduced(other)),
        }
    }

    async fn introductions_asked(
        &mut self,
        ask: IntroductionsAsk,
    ) -> Result<Introduced, MemberError> {
        let request = user::Request::Introductions(ask);
        introduced(self.door()?.ask_user(request).await?)
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asking({:?})", self.request)
    }
}

impl Asking {
    /// As [`Self::open`], with all that the answer says.
    ///
    /// # Errors
    /// As there.
    pub fn content(&self, sealed: &SealedGroupInfo) -> Result<Content, MemberError> {
        group_info::open(&self.request, sealed, &self.key).map_err(mls("open the GroupInfo"))
    }

    /// Opens the answer, checks that the hub signed it, and says what it holds; the tree must be there whole.
    ///
    /// # Errors
    /// [`MemberError::Mls`] when it was not sealed to this device for this request, or not by the hub.
    pub fn open(&self, sealed: &SealedGroupInfo) -> Result<Entrance, MemberError> {
        self.open_with(sealed, None)
    }

    /// As [`Self::open`], by whoever has a tree of the room: the one before a delta, or the very one that was left out.
    fn open_with(
        &self,
        sealed: &SealedGroupInfo,
        held: Option<&Before>,
    ) -> Result<Entrance, MemberError> {
        let content = self.content(sealed)?;
        let of_this_epoch = held.filter(|held| held.epoch == sealed.epoch.0);
        let tree = match (&content.tree, of_this_epoch) {
            (TreeContainer::DistributionService | TreeContainer::Reference(_), Some(held)) => {
                Some(held.tree.clone())
            }
            (container, _) => container::open(container, held).map_err(mls("unpack a tree"))?,
        };
        let missing = || {
            mls("open the GroupInfo")(format!(
                "{} holds no tree that this device can use",
                content.tree.kind().name()
            ))
        };
        Ok(Entrance {
            group_info: Payload(content.group_info.clone()),
            tree: Payload(tree.ok_or_else(missing)?),
            proposals: content
                .pending
                .into_iter()
                .map(|(proposal, _)| Payload(proposal))
                .collect(),
        })
    }
}

/// When a device that failed to join may try again; `None` when it would fail again.
#[must_use]
pub fn join_again_after(error: &MemberError) -> Option<Duration> {
    match error {
        // Others are first, or were faster: whatever was built is of no use any more.
        MemberError::Lost { .. }
        | MemberError::Refused(
            Refused::Busy { .. } | Refused::LeaseRequired | Refused::LeaseExpired,
        ) => Some(AGAIN_AFTER),
        error => unanswered(error),
    }
}

/// When a request that nobody could answer may be sent again.
fn unanswered(error: &MemberError) -> Option<Duration> {
    let refusal = match error {
        MemberError::Refused(refused) => refused.refusal(),
        MemberError::Door(DoorError::Refused(refused)) => refused.refusal(),
        _ => return None,
    };
    let Retry::SameAfter(ms) = refusal.retry else {
        return None;
    };
    Some(AGAIN_AFTER.max(Duration::from_millis(ms.into())))
}

/// What a user answers about introduction codes.
fn introduced(answer: user::Answer) -> Result<Introduced, MemberError> {
    match answer {
        user::Answer::Introduced(introduced) => Ok(introduced),
        user::Answer::Refused(refused) => {
            Err(DoorError::Refused(DoorRefused::from(refused)).into())
        }
        user::Answer::Done
        | user::Answer::Unchanged
        | user::Answer::Enrolled
        | user::Answer::Consents(_) => Err(DoorError::Unexpected.into()),
    }
}

fn not_introduced(introduced: Introduced) -> MemberError {
    match introduced {
        Introduced::NotAuthorized => MemberError::Refused(Refused::NotAuthorized),
        Introduced::TooMany { max } => MemberError::Refused(Refused::TooMany {
            what: BText::clipped("introduction codes"),
            max,
        }),
        Introduced::TryLater(later) => MemberError::Refused(Refused::TryLater(later)),
        _ => DoorError::Unexpected.into(),
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.unwrap_or_default().as_millis();
    Millis(u64::try_from(ms).unwrap_or(u64::MAX))
}
