//! MLS by OpenMLS: what the model stands in for, and the checks that the node itself makes.
//!
//! Owns: the groups of one client, each as the events of its room have made it. Promises: all that the model promises,
//! but for its bytes: keys come from the machine's chance and lifetimes from its clock, so a world of these members
//! begins at the present, and no two runs of a seed are the same. Where OpenMLS is stricter than the model, nothing is
//! made: no message while Proposals wait, no Proposal while a Commit of its own does. Not here: keeping a group across
//! a restart of its client; the storage lives and dies with the member.

use super::{Intent, Took, Wish};
use crate::{
    ids::{ClientUri, ProviderId, RoomUri},
    limits::{AUDITED_MEMBERS_MAX, EPOCH_TOLERANCE_EPOCHS, LEASE_MS},
    mls::{
        check::{
            bundle::{Bundle, Terms},
            hub_senders::HubSenders,
        },
        codec::credential::{client_of, identity_of},
        tree::container::Before,
    },
    room::checks::{COMMIT_RATE, Mls},
    wire::{
        Payload,
        door::RoomBody,
        event::{Epoch, Hash},
        tree::TreeContainer,
    },
};
use bytes::Bytes;
use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, CredentialWithKey, Extension, Extensions,
    ExternalSender, GroupId, KeyPackage, LeafNodeIndex, LeafNodeParameters, MlsGroup,
    MlsGroupJoinConfig, MlsMessageBodyIn, MlsMessageIn, MlsMessageOut, OpenMlsProvider as _,
    PURE_PLAINTEXT_WIRE_FORMAT_POLICY, ProcessedMessageContent, Proposal, ProtocolMessage,
    ProtocolVersion, QueuedProposal, RatchetTreeIn, SenderRatchetConfiguration, SignatureScheme,
    StagedWelcome,
    tls_codec::{DeserializeBytes as _, Serialize as _},
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::signatures::Signer as _;
use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, OnceLock},
};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
const SCHEME: SignatureScheme = SignatureScheme::ED25519;
/// Epochs before the current one whose messages a member can still read.
const PAST_EPOCHS: usize = 5;
const _: () = assert!(PAST_EPOCHS as u64 == EPOCH_TOLERANCE_EPOCHS);
/// Generations of a sender that may come out of order.
const OUT_OF_ORDER_GENERATIONS: u32 = 200;
/// Generations of a sender that may be skipped at once.
const FORWARD_GENERATIONS_MAX: u32 = 1_000;

/// What a worker of a node of a provider checks with.
pub(super) fn verifier(provider: &ProviderId) -> Mls {
    let key = hub().public().try_into().unwrap_or_default();
    Mls {
        hub_signer: Arc::new(|_, bytes| hub().sign(bytes).unwrap_or_default()),
        terms: Terms {
            audited_members_max: AUDITED_MEMBERS_MAX,
            hub: HubSenders::new(provider, vec![key]),
            ..Terms::default()
        },
        lease_ms: LEASE_MS,
        commit_rate: COMMIT_RATE,
    }
}

/// The key that every room lists for its hub.
fn hub() -> &'static SignatureKeyPair {
    static HUB: OnceLock<SignatureKeyPair> = OnceLock::new();
    HUB.get_or_init(|| {
        SignatureKeyPair::new(SCHEME)
            .unwrap_or_else(|_| SignatureKeyPair::from_raw(SCHEME, Vec::new(), Vec::new()))
    })
}

/// Who a member is: its credential and keys, and the storage of OpenMLS.
#[derive(Debug)]
struct Device {
    client: ClientUri,
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
}

/// A group as one member knows it.
#[derive(Debug)]
struct Group {
    mls: MlsGroup,
    joined: Epoch,
    /// Own Proposals of this epoch, kept out of OpenMLS until the room's events hold them: one that the hub refuses
    /// must not be covered by the next Commit, and OpenMLS does not process its own.
    proposed: Vec<(Bytes, QueuedProposal)>,
}

/// One client of OpenMLS.
#[derive(Debug)]
pub struct Member {
    device: Device,
    seed: u64,
    founded: u64,
    groups: BTreeMap<RoomUri, Group>,
}

/// Says what failed, in front of why.
fn failed<E: Display>(what: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

fn ratchet() -> SenderRatchetConfiguration {
    SenderRatchetConfiguration::new(OUT_OF_ORDER_GENERATIONS, FORWARD_GENERATIONS_MAX)
}

fn capabilities() -> Capabilities {
    Capabilities::builder().ciphersuites(vec![SUITE]).build()
}

fn bytes_of(message: &MlsMessageOut) -> Option<Bytes> {
    Some(message.to_bytes().ok()?.into())
}

fn message_of(bytes: &Bytes) -> Result<MlsMessageIn, String> {
    MlsMessageIn::tls_deserialize_exact_bytes(bytes).map_err(failed("decode an MLSMessage"))
}

fn protocol_message(bytes: &Bytes) -> Result<ProtocolMessage, String> {
    message_of(bytes)?
        .try_into_protocol_message()
        .map_err(failed("decode an MLSMessage"))
}

impl Device {
    fn credential(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(identity_of(&self.client)).into(),
            signature_key: self.signer.public().into(),
        }
    }

    fn key_package(&self) -> Option<Bytes> {
        let package = KeyPackage::builder()
            .leaf_node_capabilities(capabilities())
            .build(SUITE, &self.provider, &self.signer, self.credential())
            .ok()?;
        bytes_of(&MlsMessageOut::from(package.into_key_package()))
    }

    /// A KeyPackage of somebody else, if it is valid.
    fn read_package(&self, package: &Payload) -> Option<KeyPackage> {
        let MlsMessageBodyIn::KeyPackage(package) = message_of(package).ok()?.extract() else {
            return None;
        };
        package
            .validate(self.provider.crypto(), ProtocolVersion::Mls10)
            .ok()
    }

    fn found(&self, room: &RoomUri, id: GroupId) -> Option<MlsGroup> {
        let hub = BasicCredential::new(format!("mimi://{}", room.hub()).into_bytes());
        let senders = vec![ExternalSender::new(self::hub().public().into(), hub.into())];
        let extensions = Extensions::single(Extension::ExternalSenders(senders)).ok()?;
        MlsGroup::builder()
            .with_group_id(id)
            .ciphersuite(SUITE)
            .with_capabilities(capabilities())
            // The hub must see who commits and what; encrypted handshakes would hide it.
            .with_wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(false)
            .max_past_epochs(PAST_EPOCHS)
            .sender_ratchet_configuration(ratchet())
            .with_group_context_extensions(extensions)
            .build(&self.provider, &self.signer, self.credential())
            .ok()
    }

    fn join(&self, welcome: &Bytes, tree: &Bytes) -> Result<MlsGroup, String> {
        let MlsMessageBodyIn::Welcome(welcome) = message_of(welcome)?.extract() else {
            return Err("not a Welcome".to_owned());
        };
        let tree = RatchetTreeIn::tls_deserialize_exact_bytes(tree)
            .map_err(failed("decode a ratchet tree"))?;
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(false)
            .max_past_epochs(PAST_EPOCHS)
            .sender_ratchet_configuration(ratchet())
            .build();
        StagedWelcome::build_from_welcome(&self.provider, &config, welcome)
            .map_err(failed("open a Welcome"))?
            .with_ratchet_tree(tree)
            .skip_lifetime_validation()
            .replace_old_group()
            .build()
            .map_err(failed("check a Welcome"))?
            .into_group(&self.provider)
            .map_err(failed("join by a Welcome"))
    }

    /// Takes a group out of the storage. Nothing reads what stays there when that fails.
    fn delete(&self, mut group: Group) {
        let _ = group.mls.delete(self.provider.storage());
    }
}

impl Member {
    pub(super) fn new(client: &ClientUri, seed: u64) -> Self {
        // Without a key of its own a member signs nothing, and makes nothing.
        let signer = SignatureKeyPair::new(SCHEME)
            .unwrap_or_else(|_| SignatureKeyPair::from_raw(SCHEME, Vec::new(), Vec::new()));
        Self {
            device: Device {
                client: client.clone(),
                provider: OpenMlsRustCrypto::default(),
                signer,
            },
            seed,
            founded: 0,
            groups: BTreeMap::new(),
        }
    }

    /// Good from the real present on; empty, which no check accepts, when it cannot be made.
    pub(super) fn key_package(&mut self) -> Payload {
        Payload(self.device.key_package().unwrap_or_default())
    }

    /// Empty, which no check accepts, when the group cannot be made.
    pub(super) fn found(&mut self, room: &RoomUri) -> (Bytes, Bytes) {
        self.founded += 1;
        let id = format!(
            "{room}#{}#{}#{}",
            self.device.client, self.seed, self.founded
        );
        self.open(room, GroupId::from_slice(id.as_bytes()))
            .unwrap_or_default()
    }

    fn open(&mut self, room: &RoomUri, id: GroupId) -> Option<(Bytes, Bytes)> {
        let Device {
            provider, signer, ..
        } = &self.device;
        let group = self.device.found(room, id)?;
        let group_info = group.export_group_info(provider.crypto(), signer, false);
        let group_info = bytes_of(&group_info.ok()?)?;
        let tree = group.export_ratchet_tree().tls_serialize_detached().ok()?;
        self.enter(room, group);
        Some((group_info, tree.into()))
    }

    fn enter(&mut self, room: &RoomUri, mls: MlsGroup) -> Epoch {
        let epoch = Epoch(mls.epoch().as_u64());
        let id = mls.group_id().clone();
        let group = Group {
            mls,
            joined: epoch,
            proposed: Vec::new(),
        };
        let replaced = self.groups.insert(room.clone(), group);
        // One that is joined again has the old one's place in the storage.
        if let Some(old) = replaced.filter(|old| *old.mls.group_id() != id) {
            self.device.delete(old);
        }
        epoch
    }

    pub(super) fn forget(&mut self, room: &RoomUri) {
        if let Some(group) = self.groups.remove(room) {
            self.device.delete(group);
        }
    }

    pub(super) fn epoch(&self, room: &RoomUri) -> Option<Epoch> {
        self.groups.get(room).map(Group::epoch)
    }

    pub(super) fn authenticator(&self, room: &RoomUri) -> Option<Hash> {
        let group = &self.groups.get(room)?.mls;
        Some(Hash::of(group.epoch_authenticator().as_slice()))
    }

    pub(super) fn roster(&self, room: &RoomUri) -> Vec<ClientUri> {
        let group = self.groups.get(room).into_iter();
        let leaves = group.flat_map(|group| group.mls.members());
        leaves
            .filter_map(|leaf| client_of(leaf.credential.serialized_content()))
            .collect()
    }

    pub(super) fn commit(&mut self, room: &RoomUri, intent: &Intent) -> Option<Bundle> {
        if intent.reinit {
            return None;
        }
        let device = &self.device;
        let group = self.groups.get_mut(room)?;
        group.discard(device);
        let packages = intent.add.iter();
        let add: Vec<KeyPackage> = packages
            .map(|package| device.read_package(package))
            .collect::<Option<_>>()?;
        // Proposals that OpenMLS does not want together must not keep the room from going on without them.
        let bundle = [true, false]
            .into_iter()
            .find_map(|covers| group.stage(device, add.clone(), &intent.remove, covers));
        if bundle.is_none() {
            group.discard(device);
        }
        bundle
    }

    pub(super) fn confirm(&mut self, room: &RoomUri) -> Result<Epoch, String> {
        let group = self.groups.get_mut(room).ok_or("no such group")?;
        if group.mls.pending_commit().is_none() {
            return Err("no Commit was made".to_owned());
        }
        group
            .mls
            .merge_pending_commit(&self.device.provider)
            .map_err(failed("merge the own Commit"))?;
        group.proposed.clear();
        Ok(group.epoch())
    }

    pub(super) fn discard(&mut self, room: &RoomUri) {
        if let Some(group) = self.groups.get_mut(room) {
            group.discard(&self.device);
        }
    }

    pub(super) fn before(&self, room: &RoomUri) -> Option<Before> {
        let mls = &self.groups.get(room)?.mls;
        let context = mls.public_group().group_context();
        let tree = mls.export_ratchet_tree().tls_serialize_detached().ok()?;
        Some(Before {
            epoch: context.epoch().as_u64(),
            tree_hash: Bytes::copy_from_slice(context.tree_hash()),
            tree: tree.into(),
        })
    }

    pub(super) fn propose(&mut self, room: &RoomUri, wish: &Wish) -> Option<Bytes> {
        self.groups.get_mut(room)?.propose(&self.device, wish)
    }

    pub(super) fn message(&mut self, room: &RoomUri, content: u64) -> Option<Bytes> {
        let Device {
            provider, signer, ..
        } = &self.device;
        let group = self.groups.get_mut(room)?;
        let message = group
            .mls
            .create_message(provider, signer, &content.to_be_bytes());
        bytes_of(&message.ok()?)
    }

    pub(super) fn join(
        &mut self,
        room: &RoomUri,
        welcome: &Bytes,
        tree: &Bytes,
    ) -> Result<Epoch, String> {
        let group = self.device.join(welcome, tree)?;
        Ok(self.enter(room, group))
    }

    pub(super) fn take(&mut self, room: &RoomUri, body: &RoomBody) -> Result<Took, String> {
        let device = &self.device;
        let group = self.groups.get_mut(room).ok_or("no such group")?;
        match body {
            RoomBody::Application(message) => group.read(device, message),
            RoomBody::Proposals(messages) => {
                for message in messages {
                    group.hear(device, message)?;
                }
                Ok(Took::Proposals)
            }
            RoomBody::Commit { epoch, commit } => {
                group.follow(device, *epoch, commit)?;
                if group.mls.is_active() {
                    return Ok(Took::Commit(*epoch));
                }
                self.forget(room);
                Ok(Took::Removed)
            }
        }
    }
}

impl Group {
    fn epoch(&self) -> Epoch {
        Epoch(self.mls.epoch().as_u64())
    }

    fn leaf_of(&self, client: &ClientUri) -> Option<LeafNodeIndex> {
        let credential = BasicCredential::new(identity_of(client)).into();
        self.mls.member_leaf_index(&credential)
    }

    /// The leaf that a Proposal which waits would remove.
    fn removed_by(proposal: &QueuedProposal) -> Option<LeafNodeIndex> {
        if let Proposal::Remove(remove) = proposal.proposal() {
            return Some(remove.removed());
        }
        None
    }

    fn discard(&mut self, device: &Device) {
        // The storage is only a copy: what the group itself holds is cleared before it is written.
        let _ = self.mls.clear_pending_commit(device.provider.storage());
    }

    /// Makes a Commit and leaves it staged. OpenMLS itself leaves out own Updates and Updates of leaves that go.
    fn stage(
        &mut self,
        device: &Device,
        add: Vec<KeyPackage>,
        remove: &[ClientUri],
        covers: bool,
    ) -> Option<Bundle> {
        let Device {
            provider, signer, ..
        } = device;
        let own = self.mls.own_leaf_index();
        let waiting: Vec<LeafNodeIndex> = self
            .mls
            .pending_proposals()
            .filter(|_| covers)
            .filter_map(Self::removed_by)
            .collect();
        let mut leaves: Vec<LeafNodeIndex> = remove
            .iter()
            .filter_map(|client| self.leaf_of(client))
            .filter(|leaf| *leaf != own && !waiting.contains(leaf))
            .collect();
        leaves.sort_unstable();
        leaves.dedup();
        let before = self.mls.export_ratchet_tree();
        let made = self
            .mls
            .commit_builder()
            .consume_proposal_store(covers)
            // A Commit that only adds may go without a path; both kinds belong into a world.
            .force_self_update(add.is_empty())
            .propose_adds(add)
            .propose_removals(leaves)
            .load_psks(provider.storage())
            .ok()?
            .create_group_info(true)
            .use_ratchet_tree_extension(false)
            .build(provider.rand(), provider.crypto(), signer, |proposal| {
                Self::removed_by(proposal) != Some(own)
            })
            .ok()?
            .stage_commit(provider)
            .ok()?;
        let (commit, welcome, group_info) = made.into_messages();
        let staged = self.mls.pending_commit()?;
        let tree = staged.export_ratchet_tree(provider.crypto(), before);
        let tree = tree.ok()??.tls_serialize_detached().ok()?;
        let welcome = match welcome {
            Some(welcome) => Some(bytes_of(&welcome)?),
            None => None,
        };
        Some(Bundle {
            commit: bytes_of(&commit)?.into(),
            welcome: welcome.map(Payload),
            group_info: bytes_of(&group_info?)?.into(),
            tree: TreeContainer::Full(tree.into()),
        })
    }

    fn propose(&mut self, device: &Device, wish: &Wish) -> Option<Bytes> {
        let Device {
            provider, signer, ..
        } = device;
        let (message, reference) = match wish {
            Wish::Update => {
                let same = LeafNodeParameters::default();
                self.mls.propose_self_update(provider, signer, same).ok()?
            }
            Wish::Leave => return None,
            Wish::Remove(client) => {
                let leaf = self.leaf_of(client)?;
                self.mls
                    .propose_remove_member(provider, signer, leaf)
                    .ok()?
            }
        };
        let known = |queued: &&QueuedProposal| *queued.proposal_reference_ref() == reference;
        let queued = self.mls.pending_proposals().find(known).cloned()?;
        self.mls
            .remove_pending_proposal(provider.storage(), &reference)
            .ok()?;
        let message = bytes_of(&message)?;
        self.proposed.push((message.clone(), queued));
        Some(message)
    }

    fn hear(&mut self, device: &Device, bytes: &Bytes) -> Result<(), String> {
        let message = protocol_message(bytes)?;
        if message.group_id() != self.mls.group_id() || message.epoch() != self.mls.epoch() {
            return Err("a Proposal of another group or epoch".to_owned());
        }
        let own = self.proposed.iter().find(|(own, _)| own == bytes);
        let queued = match own {
            Some((_, queued)) => queued.clone(),
            None => self.process_proposal(device, message)?,
        };
        let reference = queued.proposal_reference_ref();
        let waits = self
            .mls
            .pending_proposals()
            .any(|known| known.proposal_reference_ref() == reference);
        // OpenMLS would keep it once more.
        if waits {
            return Ok(());
        }
        self.mls
            .store_pending_proposal(device.provider.storage(), queued)
            .map_err(failed("keep a Proposal"))
    }

    fn process_proposal(
        &mut self,
        device: &Device,
        message: ProtocolMessage,
    ) -> Result<QueuedProposal, String> {
        let processed = self
            .mls
            .process_message(&device.provider, message)
            .map_err(failed("process a Proposal"))?;
        let ProcessedMessageContent::ProposalMessage(queued) = processed.into_content() else {
            return Err("not a Proposal".to_owned());
        };
        Ok(*queued)
    }

    fn follow(&mut self, device: &Device, opens: Epoch, commit: &Bytes) -> Result<(), String> {
        let message = protocol_message(commit)?;
        let of = Epoch(message.epoch().as_u64());
        if message.group_id() != self.mls.group_id() || of.next() != opens {
            return Err("a Commit of another group or epoch".to_owned());
        }
        if of != self.epoch() {
            let at = self.epoch();
            return Err(format!("a Commit of epoch {} in epoch {}", of.0, at.0));
        }
        self.discard(device);
        let processed = self
            .mls
            .process_message(&device.provider, message)
            .map_err(failed("process a Commit"))?;
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            return Err("not a Commit".to_owned());
        };
        self.mls
            .merge_staged_commit(&device.provider, *staged)
            .map_err(failed("merge a Commit"))?;
        self.proposed.clear();
        Ok(())
    }

    fn read(&mut self, device: &Device, message: &Bytes) -> Result<Took, String> {
        let message = protocol_message(message)?;
        if message.group_id() != self.mls.group_id() {
            return Err("a message of another group".to_owned());
        }
        if Epoch(message.epoch().as_u64()) < self.joined {
            return Ok(Took::BeforeJoining);
        }
        let processed = self
            .mls
            .process_message(&device.provider, message)
            .map_err(failed("decrypt a message"))?;
        let ProcessedMessageContent::ApplicationMessage(plain) = processed.into_content() else {
            return Err("not a message".to_owned());
        };
        let content = plain.into_bytes().try_into();
        let content: [u8; 8] = content.map_err(|_| "a message that no member makes")?;
        Ok(Took::Message(u64::from_be_bytes(content)))
    }
}
