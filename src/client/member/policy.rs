//! Room policy as a member has it: what its group says, Commits that change it, and what others' Commits changed.
//!
//! The components travel in a GroupContextExtensions Proposal, whole: OpenMLS makes no AppDataUpdate without a feature of
//! its own, and the hub reads none.

use super::{
    Component, Member, MemberError, PreparedCommit, commits::Change, identity,
    identity::APP_DATA_DICTIONARY, mls,
};
use mimi_actors::{
    ids::{ClientUri, RoomUri},
    policy::{
        components::{
            BadComponent, Component as _, ComponentId, Dictionary, ParticipantList,
            ParticipantListUpdate,
        },
        decide::{Action, decide},
        state::Policy,
        told::Told,
    },
    wire::{Payload, event::Epoch},
};
use openmls::prelude::{Extension, MlsGroup, UnknownExtension};

/// Changes of room policy that are kept for whoever asks; the oldest go first.
pub const POLICY_CHANGES_KEPT_MAX: usize = 64;

/// What a Commit changed of a room's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyChange {
    /// The room.
    pub room: RoomUri,
    /// The epoch that the Commit opened.
    pub epoch: Epoch,
    /// What changed.
    pub told: Told,
}

/// The content of a group's `app_data_dictionary`; empty where it has none.
pub(super) fn components_of(group: &MlsGroup) -> Vec<u8> {
    let extension = group.extensions().unknown(APP_DATA_DICTIONARY);
    extension.map_or_else(Vec::new, |extension| extension.0.clone())
}

fn dictionary(content: &[u8]) -> Result<Dictionary<'_>, BadComponent> {
    match content {
        [] => Ok(Dictionary::default()),
        content => Dictionary::decode(content),
    }
}

impl Member {
    /// The policy of a room, if its group says one that reads.
    #[must_use]
    pub fn policy(&self, room: &RoomUri) -> Option<Policy> {
        let content = components_of(self.group(room).ok()?);
        Policy::read(&dictionary(&content).ok()?).ok()?
    }

    /// Whether this device's user has voice in a room, as its group says.
    #[must_use]
    pub fn has_voice(&self, room: &RoomUri) -> bool {
        let user = self.client().user();
        let may_send = |policy: &Policy| decide(policy, user, Action::Send).is_ok();
        self.group(room).is_ok() && self.policy(room).as_ref().is_none_or(may_send)
    }

    /// What the last Commits changed of room policy, the oldest first; not kept across a restart.
    pub fn policy_changes(&self) -> impl Iterator<Item = &PolicyChange> {
        self.policy_changes.iter()
    }

    /// Prepares a Commit that puts these components in place of those of the same numbers, and adds and removes clients.
    ///
    /// # Errors
    /// As [`Member::prepare_add`] and [`Member::prepare_remove`].
    pub fn prepare_policy(
        &mut self,
        room: &RoomUri,
        components: &[Component],
        added: &[Payload],
        removed: &[ClientUri],
    ) -> Result<PreparedCommit, MemberError> {
        const DOING: &str = "change room policy";
        let added = added.iter();
        let added = added.map(|package| identity::read_key_package(&self.mls, package));
        let added = added.collect::<Result<_, _>>()?;
        let removed = self.leaves(room, removed)?;
        let group = self.group(room)?;
        let mut content = components_of(group);
        for (number, data) in components {
            let all = dictionary(&content).map_err(mls(DOING))?;
            content = all.encode_with(ComponentId(*number), data);
        }
        let mut extensions = group.extensions().clone();
        let dictionary = Extension::Unknown(APP_DATA_DICTIONARY, UnknownExtension(content));
        extensions.add_or_replace(dictionary).map_err(mls(DOING))?;
        if extensions.required_capabilities().is_none() {
            let required = identity::requires_policy();
            extensions.add_or_replace(required).map_err(mls(DOING))?;
        }
        let change = Change::Policy {
            extensions,
            added,
            removed,
        };
        self.prepare(room, change)
    }

    /// Prepares a Commit that changes the participant list, and adds and removes clients.
    ///
    /// # Errors
    /// As [`Self::prepare_policy`]; also when the update does not fit the list.
    pub fn prepare_participants(
        &mut self,
        room: &RoomUri,
        update: &ParticipantListUpdate,
        added: &[Payload],
        removed: &[ClientUri],
    ) -> Result<PreparedCommit, MemberError> {
        let list = self.participants(room)?;
        let next = update.apply(&list);
        let next = next.map_err(mls("change the participants"))?.encode();
        let component = (ComponentId::PARTICIPANTS.0, next);
        self.prepare_policy(room, &[component], added, removed)
    }

    /// The participant list of a room; empty where it has none.
    ///
    /// # Errors
    /// [`MemberError::NotMember`]; [`MemberError::Mls`] when it does not read.
    pub fn participants(&self, room: &RoomUri) -> Result<ParticipantList, MemberError> {
        let content = components_of(self.group(room)?);
        let list = dictionary(&content).and_then(|all| all.read());
        let list = list.map_err(mls("read the participants"))?;
        Ok(list.unwrap_or_default())
    }

    /// Notes what a Commit changed that was just merged.
    pub(super) fn note_policy(&mut self, room: &RoomUri, before: &[u8]) {
        let Some(group) = self.groups.get(room) else {
            return;
        };
        let Some(told) = Told::between(before, &components_of(group)) else {
            return;
        };
        if self.policy_changes.len() == POLICY_CHANGES_KEPT_MAX {
            self.policy_changes.pop_front();
        }
        self.policy_changes.push_back(PolicyChange {
            room: room.clone(),
            epoch: Epoch(group.epoch().as_u64()),
            told,
        });
    }
}
