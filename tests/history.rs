//! A run of real nodes is recorded, and `mimi-node verify` judges it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests stop at what they did not expect"
)]

mod support;

use mimi_actors::{
    ids::RoomUri,
    wire::event::{Epoch, RoomSeq},
};
use mimi_node::{
    client::member::{MemberError, new_claim_id, packages},
    history::{Delivered, Digest, Event, Invariant, Line},
};
use std::{io::Write as _, time::Duration};
use support::{
    Net,
    history::{Chronicle, Watched},
    room,
};

const A: &str = "a.example";
const B: &str = "b.example";
/// What a run of single nodes can show; the others are about several nodes of a provider, and about damaged disks.
const SHOWN: [Invariant; 8] = [
    Invariant::I1,
    Invariant::I2,
    Invariant::I3,
    Invariant::I10,
    Invariant::I11,
    Invariant::I14,
    Invariant::I15,
    Invariant::I26,
];
/// How long delivery may take after a fault, in seconds.
const WITHIN_S: u64 = 60;

/// alice and amy of the hub's provider, bob of another; all in one room.
struct Cast {
    net: Net,
    chronicle: Chronicle,
    den: RoomUri,
    alice: Watched,
    amy: Watched,
    bob: Watched,
}

impl Cast {
    async fn gather() -> Self {
        let net = Net::start(&[A, B]).await;
        let chronicle = Chronicle::create(net.path("history"));
        let den = room("den", A);
        let alice = net.member("alice", "phone", A).await;
        let mut amy = net.member("amy", "phone", A).await;
        let mut bob = net.member("bob", "phone", B).await;
        for (name, member, provider) in [("amy", &mut amy, A), ("bob", &mut bob, B)] {
            let consent = net.node(provider);
            consent.consent(name, alice.client().user(), None).await;
            assert_eq!(member.upload(5).await.unwrap(), 5);
        }
        let mut alice = chronicle.watch(alice, A);
        let mut amy = chronicle.watch(amy, A);
        let mut bob = chronicle.watch(bob, B);
        alice.create_room(&den).await.unwrap();
        let users = [&amy, &bob].map(|one| one.member.client().user().clone());
        let claim = new_claim_id().unwrap();
        let claimed = alice.claim(claim, &den, &users).await.unwrap();
        assert_eq!(alice.claim(claim, &den, &users).await.unwrap(), claimed);
        let add = alice.member.prepare_add(&den, &packages(&claimed)).unwrap();
        let added = [&amy, &bob].map(|one| one.member.client().clone());
        alice.commit(&add, &added, &[]).await.unwrap();
        for one in [&mut alice, &mut amy, &mut bob] {
            let entered = |member: &_| epoch(member, &room("den", A)) == Some(Epoch(1));
            one.read_until("epoch 1", entered).await;
        }
        Self {
            net,
            chronicle,
            den,
            alice,
            amy,
            bob,
        }
    }

    /// Each says something; everybody reads all of it.
    async fn talk(&mut self, text: &str) {
        let den = self.den.clone();
        for one in [&mut self.alice, &mut self.amy, &mut self.bob] {
            one.send(&den, &[text, text]).await.unwrap();
        }
        self.catch_up(6).await;
    }

    /// Everybody reads on until all messages that were sent and the last Commit have come, `more` messages among them.
    async fn catch_up(&mut self, more: usize) {
        let den = self.den.clone();
        let before = self.amy.member.received(&den).len();
        let all = |member: &support::history::MemberAlias| {
            member.received(&den).len() >= before + more && member.unresolved(&den).is_empty()
        };
        self.amy.read_until("all messages", all).await;
        let last = self.amy.member.last_seq(&den);
        for one in [&mut self.alice, &mut self.bob] {
            one.read_upto(&den, last).await;
        }
    }
}
