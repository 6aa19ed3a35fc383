//! Trees of the model, in the bytes of RFC 9420 as far as the containers read them.

use super::{Leaf, Tree};
use crate::{
    limits::URI_BYTES_MAX,
    mls::{
        check::bundle::{BundleRefused, TreeRefused},
        codec::reader::Reader,
        tree::{
            container::{self, Before},
            delta,
            view::{GroupView, NextTree, NextView},
        },
    },
    wire::tree::TreeContainer,
};
use bytes::Bytes;

/// A tree as RFC 9420 writes it, with leaves that carry what the model knows and parents that are blank.
pub(super) fn encode_tree(tree: &Tree) -> Bytes {
    let mut nodes = Vec::new();
    for (number, leaf) in tree.iter().enumerate() {
        if number > 0 {
            nodes.push(0);
        }
        let Some(leaf) = leaf else {
            nodes.push(0);
            continue;
        };
        nodes.extend([1, 1]);
        put_vector(&mut nodes, &leaf.key.to_be_bytes());
        put_vector(&mut nodes, &[]);
        nodes.extend([0, 1]);
        put_vector(&mut nodes, leaf.client.to_string().as_bytes());
        // No capabilities, out of an Update, no extensions, no signature.
        nodes.extend([0, 0, 0, 0, 0, 2, 0, 0]);
    }
    let mut out = Vec::new();
    put_vector(&mut out, &nodes);
    out.into()
}

pub(super) fn decode_tree(bytes: &[u8]) -> Option<Tree> {
    let nodes = delta::nodes(bytes).ok()?;
    let leaves = nodes.into_iter().step_by(2);
    leaves
        .map(|node| match node {
            [0] => Some(None),
            node => read_leaf(node).map(Some),
        })
        .collect()
}

fn read_leaf(node: &[u8]) -> Option<Leaf> {
    let mut reader = Reader::new(node);
    reader.take(2).ok()?;
    let key = reader.vector("key", 8).ok()?.try_into().ok()?;
    reader.vector("signature key", 0).ok()?;
    reader.take(2).ok()?;
    let client = reader.vector("client", URI_BYTES_MAX).ok()?;
    Some(Leaf {
        client: std::str::from_utf8(client).ok()?.parse().ok()?,
        key: u64::from_be_bytes(key),
    })
}

pub(super) fn put_vector(out: &mut Vec<u8>, bytes: &[u8]) {
    // RFC 9420, section 2.1.2: two bytes are enough for everything that the model makes.
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX >> 2);
    if let Ok(short) = u8::try_from(length)
        && short < 64
    {
        out.push(short);
    } else {
        out.extend((length | 0x4000).to_be_bytes());
    }
    out.extend_from_slice(bytes);
}

/// The tree that was sent is the one that the Commit makes.
pub(super) fn check_tree(
    view: &GroupView,
    sent: &TreeContainer,
    made: &Bytes,
) -> Result<(), BundleRefused> {
    let before = Before::of(view).map_err(|_| TreeRefused::Mismatch("model"))?;
    match container::open(sent, Some(&before))? {
        Some(tree) if tree != *made => Err(TreeRefused::Mismatch("model").into()),
        Some(_) | None => Ok(()),
    }
}

/// What lies in the log: what changed of the tree, unless somebody is welcomed.
pub(super) fn next_view(
    view: &GroupView,
    next: GroupView,
    welcomed: bool,
) -> Result<NextView, BundleRefused> {
    if welcomed {
        return Ok(next.into());
    }
    let before = Before::of(view).map_err(|_| TreeRefused::Mismatch("model"))?;
    let delta = delta::between(&before.base(), &before.tree, &next.tree)
        .map_err(|_| TreeRefused::Mismatch("model"))?;
    let tree = NextTree::Delta(delta.into());
    Ok(NextView {
        tree,
        ..next.into()
    })
}
