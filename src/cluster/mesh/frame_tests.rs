//! The bytes of each frame between nodes: two nodes of one cluster may run two builds while it is brought up to date.

use super::*;
use crate::cluster::{batch::Batch, raft::LogId};
use mimi_actors::{
    ask::{Answered, Ask},
    membership::Order,
    wire::{self, Payload},
};
use openraft::{CommittedLeaderId, EntryPayload};
use std::{fmt::Write as _, sync::Arc};

fn hex<T: Serialize>(frame: &T) -> String {
    let mut text = String::new();
    for byte in wire::encode(frame) {
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
        entries: vec![crate::cluster::raft::Entry {
            log_id: log_id(9),
            payload: EntryPayload::Normal(batch),
        }],
        leader_commit: Some(log_id(7)),
    })
}

fn samples() -> Vec<(&'static str, String)> {
    let hello = Hello {
        incarnation: [1; 16],
        starts: vec![[2; 16], [4; 16]].try_into().unwrap(),
        founding: Some([3; 32]),
        hub_key: [5; 32],
        address: Address::clipped("h:1"),
        waits: true,
        left: BVec::truncated(vec![6]),
        reach: BVec::truncated(vec![0, 300]),
        applied: BVec::truncated(vec![None, Some(log_id(9).into())]),
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
    let control = |control| hex(&Open::Control(control));
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
    vec![
        ("hello", hex(&Open::Hello(hello))),
        (
            "refused",
            hex(&Greeting::Refused {
                ground: Ground::Diverged { shard: 3 },
                why: Why::clipped("no"),
            }),
        ),
        ("raft", hex(&Open::Raft)),
        ("forward", hex(&Open::Forward { shard: 3 })),
        ("append", hex(&call(append()))),
        ("vote", hex(&call(Rpc::Vote(vote)))),
        (
            "voted",
            hex(&Answers(vec![(
                1,
                RaftAnswer::Vote(VoteResponse::new(Vote::new(6, 1), Some(log_id(9)), true)),
            )])),
        ),
        (
            "appended",
            hex(&Answers(vec![(
                1,
                RaftAnswer::Append(AppendEntriesResponse::Success),
            )])),
        ),
        ("ask", hex(&Calls(vec![(2, Ask::DeviceKey(device))]))),
        ("answered", hex(&Answers(vec![(2, Answered::Nobody)]))),
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
            control(Control::Reached(BVec::truncated(vec![(2, 3, 300)]))),
        ),
        (
            "next",
            hex(&ControlAnswer::Next(Next::Do(Order::Forget { node: 4 }))),
        ),
        ("members", hex(&ControlAnswer::View(Box::new(view)))),
        ("noted", hex(&ControlAnswer::Noted(Some(note)))),
        ("not led", hex(&ControlAnswer::NotLed(Some(2)))),
        ("offer", hex(&Open::Snapshot(offer.unwrap()))),
        (
            "want",
            hex(&Want::Piece {
                file: 1,
                offset: 300,
            }),
        ),
        ("entries", hex(&Want::Entries(BVec::truncated(vec![7])))),
        ("piece", hex(&Give::Piece(Payload("bytes".into())))),
        (
            "stored",
            hex(&Give::Entries(vec![(7, Payload("entry".into()))])),
        ),
        ("asks before", hex(&call(Rpc::PreVote(Some(log_id(9)))))),
        (
            "would vote",
            hex(&Answers(vec![(1, RaftAnswer::PreVote(true))])),
        ),
        (
            "released",
            hex(&call(Rpc::Released(Vote::new_committed(5, 2)))),
        ),
        ("clock", hex(&Open::Control(Control::Clock))),
        (
            "time",
            hex(&ControlAnswer::Clock {
                wall: Millis(300),
                time: Millis(200),
                running_ms: 100,
            }),
        ),
        ("heard", hex(&Answers(vec![(1, RaftAnswer::Released)]))),
        (
            "who follows",
            hex(&call(Rpc::Follow(Vote::new_committed(5, 2)))),
        ),
        (
            "follows",
            hex(&Answers(vec![(1, RaftAnswer::Follows(true))])),
        ),
    ]
}

/// What this version writes. A frame that changes needs a new version, or nodes of two builds misunderstand each other.
const WRITTEN: &str = include_str!("../../../tests/golden/cluster_frames.txt");

#[test]
fn frames_between_nodes_are_written_as_they_were() {
    let mut found = String::new();
    for (name, bytes) in samples() {
        writeln!(found, "{name}: {bytes}").unwrap();
    }
    assert_eq!(found, WRITTEN, "what is written now:\n{found}");
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
