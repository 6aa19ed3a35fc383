//! What lies in the log, and the folds over it.

use super::{Group, samples::*};
use bytes::Bytes;
use mimi_actors::{
    bucket::Rate,
    ids::ClientUri,
    link::{self, Links, Peer, outgoing::Owed, submissions::SubmitRun},
    machine::{Fold, Millis, Moment, Position},
    mls::{
        check::{
            bundle::{CheckedBundle, Joined},
            proposal::{PendingProposal, ProposalKind},
        },
        tree::view::{GroupView, Member},
    },
    record::{Command, Entry},
    room::{
        checks::COMMIT_RATE,
        codes::{Code, KeepCode, Passphrase, RevokeCode, WrongCode},
        follower, hub,
        leases::Grant,
    },
    shard::names,
    user,
    wire::{
        BText, Payload,
        claim::{ClaimId, ClaimTerms},
        event::{
            Body, ClientSeq, Copy, Epoch, Hash, InboxSeq, Item, LaneCursor, LinkSeq, RoomSeq,
            SubmitRefused, SubmitSeq,
        },
        joining::CodeId,
        link::RoomRefused,
        post::{Change, DepartedWhy, Post, Refilled, UserNotice},
        version::Level,
    },
};
use std::sync::Arc;

fn view() -> GroupView {
    // Version 1, suite 1, group "g", epoch 0, an empty tree hash, transcript and list of extensions.
    let context = [0, 1, 0, 1, 1, b'g', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    GroupView {
        group_context: Bytes::copy_from_slice(&context),
        confirmation_tag: raw("tag"),
        interim_transcript_hash: raw("interim"),
        group_info: raw("info"),
        tree: raw("tree"),
    }
}

fn message() -> Payload {
    // Version 1, PrivateMessage, group "g", epoch 0, application, three short vectors.
    let bytes = [
        0, 1, 0, 2, 1, b'g', 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 5, 1, 6,
    ];
    Payload::from(bytes.to_vec())
}

fn member(leaf: u32, client: ClientUri) -> Member {
    Member {
        leaf,
        client,
        signature_key: raw("key"),
    }
}

fn proposal() -> PendingProposal {
    PendingProposal {
        reference: raw("reference"),
        leaf: 0,
        kind: ProposalKind::Remove(2),
        message: raw("proposal"),
        accepted: Millis(0),
    }
}

fn code() -> Code {
    Code {
        hash: hash(),
        uses_left: Some(1),
        not_after: Some(Millis(1_700_000_000_000)),
        role_index: Some(3),
        passphrase: Some(Passphrase {
            salt: [1; 16],
            hash: [2; 32],
        }),
        creator: alice(),
        revoked: false,
    }
}

fn hub_commands() -> Vec<(&'static str, hub::Command)> {
    let create = hub::Create {
        creator: alice(),
        view: view(),
        members: vec![member(0, alice())],
    };
    let joined = Joined {
        leaf: 1,
        client: bob(),
        key_package_reference: Some(raw("package")),
        signature_key: raw("key"),
    };
    let checked = CheckedBundle {
        next: view().into(),
        committer: 0,
        external: false,
        reinit: false,
        joined: [joined].into(),
        left: [member(2, "mimi://c.example/d/carol/phone".parse().unwrap())].into(),
        updated: vec![member(0, alice())],
        covered: vec![raw("reference")],
        place: Some(BText::clipped("https://trees.a.example/7")),
        audited: true,
    };
    let commit = hub::Commit {
        sender: alice(),
        on: hub::CheckedOn {
            epoch: Epoch(0),
            pending: Hash::of_parts([]),
        },
        bundle: hash(),
        commit: some("commit"),
        welcome: Some(some("welcome")),
        checked,
        rate: COMMIT_RATE,
        behind: vec!["c.example".parse().unwrap()],
    };
    let entry = hub::Commit {
        sender: bob(),
        welcome: None,
        checked: CheckedBundle {
            committer: 1,
            external: true,
            joined: [Joined {
                key_package_reference: None,
                ..commit.checked.joined[0].clone()
            }]
            .into(),
            ..commit.checked.clone()
        },
        ..commit.clone()
    };
    let propose = hub::Propose {
        sender: alice(),
        on: Epoch(1),
        proposals: [proposal()].into(),
    };
    let submit = |sender, via| {
        let messages = list(vec![message(), some("not a message")]);
        hub::Command::Submit(hub::Submit {
            sender,
            via,
            messages,
        })
    };
    vec![
        ("create", hub::Command::Create(create)),
        ("commit", hub::Command::Commit(Box::new(commit))),
        ("external-commit", hub::Command::Commit(Box::new(entry))),
        ("propose", hub::Command::Propose(propose)),
        (
            "submit-client",
            submit(alice(), hub::Via::Client(ClientSeq(1))),
        ),
        (
            "submit-provider",
            submit(
                bob(),
                hub::Via::Provider {
                    first: SubmitSeq(1),
                    undecided: SubmitSeq(1),
                },
            ),
        ),
        (
            "keep-code",
            hub::Command::KeepCode(KeepCode { code: code() }),
        ),
        (
            "grant",
            hub::Command::Grant(Grant {
                joiner: bob(),
                request: hash(),
                signature_key: some("key"),
                code: Some(CodeId(1)),
                lease_ms: 10_000,
            }),
        ),
        (
            "wrong-code",
            hub::Command::WrongCode(WrongCode { joiner: bob() }),
        ),
        (
            "revoke-code",
            hub::Command::RevokeCode(RevokeCode {
                member: alice(),
                id: CodeId(2),
            }),
        ),
    ]
}

/// What the first release did not know: a member departs, its hub proposes to remove it, and proposes it anew.
fn hub_commands_of_2() -> Vec<(&'static str, hub::Command)> {
    let commands = hub_commands().into_iter();
    let commit = commands
        .filter(|(name, _)| *name == "external-commit")
        .find_map(|(_, command)| command.commit().cloned());
    let removal = PendingProposal {
        kind: ProposalKind::Expel(0),
        ..proposal()
    };
    vec![
        (
            "depart",
            hub::Command::Depart(hub::Depart {
                client: alice(),
                why: DepartedWhy::Revoked,
            }),
        ),
        (
            "expel",
            hub::Command::Expel(hub::Expel {
                on: Epoch(1),
                proposals: [removal.clone()].into(),
            }),
        ),
        (
            "enter",
            hub::Command::Enter(hub::Enter {
                commit: Box::new(commit.unwrap()),
                again: [removal].into(),
            }),
        ),
    ]
}

fn follower_commands() -> Vec<(&'static str, follower::Command)> {
    let begin = follower::Deliver {
        items: list(vec![Item::Event(event(Body::Invited(invitation())))]),
    };
    let all = follower::Deliver {
        items: list(items().into_iter().map(|(_, item)| item).collect()),
    };
    let queue = follower::Queue {
        sender: bob(),
        first: ClientSeq(1),
        messages: list(vec![message(), message(), message()]),
    };
    let reject = follower::Reject {
        first: SubmitSeq(2),
        count: 1,
        reason: SubmitRefused::Poisoned,
    };
    vec![
        ("deliver-invited", follower::Command::Deliver(begin)),
        ("queue", follower::Command::Queue(queue)),
        ("reject", follower::Command::Reject(reject)),
        ("deliver", follower::Command::Deliver(all)),
    ]
}

fn user_commands() -> Vec<(&'static str, user::command::Command)> {
    use user::command::{
        Ack, Add, Claim, Command, Consent, Deliver, Enrol, LearnRefilled, Revoke, Rules,
        StoredPackage, Upload,
    };
    let stored = StoredPackage {
        package: some("package"),
        reference: some("reference"),
        init_key: some("init key"),
        version: 1,
        ciphersuite: 1,
        not_before_s: 1,
        not_after_s: 2_000_000_000,
        extensions: vec![3],
        proposals: vec![8],
        credentials: vec![1],
        last_resort: false,
    };
    let second = StoredPackage {
        reference: some("reference 2"),
        init_key: some("init key 2"),
        ..stored.clone()
    };
    let last_resort = StoredPackage {
        reference: some("reference 3"),
        init_key: some("init key 3"),
        last_resort: true,
        ..stored.clone()
    };
    let packages = vec![Ok(stored), Ok(second), Ok(last_resort)];
    let peer = alice().provider().clone();
    let requester = alice().user().clone();
    let consent = Consent {
        requester: requester.clone().into(),
        room: None,
        grant: Some(true),
    };
    let (id, body) = (ClaimId([9; 16]), hash());
    let terms = ClaimTerms::new(requester);
    let deliver = |seq, notice| {
        Command::Deliver(Deliver {
            from_shard: 3,
            seq: LinkSeq(seq),
            post: Post {
                room: room(),
                clients: list(vec![bob()]),
                notice,
            },
        })
    };
    let mut commands = vec![
        (
            "add",
            Command::Add(Add {
                user: user_uri(),
                code: hash(),
            }),
        ),
        (
            "enrol",
            Command::Enrol(Enrol {
                code: hash(),
                client: bob(),
                device_key: [7; 32],
            }),
        ),
        (
            "upload",
            Command::Upload(Upload {
                client: bob(),
                packages,
            }),
        ),
        ("consent", Command::Consent(consent)),
        (
            "claim",
            Command::Claim(Claim {
                id,
                hub: peer.clone(),
                peer,
                terms,
                body,
                rules: Rules {
                    requester: Rate {
                        burst: 500,
                        per_minute: 120,
                    },
                    provider: Rate {
                        burst: 20_000,
                        per_minute: 6_000,
                    },
                    ..Rules::default()
                },
                over_ms: Some(250),
            }),
        ),
    ];
    let names = ["deliver-joined", "deliver-created", "deliver-left"];
    for ((name, seq), (_, notice)) in names.into_iter().zip(1..).zip(notices()) {
        commands.push((name, deliver(seq, notice)));
    }
    commands.push((
        "hear",
        Command::LearnRefilled(LearnRefilled {
            from: Some((3, LinkSeq(1))),
            refilled: Refilled {
                requester: user_uri(),
                room: room(),
                client: alice(),
            },
        }),
    ));
    let inbox = Some(InboxSeq(1));
    let rooms = vec![(room(), RoomSeq(1))];
    commands.push((
        "ack",
        Command::Ack(Ack {
            client: bob(),
            inbox,
            rooms: rooms.clone(),
            control: rooms,
        }),
    ));
    commands.push(("revoke", Command::Revoke(Revoke { client: bob() })));
    commands.push(("delete", Command::Delete));
    commands
}

fn link_commands() -> Vec<(&'static str, link::Command)> {
    let ack = |peer| link::Command::Ack {
        peer,
        upto: LinkSeq(1),
        refused: Vec::new(),
    };
    let forget = link::Command::Forget {
        before: Millis(1_700_000_000_000),
    };
    let read = link::Command::Read {
        has: list(vec![link::ReadProgress {
            room: room(),
            client: bob(),
            given: LaneCursor::all(RoomSeq(1)),
        }]),
    };
    let refused = link::Command::Ack {
        peer: Peer::Provider(provider()),
        upto: LinkSeq(1),
        refused: vec![RoomRefused {
            room: room(),
            detail: BText::clipped("frozen"),
        }],
    };
    let redrive = link::Command::Redrive {
        provider: provider(),
        room: room(),
    };
    vec![
        ("ack-provider", ack(Peer::Provider(provider()))),
        ("ack-shard", ack(Peer::Shard(3))),
        ("ack-refused", refused),
        ("redrive", redrive),
        ("forget", forget),
        ("read", read),
    ]
}

pub(super) fn records() -> Group {
    let mut group = Group::default();
    let entry = |command| Entry {
        stamp: Millis(1_700_000_000_000),
        commands: list(vec![command]),
    };
    for (name, command) in hub_commands() {
        group.add(
            format!("hub-{name}"),
            entry(Command::Hub(room(), Arc::new(command))),
        );
    }
    for (name, command) in follower_commands() {
        let command = Command::Follower(room(), Arc::new(command));
        group.add(format!("follower-{name}"), entry(command));
    }
    for (name, command) in user_commands() {
        let command = Command::User(user_uri(), Arc::new(command));
        group.add(format!("user-{name}"), entry(command));
    }
    for (name, command) in link_commands() {
        group.add(format!("link-{name}"), entry(Command::Link(command)));
    }
    group.add(
        "empty",
        Entry {
            stamp: Millis(0),
            commands: list(vec![]),
        },
    );
    group
}

/// What only entries of version 2 say.
pub(super) fn records_of_2() -> Group {
    let mut group = Group::of(2);
    let entry = |command| Entry {
        stamp: Millis(1_700_000_000_000),
        commands: list(vec![command]),
    };
    group.frame("level", entry(Command::Level(Level::SECOND)));
    let join = user::command::Command::Join(user::command::Join {
        from_shard: 3,
        seq: LinkSeq(1),
        room: room(),
        clients: list(vec![bob()]),
        after: RoomSeq(4),
        as_in: 7,
    });
    let join = Command::User(user_uri(), Arc::new(join));
    group.frame("user-join", entry(join));
    let provider = provider();
    let give_up = Command::Link(link::Command::GiveUp { provider });
    group.frame("link-give-up", entry(give_up));
    let take = names::Take {
        group: names::GroupName::of(b"group"),
        room: names::RoomMark::of(&room()),
    };
    group.frame("name", entry(Command::Name(take)));
    for (name, command) in hub_commands_of_2() {
        let command = Command::Hub(room(), Arc::new(command));
        group.frame(format!("hub-{name}"), entry(command));
    }
    group
}

/// A fold after some commands, one an entry.
fn after<F: Fold + Default>(commands: impl IntoIterator<Item = F::Command>) -> F {
    after_at(Level::FIRST, commands)
}

fn after_at<F: Fold + Default>(level: Level, commands: impl IntoIterator<Item = F::Command>) -> F {
    let mut fold = F::default();
    for (entry, command) in (1..).zip(commands) {
        let moment = Moment {
            at: Position { entry, command: 0 },
            time: Millis(1_700_000_000_000),
            level,
        };
        fold.apply(moment, &command);
    }
    fold
}

/// Folds that version 1 has no word for.
pub(super) fn folds_of_2() -> Group {
    let mut group = Group::of(2);
    let commands = hub_commands().into_iter().map(|(_, command)| command);
    let hub: hub::Fold = after_at(Level::SECOND, commands);
    group.fold("hub-that-knows-messages-again", hub);
    let departed = hub_commands().into_iter().chain(hub_commands_of_2());
    let commands = departed.map(|(_, command)| command);
    let hub: hub::Fold = after_at(Level::SECOND, commands);
    group.fold("hub-with-somebody-to-remove", hub);
    let commands = user_commands().into_iter().map(|(_, command)| command);
    let user: user::fold::Fold = after_at(Level::SECOND, commands.take(10));
    group.fold("user-with-notices-of-another-provider", user);
    group
}

pub(super) fn folds() -> Group {
    let mut group = Group::default();
    let hub: hub::Fold = after(hub_commands().into_iter().map(|(_, command)| command));
    assert!(
        hub.room()
            .is_some_and(|room| room.epoch() == Epoch(1) && !room.pending().is_empty())
    );
    let follower: follower::Fold =
        after(follower_commands().into_iter().map(|(_, command)| command));
    assert!(follower.has_member(&bob()));
    let living = user_commands()
        .into_iter()
        .map(|(_, command)| command)
        .take(10);
    let living: user::fold::Fold = after(living);
    assert_eq!(living.clients().count(), 1);
    let deleted: user::fold::Fold = after(user_commands().into_iter().map(|(_, command)| command));
    assert_eq!(deleted.state(), user::fold::State::Deleted);
    group
        .fold("hub-absent", hub::Fold::default())
        .fold("hub", hub)
        .fold("follower-absent", follower::Fold::default())
        .fold("follower", follower)
        .fold("user-absent", user::fold::Fold::default())
        .fold("user", living)
        .fold("user-deleted", deleted)
        .add("links-none", Links::default())
        .add("links", links());
    group
}

fn links() -> Links {
    let mut links = Links::default();
    let at = Position {
        entry: 5,
        command: 2,
    };
    let outgoing = links.to(&Peer::Provider(provider()));
    for copy in [Copy::Full, Copy::Invitation, Copy::Own(SubmitSeq(7))] {
        outgoing.push(
            Owed::Events {
                room: room(),
                first: RoomSeq(300),
                copy,
            },
            2,
        );
    }
    let reason = SubmitRefused::Malformed;
    outgoing.push(
        Owed::Refused {
            room: room(),
            first: SubmitSeq(7),
            reason,
        },
        1,
    );
    let refilled = Refilled {
        requester: user_uri(),
        room: room(),
        client: alice(),
    };
    outgoing.push(Owed::Refilled(refilled), 1);
    let shard = links.to(&Peer::Shard(3));
    for change in [
        Change::Created,
        Change::Joined {
            after: RoomSeq(300),
        },
        Change::Left { upto: RoomSeq(300) },
    ] {
        let notice = UserNotice {
            user: user_uri(),
            clients: [bob()].into(),
            change,
            at,
            item: 1,
        };
        shard.push(
            Owed::Notice {
                room: room(),
                notice,
            },
            1,
        );
    }
    links.submissions_to(alice().provider()).push(SubmitRun {
        room: room(),
        sender: bob(),
        first: SubmitSeq(7),
        count: 2,
        at,
        item: 1,
    });
    for (_, command) in link_commands() {
        assert_eq!(links.apply(&command), Ok(()));
    }
    links
}
