//! A room, its log and its clock, for the tests of this module. Nothing here is signed: a fold checks no signature.

use super::{
    follower,
    hub::{Command, Commit, Create, Fold, Propose, Submit, Via},
    leases::Grant,
    outcome::{Answer, Outcome, Refused},
};
use crate::{
    bucket::Rate,
    ids::{ClientUri, ProviderId},
    limits::LEASE_MS_MIN,
    machine::{Fold as _, Millis, Moment, Position},
    mls::{
        check::{
            bundle::{Bundle, CheckedBundle, Joined},
            proposal::{PendingProposal, ProposalKind},
        },
        tree::view::{GroupView, Member},
    },
    wire::{
        BVec, Payload,
        event::{
            Body, ClientSeq, CommitEvent, Copy, Epoch, Event, Hash, Invitation, Item, Recipient,
            RoomSeq, SubmitSeq,
        },
        joining::GroupInfoRequest,
        tree::TreeKind,
        version::Level,
    },
};
use bytes::Bytes;

/// More Commits than any test makes.
pub(super) const PLENTY: Rate = Rate {
    burst: 1_000_000,
    per_minute: 60_000,
};

pub(super) const GROUP: &[u8] = b"clubhouse group";

/// `alice/phone` of `a.example`, the hub.
pub(super) fn alice() -> ClientUri {
    client("a", "alice", "phone")
}

pub(super) fn bob() -> ClientUri {
    client("b", "bob", "phone")
}

pub(super) fn carol() -> ClientUri {
    client("c", "carol", "phone")
}

pub(super) fn client(provider: &str, user: &str, device: &str) -> ClientUri {
    format!("mimi://{provider}.example/d/{user}/{device}")
        .parse()
        .unwrap()
}

pub(super) fn provider(name: &str) -> ProviderId {
    format!("{name}.example").parse().unwrap()
}

fn vector(bytes: &[u8]) -> Vec<u8> {
    // Every vector here is shorter than 64 bytes, so its length is one byte.
    assert!(bytes.len() < 64);
    let length = u8::try_from(bytes.len()).unwrap();
    [&[length], bytes].concat()
}

/// The public state of the group in an epoch.
pub(super) fn view(epoch: u64) -> GroupView {
    let context = [
        &[0, 1, 0, 1][..],
        &vector(GROUP),
        &epoch.to_be_bytes(),
        &vector(b"tree hash"),
        &vector(b"transcript"),
        &[0],
    ]
    .concat();
    let bytes = |what: &str| Bytes::from(format!("{what} {epoch}"));
    GroupView {
        group_context: context.into(),
        confirmation_tag: bytes("tag"),
        interim_transcript_hash: bytes("interim"),
        group_info: bytes("info"),
        tree: bytes("tree"),
    }
}

/// A PrivateMessage of content type application.
pub(super) fn message_of(group: &[u8], epoch: u64, text: &str) -> Payload {
    [
        &[0, 1, 0, 2][..],
        &vector(group),
        &epoch.to_be_bytes(),
        &[1],
        &vector(b""),
        &vector(b"sender"),
        &vector(text.as_bytes()),
    ]
    .concat()
    .into()
}

pub(super) fn message(epoch: u64, text: &str) -> Payload {
    message_of(GROUP, epoch, text)
}

/// The beginning of a PublicMessage that carries a Commit.
pub(super) fn bundle_of(group: &[u8], epoch: u64, name: &str) -> Bundle {
    let commit = [
        &[0, 1, 0, 1][..],
        &vector(group),
        &epoch.to_be_bytes(),
        &[1, 0, 0, 0, 0],
        &vector(b""),
        &[3],
        name.as_bytes(),
    ]
    .concat();
    Bundle {
        commit: commit.into(),
        welcome: None,
        group_info: Bytes::from(format!("info {name}")).into(),
        tree: Bytes::from(format!("tree {name}")).into(),
    }
}

pub(super) fn bundle(epoch: u64, name: &str) -> Bundle {
    bundle_of(GROUP, epoch, name)
}

/// What a check finds of a Commit of leaf 0 that changes nobody.
pub(super) fn checked(epoch: u64) -> CheckedBundle {
    CheckedBundle {
        next: view(epoch + 1).into(),
        committer: 0,
        external: false,
        reinit: false,
        joined: BVec::default(),
        left: BVec::default(),
        updated: Vec::new(),
        covered: Vec::new(),
        place: None,
        audited: false,
    }
}

pub(super) fn proposal(leaf: u32, name: &str) -> PendingProposal {
    PendingProposal {
        reference: Bytes::from(format!("reference of {name}")),
        leaf,
        kind: ProposalKind::Update,
        message: Bytes::from(name.to_owned()),
        accepted: Millis::default(),
    }
}

pub(super) fn full(name: &str) -> Recipient {
    Recipient {
        provider: provider(name),
        copy: Copy::Full,
    }
}

pub(super) fn invited(name: &str) -> Recipient {
    Recipient {
        provider: provider(name),
        copy: Copy::Invitation,
    }
}

pub(super) fn own(name: &str, first: u64) -> Recipient {
    Recipient {
        provider: provider(name),
        copy: Copy::Own(SubmitSeq(first)),
    }
}

pub(super) fn create() -> Create {
    Create {
        creator: alice(),
        view: view(0),
        members: vec![Member {
            leaf: 0,
            client: alice(),
            signature_key: Bytes::from_static(b"key"),
        }],
    }
}

/// A room at its hub, and the log that it is a fold of.
#[derive(Clone, Default)]
pub(crate) struct Hub {
    pub(super) fold: Fold,
    pub(super) entry: u64,
    pub(super) time: u64,
    pub(super) level: Level,
}

impl Hub {
    /// A room whose only member is `alice/phone`, leaf 0.
    pub(crate) fn created() -> Self {
        let mut hub = Self {
            time: 100,
            ..Self::default()
        };
        hub.apply(&Command::Create(create()));
        hub
    }

    /// A room of Alice (leaf 0) and others (leaves from 1), in epoch 1.
    pub(super) fn with(others: &[ClientUri]) -> Self {
        let mut hub = Self::created();
        let joined = (1..).zip(others).map(|(leaf, who)| (leaf, who.clone()));
        let commit = hub.adding("first", joined.collect());
        hub.apply(&commit);
        hub
    }

    pub(super) fn apply(&mut self, command: &Command) -> Outcome {
        self.entry += 1;
        let at = self.at();
        let moment = Moment {
            at,
            time: Millis(self.time),
            level: self.level,
        };
        self.fold.apply(moment, command)
    }

    /// Where the last command stands.
    pub(super) fn at(&self) -> Position {
        Position {
            entry: self.entry,
            command: 0,
        }
    }

    pub(super) fn room(&self) -> &super::hub::Room {
        self.fold.room().unwrap()
    }

    pub(super) fn epoch(&self) -> u64 {
        self.room().epoch().0
    }

    /// A Commit of Alice on the current state that changes nobody.
    pub(super) fn commit(&self, name: &str) -> Commit {
        let on = self.room().checked_on();
        let bundle = bundle(on.epoch.0, name);
        Commit {
            sender: alice(),
            on,
            bundle: Hash::of(name.as_bytes()),
            commit: bundle.commit,
            welcome: None,
            checked: checked(on.epoch.0),
            rate: PLENTY,
            behind: Vec::new(),
        }
    }

    /// A Commit of Alice that adds.
    pub(crate) fn adding(&self, name: &str, clients: Vec<(u32, ClientUri)>) -> Command {
        let mut commit = self.commit(name);
        commit.welcome = Some(Payload::from(format!("welcome {name}").into_bytes()));
        let joined = |(leaf, client)| Joined {
            leaf,
            client,
            key_package_reference: Some(Bytes::from_static(b"reference")),
            signature_key: Bytes::from_static(b"key"),
        };
        commit.checked.joined = BVec::first_max(clients.into_iter().map(joined));
        Command::Commit(Box::new(commit))
    }

    /// A Commit of Alice that removes.
    pub(super) fn removing(&self, name: &str, clients: Vec<(u32, ClientUri)>) -> Command {
        let mut commit = self.commit(name);
        let left = |(leaf, client)| Member {
            leaf,
            client,
            signature_key: Bytes::from_static(b"key"),
        };
        commit.checked.left = BVec::first_max(clients.into_iter().map(left));
        Command::Commit(Box::new(commit))
    }

    /// Opens `count` epochs that change nobody.
    pub(super) fn advance(&mut self, count: u64) {
        for _ in 0..count {
            let commit = self.commit(&format!("advance {}", self.entry));
            self.apply(&Command::Commit(Box::new(commit)));
        }
    }

    pub(super) fn propose(
        &mut self,
        sender: &ClientUri,
        proposals: Vec<PendingProposal>,
    ) -> Outcome {
        let on = self.room().epoch();
        self.apply(&Command::Propose(Propose {
            sender: sender.clone(),
            on,
            proposals: BVec::try_from(proposals).unwrap(),
        }))
    }

    /// A client of the hub sends.
    pub(super) fn send(
        &mut self,
        sender: &ClientUri,
        first: u64,
        messages: Vec<Payload>,
    ) -> Outcome {
        self.apply(&submit(sender, Via::Client(ClientSeq(first)), messages))
    }

    /// A follower submits.
    pub(super) fn submit(
        &mut self,
        sender: &ClientUri,
        first: u64,
        messages: Vec<Payload>,
    ) -> Outcome {
        self.apply(&submit(
            sender,
            Via::Provider {
                first: SubmitSeq(first),
                undecided: SubmitSeq(1),
            },
            messages,
        ))
    }
}

pub(super) fn submit(sender: &ClientUri, via: Via, messages: Vec<Payload>) -> Command {
    Command::Submit(Submit {
        sender: sender.clone(),
        via,
        messages: BVec::try_from(messages).unwrap(),
    })
}

/// Event `seq` of the hub, at time 1000 + `seq`.
pub(super) fn event(seq: u64, body: Body) -> Item {
    Item::Event(Event {
        seq: RoomSeq(seq),
        time: Millis(1_000),
        body,
    })
}

pub(super) fn text(seq: u64) -> Item {
    event(seq, Body::Application(message(1, &format!("event {seq}"))))
}

pub(super) fn invitation(epoch: u64, clients: &[ClientUri]) -> Invitation {
    Invitation {
        epoch: Epoch(epoch),
        clients: BVec::try_from(clients.to_vec()).unwrap(),
        welcome: Payload::from(vec![1, 2]),
        tree: Payload::from(vec![3, 4]),
    }
}

pub(super) fn commit_event(seq: u64, left: &[ClientUri], invitation: Option<Invitation>) -> Item {
    event(
        seq,
        Body::Commit(CommitEvent {
            epoch: Epoch(seq),
            commit: Payload::from(b"commit".to_vec()),
            left: BVec::try_from(left.to_vec()).unwrap(),
            entered: None,
            invitation,
        }),
    )
}

/// A room at a follower, and the log that it is a fold of.
#[derive(Clone, Default)]
pub(super) struct Follower {
    pub(super) fold: follower::Fold,
    pub(super) entry: u64,
}

impl Follower {
    /// A room at `b.example` that Bob was invited to with event 5.
    pub(super) fn invited() -> Self {
        let mut follower = Self::default();
        follower.deliver(vec![event(5, Body::Invited(invitation(1, &[bob()])))]);
        follower
    }

    pub(super) fn apply(&mut self, command: &follower::Command) -> Outcome {
        self.entry += 1;
        let at = self.at();
        let moment = Moment {
            at,
            time: Millis(9),
            ..Moment::default()
        };
        self.fold.apply(moment, command)
    }

    /// Where the last command stands.
    pub(super) fn at(&self) -> Position {
        Position {
            entry: self.entry,
            command: 0,
        }
    }

    pub(super) fn deliver(&mut self, items: Vec<Item>) -> Outcome {
        let items = BVec::try_from(items).unwrap();
        self.apply(&follower::Command::Deliver(follower::Deliver { items }))
    }

    pub(super) fn queue(
        &mut self,
        sender: &ClientUri,
        first: u64,
        messages: Vec<Payload>,
    ) -> Outcome {
        self.apply(&follower::Command::Queue(follower::Queue {
            sender: sender.clone(),
            first: ClientSeq(first),
            messages: BVec::try_from(messages).unwrap(),
        }))
    }
}

/// How long every joiner waits, in milliseconds.
pub(super) const WAIT_MS: u32 = 3_000;

/// What a joiner asks for the GroupInfo with.
pub(super) fn joining(number: u64, joiner: &ClientUri, time: Millis) -> GroupInfoRequest {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    GroupInfoRequest {
        room: "mimi://a.example/r/clubhouse".parse().unwrap(),
        joiner: joiner.clone(),
        id,
        time,
        ciphersuite: 1,
        hpke_key: Payload::from(vec![1]),
        signature_key: Payload::from(b"key".to_vec()),
        container: TreeKind::Full,
        wait_ms: WAIT_MS,
        code: None,
        passphrase: None,
        signature: Payload::default(),
        envelope: Payload::default(),
        before: Payload::default(),
    }
}

/// An external Commit of `client` on the current state, which takes leaf `leaf` and removes these; the client has the
/// lease, if it may.
pub(super) fn entry(
    hub: &mut Hub,
    client: &ClientUri,
    leaf: u32,
    left: &[(u32, ClientUri)],
) -> Commit {
    let grant = Command::Grant(Grant {
        joiner: client.clone(),
        request: Hash::of(&hub.entry.to_be_bytes()),
        signature_key: Payload::from(b"key".to_vec()),
        code: None,
        lease_ms: LEASE_MS_MIN,
    });
    if let Answer::Refused(Refused::Busy { .. }) = hub.apply(&grant).done.to_answer() {
        hub.time += u64::from(LEASE_MS_MIN);
        hub.apply(&grant);
    }
    let mut commit = external(hub, client, leaf);
    let member = |(leaf, client): &(u32, ClientUri)| Member {
        leaf: *leaf,
        client: client.clone(),
        signature_key: Bytes::from_static(b"key"),
    };
    commit.checked.left = BVec::first_max(left.iter().map(member));
    commit
}

/// An external Commit of `client` on the current state, which takes leaf `leaf`; whether it may is another matter.
pub(super) fn external(hub: &Hub, client: &ClientUri, leaf: u32) -> Commit {
    let mut commit = hub.commit(&format!("entry of {client} in {}", hub.epoch()));
    commit.sender = client.clone();
    commit.checked.external = true;
    commit.checked.committer = leaf;
    commit.checked.joined = [Joined {
        leaf,
        client: client.clone(),
        key_package_reference: None,
        signature_key: Bytes::from_static(b"key"),
    }]
    .into();
    commit
}
