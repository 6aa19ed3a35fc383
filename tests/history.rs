//! A run of real nodes is recorded, and `mimi-node verify` judges it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests stop at what they did not expect"
)]

mod support;

use mimi_actors::{ids::RoomUri, wire::event::Epoch};
use mimi_history::{Delivered, Digest, Event, Invariant, Line, RoomSeq};
use mimi_node::client::member::{MemberError, new_claim_id, packages};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use support::{
    Net, WAIT,
    history::{Chronicle, Watched, named},
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
/// How long a client waits before it sends again what found somebody unavailable.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// alice and amy of the hub's provider, bob of another; all in one room.
struct Cast {
    net: Net,
    chronicle: Chronicle,
    den: RoomUri,
    alice: Watched,
    amy: Watched,
    bob: Watched,
    /// How many messages were said.
    said: usize,
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
            one.read_until("epoch 1", |member| member.epoch(&den) == Some(Epoch(1)))
                .await;
        }
        Self {
            net,
            chronicle,
            den,
            alice,
            amy,
            bob,
            said: 0,
        }
    }

    /// Each says something; everybody reads all that was ever said.
    async fn talk(&mut self, text: &str) {
        for one in [&mut self.alice, &mut self.amy, &mut self.bob] {
            one.send(&self.den, &[text, text]).await.unwrap();
            self.said += 2;
        }
        self.read(self.alice.member.epoch(&self.den)).await;
    }

    /// Everybody reads all that was ever said, and enters this epoch.
    async fn read(&mut self, epoch: Option<Epoch>) {
        let (den, said) = (&self.den, self.said);
        for one in [&mut self.alice, &mut self.amy, &mut self.bob] {
            one.read_until("everything", |member| {
                member.received(den).len() == said
                    && member.epoch(den) == epoch
                    && member.unresolved(den).is_empty()
            })
            .await;
        }
        // An own Commit is merged with its answer; its event comes later.
        let members = [&self.alice, &self.amy, &self.bob].map(|one| one.member.last_seq(den));
        let last = members.into_iter().max().unwrap();
        for one in [&mut self.alice, &mut self.amy, &mut self.bob] {
            one.read_upto(den, last).await;
        }
    }

    async fn reconnect(&mut self, provider: &str) {
        let door = self.net.node(provider).door;
        for one in [&mut self.alice, &mut self.amy, &mut self.bob] {
            if one.member.client().provider().as_str() == provider {
                one.reconnect(&self.net.dialer, door).await;
            }
        }
    }

    /// alice and bob commit at once: one of them wins, and it is told again when it asks again.
    async fn contest(&mut self) {
        let den = self.den.clone();
        let hers = self.alice.member.prepare_update(&den).unwrap();
        let his = self.bob.member.prepare_update(&den).unwrap();
        let (first, second) = futures::join!(
            self.alice.commit(&hers, &[], &[]),
            self.bob.commit(&his, &[], &[])
        );
        let won = match (first, second) {
            (Ok(accepted), Err(MemberError::Lost { .. })) => {
                let again = self.alice.commit(&hers, &[], &[]).await.unwrap();
                assert_eq!(again, accepted);
                accepted
            }
            (Err(MemberError::Lost { .. }), Ok(accepted)) => accepted,
            other => panic!("{other:?}"),
        };
        self.read(Some(won.epoch)).await;
    }

    /// The hub is killed while bob, of another provider, commits and alice sends.
    async fn kill_amid_a_commit(&mut self) {
        let den = self.den.clone();
        let update = self.bob.member.prepare_update(&den).unwrap();
        let (chronicle, net) = (&self.chronicle, &mut self.net);
        let (committed, sent, ()) = futures::join!(
            self.bob.commit(&update, &[], &[]),
            self.alice.send(&den, &["cut", "off"]),
            async {
                tokio::task::yield_now().await;
                chronicle.kill(net, A);
                // Those who wait learn from the node that came back that it has forgotten them.
                chronicle.restart(net, A).await;
            }
        );
        println!("at the kill: {committed:?}, {sent:?}");
        self.said += 2;
        self.reconnect(A).await;
        // If nobody knows what became of it, the same Commit is sent again.
        let deadline = Instant::now() + WAIT;
        while let Err(error) = self.bob.commit(&update, &[], &[]).await {
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(RETRY_AFTER).await;
        }
        self.read(Some(update.epoch)).await;
    }
}

fn code(path: &Path, only: &[Invariant]) -> (Option<i32>, String) {
    let output = Chronicle::verify(path, only, WITHIN_S);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_with_kills_and_a_contested_epoch_is_valid_and_a_forged_one_is_not() {
    let mut cast = Cast::gather().await;
    cast.talk("before").await;
    cast.contest().await;
    for provider in [A, B] {
        cast.chronicle.states(cast.net.node(provider)).await;
        cast.chronicle.kill(&mut cast.net, provider);
        cast.chronicle.restart(&mut cast.net, provider).await;
        cast.chronicle.states(cast.net.node(provider)).await;
        cast.reconnect(provider).await;
        cast.talk("after").await;
    }
    cast.kill_amid_a_commit().await;
    cast.talk("at last").await;
    assert!(cast.net.errors().is_empty(), "{:?}", cast.net.errors());

    let path = &cast.chronicle.path;
    let (shown, said) = code(path, &SHOWN);
    assert_eq!(shown, Some(0), "{said}");
    let (all, said) = code(path, &[]);
    assert_eq!(all, Some(2), "{said}");
    for missing in ["I27  unknown", "I28  unknown", "I32  unknown"] {
        assert!(said.contains(missing), "{said}");
    }

    let text = std::fs::read_to_string(path).unwrap();
    let last: Line = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let delivered = Delivered {
        client: named(cast.amy.member.client()),
        room: named(&cast.den),
        seq: RoomSeq(1),
        id: Digest::of(b"another Commit"),
        epoch: Some(mimi_history::Epoch(1)),
        again: false,
    };
    let forged = Line {
        i: last.i + 1,
        t_mono_ns: last.t_mono_ns,
        event: Event::Deliver(delivered),
    };
    let text = format!("{text}{}\n", serde_json::to_string(&forged).unwrap());
    let path = cast.net.path("forged");
    std::fs::write(&path, &text).unwrap();
    let (forged, said) = code(&path, &SHOWN);
    assert_eq!(forged, Some(1), "{said}");
    assert!(
        said.contains("I1   violated") && said.contains("I26  violated"),
        "{said}"
    );
    std::fs::write(&path, text.trim_end()).unwrap();
    let (cut, said) = code(&path, &SHOWN);
    assert_eq!(cut, Some(2), "{said}");
    assert!(said.contains("is cut off"), "{said}");
}
