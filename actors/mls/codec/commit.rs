//! What stands in a Proposal and in a Commit.
//!
//! Source: RFC 9420, sections 12.1 and 12.4.

use super::{
    bounds::{EXTENSIONS_BYTES_MAX, KEY_BYTES_MAX, PATH_NODES_MAX},
    extension::{self, Extension, Place},
    key_package::KeyPackage,
    leaf::Leaf,
    reader::{Malformed, Reader, Unreadable},
    welcome::Sealed,
};
use crate::limits::{
    COMMIT_BYTES_MAX, GROUP_ID_BYTES_MAX, PROPOSALS_PER_BUNDLE_MAX, TREE_NODES_MAX,
};
use std::rc::Rc;

/// The number of the SelfRemove proposal type, the only one here that members must declare.
pub(crate) const SELF_REMOVE: u16 = 10;

/// A Proposal.
#[derive(Clone, Debug)]
pub(crate) enum Proposal<'a> {
    Add(Box<KeyPackage<'a>>),
    Update(Rc<Leaf<'a>>),
    Remove(u32),
    ReInit(ReInit<'a>),
    /// How the sender of an external Commit gets at the group's secrets; what is inside only members can open.
    ExternalInit {
        kem_output: &'a [u8],
    },
    Extensions(ContextExtensions<'a>),
    SelfRemove,
}

/// The group that is to follow this one.
#[derive(Clone, Debug)]
pub(crate) struct ReInit<'a> {
    pub(crate) group_id: &'a [u8],
    pub(crate) version: u16,
}

/// The extensions of a GroupContext.
#[derive(Clone, Debug)]
pub(crate) struct ContextExtensions<'a> {
    /// The list as encoded, with its length.
    pub(crate) encoded: &'a [u8],
    pub(crate) list: Vec<Extension<'a>>,
}

impl<'a> ContextExtensions<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Unreadable> {
        let start = reader.clone();
        let list = extension::read_list(reader, Place::GroupContext)?;
        Ok(Self {
            encoded: reader.since(&start),
            list,
        })
    }
}

impl<'a> Proposal<'a> {
    /// Reads one Proposal of a type that this hub takes.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Unreadable> {
        match reader.u16()? {
            1 => Ok(Self::Add(Box::new(KeyPackage::read(reader)?))),
            2 => Ok(Self::Update(Rc::new(Leaf::read(reader)?))),
            3 => Ok(Self::Remove(reader.u32()?)),
            4 => Err(Unreadable::Unsupported("PreSharedKey proposal")),
            5 => {
                let group_id = reader.vector("group id", GROUP_ID_BYTES_MAX)?;
                let version = reader.u16()?;
                reader.u16()?;
                ContextExtensions::read(reader)?;
                Ok(Self::ReInit(ReInit { group_id, version }))
            }
            6 => {
                let kem_output = reader.vector("KEM output", KEY_BYTES_MAX)?;
                Ok(Self::ExternalInit { kem_output })
            }
            7 => Ok(Self::Extensions(ContextExtensions::read(reader)?)),
            SELF_REMOVE => Ok(Self::SelfRemove),
            _ => Err(Unreadable::Unsupported("proposal type")),
        }
    }

    /// Whether a Commit with this Proposal must have a path.
    pub(crate) const fn needs_path(&self) -> bool {
        !matches!(self, Self::Add(_) | Self::ReInit(_))
    }
}

/// An entry of a Commit's list.
#[derive(Clone, Debug)]
pub(crate) enum Entry<'a> {
    Value(Proposal<'a>),
    Reference(&'a [u8]),
}

/// A node of a path.
#[derive(Clone, Debug)]
pub(crate) struct PathNode<'a> {
    pub(crate) encryption_key: &'a [u8],
    /// The secrets that are sealed for the members below.
    pub(crate) secrets: Vec<Sealed>,
}

/// The path of a Commit.
#[derive(Clone, Debug)]
pub(crate) struct Path<'a> {
    pub(crate) leaf: Rc<Leaf<'a>>,
    pub(crate) nodes: Vec<PathNode<'a>>,
}

impl<'a> Path<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Unreadable> {
        let leaf = Rc::new(Leaf::read(reader)?);
        let list = reader.inner("path", COMMIT_BYTES_MAX)?;
        let nodes = list.each("path nodes", PATH_NODES_MAX, |list| {
            let encryption_key = list.vector("encryption key", KEY_BYTES_MAX)?;
            let secrets = list.inner("path secrets", COMMIT_BYTES_MAX)?.each(
                "path secrets",
                TREE_NODES_MAX,
                Sealed::read,
            )?;
            Ok::<_, Malformed>(PathNode {
                encryption_key,
                secrets,
            })
        })?;
        Ok(Self { leaf, nodes })
    }
}

/// A Commit.
#[derive(Clone, Debug)]
pub(crate) struct Commit<'a> {
    pub(crate) entries: Vec<Entry<'a>>,
    pub(crate) path: Option<Path<'a>>,
}

impl<'a> Commit<'a> {
    /// Reads one Commit.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Unreadable> {
        let list = reader.inner("proposals", COMMIT_BYTES_MAX)?;
        let entries = list.each("proposals", PROPOSALS_PER_BUNDLE_MAX, |list| {
            match list.u8()? {
                1 => Ok(Entry::Value(Proposal::read(list)?)),
                2 => Ok(Entry::Reference(
                    list.vector("proposal reference", KEY_BYTES_MAX)?,
                )),
                _ => Err(Unreadable::from(list.bad_value("proposal or reference"))),
            }
        })?;
        let path = reader.present()?.then(|| Path::read(reader)).transpose()?;
        Ok(Self { entries, path })
    }
}

const _: () = assert!(EXTENSIONS_BYTES_MAX < crate::limits::PROPOSAL_BYTES_MAX);
