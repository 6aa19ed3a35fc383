//! Ratchet trees in and out of their containers.
//!
//! A zstd tree is exactly one frame, without a dictionary, that declares its size; size and ratio are checked before
//! memory is taken. A reference is never fetched: the hub computes the tree as if nothing had been sent.
//!
//! Source: transport requirements, section 3.2.

use super::{
    delta::{self, Base, DeltaRefused},
    view::GroupView,
};
use crate::{
    limits::{TREE_BYTES_MAX, ZSTD_RATIO_MAX},
    mls::codec::{
        group_info::GroupInfo,
        reader::{Malformed, Unreadable},
    },
    wire::{
        BText, Payload,
        tree::{TreeContainer, TreeKind},
    },
};
use bytes::Bytes;
use zstd::zstd_safe;

/// The four bytes at the front of a zstd frame; a frame to be skipped has others.
const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// How hard trees are compressed: most of them is keys, on which more work is wasted.
const ZSTD_LEVEL: i32 = 3;

/// Why a container is refused, whatever the tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerRefused {
    /// A new group has no epoch before it, and the hub computes no first tree.
    #[error("a new group comes with its tree, not as {}", .0.name())]
    NotForNewGroups(TreeKind),
    /// The tree is larger than a tree may be.
    #[error("the tree has {bytes} bytes, the limit is {max}")]
    TooLarge {
        /// Its size, in bytes.
        bytes: u64,
        /// Largest accepted.
        max: usize,
    },
    /// It is not the one zstd frame that it should be.
    #[error("compressed tree: {0}")]
    Zstd(&'static str),
    /// It is not a delta that fits.
    #[error(transparent)]
    Delta(#[from] DeltaRefused),
    /// It refers to a host that this hub does not know.
    #[error("the tree is at a host that this hub does not know")]
    Host,
}

/// The tree of a zstd frame.
///
/// # Errors
/// [`ContainerRefused`]; nothing is taken from the heap for a frame that declares too much.
pub fn decompress(frame: &[u8]) -> Result<Bytes, ContainerRefused> {
    let refused = ContainerRefused::Zstd;
    if !frame.starts_with(&ZSTD_MAGIC) {
        return Err(refused("not a zstd frame"));
    }
    let declared = zstd_safe::get_frame_content_size(frame)
        .map_err(|_| refused("the header of the frame does not read"))?
        .ok_or(refused("the frame does not declare its size"))?;
    if declared > TREE_BYTES_MAX as u64 {
        let max = TREE_BYTES_MAX;
        return Err(ContainerRefused::TooLarge {
            bytes: declared,
            max,
        });
    }
    let bytes = usize::try_from(declared).unwrap_or(TREE_BYTES_MAX);
    if bytes > frame.len().saturating_mul(ZSTD_RATIO_MAX) {
        return Err(refused("the frame declares too much for its length"));
    }
    if zstd_safe::get_dict_id_from_frame(frame).is_some() {
        return Err(refused("the frame needs a dictionary"));
    }
    match zstd_safe::find_frame_compressed_size(frame) {
        Ok(length) if length == frame.len() => {}
        Ok(_) => return Err(refused("bytes follow the frame")),
        Err(_) => return Err(refused("the frame is cut or broken")),
    }
    let tree = zstd::bulk::decompress(frame, bytes).map_err(|_| refused("the frame is broken"))?;
    if tree.len() != bytes {
        return Err(refused("the frame holds less than it declares"));
    }
    Ok(tree.into())
}

/// A tree as one zstd frame.
#[must_use]
pub fn compress(tree: &[u8]) -> Vec<u8> {
    // Compression into memory has no way to fail; a tree that is not compressed would be refused by whoever reads it.
    zstd::bulk::compress(tree, ZSTD_LEVEL).unwrap_or_default()
}

/// The tree of a new group.
///
/// # Errors
/// [`ContainerRefused::NotForNewGroups`] for a container that holds no whole tree.
pub(crate) fn founding(container: &TreeContainer) -> Result<Bytes, ContainerRefused> {
    match container {
        TreeContainer::Full(tree) => Ok(tree.0.clone()),
        TreeContainer::Zstd(frame) => decompress(frame),
        TreeContainer::Delta(_)
        | TreeContainer::DistributionService
        | TreeContainer::Reference(_) => Err(ContainerRefused::NotForNewGroups(container.kind())),
    }
}

/// The host of a reference, if it is an `https` URI with nothing but a host, a port perhaps, and a path.
fn host_of(uri: &str) -> Option<&str> {
    let rest = uri.strip_prefix("https://")?;
    let (authority, _) = rest.split_once('/')?;
    let host = match authority.split_once(':') {
        Some((host, port)) => {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            digits.then_some(host)?
        }
        None => authority,
    };
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let plain = uri.bytes().all(|byte| byte.is_ascii_graphic());
    (plain && !host.is_empty() && host.bytes().all(named)).then_some(host)
}

/// Whether a reference leads to a host that is known.
///
/// # Errors
/// [`ContainerRefused::Host`] when it does not, or is no `https` URI.
pub(crate) fn check_reference(uri: &str, hosts: &[String]) -> Result<(), ContainerRefused> {
    let known = |host: &str| hosts.iter().any(|known| known.eq_ignore_ascii_case(host));
    if host_of(uri).is_some_and(known) {
        Ok(())
    } else {
        Err(ContainerRefused::Host)
    }
}

/// Why a tree is not given in the container that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotServed {
    /// The tree of the epoch before, or its hash, is not known here any more.
    #[error("the tree of the epoch before is not known any more")]
    NoBase,
    /// The provider keeps no trees elsewhere.
    #[error("this hub refers to no other place")]
    NoReference,
    /// The tree does not read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// What a delta starts from, with its tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// The epoch.
    pub epoch: u64,
    /// The tree hash of that epoch.
    pub tree_hash: Bytes,
    /// The tree.
    pub tree: Bytes,
}

impl Before {
    /// The tree of a group in one epoch, for deltas to the next.
    ///
    /// # Errors
    /// [`Unreadable`] when the view did not come out of a check.
    pub fn of(view: &GroupView) -> Result<Self, Unreadable> {
        let context = view.context()?;
        Ok(Self {
            epoch: context.epoch,
            tree_hash: Bytes::copy_from_slice(context.tree_hash),
            tree: view.tree.clone(),
        })
    }

    /// The tree of the epoch that a GroupInfo, an MLSMessage, is of.
    ///
    /// # Errors
    /// [`Unreadable`] when it is none.
    pub fn of_group_info(group_info: &[u8], tree: Bytes) -> Result<Self, Unreadable> {
        let info = GroupInfo::read(group_info)?;
        Ok(Self {
            epoch: info.context.epoch,
            tree_hash: Bytes::copy_from_slice(info.context.tree_hash),
            tree,
        })
    }

    /// The same without the tree.
    #[must_use]
    pub fn base(&self) -> Base<'_> {
        Base {
            epoch: self.epoch,
            tree_hash: &self.tree_hash,
        }
    }
}

/// A whole tree in a container of the kind that somebody asked for.
///
/// `before` is the epoch before, if it is known: a delta starts from there. `place` is where the tree lies besides, if
/// it does.
///
/// # Errors
/// [`NotServed`]: then [`TreeKind::Full`] is what always works.
pub fn pack(
    tree: &Bytes,
    kind: TreeKind,
    before: Option<&Before>,
    place: Option<&str>,
) -> Result<TreeContainer, NotServed> {
    match kind {
        TreeKind::Full => Ok(TreeContainer::Full(Payload(tree.clone()))),
        TreeKind::Zstd => Ok(TreeContainer::Zstd(compress(tree).into())),
        TreeKind::DistributionService => Ok(TreeContainer::DistributionService),
        TreeKind::Reference => {
            let place = place.and_then(BText::exact);
            let place = place.ok_or(NotServed::NoReference)?;
            Ok(TreeContainer::Reference(place))
        }
        TreeKind::Delta => {
            let before = before.ok_or(NotServed::NoBase)?;
            let delta = delta::between(&before.base(), &before.tree, tree)?;
            Ok(TreeContainer::Delta(delta.into()))
        }
    }
}

/// The whole tree of a container, for whoever holds the tree of the epoch `before`.
///
/// Gives `None` for containers without a tree, and for a delta without what it starts from. The caller compares the tree hash.
///
/// # Errors
/// [`ContainerRefused`] when the container is broken or does not fit.
pub fn open(
    container: &TreeContainer,
    before: Option<&Before>,
) -> Result<Option<Bytes>, ContainerRefused> {
    match (container, before) {
        (TreeContainer::Full(tree), _) => Ok(Some(tree.0.clone())),
        (TreeContainer::Zstd(frame), _) => decompress(frame).map(Some),
        (TreeContainer::Delta(delta), Some(before)) => {
            let tree = delta::apply(&before.base(), &before.tree, delta)?;
            Ok(Some(tree.into()))
        }
        (
            TreeContainer::Delta(_)
            | TreeContainer::DistributionService
            | TreeContainer::Reference(_),
            _,
        ) => Ok(None),
    }
}
