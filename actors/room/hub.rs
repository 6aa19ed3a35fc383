//! A room at its hub: what it is on every replica, a fold over its commands.
//!
//! Takes at most one Commit per epoch; log order decides.
//!
//! Source: transport requirements, sections 3.2, 3.3 and 7.3.

pub use super::state::{CheckedOn, Room};
pub(crate) use super::state::{Entered, Heard};
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
    limits::{PROPOSALS_PER_BUNDLE_MAX, REFUSED_ITEM_BYTES, SUBMIT_ITEMS_MAX},
    machine::{self, Moment, ReviveError},
    mls::{
        check::{bundle::CheckedBundle, proposal::PendingProposal},
        tree::view::{GroupView, Member},
    },
    wire::{
        self, BVec, Payload,
        event::{ClientSeq, Epoch, Hash, SubmitSeq},
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
}

impl Command {
    /// About how many bytes it carries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Submit(submit) => submit.bytes(),
            Self::Commit(commit) => {
                let welcome = commit.welcome.as_ref().map_or(0, |welcome| welcome.len());
                commit.commit.len() + welcome + commit.checked.next.bytes()
            }
            Self::Create(create) => create.view.bytes(),
            Self::Propose(propose) => {
                let each = propose.proposals.iter();
                each.map(|proposal| proposal.message.len() + 64).sum()
            }
            Self::Grant(_) | Self::KeepCode(_) | Self::RevokeCode(_) | Self::WrongCode(_) => 0,
        }
    }
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
    /// Which messages were taken lately, if any were that are known again.
    pub(crate) fn heard(&self) -> Option<&Heard> {
        let heard = self.room.as_ref().map(|room| &room.heard);
        heard.filter(|heard| !heard.is_empty())
    }

    /// Who came in by itself and stands in no list yet, if anybody.
    pub(crate) fn entered(&self) -> Option<&Entered> {
        let entered = self.room.as_ref().map(|room| room.rules.entered());
        entered.filter(|entered| !entered.is_empty())
    }

    /// The same, with what was taken lately and who stands in no list yet.
    pub(crate) fn with(mut self, heard: Heard, entered: Entered) -> Self {
        if let Some(room) = &mut self.room {
            room.heard = heard;
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
