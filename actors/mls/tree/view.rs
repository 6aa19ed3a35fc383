//! The public state of a room's group in one epoch.
//!
//! Owns: what the hub must keep to check the next Commit, and nothing secret. A view only comes out of `check_create`
//! and `check_bundle`, so its parts agree with one another.
//!
//! Source: RFC 9420, section 8.1.

use super::{
    Tree,
    delta::{self, DeltaRefused},
    stored::StoredTree,
};
use crate::{
    ids::ClientUri,
    limits::GROUP_INFO_BYTES_MAX,
    mls::codec::{
        context::Context,
        extension::{self, APP_DATA_DICTIONARY},
        leaf::Leaf,
        reader::{Malformed, Reader, Unreadable},
    },
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The public state of a group in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// The GroupContext.
    pub group_context: Bytes,
    /// The confirmation tag of the Commit that opened the epoch, bare.
    pub confirmation_tag: Bytes,
    /// The interim transcript hash, bare.
    pub interim_transcript_hash: Bytes,
    /// The GroupInfo as an MLSMessage, exactly as the committer sent it.
    pub group_info: Bytes,
    /// The ratchet tree as in a ratchet_tree extension, exactly as the committer sent it.
    pub tree: Bytes,
}

/// The public state that a Commit leads to, as it lies in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextView {
    /// The GroupContext.
    pub group_context: Bytes,
    /// The confirmation tag, bare.
    pub confirmation_tag: Bytes,
    /// The interim transcript hash, bare.
    pub interim_transcript_hash: Bytes,
    /// The GroupInfo as an MLSMessage, exactly as the committer sent it.
    pub group_info: Bytes,
    /// The ratchet tree.
    pub tree: NextTree,
}

/// The tree that a Commit leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NextTree {
    /// All of it; always when somebody is welcomed, who needs it.
    Whole {
        /// The tree as in a ratchet_tree extension.
        tree: Bytes,
        /// What changed since the epoch before, where that is shorter.
        delta: Option<Bytes>,
    },
    /// What changed since the epoch before, see [`delta`].
    Delta(Bytes),
}

impl NextView {
    /// The state that follows on `before`, which must be the one that the Commit was checked on.
    ///
    /// # Errors
    /// [`DeltaRefused`] when it is not.
    pub fn after(&self, before: &GroupView) -> Result<GroupView, DeltaRefused> {
        let tree = match &self.tree {
            NextTree::Whole { tree, .. } => tree.clone(),
            NextTree::Delta(delta) => {
                let context = before.context().map_err(DeltaRefused::BaseTree)?;
                delta::apply(&context.base(), &before.tree, delta)?.into()
            }
        };
        Ok(GroupView {
            group_context: self.group_context.clone(),
            confirmation_tag: self.confirmation_tag.clone(),
            interim_transcript_hash: self.interim_transcript_hash.clone(),
            group_info: self.group_info.clone(),
            tree,
        })
    }

    /// The whole tree, if it is here; it is when somebody is welcomed.
    #[must_use]
    pub fn whole_tree(&self) -> Option<&Bytes> {
        match &self.tree {
            NextTree::Whole { tree, .. } => Some(tree),
            NextTree::Delta(_) => None,
        }
    }

    /// What changed in the tree since the epoch before, where that is shorter than the tree.
    #[must_use]
    pub fn delta(&self) -> Option<&Bytes> {
        match &self.tree {
            NextTree::Whole { delta, .. } => delta.as_ref(),
            NextTree::Delta(delta) => Some(delta),
        }
    }

    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let tree = match &self.tree {
            NextTree::Whole { tree, delta } => tree.len() + delta.as_ref().map_or(0, Bytes::len),
            NextTree::Delta(bytes) => bytes.len(),
        };
        self.group_context.len() + self.group_info.len() + tree + 128
    }
}

impl From<GroupView> for NextView {
    fn from(view: GroupView) -> Self {
        Self {
            group_context: view.group_context,
            confirmation_tag: view.confirmation_tag,
            interim_transcript_hash: view.interim_transcript_hash,
            group_info: view.group_info,
            tree: NextTree::Whole {
                tree: view.tree,
                delta: None,
            },
        }
    }
}

/// One client in a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Number of its leaf.
    pub leaf: u32,
    /// The client its credential names.
    pub client: ClientUri,
    /// The signature key of its leaf.
    pub signature_key: Bytes,
}

impl GroupView {
    /// About how many bytes it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.group_context.len() + self.group_info.len() + self.tree.len() + 128
    }

    /// The epoch.
    ///
    /// # Errors
    /// [`Unreadable`] when the view did not come out of this module.
    pub fn epoch(&self) -> Result<u64, Unreadable> {
        Ok(self.context()?.epoch)
    }

    /// The MLS group id.
    ///
    /// # Errors
    /// As [`GroupView::epoch`].
    pub fn group_id(&self) -> Result<Bytes, Unreadable> {
        Ok(Bytes::copy_from_slice(self.context()?.group_id))
    }

    /// The number of the ciphersuite.
    ///
    /// # Errors
    /// As [`GroupView::epoch`].
    pub fn ciphersuite(&self) -> Result<u16, Unreadable> {
        Ok(self.context()?.ciphersuite)
    }

    /// The tree hash.
    ///
    /// # Errors
    /// As [`GroupView::epoch`].
    pub fn tree_hash(&self) -> Result<Bytes, Unreadable> {
        Ok(Bytes::copy_from_slice(self.context()?.tree_hash))
    }

    /// The signature keys of those outside the group who may propose.
    ///
    /// # Errors
    /// As [`GroupView::epoch`].
    pub fn external_sender_keys(&self) -> Result<Vec<Bytes>, Unreadable> {
        let keys = extension::external_sender_keys(&self.context()?.extensions.list)?;
        Ok(keys.into_iter().map(Bytes::copy_from_slice).collect())
    }

    /// The members, by leaf.
    ///
    /// # Errors
    /// As [`GroupView::epoch`].
    pub fn members(&self) -> Result<Vec<Member>, Unreadable> {
        members_of(&Tree::of(&StoredTree::read(&self.tree)?))
    }

    pub(crate) fn context(&self) -> Result<Context<'_>, Unreadable> {
        let mut reader =
            Reader::bounded(&self.group_context, "GroupContext", GROUP_INFO_BYTES_MAX)?;
        let context = Context::read(&mut reader)?;
        reader.finish()?;
        Ok(context)
    }
}

/// The content of the `app_data_dictionary` of a GroupContext; empty where it has none, or is none.
pub(crate) fn app_data(group_context: &[u8]) -> &[u8] {
    let context = Context::read(&mut Reader::new(group_context));
    let data =
        context.map(|context| extension::find(&context.extensions.list, APP_DATA_DICTIONARY));
    data.ok().flatten().unwrap_or_default()
}

/// The members of a tree, by leaf.
pub(crate) fn members_of(tree: &Tree<'_>) -> Result<Vec<Member>, Unreadable> {
    tree.leaves()
        .map(|(number, leaf)| member_of(number, &leaf))
        .collect()
}

/// The client of a leaf.
pub(crate) fn member_of(number: u32, leaf: &Leaf<'_>) -> Result<Member, Unreadable> {
    let client = leaf.client().ok_or(Malformed::Value {
        what: "credential identity",
        at: 0,
    })?;
    Ok(Member {
        leaf: number,
        client,
        signature_key: Bytes::copy_from_slice(leaf.signature_key),
    })
}
