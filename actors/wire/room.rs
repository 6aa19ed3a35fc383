//! What a room is asked. Clients, other providers and the nodes of this one send the same request, and the room's desk takes it
//! as it is; who makes it is authenticated where it comes in and travels beside it, never inside.
//!
//! Source: transport requirements, sections 3.2, 3.3 and 7.3.

use super::{
    BVec, Payload,
    joining::{CodesAsk, GroupInfoRequest},
    tree::TreeContainer,
};
use crate::limits::PROPOSALS_PER_BUNDLE_MAX;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Proposals that are taken together or not at all, each a PublicMessage.
pub type Proposals = BVec<Payload, PROPOSALS_PER_BUNDLE_MAX>;

/// A request to a room at its hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Make the room out of an epoch-0 group; from a client of the hub's provider only.
    Create(Beginning),
    /// Open the next epoch.
    Commit(Bundle),
    /// Let Proposals wait.
    Propose(Proposals),
    /// Give out what an external Commit is built on; the joiner in it is who makes the request.
    GroupInfo(Arc<GroupInfoRequest>),
    /// Make, list or end joining codes.
    Codes(CodesAsk),
}

/// What a room begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    /// GroupInfo of epoch 0, with external_pub, without the tree, external_senders holding the hub's key.
    pub group_info: Payload,
    /// Ratchet tree of epoch 0, full or zstd.
    pub tree: TreeContainer,
}

/// What a committer sends: everything that becomes current, or nothing of it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The Commit, a PublicMessage as an MLSMessage.
    pub commit: Payload,
    /// The Welcome as an MLSMessage; there if the Commit adds somebody, and only then.
    pub welcome: Option<Payload>,
    /// The GroupInfo of the next epoch as an MLSMessage, with external_pub, without the tree.
    pub group_info: Payload,
    /// The ratchet tree of the next epoch, in any container.
    pub tree: TreeContainer,
}

impl Request {
    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Create(Beginning { group_info, tree }) => group_info.len() + tree.carried().len(),
            Self::Commit(bundle) => {
                let welcome = bundle.welcome.as_deref().map_or(0, Bytes::len);
                let tree = bundle.tree.carried().len();
                bundle.commit.len() + welcome + bundle.group_info.len() + tree
            }
            Self::Propose(messages) => messages.bytes(),
            Self::GroupInfo(request) => request.bytes(),
            Self::Codes(_) => 0,
        }
    }

    /// The same request, which waits for its turn no longer than this: whoever asked is answered in time.
    #[must_use]
    pub fn waiting_at_most(mut self, wait_ms_max: u32) -> Self {
        if let Self::GroupInfo(request) = &mut self
            && request.wait_ms > wait_ms_max
        {
            // How long it waits is not under its signature.
            Arc::make_mut(request).wait_ms = wait_ms_max;
        }
        self
    }
}
