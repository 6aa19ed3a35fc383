//! Objects of MLS that no library would make, rightly signed: the test has the keys of its members.

use super::*;
use crate::support::forger::PART_BYTES_MAX;
pub(super) use crate::support::forger::{Info, sign, signer_of, vector};
use mimi_actors::mls::codec::reader::Reader;
use openmls_basic_credential::SignatureKeyPair;

/// Sender types of RFC 9420, section 6, before what names the sender.
pub(super) const MEMBER: u8 = 1;
pub(super) const EXTERNAL: u8 = 2;
pub(super) const NEW_MEMBER_PROPOSAL: u8 = 3;
/// Content types of RFC 9420, section 6.
pub(super) const PROPOSAL: u8 = 2;
pub(super) const COMMIT: u8 = 3;

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
        commit_of(&bundle)
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
        propose_in(self.room.clone(), proposals)
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
