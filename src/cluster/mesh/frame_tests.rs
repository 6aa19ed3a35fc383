//! The bytes of each frame between nodes: two nodes of one cluster may run two builds while it is brought up to date.

use super::*;
use crate::cluster::log::{batch::Batch, types::LogId};
use mimi_actors::{
    caller::{Caller, Principal},
    membership::Order,
    room::hub,
    shard::names::{GroupName, Taken},
    shard_request::{ShardReply, ShardRequest},
    user::command::Command as UserCommand,
    wire::{
        self, Payload,
        event::ClientSeq,
        joining::{CodesAsk, GroupInfoRequest},
        room::{self, Request},
        tree::TreeKind,
        user,
    },
};
use openraft::{CommittedLeaderId, EntryPayload};
use std::{fmt::Write as _, sync::Arc};

fn hex<T: Versioned>(version: u8, frame: &T) -> String {
    let mut text = String::new();
    for byte in wire::encode_in(version, frame, 256).unwrap() {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn log_id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(5, 2), index)
}

fn append() -> Rpc {
    let batch = Batch::new("commands".into(), Arc::new(()));
    Rpc::Append(AppendEntriesRequest {
        vote: Vote::new_committed(5, 2),
        prev_log_id: Some(log_id(8)),
        entries: vec![crate::cluster::log::types::Entry {
            log_id: log_id(9),
            payload: EntryPayload::Normal(batch),
        }],
        leader_commit: Some(log_id(7)),
    })
}

fn samples(version: u8) -> Vec<(&'static str, String)> {
    let hello = Hello {
        incarnation: [1; 16],
        starts: vec![[2; 16], [4; 16]].try_into().unwrap(),
        founding: Some([3; 32]),
        hub_key: [5; 32],
        address: Address::clipped("h:1"),
        waits: true,
        left: BVec::from([6]),
        reach: BVec::from([0, 300]),
        applied: BVec::from([None, Some(log_id(9).into())]),
    };
    let call = |rpc| Calls(vec![(1, RaftCall { shard: 3, rpc })]);
    let vote = VoteRequest::new(Vote::new(6, 1), Some(log_id(9)));
    let device = "mimi://a.example/d/alice/phone".parse().unwrap();
    let join = Wish::Join {
        node: 4,
        address: Address::clipped("h:1"),
    };
    let note = Note {
        id: [8; 16],
        wish: Wish::Leave { node: 4 },
    };
    let control = |control| hex(version, &Open::Control(control));
    let view = View {
        shard: 3,
        leader: 1,
        voters: [1, 2].into(),
        before: [1].into(),
        learners: [4].into(),
        addresses: [(1, "h:1".to_owned())].into(),
        changing: true,
        lag_entries: [(2, 300)].into(),
        newcomer: None,
    };
    let offer = Offer::new(
        3,
        &Vote::new_committed(5, 2),
        &SnapshotMeta::default(),
        vec![9],
    );
    let ask = |ask| Calls(vec![(2, ask)]);
    let to_room = |request| {
        let caller = Caller::of("mimi://b.example/d/bob/phone".parse().unwrap());
        let room = "mimi://a.example/r/den".parse().unwrap();
        hex(version, &ask(ShardRequest::Room(room, caller, request)))
    };
    let alice = || "mimi://a.example/u/alice".parse().unwrap();
    let bytes = |text: &'static str| Payload(text.into());
    let beginning = room::Beginning {
        group_info: bytes("info"),
        tree: bytes("tree").into(),
    };
    let bundle = room::Bundle {
        commit: bytes("commit"),
        welcome: Some(bytes("welcome")),
        group_info: bytes("info"),
        tree: bytes("tree").into(),
    };
    let proposals = BVec::from([bytes("p")]);
    let submit = hub::Submit {
        sender: "mimi://b.example/d/bob/phone".parse().unwrap(),
        via: hub::Via::Client(ClientSeq(7)),
        messages: BVec::from([bytes("x")]),
    };
    let group_info = GroupInfoRequest {
        room: "mimi://a.example/r/den".parse().unwrap(),
        joiner: "mimi://b.example/d/bob/phone".parse().unwrap(),
        id: [3; 16],
        time: Millis(300),
        ciphersuite: 1,
        hpke_key: bytes("hpke"),
        signature_key: bytes("key"),
        container: TreeKind::Full,
        wait_ms: 300,
        code: None,
        passphrase: None,
        signature: Payload::default(),
        envelope: Payload::default(),
        before: bytes("signature"),
    };
    let mut all = vec![
        ("create", to_room(Request::Create(beginning))),
        ("commit", to_room(Request::Commit(bundle))),
        ("propose", to_room(Request::Propose(proposals))),
        (
            "submit",
            hex(
                version,
                &ask(ShardRequest::Submit(
                    "mimi://a.example/r/den".parse().unwrap(),
                    submit,
                )),
            ),
        ),
        (
            "group info",
            to_room(Request::GroupInfo(Arc::new(group_info))),
        ),
        ("codes", to_room(Request::Codes(CodesAsk::List))),
        ("hello", hex(version, &Open::Hello(hello))),
        (
            "refused",
            hex(
                version,
                &Greeting::Refused {
                    ground: Ground::Diverged { shard: 3 },
                    why: Why::clipped("no"),
                },
            ),
        ),
        ("raft", hex(version, &Open::Raft)),
        ("forward", hex(version, &Open::Forward { shard: 3 })),
        ("append", hex(version, &call(append()))),
        ("vote", hex(version, &call(Rpc::Vote(vote)))),
        (
            "voted",
            hex(
                version,
                &Answers(vec![(
                    1,
                    RaftAnswer::Vote(VoteResponse::new(Vote::new(6, 1), Some(log_id(9)), true)),
                )]),
            ),
        ),
        (
            "appended",
            hex(
                version,
                &Answers(vec![(
                    1,
                    RaftAnswer::Append(AppendEntriesResponse::Success),
                )]),
            ),
        ),
        (
            "user",
            hex(
                version,
                &ask(ShardRequest::User(
                    alice(),
                    Principal::Operator,
                    user::Request::Delete,
                )),
            ),
        ),
        (
            "user log",
            hex(
                version,
                &ask(ShardRequest::UserLog(alice(), UserCommand::Delete)),
            ),
        ),
        ("ask", hex(version, &ask(ShardRequest::DeviceKey(device)))),
        (
            "answered",
            hex(version, &Answers(vec![(2, ShardReply::Nobody)])),
        ),
        ("take", control(Control::Take { shard: 3 })),
        ("give", control(Control::Give { shard: 3 })),
        (
            "look",
            control(Control::Look {
                shard: 3,
                wish: join.clone(),
            }),
        ),
        (
            "carry",
            control(Control::Carry {
                shard: 3,
                wish: join,
            }),
        ),
        ("view", control(Control::View { shard: 3 })),
        ("begin", control(Control::Begin { note: note.clone() })),
        (
            "over",
            control(Control::Note {
                id: [8; 16],
                wish: None,
            }),
        ),
        ("noted?", control(Control::Noted)),
        ("ping", control(Control::Ping)),
        ("would take", control(Control::WouldTake { shard: 3 })),
        (
            "reached",
            control(Control::Reached(BVec::from([(2, 3, 300)]))),
        ),
        (
            "next",
            hex(
                version,
                &ControlAnswer::Next(Next::Do(Order::Forget { node: 4 })),
            ),
        ),
        (
            "members",
            hex(version, &ControlAnswer::View(Box::new(view))),
        ),
        ("noted", hex(version, &ControlAnswer::Noted(Some(note)))),
        ("not led", hex(version, &ControlAnswer::NotLed(Some(2)))),
        ("offer", hex(version, &Open::Snapshot(offer.unwrap()))),
        (
            "want",
            hex(
                version,
                &Want::Piece {
                    file: 1,
                    offset: 300,
                },
            ),
        ),
        ("entries", hex(version, &Want::Entries(BVec::from([7])))),
        ("piece", hex(version, &Give::Piece(Payload("bytes".into())))),
        (
            "stored",
            hex(version, &Give::Entries(vec![(7, Payload("entry".into()))])),
        ),
        (
            "asks before",
            hex(version, &call(Rpc::PreVote(Some(log_id(9))))),
        ),
        (
            "would vote",
            hex(version, &Answers(vec![(1, RaftAnswer::PreVote(true))])),
        ),
        (
            "released",
            hex(version, &call(Rpc::Released(Vote::new_committed(5, 2)))),
        ),
        ("clock", hex(version, &Open::Control(Control::Clock))),
        (
            "time",
            hex(
                version,
                &ControlAnswer::Clock {
                    wall: Millis(300),
                    time: Millis(200),
                    running_ms: 100,
                },
            ),
        ),
        (
            "heard",
            hex(version, &Answers(vec![(1, RaftAnswer::Released)])),
        ),
        (
            "who follows",
            hex(version, &call(Rpc::Follow(Vote::new_committed(5, 2)))),
        ),
        (
            "follows",
            hex(version, &Answers(vec![(1, RaftAnswer::Follows(true))])),
        ),
    ];
    if version > 1 {
        let group = GroupName::of(b"group");
        let name = ShardRequest::Name(group, "mimi://a.example/r/den".parse().unwrap());
        let named = ShardReply::Named(Taken::Anothers);
        all.push(("name", hex(version, &ask(name))));
        all.push(("named", hex(version, &Answers(vec![(2, named)]))));
    }
    all
}

/// What each version writes. A frame that changes needs a new version, or nodes of two builds misunderstand each other:
/// what it was before stays in `actors/upgrade`.
const WRITTEN: [(u8, &str); 2] = [
    (1, include_str!("../../../tests/golden/cluster-1.txt")),
    (2, include_str!("../../../tests/golden/cluster-2.txt")),
];

#[test]
fn frames_between_nodes_are_written_as_they_were() {
    assert_eq!(WRITTEN.len(), CLUSTER.versions().count());
    for (version, written) in WRITTEN {
        let mut found = String::new();
        for (name, bytes) in samples(version) {
            writeln!(found, "{name}: {bytes}").unwrap();
        }
        assert_eq!(
            found, written,
            "what version {version} writes now:\n{found}"
        );
    }
}

#[test]
fn an_entry_in_a_frame_is_read_as_a_slice_of_the_frame() {
    let frame = wire::encode(&Calls(vec![(
        1,
        RaftCall {
            shard: 3,
            rpc: append(),
        },
    )]));
    let Calls(calls) = wire::decode::<Calls<RaftCall>>(&frame).unwrap();
    let [
        (
            1,
            RaftCall {
                shard: 3,
                rpc: Rpc::Append(append),
            },
        ),
    ] = calls.as_slice()
    else {
        panic!("{calls:?}");
    };
    let EntryPayload::Normal(batch) = &append.entries[0].payload else {
        panic!("{append:?}");
    };
    let (whole, slice) = (frame.as_ptr_range(), batch.bytes().as_ptr_range());
    assert!(
        whole.start <= slice.start && slice.end <= whole.end,
        "a copy was made"
    );
    assert_eq!(batch.bytes(), "commands");
}
