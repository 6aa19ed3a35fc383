//! Commits: built, decided by the hub, and only then merged.
//!
//! Source: transport requirements, section 3.2.

use super::{Member, MemberError, PreparedCommit, encoding, identity, mls, policy};
use mimi_actors::{
    ids::{ClientUri, RoomUri},
    wire::{
        Payload,
        answer::{Accepted, Answer, Refused},
        event::{Epoch, Hash},
    },
};
use openmls::prelude::{
    Extensions, GroupContext, KeyPackage, LeafNodeIndex, OpenMlsProvider as _,
    ProcessedMessageContent, Proposal, QueuedProposal, Sender,
};

/// What a Commit changes by itself, beside the pending Proposals, which every Commit takes in.
pub(super) enum Change {
    Add(Vec<KeyPackage>),
    Remove(Vec<LeafNodeIndex>),
    Update,
    /// Other extensions of the GroupContext, and whoever comes and goes with them.
    Policy {
        extensions: Extensions<GroupContext>,
        added: Vec<KeyPackage>,
        removed: Vec<LeafNodeIndex>,
    },
}

impl Member {
    /// Prepares a Commit that adds the clients of these KeyPackages.
    ///
    /// # Errors
    /// [`MemberError::Undecided`] when a Commit waits already; [`MemberError::Mls`] when OpenMLS refuses.
    pub fn prepare_add(
        &mut self,
        room: &RoomUri,
        key_packages: &[Payload],
    ) -> Result<PreparedCommit, MemberError> {
        let packages = key_packages
            .iter()
            .map(|package| identity::read_key_package(&self.mls, package))
            .collect::<Result<_, _>>()?;
        self.prepare(room, Change::Add(packages))
    }

    /// Prepares a Commit that removes these clients.
    ///
    /// # Errors
    /// As [`Self::prepare_add`]; also when one of them is no member.
    pub fn prepare_remove(
        &mut self,
        room: &RoomUri,
        clients: &[ClientUri],
    ) -> Result<PreparedCommit, MemberError> {
        let leaves = self.leaves(room, clients)?;
        self.prepare(room, Change::Remove(leaves))
    }

    /// Prepares a Commit that renews the own leaf and takes in the pending Proposals.
    ///
    /// # Errors
    /// As [`Self::prepare_add`].
    pub fn prepare_update(&mut self, room: &RoomUri) -> Result<PreparedCommit, MemberError> {
        self.prepare(room, Change::Update)
    }

    /// The Commit that waits for the hub's word, also after a restart.
    #[must_use]
    pub fn pending_commit(&self, room: &RoomUri) -> Option<&PreparedCommit> {
        let state = self.room(room)?;
        state.entering.as_ref().or(state.pending.as_ref())
    }

    /// The leaves of some clients.
    pub(super) fn leaves(
        &self,
        room: &RoomUri,
        clients: &[ClientUri],
    ) -> Result<Vec<LeafNodeIndex>, MemberError> {
        let group = self.group(room)?;
        clients
            .iter()
            .map(|client| {
                group
                    .members()
                    .find(|leaf| identity::client_of(&leaf.credential).as_ref() == Some(client))
                    .map(|leaf| leaf.index)
                    .ok_or_else(|| mls("find a client")(format!("{client} is not in the room")))
            })
            .collect()
    }

    pub(super) fn prepare(
        &mut self,
        room: &RoomUri,
        change: Change,
    ) -> Result<PreparedCommit, MemberError> {
        self.group(room)?;
        let Some(group) = self.groups.get_mut(room) else {
            return Err(MemberError::NotMember(room.clone()));
        };
        if group.pending_commit().is_some() {
            return Err(MemberError::Undecided(room.clone()));
        }
        let own = group.own_leaf_index();
        let before = group.export_ratchet_tree();
        let base = self.trees.before(group, &before)?;
        let builder = group.commit_builder();
        let builder = match change {
            Change::Add(packages) => builder.propose_adds(packages),
            Change::Remove(leaves) => builder.propose_removals(leaves),
            Change::Update => builder.force_self_update(true),
            Change::Policy {
                extensions,
                added,
                removed,
            } => builder
                .propose_adds(added)
                .propose_removals(removed)
                .propose_group_context_extensions(extensions)
                .map_err(mls("change room policy"))?,
        };
        let bundle = builder
            .load_psks(self.mls.storage())
            .map_err(mls("build a Commit"))?
            .create_group_info(true)
            .use_ratchet_tree_extension(false)
            .build(
                self.mls.rand(),
                self.mls.crypto(),
                &self.signer,
                |proposal| !removes(proposal, own),
            )
            .map_err(mls("build a Commit"))?
            .stage_commit(&self.mls)
            .map_err(mls("stage a Commit"))?;
        let (commit, welcome, group_info) = bundle.into_messages();
        let group_info =
            group_info.ok_or_else(|| mls("build a Commit")("there is no GroupInfo"))?;
        let staged = group
            .pending_commit()
            .ok_or_else(|| mls("build a Commit")("nothing is staged"))?;
        let tree = staged
            .export_ratchet_tree(self.mls.crypto(), before)
            .map_err(mls("export the next tree"))?
            .ok_or_else(|| mls("export the next tree")("there is none"))?;
        let prepared = PreparedCommit {
            room: room.clone(),
            epoch: Epoch(staged.epoch().as_u64()),
            commit: encoding::message(&commit)?,
            welcome: welcome.as_ref().map(encoding::message).transpose()?,
            group_info: encoding::message(&group_info)?,
            tree: self.trees.pack(&encoding::tree(&tree)?, base.as_ref())?,
        };
        self.room_mut(room).pending = Some(prepared.clone());
        Ok(prepared)
    }

    /// Merges the pending Commit: the hub took it. Does nothing when its event has come before.
    ///
    /// # Errors
    /// [`MemberError::Mls`] when OpenMLS cannot merge it.
    pub fn commit_accepted(&mut self, room: &RoomUri) -> Result<(), MemberError> {
        let state = self.record.rooms.entry(room.clone()).or_default();
        let Some(pending) = state.pending.take() else {
            return Ok(());
        };
        let Some(group) = self.groups.get_mut(room) else {
            return Err(MemberError::NotMember(room.clone()));
        };
        let before = policy::components_of(group);
        group
            .merge_pending_commit(&self.mls)
            .map_err(mls("merge the own Commit"))?;
        state.merged = Some((pending.epoch, Hash::of(&pending.commit)));
        state.proposed.clear();
        state.waiting.clear();
        self.record.journal.counts.commits += 1;
        self.note_policy(room, &before);
        Ok(())
    }

    /// Gives the pending Commit up: the hub will never take it.
    ///
    /// # Errors
    /// [`MemberError::Mls`] when the storage fails.
    pub fn abandon_commit(&mut self, room: &RoomUri) -> Result<(), MemberError> {
        self.abandon_entry(room)?;
        self.room_mut(room).pending = None;
        if let Some(group) = self.groups.get_mut(room) {
            group
                .clear_pending_commit(self.mls.storage())
                .map_err(mls("clear the own Commit"))?;
        }
        Ok(())
    }

    /// Does what the hub's answer to the pending Commit asks for: merges it, gives it up, or keeps it for a retry.
    ///
    /// # Errors
    /// [`MemberError::Lost`] when another Commit won, [`MemberError::Refused`] for all other refusals.
    pub fn commit_answered(
        &mut self,
        room: &RoomUri,
        answer: Answer,
    ) -> Result<Accepted, MemberError> {
        let refused = match answer {
            Answer::Committed(accepted) => {
                if self.entering.contains_key(room) {
                    self.entered(room, accepted);
                    return Ok(accepted);
                }
                self.commit_accepted(room)?;
                return Ok(accepted);
            }
            Answer::Refused(refused) => refused,
            Answer::Created
            | Answer::Proposed(_)
            | Answer::Sent(_)
            | Answer::Received
            | Answer::Gap { .. }
            | Answer::GroupInfo(_)
            | Answer::CodeMade(_)
            | Answer::Codes(_)
            | Answer::CodeRevoked => return Err(super::DoorError::Unexpected.into()),
        };
        match refused {
            Refused::WrongEpoch { current, winner } => {
                // Further ahead than this Commit's epoch the answer does not say who won it; then its event decides.
                // An external Commit has no event of its own: its answer, also a repeated one, is all there is.
                let entering = self.entering.contains_key(room);
                let lost = self.pending_commit(room).is_some_and(|pending| {
                    entering || pending.epoch == current && Hash::of(&pending.commit) != winner
                });
                if lost {
                    self.abandon_commit(room)?;
                }
                Err(MemberError::Lost { current, winner })
            }
            Refused::TryLater(_)
            | Refused::Limited { .. }
            | Refused::PeerBehind { .. }
            | Refused::StorageFull
            | Refused::Poisoned => Err(MemberError::Refused(refused)),
            Refused::UnknownProposals { ref references } => {
                self.abandon_commit(room)?;
                self.forget_proposals(room, references)?;
                Err(MemberError::Refused(refused))
            }
            Refused::NotAuthorized
            | Refused::NotMember
            | Refused::Exists
            | Refused::Ended
            | Refused::OmittedProposals { .. }
            | Refused::InvalidProposals { .. }
            | Refused::Invalid(_)
            | Refused::Busy { .. }
            | Refused::LeaseRequired
            | Refused::LeaseExpired
            | Refused::ProviderUnknown { .. }
            | Refused::TooMany { .. } => {
                self.abandon_commit(room)?;
                Err(MemberError::Refused(refused))
            }
        }
    }

    /// Processes a Commit of the room's events.
    pub(super) fn commit_event(
        &mut self,
        room: &RoomUri,
        epoch: Epoch,
        commit: &Payload,
    ) -> Result<(), MemberError> {
        let state = self.record.rooms.entry(room.clone()).or_default();
        let Some(group) = self.groups.get_mut(room) else {
            return Err(MemberError::NotMember(room.clone()));
        };
        if epoch.0 <= group.epoch().as_u64() {
            return match state.merged {
                Some((merged, hash)) if merged == epoch && hash != Hash::of(commit) => {
                    Err(mls("follow the room")(
                        "it took another Commit than it answered",
                    ))
                }
                _ => Ok(()),
            };
        }
        if !group.is_active() {
            return Ok(());
        }
        let own = state
            .pending
            .as_ref()
            .is_some_and(|pending| &pending.commit == commit);
        if own {
            return self.commit_accepted(room);
        }
        let processed = group
            .process_message(&self.mls, encoding::protocol_message(commit)?)
            .map_err(mls("process a Commit"))?;
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            return Err(mls("process a Commit")("another kind of message"));
        };
        if staged.epoch().as_u64() != epoch.0 {
            return Err(mls("process a Commit")("it opens another epoch"));
        }
        let before = policy::components_of(group);
        group
            .merge_staged_commit(&self.mls, *staged)
            .map_err(mls("merge a Commit"))?;
        state.pending = None;
        state.proposed.clear();
        state.waiting.clear();
        self.record.journal.counts.commits += 1;
        self.note_policy(room, &before);
        Ok(())
    }
}

/// Whether a Proposal would remove `leaf`: nobody may commit its own removal.
fn removes(proposal: &QueuedProposal, leaf: LeafNodeIndex) -> bool {
    let made_by_it = matches!(proposal.sender(), Sender::Member(sender) if *sender == leaf);
    let proposal = proposal.proposal();
    matches!(proposal, Proposal::Remove(remove) if remove.removed() == leaf)
        || matches!(proposal, Proposal::SelfRemove) && made_by_it
}
