//! What a room is at its hub: its parts, each with a module and private fields, and what is asked of the whole.
//!
//! A command's rules stand in a module of their own (`commits`, `proposals`, `submissions`, `entering`, `admission`);
//! they ask the parts and change them by the parts' methods, so that each part keeps its own promise.
//!
//! The order of the parts, and of the fields in each, is how a room lies in a snapshot: nothing comes in between.

mod commit_rate;
mod departed;
mod first_answers;
mod group;
mod heard;
mod pending;
mod roster;
mod rules;
mod senders;
mod sequence;

pub(crate) use self::rules::Entered;
pub(super) use self::{
    commit_rate::CommitRate,
    departed::Departed,
    first_answers::FirstAnswers,
    group::Group,
    heard::Heard,
    pending::Pending,
    roster::{Membership, Roster},
    rules::Rules,
    senders::Senders,
    sequence::Sequence,
};
use super::{
    leases::Joining,
    outcome::{Accepted, Refused},
};
use crate::{
    bucket::Rate,
    ids::{ClientUri, ProviderId},
    limits::{PROPOSALS_PER_BUNDLE_MAX, SUBMIT_ITEMS_MAX},
    machine::Millis,
    mls::{
        check::proposal::PendingProposal,
        tree::view::{GroupView, app_data},
    },
    wire::{
        BVec, Payload,
        event::{ClientSeq, Epoch, Hash, Recipient, VerdictRun},
    },
};
use serde::{Deserialize, Serialize};

/// The state of a room that exists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Room {
    /// The provider that owns the room: this one.
    pub(super) hub: ProviderId,
    pub(super) group: Group,
    pub(super) roster: Roster,
    pub(super) pending: Pending,
    pub(super) sequence: Sequence,
    pub(super) first_answers: FirstAnswers,
    pub(super) senders: Senders,
    /// Who joins by itself, and with which codes.
    pub(super) joining: Joining,
    pub(super) commit_rate: CommitRate,
    /// Beside the rest in a snapshot.
    #[serde(skip)]
    pub(super) since_second: SinceSecond,
    /// The policy, as its group says it; who stands in no list yet follows in a snapshot, too.
    #[serde(skip)]
    pub(super) rules: Rules,
}

/// What a room has that the first release did not know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SinceSecond {
    /// Which messages were taken lately.
    pub(super) heard: Heard,
    /// Who is to be removed.
    pub(super) departed: Departed,
}

impl SinceSecond {
    /// Whether there is nothing of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.heard.is_empty() && self.departed.is_empty()
    }
}

/// The state that a check relied on; if the fold has moved, the check is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedOn {
    /// The room's epoch.
    pub epoch: Epoch,
    /// Hash of the Proposals that waited.
    pub pending: Hash,
}

impl Room {
    /// A room of one provider that begins with this group.
    pub(super) fn begin(hub: ProviderId, group: Group, roster: Roster, time: Millis) -> Self {
        let mut room = Self {
            hub,
            group,
            roster,
            pending: Pending::default(),
            sequence: Sequence::begin(time),
            first_answers: FirstAnswers::default(),
            senders: Senders::default(),
            joining: Joining::default(),
            commit_rate: CommitRate::default(),
            since_second: SinceSecond::default(),
            rules: Rules::default(),
        };
        room.recall_rules(Entered::default());
        room
    }

    /// Reads the policy out of the group again, with those who stand in no list yet.
    pub(super) fn recall_rules(&mut self, entered: Entered) {
        let components = app_data(&self.group.view().group_context);
        let rules = Rules::in_force(components, entered, || self.roster.by_user());
        self.rules = rules;
    }

    /// The current epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.group.epoch()
    }

    /// Public state of the group in the current epoch.
    #[must_use]
    pub fn view(&self) -> &GroupView {
        self.group.view()
    }

    /// The MLS group.
    #[must_use]
    pub fn group_id(&self) -> &[u8] {
        self.group.id()
    }

    /// Hash of the Commit that opened the current epoch.
    #[must_use]
    pub fn winner(&self) -> Hash {
        self.group.winner()
    }

    /// Whether a ReInit ended the group: nothing more is taken.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.group.has_ended()
    }

    /// Proposals that wait for a Commit.
    #[must_use]
    pub fn pending(&self) -> &[PendingProposal] {
        self.pending.all()
    }

    /// What became of messages of a client of this provider that is a member, or has sent some.
    #[must_use]
    pub(super) fn verdicts(
        &self,
        client: &ClientUri,
        first: ClientSeq,
        count: u32,
    ) -> Option<BVec<VerdictRun, SUBMIT_ITEMS_MAX>> {
        let verdicts = self.senders.verdicts(client, first, count);
        let knows = self.has_member(client) || !verdicts.is_empty();
        // Each run has one of the messages at least, so none is left out.
        knows.then(|| BVec::first_max(verdicts))
    }

    /// The verdicts on messages of a client that all have one, as far as that is remembered.
    pub(super) fn decided(
        &self,
        client: &ClientUri,
        first: ClientSeq,
        count: usize,
    ) -> Option<BVec<VerdictRun, SUBMIT_ITEMS_MAX>> {
        let asked = u32::try_from(count).unwrap_or(u32::MAX);
        let verdicts = self.senders.verdicts(client, first, asked);
        let known: u64 = verdicts.iter().map(|run| u64::from(run.count)).sum();
        (known > 0 && known == u64::from(asked)).then(|| BVec::first_max(verdicts))
    }

    /// Whether a client is a member.
    #[must_use]
    pub fn has_member(&self, client: &ClientUri) -> bool {
        self.roster.member(client).is_some()
    }

    /// Whether the hub is to propose that this member be removed, or proposes it.
    #[must_use]
    pub fn is_to_go(&self, client: &ClientUri) -> bool {
        self.since_second.departed.holds(client)
    }

    /// Whether a client of the same user is a member.
    #[must_use]
    pub fn has_participant(&self, client: &ClientUri) -> bool {
        self.roster.has_client_of_user(client)
    }

    /// Whether a provider has or had a member: to others the room does not exist.
    #[must_use]
    pub fn ever_had_member_of(&self, provider: &ProviderId) -> bool {
        self.senders.ever_had_member_of(provider)
    }

    /// The members.
    pub fn members(&self) -> impl Iterator<Item = &ClientUri> {
        self.roster.clients()
    }

    /// What a check made here relies on.
    #[must_use]
    pub fn checked_on(&self) -> CheckedOn {
        CheckedOn {
            epoch: self.group.epoch(),
            pending: self.pending.hash(),
        }
    }

    /// The answer to a bundle that was accepted before.
    #[must_use]
    pub fn remembered(&self, bundle: Hash) -> Option<Accepted> {
        self.first_answers.of_bundle(bundle)
    }

    /// The references of Proposals that were accepted in this request before; see [`super::hub::name_proposals`].
    #[must_use]
    pub fn proposed(&self, request: Hash) -> Option<BVec<Payload, PROPOSALS_PER_BUNDLE_MAX>> {
        self.first_answers.of_proposals(request)
    }

    /// The refusal of whatever was made for another epoch.
    #[must_use]
    pub fn wrong_epoch(&self) -> Refused {
        Refused::WrongEpoch {
            current: self.group.epoch(),
            winner: self.group.winner(),
        }
    }

    /// The other providers that have a member; each gets the event itself.
    pub(super) fn followers(&self) -> Vec<Recipient> {
        self.roster.followers(&self.hub)
    }

    /// Whether a client may open one more epoch now, by the rate of the last accepted Commit; for a node whose clock
    /// says this.
    pub(super) fn check_last_rate(&self, sender: &ClientUri, now: Millis) -> Result<(), Refused> {
        // A clock that went back must not make anybody wait: the room's time does not go back.
        let time = self.sequence.not_before(now);
        self.commit_rate.check_last(sender, time)
    }

    /// Whether a client may open one more epoch at this time of the log, by a rate.
    pub(super) fn check_rate(
        &self,
        sender: &ClientUri,
        rate: Rate,
        time: Millis,
    ) -> Result<(), Refused> {
        self.commit_rate.check(sender, rate, time)
    }
}
