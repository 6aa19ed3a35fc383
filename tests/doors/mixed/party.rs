//! A member of a room on mls-rs: the client door in bytes, and a library that is not the node's.

use crate::support::{Net, WAIT, client};
use mimi_actors::{
    group_info::sign_request,
    ids::{ClientUri, RoomUri, UserUri},
    machine::Millis,
    wire::{
        BVec, Payload,
        answer::{Accepted, Answer, Refused},
        claim::ClaimTerms,
        door::{Acks, DoorItem, RoomBody, RoomEvent},
        event::{Epoch, InboxSeq, RoomSeq},
        joining::GroupInfoRequest,
        post::Notice,
        room::{Beginning, Bundle, Request},
        tree::{TreeContainer, TreeKind},
    },
};
use mimi_client::{
    door::{DeviceKey, DoorClient, EventAcks, EventItems},
    member::{Entrance, new_claim_id},
};
use mls_rs::{
    CipherSuite, CipherSuiteProvider as _, Client, CryptoProvider as _, ExtensionList, Group,
    MlsMessage,
    client_builder::MlsConfig,
    crypto::{SignaturePublicKey, SignatureSecretKey},
    extension::built_in::ExternalSendersExt,
    group::{CommitOutput, ExportedTree},
    identity::{
        SigningIdentity,
        basic::{BasicCredential, BasicIdentityProvider},
    },
    mls_rules::{CommitOptions, DefaultMlsRules},
};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use std::sync::Arc;

const SUITE: CipherSuite = CipherSuite::CURVE25519_AES128;

/// A device whose MLS is mls-rs.
pub(crate) struct Party<C: MlsConfig> {
    pub(crate) uri: ClientUri,
    signing: (SignatureSecretKey, SignaturePublicKey),
    mls: Client<C>,
    door: DoorClient,
    items: EventItems,
    acks: EventAcks,
    inbox: InboxSeq,
    last: RoomSeq,
    group: Option<Group<C>>,
    /// Events that came before the Welcome to them.
    held: Vec<RoomEvent>,
    /// Epochs that it opened itself: their Commits come back as events.
    opened: Vec<Epoch>,
    /// The Proposals of this epoch, as they came.
    waiting: Vec<Payload>,
    /// How many packages it was added with.
    pub(crate) welcomed: usize,
}

fn library(
    uri: &ClientUri,
    (secret, public): (SignatureSecretKey, SignaturePublicKey),
) -> Client<impl MlsConfig + use<>> {
    let credential = BasicCredential::new(uri.to_string().into_bytes()).into_credential();
    let options = CommitOptions::new()
        .with_ratchet_tree_extension(false)
        .with_single_welcome_message(true)
        .with_allow_external_commit(true);
    Client::builder()
        .identity_provider(BasicIdentityProvider)
        .crypto_provider(RustCryptoProvider::default())
        .mls_rules(DefaultMlsRules::new().with_commit_options(options))
        .signing_identity(SigningIdentity::new(credential, public), secret, SUITE)
        .build()
}

/// Enrols a new device of a user.
pub(crate) async fn party(
    net: &Net,
    name: &str,
    device: &str,
    provider: &str,
) -> Party<impl MlsConfig + use<>> {
    let node = net.node(provider);
    let code = node.add_user(name).await;
    let uri = client(name, device, provider);
    let key = Arc::new(DeviceKey::generate().unwrap());
    let domain = provider.parse().unwrap();
    let door = DoorClient::connect(&net.dialer, node.door, &domain, uri.clone(), key);
    let door = door.await.unwrap();
    door.enrol(&code).await.unwrap();
    let (items, acks) = door.events().await.unwrap().split();
    let suite = RustCryptoProvider::default()
        .cipher_suite_provider(SUITE)
        .unwrap();
    let signing = suite.signature_key_generate().unwrap();
    Party {
        mls: library(&uri, signing.clone()),
        signing,
        uri,
        door,
        items,
        acks,
        inbox: InboxSeq(0),
        last: RoomSeq(0),
        group: None,
        held: Vec::new(),
        opened: Vec::new(),
        waiting: Vec::new(),
        welcomed: 0,
    }
}

fn bytes(message: &MlsMessage) -> Payload {
    message.to_bytes().unwrap().into()
}

fn read(message: &Payload) -> MlsMessage {
    MlsMessage::from_bytes(message).unwrap()
}

fn answered(answer: Answer) -> Result<Accepted, Refused> {
    match answer {
        Answer::Committed(accepted) => Ok(accepted),
        Answer::Refused(refused) => Err(refused),
        other => panic!("{other:?}"),
    }
}

impl<C: MlsConfig> Party<C> {
    fn group(&mut self) -> &mut Group<C> {
        self.group.as_mut().expect("it is a member")
    }

    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.group
            .as_ref()
            .map(|group| Epoch(group.current_epoch()))
    }

    pub(crate) fn authenticator(&self) -> Option<Vec<u8>> {
        let group = self.group.as_ref()?;
        Some(group.epoch_authenticator().unwrap().to_vec())
    }

    pub(crate) async fn upload(&self, count: usize) {
        let none = ExtensionList::new;
        let package = |_| {
            let package = self.mls.generate_key_package_message(none(), none(), None);
            package.unwrap().to_bytes().unwrap().into()
        };
        let packages = (0..count).map(package).collect();
        let taken = self.door.upload(packages).await.unwrap();
        assert!(taken.iter().all(Result::is_ok), "{taken:?}");
    }

    /// Opens a room.
    pub(crate) async fn create(&mut self, room: &RoomUri) {
        let hub = self.door.hub_sender().await.unwrap();
        let credential = BasicCredential::new(format!("mimi://{}", hub.provider).into_bytes());
        let key = SignaturePublicKey::from(hub.signature_key.to_vec());
        let sender = SigningIdentity::new(credential.into_credential(), key);
        let mut extensions = ExtensionList::new();
        extensions
            .set_from(ExternalSendersExt::new(vec![sender]))
            .unwrap();
        let id = format!("mimi://{}/g/{}", room.hub(), room.room()).into_bytes();
        let group = self
            .mls
            .create_group_with_id(id, extensions, ExtensionList::new(), None);
        self.group = Some(group.unwrap());
        let Entrance {
            group_info, tree, ..
        } = self.entrance();
        let room = room.clone();
        let beginning = Beginning {
            group_info,
            tree: TreeContainer::Full(tree),
        };
        let answer = self.door.ask(room, Request::Create(beginning));
        assert_eq!(answer.await.unwrap(), Answer::Created);
    }

    /// What somebody needs to enter.
    pub(crate) fn entrance(&mut self) -> Entrance {
        let proposals = self.waiting.clone();
        let group = self.group();
        let group_info = group.group_info_message_allowing_ext_commit(false);
        Entrance {
            group_info: bytes(&group_info.unwrap()),
            tree: group.export_tree().to_bytes().unwrap().into(),
            proposals,
        }
    }

    /// Claims packages of a user's clients.
    pub(crate) async fn claim(&self, room: &RoomUri, users: &[UserUri]) -> Vec<Payload> {
        let mut terms = ClaimTerms::new(self.uri.user().clone());
        terms.room = Some(room.clone());
        let id = new_claim_id().unwrap();
        let claimed = self.door.claim(id, terms, users);
        mimi_client::member::packages(&claimed.await.unwrap())
    }

    /// Sends what was built; takes it for its own when the hub does.
    async fn offer(&mut self, room: &RoomUri, made: CommitOutput) -> Result<Accepted, Refused> {
        let tree = made.ratchet_tree.as_ref().unwrap();
        let bundle = Bundle {
            commit: bytes(&made.commit_message),
            welcome: made.welcome_messages.first().map(bytes),
            group_info: bytes(made.external_commit_group_info.as_ref().unwrap()),
            tree: tree.to_bytes().unwrap().into(),
        };
        let answer = self.door.ask(room.clone(), Request::Commit(bundle)).await;
        let answer = answered(answer.unwrap());
        if let Ok(accepted) = &answer {
            self.opened.push(accepted.epoch);
            self.waiting.clear();
            self.group().apply_pending_commit().unwrap();
        } else {
            self.group().clear_pending_commit();
        }
        answer
    }

    pub(crate) async fn add(
        &mut self,
        room: &RoomUri,
        packages: &[Payload],
    ) -> Result<Accepted, Refused> {
        let mut commit = self.group().commit_builder();
        for package in packages {
            commit = commit.add_member(read(package)).unwrap();
        }
        let made = commit.build().unwrap();
        self.offer(room, made).await
    }

    fn index_of(&mut self, of: &ClientUri) -> u32 {
        let identity = of.to_string().into_bytes();
        let roster = self.group().roster();
        let mut members = roster.members_iter();
        let found = members.find(|member| {
            let credential = member.signing_identity.credential.as_basic().unwrap();
            credential.identifier == identity
        });
        found.expect("it is a member").index
    }

    pub(crate) async fn remove(
        &mut self,
        room: &RoomUri,
        whom: &ClientUri,
    ) -> Result<Accepted, Refused> {
        let index = self.index_of(whom);
        let commit = self.group().commit_builder();
        let made = commit.remove_member(index).unwrap().build().unwrap();
        self.offer(room, made).await
    }

    /// Renews its leaf, and takes in what waits.
    pub(crate) async fn update(&mut self, room: &RoomUri) -> Result<Accepted, Refused> {
        let made = self.group().commit_builder().build().unwrap();
        self.offer(room, made).await
    }

    /// Ends the group, for another to follow.
    pub(crate) async fn reinit(&mut self, room: &RoomUri) -> Result<Accepted, Refused> {
        let commit = self.group().commit_builder();
        let next = Some(b"the group that follows".to_vec());
        let version = mls_rs::ProtocolVersion::MLS_10;
        let commit = commit.reinit(next, version, SUITE, ExtensionList::new());
        let made = commit.unwrap().build().unwrap();
        self.offer(room, made).await
    }

    /// Asks the hub for the room's GroupInfo, and so for its lease.
    async fn ask_for_the_lease(&mut self, room: &RoomUri) -> Result<(), Refused> {
        let suite = RustCryptoProvider::default()
            .cipher_suite_provider(SUITE)
            .unwrap();
        let (secret, public) = &self.signing;
        let (_, hpke_key) = suite.kem_generate().unwrap();
        let since = std::time::UNIX_EPOCH.elapsed().unwrap();
        let mut request = GroupInfoRequest {
            room: room.clone(),
            joiner: self.uri.clone(),
            id: suite.random_bytes_vec(16).unwrap().try_into().unwrap(),
            time: Millis(u64::try_from(since.as_millis()).unwrap()),
            ciphersuite: 1,
            hpke_key: hpke_key.as_ref().to_vec().into(),
            signature_key: public.as_bytes().to_vec().into(),
            container: TreeKind::Full,
            wait_ms: 0,
            code: None,
            passphrase: None,
            signature: Payload::default(),
            envelope: Payload::default(),
            before: Payload::default(),
        };
        sign_request(&mut request, |content| suite.sign(secret, content)).unwrap();
        let room = request.room.clone();
        let request = Request::GroupInfo(Arc::new(request));
        match self.door.ask(room, request).await.unwrap() {
            Answer::GroupInfo(_) => Ok(()),
            Answer::Refused(refused) => Err(refused),
            other => panic!("{other:?}"),
        }
    }

    /// Joins by an external Commit; in place of its own former leaf, if it has one.
    pub(crate) async fn enter(
        &mut self,
        room: &RoomUri,
        entrance: &Entrance,
    ) -> Result<Accepted, Refused> {
        self.ask_for_the_lease(room).await?;
        let former = self.group.is_some().then(|| {
            let own = self.uri.clone();
            self.index_of(&own)
        });
        let tree = ExportedTree::from_bytes(&entrance.tree).unwrap();
        let mut builder = self.mls.external_commit_builder().unwrap();
        builder = builder.with_tree_data(tree.into_owned());
        if let Some(former) = former {
            builder = builder.with_removal(former);
        }
        let (group, commit) = builder.build(read(&entrance.group_info)).unwrap();
        let group_info = group.group_info_message_allowing_ext_commit(false);
        let bundle = Bundle {
            commit: bytes(&commit),
            welcome: None,
            group_info: bytes(&group_info.unwrap()),
            tree: group.export_tree().to_bytes().unwrap().into(),
        };
        let answer = self.door.ask(room.clone(), Request::Commit(bundle)).await;
        let answer = answered(answer.unwrap());
        if let Ok(accepted) = &answer {
            self.last = accepted.seq;
            self.waiting.clear();
            self.group = Some(group);
            self.held.clear();
        }
        answer
    }

    async fn propose(&mut self, room: &RoomUri, message: MlsMessage) -> Answer {
        let proposals = BVec::from([bytes(&message)]);
        let asked = self.door.ask(room.clone(), Request::Propose(proposals));
        asked.await.unwrap()
    }

    pub(crate) async fn propose_update(&mut self, room: &RoomUri) -> Answer {
        let message = self.group().propose_update(Vec::new()).unwrap();
        self.propose(room, message).await
    }

    /// Proposes its own removal, which is how a member leaves that knows no SelfRemove.
    pub(crate) async fn propose_to_leave(&mut self, room: &RoomUri) -> Answer {
        let own = self.group().current_member_index();
        let message = self.group().propose_remove(own, Vec::new()).unwrap();
        self.propose(room, message).await
    }

    /// Takes in events until the condition holds.
    pub(crate) async fn follow(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = std::time::Instant::now() + WAIT;
        while !done(self) {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let next = tokio::time::timeout(left, self.items.next()).await;
            let events = next
                .unwrap_or_else(|_| panic!("{} waits for {what} at {:?}", self.uri, self.epoch()))
                .unwrap();
            for item in events.items {
                self.take(item).await;
            }
        }
    }

    /// How many Proposals it has heard of in this epoch.
    pub(crate) fn heard(&self) -> usize {
        self.waiting.len()
    }

    async fn take(&mut self, item: DoorItem) {
        match item {
            DoorItem::Note { seq, .. } => {
                self.inbox = self.inbox.max(seq);
                let acks = Acks {
                    inbox: Some(seq),
                    ..Acks::default()
                };
                self.acks.ack(&acks).await.unwrap();
            }
            DoorItem::Inbox { seq, notice, .. } => {
                if seq > self.inbox {
                    self.inbox = seq;
                    self.notice(notice);
                }
                let acks = Acks {
                    inbox: Some(seq),
                    ..Acks::default()
                };
                self.acks.ack(&acks).await.unwrap();
            }
            DoorItem::Gap { .. } => panic!("{item:?}"),
            DoorItem::Room { room, events } => {
                let mut last = RoomSeq(0);
                for event in events {
                    last = event.seq;
                    self.room_event(event);
                }
                let acks = Acks {
                    inbox: None,
                    rooms: BVec::from([(room, last)]),
                    control: BVec::default(),
                };
                self.acks.ack(&acks).await.unwrap();
            }
            DoorItem::Verdict { .. } => {}
        }
    }

    fn room_event(&mut self, event: RoomEvent) {
        if self.group.is_none() {
            self.held.push(event);
        } else if event.seq > self.last {
            assert_eq!(event.seq, self.last.next(), "{}", self.uri);
            self.last = event.seq;
            self.event(event.body);
        }
    }

    fn notice(&mut self, notice: Notice) {
        let Notice::Joined {
            after,
            welcome: Some(welcome),
        } = notice
        else {
            return;
        };
        let tree = ExportedTree::from_bytes(&welcome.tree).unwrap();
        let joined = self
            .mls
            .join_group(Some(tree.into_owned()), &read(&welcome.welcome), None);
        let (group, _) = joined.unwrap();
        assert_eq!(group.current_epoch(), welcome.epoch.0);
        self.group = Some(group);
        self.last = after;
        self.waiting.clear();
        self.welcomed += 1;
        for event in std::mem::take(&mut self.held) {
            self.room_event(event);
        }
    }

    fn event(&mut self, body: RoomBody) {
        match body {
            RoomBody::Application(_) => {}
            RoomBody::Proposals(proposals) => {
                for proposal in proposals {
                    let message = read(&proposal);
                    if message.epoch() != self.epoch().map(|epoch| epoch.0) {
                        continue;
                    }
                    self.waiting.push(proposal);
                    let own = self.uri.clone();
                    let taken = self.group().process_incoming_message(message);
                    let of_own = matches!(
                        taken,
                        Err(mls_rs::error::MlsError::CantProcessMessageFromSelf)
                    );
                    assert!(taken.is_ok() || of_own, "{own}: {taken:?}");
                }
            }
            RoomBody::Commit { epoch, commit } => {
                if self.opened.contains(&epoch) {
                    return;
                }
                let uri = self.uri.clone();
                let taken = self.group().process_incoming_message(read(&commit));
                let taken = taken.unwrap_or_else(|error| panic!("{uri} at {epoch}: {error}"));
                let mls_rs::group::ReceivedMessage::Commit(commit) = taken else {
                    panic!("another message");
                };
                self.waiting.clear();
                if let mls_rs::group::CommitEffect::Removed { .. } = commit.effect {
                    self.group = None;
                }
            }
        }
    }
}
