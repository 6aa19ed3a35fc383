//! Lists of extensions: which types may stand where, and the shape of those that the hub knows.
//!
//! Source: RFC 9420, sections 13 and 17.3.

use super::{
    bounds::{EXTENSIONS_BYTES_MAX, EXTENSIONS_MAX, KEY_BYTES_MAX},
    credential,
    reader::{Malformed, Reader, Unreadable},
};
use crate::limits::NESTED_ELEMENTS_MAX;

/// `application_id`, in leaves.
const APPLICATION_ID: u16 = 1;
/// `ratchet_tree`, in a GroupInfo; here the tree travels beside it.
pub(crate) const RATCHET_TREE: u16 = 2;
/// `required_capabilities`, in a GroupContext.
pub(crate) const REQUIRED_CAPABILITIES: u16 = 3;
/// `external_pub`, in a GroupInfo.
pub(crate) const EXTERNAL_PUB: u16 = 4;
/// `external_senders`, in a GroupContext.
pub(crate) const EXTERNAL_SENDERS: u16 = 5;
/// `app_data_dictionary`, anywhere.
pub(crate) const APP_DATA_DICTIONARY: u16 = 6;
/// `last_resort` as OpenMLS numbers it, in a KeyPackage.
pub(crate) const LAST_RESORT: u16 = 10;
/// The component of an application data dictionary that marks a last-resort KeyPackage.
const LAST_RESORT_COMPONENT: u16 = 4;

/// Where a list of extensions stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Leaf,
    KeyPackage,
    GroupContext,
    GroupInfo,
}

impl Place {
    const fn allows(self, kind: u16) -> bool {
        match kind {
            APPLICATION_ID => matches!(self, Self::Leaf),
            REQUIRED_CAPABILITIES | EXTERNAL_SENDERS => matches!(self, Self::GroupContext),
            // The ratchet tree is let through here so that its presence can be named in the refusal.
            EXTERNAL_PUB | RATCHET_TREE => matches!(self, Self::GroupInfo),
            LAST_RESORT => matches!(self, Self::KeyPackage),
            _ => true,
        }
    }
}

/// One extension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extension<'a> {
    pub(crate) kind: u16,
    pub(crate) content: &'a [u8],
}

/// Whether every client implements this extension type without saying so (RFC 9420, section 7.2).
pub(crate) const fn is_default(kind: u16) -> bool {
    matches!(kind, 1..=5)
}

/// Whether a number is one of those reserved to keep implementations tolerant.
pub(crate) const fn is_grease(number: u16) -> bool {
    let [high, low] = number.to_be_bytes();
    high == low && high & 0x0f == 0x0a && high != 0xfa
}

/// Reads a list of extensions: types allowed in `place`, none twice, those known here well formed.
pub(crate) fn read_list<'a>(
    reader: &mut Reader<'a>,
    place: Place,
) -> Result<Vec<Extension<'a>>, Unreadable> {
    let list = reader.inner("extensions", EXTENSIONS_BYTES_MAX)?;
    let mut seen = Vec::new();
    list.each("extensions", EXTENSIONS_MAX, |list| {
        let kind = list.u16()?;
        if !place.allows(kind) || seen.contains(&kind) {
            return Err(list.bad_value("extension type").into());
        }
        seen.push(kind);
        let whole = list.clone().vector("extension", EXTENSIONS_BYTES_MAX)?;
        let mut content = list.inner("extension", EXTENSIONS_BYTES_MAX)?;
        match kind {
            REQUIRED_CAPABILITIES => {
                read_required(&mut content)?;
            }
            EXTERNAL_SENDERS => {
                read_senders(&mut content)?;
            }
            EXTERNAL_PUB => {
                content.vector("external_pub", KEY_BYTES_MAX)?;
                content.finish()?;
            }
            APPLICATION_ID => {
                content.vector("application_id", EXTENSIONS_BYTES_MAX)?;
                content.finish()?;
            }
            APP_DATA_DICTIONARY => {
                read_components(&mut content)?;
            }
            LAST_RESORT => content.finish()?,
            _ => {}
        }
        Ok(Extension {
            kind,
            content: whole,
        })
    })
}

/// The extension of one type, if it is there.
pub(crate) fn find<'a>(list: &[Extension<'a>], kind: u16) -> Option<&'a [u8]> {
    list.iter()
        .find(|extension| extension.kind == kind)
        .map(|extension| extension.content)
}

/// What every member of a group must support.
#[derive(Default)]
pub(crate) struct Required {
    pub(crate) extensions: Vec<u16>,
    pub(crate) proposals: Vec<u16>,
    pub(crate) credentials: Vec<u16>,
}

fn read_required(content: &mut Reader<'_>) -> Result<Required, Malformed> {
    let extensions = content.u16_list("required extensions")?;
    let proposals = content.u16_list("required proposals")?;
    let credentials = content.u16_list("required credentials")?;
    content.finish()?;
    Ok(Required {
        extensions,
        proposals,
        credentials,
    })
}

/// What a GroupContext requires of members; nothing when it has no such extension.
pub(crate) fn required(list: &[Extension<'_>]) -> Result<Required, Malformed> {
    find(list, REQUIRED_CAPABILITIES).map_or_else(
        || Ok(Required::default()),
        |content| read_required(&mut Reader::new(content)),
    )
}

/// Somebody outside the group who may propose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExternalSender<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) identity: &'a [u8],
}

fn read_senders<'a>(content: &mut Reader<'a>) -> Result<Vec<ExternalSender<'a>>, Unreadable> {
    let senders = content.inner("external senders", EXTENSIONS_BYTES_MAX)?;
    content.finish()?;
    senders.each("external senders", NESTED_ELEMENTS_MAX, |senders| {
        let key = senders.vector("signature key", KEY_BYTES_MAX)?;
        let identity = credential::read_identity(senders)?;
        Ok(ExternalSender { key, identity })
    })
}

/// Those outside the group who may propose.
pub(crate) fn external_senders<'a>(
    list: &[Extension<'a>],
) -> Result<Vec<ExternalSender<'a>>, Unreadable> {
    find(list, EXTERNAL_SENDERS).map_or_else(
        || Ok(Vec::new()),
        |content| read_senders(&mut Reader::new(content)),
    )
}

/// The signature keys of those outside the group who may propose.
pub(crate) fn external_sender_keys<'a>(
    list: &[Extension<'a>],
) -> Result<Vec<&'a [u8]>, Unreadable> {
    let senders = external_senders(list)?;
    Ok(senders.into_iter().map(|sender| sender.key).collect())
}

/// The component numbers of an application data dictionary: ascending, none twice.
fn read_components(content: &mut Reader<'_>) -> Result<Vec<u16>, Malformed> {
    let entries = content.inner("components", EXTENSIONS_BYTES_MAX)?;
    content.finish()?;
    let mut last = None;
    entries.each("components", NESTED_ELEMENTS_MAX, |entries| {
        let component = entries.u16()?;
        if last.is_some_and(|last| last >= component) {
            return Err(entries.bad_value("component number"));
        }
        last = Some(component);
        entries.vector("component", EXTENSIONS_BYTES_MAX)?;
        Ok(component)
    })
}

/// Whether the extensions of a KeyPackage mark it as one of last resort.
pub(crate) fn marks_last_resort(list: &[Extension<'_>]) -> bool {
    let component = || {
        let components =
            read_components(&mut Reader::new(find(list, APP_DATA_DICTIONARY)?)).ok()?;
        Some(components.contains(&LAST_RESORT_COMPONENT))
    };
    find(list, LAST_RESORT).is_some() || component().unwrap_or(false)
}
