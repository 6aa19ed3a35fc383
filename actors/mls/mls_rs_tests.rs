//! Groups made by another library: what mls-rs sends, the hub takes.

mod expelled;
mod extensions;

use super::{
    check::{
        bundle::{Bundle, CheckedBundle, Terms, check_bundle},
        create::check_create,
        hub_senders::HubSenders,
        key_package::check_key_package,
        objections::Objections,
        proposal::{PendingProposal, check_proposal},
    },
    codec::message::application_header,
    fixture::{AUDITED, now},
    tree::{cache::TreeCache, view::GroupView},
};
use crate::{ids::ClientUri, limits::AUDITED_MEMBERS_MAX};
use bytes::Bytes;
use mls_rs::{
    CipherSuite, CipherSuiteProvider, Client, CryptoProvider, ExtensionList, MlsMessage,
    client_builder::MlsConfig,
    extension::ExtensionType,
    extension::built_in::ExternalSendersExt,
    group::{CommitOutput, Group, ReceivedMessage, proposal::ProposalType},
    identity::{
        SigningIdentity,
        basic::{BasicCredential, BasicIdentityProvider},
    },
    mls_rules::{CommitOptions, DefaultMlsRules},
};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;

const SUITE: CipherSuite = CipherSuite::CURVE25519_AES128;

pub(super) fn uri(user: &str) -> ClientUri {
    format!("mimi://a.example/d/{user}/phone").parse().unwrap()
}

fn signing(identity: &str) -> (SigningIdentity, mls_rs_core_secret::Secret) {
    let suite = RustCryptoProvider::default()
        .cipher_suite_provider(SUITE)
        .unwrap();
    let (secret, public) = suite.signature_key_generate().unwrap();
    let credential = BasicCredential::new(identity.as_bytes().to_vec()).into_credential();
    (SigningIdentity::new(credential, public), secret)
}

/// The name of a type that mls-rs keeps in a crate of its own.
mod mls_rs_core_secret {
    pub(super) type Secret = mls_rs::crypto::SignatureSecretKey;
}

fn client(user: &str) -> Client<impl MlsConfig> {
    client_with(user, &[], &[])
}

/// A client that says it supports these types, whatever they are.
pub(super) fn client_with(
    user: &str,
    extensions: &[u16],
    proposals: &[u16],
) -> Client<impl MlsConfig + use<>> {
    let (identity, secret) = signing(&uri(user).to_string());
    let options = CommitOptions::new()
        .with_ratchet_tree_extension(false)
        .with_single_welcome_message(true)
        .with_allow_external_commit(true);
    Client::builder()
        .identity_provider(BasicIdentityProvider)
        .crypto_provider(RustCryptoProvider::default())
        .mls_rules(DefaultMlsRules::new().with_commit_options(options))
        .extension_types(extensions.iter().copied().map(ExtensionType::new))
        .custom_proposal_types(proposals.iter().copied().map(ProposalType::new))
        .signing_identity(identity, secret, SUITE)
        .build()
}

pub(super) fn bytes(message: &MlsMessage) -> Bytes {
    message.to_bytes().unwrap().into()
}

fn bundle(output: &CommitOutput) -> Bundle {
    Bundle {
        commit: bytes(&output.commit_message).into(),
        welcome: output
            .welcome_messages
            .first()
            .map(|welcome| bytes(welcome).into()),
        group_info: bytes(output.external_commit_group_info.as_ref().unwrap()).into(),
        tree: output
            .ratchet_tree
            .as_ref()
            .unwrap()
            .to_bytes()
            .unwrap()
            .into(),
    }
}

/// The hub's view of the group, moved on by each bundle, and what it goes by: OpenMLS is asked, and heard.
pub(super) struct Hub {
    pub(super) view: GroupView,
    pub(super) terms: Terms,
}

impl Hub {
    /// Founds the room of a group, in which the hub may propose.
    fn of<C: MlsConfig>(group: &Group<C>, hub: &HubSenders, creator: &str) -> Self {
        let group_info = group.group_info_message_allowing_ext_commit(false).unwrap();
        let tree = group.export_tree().to_bytes().unwrap().into();
        let terms = Terms {
            audited_members_max: AUDITED_MEMBERS_MAX,
            trees: TreeCache::new(),
            objections: Objections::new(),
            ..Terms::default()
        };
        let created = check_create(&bytes(&group_info), &tree, hub, &uri(creator), &terms).unwrap();
        assert_eq!(created.members.len(), 1);
        Self {
            view: created.view,
            terms,
        }
    }

    /// Takes a bundle; the verdict is the same when OpenMLS is not asked.
    fn take(
        &mut self,
        pending: &[PendingProposal],
        output: &CommitOutput,
        by: &str,
    ) -> CheckedBundle {
        let check = |terms| {
            check_bundle(&self.view, pending, &bundle(output), &uri(by), now(), terms).unwrap()
        };
        let (checked, alone) = (check(&self.terms), check(&Terms::default()));
        let unaudited = CheckedBundle {
            audited: false,
            ..checked.clone()
        };
        assert_eq!(unaudited, alone);
        self.view = checked.next.after(&self.view).unwrap();
        checked
    }
}

/// The extensions of a group in which the hub may propose, and its key.
pub(super) fn with_hub() -> (ExtensionList, HubSenders) {
    let (hub, _) = signing("mimi://a.example");
    let key = hub.signature_key.as_bytes().try_into().unwrap();
    let senders = HubSenders::new(&"a.example".parse().unwrap(), vec![key]);
    let mut extensions = ExtensionList::new();
    extensions
        .set_from(ExternalSendersExt::new(vec![hub]))
        .unwrap();
    (extensions, senders)
}

fn follow<C: MlsConfig>(member: &mut Group<C>, output: &CommitOutput) {
    let received = member
        .process_incoming_message(output.commit_message.clone())
        .unwrap();
    assert!(matches!(received, ReceivedMessage::Commit(_)));
}

#[test]
fn a_group_of_mls_rs_members_lives_at_the_hub() {
    let (extensions, hub_senders) = with_hub();
    let (alice, bob, carol) = (client("alice"), client("bob"), client("carol"));
    let none = ExtensionList::new;
    let mut at_alice = alice
        .create_group_with_id(b"mimi://a.example/g/den".to_vec(), extensions, none(), None)
        .unwrap();
    let mut hub = Hub::of(&at_alice, &hub_senders, "alice");

    // Add: KeyPackages as they are uploaded, one Welcome for both.
    let packages = [("bob", &bob), ("carol", &carol)].map(|(user, client)| {
        let package = client
            .generate_key_package_message(none(), none(), None)
            .unwrap();
        check_key_package(&bytes(&package), &uri(user), now(), AUDITED).unwrap();
        package
    });
    let mut commit = at_alice.commit_builder();
    for package in packages {
        commit = commit.add_member(package).unwrap();
    }
    let added = commit.build().unwrap();
    let checked = hub.take(&[], &added, "alice");
    assert!(checked.audited);
    assert_eq!(checked.joined.len(), 2);
    at_alice.apply_pending_commit().unwrap();
    let welcome = &added.welcome_messages[0];
    let tree = || added.ratchet_tree.clone();
    let (mut at_bob, _) = bob.join_group(tree(), welcome, None).unwrap();
    let (mut at_carol, _) = carol.join_group(tree(), welcome, None).unwrap();

    // Update with an empty Commit.
    let updated = at_bob.commit_builder().build().unwrap();
    hub.take(&[], &updated, "bob");
    at_bob.apply_pending_commit().unwrap();
    follow(&mut at_alice, &updated);
    follow(&mut at_carol, &updated);

    // A Proposal by one, committed by another.
    let proposal = at_carol.propose_update(Vec::new()).unwrap();
    let pending = check_proposal(
        &hub.view,
        &bytes(&proposal),
        &uri("carol"),
        now(),
        &TreeCache::none(),
        &HubSenders::NONE,
    )
    .unwrap();
    at_alice.process_incoming_message(proposal.clone()).unwrap();
    at_bob.process_incoming_message(proposal).unwrap();
    let covering = at_alice.commit_builder().build().unwrap();
    let checked = hub.take(std::slice::from_ref(&pending), &covering, "alice");
    assert_eq!(checked.covered, [pending.reference]);
    at_alice.apply_pending_commit().unwrap();
    follow(&mut at_bob, &covering);
    follow(&mut at_carol, &covering);

    // Remove, and the rest goes on.
    let removing = at_alice
        .commit_builder()
        .remove_member(1)
        .unwrap()
        .build()
        .unwrap();
    let checked = hub.take(&[], &removing, "alice");
    assert_eq!(checked.left[0].client, uri("bob"));
    assert!(checked.audited && hub.terms.objections.count() == 0);
    at_alice.apply_pending_commit().unwrap();
    follow(&mut at_carol, &removing);
    let same = |group: &Group<_>| group.epoch_authenticator().unwrap().to_vec();
    assert_eq!(
        same(&at_alice),
        at_carol.epoch_authenticator().unwrap().to_vec()
    );
    assert_eq!(hub.view.epoch().unwrap(), at_alice.current_epoch());
    let message = at_carol
        .encrypt_application_message(b"still here", Vec::new())
        .unwrap();
    let header = application_header(&bytes(&message)).unwrap();
    assert_eq!(header.epoch, at_alice.current_epoch());
}
