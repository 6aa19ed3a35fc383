//! The tree of an epoch as what changed since the epoch before.
//!
//! # Format
//!
//! In the presentation language of RFC 9420, numbers big-endian, `<V>` with a length in its shortest form:
//!
//! ```text
//! struct {
//!     uint8        version = 1;
//!     uint64       base_epoch;          // the epoch that the delta starts from
//!     opaque       base_tree_hash<V>;   // tree hash of that epoch, as in its GroupContext
//!     uint32       nodes;               // number of nodes of the new tree
//!     ChangedNode  changed<V>;
//! } TreeDelta;
//!
//! struct {
//!     uint32          index;            // place of the node, leaves at even places, as in the ratchet_tree extension
//!     optional<Node>  node;             // what stands there now; absent for a blank
//! } ChangedNode;
//! ```
//!
//! The trees are vectors `optional<Node> ratchet_tree<V>`, which end with a node that is not blank, and `nodes` is the
//! length of the new one. A place behind the end of the old tree counts as blank in it: growth lists the new nodes that
//! are not blank. A place behind the end of the new tree is gone: truncation lists nothing. `changed` is in ascending
//! order of `index`, holds no place twice, none from `nodes` on, and none whose node is the same in the old tree, byte for
//! byte. So two trees have exactly one delta.
//!
//! Whoever applies a delta compares base epoch and base tree hash with those of its own tree first, and the tree hash of
//! the result with the one of a GroupContext that it trusts last.
//!
//! Source: transport requirements, section 3.2.

use crate::{
    limits::{TREE_BYTES_MAX, TREE_NODES_MAX},
    mls::codec::{
        bounds::KEY_BYTES_MAX,
        context::Context,
        reader::{Malformed, Reader, Unreadable, put_vector},
    },
};

/// The version of the format.
const VERSION: u8 = 1;

/// What a delta starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base<'a> {
    /// The epoch.
    pub epoch: u64,
    /// The tree hash of that epoch.
    pub tree_hash: &'a [u8],
}

impl<'a> Context<'a> {
    /// What a delta to the next epoch starts from.
    pub(crate) const fn base(&self) -> Base<'a> {
        Base {
            epoch: self.epoch,
            tree_hash: self.tree_hash,
        }
    }
}

/// Why a delta is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeltaRefused {
    /// It is not a well-formed delta.
    #[error("malformed delta: {0}")]
    Malformed(#[from] Malformed),
    /// The tree it is applied to does not read.
    #[error("the base does not read: {0}")]
    BaseTree(Unreadable),
    /// It starts from another epoch.
    #[error("the delta starts from epoch {0}")]
    BaseEpoch(u64),
    /// It starts from another tree.
    #[error("the delta starts from a tree with another hash")]
    BaseHash,
    /// The new tree would have an impossible number of nodes.
    #[error("a tree cannot have {0} nodes")]
    Nodes(u32),
    /// A node behind the end of the new tree is listed.
    #[error("node {0} is behind the end of the new tree")]
    OutOfRange(u32),
    /// The nodes are not in ascending order, or one is listed twice.
    #[error("node {0} is listed twice or too late")]
    Order(u32),
    /// A node that did not change is listed.
    #[error("node {0} is listed but did not change")]
    Unchanged(u32),
    /// A leaf stands in the place of a parent, or the other way round.
    #[error("node {0} is of the wrong type")]
    Type(u32),
    /// The new tree would end with a blank.
    #[error("the new tree ends with a blank")]
    BlankEnd,
    /// The new tree would be too large.
    #[error("the new tree has more than {max} bytes")]
    TooLarge {
        /// Largest tree, in bytes.
        max: usize,
    },
}

/// A delta, read and in order, not compared with any tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta<'a> {
    /// What it starts from.
    pub base: Base<'a>,
    /// Number of nodes of the new tree.
    pub nodes: u32,
    /// Places and what stands there now, as `optional<Node>`.
    changed: Vec<(u32, &'a [u8])>,
}

impl<'a> Delta<'a> {
    /// Reads a delta to its end.
    ///
    /// # Errors
    /// [`DeltaRefused`] for whatever is wrong with it whatever the tree.
    pub fn read(bytes: &'a [u8]) -> Result<Self, DeltaRefused> {
        let mut reader = Reader::bounded(bytes, "tree delta", TREE_BYTES_MAX)?;
        if reader.u8()? != VERSION {
            return Err(reader.bad_value("version").into());
        }
        let epoch = reader.u64()?;
        let tree_hash = reader.vector("base tree hash", KEY_BYTES_MAX)?;
        let nodes = reader.u32()?;
        if nodes & 1 == 0 || nodes as usize > TREE_NODES_MAX {
            return Err(DeltaRefused::Nodes(nodes));
        }
        let list = reader.inner("changed nodes", TREE_BYTES_MAX)?;
        reader.finish()?;
        let mut next = 0;
        let changed = list.each("changed nodes", TREE_NODES_MAX, |list| {
            let index = list.u32()?;
            if index >= nodes {
                return Err(DeltaRefused::OutOfRange(index));
            }
            if index < next {
                return Err(DeltaRefused::Order(index));
            }
            next = index + 1;
            let node = optional_node(list)?;
            let kind = if index & 1 == 0 { LEAF } else { PARENT };
            match node {
                [1, found, ..] if *found != kind => Err(DeltaRefused::Type(index)),
                _ => Ok((index, node)),
            }
        })?;
        let base = Base { epoch, tree_hash };
        Ok(Self {
            base,
            nodes,
            changed,
        })
    }

    /// How many nodes it lists.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changed.len()
    }

    /// Whether it lists none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }
}

/// The one delta that leads from the tree `old` to the tree `new`.
///
/// # Errors
/// [`Malformed`] when one of them is no ratchet tree.
pub fn between(base: &Base<'_>, old: &[u8], new: &[u8]) -> Result<Vec<u8>, Malformed> {
    let (old, new) = (nodes(old)?, nodes(new)?);
    let mut writer = Writer::new(base, new.len());
    for (index, node) in new.iter().enumerate() {
        if old.get(index).copied().unwrap_or(BLANK) != *node {
            writer.put(index, node);
        }
    }
    Ok(writer.finish())
}

/// The tree that a delta makes of `old`, which is the tree of `base`.
///
/// # Errors
/// [`DeltaRefused`] says which rule the delta breaks.
pub fn apply(base: &Base<'_>, old: &[u8], delta: &[u8]) -> Result<Vec<u8>, DeltaRefused> {
    let delta = Delta::read(delta)?;
    if delta.base.epoch != base.epoch {
        return Err(DeltaRefused::BaseEpoch(delta.base.epoch));
    }
    if delta.base.tree_hash != base.tree_hash {
        return Err(DeltaRefused::BaseHash);
    }
    let old_nodes = nodes(old).map_err(|cause| DeltaRefused::BaseTree(cause.into()))?;
    let mut body = Vec::with_capacity(old.len() + 4 * delta.nodes as usize);
    let mut changed = delta.changed.iter().peekable();
    let mut last = BLANK;
    for (index, place) in (0..delta.nodes).zip(0_usize..) {
        let before = old_nodes.get(place).copied().unwrap_or(BLANK);
        let node = match changed.next_if(|(at, _)| *at == index) {
            Some((_, after)) if *after == before => return Err(DeltaRefused::Unchanged(index)),
            Some((_, after)) => after,
            None => before,
        };
        body.extend_from_slice(node);
        last = node;
    }
    if last == BLANK {
        return Err(DeltaRefused::BlankEnd);
    }
    let mut tree = Vec::with_capacity(body.len() + 4);
    put_vector(&mut tree, &body);
    if tree.len() > TREE_BYTES_MAX {
        let max = TREE_BYTES_MAX;
        return Err(DeltaRefused::TooLarge { max });
    }
    Ok(tree)
}

/// Writes a delta; nodes come in ascending order.
pub(crate) struct Writer {
    front: Vec<u8>,
    changed: Vec<u8>,
}

impl Writer {
    /// Of a delta to a tree of `nodes` nodes.
    pub(crate) fn new(base: &Base<'_>, nodes: usize) -> Self {
        let mut front = vec![VERSION];
        front.extend(base.epoch.to_be_bytes());
        put_vector(&mut front, base.tree_hash);
        front.extend(number(nodes).to_be_bytes());
        Self {
            front,
            changed: Vec::new(),
        }
    }

    /// Adds an `optional<Node>`.
    pub(crate) fn put(&mut self, index: usize, node: &[u8]) {
        self.changed.extend(number(index).to_be_bytes());
        self.changed.extend_from_slice(node);
    }

    /// The delta.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = self.front;
        put_vector(&mut out, &self.changed);
        out
    }
}

fn number(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

/// The node type of a leaf, and of a parent.
const LEAF: u8 = 1;
const PARENT: u8 = 2;
/// A blank, as `optional<Node>`.
pub(crate) const BLANK: &[u8] = &[0];

/// The nodes of a ratchet tree, each as `optional<Node>`; what stands in them is not looked at.
///
/// # Errors
/// [`Malformed`] when the bytes are no ratchet tree.
pub fn nodes(tree: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut reader = Reader::bounded(tree, "ratchet tree", TREE_BYTES_MAX)?;
    let list = reader.inner("ratchet tree", TREE_BYTES_MAX)?;
    reader.finish()?;
    list.each("tree nodes", TREE_NODES_MAX, optional_node)
}

/// The next `optional<Node>`, as it is encoded.
fn optional_node<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let start = reader.clone();
    let skip = |reader: &mut Reader<'a>| reader.vector("part of a node", TREE_BYTES_MAX).map(drop);
    if reader.present()? {
        match reader.u8()? {
            LEAF => {
                skip(reader)?;
                skip(reader)?;
                // Both kinds of credentials there are hold one vector.
                reader.u16()?;
                (0..6).try_for_each(|_| skip(reader))?;
                match reader.u8()? {
                    1 => reader.take(16).map(drop)?,
                    2 => {}
                    3 => skip(reader)?,
                    _ => return Err(reader.bad_value("leaf node source")),
                }
                skip(reader)?;
                skip(reader)?;
            }
            PARENT => (0..3).try_for_each(|_| skip(reader))?,
            _ => return Err(reader.bad_value("node type")),
        }
    }
    Ok(reader.since(&start))
}
