//! The GroupInfo exchange in bytes: what is signed, what is sealed, and the checks of both sides. The format is
//! documented in [`crate::wire::joining`].
//!
//! Cryptography: for workers and clients. Not here: who may ask, and when (`room`).
//!
//! Source: transport requirements, section 3.3.

use crate::{
    ids::RoomUri,
    limits::{
        CONTROL_EVENT_BYTES_MAX, GROUP_INFO_BYTES_MAX, PROPOSAL_BYTES_MAX,
        PROPOSALS_PENDING_PER_ROOM_MAX, TREE_BYTES_MAX, URI_BYTES_MAX,
    },
    machine::Millis,
    mls::{
        codec::{
            reader::{Malformed, Reader, put_vector},
            sealed::{self, NotSealed, SealingKey},
        },
        tree::container,
    },
    wire::{
        BText, Payload,
        event::{Epoch, Hash},
        joining::{GroupInfoRequest, SealedGroupInfo},
        refusal::RefusalCode,
        tree::{TreeContainer, TreeKind},
    },
};
use bytes::Bytes;
use std::sync::Arc;

/// Label of what the MIMI protocol signs of a request; version 1 signed all of it under this one.
const REQUEST_LABEL: &str = "GroupInfoRequestTBS";
/// Label of the signature over all of a request, which is ours.
const ENVELOPE_LABEL: &str = "mimi-node GroupInfoRequestTBS";
const RESPONSE_LABEL: &str = "GroupInfoResponseTBS";
const SEAL_LABEL: &str = "GroupInfo and ratchet_tree encryption";

/// What is sealed for a joiner, and for which request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealing {
    /// The request.
    pub request: Arc<GroupInfoRequest>,
    /// The room's epoch.
    pub epoch: Epoch,
    /// The hub's clock.
    pub time: Millis,
    /// How long the lease lasts from then on, in milliseconds.
    pub lease_ms: u32,
    /// What the room has for a joiner.
    pub material: Material,
}

/// What a room has for joiners, before it is known in which container they want the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// The GroupInfo, an MLSMessage, without the tree.
    pub group_info: Bytes,
    /// The ratchet tree, whole.
    pub tree: Bytes,
    /// The delta from the epoch before, if the room has it.
    pub delta: Option<Bytes>,
    /// Where the last committer said that the tree lies, if it did.
    pub place: Option<BText<URI_BYTES_MAX>>,
    /// The Proposals that wait for a Commit, each an MLSMessage, and when the hub accepted them.
    pub pending: Vec<(Bytes, Millis)>,
}

impl Material {
    /// The tree in this container; in full where there is no such container of it.
    #[must_use]
    pub fn packed(&self, kind: TreeKind) -> TreeContainer {
        let whole = || TreeContainer::from(self.tree.clone());
        match kind {
            TreeKind::Full => whole(),
            TreeKind::Zstd => TreeContainer::Zstd(container::compress(&self.tree).into()),
            TreeKind::Delta => {
                let delta = self.delta.clone();
                delta.map_or_else(whole, |delta| TreeContainer::Delta(Payload(delta)))
            }
            TreeKind::DistributionService => TreeContainer::DistributionService,
            TreeKind::Reference => {
                let place = self.place.clone();
                place.map_or_else(whole, TreeContainer::Reference)
            }
        }
    }

    fn content(&self, kind: TreeKind) -> Content {
        Content {
            group_info: self.group_info.clone(),
            tree: self.packed(kind),
            pending: self.pending.clone(),
        }
    }
}

/// What a joiner needs to build an external Commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The GroupInfo, an MLSMessage, without the tree.
    pub group_info: Bytes,
    /// The ratchet tree, in the container asked for, or in full.
    pub tree: TreeContainer,
    /// The Proposals that wait for a Commit, each an MLSMessage, and when the hub accepted them.
    pub pending: Vec<(Bytes, Millis)>,
}

/// Why the joiner cannot use an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// It was not sealed to the joiner for this request.
    #[error(transparent)]
    Sealed(#[from] NotSealed),
    /// What was sealed does not read.
    #[error("what was sealed does not read: {0}")]
    Malformed(#[from] Malformed),
    /// The hub did not sign it.
    #[error("no key of external_senders signed the answer")]
    Signature,
}

/// Signs a request with the signature key of the joiner's leaf; `sign` is given `SignContent` of RFC 9420, section
/// 5.1.2.
///
/// # Errors
/// Those of `sign`.
pub fn sign_request<E>(
    request: &mut GroupInfoRequest,
    sign: impl Fn(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<(), E> {
    let all = request_tbs(request);
    let under = |label: &str, tbs: &[u8]| {
        let signature = sign(&sealed::sign_content(label, tbs))?;
        Ok(Payload::from(signature))
    };
    request.signature = under(REQUEST_LABEL, &protocol_tbs(request))?;
    request.envelope = under(ENVELOPE_LABEL, &all)?;
    request.before = under(REQUEST_LABEL, &all)?;
    Ok(())
}

/// Names a request.
#[must_use]
pub fn name_request(request: &GroupInfoRequest) -> Hash {
    Hash::of(&request_tbs(request))
}

/// What makes a request of no use, if anything does; a stable code.
#[must_use]
pub fn request_flaw(request: &GroupInfoRequest) -> Option<RefusalCode> {
    let GroupInfoRequest {
        ciphersuite,
        hpke_key,
        signature_key,
        signature,
        envelope,
        before,
        ..
    } = request;
    let all = request_tbs(request);
    let verifies = |label: &str, tbs: &[u8], signature: &Payload| {
        sealed::verifies(*ciphersuite, signature_key, label, tbs, signature)
    };
    let is_signed = || {
        if request.is_of_version_1() {
            verifies(REQUEST_LABEL, &all, before)
        } else {
            verifies(ENVELOPE_LABEL, &all, envelope)
                && verifies(REQUEST_LABEL, &protocol_tbs(request), signature)
        }
    };
    if !(1..=3).contains(ciphersuite) {
        Some(RefusalCode::Ciphersuite)
    } else if !is_signed() {
        Some(RefusalCode::Signature)
    } else if !sealed::is_sealing_key(*ciphersuite, hpke_key) {
        Some(RefusalCode::HpkeKey)
    } else {
        None
    }
}

/// Seals and signs an answer; `sign` signs with the hub's key.
///
/// # Errors
/// [`NotSealed`] when the request's key is none.
pub fn seal(
    sealing: &Sealing,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<SealedGroupInfo, NotSealed> {
    let Sealing {
        request,
        epoch,
        time,
        lease_ms,
        material,
    } = sealing;
    let (kem_output, ciphertext) = sealed::seal(
        request.ciphersuite,
        &request.hpke_key,
        SEAL_LABEL,
        &context(request, *epoch),
        &material.content(request.container).encode(),
    )?;
    let mut answer = SealedGroupInfo {
        epoch: *epoch,
        time: *time,
        lease_ms: *lease_ms,
        kem_output: kem_output.into(),
        ciphertext: ciphertext.into(),
        signature: Vec::new().into(),
    };
    let to_sign = sealed::sign_content(RESPONSE_LABEL, &response_tbs(request, &answer));
    answer.signature = sign(&to_sign).into();
    Ok(answer)
}

/// Opens an answer with the key that the request named, and checks that the hub signed it: with a key that the
/// GroupInfo lists in external_senders.
///
/// What the hub promises is checked here; that the GroupInfo is a member's work, the MLS library checks.
///
/// # Errors
/// [`BadAnswer`] says what is wrong.
pub fn open(
    request: &GroupInfoRequest,
    answer: &SealedGroupInfo,
    key: &SealingKey,
) -> Result<Content, BadAnswer> {
    let plaintext = key.open(
        request.ciphersuite,
        SEAL_LABEL,
        &context(request, answer.epoch),
        &answer.kem_output,
        &answer.ciphertext,
    )?;
    let content = Content::decode(&plaintext)?;
    let keys = crate::mls::codec::group_info::external_sender_keys(&content.group_info);
    // Hubs sign with Ed25519, whatever the group's ciphersuite: that is suite 1's.
    const HUB_SUITE: u16 = 1;
    let tbs = response_tbs(request, answer);
    let signed = keys
        .unwrap_or_default()
        .iter()
        .any(|key| sealed::verifies(HUB_SUITE, key, RESPONSE_LABEL, &tbs, &answer.signature));
    if signed {
        Ok(content)
    } else {
        Err(BadAnswer::Signature)
    }
}

/// The GroupInfoRequestTBS of the MIMI protocol.
fn protocol_tbs(request: &GroupInfoRequest) -> Vec<u8> {
    const MLS_10: u8 = 1;
    const BASIC: u16 = 1;
    let mut out = vec![MLS_10];
    out.extend(request.ciphersuite.to_be_bytes());
    put_vector(&mut out, &request.signature_key);
    out.extend(BASIC.to_be_bytes());
    put_vector(&mut out, request.joiner.to_string().as_bytes());
    put_vector(&mut out, &request.hpke_key);
    put_optional(&mut out, request.code.as_ref().map(|code| &code[..]));
    out
}

/// All of a request, as the joiner says it and only the hub of this release reads it.
fn request_tbs(request: &GroupInfoRequest) -> Vec<u8> {
    let GroupInfoRequest {
        room,
        joiner,
        id,
        time,
        ciphersuite,
        hpke_key,
        signature_key,
        container,
        wait_ms: _,
        code,
        passphrase,
        signature: _,
        envelope: _,
        before: _,
    } = request;
    let mut out = Vec::with_capacity(512);
    put_room(&mut out, room);
    put_vector(&mut out, joiner.to_string().as_bytes());
    out.extend_from_slice(id);
    out.extend(time.0.to_be_bytes());
    out.extend(ciphersuite.to_be_bytes());
    put_vector(&mut out, hpke_key);
    put_vector(&mut out, signature_key);
    out.push(container.number());
    put_optional(&mut out, code.as_ref().map(|code| &code[..]));
    put_optional(&mut out, passphrase.as_ref().map(|text| text.as_bytes()));
    out
}

fn context(request: &GroupInfoRequest, epoch: Epoch) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    put_room(&mut out, &request.room);
    put_vector(&mut out, request.joiner.to_string().as_bytes());
    out.extend_from_slice(&name_request(request).0);
    out.extend(epoch.0.to_be_bytes());
    out
}

fn response_tbs(request: &GroupInfoRequest, answer: &SealedGroupInfo) -> Vec<u8> {
    let mut out = context(request, answer.epoch);
    out.extend(answer.time.0.to_be_bytes());
    out.extend(answer.lease_ms.to_be_bytes());
    out.extend(request.ciphersuite.to_be_bytes());
    put_vector(&mut out, &answer.kem_output);
    put_vector(&mut out, &answer.ciphertext);
    out
}

impl Content {
    fn encode(&self) -> Vec<u8> {
        let tree = self.tree.carried();
        let mut out = Vec::with_capacity(self.group_info.len() + tree.len() + 256);
        put_vector(&mut out, &self.group_info);
        out.push(self.tree.kind().number());
        put_vector(&mut out, tree);
        let mut pending = Vec::new();
        for (proposal, accepted) in &self.pending {
            put_vector(&mut pending, proposal);
            pending.extend(accepted.0.to_be_bytes());
        }
        put_vector(&mut out, &pending);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let group_info = reader.vector("GroupInfo", GROUP_INFO_BYTES_MAX)?;
        let container = reader.u8()?;
        let tree = Bytes::copy_from_slice(reader.vector("ratchet tree", TREE_BYTES_MAX)?);
        let tree = TreeContainer::of(container, tree);
        let tree = tree.ok_or_else(|| reader.bad_value("container"))?;
        let list = reader.inner("pending Proposals", CONTROL_EVENT_BYTES_MAX)?;
        let pending = list.each(
            "pending Proposals",
            PROPOSALS_PENDING_PER_ROOM_MAX,
            |list| {
                let proposal = list.vector("Proposal", PROPOSAL_BYTES_MAX)?;
                Ok((Bytes::copy_from_slice(proposal), Millis(list.u64()?)))
            },
        )?;
        reader.finish()?;
        Ok(Self {
            group_info: Bytes::copy_from_slice(group_info),
            tree,
            pending,
        })
    }
}

fn put_room(out: &mut Vec<u8>, room: &RoomUri) {
    put_vector(out, room.to_string().as_bytes());
}

fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    out.push(u8::from(bytes.is_some()));
    if let Some(bytes) = bytes {
        put_vector(out, bytes);
    }
}
