//! Members of both libraries, asked for the same.

use crate::{
    ids::ClientUri,
    mls::{
        check::bundle::Bundle,
        fixture::{self, encoded},
        mls_rs_tests::bytes,
        tree::view::GroupView,
    },
};
use bytes::Bytes;
use mls_rs::{
    Client, ExtensionList, MlsMessage,
    client_builder::MlsConfig,
    group::{ExportedTree, Group},
    mls_rs_codec::MlsEncode as _,
};
use openmls::prelude::{
    KeyPackage, LeafNodeParameters, MlsMessageBodyIn, MlsMessageIn, ProtocolVersion,
    tls_codec::DeserializeBytes as _,
};

/// A client of mls-rs.
pub(super) struct Rs<C: MlsConfig> {
    pub(super) client: Client<C>,
    pub(super) group: Option<Group<C>>,
    /// What its leaf and its KeyPackages hold.
    pub(super) extensions: ExtensionList,
}

/// A client, by its library.
pub(super) enum Library<C: MlsConfig> {
    Open(Box<fixture::Client>),
    Rs(Box<Rs<C>>),
}

/// A client that may be a member.
pub(super) struct Player<C: MlsConfig> {
    pub(super) uri: ClientUri,
    pub(super) library: Library<C>,
}

fn message(bytes: &Bytes) -> MlsMessage {
    MlsMessage::from_bytes(bytes).unwrap()
}

fn package(bytes: &Bytes, client: &fixture::Client) -> KeyPackage {
    let message = MlsMessageIn::tls_deserialize_exact_bytes(bytes).unwrap();
    let MlsMessageBodyIn::KeyPackage(package) = message.extract() else {
        panic!("not a KeyPackage")
    };
    package
        .validate(client.crypto(), ProtocolVersion::Mls10)
        .unwrap()
}

impl<C: MlsConfig> Rs<C> {
    fn group(&mut self) -> &mut Group<C> {
        self.group.as_mut().unwrap()
    }

    fn index_of(&mut self, client: &ClientUri) -> u32 {
        let name = client.to_string().into_bytes();
        let roster = self.group().roster();
        let member = roster.members_iter().find(|member| {
            let basic = member.signing_identity.credential.as_basic().unwrap();
            basic.identifier == name
        });
        member.unwrap().index
    }

    /// What goes with a Commit that the group has applied.
    fn bundle(&mut self, commit: &MlsMessage, welcome: Option<Bytes>) -> Bundle {
        let group = self.group();
        let info = group.group_info_message_allowing_ext_commit(false).unwrap();
        Bundle {
            commit: bytes(commit).into(),
            welcome: welcome.map(Into::into),
            group_info: bytes(&info).into(),
            tree: group.export_tree().to_bytes().unwrap().into(),
        }
    }
}

impl<C: MlsConfig> Player<C> {
    pub(super) fn is_member(&self) -> bool {
        match &self.library {
            Library::Open(client) => client.group.is_some(),
            Library::Rs(rs) => rs.group.is_some(),
        }
    }

    pub(super) fn key_package(&self) -> Bytes {
        match &self.library {
            Library::Open(client) => client.key_package_message(),
            Library::Rs(rs) => {
                let (around, leaf) = (rs.extensions.clone(), rs.extensions.clone());
                let package = rs.client.generate_key_package_message(around, leaf, None);
                bytes(&package.unwrap())
            }
        }
    }

    /// Makes a Commit and takes it for accepted.
    pub(super) fn commit(&mut self, adds: &[Bytes], removes: &[ClientUri], path: bool) -> Bundle {
        match &mut self.library {
            Library::Open(client) => {
                let packages: Vec<_> = adds.iter().map(|one| package(one, client)).collect();
                let leaves: Vec<_> = removes.iter().map(|uri| client.leaf_of(uri)).collect();
                client.commit(|builder| {
                    builder
                        .propose_adds(packages)
                        .propose_removals(leaves)
                        .force_self_update(path)
                })
            }
            Library::Rs(rs) => {
                let indexes: Vec<_> = removes.iter().map(|uri| rs.index_of(uri)).collect();
                let mut builder = rs.group().commit_builder();
                for one in adds {
                    builder = builder.add_member(message(one)).unwrap();
                }
                for index in indexes {
                    builder = builder.remove_member(index).unwrap();
                }
                let output = builder.build().unwrap();
                rs.group().apply_pending_commit().unwrap();
                let welcome = output.welcome_messages.first().map(bytes);
                rs.bundle(&output.commit_message, welcome)
            }
        }
    }

    pub(super) fn propose_update(&mut self) -> Bytes {
        match &mut self.library {
            Library::Open(client) => {
                let (provider, signer) = (&client.provider, &client.signer);
                let group = client.group.as_mut().unwrap();
                let made =
                    group.propose_self_update(provider, signer, LeafNodeParameters::default());
                encoded(&made.unwrap().0)
            }
            Library::Rs(rs) => bytes(&rs.group().propose_update(Vec::new()).unwrap()),
        }
    }

    pub(super) fn propose_remove(&mut self, who: &ClientUri) -> Bytes {
        match &mut self.library {
            Library::Open(client) => {
                let leaf = client.leaf_of(who);
                let (provider, signer) = (&client.provider, &client.signer);
                let group = client.group.as_mut().unwrap();
                encoded(
                    &group
                        .propose_remove_member(provider, signer, leaf)
                        .unwrap()
                        .0,
                )
            }
            Library::Rs(rs) => {
                let index = rs.index_of(who);
                bytes(&rs.group().propose_remove(index, Vec::new()).unwrap())
            }
        }
    }

    pub(super) fn propose_to_leave(&mut self) -> Option<Bytes> {
        let Library::Open(client) = &mut self.library else {
            return None;
        };
        let (provider, signer) = (&client.provider, &client.signer);
        let group = client.group.as_mut()?;
        Some(encoded(
            &group.leave_group_via_self_remove(provider, signer).unwrap(),
        ))
    }

    /// Enters by an external Commit and takes it for accepted.
    pub(super) fn enter(&mut self, view: &GroupView, proposals: &[Bytes]) -> Bundle {
        match &mut self.library {
            Library::Open(client) => client.enter(view, proposals),
            Library::Rs(rs) => {
                let tree = ExportedTree::from_bytes(&view.tree).unwrap();
                let builder = rs.client.external_commit_builder().unwrap();
                let (group, commit) = builder
                    .with_tree_data(tree)
                    .with_leaf_node_extensions(rs.extensions.clone())
                    .build(message(&view.group_info))
                    .unwrap();
                rs.group = Some(group);
                rs.bundle(&commit, None)
            }
        }
    }

    pub(super) fn join(&mut self, bundle: &Bundle) {
        match &mut self.library {
            Library::Open(client) => client.join(bundle),
            Library::Rs(rs) => {
                let tree = ExportedTree::from_bytes(bundle.tree.carried()).unwrap();
                let welcome = message(bundle.welcome.as_ref().unwrap());
                let joined = rs.client.join_group(Some(tree), &welcome, None);
                rs.group = Some(joined.unwrap().0);
            }
        }
    }

    pub(super) fn take(&mut self, handshake: &Bytes) {
        match &mut self.library {
            Library::Open(client) => client.take(handshake),
            Library::Rs(rs) => {
                if let Some(group) = &mut rs.group {
                    group.process_incoming_message(message(handshake)).unwrap();
                }
            }
        }
    }

    pub(super) fn forget(&mut self) {
        if let Library::Rs(rs) = &mut self.library {
            rs.group = None;
        }
    }

    /// The GroupContext and the tree, as this member has them.
    pub(super) fn state(&self) -> Option<(Bytes, Bytes)> {
        match &self.library {
            Library::Open(client) => {
                let group = client.group.as_ref()?;
                let context = encoded(group.public_group().group_context());
                Some((context, encoded(&group.export_ratchet_tree())))
            }
            Library::Rs(rs) => {
                let group = rs.group.as_ref()?;
                let context = group.context().mls_encode_to_vec().unwrap();
                let tree = group.export_tree().to_bytes().unwrap();
                Some((context.into(), tree.into()))
            }
        }
    }
}
