//! Who a member is towards MLS: its credential, its signature key, its KeyPackages.

use super::{MemberError, mls};
use bytes::Bytes;
use mimi_actors::{
    ids::ClientUri,
    wire::{Payload, door::HubSender},
};
use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, Credential, CredentialWithKey, Extension,
    ExtensionType, Extensions, ExternalSender, GroupContext, KeyPackage, Lifetime,
    MlsMessageBodyIn, MlsMessageIn, MlsMessageOut, OpenMlsProvider, ProposalType, ProtocolVersion,
    RequiredCapabilitiesExtension, UnknownExtension,
    tls_codec::{DeserializeBytes, Serialize as _, VLByteSlice},
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;

/// The ciphersuite of every room: X25519, AES-128-GCM, SHA-256, Ed25519.
pub const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
/// A ciphersuite that no room uses; packages of it fit no claim with default terms.
pub const OTHER_SUITE: Ciphersuite =
    Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519;

/// What the KeyPackages of an upload are made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageOptions {
    /// Their ciphersuite; its signature scheme must be Ed25519.
    pub suite: Ciphersuite,
    /// Ciphersuites the leaf claims to support; empty means only `suite`.
    pub suites: Vec<Ciphersuite>,
    /// Extension types the leaf supports, beyond the default ones.
    pub extensions: Vec<u16>,
    /// How long they may be used, in seconds from the present; `None` means OpenMLS's default of 84 days.
    pub lifetime_s: Option<u64>,
    /// Whether they are last-resort packages.
    pub last_resort: bool,
}

impl Default for PackageOptions {
    fn default() -> Self {
        Self {
            suite: SUITE,
            suites: Vec::new(),
            extensions: Vec::new(),
            lifetime_s: None,
            last_resort: false,
        }
    }
}

impl PackageOptions {
    /// Packages that fit no claim with default terms.
    #[must_use]
    pub fn incompatible() -> Self {
        Self {
            suite: OTHER_SUITE,
            ..Self::default()
        }
    }

    fn capabilities(&self) -> Capabilities {
        let suites = if self.suites.is_empty() {
            vec![self.suite]
        } else {
            self.suites.clone()
        };
        let mut extensions: Vec<_> = self
            .extensions
            .iter()
            .map(|kind| ExtensionType::from(*kind))
            .collect();
        extensions.push(ExtensionType::Unknown(APP_DATA_DICTIONARY));
        if self.last_resort {
            extensions.push(ExtensionType::LastResort);
        }
        Capabilities::builder()
            .ciphersuites(suites)
            .extensions(extensions)
            .proposals(vec![ProposalType::SelfRemove])
            .build()
    }
}

/// What the leaves of a device that is in a room support.
pub(super) fn capabilities() -> Capabilities {
    PackageOptions::default().capabilities()
}

/// A fresh signature key for suites with Ed25519, kept in the storage of `provider`.
pub(super) fn signer(provider: &OpenMlsRustCrypto) -> Result<SignatureKeyPair, MemberError> {
    let signer =
        SignatureKeyPair::new(SUITE.signature_algorithm()).map_err(mls("make a signature key"))?;
    signer
        .store(provider.storage())
        .map_err(mls("keep the signature key"))?;
    Ok(signer)
}

/// The credential of a client and its key.
pub(super) fn credential(client: &ClientUri, signer: &SignatureKeyPair) -> CredentialWithKey {
    CredentialWithKey {
        credential: BasicCredential::new(client.to_string().into_bytes()).into(),
        signature_key: signer.public().into(),
    }
}

/// The client that a credential names.
pub(super) fn client_of(credential: &Credential) -> Option<ClientUri> {
    let basic = BasicCredential::try_from(credential.clone()).ok()?;
    std::str::from_utf8(basic.identity()).ok()?.parse().ok()
}

/// A fresh KeyPackage, as an MLSMessage; its private keys are kept in the storage of `provider`.
pub(super) fn key_package(
    provider: &OpenMlsRustCrypto,
    client: &ClientUri,
    signer: &SignatureKeyPair,
    options: &PackageOptions,
) -> Result<Bytes, MemberError> {
    let mut builder = KeyPackage::builder().leaf_node_capabilities(options.capabilities());
    if let Some(lifetime_s) = options.lifetime_s {
        builder = builder.key_package_lifetime(Lifetime::new(lifetime_s));
    }
    if options.last_resort {
        builder = builder.mark_as_last_resort();
    }
    let bundle = builder
        .build(options.suite, provider, signer, credential(client, signer))
        .map_err(mls("make a KeyPackage"))?;
    MlsMessageOut::from(bundle.into_key_package())
        .to_bytes()
        .map(Bytes::from)
        .map_err(mls("encode a KeyPackage"))
}

/// Validates a KeyPackage of somebody else.
pub(super) fn read_key_package(
    provider: &OpenMlsRustCrypto,
    package: &Payload,
) -> Result<KeyPackage, MemberError> {
    let message =
        MlsMessageIn::tls_deserialize_exact_bytes(package).map_err(mls("decode a KeyPackage"))?;
    let MlsMessageBodyIn::KeyPackage(package) = message.extract() else {
        return Err(mls("decode a KeyPackage")("another MLSMessage"));
    };
    package
        .validate(provider.crypto(), ProtocolVersion::Mls10)
        .map_err(mls("validate a KeyPackage"))
}

/// The extension type of the dictionary in which room policy lies; members keep it as it is.
pub(super) const APP_DATA_DICTIONARY: u16 = 6;

/// A component of room policy: its number, and what it says.
pub type Component = (u16, Vec<u8>);

/// Bytes with their length before them, as RFC 9420 writes them.
fn vector(bytes: &[u8]) -> Result<Vec<u8>, MemberError> {
    let written = VLByteSlice(bytes).tls_serialize_detached();
    written.map_err(mls("encode room policy"))
}

/// All members must support the dictionary: OpenMLS changes only extensions that a group requires.
pub(super) fn requires_policy() -> Extension {
    let dictionary = [ExtensionType::Unknown(APP_DATA_DICTIONARY)];
    Extension::RequiredCapabilities(RequiredCapabilitiesExtension::new(&dictionary, &[], &[]))
}

/// The group context extensions of a new room: its hub may propose, and its policy, if it has one.
pub(super) fn context_extensions(
    hub: &HubSender,
    policy: &[Component],
) -> Result<Extensions<GroupContext>, MemberError> {
    let identity = format!("mimi://{}", hub.provider).into_bytes();
    let sender = ExternalSender::new(
        hub.signature_key.as_slice().into(),
        BasicCredential::new(identity).into(),
    );
    let mut extensions = vec![Extension::ExternalSenders(vec![sender])];
    if !policy.is_empty() {
        let mut entries = Vec::new();
        for (component, data) in policy {
            entries.extend(component.to_be_bytes());
            entries.extend(vector(data)?);
        }
        let dictionary = UnknownExtension(vector(&entries)?);
        extensions.push(Extension::Unknown(APP_DATA_DICTIONARY, dictionary));
        extensions.push(requires_policy());
    }
    Extensions::from_vec(extensions).map_err(mls("describe a room"))
}
