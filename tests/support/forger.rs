//! Signed objects of MLS that no library would make: the test has the keys of its members.

use super::{Net, room};
use mimi_actors::{mls::codec::reader::Reader, wire::Payload};
use mimi_client::member::{Member, Ticket};
use openmls_basic_credential::SignatureKeyPair;
use openmls_traits::signatures::Signer as _;
use std::path::Path;

/// Longest part that is looked into, in bytes.
pub const PART_BYTES_MAX: usize = 1 << 20;

/// A vector as RFC 9420 writes it.
pub fn vector(bytes: &[u8]) -> Vec<u8> {
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
pub fn signer_of(net: &Net, member: &Member) -> SignatureKeyPair {
    let client = member.client().to_string();
    let (_, names) = client.split_once("/d/").unwrap();
    let provider = member.client().provider();
    let state = net.path(&format!("{provider}-{}.state", names.replace('/', "-")));
    let public = member
        .prepare_asking(&room("den", provider.as_str()), &Ticket::default())
        .unwrap()
        .request
        .signature_key;
    keys_in(&state)
        .into_iter()
        .find(|pair| *pair.public() == public[..])
        .expect("the state file holds the key")
}

/// The signature keys in a state file, which holds them as OpenMLS writes them: as JSON.
pub fn keys_in(state: &Path) -> Vec<SignatureKeyPair> {
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

pub fn sign(signer: &SignatureKeyPair, label: &str, content: &[u8]) -> Vec<u8> {
    let label = vector(format!("MLS 1.0 {label}").as_bytes());
    let input = [label, vector(content)].concat();
    vector(&signer.sign(&input).unwrap())
}

/// The parts of a GroupInfo, to be changed and signed anew.
#[derive(Clone, Debug)]
pub struct Info {
    pub context: Vec<u8>,
    pub extensions: Vec<u8>,
    pub tag: Vec<u8>,
    pub signer: u32,
}

impl Info {
    pub fn read(message: &[u8]) -> Self {
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

    pub fn signed(&self, signer: &SignatureKeyPair) -> Payload {
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
    pub fn places(&self) -> [usize; 5] {
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
