//! A room at its hub: what it is on every replica, a fold over its commands.
//!
//! Takes at most one Commit per epoch; log order decides.
//!
//! Source: transport requirements, sections 3.2, 3.3 and 7.3.

use super::{
    codes::{KeepCode, RevokeCode, WrongCode},
    leases::{Grant, Joining},
    numbers::Numbers,
    outcome::{Accepted, Answer, Change, Outcome, Refused, UserNotice},
};
use crate::{
    bucket::{Buckets, Rate},
    ids::{ClientUri, ProviderId},
    limits::{PROPOSALS_PER_BUNDLE_MAX, SUBMIT_ITEMS_MAX, URI_BYTES_MAX},
    machine::{self, Millis, Moment, Position, ReviveError},
    mls::{
        check::{bundle::CheckedBundle, proposal::PendingProposal},
        tree::view::{GroupView, Member},
    },
    wire::{
        self, BText, BVec, Payload,
        event::{ClientSeq, Copy, Epoch, Hash, Recipient, RoomSeq, SubmitSeq},
    },
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

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

/// The state that a check relied on; if the fold has moved, the check is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedOn {
    /// The room's epoch.
    pub epoch: Epoch,
    /// Hash of the Proposals that waited.
    pub pending: Hash,
}

/// Proposals that were sent together, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Propose {
    /// The client that sent them.
    pub sender: ClientUri,
    /// The epoch they were checked in.
    pub on: Epoch,
    /// The Proposals.
    pub proposals: Vec<PendingProposal>,
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
        /// The provider's oldest number without a final word: it will not send an earlier one.
        undecided: SubmitSeq,
    },
}

/// A room at its hub, or the place where one could be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fold {
    pub(super) room: Option<Room>,
}

/// The state of a room that exists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Room {
    /// The provider that owns the room: this one.
    pub(super) hub: ProviderId,
    /// The MLS group; fixed.
    pub(super) group_id: Payload,
    /// Public state of the group in the current epoch.
    pub(super) view: GroupView,
    /// What the Commit that opened `epoch` changed in the tree, where that is short.
    pub(super) tree_delta: Option<Bytes>,
    /// Where its committer said that the tree lies.
    pub(super) tree_place: Option<BText<URI_BYTES_MAX>>,
    pub(super) epoch: Epoch,
    /// Names the creation across retries.
    pub(super) created: Hash,
    /// Hash of the Commit that opened `epoch`; a loser is told it.
    pub(super) winner: Hash,
    /// Whether a ReInit ended the group: nothing more is taken.
    pub(super) ended: bool,
    pub(super) members: BTreeMap<ClientUri, Membership>,
    /// Proposals accepted in this epoch, in order.
    pub(super) pending: Vec<PendingProposal>,
    pub(super) last_seq: RoomSeq,
    pub(super) last_time: Millis,
    /// Bundles accepted, oldest first, so that a retry gets its first answer.
    pub(super) remembered: VecDeque<(Hash, Accepted)>,
    /// Requests whose Proposals were accepted, oldest first, and their references: the same, beyond their epoch.
    pub(super) proposed: VecDeque<(Hash, Vec<Payload>)>,
    /// The last submission of each provider that has or had a member.
    pub(super) submitted: BTreeMap<ProviderId, SubmitSeq>,
    /// The numbers of each client of this provider.
    pub(super) numbers: BTreeMap<ClientUri, Numbers>,
    /// Who joins by itself, and with which codes.
    pub(super) joining: Joining,
    /// How often members committed lately.
    pub(super) committers: Buckets<ClientUri>,
    /// How often one may, as the last accepted Commit said: desks refuse by it before a worker looks.
    pub(super) commit_rate: Option<Rate>,
}

/// A client's place in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Its leaf.
    pub leaf: u32,
    /// The epoch it joined in: messages of earlier epochs are not its own.
    pub since: Epoch,
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
}

impl machine::Fold for Fold {
    type Command = Command;
    type Outcome = Outcome;

    fn apply(&mut self, moment: Moment, command: &Command) -> Outcome {
        let Moment { at, time, .. } = moment;
        match command {
            Command::Create(create) => self.create(at, time, create),
            Command::Commit(commit) => self.commit(at, time, commit),
            Command::Propose(propose) => self.propose(at, time, propose),
            Command::Submit(submit) => self.submit(at, time, submit),
            Command::Grant(grant) => self.grant(time, grant),
            Command::KeepCode(keep) => self.keep_code(time, keep),
            Command::RevokeCode(revoke) => self.revoke_code(revoke),
            Command::WrongCode(wrong) => self.wrong_code(time, wrong),
        }
    }

    fn compact(&self) -> Vec<u8> {
        wire::encode(self).to_vec()
    }

    fn revive(bytes: &[u8]) -> Result<Self, ReviveError> {
        wire::decode(&bytes.to_vec().into()).map_err(|error| ReviveError(error.to_string()))
    }
}

impl Fold {
    /// The room, if it exists.
    #[must_use]
    pub fn room(&self) -> Option<&Room> {
        self.room.as_ref()
    }

    fn create(&mut self, at: Position, time: Millis, create: &Create) -> Outcome {
        if let Some(room) = &self.room {
            // The same creation again is a retry whose first answer was lost.
            let retry = room.created == create.names();
            let again = if retry {
                Answer::Created
            } else {
                Answer::Refused(Refused::Exists)
            };
            return Outcome::answer(again);
        }
        let since = Epoch(0);
        let member = |member: &Member| {
            (
                member.client.clone(),
                Membership {
                    leaf: member.leaf,
                    since,
                },
            )
        };
        self.room = Some(Room {
            hub: create.creator.provider().clone(),
            group_id: Payload(create.view.group_id().unwrap_or_default()),
            view: create.view.clone(),
            tree_delta: None,
            tree_place: None,
            epoch: since,
            created: create.names(),
            winner: Hash::default(),
            ended: false,
            members: create.members.iter().map(member).collect(),
            pending: Vec::new(),
            last_seq: RoomSeq(0),
            last_time: time,
            remembered: VecDeque::new(),
            proposed: VecDeque::new(),
            submitted: BTreeMap::new(),
            numbers: BTreeMap::new(),
            joining: Joining::default(),
            committers: Buckets::default(),
            commit_rate: None,
        });
        let notice = UserNotice {
            user: create.creator.user().clone(),
            clients: vec![create.creator.clone()],
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

impl Room {
    /// The current epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Public state of the group in the current epoch.
    #[must_use]
    pub fn view(&self) -> &GroupView {
        &self.view
    }

    /// The MLS group.
    #[must_use]
    pub fn group_id(&self) -> &[u8] {
        &self.group_id
    }

    /// Hash of the Commit that opened the current epoch.
    #[must_use]
    pub fn winner(&self) -> Hash {
        self.winner
    }

    /// Whether a ReInit ended the group: nothing more is taken.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Proposals that wait for a Commit.
    #[must_use]
    pub fn pending(&self) -> &[PendingProposal] {
        &self.pending
    }

    /// Whether a client is a member.
    #[must_use]
    pub fn is_member(&self, client: &ClientUri) -> bool {
        self.members.contains_key(client)
    }

    /// Whether a provider has or had a member: to others the room does not exist.
    #[must_use]
    pub fn ever_had_member_of(&self, provider: &ProviderId) -> bool {
        self.submitted.contains_key(provider)
    }

    /// The members.
    pub fn members(&self) -> impl Iterator<Item = &ClientUri> {
        self.members.keys()
    }

    /// What a check made here relies on.
    #[must_use]
    pub fn checked_on(&self) -> CheckedOn {
        let references = self.pending.iter().map(|proposal| &proposal.reference[..]);
        CheckedOn {
            epoch: self.epoch,
            pending: Hash::of_parts(references),
        }
    }

    /// The answer to a bundle that was accepted before.
    #[must_use]
    pub fn remembered(&self, bundle: Hash) -> Option<Accepted> {
        self.remembered
            .iter()
            .rev()
            .find(|(hash, _)| *hash == bundle)
            .map(|(_, accepted)| *accepted)
    }

    /// The references of Proposals that were accepted in this request before; see [`name_proposals`].
    #[must_use]
    pub fn proposed(&self, request: Hash) -> Option<BVec<Payload, PROPOSALS_PER_BUNDLE_MAX>> {
        let found = self.proposed.iter().rev().find(|(of, _)| *of == request);
        found.map(|(_, references)| BVec::truncated(references.clone()))
    }

    /// The refusal of whatever was made for another epoch.
    #[must_use]
    pub fn wrong_epoch(&self) -> Refused {
        Refused::WrongEpoch {
            current: self.epoch,
            winner: self.winner,
        }
    }

    /// The other providers that have a member; each gets the event itself.
    pub(super) fn followers(&self) -> Vec<Recipient> {
        let mut followers: Vec<Recipient> = Vec::new();
        // Clients sort by provider first, so equal providers are neighbours.
        for client in self.members.keys() {
            let provider = client.provider();
            let listed = followers
                .last()
                .is_some_and(|last| last.provider == *provider);
            if *provider != self.hub && !listed {
                followers.push(Recipient {
                    provider: provider.clone(),
                    copy: Copy::Full,
                });
            }
        }
        followers
    }

    /// Moves the clock of the room, which never goes back.
    pub(super) fn accept_at(&mut self, time: Millis) -> Millis {
        self.last_time = self.last_time.max(time);
        self.last_time
    }
}

crate::versioned!(crate::wire::version::FOLD; Fold);
