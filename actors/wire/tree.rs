//! The ratchet tree container: the ways in which the tree of an epoch travels.
//!
//! Source: transport requirements, section 3.2.

use super::{BText, Payload};
use crate::limits::URI_BYTES_MAX;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A ratchet tree, or how to come by it.
///
/// For the hub it is a claim: whatever the container, the hub computes the tree itself from the Commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TreeContainer {
    /// The tree: `optional<Node> ratchet_tree<V>` of RFC 9420.
    Full(Payload),
    /// The same, as one zstd frame that declares its size.
    Zstd(Payload),
    /// What changed since the epoch before, see [`crate::mls::tree::delta`].
    Delta(Payload),
    /// No tree: the hub computes it.
    DistributionService,
    /// No tree: it is at this `https` URI, whose host the hub must know. The hub computes it and fetches nothing.
    Reference(BText<URI_BYTES_MAX>),
}

/// The kinds of [`TreeContainer`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum TreeKind {
    /// [`TreeContainer::Full`].
    #[default]
    Full,
    /// [`TreeContainer::Zstd`].
    Zstd,
    /// [`TreeContainer::Delta`].
    Delta,
    /// [`TreeContainer::DistributionService`].
    DistributionService,
    /// [`TreeContainer::Reference`].
    Reference,
}

impl TreeKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Full,
        Self::Zstd,
        Self::Delta,
        Self::DistributionService,
        Self::Reference,
    ];

    /// Its number, as it is signed and sealed in the GroupInfo exchange.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Full => 0,
            Self::Zstd => 1,
            Self::Delta => 2,
            Self::DistributionService => 3,
            Self::Reference => 4,
        }
    }

    /// Its name, as people write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Zstd => "zstd",
            Self::Delta => "delta",
            Self::DistributionService => "distributionService",
            Self::Reference => "reference",
        }
    }
}

impl TreeContainer {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> TreeKind {
        match self {
            Self::Full(_) => TreeKind::Full,
            Self::Zstd(_) => TreeKind::Zstd,
            Self::Delta(_) => TreeKind::Delta,
            Self::DistributionService => TreeKind::DistributionService,
            Self::Reference(_) => TreeKind::Reference,
        }
    }

    /// The container of this number that carries these bytes, if there is one.
    #[must_use]
    pub fn of(number: u8, carried: Bytes) -> Option<Self> {
        match number {
            0 => Some(Self::Full(Payload(carried))),
            1 => Some(Self::Zstd(Payload(carried))),
            2 => Some(Self::Delta(Payload(carried))),
            3 if carried.is_empty() => Some(Self::DistributionService),
            4 => BText::exact(std::str::from_utf8(&carried).ok()?).map(Self::Reference),
            _ => None,
        }
    }

    /// Where the tree lies, for [`Self::Reference`].
    #[must_use]
    pub const fn place(&self) -> Option<&BText<URI_BYTES_MAX>> {
        match self {
            Self::Reference(place) => Some(place),
            Self::Full(_) | Self::Zstd(_) | Self::Delta(_) | Self::DistributionService => None,
        }
    }

    /// What it carries.
    #[must_use]
    pub fn carried(&self) -> &[u8] {
        match self {
            Self::Full(bytes) | Self::Zstd(bytes) | Self::Delta(bytes) => bytes,
            Self::DistributionService => &[],
            Self::Reference(uri) => uri.as_bytes(),
        }
    }
}

/// A whole tree, as it is.
impl From<Payload> for TreeContainer {
    fn from(tree: Payload) -> Self {
        Self::Full(tree)
    }
}

impl From<Bytes> for TreeContainer {
    fn from(tree: Bytes) -> Self {
        Self::Full(Payload(tree))
    }
}

impl From<Vec<u8>> for TreeContainer {
    fn from(tree: Vec<u8>) -> Self {
        Self::Full(tree.into())
    }
}
