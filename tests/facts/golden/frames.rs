//! Frames of the provider link and of the client door, and every refusal.

use super::{Group, samples::*};
use mimi_actors::{
    machine::Millis,
    wire::{
        BText,
        answer::{Answer, Refused},
        claim::{ClaimResponse, ClaimedUser, ClientRefused, UserRefused},
        door,
        event::{
            ClientSeq, Epoch, InboxSeq, Item, LinkSeq, RoomSeq, SubmitRefused, SubmitSeq, Verdict,
        },
        joining::{Introduced, IntroductionsAsk},
        link as frames,
        post::{DepartedWhy, Note},
        refusal::{Flaw, RefusalCode, TryLater},
        room::{Beginning, Bundle, Proposals, Request},
        tree::TreeContainer,
        user,
    },
};
use std::sync::Arc;

/// The answers of a version, and whether it is written by this build: version 1 has three more, which are read as nothing.
fn answers_of(version: u8) -> Vec<(&'static str, Answer, bool)> {
    let nothing = || Answer::Refused(Refused::TryLater(TryLater::UNANSWERED));
    let mut all: Vec<_> = answers()
        .into_iter()
        .map(|(name, answer)| (name, answer, true))
        .collect();
    if version == 1 {
        let last = all.pop().unwrap();
        let read = ["stale", "granted", "code-kept"];
        all.extend(read.map(|name| (name, nothing(), false)));
        all.push(last);
    }
    all
}

pub(super) fn link_frames(version: u8) -> Group {
    let mut group = Group::of(version);
    let hello = frames::Hello {
        versions: list(vec![1]),
        node: 3,
        features: list(vec![BText::clipped("status")]),
    };
    let alone = Bundle {
        welcome: None,
        ..bundle()
    };
    let containers = [
        TreeContainer::Zstd(some("frame")),
        TreeContainer::Delta(some("delta")),
        TreeContainer::DistributionService,
        TreeContainer::Reference(BText::clipped("https://trees.b.example/1")),
    ];
    let request = |request| frames::Open::Request(Box::new(request));
    let to_room = |asked| {
        request(frames::Request::Room {
            room: room(),
            client: bob(),
            request: asked,
        })
    };
    let group_info = Request::GroupInfo(Arc::new(group_info_request(version)));
    let one_shard = frames::Open::OneShard { shard: 15 };
    let (open_fanout, open_submit) = match version {
        1 => (one_shard, frames::Open::OneShardSubmits),
        _ => (frames::Open::Fanout, frames::Open::Submit),
    };
    group
        .frame("open-control", frames::Open::Control(hello.clone()))
        .frame(
            "open-claim",
            request(frames::Request::Claim(claim(version))),
        )
        .frame(
            "open-relayed",
            request(frames::Request::Relayed(claim(version))),
        )
        .frame(
            "open-vouch",
            request(frames::Request::Vouch {
                client: bob(),
                key: [7; 32],
            }),
        )
        .frame("open-commit", to_room(Request::Commit(bundle())))
        .frame("open-commit-alone", to_room(Request::Commit(alone.clone())))
        .frame("open-propose", to_room(Request::Propose(proposals())))
        .frame("open-group-info", to_room(group_info))
        .frame("open-codes", to_room(Request::Codes(codes())))
        .frame(
            "open-resolve",
            request(frames::Request::Resolve(some("code"))),
        )
        .frame("open-fanout", open_fanout)
        .frame("open-submit", open_submit)
        .frame("hello", hello)
        .frame("reply-claimed", frames::Reply::Claimed(claimed()))
        .frame("reply-vouched", frames::Reply::Vouched(true))
        .frame(
            "reply-refused",
            frames::Reply::Refused(frames::LinkRefused::NotOwner),
        );
    for tree in containers {
        let name = format!("open-commit-tree-{}", tree.kind().name());
        let commit = Bundle {
            tree,
            ..alone.clone()
        };
        group.frame(name, to_room(Request::Commit(commit)));
    }
    for (name, answer, is_written) in answers_of(version) {
        let reply = frames::Reply::Room(answer);
        group.frame_or_read(format!("reply-room-{name}"), reply, is_written);
    }
    for (name, item) in items() {
        let items = list(vec![item]);
        let groups = list(vec![frames::FanoutGroup {
            room: room(),
            items,
        }]);
        let first = LinkSeq(1_000_000);
        group.frame(format!("fanout-{name}"), frames::Fanout { first, groups });
    }
    let refused = list(vec![frames::RoomRefused {
        room: room(),
        detail: text(),
    }]);
    let submit = frames::SubmitGroup {
        room: room(),
        sender: bob(),
        first: SubmitSeq(7),
        undecided: SubmitSeq(1),
        messages: list(vec![some("x"), some("y")]),
    };
    group
        .frame(
            "ack",
            frames::Ack {
                upto: LinkSeq(1_000_000),
                refused: list(vec![]),
                credit_bytes: 1 << 20,
                retry_after_ms: None,
            },
        )
        .frame(
            "ack-refused",
            frames::Ack {
                upto: LinkSeq(1),
                refused,
                credit_bytes: 0,
                retry_after_ms: None,
            },
        )
        .frame(
            "ack-later",
            frames::Ack {
                upto: LinkSeq(1),
                refused: list(vec![]),
                credit_bytes: 0,
                retry_after_ms: Some(5_000),
            },
        )
        .frame(
            "submit",
            frames::Submit {
                groups: list(vec![submit]),
            },
        )
        .frame("submitted", frames::Submitted::default());
    for (name, reason) in submit_refusals(version) {
        let rejected = frames::SubmitRejected {
            room: room(),
            first: SubmitSeq(7),
            count: 2,
            reason,
        };
        let gap = frames::SubmitGap {
            room: room(),
            expected: SubmitSeq(5),
        };
        let submitted = frames::Submitted {
            refused: list(vec![rejected]),
            gaps: list(vec![gap]),
            retry_after_ms: Some(500),
        };
        group.frame(format!("submitted-{name}"), submitted);
    }
    if version > 1 {
        on_a_shared_lane(&mut group);
    }
    group
}

/// Frames of a lane that shards share, and how the lanes of version 1 are opened, which a later one may be told to.
fn on_a_shared_lane(group: &mut Group) {
    fn of_shard<T>(said: T) -> frames::OfShard<T> {
        frames::OfShard {
            shard: 1_023,
            session: 1_000_000,
            said,
        }
    }
    let first = LinkSeq(1);
    let (groups, none) = (list(vec![]), list(vec![]));
    let departed = Item::Departed {
        client: bob(),
        why: DepartedWhy::Deleted,
    };
    let departed = frames::FanoutGroup {
        room: room(),
        items: list(vec![departed]),
    };
    let departed = frames::Fanout {
        first,
        groups: list(vec![departed]),
    };
    group.frame("fanout-departed", departed);
    let ack = frames::Ack {
        upto: first,
        refused: list(vec![]),
        credit_bytes: 1 << 20,
        retry_after_ms: None,
    };
    group
        .frame("shard-fanout", of_shard(frames::Fanout { first, groups }))
        .frame("shard-ack", of_shard(ack))
        .frame("shard-submit", of_shard(frames::Submit { groups: none }))
        .frame("shard-submitted", of_shard(frames::Submitted::default()))
        .frame("open-one-shard", frames::Open::OneShard { shard: 15 })
        .frame("open-one-shard-submits", frames::Open::OneShardSubmits);
}

fn bundle() -> Bundle {
    Bundle {
        commit: some("commit"),
        welcome: Some(some("welcome")),
        group_info: some("info"),
        tree: TreeContainer::Full(some("tree")),
    }
}

fn proposals() -> Proposals {
    list(vec![some("p")])
}

fn door_requests(version: u8) -> Vec<(&'static str, door::Request)> {
    let enrol = door::Enrol {
        code: BText::clipped("code"),
        client: bob(),
        device_key: [7; 32],
        proof: some("proof"),
    };
    let login = door::Login {
        client: bob(),
        proof: some("proof"),
    };
    let beginning = Beginning {
        group_info: some("info"),
        tree: TreeContainer::Full(some("tree")),
    };
    let to_user = door::Request::User;
    let to_room = |asked| door::Request::Room(room(), asked);
    let group_info = Request::GroupInfo(Arc::new(group_info_request(version)));
    let mut all = vec![
        ("enrol", door::Request::Enrol(enrol)),
        ("login", door::Request::Login(login)),
        ("hub-sender", door::Request::HubSender),
        ("upload", door::Request::Upload(list(vec![some("package")]))),
        ("claim", door::Request::Claim(claim(version))),
        ("create", to_room(Request::Create(beginning))),
        ("commit", to_room(Request::Commit(bundle()))),
        ("propose", to_room(Request::Propose(proposals()))),
        ("group-info", to_room(group_info)),
        ("codes", to_room(Request::Codes(codes()))),
        (
            "introduction",
            to_user(user::Request::Introductions(IntroductionsAsk::List)),
        ),
        (
            "resolve",
            door::Request::Resolve {
                provider: provider(),
                code: some("code"),
            },
        ),
    ];
    if version > 1 {
        let asked = door::Verdicts {
            room: room(),
            first: ClientSeq(7),
            count: 3,
            wait_ms: 300,
        };
        all.push(("verdicts", door::Request::Verdicts(asked)));
    }
    all
}

pub(super) fn door_frames(version: u8) -> Group {
    let mut group = Group::of(version);
    for (name, request) in door_requests(version) {
        group.frame(
            format!("open-{name}"),
            door::Open::Request(Box::new(request)),
        );
    }
    let hub_sender = door::HubSender {
        provider: provider(),
        signature_key: [5; 32],
    };
    let uploaded = list(vec![Ok(()), Err(door::PackageRefused::Duplicate)]);
    group
        .frame("open-sends", door::Open::Sends)
        .frame("open-events", door::Open::Events(door::Order::ControlFirst))
        .frame("reply-logged-in", door::Reply::LoggedIn)
        .frame("reply-hub-sender", door::Reply::HubSender(hub_sender))
        .frame("reply-uploaded", door::Reply::Uploaded(uploaded))
        .frame("reply-claimed", door::Reply::Claimed(claimed()))
        .frame(
            "reply-introduced",
            door::Reply::User(user::Answer::Introduced(Introduced::Revoked)),
        )
        .frame(
            "reply-refused",
            door::Reply::Refused(door::DoorRefused::NotKnown),
        );
    let first = ClientSeq(7);
    for (name, answer, is_written) in answers_of(version) {
        let reply = door::Reply::Room(answer.clone());
        group.frame_or_read(format!("reply-room-{name}"), reply, is_written);
        let sent = door::Sent {
            room: room(),
            first,
            answer: Ok(answer),
        };
        group.frame_or_read(format!("sent-{name}"), sent, is_written);
    }
    let answer = Err(door::DoorRefused::NotLoggedIn);
    let messages = list(vec![some("x"), some("y")]);
    group
        .frame(
            "sent-not-looked-at",
            door::Sent {
                room: room(),
                first,
                answer,
            },
        )
        .frame(
            "send",
            door::Send {
                room: room(),
                first,
                messages,
            },
        );
    let events = |item| door::Events {
        items: list(vec![item]),
    };
    for (name, body, own) in [
        (
            "application",
            door::RoomBody::Application(some("message")),
            Some(first),
        ),
        (
            "proposals",
            door::RoomBody::Proposals(list(vec![some("p")])),
            None,
        ),
        (
            "commit",
            door::RoomBody::Commit {
                epoch: Epoch(3),
                commit: some("commit"),
            },
            None,
        ),
    ] {
        let (seq, time) = (RoomSeq(300), Millis(1_700_000_000_000));
        let seen = list(vec![door::RoomEvent {
            seq,
            time,
            own,
            body,
        }]);
        let item = door::DoorItem::Room {
            room: room(),
            events: seen,
        };
        group.frame(format!("events-{name}"), events(item));
    }
    for (name, notice) in notices() {
        let item = door::DoorItem::Inbox {
            seq: InboxSeq(2),
            room: room(),
            notice,
        };
        group.frame(format!("events-inbox-{name}"), events(item));
    }
    for (name, note) in [
        ("low-stock", Note::LowStock { left: 40 }),
        ("last-resort-used", Note::LastResortUsed),
        (
            "refilled",
            Note::Refilled {
                room: room(),
                client: bob(),
            },
        ),
    ] {
        let item = door::DoorItem::Note {
            seq: InboxSeq(2),
            note,
        };
        group.frame(format!("events-note-{name}"), events(item));
    }
    if group.version > 1 {
        let missed = door::DoorItem::Note {
            seq: InboxSeq(2),
            note: Note::Missed { room: room() },
        };
        group.frame("events-note-missed", events(missed));
    }
    for (name, verdict) in [
        ("queued", Verdict::Queued),
        ("accepted", placed()),
        ("refused", Verdict::Refused(SubmitRefused::Malformed)),
    ] {
        let run = word(verdict);
        let item = door::DoorItem::Verdict { room: room(), run };
        group.frame(format!("events-verdict-{name}"), events(item));
    }
    let gap = door::DoorItem::Gap {
        room: room(),
        from: RoomSeq(1),
        upto: RoomSeq(300),
    };
    group.frame("events-gap", events(gap));
    let acks = door::Acks {
        inbox: Some(InboxSeq(2)),
        rooms: list(vec![(room(), RoomSeq(300))]),
        control: list(vec![(room(), RoomSeq(301))]),
    };
    group
        .frame("acks", acks)
        .frame("acks-none", door::Acks::default());
    group
}

/// Refusals with which to come again: each by itself, as version 1 had them, or in one.
fn later<T>(version: u8, refused: fn(TryLater) -> T) -> Vec<(&'static str, T)> {
    let later = [
        ("overloaded", TryLater::overloaded(500)),
        ("unavailable", TryLater::unavailable(500)),
    ];
    let one = [("try-later", TryLater::overloaded(500))];
    let of_version = if version == 1 {
        later.to_vec()
    } else {
        one.to_vec()
    };
    let named = of_version.into_iter();
    named.map(|(name, later)| (name, refused(later))).collect()
}

/// A flaw; version 1 named neither a field nor a place.
fn flaw(version: u8, code: RefusalCode) -> Flaw {
    let flaw = Flaw::new(code, "why");
    if version == 1 {
        flaw
    } else {
        flaw.in_field("bundle.tree").at_byte(Some(300))
    }
}

fn room_refusals(version: u8) -> Vec<(&'static str, Refused)> {
    let retry_after_ms = 500;
    let references = || list(vec![some("reference")]);
    let mut all = vec![
        ("not-authorized", Refused::NotAuthorized),
        ("not-member", Refused::NotMember),
        ("exists", Refused::Exists),
        (
            "wrong-epoch",
            Refused::WrongEpoch {
                current: Epoch(9),
                winner: hash(),
            },
        ),
        (
            "unknown-proposals",
            Refused::UnknownProposals {
                references: references(),
            },
        ),
        (
            "invalid-proposals",
            Refused::InvalidProposals {
                references: references(),
                detail: text(),
            },
        ),
        (
            "omitted-proposals",
            Refused::OmittedProposals {
                references: references(),
            },
        ),
        ("ended", Refused::Ended),
        (
            "invalid",
            Refused::Invalid(flaw(version, RefusalCode::TreeMismatch)),
        ),
        (
            "too-many",
            Refused::TooMany {
                what: text(),
                max: 20,
            },
        ),
        (
            "busy",
            Refused::Busy {
                place: 2,
                expected_wait_ms: 9_000,
            },
        ),
        ("limited", Refused::Limited { retry_after_ms }),
        (
            "peer-behind",
            Refused::PeerBehind {
                provider: provider(),
                retry_after_ms,
            },
        ),
        ("lease-required", Refused::LeaseRequired),
        ("lease-expired", Refused::LeaseExpired),
    ];
    all.extend(later(version, Refused::TryLater));
    all.push(("storage-full", Refused::StorageFull));
    all.push(("poisoned", Refused::Poisoned));
    if version > 1 {
        let provider = provider();
        all.push(("provider-unknown", Refused::ProviderUnknown { provider }));
    }
    all
}

fn link_refusals(version: u8) -> Vec<(&'static str, frames::LinkRefused)> {
    let bad = flaw(version, RefusalCode::BadFrame);
    let mut all = vec![
        ("sender-not-bound", frames::LinkRefused::SenderNotBound),
        ("not-owner", frames::LinkRefused::NotOwner),
        ("bad-frame", frames::LinkRefused::BadFrame(bad)),
    ];
    all.extend(later(version, frames::LinkRefused::TryLater));
    all
}

fn door_refusals(version: u8) -> Vec<(&'static str, door::DoorRefused)> {
    let bad = flaw(version, RefusalCode::BadFrame);
    let mut all = vec![
        ("not-logged-in", door::DoorRefused::NotLoggedIn),
        ("not-known", door::DoorRefused::NotKnown),
        (
            "not-enrolled",
            door::DoorRefused::NotEnrolled { detail: text() },
        ),
        (
            "sender-not-bound",
            door::DoorRefused::SenderNotBound { detail: text() },
        ),
        ("bad-frame", door::DoorRefused::BadFrame(bad)),
    ];
    all.extend(later(version, door::DoorRefused::TryLater));
    all.push(("storage-full", door::DoorRefused::StorageFull));
    if version > 1 {
        let provider = provider();
        let unknown = door::DoorRefused::ProviderUnknown { provider };
        all.push(("provider-unknown", unknown));
    }
    all
}

fn package_refusals() -> Vec<(&'static str, door::PackageRefused)> {
    vec![
        ("invalid", door::PackageRefused::Invalid { detail: text() }),
        ("duplicate", door::PackageRefused::Duplicate),
        ("full", door::PackageRefused::Full { max: 200 }),
    ]
}

fn claim_refusals(version: u8) -> Vec<(&'static str, UserRefused)> {
    let retry_after_ms = 500;
    let mut all = vec![
        ("unknown", UserRefused::Unknown),
        ("deleted", UserRefused::Deleted),
        ("no-consent", UserRefused::NoConsent),
        ("incompatible-protocol", UserRefused::IncompatibleProtocol),
        ("foreign-user", UserRefused::ForeignUser),
        ("unsigned", UserRefused::Unsigned),
        ("not-relayed", UserRefused::NotRelayed),
        ("limited", UserRefused::Limited { retry_after_ms }),
        ("answer-full", UserRefused::AnswerFull),
        ("conflict", UserRefused::Conflict),
    ];
    all.extend(
        later(version, UserRefused::TryLater)
            .into_iter()
            // Version 1 had no claim that found a node with too much to do.
            .filter(|(name, _)| *name != "overloaded"),
    );
    if version > 1 {
        all.push(("provider-unknown", UserRefused::ProviderUnknown));
    }
    all
}

fn client_refusals() -> Vec<(&'static str, ClientRefused)> {
    vec![
        ("none-compatible", ClientRefused::NoneCompatible),
        ("exhausted", ClientRefused::Exhausted),
    ]
}

/// Every refusal as version 1 had it: those that are otherwise today inside of the frame that brings them.
pub(super) fn refusals_of_1() -> Group {
    let mut group = Group::of(1);
    for (name, refused) in room_refusals(1) {
        let reply = door::Reply::Room(Answer::Refused(refused));
        group.in_frame(format!("room-{name}"), reply, &[1, 4, 13]);
    }
    for (name, reason) in submit_refusals(1) {
        group.add(format!("submit-{name}"), reason);
    }
    for (name, refused) in link_refusals(1) {
        let reply = frames::Reply::Refused(refused);
        group.in_frame(format!("link-{name}"), reply, &[1, 4]);
    }
    for (name, refused) in door_refusals(1) {
        let reply = door::Reply::Refused(refused);
        group.in_frame(format!("door-{name}"), reply, &[1, 6]);
    }
    group.every("package", package_refusals());
    for (name, refused) in claim_refusals(1) {
        let user = user_uri();
        let uri = user.to_string();
        // The answer to a claim with one user, who is refused.
        let mut before = vec![1, 0, 1, u8::try_from(uri.len()).unwrap()];
        before.extend_from_slice(uri.as_bytes());
        before.push(1);
        let result = Err(refused);
        let users = list(vec![ClaimedUser { user, result }]);
        let reply = frames::Reply::Claimed(ClaimResponse { users });
        group.in_frame(format!("claim-user-{name}"), reply, &before);
    }
    group.every("claim-client", client_refusals());
    group
}

/// Every refusal of today.
pub(super) fn refusals() -> Group {
    let mut group = Group::default();
    group.every("room", room_refusals(2));
    group.every("submit", submit_refusals(2));
    group.every("link", link_refusals(2));
    group.every("door", door_refusals(2));
    group.every("package", package_refusals());
    group.every("claim-user", claim_refusals(2));
    group.every("claim-client", client_refusals());
    for code in RefusalCode::ALL {
        group.add(format!("code-{code}"), *code);
    }
    group
}

/// Every answer of a room.
pub(super) fn room_answers() -> Group {
    let mut group = Group::default();
    group.every("answer", answers());
    group
}
