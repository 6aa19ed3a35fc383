//! Recording what members do and see, for `mimi-node verify`: a shim around [`Member`], which knows nothing of it.

use super::{LOOK_INTERVAL, Net, Node, WAIT, until};
use mimi_actors::{
    ids::{ClientUri, RoomUri, UserUri},
    wire::{
        BVec, Payload,
        answer::{Accepted, Answer, Refused},
        claim::{ClaimId, ClaimResponse},
        door::{DoorItem, DoorRefused, RoomBody},
        event::{ClientSeq, Hash, RoomSeq, Verdict},
        refusal::{TryLater, Why},
        room::Request,
    },
};
use mimi_client::{
    door::EventLane,
    member::{Member, MemberError, PreparedCommit, Proposing, packages},
};
use mimi_history::{
    Applied, Delivered, Digest, Epoch, Event, Fault, Invariant, Invoke, Nemesis, Op, Package,
    Phase, Recorder, Ret, Told,
};
use mimi_quic::DoorDialer;
use std::{
    collections::BTreeMap,
    fmt::{Debug, Display},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a node may take to let a member in.
const ENTER: Duration = Duration::from_secs(5);

/// The history of one run; clones write to the same file.
#[derive(Clone, Debug)]
pub struct Chronicle {
    recorder: Arc<Recorder>,
    pub path: PathBuf,
}

impl Chronicle {
    pub fn create(path: PathBuf) -> Self {
        let recorder = Arc::new(Recorder::create(&path).unwrap());
        Self { recorder, path }
    }

    pub fn record(&self, event: Event) {
        self.recorder.record(event).unwrap();
    }

    pub fn nemesis(&self, what: Fault, target: &[&str], phase: Phase) {
        self.record(Event::Nemesis(Nemesis {
            what,
            target: target.iter().map(|node| (*node).to_owned()).collect(),
            phase,
        }));
    }

    /// Kills a node.
    pub fn kill(&self, net: &mut Net, name: &str) {
        self.nemesis(Fault::Kill, &[name], Phase::Start);
        net.node_mut(name).kill();
    }

    /// Starts a killed node again and waits until it has its peers back.
    pub async fn restart(&self, net: &mut Net, name: &str) {
        net.restart(name).await;
        self.nemesis(Fault::Kill, &[name], Phase::Stop);
    }

    /// Writes down the state of each shard of a node that is idle.
    pub async fn states(&self, node: &Node) {
        node.settled().await;
        let status = node.status().await;
        for row in status.shards {
            self.record(Event::Apply(Applied {
                provider: status.provider.clone(),
                shard: row.shard,
                node: status.provider.clone(),
                term: None,
                index: row.applied,
                hash: row.state_hash.parse().unwrap(),
                leads: false,
            }));
        }
    }

    /// Writes down the state of each shard on all running nodes of a cluster, with terms and leaders.
    pub async fn replicas(&self, net: &Net, provider: &str) {
        let names = net.nodes.iter().filter(|(_, node)| node.runs());
        for (name, node) in names.filter(|(_, node)| node.provider.as_str() == provider) {
            let what = format!("{name} stands still for a moment");
            let rows = until(&what, async || {
                let before = node.status().await.shards;
                let cluster = node.cluster().await;
                let after = node.status().await.shards;
                let pairs: Vec<_> = after.iter().cloned().zip(cluster.shards).collect();
                // openraft's own entries change no state: what was folded up to the one before it is its state too.
                let whole = pairs.iter().all(|(row, of)| row.applied <= of.applied);
                (before == after && whole).then_some((cluster.node, pairs))
            });
            let (number, pairs) = rows.await;
            for (row, of) in pairs {
                let leads = of.leader == Some(number) && of.term == of.applied_term;
                self.record(Event::Apply(Applied {
                    provider: provider.to_owned(),
                    shard: row.shard,
                    node: name.clone(),
                    term: Some(of.applied_term),
                    index: of.applied,
                    hash: row.state_hash.parse().unwrap(),
                    leads,
                }));
            }
        }
    }

    /// Has `mimi-node verify` judge a history.
    pub fn verify(path: &Path, only: &[Invariant], within_s: u64) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mimi-node"));
        command.arg("verify").arg("--history").arg(path);
        command.arg("--within-s").arg(within_s.to_string());
        if !only.is_empty() {
            let names: Vec<_> = only.iter().map(Invariant::to_string).collect();
            command.arg("--only").arg(names.join(","));
        }
        command.output().unwrap()
    }

    /// Watches a member from here on; `node` is the node it asks.
    pub fn watch(&self, member: Member, node: &str) -> Watched {
        Watched {
            member,
            chronicle: self.clone(),
            node: node.to_owned(),
            patience: WAIT,
            lane: None,
            held: Vec::new(),
            undecided: BTreeMap::new(),
            committed: BTreeMap::new(),
        }
    }
}

/// How an operation ended that was not acknowledged.
enum Ended {
    /// It certainly did not happen.
    Fail,
    /// Nobody knows.
    Info,
}

/// A member of whom everything is recorded: every operation and every event that it takes, by its own event stream.
pub struct Watched {
    pub member: Member,
    chronicle: Chronicle,
    node: String,
    /// How long it waits for an answer.
    pub patience: Duration,
    lane: Option<EventLane>,
    /// Events that the member holds until it has its Welcome.
    held: Vec<(RoomUri, Delivered)>,
    undecided: BTreeMap<(RoomUri, ClientSeq), Digest>,
    /// The number of its last Commit in each room.
    committed: BTreeMap<RoomUri, RoomSeq>,
}

impl Watched {
    fn proc(&self) -> String {
        self.member.client().to_string()
    }

    fn begin(&self, op: Op) {
        self.chronicle.record(Event::Invoke(Invoke {
            proc: self.proc(),
            node: Some(self.node.clone()),
            op,
        }));
    }

    /// Records how an operation ended, and gives its result back.
    fn end<T>(
        &self,
        result: Result<T, MemberError>,
        ret: impl FnOnce(&T) -> Ret,
        ended: impl FnOnce(&MemberError) -> Ended,
    ) -> Result<T, MemberError> {
        let proc = self.proc();
        let event = match &result {
            Ok(done) => Event::Ok {
                proc,
                ret: ret(done),
            },
            Err(error) => {
                let why = error.to_string();
                match ended(error) {
                    Ended::Fail => Event::Fail { proc, why },
                    Ended::Info => Event::Info { proc, why },
                }
            }
        };
        self.chronicle.record(event);
        result
    }

    pub async fn create_room(&mut self, room: &RoomUri) -> Result<(), MemberError> {
        self.begin(Op::Create { room: named(room) });
        let result = self.member.create_room(room).await;
        self.end(result, |()| Ret::Created, ended)
    }

    /// Claims under an id of the caller; the same again is a retry.
    pub async fn claim(
        &mut self,
        id: ClaimId,
        room: &RoomUri,
        users: &[UserUri],
    ) -> Result<ClaimResponse, MemberError> {
        self.begin(Op::Claim {
            id: format!("{id:?}"),
        });
        let asked = self.member.claim_again(id, Some(room.clone()), users);
        let result = patient(self.patience, asked).await;
        self.end(
            result,
            |claimed| Ret::Claimed {
                packages: handed(claimed),
            },
            ended,
        )
    }

    /// Adds clients with what was claimed of them, a KeyPackage of each.
    pub async fn add(
        &mut self,
        room: &RoomUri,
        claimed: &ClaimResponse,
        added: &[ClientUri],
    ) -> Accepted {
        let claimed = packages(claimed);
        assert_eq!(claimed.len(), added.len(), "a KeyPackage of each");
        let add = self.member.prepare_add(room, &claimed).unwrap();
        self.commit(&add, added, &[]).await.unwrap()
    }

    /// Sends a prepared Commit that adds and removes these; the same again is a retry.
    pub async fn commit(
        &mut self,
        prepared: &PreparedCommit,
        added: &[ClientUri],
        removed: &[ClientUri],
    ) -> Result<Accepted, MemberError> {
        let id = Digest::of(&prepared.commit);
        self.begin(Op::Commit {
            room: named(&prepared.room),
            epoch: Epoch(prepared.epoch.0),
            id,
            added: added.iter().map(named).collect(),
            removed: removed.iter().map(named).collect(),
            covers: digests(&self.member.named_by_commit(&prepared.room)),
        });
        let result = patient(self.patience, self.member.commit(prepared)).await;
        if let Ok(accepted) = &result {
            self.committed.insert(prepared.room.clone(), accepted.seq);
        }
        let committed = |accepted: &Accepted| Ret::Committed {
            epoch: Epoch(accepted.epoch.0),
            seq: mimi_history::RoomSeq(accepted.seq.0),
        };
        self.end(result, committed, |error| match error {
            // Further on, the answer does not say which Commit opened this one's epoch.
            MemberError::Lost { current, winner }
                if *current != prepared.epoch || winner.0 == id.0 =>
            {
                Ended::Info
            }
            other => ended(other),
        })
    }

    /// Whether it has read its own last Commit in a room, which it entered with the answer.
    pub fn has_read_own_commit(&self, room: &RoomUri) -> bool {
        let committed = self.committed.get(room);
        committed.is_none_or(|seq| *seq <= self.member.last_seq(room))
    }

    /// Proposes.
    pub async fn propose(
        &mut self,
        room: &RoomUri,
        what: Proposing<'_>,
    ) -> Result<(), MemberError> {
        let proposals = self.member.prepare_proposals(room, what)?;
        self.member.save().await?;
        self.begin(Op::Propose {
            room: named(room),
            id: digest_of(&proposals),
            references: digests(&self.member.references(room, &proposals)),
        });
        let request = Request::Propose(BVec::try_from(proposals.clone()).unwrap());
        let asked = async { Ok(self.member.door()?.ask(room.clone(), request).await?) };
        let result = match patient(self.patience, asked).await {
            Ok(Answer::Refused(refused)) => Err(MemberError::Refused(refused)),
            other => other,
        };
        if matches!(&result, Err(MemberError::Refused(_))) {
            self.member.withdraw(room, &proposals)?;
        }
        self.end(result, |_| Ret::Proposed, ended).map(drop)
    }

    /// Sends texts, and with them whatever has no verdict yet.
    pub async fn send(&mut self, room: &RoomUri, texts: &[&str]) -> Result<(), MemberError> {
        self.member.encrypt(room, texts)?;
        self.resend(room).await
    }

    /// Sends again what has no verdict.
    pub async fn resend(&mut self, room: &RoomUri) -> Result<(), MemberError> {
        let frames = self.member.frames(room, ClientSeq(1));
        let messages = frames.iter().flat_map(|frame| {
            let numbered = (0..).zip(frame.messages.iter());
            numbered.map(|(place, message)| (frame.first.plus(place), Digest::of(message)))
        });
        let messages: Vec<_> = messages.collect();
        if messages.is_empty() {
            return Ok(());
        }
        let ids = messages.iter().map(|(_, id)| *id).collect();
        for (number, id) in messages {
            self.undecided.insert((room.clone(), number), id);
        }
        self.begin(Op::Send {
            room: named(room),
            ids,
        });
        self.member.save().await?;
        let result = patient(self.patience, self.member.resend(room)).await;
        // Some of the frames may have been taken.
        let result = self.end(result, |()| Ret::Sent, |_| Ended::Info);
        self.final_words();
        result
    }

    /// Writes down the verdicts that came since the last time.
    fn final_words(&mut self) {
        let rooms: Vec<_> = self
            .undecided
            .keys()
            .map(|(room, _)| room.clone())
            .collect();
        for room in rooms {
            for (number, verdict) in self.member.verdicts(&room) {
                let seq = match verdict {
                    Verdict::Queued => continue,
                    Verdict::Accepted { seq, .. } => Some(mimi_history::RoomSeq(seq.0)),
                    Verdict::Refused(_) => None,
                };
                if let Some(id) = self.undecided.remove(&(room.clone(), number)) {
                    self.chronicle.record(Event::Verdict(Told {
                        client: named(self.member.client()),
                        room: named(&room),
                        id,
                        seq,
                    }));
                }
            }
        }
    }

    /// Takes the next batch of events, if one comes within `wait`.
    pub async fn pump(&mut self, wait: Duration) -> Result<bool, MemberError> {
        let mut lane = match self.lane.take() {
            Some(lane) => lane,
            None => {
                self.held.clear();
                self.member.door()?.events().await?
            }
        };
        let Ok(batch) = tokio::time::timeout(wait, lane.next()).await else {
            self.lane = Some(lane);
            return Ok(false);
        };
        for item in batch?.items {
            self.take(item);
        }
        self.final_words();
        self.member.save().await?;
        for acks in self.member.acks() {
            lane.ack(&acks).await?;
        }
        self.lane = Some(lane);
        Ok(true)
    }

    fn take(&mut self, item: DoorItem) {
        if let DoorItem::Room { room, events } = &item {
            let last = self.member.last_seq(room);
            for event in events {
                let (id, epoch) = match &event.body {
                    RoomBody::Application(message) => (Digest::of(message), None),
                    RoomBody::Commit { epoch, commit } => {
                        (Digest::of(commit), Some(Epoch(epoch.0)))
                    }
                    RoomBody::Proposals(proposals) => (digest_of(proposals), None),
                };
                let again = event.seq <= last;
                let delivered = Delivered {
                    client: named(self.member.client()),
                    room: named(room),
                    seq: mimi_history::RoomSeq(event.seq.0),
                    id,
                    epoch,
                    again,
                };
                if again {
                    self.chronicle.record(Event::Deliver(delivered));
                } else {
                    self.held.push((room.clone(), delivered));
                }
            }
        }
        self.member.take(item);
        let member = &self.member;
        let taken = |(room, held): &mut (RoomUri, Delivered)| held.seq.0 <= member.last_seq(room).0;
        let taken: Vec<_> = self.held.extract_if(.., taken).collect();
        for (_, delivered) in taken {
            self.chronicle.record(Event::Deliver(delivered));
        }
    }

    /// Reads until the condition holds.
    pub async fn read_until(&mut self, what: &str, condition: impl Fn(&Member) -> bool) {
        let deadline = Instant::now() + WAIT;
        while !condition(&self.member) {
            let left = deadline.saturating_duration_since(Instant::now());
            let came = self.pump(left).await;
            let who = self.proc();
            assert!(matches!(came, Ok(true)), "{who} waits for {what}: {came:?}");
        }
    }

    /// Reads a room up to an event.
    pub async fn read_upto(&mut self, room: &RoomUri, seq: RoomSeq) {
        let what = format!("event {seq} of {room}");
        self.read_until(&what, |member| member.last_seq(room) >= seq)
            .await;
    }

    /// Asks another node from here on, and that one for the verdicts that were missed.
    pub async fn turn_to(
        &mut self,
        dialer: &DoorDialer,
        node: &str,
        door: SocketAddr,
    ) -> Result<(), MemberError> {
        self.lane = None;
        node.clone_into(&mut self.node);
        self.reconnect_once(dialer, door).await
    }

    /// Connects again, until it works, and asks for the verdicts that were missed.
    pub async fn reconnect(&mut self, dialer: &DoorDialer, door: SocketAddr) {
        self.reconnect_any(dialer, &[door], WAIT).await;
    }

    /// The same by whichever of some doors answers first, the one that comes first in the list if it does.
    pub async fn reconnect_any(
        &mut self,
        dialer: &DoorDialer,
        doors: &[SocketAddr],
        patience: Duration,
    ) {
        self.lane = None;
        let deadline = Instant::now() + patience;
        for door in doors.iter().cycle() {
            let back = self.reconnect_once(dialer, *door).await;
            let Err(error) = back else { return };
            assert!(Instant::now() < deadline, "{}: {error}", self.proc());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn reconnect_once(
        &mut self,
        dialer: &DoorDialer,
        door: SocketAddr,
    ) -> Result<(), MemberError> {
        let entered = async {
            self.member.connect(dialer, door).await?;
            self.member.login().await
        };
        // A node that was just ended answers nothing.
        let entered = tokio::time::timeout(ENTER, entered).await;
        entered.unwrap_or(Err(MemberError::Deadline))?;
        let rooms: Vec<_> = self.member.rooms().cloned().collect();
        for room in rooms {
            self.resend(&room).await?;
        }
        Ok(())
    }
}

/// Waits so long for an answer, and no longer.
async fn patient<T>(
    patience: Duration,
    asked: impl Future<Output = Result<T, MemberError>>,
) -> Result<T, MemberError> {
    let answered = tokio::time::timeout(patience, asked).await;
    answered.unwrap_or(Err(MemberError::Deadline))
}

/// What a history calls a client or a room.
pub fn named<T: FromStr<Err: Debug>>(uri: &impl Display) -> T {
    uri.to_string().parse().unwrap()
}

fn digests(references: &[Payload]) -> Vec<Digest> {
    let references = references.iter();
    references.map(|reference| Digest::of(reference)).collect()
}

/// Proposals that were accepted together are one event.
fn digest_of(proposals: &[Payload]) -> Digest {
    Digest(Hash::of_parts(proposals.iter().map(|proposal| &***proposal)).0)
}

/// How most operations end that were not acknowledged.
fn ended(error: &MemberError) -> Ended {
    match error {
        MemberError::Lost { .. } => Ended::Fail,
        MemberError::Refused(refused) => match refused {
            // What waits in vain may still be decided later.
            Refused::TryLater(TryLater {
                why: Why::Unavailable,
                ..
            })
            | Refused::Poisoned => Ended::Info,
            _ => Ended::Fail,
        },
        MemberError::Door(mimi_client::DoorError::Refused(refused)) => match refused {
            DoorRefused::TryLater(TryLater {
                why: Why::Unavailable,
                ..
            }) => Ended::Info,
            _ => Ended::Fail,
        },
        _ => Ended::Info,
    }
}

fn handed(claimed: &ClaimResponse) -> Vec<Package> {
    let users = claimed.users.iter();
    let clients = users.filter_map(|user| user.result.as_ref().ok()).flatten();
    clients
        .filter_map(|one| {
            let package = Digest::of(one.result.as_ref().ok()?);
            let client = named(&one.client);
            Some(Package { client, package })
        })
        .collect()
}
