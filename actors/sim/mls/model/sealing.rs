//! The GroupInfo exchange of the model: a signature that whoever knows the key can make, and a seal that hides nothing.

use super::{Hash, Payload, SealedGroupInfo, Sealing};
use crate::{group_info, wire, wire::joining::GroupInfoRequest};

/// What a hub of the model answers.
pub(super) fn seal(sealing: &Sealing) -> SealedGroupInfo {
    let material = &sealing.material;
    let pending: Vec<_> = material
        .pending
        .iter()
        .map(|(message, _)| message)
        .collect();
    let plain = (
        &material.group_info,
        material.packed(sealing.request.container),
        pending,
    );
    SealedGroupInfo {
        epoch: sealing.epoch,
        time: sealing.time,
        lease_ms: sealing.lease_ms,
        kem_output: sealing.request.hpke_key.clone(),
        ciphertext: wire::canonical(&plain).into(),
        signature: Payload::default(),
    }
}

/// The signature of the model: whoever knows the key can make it.
pub(in super::super) fn sign_request(request: &GroupInfoRequest) -> Payload {
    let signed = group_info::name_request(request);
    let signature = Hash::of_parts([&request.signature_key[..], &signed.0[..]]);
    signature.0.to_vec().into()
}
