//! A member: one device of one user, with its MLS state on OpenMLS, on top of the door.
//!
//! Owns: the device key, the MLS signature key, the groups, the numbers and cursors, and a journal of what was seen.
//! Promises: what the state file holds is saved before anything that rests on it leaves the device (a KeyPackage, a
//! Commit, a message, an acknowledgement), so that a device that stops anywhere goes on where it was; an own message is
//! sent again with the same number and bytes until it has its verdict; an own Commit is merged only when the hub took
//! it. Every step works without a network too: [`Member::take`] is what an event stream feeds, and each request has a
//! form that only makes its bytes.
//!
//! One member is used from one task at a time (`&mut self`). Not here: what the user wants; retries, which its caller
//! decides.

mod commits;
mod consent;
mod encoding;
mod entering;
mod events;
mod group;
mod identity;
mod joining;
mod journal;
mod messages;
mod opening;
mod policy;
mod prepared;
mod proposals;
mod record;
mod refill;
mod requests;
mod roam;
mod sending;
mod session;
mod store;
mod stream;
mod trees;
mod view;

#[cfg(test)]
mod tests;

pub use consent::AllConsents;
pub use identity::{Component, OTHER_SUITE, PackageOptions, SUITE};
pub use joining::{Asking, Ticket, join_again_after};
pub use journal::{Counts, Fault, JOURNAL_FAULTS_MAX, JOURNAL_MESSAGES_MAX, Seen};
pub use policy::{POLICY_CHANGES_KEPT_MAX, PolicyChange};
pub use prepared::{Entrance, PreparedCommit};
pub use proposals::Proposing;
pub use requests::new_claim_id;
pub use view::packages;

use super::door::{DeviceKey, DoorError};
use bytes::Bytes;
use mimi_actors::{
    ids::{ClientUri, RoomUri},
    wire::{
        self,
        answer::Refused,
        door::{Order, RoomEvent},
        event::{Epoch, Hash},
        post::Note,
        user,
    },
};
use openmls::prelude::{MlsGroup, OpenMlsProvider as _};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use record::{Record, Room};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    path::PathBuf,
    sync::Arc,
};

/// What a member cannot do.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// OpenMLS refuses.
    #[error("cannot {doing}: {detail}")]
    Mls {
        /// What was being done.
        doing: &'static str,
        /// What OpenMLS says.
        detail: String,
    },
    /// The state file cannot be read or written.
    #[error("state file {}: {detail}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The device has no group of this room.
    #[error("not a member of {0}")]
    NotMember(RoomUri),
    /// A Commit of this device waits for the hub's word.
    #[error("a Commit in {0} waits for the hub's word")]
    Undecided(RoomUri),
    /// Proposals wait for a Commit; until then the device may not send (RFC 9420, section 12.4).
    #[error("proposals in {0} wait for a Commit")]
    ProposalsPending(RoomUri),
    /// A request holds no more than that; make several.
    #[error("more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// At most.
        max: usize,
    },
    /// Another Commit won; catch up, and build a new one.
    #[error("another Commit won: the room is at epoch {current}, opened by Commit {winner}")]
    Lost {
        /// The room's epoch.
        current: Epoch,
        /// BLAKE3 of the Commit that opened it.
        winner: Hash,
    },
    /// The room refuses.
    #[error("refused: {0}")]
    Refused(#[source] Refused),
    /// The device's own user refuses.
    #[error("refused: {0}")]
    NotTaken(#[source] user::Refused),
    /// The door fails or refuses.
    #[error("door: {0}")]
    Door(#[from] DoorError),
    /// There is no connection.
    #[error("not connected")]
    NotConnected,
    /// The condition did not come true in time.
    #[error("the condition did not come true in time")]
    Deadline,
}

/// Makes an error of what OpenMLS says.
fn mls<E: fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> MemberError {
    move |error| MemberError::Mls {
        doing,
        detail: error.to_string(),
    }
}

/// One device of one user.
pub struct Member {
    device: Arc<DeviceKey>,
    signer: SignatureKeyPair,
    mls: OpenMlsRustCrypto,
    groups: BTreeMap<RoomUri, MlsGroup>,
    record: Record,
    /// Groups of external Commits that wait for the hub's word.
    entering: BTreeMap<RoomUri, MlsGroup>,
    /// Events of rooms whose Welcome is not here yet; neither saved nor acknowledged.
    held: BTreeMap<RoomUri, Vec<Vec<RoomEvent>>>,
    /// In which order events are read; not kept across a restart.
    order: Order,
    /// What moved since the last acknowledgement.
    moved: BTreeSet<RoomUri>,
    inbox_moved: bool,
    trees: trees::Trees,
    /// What the provider said.
    notes: VecDeque<Note>,
    /// What Commits changed of room policy.
    policy_changes: VecDeque<PolicyChange>,
    /// What of it is to be done.
    wants: refill::Wants,
    /// KeyPackages that are kept in stock; none where the caller sees to it.
    keeps: Option<usize>,
    state_file: Option<PathBuf>,
    session: Option<session::Session>,
    /// Where it may move by itself.
    doors: Option<roam::Doors>,
}

impl Member {
    /// A fresh device, saved at once when it has a state file.
    ///
    /// # Errors
    /// [`MemberError::State`] when the state file exists or cannot be written.
    pub fn create(client: ClientUri, state_file: Option<PathBuf>) -> Result<Self, MemberError> {
        if let Some(path) = state_file.as_ref().filter(|path| path.exists()) {
            return Err(MemberError::State {
                path: path.clone(),
                detail: "exists already".to_owned(),
            });
        }
        let mls_provider = OpenMlsRustCrypto::default();
        let member = Self {
            device: Arc::new(DeviceKey::generate().map_err(mls("make a device key"))?),
            signer: identity::signer(&mls_provider)?,
            mls: mls_provider,
            groups: BTreeMap::new(),
            record: Record::new(client),
            entering: BTreeMap::new(),
            held: BTreeMap::new(),
            order: Order::default(),
            moved: BTreeSet::new(),
            inbox_moved: false,
            trees: trees::Trees::default(),
            notes: VecDeque::new(),
            policy_changes: VecDeque::new(),
            wants: refill::Wants::default(),
            keeps: None,
            state_file,
            session: None,
            doors: None,
        };
        member.save_now()?;
        Ok(member)
    }

    /// The device that the state file holds, as it was when it was last saved.
    ///
    /// # Errors
    /// [`MemberError::State`] when the file is not there or not whole.
    pub fn restore(state_file: PathBuf) -> Result<Self, MemberError> {
        let saved = store::read(&state_file)?;
        let provider = store::provider(saved.values);
        let signer = SignatureKeyPair::read(
            provider.storage(),
            &saved.signature_key,
            SUITE.signature_algorithm(),
        )
        .ok_or_else(|| mls("find the signature key")("not in the state file"))?;
        let mut groups = group::load_all(&provider, &saved.record)?;
        let entering = saved.record.rooms.iter();
        let entering = entering.filter(|(_, state)| state.entering.is_some());
        let entering = entering
            .filter_map(|(room, _)| groups.remove_entry(room))
            .collect();
        Ok(Self {
            device: Arc::new(
                DeviceKey::from_pkcs8(&saved.device).map_err(mls("read the device key"))?,
            ),
            signer,
            mls: provider,
            groups,
            record: saved.record,
            entering,
            held: BTreeMap::new(),
            order: Order::default(),
            moved: BTreeSet::new(),
            inbox_moved: false,
            trees: trees::Trees::default(),
            notes: VecDeque::new(),
            policy_changes: VecDeque::new(),
            wants: refill::Wants::default(),
            keeps: None,
            state_file: Some(state_file),
            session: None,
            doors: None,
        })
    }

    /// Everything, encoded; `None` without a state file.
    fn encoded(&self) -> Option<(PathBuf, Bytes)> {
        let path = self.state_file.clone()?;
        let saved = store::Saved {
            device: self.device.to_pkcs8().clone().into(),
            signature_key: self.signer.public().to_vec().into(),
            record: self.record.clone(),
            values: store::entries(&self.mls),
        };
        Some((path, wire::encode_sized(&saved, 64 << 10)))
    }

    /// Saves everything, if there is a state file. Blocks for an fsync.
    ///
    /// # Errors
    /// [`MemberError::State`] when it cannot be written.
    pub fn save_now(&self) -> Result<(), MemberError> {
        self.encoded()
            .map_or(Ok(()), |(path, bytes)| store::write(&path, &bytes))
    }

    fn group(&self, room: &RoomUri) -> Result<&MlsGroup, MemberError> {
        self.groups
            .get(room)
            .filter(|group| group.is_active())
            .ok_or_else(|| MemberError::NotMember(room.clone()))
    }

    fn room(&self, room: &RoomUri) -> Option<&Room> {
        self.record.rooms.get(room)
    }

    fn room_mut(&mut self, room: &RoomUri) -> &mut Room {
        self.record.rooms.entry(room.clone()).or_default()
    }

    /// The device's URI.
    #[must_use]
    pub fn client(&self) -> &ClientUri {
        &self.record.client
    }

    /// The device key.
    #[must_use]
    pub fn device(&self) -> &DeviceKey {
        &self.device
    }

    /// Makes `count` fresh KeyPackages, as MLSMessages.
    ///
    /// # Errors
    /// [`MemberError::Mls`] when the options contradict each other.
    pub fn key_packages(
        &mut self,
        count: usize,
        options: &PackageOptions,
    ) -> Result<Vec<Bytes>, MemberError> {
        (0..count)
            .map(|_| identity::key_package(&self.mls, &self.record.client, &self.signer, options))
            .collect()
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Member({})", self.record.client)
    }
}
