//! A room at its hub: what it is on every replica, a fold over its commands.
//!
//! Takes at most one Commit per epoch; log order decides.
//!
//! Source: transport requirements, sections 3.2, 3.3 and 7.3.

pub use super::state::{CheckedOn, Room};
pub(crate) use super::state::{Entered, SinceSecond};
use super::{
    codes::{KeepCode, RevokeCode, WrongCode},
    leases::Grant,
    outcome::{Answer, Change, Outcome, Refused, UserNotice},
    policy,
    state::{Group, Roster},
};
use crate::{
    bucket::Rate,
    ids::{ClientUri, ProviderId},
    limits::{
        HUB_PROPOSALS_PENDING_PER_ROOM_MAX, PROPOSALS_PER_BUNDLE_MAX, REFUSED_ITEM_BYTES,
        SUBMIT_ITEMS_MAX,
    },
    machine::{self, Moment, ReviveError},
    mls::{
        check::{bundle::CheckedBundle, proposal::PendingProposal},
        tree::view::{GroupView, Member},
    },
    wire::{
        self, BVec, Payload,
        event::{ClientSeq, Epoch, Hash, SubmitSeq},
        post::DepartedWhy,
    },
};
use serde::{Deserialize, Serialize};

/// What the log can tell a room at its hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Begin the room.
    Create(Create),
    /// Open the next epoch.
    Commit(Box<Commit>),
    /// Let Proposals wait for a Commit.
    Propose(Propose),
    /// Take application messages.
    Submit(Submit),
    /// Let a joiner have the lease.
    Grant(Grant),
    /// Keep a joining code.
    KeepCode(KeepCode),
    /// End a joining code.
    RevokeCode(RevokeCode),
    /// Take note of a wrong joining code.
    WrongCode(WrongCode),
    /// Take note that a member's provider does not know it any more.
    Depart(Depart),
    /// Let Removes that the hub proposes wait for a Commit.
    Expel(Expel),
    /// Open the next epoch by an external Commit, after which the hub proposes anew what waited.
    Enter(Enter),
}

impl Command {
    /// About how many bytes it carries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Submit(submit) => submit.bytes(),
            Self::Commit(commit) => commit.bytes(),
            Self::Enter(enter) => enter.commit.bytes() + of_proposals(&enter.again),
            Self::Expel(expel) => of_proposals(&expel.proposals),
            Self::Create(create) => create.view.bytes(),
            Self::Propose(propose) => of_proposals(&propose.proposals),
            Self::Grant(_)
            | Self::KeepCode(_)
            | Self::RevokeCode(_)
            | Self::WrongCode(_)
            | Self::Depart(_) => 0,
        }
    }

    /// The Commit that it brings, if it brings one.
    #[must_use]
    pub fn commit(&self) -> Option<&Commit> {
        match self {
            Self::Commit(commit) | Self::Enter(Enter { commit, .. }) => Some(commit),
            Self::Create(_)
            | Self::Propose(_)
            | Self::Submit(_)
            | Self::Grant(_)
            | Self::KeepCode(_)
            | Self::RevokeCode(_)
            | Self::WrongCode(_)
            | Self::Depart(_)
            | Self::Expel(_) => None,
        }
    }

    /// As [`Self::commit`].
    pub(crate) fn commit_mut(&mut self) -> Option<&mut Commit> {
        if let Self::Commit(commit) | Self::Enter(Enter { commit, .. }) = self {
            return Some(commit);
        }
        None
    }

    /// What it is called, if logs of the first level have no word for it.
    #[must_use]
    pub fn is_of_second(&self) -> Option<&'static str> {
        match self {
            Self::Depart(_) => Some("departure of a client"),
            Self::Expel(_) => Some("Proposal of a hub"),
            Self::Enter(_) => Some("Proposal of a hub, made anew"),
            Self::Create(_)
            | Self::Commit(_)
            | Self::Propose(_)
            | Self::Submit(_)
            | Self::Grant(_)
            | Self::KeepCode(_)
            | Self::RevokeCode(_)
            | Self::WrongCode(_) => None,
        }
    }
}

fn of_proposals(proposals: &[PendingProposal]) -> usize {
    let each = proposals.iter();
    each.map(|proposal| proposal.message.len() + 64).sum()
}

/// An epoch-0 group, checked, that becomes a room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    /// The client that created the group; its only member.
    pub creator: ClientUri,
    /// The group's public state.
    pub view: GroupView,
    /// Its member.
    pub members: Vec<Member>,
}

/// A Commit bundle, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// The client that sent it.
    pub sender: ClientUri,
    /// What it was checked on.
    pub on: CheckedOn,
    /// Hash of the whole bundle as it arrived: names it across retries.
    pub bundle: Hash,
    /// The Commit, an MLSMessage.
    pub commit: Payload,
    /// The Welcome, an MLSMessage.
    pub welcome: Option<Payload>,
    /// What the check found, the group's next public state among it.
    pub checked: CheckedBundle,
    /// How often a member may commit, as the node that checked it knows.
    pub rate: Rate,
    /// Providers, of those whose clients it adds, for which too much waits, as the leader knows.
    pub behind: Vec<ProviderId>,
}

impl Commit {
    /// About how many bytes it carries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let welcome = self.welcome.as_ref().map_or(0, |welcome| welcome.len());
        self.commit.len() + welcome + self.checked.next.bytes()
    }
}

/// A client that its own provider does not know any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Depart {
    /// The client.
    pub client: ClientUri,
    /// Why.
    pub why: DepartedWhy,
}

/// Removes that the hub proposes, made for one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expel {
    /// The epoch.
    pub on: Epoch,
    /// The Proposals, each of one member.
    pub proposals: BVec<PendingProposal, HUB_PROPOSALS_PENDING_PER_ROOM_MAX>,
}

/// An external Commit, and the Removes of the hub that waited before it, made for the epoch that it opens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Enter {
    /// The Commit.
    pub commit: Box<Commit>,
    /// The Proposals, each of one member that the Commit leaves in.
    pub again: BVec<PendingProposal, HUB_PROPOSALS_PENDING_PER_ROOM_MAX>,
}

impl Enter {
    /// Its item that is what the hub proposes anew; the Commit is the first.
    pub(super) const AGAIN: u32 = 1;
}

/// Proposals that were sent together, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Propose {
    /// The client that sent them.
    pub sender: ClientUri,
    /// The epoch they were checked in.
    pub on: Epoch,
    /// The Proposals.
    pub proposals: BVec<PendingProposal, PROPOSALS_PER_BUNDLE_MAX>,
}

/// Application messages of one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submit {
    /// The client that sent them.
    pub sender: ClientUri,
    /// Who numbered them, and the number of the first.
    pub via: Via,
    /// The messages, each an MLSMessage.
    pub messages: BVec<Payload, SUBMIT_ITEMS_MAX>,
}

impl Submit {
    /// About how many bytes its messages take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.messages.bytes()
    }

    /// How many refused submissions a run of its messages counts as.
    #[must_use]
    pub fn weight(&self, first: SubmitSeq, count: u32) -> u32 {
        let Via::Provider { first: begin, .. } = self.via else {
            return 0;
        };
        let skip = usize::try_from(first.0.saturating_sub(begin.0)).unwrap_or(usize::MAX);
        let run = self.messages.iter().skip(skip).take(count as usize);
        let weight: usize = run
            .map(|message| 1 + message.len() / REFUSED_ITEM_BYTES)
            .sum();
        u32::try_from(weight).unwrap_or(u32::MAX)
    }
}

/// Whose numbers a submission carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Via {
    /// The client's own: it is a client of the hub.
    Client(ClientSeq),
    /// The sender's provider's.
    Provider {
        /// Number of the first message.
        first: SubmitSeq,
        /// The provider's oldest number without a verdict: it will not send an earlier one.
        undecided: SubmitSeq,
    },
}

/// A room at its hub, or the place where one could be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fold {
    pub(super) room: Option<Room>,
}

/// Names a request with Proposals across retries.
#[must_use]
pub fn name_proposals<'a>(sender: &ClientUri, messages: impl Iterator<Item = &'a [u8]>) -> Hash {
    let messages = Hash::of_parts(messages);
    Hash::of_parts([sender.to_string().as_bytes(), &messages.0])
}

impl Create {
    /// Names the creation across retries: the creator and the group it made.
    fn names(&self) -> Hash {
        let creator = self.creator.to_string();
        Hash::of_parts([
            creator.as_bytes(),
            &self.view.group_info[..],
            &self.view.tree[..],
        ])
    }

    /// Whether the room can be made.
    ///
    /// # Errors
    /// The answer when it exists already: the same creation again is a retry whose first answer was lost.
    pub(super) fn check(&self, fold: &Fold) -> Result<(), Answer> {
        match &fold.room {
            None => Ok(()),
            Some(room) if room.group.was_created_by(self.names()) => Err(Answer::Created),
            Some(_) => Err(Answer::Refused(Refused::Exists)),
        }
    }
}

impl machine::Fold for Fold {
    type Command = Command;
    type Outcome = Outcome;

    fn apply(&mut self, moment: Moment, command: &Command) -> Outcome {
        let time = moment.time;
        match command {
            Command::Create(create) => self.create(moment, create),
            Command::Commit(commit) => self.commit(moment, commit),
            Command::Propose(propose) => self.propose(moment, propose),
            Command::Submit(submit) => self.submit(moment, submit),
            Command::Grant(grant) => self.grant(moment, grant),
            Command::KeepCode(keep) => self.keep_code(moment, keep),
            Command::RevokeCode(revoke) => self.revoke_code(moment, revoke),
            Command::WrongCode(wrong) => self.wrong_code(time, wrong),
            Command::Depart(depart) => self.depart(depart),
            Command::Expel(expel) => self.expel(moment.at, time, expel),
            Command::Enter(enter) => self.enter(moment, enter),
        }
    }

    fn compact(&self) -> Vec<u8> {
        wire::encode_stored(self)
    }

    fn revive(bytes: &[u8]) -> Result<Self, ReviveError> {
        wire::decode(&bytes.to_vec().into()).map_err(|error| ReviveError(error.to_string()))
    }
}

impl Fold {
    /// What a room has that the first release did not know, if there is anything.
    pub(crate) fn since_second(&self) -> Option<&SinceSecond> {
        let since = self.room.as_ref().map(|room| &room.since_second);
        since.filter(|since| !since.is_empty())
    }

    /// Who came in by itself and stands in no list yet, if anybody.
    pub(crate) fn entered(&self) -> Option<&Entered> {
        let entered = self.room.as_ref().map(|room| room.rules.entered());
        entered.filter(|entered| !entered.is_empty())
    }

    /// The same, with what the first release did not know and who stands in no list yet.
    pub(crate) fn with(mut self, since: SinceSecond, entered: Entered) -> Self {
        if let Some(room) = &mut self.room {
            room.since_second = since;
            room.recall_rules(entered);
        }
        self
    }

    /// The room, if it exists.
    #[must_use]
    pub fn room(&self) -> Option<&Room> {
        self.room.as_ref()
    }

    fn create(&mut self, moment: Moment, create: &Create) -> Outcome {
        let Moment { at, time, level } = moment;
        if let Err(answer) = create.check(self) {
            return Outcome::answer(answer);
        }
        if let Err(refused) = policy::check_beginning(level, create) {
            return Outcome::refused(refused);
        }
        let hub = create.creator.provider().clone();
        let group = Group::begin(&create.view, create.names());
        let roster = Roster::begin(&create.members);
        self.room = Some(Room::begin(hub, group, roster, time));
        let notice = UserNotice {
            user: create.creator.user().clone(),
            clients: BVec::from([create.creator.clone()]),
            change: Change::Created,
            at,
            item: 0,
        };
        Outcome {
            notices: vec![notice],
            ..Outcome::answer(Answer::Created)
        }
    }
}
