//! KeyPackages of the model, as a hub checks them.

use super::*;

/// What a worker finds of a KeyPackage.
pub(in crate::sim::mls) fn check_package(
    package: &Payload,
    client: &ClientUri,
    now: Millis,
) -> Result<StoredPackage, PackageRefused> {
    let read = decode::<Package>(package)
        .filter(|read| read.client == *client && read.not_before_s <= now.as_seconds());
    let Some(read) = read else {
        let detail = BText::clipped("not a KeyPackage of this client");
        return Err(PackageRefused::Invalid { detail });
    };
    Ok(StoredPackage {
        package: package.clone(),
        reference: Payload(reference_of(package)),
        init_key: Payload(reference_of(&read.nonce.to_be_bytes())),
        version: MLS_10,
        ciphersuite: SUITE,
        not_before_s: read.not_before_s,
        not_after_s: read.not_before_s + PACKAGE_LIFE_S,
        extensions: Vec::new(),
        proposals: Vec::new(),
        credentials: vec![1],
        last_resort: false,
    })
}
