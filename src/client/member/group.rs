//! A room's MLS group: making it, joining it, its GroupInfo and ratchet tree as bytes.

use super::{MemberError, SUITE, encoding, identity, mls, record::Record, trees::Trees};
use mimi_actors::{
    ids::{ClientUri, RoomUri},
    limits::EPOCH_TOLERANCE_EPOCHS,
    wire::{post::WelcomeNotice, room::Beginning},
};
use openmls::prelude::{
    Extensions, GroupContext, GroupId, MlsGroup, MlsGroupJoinConfig, MlsMessageBodyIn,
    MlsMessageIn, OpenMlsProvider as _, PURE_PLAINTEXT_WIRE_FORMAT_POLICY, RatchetTreeIn,
    SenderRatchetConfiguration, StagedWelcome, tls_codec::DeserializeBytes,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use std::collections::BTreeMap;

/// Past epochs whose messages a member can still read: as many as the hub tolerates, and some for own Commits. Those are
/// merged with their answer, before the messages that the hub took just before them have come by the event stream.
const PAST_EPOCHS: usize = 5 + OWN_COMMITS_AHEAD;
/// Own Commits that the event stream has not come to, of which a member still reads everything.
const OWN_COMMITS_AHEAD: usize = 3;
const _: () = assert!((PAST_EPOCHS - OWN_COMMITS_AHEAD) as u64 == EPOCH_TOLERANCE_EPOCHS);
/// Generations of a sender that may come out of order.
const OUT_OF_ORDER_GENERATIONS: u32 = 200;
/// Generations of a sender that may be skipped at once.
const FORWARD_GENERATIONS_MAX: u32 = 1_000;

/// The group id this client gives to a room; for everybody else it is opaque.
fn group_id(room: &RoomUri) -> GroupId {
    GroupId::from_slice(format!("mimi://{}/g/{}", room.hub(), room.room()).as_bytes())
}

pub(super) fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        // The hub must see who commits and what; encrypted handshakes would hide it.
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(false)
        .max_past_epochs(PAST_EPOCHS)
        .sender_ratchet_configuration(ratchet())
        .build()
}

fn ratchet() -> SenderRatchetConfiguration {
    SenderRatchetConfiguration::new(OUT_OF_ORDER_GENERATIONS, FORWARD_GENERATIONS_MAX)
}

/// Makes the group of a new room, at epoch 0.
pub(super) fn create(
    provider: &OpenMlsRustCrypto,
    client: &ClientUri,
    signer: &SignatureKeyPair,
    room: &RoomUri,
    extensions: Extensions<GroupContext>,
) -> Result<MlsGroup, MemberError> {
    MlsGroup::builder()
        .with_group_id(group_id(room))
        .ciphersuite(SUITE)
        .with_capabilities(identity::capabilities())
        .with_wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(false)
        .max_past_epochs(PAST_EPOCHS)
        .sender_ratchet_configuration(ratchet())
        .with_group_context_extensions(extensions)
        .build(provider, signer, identity::credential(client, signer))
        .map_err(mls("make a group"))
}

/// What the hub needs to make a room of the group.
pub(super) fn opening(
    provider: &OpenMlsRustCrypto,
    signer: &SignatureKeyPair,
    trees: &Trees,
    group: &MlsGroup,
) -> Result<Beginning, MemberError> {
    let group_info = group
        .export_group_info(provider.crypto(), signer, false)
        .map_err(mls("export the GroupInfo"))?;
    Ok(Beginning {
        group_info: encoding::message(&group_info)?,
        tree: trees.pack_first(&encoding::tree(&group.export_ratchet_tree())?)?,
    })
}

/// Joins by a Welcome and the tree beside it, in place of an older group of the same id.
pub(super) fn join(
    provider: &OpenMlsRustCrypto,
    notice: &WelcomeNotice,
) -> Result<MlsGroup, MemberError> {
    let welcome = MlsMessageIn::tls_deserialize_exact_bytes(&notice.welcome)
        .map_err(mls("decode a Welcome"))?;
    let MlsMessageBodyIn::Welcome(welcome) = welcome.extract() else {
        return Err(mls("decode a Welcome")("another MLSMessage"));
    };
    let tree = RatchetTreeIn::tls_deserialize_exact_bytes(&notice.tree)
        .map_err(mls("decode a ratchet tree"))?;
    let group = StagedWelcome::build_from_welcome(provider, &join_config(), welcome)
        .map_err(mls("open a Welcome"))?
        .with_ratchet_tree(tree)
        // That a member was added in time was seen when it was added; its KeyPackage may have expired since.
        .skip_lifetime_validation()
        .replace_old_group()
        .build()
        .map_err(mls("check a Welcome"))?
        .into_group(provider)
        .map_err(mls("join by a Welcome"))?;
    if group.epoch().as_u64() == notice.epoch.0 {
        Ok(group)
    } else {
        Err(mls("join by a Welcome")("it leads to another epoch"))
    }
}

/// Loads the groups of all rooms that have one.
pub(super) fn load_all(
    provider: &OpenMlsRustCrypto,
    record: &Record,
) -> Result<BTreeMap<RoomUri, MlsGroup>, MemberError> {
    let mut groups = BTreeMap::new();
    for (room, state) in &record.rooms {
        let id = GroupId::from_slice(&state.group_id);
        if let Some(group) = MlsGroup::load(provider.storage(), &id).map_err(mls("load a group"))? {
            groups.insert(room.clone(), group);
        }
    }
    Ok(groups)
}
