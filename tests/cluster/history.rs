//! A run of real nodes is recorded, and `mimi-node verify` judges it.

use crate::support::{
    self, Net, WAIT,
    cast::{Cast, DEVICE, PACKAGES},
    history::{Chronicle, named},
    room,
};
use mimi_actors::{ids::RoomUri, wire::event::Epoch};
use mimi_client::member::MemberError;
use mimi_history::{Delivered, Digest, Event, Invariant, Line, RoomSeq};
use std::{
    path::Path,
    time::{Duration, Instant},
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
struct Run {
    net: Net,
    chronicle: Chronicle,
    den: RoomUri,
    cast: Cast,
    /// How many messages were said.
    said: usize,
}

impl Run {
    async fn begin() -> Self {
        let net = Net::start(&[A, B]).await;
        let chronicle = Chronicle::create(net.path("history"));
        let den = room("den", A);
        let mut cast = Cast::default();
        let alice = net.member("alice", DEVICE, A).await;
        let host = alice.client().user().clone();
        cast.put("alice", chronicle.watch(alice, A));
        for (name, provider) in [("amy", A), ("bob", B)] {
            let guest = net.guest((name, provider), &host, PACKAGES).await;
            cast.put(name, chronicle.watch(guest, provider));
        }
        let guests = ["amy", "bob"];
        let (claim, claimed) = cast.open(&den, "alice", &guests).await;
        let users = [support::user("amy", A), support::user("bob", B)];
        let again = cast.one("alice").claim(claim, &den, &users).await;
        assert_eq!(again.unwrap(), claimed);
        for one in cast.all() {
            one.read_until("epoch 1", |member| member.epoch(&den) == Some(Epoch(1)))
                .await;
        }
        Self {
            net,
            chronicle,
            den,
            cast,
            said: 0,
        }
    }

    /// Each says something; everybody reads all that was ever said.
    async fn talk(&mut self, text: &str) {
        for one in self.cast.all() {
            one.send(&self.den, &[text, text]).await.unwrap();
            self.said += 2;
        }
        let epoch = self.cast.one("alice").member.epoch(&self.den);
        self.read(epoch).await;
    }

    /// Everybody reads all that was ever said, and enters this epoch.
    async fn read(&mut self, epoch: Option<Epoch>) {
        let (den, said) = (&self.den, self.said);
        for one in self.cast.all() {
            one.read_until("everything", |member| {
                member.received(den).len() == said
                    && member.epoch(den) == epoch
                    && member.unresolved(den).is_empty()
            })
            .await;
        }
        // An own Commit is merged with its answer; its event comes later.
        let last = self.cast.members().map(|member| member.last_seq(den));
        let last = last.max().unwrap();
        for one in self.cast.all() {
            one.read_upto(den, last).await;
        }
    }

    async fn reconnect(&mut self, provider: &str) {
        let door = self.net.node(provider).door;
        for one in self.cast.all() {
            if one.member.client().provider().as_str() == provider {
                one.reconnect(&self.net.dialer, door).await;
            }
        }
    }

    /// alice and bob commit at once: one of them wins, and it is told again when it asks again.
    async fn contest(&mut self) {
        let den = self.den.clone();
        let [alice, bob] = self.cast.two("alice", "bob");
        let hers = alice.member.prepare_update(&den).unwrap();
        let his = bob.member.prepare_update(&den).unwrap();
        let (first, second) =
            futures::join!(alice.commit(&hers, &[], &[]), bob.commit(&his, &[], &[]));
        let won = match (first, second) {
            (Ok(accepted), Err(MemberError::Lost { .. })) => {
                let again = alice.commit(&hers, &[], &[]).await.unwrap();
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
        let [alice, bob] = self.cast.two("alice", "bob");
        let update = bob.member.prepare_update(&den).unwrap();
        let (chronicle, net) = (&self.chronicle, &mut self.net);
        let (committed, sent, ()) = futures::join!(
            bob.commit(&update, &[], &[]),
            alice.send(&den, &["cut", "off"]),
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
        while let Err(error) = self.cast.one("bob").commit(&update, &[], &[]).await {
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
    let mut run = Run::begin().await;
    run.talk("before").await;
    run.contest().await;
    for provider in [A, B] {
        run.chronicle.states(run.net.node(provider)).await;
        run.chronicle.kill(&mut run.net, provider);
        run.chronicle.restart(&mut run.net, provider).await;
        run.chronicle.states(run.net.node(provider)).await;
        run.reconnect(provider).await;
        run.talk("after").await;
    }
    run.kill_amid_a_commit().await;
    run.talk("at last").await;
    assert!(run.net.errors().is_empty(), "{:?}", run.net.errors());

    let path = &run.chronicle.path;
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
        client: named(run.cast.one("amy").member.client()),
        room: named(&run.den),
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
    let path = run.net.path("forged");
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
