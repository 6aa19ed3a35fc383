//! A group of real OpenMLS members, and the hub's view of it.

use super::{
    check::{
        bundle::{Bundle, BundleRefused, CheckedBundle, Terms, check_bundle},
        create::check_create,
        hub_senders::HubSenders,
        objections::Objections,
        proposal::{PendingProposal, check_proposal},
    },
    codec::credential::identity_of,
    tree::{cache::TreeCache, view::GroupView},
};
use crate::{ids::ClientUri, limits::KEY_PACKAGE_LIFETIME_S_MAX, machine::Millis};
use bytes::Bytes;
use openmls::prelude::{tls_codec::DeserializeBytes as _, *};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
/// An extension type that all support.
pub(super) const PRIVATE: u16 = 0xf0f1;
pub(super) const HUB_KEY: [u8; 32] = [
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
    0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
];
/// Its secret: both are the first test vector of RFC 8032, section 7.1.
const HUB_SECRET: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

/// Signs as the hub.
pub(super) fn sign_as_hub(_: &[u8; 32], content: &[u8]) -> Vec<u8> {
    let (scheme, secret) = (SignatureScheme::ED25519, HUB_SECRET.to_vec());
    let pair = SignatureKeyPair::from_raw(scheme, secret, HUB_KEY.to_vec());
    openmls_traits::signatures::Signer::sign(&pair, content).unwrap()
}

/// What tests check by: with audits.
pub(super) const AUDITED: &Terms = &Terms {
    audited_members_max: 256,
    key_package_lifetime_max_s: KEY_PACKAGE_LIFETIME_S_MAX,
    tree_hosts: Vec::new(),
    trees: TreeCache::none(),
    providers: None,
    hub: HubSenders::NONE,
    objections: Objections::unheard(),
};

/// The hub whose name and key the groups here list.
pub(super) fn hub() -> HubSenders {
    hub_with(vec![HUB_KEY])
}

/// The same, with these keys.
pub(super) fn hub_with(keys: Vec<[u8; 32]>) -> HubSenders {
    HubSenders::new(&"a.example".parse().unwrap(), keys)
}

/// Those outside a group who may propose, each with its name and key.
pub(super) fn senders_of(all: &[(&str, [u8; 32])]) -> Extension {
    let sender = |(name, key): &(&str, [u8; 32])| {
        let credential = BasicCredential::new(name.as_bytes().to_vec());
        ExternalSender::new(key.to_vec().into(), credential.into())
    };
    Extension::ExternalSenders(all.iter().map(sender).collect())
}

/// The present, in which members of real libraries make their packages.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is not a machine; packages are made on the real clock"
)]
pub(super) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Millis(u64::try_from(since.as_millis()).unwrap())
}

pub(super) struct Client {
    pub(super) uri: ClientUri,
    pub(super) provider: OpenMlsRustCrypto,
    pub(super) signer: SignatureKeyPair,
    pub(super) group: Option<MlsGroup>,
    suite: Ciphersuite,
}

/// What a member supports, with GREASE in every list.
pub(super) fn capabilities(suite: Ciphersuite) -> Capabilities {
    Capabilities::builder()
        .ciphersuites(vec![suite])
        .proposals(vec![ProposalType::SelfRemove])
        .extensions(vec![
            ExtensionType::LastResort,
            ExtensionType::Unknown(PRIVATE),
        ])
        .with_grease(OpenMlsRustCrypto::default().rand())
        .build()
}

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(false)
        .build()
}

pub(super) fn encoded(message: &impl tls_codec::Serialize) -> Bytes {
    message.tls_serialize_detached().unwrap().into()
}

fn body(message: &Bytes) -> MlsMessageBodyIn {
    MlsMessageIn::tls_deserialize_exact_bytes(message)
        .unwrap()
        .extract()
}

/// A KeyPackage of a client of that name, an MLSMessage.
pub(crate) fn key_package_of(name: &str) -> Bytes {
    let suite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
    Client::new(name, suite).key_package_message()
}

impl Client {
    pub(super) fn new(name: &str, suite: Ciphersuite) -> Self {
        let uri = format!("mimi://a.example/d/{name}/phone").parse().unwrap();
        let provider = OpenMlsRustCrypto::default();
        let signer = SignatureKeyPair::new(suite.signature_algorithm()).unwrap();
        Self {
            uri,
            provider,
            signer,
            group: None,
            suite,
        }
    }

    pub(super) fn credential(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(identity_of(&self.uri)).into(),
            signature_key: self.signer.to_public_vec().into(),
        }
    }

    pub(super) fn key_package_with(
        &self,
        change: impl FnOnce(KeyPackageBuilder) -> KeyPackageBuilder,
    ) -> KeyPackage {
        change(KeyPackage::builder().leaf_node_capabilities(capabilities(self.suite)))
            .build(self.suite, &self.provider, &self.signer, self.credential())
            .unwrap()
            .key_package()
            .clone()
    }

    pub(super) fn crypto(&self) -> &impl OpenMlsCrypto {
        self.provider.crypto()
    }

    pub(super) fn key_package(&self) -> KeyPackage {
        self.key_package_with(|builder| builder)
    }

    pub(super) fn key_package_message(&self) -> Bytes {
        encoded(&MlsMessageOut::from(self.key_package()))
    }

    /// Founds a group; gives its GroupInfo and tree.
    pub(super) fn found(&mut self, external_senders: bool) -> (Bytes, Bytes) {
        self.found_as(b"clubhouse", external_senders)
    }

    /// The same, with this id.
    pub(super) fn found_as(&mut self, id: &[u8], external_senders: bool) -> (Bytes, Bytes) {
        let senders = senders_of(&[("mimi://a.example", HUB_KEY)]);
        let extensions = if external_senders {
            Extensions::single(senders).unwrap()
        } else {
            Extensions::empty()
        };
        let config = MlsGroupCreateConfig::builder()
            .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(false)
            .capabilities(capabilities(self.suite))
            .ciphersuite(self.suite)
            .with_group_context_extensions(extensions)
            .build();
        let id = GroupId::from_slice(id);
        let group = MlsGroup::new_with_group_id(
            &self.provider,
            &self.signer,
            &config,
            id,
            self.credential(),
        )
        .unwrap();
        let info = encoded(
            &group
                .export_group_info(self.provider.crypto(), &self.signer, false)
                .unwrap(),
        );
        let tree = encoded(&group.export_ratchet_tree());
        self.group = Some(group);
        (info, tree)
    }

    pub(super) fn leaf_of(&self, client: &ClientUri) -> LeafNodeIndex {
        let credential = BasicCredential::new(identity_of(client)).into();
        self.group
            .as_ref()
            .unwrap()
            .member_leaf_index(&credential)
            .unwrap()
    }

    /// Makes a Commit and takes it for accepted.
    pub(super) fn commit(
        &mut self,
        change: impl FnOnce(CommitBuilder<'_, Initial>) -> CommitBuilder<'_, Initial>,
    ) -> Bundle {
        let group = self.group.as_mut().unwrap();
        let made = change(group.commit_builder())
            .load_psks(self.provider.storage())
            .unwrap()
            .create_group_info(true)
            .use_ratchet_tree_extension(false)
            .build(
                self.provider.rand(),
                self.provider.crypto(),
                &self.signer,
                |_| true,
            )
            .unwrap()
            .stage_commit(&self.provider)
            .unwrap();
        let (commit, welcome, group_info) = made.into_messages();
        group.merge_pending_commit(&self.provider).unwrap();
        Bundle {
            commit: encoded(&commit).into(),
            welcome: welcome.map(|welcome| encoded(&welcome).into()),
            group_info: encoded(&group_info.unwrap()).into(),
            tree: encoded(&group.export_ratchet_tree()).into(),
        }
    }

    /// An external Commit into the group of `view` that takes in `proposals`, made and taken for accepted.
    pub(super) fn enter(&mut self, view: &GroupView, proposals: &[Bytes]) -> Bundle {
        let MlsMessageBodyIn::GroupInfo(info) = body(&view.group_info) else {
            panic!("not a GroupInfo")
        };
        let tree = RatchetTreeIn::tls_deserialize_exact_bytes(&view.tree).unwrap();
        let proposals = proposals.iter().map(|message| {
            let MlsMessageBodyIn::PublicMessage(message) = body(message) else {
                panic!("not a PublicMessage")
            };
            message
        });
        let leaf = LeafNodeParameters::builder()
            .with_capabilities(capabilities(self.suite))
            .build();
        let (group, made) = MlsGroup::external_commit_builder()
            .with_ratchet_tree(tree)
            .with_config(join_config())
            .with_proposals(proposals.collect())
            .build_group(&self.provider, info, self.credential())
            .unwrap()
            .leaf_node_parameters(leaf)
            .load_psks(self.provider.storage())
            .unwrap()
            .create_group_info(true)
            .use_ratchet_tree_extension(false)
            .build(
                self.provider.rand(),
                self.provider.crypto(),
                &self.signer,
                |_| true,
            )
            .unwrap()
            .finalize(&self.provider)
            .unwrap();
        let (commit, welcome, group_info) = made.into_messages();
        let tree = encoded(&group.export_ratchet_tree()).into();
        self.group = Some(group);
        Bundle {
            commit: encoded(&commit).into(),
            welcome: welcome.map(|welcome| encoded(&welcome).into()),
            group_info: encoded(&group_info.unwrap()).into(),
            tree,
        }
    }

    /// A Commit signed with the `old` key that puts the present one in its place.
    pub(super) fn commit_as(&mut self, old: &SignatureKeyPair) -> Bundle {
        self.signer.store(self.provider.storage()).unwrap();
        let new = NewSignerBundle {
            signer: &self.signer,
            credential_with_key: self.credential(),
        };
        let group = self.group.as_mut().unwrap();
        let made = group
            .commit_builder()
            .load_psks(self.provider.storage())
            .unwrap()
            .create_group_info(true)
            .use_ratchet_tree_extension(false)
            .build_with_new_signer(
                self.provider.rand(),
                self.provider.crypto(),
                old,
                new,
                |_| true,
            )
            .unwrap()
            .stage_commit(&self.provider)
            .unwrap();
        let (commit, _, group_info) = made.into_messages();
        group.merge_pending_commit(&self.provider).unwrap();
        let (commit, group_info) = (encoded(&commit), encoded(&group_info.unwrap()));
        Bundle {
            commit: commit.into(),
            welcome: None,
            group_info: group_info.into(),
            tree: encoded(&group.export_ratchet_tree()).into(),
        }
    }

    pub(super) fn take(&mut self, message: &Bytes) {
        let Some(group) = self.group.as_mut() else {
            return;
        };
        let MlsMessageBodyIn::PublicMessage(message) = body(message) else {
            panic!("not a PublicMessage")
        };
        let content = group
            .process_message(&self.provider, message)
            .unwrap()
            .into_content();
        if let ProcessedMessageContent::ProposalMessage(proposal) = content {
            group
                .store_pending_proposal(self.provider.storage(), *proposal)
                .unwrap();
            return;
        }
        let ProcessedMessageContent::StagedCommitMessage(staged) = content else {
            panic!("neither a Commit nor a Proposal")
        };
        group.merge_staged_commit(&self.provider, *staged).unwrap();
        if !group.is_active() {
            group.delete(self.provider.storage()).unwrap();
            self.group = None;
        }
    }

    pub(super) fn join(&mut self, bundle: &Bundle) {
        let MlsMessageBodyIn::Welcome(welcome) = body(bundle.welcome.as_ref().unwrap()) else {
            panic!("not a Welcome")
        };
        let tree = RatchetTreeIn::tls_deserialize_exact_bytes(bundle.tree.carried()).unwrap();
        let staged =
            StagedWelcome::new_from_welcome(&self.provider, &join_config(), welcome, Some(tree))
                .unwrap();
        self.group = Some(staged.into_group(&self.provider).unwrap());
    }
}

/// Clients of whom the first founded a group, and what the hub knows of it.
pub(super) struct World {
    pub(super) clients: Vec<Client>,
    pub(super) view: GroupView,
    pub(super) pending: Vec<PendingProposal>,
}

impl World {
    pub(super) fn new(clients: usize, suite: Ciphersuite) -> Self {
        let mut clients: Vec<_> = (0..clients)
            .map(|number| Client::new(&format!("u{number}"), suite))
            .collect();
        let (info, tree) = clients[0].found(true);
        let created = check_create(&info, &tree.into(), &hub(), &clients[0].uri, AUDITED).unwrap();
        Self {
            clients,
            view: created.view,
            pending: vec![],
        }
    }

    /// A group of that many members, all of whom have joined.
    pub(super) fn of(members: usize) -> Self {
        let mut world = Self::new(members, SUITE);
        if members > 1 {
            let others: Vec<_> = (1..members).collect();
            world.step(0, &others, &[], false).unwrap();
        }
        world
    }

    /// An external Commit by a client that is in or out of the group, covering the SelfRemoves that wait.
    pub(super) fn enter(&mut self, by: usize) -> Bundle {
        let proposals: Vec<_> = self.pending.iter().map(|one| one.message.clone()).collect();
        self.clients[by].enter(&self.view, &proposals)
    }

    /// A bundle by a member, who takes it for accepted.
    pub(super) fn bundle(
        &mut self,
        by: usize,
        adds: &[usize],
        removes: &[usize],
        update: bool,
    ) -> Bundle {
        let adds: Vec<_> = adds
            .iter()
            .map(|client| self.clients[*client].key_package())
            .collect();
        let removes: Vec<_> = removes
            .iter()
            .map(|client| self.clients[by].leaf_of(&self.clients[*client].uri))
            .collect();
        self.clients[by].commit(|builder| {
            builder
                .propose_adds(adds)
                .propose_removals(removes)
                .force_self_update(update)
        })
    }

    /// What the hub says of a bundle, which is the same whether OpenMLS is asked too or not.
    pub(super) fn check(&self, by: usize, bundle: &Bundle) -> Result<CheckedBundle, BundleRefused> {
        let [audited, alone] = [AUDITED, &Terms::default()].map(|terms| {
            check_bundle(
                &self.view,
                &self.pending,
                bundle,
                &self.clients[by].uri,
                now(),
                terms,
            )
        });
        let unaudited = audited.clone().map(|checked| CheckedBundle {
            audited: false,
            ..checked
        });
        assert_eq!(unaudited, alone);
        audited
    }

    /// Checks a bundle, gives it to everybody and compares what they make of it with the hub's view.
    pub(super) fn accept(
        &mut self,
        by: usize,
        bundle: &Bundle,
    ) -> Result<CheckedBundle, BundleRefused> {
        let checked = self.check(by, bundle)?;
        for (number, client) in self.clients.iter_mut().enumerate() {
            let joins = checked
                .joined
                .iter()
                .any(|joined| joined.client == client.uri);
            if joins && number != by {
                client.join(bundle);
            } else if number != by {
                client.take(&bundle.commit);
            }
        }
        self.view = checked.next.after(&self.view).unwrap();
        self.pending.clear();
        let members = self.view.members().unwrap();
        for client in &self.clients {
            let member = members.iter().any(|member| member.client == client.uri);
            assert_eq!(member, client.group.is_some(), "{:?}", client.uri);
            if let Some(group) = &client.group {
                assert_eq!(
                    encoded(group.public_group().group_context()),
                    self.view.group_context
                );
                assert_eq!(encoded(&group.export_ratchet_tree()), self.view.tree);
            }
        }
        Ok(checked)
    }

    pub(super) fn step(
        &mut self,
        by: usize,
        adds: &[usize],
        removes: &[usize],
        update: bool,
    ) -> Result<CheckedBundle, BundleRefused> {
        let bundle = self.bundle(by, adds, removes, update);
        self.accept(by, &bundle)
    }

    /// Checks a Proposal and gives it to every other member.
    pub(super) fn propose(
        &mut self,
        by: usize,
        make: impl FnOnce(&mut Client) -> MlsMessageOut,
    ) -> PendingProposal {
        let message = encoded(&make(&mut self.clients[by]));
        let pending = check_proposal(
            &self.view,
            &message,
            &self.clients[by].uri,
            now(),
            &TreeCache::none(),
            &HubSenders::NONE,
        )
        .unwrap();
        for (number, client) in self.clients.iter_mut().enumerate() {
            if number != by {
                client.take(&message);
            }
        }
        self.pending.push(pending.clone());
        pending
    }

    pub(super) fn propose_add(&mut self, by: usize, who: usize) -> PendingProposal {
        let package = self.clients[who].key_package();
        self.propose(by, |client| {
            let group = client.group.as_mut().unwrap();
            group
                .propose_add_member(&client.provider, &client.signer, &package)
                .unwrap()
                .0
        })
    }

    pub(super) fn propose_remove(&mut self, by: usize, who: usize) -> PendingProposal {
        let leaf = self.clients[by].leaf_of(&self.clients[who].uri);
        self.propose(by, |client| {
            let group = client.group.as_mut().unwrap();
            group
                .propose_remove_member(&client.provider, &client.signer, leaf)
                .unwrap()
                .0
        })
    }

    pub(super) fn propose_update(&mut self, by: usize) -> PendingProposal {
        self.propose(by, |client| {
            let group = client.group.as_mut().unwrap();
            group
                .propose_self_update(
                    &client.provider,
                    &client.signer,
                    LeafNodeParameters::default(),
                )
                .unwrap()
                .0
        })
    }

    pub(super) fn propose_self_remove(&mut self, by: usize) -> PendingProposal {
        self.propose(by, |client| {
            let group = client.group.as_mut().unwrap();
            group
                .leave_group_via_self_remove(&client.provider, &client.signer)
                .unwrap()
        })
    }
}
