//! Objects of MLS that no library would make, rightly signed: the test has the keys of its members.

use super::*;
use mimi_actors::mls::reader::Reader;
use mimi_node::client::member::Ticket;
use openmls_basic_credential::SignatureKeyPair;
use openmls_traits::signatures::Signer as _;
use std::path::Path;

/// Sender types of RFC 9420, section 6, before what names the sender.
pub(super) const MEMBER: u8 = 1;
pub(super) const EXTERNAL: u8 = 2;
pub(super) const NEW_MEMBER_PROPOSAL: u8 = 3;
/// Content types of RFC 9420, section 6.
pub(super) const PROPOSAL: u8 = 2;
pub(super) const COMMIT: u8 = 3;
/// Longest part that the forger looks into, in bytes.
const PART_BYTES_MAX: usize = 1 << 20;

/// A vector as RFC 9420 writes it.
pub(super) fn vector(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    let mut out = match length {
        0..0x40 => vec![u8::try_from(length).unwrap()],
        0x40..0x4000 => (0x4000 | u16::try_from(length).unwrap())
            .to_be_bytes()
            .to_vec(),
        _ => (0x8000_0000 | length).to_be_bytes().to_vec(),
    };
    out.extend_from_slice(bytes);
    out
}

/// The MLS signature key that a member keeps in its state file.
pub(super) fn signer_of(net: &Net, member: &Member) -> SignatureKeyPair {
    let client = member.client().to_string();
    let (_, names) = client.split_once("/d/").unwrap();
    let state = net.path(&format!("{A}-{}.state", names.replace('/', "-")));
    let public = member
        .prepare_asking(&room("den", A), &Ticket::default())
        .unwrap()
        .request
        .signature_key;
    keys_in(&state)
        .into_iter()
        .find(|pair| *pair.public() == public[..])
        .expect("the state file holds the key")
}

/// The signature keys in a state file, which holds them as OpenMLS writes them: as JSON.
pub(super) fn keys_in(state: &Path) -> Vec<SignatureKeyPair> {
    let bytes = std::fs::read(state).unwrap();
    let begins = b"{\"private\":[";
    let places = bytes.windows(begins.len()).enumerate();
    let places = places.filter(|(_, window)| window == begins);
    places
        .filter_map(|(place, _)| {
            let values = serde_json::Deserializer::from_slice(&bytes[place..]);
            values.into_iter().next()?.ok()
        })
        .collect()
}

pub(super) fn sign(signer: &SignatureKeyPair, label: &str, content: &[u8]) -> Vec<u8> {
    let label = vector(format!("MLS 1.0 {label}").as_bytes());
    let input = [label, vector(content)].concat();
    vector(&signer.sign(&input).unwrap())
}

/// The parts of a GroupInfo, to be changed and signed anew.
#[derive(Clone)]
pub(super) struct Info {
    pub(super) context: Vec<u8>,
    pub(super) extensions: Vec<u8>,
    pub(super) tag: Vec<u8>,
    pub(super) signer: u32,
}

impl Info {
    pub(super) fn read(message: &[u8]) -> Self {
        let body = &message[4..];
        let mut reader = Reader::new(body);
        reader.take(4).unwrap();
        let skip = |reader: &mut Reader<'_>| {
            reader.vector("part", PART_BYTES_MAX).unwrap();
        };
        skip(&mut reader);
        reader.u64().unwrap();
        for _ in ["tree hash", "transcript hash", "extensions"] {
            skip(&mut reader);
        }
        let context = body[..reader.at()].to_vec();
        let extensions = reader.vector("extensions", PART_BYTES_MAX).unwrap();
        Self {
            context,
            extensions: extensions.to_vec(),
            tag: reader.vector("tag", PART_BYTES_MAX).unwrap().to_vec(),
            signer: reader.u32().unwrap(),
        }
    }

    pub(super) fn signed(&self, signer: &SignatureKeyPair) -> Payload {
        let content = [
            self.context.clone(),
            vector(&self.extensions),
            vector(&self.tag),
            self.signer.to_be_bytes().to_vec(),
        ]
        .concat();
        let signature = sign(signer, "GroupInfoTBS", &content);
        [&[0, 1, 0, 4][..], &content, &signature].concat().into()
    }

    /// Where the group id, the epoch, the tree hash, the transcript hash and the list of extensions begin.
    pub(super) fn places(&self) -> [usize; 5] {
        let mut reader = Reader::new(&self.context);
        reader.take(4).unwrap();
        let group_id = reader.at() + 1;
        reader.vector("group id", PART_BYTES_MAX).unwrap();
        let epoch = reader.at();
        reader.u64().unwrap();
        let tree = reader.at() + 1;
        reader.vector("tree hash", PART_BYTES_MAX).unwrap();
        let transcript = reader.at() + 1;
        reader.vector("transcript", PART_BYTES_MAX).unwrap();
        [group_id, epoch, tree, transcript, reader.at()]
    }
}

/// A member of a room whose MLS signature key the test has.
pub(super) struct Forger {
    pub(super) room: RoomUri,
    pub(super) signer: SignatureKeyPair,
    /// The GroupContext of the current epoch.
    pub(super) context: Vec<u8>,
    /// What it would rightly send.
    pub(super) right: PreparedCommit,
}

impl Forger {
    /// A PublicMessage of this sender, rightly signed, with this content.
    pub(super) fn framed(&self, sender: &[u8], kind: u8, content: &[u8]) -> Payload {
        self.framed_with(&[sender, &[0]].concat(), kind, content)
    }

    /// As [`Self::framed`]; authenticated data come behind the sender.
    pub(super) fn framed_with(&self, sender: &[u8], kind: u8, content: &[u8]) -> Payload {
        let mut reader = Reader::new(&self.context);
        reader.take(4).unwrap();
        reader.vector("group id", PART_BYTES_MAX).unwrap();
        reader.u64().unwrap();
        let group_and_epoch = &self.context[4..reader.at()];
        let mut message = [&[0, 1, 0, 1][..], group_and_epoch, sender, &[kind]].concat();
        message.extend_from_slice(content);
        let in_group: &[u8] = match sender[0] {
            MEMBER => &self.context,
            _ => &[],
        };
        let to_sign = [&message[..], in_group].concat();
        message.extend(sign(&self.signer, "FramedContentTBS", &to_sign));
        if kind == COMMIT {
            message.extend(vector(&[0; 32]));
        }
        if sender[0] == MEMBER {
            message.extend(vector(&[0; 32]));
        }
        message.into()
    }

    /// A Commit of a leaf, without a path, with these entries of its list.
    pub(super) fn commit(&self, leaf: u32, entries: &[Vec<u8>]) -> Payload {
        let content = [vector(&entries.concat()), vec![0]].concat();
        self.framed(&member(leaf), COMMIT, &content)
    }

    pub(super) fn bundle(&self, change: impl FnOnce(&mut PreparedCommit)) -> Vec<u8> {
        let mut bundle = self.right.clone();
        change(&mut bundle);
        ask(Request::Commit(bundle.frame()))
    }

    /// A bundle of the member at leaf 0 with these entries of its list.
    pub(super) fn list(&self, entries: &[Vec<u8>]) -> Vec<u8> {
        let commit = self.commit(0, entries);
        self.bundle(|bundle| bundle.commit = commit)
    }

    /// The right bundle, but for its GroupInfo.
    pub(super) fn info(&self, change: impl FnOnce(&mut Info)) -> Vec<u8> {
        let mut info = Info::read(&self.right.group_info);
        change(&mut info);
        let group_info = info.signed(&self.signer);
        self.bundle(|bundle| bundle.group_info = group_info)
    }

    pub(super) fn propose(&self, proposals: Vec<Payload>) -> Vec<u8> {
        ask(Request::Propose(Propose {
            room: self.room.clone(),
            proposals: BVec::truncated(proposals),
        }))
    }
}

pub(super) fn member(leaf: u32) -> Vec<u8> {
    [&[MEMBER][..], &leaf.to_be_bytes()].concat()
}

/// A Proposal inside a Commit.
pub(super) fn value(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[1, 0, kind], content].concat()
}

pub(super) fn remove(leaf: u32) -> Vec<u8> {
    value(3, &leaf.to_be_bytes())
}

pub(super) fn reference(of: &[u8]) -> Vec<u8> {
    [vec![2], vector(of)].concat()
}

pub(super) fn reinit(group_id: &[u8], version: u8) -> Vec<u8> {
    let content = [&vector(group_id)[..], &[0, version, 0, 1, 0]].concat();
    value(5, &content)
}

/// Where the epoch stands in a message of a group: behind its kind and the group id, as in the GroupContext.
pub(super) fn epoch_place(context: &[u8]) -> usize {
    let mut reader = Reader::new(context);
    reader.take(4).unwrap();
    reader.vector("group id", PART_BYTES_MAX).unwrap();
    reader.at()
}
