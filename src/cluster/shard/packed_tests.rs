//! A whole shard, its actors and what follows from its log, over restarts from snapshots.

use super::*;
use crate::{
    cluster::{
        feeds::wake::Wakers,
        log::{
            decoded::{self, Decoded},
            entries::Entries,
        },
        raft::group::Group,
        read_entry,
        shard::{apply::ApplyToActors, directory::Awake, shards::Shards},
        testing::until,
    },
    perform::{Environment, workers::Workers},
    store::Disk,
};
use mimi_actors::{
    ids::{ClientUri, RoomUri, UserUri},
    link::{self, Peer},
    machine::{Millis, Position},
    mls::check::bundle::Terms,
    record::{Command, Entry},
    room::{
        checks::{COMMIT_RATE, Mls},
        follower::{self, Deliver, Queue},
    },
    shard::{owing, read},
    supervisor::Supervisor,
    user::{
        command as user_command,
        inbox::{Held, InboxItem},
    },
    wire::{
        BVec, Payload,
        door::{DoorItem, Order},
        event::{
            Body, ClientSeq, Epoch, Event, Hash, InboxSeq, Invitation, Item, LaneCursor, LinkSeq,
            RoomSeq,
        },
        post::{Notice, Post, WelcomeNotice},
        version::Level,
    },
};
use std::{path::Path, sync::Arc, time::Duration};

/// Entries between two snapshots in these tests.
const EVERY: u64 = 10;

struct Node {
    disk: Disk,
    group: Group,
    shard: Arc<Shard>,
    shards: Shards,
    supervisor: Supervisor,
}

impl Node {
    async fn start(dir: &Path) -> Self {
        let disk = Disk::open(dir, 1, u64::MAX).unwrap();
        let supervisor = Supervisor::start().await.unwrap();
        let environment = Arc::new(Environment {
            provider: "b.example".parse().unwrap(),
            shards: mimi_actors::limits::SHARDS_DEFAULT,
            clock: Arc::new(|| Millis(7)),
            awake: Awake::at_most(usize::MAX),
            workers: Workers::new(1, 1),
            wakers: Wakers::default(),
            throttles: crate::cluster::feeds::peer_throttle::PeerThrottles::default(),
            hub_key: [7; 32],
            mls: Arc::new(Mls {
                hub_signer: Arc::new(|_, _| Vec::new()),
                terms: Terms::default(),
                lease_ms: mimi_actors::limits::LEASE_MS,
                commit_rate: COMMIT_RATE,
            }),
            rules: user_command::Rules::default(),
            lane_credit_bytes: 0,
            backlog_items_max: u64::MAX,
            request_deadline: Duration::from_secs(10),
        });
        let reading = disk.clone();
        let entries = Entries::new(Box::new(move |index| {
            read_entry(&reading, 0, index).map_err(|why| read::ReadError { index, why })
        }));
        let (shard, _) = Shard::new(
            0,
            Arc::clone(&environment),
            entries,
            &supervisor.cell(),
            true,
        );
        let apply = Arc::new(ApplyToActors(Arc::clone(&shard)));
        let group = Group::start(0, 1, &disk, EVERY, apply, None).await.unwrap();
        let shards = Shards::new(vec![Arc::clone(&shard)], environment, None);
        Self {
            disk,
            group,
            shard,
            shards,
            supervisor,
        }
    }

    async fn apply(&self, commands: Vec<Command>) -> u64 {
        let entry = Entry {
            stamp: Millis(7),
            commands: BVec::try_from(commands).unwrap(),
        };
        let decoded = Arc::new(Decoded::proposed(entry, Vec::new(), 0));
        self.group
            .propose(decoded::batch(&decoded, Level::FIRST, 256))
            .await
            .unwrap()
    }

    /// Applies entries that nothing points at, until what came before is out of the log.
    async fn pass(&self, before: u64) {
        for number in 0..3 * EVERY {
            let consent = user_command::Consent {
                requester: format!("mimi://c.example/u/c{number}").parse().unwrap(),
                room: None,
                grant: Some(true),
            };
            let command = user_command::Command::Consent(consent);
            self.apply(vec![user(command)]).await;
        }
        self.group.seal_soon();
        until("the log is discarded", || {
            self.disk.log.span(0).start > before
        })
        .await;
    }

    async fn stop(self) -> (Vec<(u64, Hash)>, Derived) {
        let hashes = self.shards.state_hashes().await;
        let derived = self.shard.looked_at().clone();
        self.group.stop().await;
        let Self {
            disk,
            group,
            shard,
            shards,
            supervisor,
        } = self;
        drop((group, shard, shards, supervisor));
        disk.release().await.unwrap();
        (hashes, derived)
    }
}

fn room() -> RoomUri {
    "mimi://a.example/r/clubhouse".parse().unwrap()
}

fn bob() -> ClientUri {
    "mimi://b.example/d/bob/phone".parse().unwrap()
}

fn bobby() -> UserUri {
    "mimi://b.example/u/bob".parse().unwrap()
}

fn payload(text: &str) -> Payload {
    Payload::from(text.as_bytes().to_vec())
}

fn user(command: user_command::Command) -> Command {
    Command::User(bobby(), Arc::new(command))
}

fn follow(command: follower::Command) -> Command {
    Command::Follower(room(), Arc::new(command))
}

fn deliver(seq: u64, body: Body) -> Command {
    let event = Event {
        seq: RoomSeq(seq),
        time: Millis(5),
        body,
    };
    let items = BVec::from([Item::Event(event)]);
    follow(follower::Command::Deliver(Deliver { items }))
}

fn joined() -> Command {
    let welcome = WelcomeNotice {
        epoch: Epoch(3),
        welcome: payload("welcome"),
        tree: payload("tree"),
    };
    let notice = Notice::Joined {
        after: RoomSeq(4),
        welcome: Some(welcome),
    };
    let post = Post {
        room: room(),
        clients: BVec::from([bob()]),
        notice,
    };
    user(user_command::Command::Deliver(user_command::Deliver {
        from_shard: 3,
        seq: LinkSeq(1),
        post,
    }))
}

/// A private message of group "g", epoch 0, application, as a hub or follower takes it.
fn message() -> Payload {
    let bytes = [
        0, 1, 0, 2, 1, b'g', 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 5, 1, 6,
    ];
    Payload::from(bytes.to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_is_read_from_the_backlog_and_the_state_is_the_same_after_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let code = Hash::of(b"code");
    let add = user_command::Add {
        user: bobby(),
        code,
    };
    let enrol = user_command::Enrol {
        code,
        client: bob(),
        device_key: [7; 32],
    };
    node.apply(vec![
        user(user_command::Command::Add(add)),
        user(user_command::Command::Enrol(enrol)),
    ])
    .await;
    let inbox = node.apply(vec![joined()]).await;
    let invitation = Invitation {
        epoch: Epoch(3),
        clients: BVec::from([bob()]),
        welcome: payload("welcome"),
        tree: payload("tree"),
    };
    let notice = node
        .apply(vec![deliver(4, Body::Invited(invitation))])
        .await;
    let event = node
        .apply(vec![deliver(5, Body::Application(payload("five")))])
        .await;
    let queue = Queue {
        sender: bob(),
        first: ClientSeq(1),
        messages: BVec::from([message()]),
    };
    let queued = node
        .apply(vec![follow(follower::Command::Queue(queue))])
        .await;
    let needed = [inbox, notice, event, queued];
    node.pass(queued).await;
    assert_eq!(node.disk.backlog.indexes(0).unwrap(), needed);
    let before = node.stop().await;

    for _ in 0..2 {
        let node = Node::start(dir.path()).await;
        let at = Position {
            entry: inbox,
            command: 0,
        };
        let item = InboxItem {
            seq: InboxSeq(1),
            held: Held::Notice(at),
        };
        let told = read::inbox_item(&*node.shard, item).unwrap();
        assert!(matches!(told, DoorItem::Inbox { room: from, .. } if from == room()));
        let (given, order) = (LaneCursor::all(RoomSeq(4)), Order::InOrder);
        let part = read::room_events(&*node.shard, &room(), &bob(), given, None, order).unwrap();
        assert_eq!((part.events.len(), part.given.application), (1, RoomSeq(5)));
        assert!(
            owing::submissions(&*node.shard, room().hub(), 0)
                .unwrap()
                .is_some()
        );
        assert_eq!(node.stop().await, before);
    }

    // What is taken is let go of: the notice is acknowledged by its shard, the welcome by its client.
    let node = Node::start(dir.path()).await;
    let (peer, upto) = {
        let derived = node.shard.looked_at();
        let (peer, owed) = derived.links.peers().next().unwrap();
        (peer.clone(), owed.last())
    };
    assert!(matches!(peer, Peer::Shard(_)));
    let ack = user_command::Ack {
        client: bob(),
        inbox: Some(InboxSeq(1)),
        rooms: Vec::new(),
        control: Vec::new(),
    };
    let last = node
        .apply(vec![
            Command::Link(link::Command::Ack {
                peer,
                upto,
                refused: Vec::new(),
            }),
            user(user_command::Command::Ack(ack)),
        ])
        .await;
    node.pass(last).await;
    assert_eq!(node.disk.backlog.indexes(0).unwrap(), [event, queued]);
    let before = node.stop().await;
    let node = Node::start(dir.path()).await;
    assert_eq!(node.stop().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sleepers_and_those_awake_give_the_same_rows() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let add = user_command::Add {
        user: bobby(),
        code: Hash::of(b"code"),
    };
    node.apply(vec![user(user_command::Command::Add(add))])
        .await;
    // Nobody was ever begun here; it leaves no row.
    let hubs = node.shard.actors.of::<desk::Desk>();
    drop(hubs.lock().await.wake(&room()).await.unwrap());
    let awake = node.shard.pack().await.unwrap();
    assert_eq!(awake.len(), 2);
    assert_eq!(node.shard.put_to_sleep(Duration::ZERO).await, 2);
    assert_eq!(node.shard.pack().await.unwrap(), awake);

    let broken = vec![Row {
        key: b"xmimi".to_vec(),
        value: Vec::new(),
    }];
    let error = node.shard.unpack(broken).await.unwrap_err();
    assert!(error.to_string().contains("unknown kind"), "{error}");
    assert_eq!(node.shard.pack().await.unwrap(), awake);
    let before = node.shards.state_hashes().await;
    let users = node.shard.actors.of::<user_desk::Desk>();
    drop(users.lock().await.wake(&bobby()).await.unwrap());
    node.shard.unpack(awake.clone()).await.unwrap();
    assert_eq!(node.shards.counts().await, (0, 1));
    assert_eq!(node.shards.state_hashes().await, before);
    let error = node.shard.unpack(awake[..1].to_vec()).await.unwrap_err();
    assert!(error.to_string().contains("it is not there"), "{error}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_of_the_events_of_a_room_that_sleeps_is_folded_and_read_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let invitation = Invitation {
        epoch: Epoch(3),
        clients: BVec::from([bob()]),
        welcome: payload("welcome"),
        tree: payload("tree"),
    };
    let invited = deliver(4, Body::Invited(invitation));
    let five = deliver(5, Body::Application(payload("five")));
    node.apply(vec![invited, five]).await;
    let open = |node: &Node| node.shard.looked_at().index.open_rooms();
    let read = |node: &Node| {
        let given = LaneCursor::all(RoomSeq(4));
        read::room_events(&*node.shard, &room(), &bob(), given, None, Order::InOrder).unwrap()
    };
    let part = read(&node);
    assert_eq!((part.events.len(), open(&node)), (1, 1));
    assert_eq!(node.shard.put_to_sleep(Duration::ZERO).await, 1);
    assert_eq!((read(&node), open(&node)), (part.clone(), 0));
    let six = deliver(6, Body::Application(payload("six")));
    node.apply(vec![six]).await;
    assert_eq!((read(&node).events.len(), open(&node)), (2, 1));
    let rows = node.shard.pack().await.unwrap();
    node.shard.unpack(rows).await.unwrap();
    assert_eq!((read(&node).events.len(), open(&node)), (2, 0));
    node.stop().await;
}
