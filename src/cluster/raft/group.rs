//! The Raft group of one shard, as the rest of the node sees it.

use super::{
    confirm::Round,
    election::Election,
    figures::{GroupFigures, Role},
    group_error::{ProposeError, StartError},
    lead::{Lead, answered_ago_ms, lead_in},
    network::Network,
    sealing::{Keeper, Sealing},
    standing::ballot_of,
    state_machine::StateMachine,
    way::Others,
};
use crate::{
    cluster::{
        log::{
            batch::{Apply, Batch, StateError},
            log_store::LogStore,
            record::{self, RecordError},
            tail::{LogFault, Tail},
            types::{self, LogId, SnapshotMeta, Types, Vote},
        },
        mesh::frame::{RaftAnswer, Rpc, Why},
    },
    store::{
        Disk,
        snapshot::{Row, Sealed, SnapshotError},
        writer::LogWriter,
    },
};
use bytes::Bytes;
use openraft::{
    BasicNode, Raft, RaftMetrics, ServerState, Snapshot,
    error::{ClientWriteError, Fatal, InitializeError, RaftError},
    raft::SnapshotResponse,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// When a caller that was refused for want of a leader should ask again, in milliseconds.
const RETRY_AFTER_MS: u64 = 500;

/// How often it is looked at who leads, also when nothing happens.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How long one round of confirmations may take.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(1);
/// How long the next round waits when one failed.
const CONFIRM_AGAIN: Duration = Duration::from_millis(50);

/// How long taking a state over may take.
const INSTALL_DEADLINE: Duration = Duration::from_secs(60);

/// Entries applied after which a shard's state is sealed as a snapshot.
pub const SNAPSHOT_ENTRIES: u64 = 5_000;

/// The Raft group of one shard. Cloned handles share it.
#[derive(Clone)]
pub struct Group {
    pub(crate) raft: Raft<Types>,
    writer: LogWriter,
    pub(crate) tail: Arc<Tail>,
    sealing: Arc<Sealing>,
    keeper: Arc<Keeper>,
    apply: Arc<dyn Apply>,
    pub(crate) node: u64,
    /// The other nodes, where there are any. They hold the groups.
    pub(super) others: Option<Weak<dyn Others>>,
    /// It gives up its leadership: nothing new is taken.
    pub(crate) silent: Arc<AtomicBool>,
    /// A task of it has panicked: it does nothing any more until the node is started again.
    fenced: Arc<AtomicBool>,
    /// When this voter stands for election, and for whom it votes.
    pub(crate) election: Arc<Election>,
    /// It asks for votes, or steps down, at this moment.
    pub(crate) acting: Arc<AtomicBool>,
    /// Held while another node's snapshot is taken over.
    turn: Arc<Mutex<()>>,
}

impl Group {
    /// The other nodes, as long as this one runs.
    pub(super) fn other_nodes(&self) -> Option<Arc<dyn Others>> {
        self.others.as_ref()?.upgrade()
    }

    /// Begins the group of a shard, or resumes it. Its state is sealed after every `snapshot_entries` entries.
    ///
    /// Without others this node is its one voter: then it returns when it leads and has applied everything that is in
    /// the log, so that what is read from then on is current. With one it returns at once, and whoever founds the
    /// cluster calls [`Group::found`].
    ///
    /// # Errors
    /// [`StartError::Log`] names the entry that cannot be used; none is ever skipped.
    pub(crate) async fn start(
        shard: u16,
        node_id: u64,
        disk: &Disk,
        snapshot_entries: u64,
        apply: Arc<dyn Apply>,
        others: Option<Arc<dyn Others>>,
    ) -> Result<Self, StartError> {
        let alone = others.is_none();
        let shards = disk.log.shards();
        if shard >= shards {
            return Err(StartError::UnknownShard { shard, shards });
        }
        let config = types::config(shard).map_err(|source| StartError::Config { shard, source })?;
        let tail = Tail::open(shard, disk, apply.clone()).await?;
        let snapshots = Arc::clone(&disk.snapshots);
        let mut machine = StateMachine::recover(
            Arc::clone(&apply),
            snapshots,
            snapshot_entries,
            &tail,
            alone,
        )
        .await?;
        machine.replay(&tail).await?;
        if !alone {
            match tail.check_holes().await {
                // What another node did not send any more with its snapshot is not owed any more either, which the
                // entries behind it will say. The scrub looks again once they are applied.
                Err(hole @ LogFault::Hole { .. }) => {
                    tracing::warn!(shard, %hole, "looked at again when this node has caught up");
                }
                checked => checked?,
            }
        }
        let (sealing, fenced) = (Arc::clone(machine.sealing()), Arc::clone(machine.bug()));
        // openraft passes on the text of a fault; the tail has kept the fault itself.
        let stopped = |source| match tail.fault() {
            Some(fault) => StartError::Log(fault),
            None => StartError::Stopped {
                shard,
                source: Box::new(source),
            },
        };
        let store = LogStore::new(tail.clone());
        let known = others.as_ref().map(Arc::downgrade);
        let network = Network::new(shard, others);
        let raft = Raft::new(node_id, config, network, store, machine)
            .await
            .map_err(stopped)?;
        let followed = raft.metrics().borrow().vote.committed;
        let keeper = Keeper::start(raft.clone(), Arc::clone(&sealing), Arc::clone(&tail));
        let group = Self {
            raft,
            writer: disk.writer.clone(),
            tail: Arc::clone(&tail),
            sealing,
            keeper: Arc::new(keeper),
            apply,
            node: node_id,
            others: known,
            silent: Arc::default(),
            fenced,
            election: Arc::new(Election::new(shard, node_id, followed)),
            acting: Arc::default(),
            turn: Arc::default(),
        };
        if !alone {
            return Ok(group);
        }
        let led = match group.lead(shard, node_id).await {
            Ok(()) => tail.check_holes().await.map_err(StartError::Log),
            Err(error) => Err(error),
        };
        if led.is_err() {
            group.stop().await;
        }
        led.map_err(|error| match (error, tail.fault()) {
            (StartError::Stopped { .. }, Some(fault)) => StartError::Log(fault),
            (error, _) => error,
        })?;
        Ok(group)
    }

    /// Commits and applies a batch; returns the index of its entry.
    ///
    /// Each proposal is an entry and waits for the one before to be synced: whoever has many
    /// commands puts them into one batch.
    ///
    /// # Errors
    /// [`ProposeError::StorageFull`] and [`ProposeError::Unavailable`] mean that nothing happened;
    /// after [`ProposeError::Stopped`] the batch may or may not be in the log.
    pub async fn propose(&self, batch: Batch) -> Result<u64, ProposeError> {
        self.writer.admit(batch.bytes().len() as u64)?;
        match self.raft.client_write(batch).await {
            Ok(written) => Ok(written.log_id.index),
            Err(RaftError::APIError(
                ClientWriteError::ForwardToLeader(_) | ClientWriteError::ChangeMembershipError(_),
            )) => Err(ProposeError::Unavailable {
                retry_after_ms: RETRY_AFTER_MS,
            }),
            Err(RaftError::Fatal(_)) => Err(ProposeError::Stopped),
        }
    }

    /// Its shard.
    pub(crate) fn shard(&self) -> u16 {
        self.tail.shard
    }

    /// Begins the cluster of this shard with these voters, unless it has begun.
    ///
    /// # Errors
    /// [`StartError`] when the group has stopped.
    pub(crate) async fn found(&self, voters: BTreeMap<u64, BasicNode>) -> Result<(), StartError> {
        let shard = self.tail.shard;
        let stopped = |source| StartError::Stopped {
            shard,
            source: Box::new(source),
        };
        if self.raft.is_initialized().await.map_err(stopped)? {
            return Ok(());
        }
        match self.initialize(voters).await {
            // Another node was faster: its log has begun here meanwhile.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(source)) => Err(StartError::Begin {
                shard,
                source: Box::new(source),
            }),
            Err(RaftError::Fatal(source)) => Err(stopped(source)),
        }
    }

    /// Whether the shard's cluster has begun, as far as this node knows.
    pub(crate) async fn is_founded(&self) -> bool {
        self.raft.is_initialized().await.unwrap_or(false)
    }

    /// Reports who leads, at once and whenever that changes, until the group stops; then says why, unless it was told to.
    pub(crate) async fn watch_lead<F: Future<Output = ()>>(
        &self,
        report: impl Fn(Lead) -> F,
    ) -> Option<Fatal<u64>> {
        let mut metrics = self.raft.metrics();
        let mut last = None;
        let mut seen_at = Instant::now();
        loop {
            let seen = metrics.borrow_and_update().clone();
            let settled = self
                .other_nodes()
                .is_none_or(|others| others.clock().is_settled());
            // It stamps by the others' clocks, so it hears of them first.
            let silent = self.silent.load(Ordering::Acquire) || !settled;
            let engine_ago_ms = answered_ago_ms(&seen, seen_at);
            let answered_ago_ms = self
                .election
                .at(|rules, now_ms| rules.answered_ago_ms(now_ms, engine_ago_ms));
            let lead = match lead_in(&seen, self.node, silent, answered_ago_ms) {
                // Nobody has heard of it for longer than a leader leads that is not answered.
                Lead::At(_) if self.is_leaderless() => Lead::Nobody,
                lead @ (Lead::Here | Lead::At(_) | Lead::Nobody) => lead,
            };
            if last != Some(lead) {
                last = Some(lead);
                report(lead).await;
            }
            match &seen.running_state {
                Ok(()) => self.stand_or_step_down(&seen, engine_ago_ms, seen_at.elapsed()),
                Err(Fatal::Stopped) => return None,
                Err(fault) => return Some(fault.clone()),
            }
            tokio::select! {
                changed = metrics.changed() => {
                    seen_at = Instant::now();
                    // A group that ends in order says so in its figures first.
                    if changed.is_err() && metrics.borrow().running_state.is_ok() {
                        self.fenced.store(true, Ordering::Release);
                        report(Lead::Nobody).await;
                        return Some(Fatal::Panicked);
                    }
                }
                () = self.election.called(LOOK_INTERVAL) => {}
            }
        }
    }

    /// Whether the disk of this node has too little room to lead with.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.writer.is_disk_full()
    }

    /// Asks a majority whether this node still leads.
    pub(crate) async fn confirm(&self) -> Round {
        match tokio::time::timeout(CONFIRM_DEADLINE, self.raft.get_read_log_id()).await {
            Ok(Ok(_)) => Round::Confirmed,
            Ok(Err(RaftError::APIError(openraft::error::CheckIsLeaderError::ForwardToLeader(
                _,
            ))))
            | Ok(Err(RaftError::Fatal(_))) => Round::Over,
            Ok(Err(RaftError::APIError(openraft::error::CheckIsLeaderError::QuorumNotEnough(
                _,
            ))))
            | Err(_) => {
                tokio::time::sleep(CONFIRM_AGAIN).await;
                Round::Again
            }
        }
    }

    /// Answers another node's group.
    pub(crate) async fn called(&self, rpc: Rpc) -> RaftAnswer {
        let refused = |error: RaftError<u64>| RaftAnswer::Refused(Why::clipped(&error.to_string()));
        match rpc {
            Rpc::Append(append) => {
                // Heard now: to take it in may wait for the disk.
                if append.vote >= self.raft.metrics().borrow().vote {
                    let leader = ballot_of(&append.vote);
                    self.election.at(|rules, now_ms| rules.hear(now_ms, leader));
                }
                let answer = self.raft.append_entries(append).await;
                answer.map_or_else(refused, RaftAnswer::Append)
            }
            Rpc::Vote(vote) => {
                let answer = self.vote(vote).await;
                answer.map_or_else(refused, RaftAnswer::Vote)
            }
            Rpc::PreVote(last) => RaftAnswer::PreVote(self.would_vote(last)),
            Rpc::Follow(leader) => RaftAnswer::Follows(self.follows(leader)),
            Rpc::Released(leader) => {
                self.released(leader);
                RaftAnswer::Released
            }
        }
    }

    /// Why a call of another node's group cannot be of this group's log: it holds another entry where this node has
    /// applied one.
    pub(crate) fn contradicted(&self, rpc: &Rpc) -> Option<String> {
        let Rpc::Append(append) = rpc else {
            return None;
        };
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let applied = metrics.last_applied?;
        if append.vote < metrics.vote {
            return None;
        }
        let sent = append.entries.iter().map(|entry| entry.log_id);
        let other = sent
            .chain(append.prev_log_id)
            .find(|sent| sent.index == applied.index && *sent != applied)?;
        Some(format!(
            "shard {}: the leader of term {} has {other} where this node has applied {applied}: this node's data \
             directory is an older copy, or the others ran on one. Nothing was deleted; keep this directory, and put a \
             new node in this one's place (`mimi-node cluster replace --node {} --with NUMBER`)",
            self.tail.shard,
            append.vote.leader_id().term,
            self.node,
        ))
    }

    /// One more than the last entry that each node has acknowledged to this one; empty where this one does not lead.
    pub(crate) fn replicated(&self) -> BTreeMap<u64, u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let matched = metrics.replication.iter().flatten();
        matched
            .filter_map(|(node, last)| Some((*node, last.as_ref()?.index.saturating_add(1))))
            .collect()
    }

    /// The last entry applied.
    pub(crate) fn applied(&self) -> Option<u64> {
        let last = self.raft.metrics().borrow().last_applied;
        last.map(|last| last.index)
    }

    /// Waits until no other snapshot is being taken over, and keeps it so.
    pub(crate) async fn transfer_turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Takes over another node's snapshot, whose hashes were compared, in place of what is here. The backlog has what
    /// its rows point at.
    ///
    /// openraft may discard the log that the snapshot stands for before the state is taken over. So the snapshot is
    /// sealed here first; and `carry` forgets nothing of the backlog that came with it.
    ///
    /// # Errors
    /// When the group has stopped, or the snapshot cannot be sealed here.
    pub(crate) async fn install(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        sealed: Sealed,
        rows: Vec<Row>,
    ) -> anyhow::Result<SnapshotResponse<u64>> {
        let next = sealed.next();
        if self
            .sealing
            .newest()
            .is_none_or(|newest| newest.next() < next)
        {
            let place = (meta.last_log_id, meta.last_membership.clone());
            let busy = Some(self.sealing.rest().await);
            let ours = self.sealing.seal(busy, place, Ok(rows)).await;
            anyhow::ensure!(
                ours.is_some_and(|ours| ours.next() == next),
                "it could not be sealed here; free space on this disk"
            );
        }
        let snapshot = Box::new(Some(sealed));
        let installed = self
            .raft
            .install_full_snapshot(vote, Snapshot { meta, snapshot })
            .await?;
        // A later leader's vote: then nothing was installed.
        if installed.vote == vote {
            let waiting = self.raft.wait(Some(INSTALL_DEADLINE));
            waiting
                .applied_index_at_least(next.checked_sub(1), "the snapshot is taken over")
                .await?;
        }
        Ok(installed)
    }

    /// The entries below `below` that the state in some rows points at.
    ///
    /// # Errors
    /// [`StateError`] when the rows are not understood.
    pub(crate) fn pointed_in(&self, rows: &[Row], below: u64) -> Result<BTreeSet<u64>, StateError> {
        self.apply.pointed_in(rows, below)
    }

    /// Makes sure that stored bytes are entry `index`.
    ///
    /// # Errors
    /// [`RecordError`] when they are not.
    pub(crate) fn reads_as(&self, index: u64, stored: &Bytes) -> Result<LogId, RecordError> {
        let entry = record::decode(index, stored, |batch| self.apply.decode(batch))?;
        Ok(entry.log_id)
    }

    /// Has the state sealed as soon as may be, so that more of the log can be discarded.
    pub fn seal_soon(&self) {
        self.sealing.ask();
    }

    /// Whether no snapshot is due, and none is being made.
    #[cfg(test)]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.sealing.is_at_rest()
    }

    /// The snapshots that it would start from, oldest first.
    pub(crate) fn snapshots(&self) -> Vec<Sealed> {
        self.sealing.snapshots()
    }

    /// Sets one of them aside if it is damaged, and has another sealed; true if it was.
    ///
    /// # Errors
    /// [`SnapshotError`] when it cannot be read and may be sound.
    pub(crate) async fn doubt(&self, sealed: Sealed) -> Result<bool, SnapshotError> {
        self.sealing.doubt(sealed).await
    }

    /// Makes sure that whatever the state points at is still stored.
    ///
    /// # Errors
    /// [`LogFault::Hole`] names the first entry that is missing.
    pub(crate) async fn check_holes(&self) -> Result<(), LogFault> {
        let _turn = self.transfer_turn().await;
        self.tail.check_carried().await
    }

    /// What the group is doing at this moment.
    #[must_use]
    pub fn figures(&self) -> GroupFigures {
        let figures = GroupFigures::of(&self.raft.metrics().borrow());
        if self.fenced.load(Ordering::Acquire) {
            return figures.stopped();
        }
        match figures.role {
            // openraft goes on naming a leader whom nobody hears.
            Role::Voter | Role::Learner if self.is_leaderless() => GroupFigures {
                leader: None,
                ..figures
            },
            Role::Leader | Role::Voter | Role::Learner | Role::Stopped => figures,
        }
    }

    #[cfg(test)]
    pub(crate) fn sealing(&self) -> &Sealing {
        &self.sealing
    }

    /// Whether a task of it has panicked.
    pub(crate) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    /// Stops the group; proposals on their way may still be committed, and a snapshot on its way is
    /// finished. While the disk is full this waits for the writer: close that first.
    pub async fn stop(&self) {
        self.keeper.stop().await;
        self.stop_raft().await;
        drop((self.sealing.rest().await, self.tail.rest().await));
    }

    async fn stop_raft(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "a shard did not stop in order");
        }
    }

    /// Makes this node the leader, with everything in its log applied.
    async fn lead(&self, shard: u16, node: u64) -> Result<(), StartError> {
        let stopped = |source| StartError::Stopped {
            shard,
            source: Box::new(source),
        };
        if !self.raft.is_initialized().await.map_err(stopped)? {
            let voters = BTreeMap::from([(node, BasicNode::default())]);
            match self.raft.initialize(voters).await {
                Ok(()) => {}
                Err(RaftError::Fatal(source)) => return Err(stopped(source)),
                Err(RaftError::APIError(source)) => {
                    return Err(StartError::Begin {
                        shard,
                        source: Box::new(source),
                    });
                }
            }
        }
        let voters = |state: &openraft::RaftState<u64, BasicNode, _>| {
            state
                .membership_state
                .effective()
                .voter_ids()
                .collect::<BTreeSet<_>>()
        };
        let voters = self.raft.with_raft_state(voters).await.map_err(stopped)?;
        if voters != BTreeSet::from([node]) {
            return Err(StartError::OtherVoters {
                shard,
                node,
                voters,
            });
        }
        self.raft.trigger().elect().await.map_err(stopped)?;

        let current = |metrics: &RaftMetrics<u64, BasicNode>| {
            let applied = metrics.last_applied.map(|log_id| log_id.index);
            metrics.state == ServerState::Leader && applied == metrics.last_log_index
        };
        let over = |m: &RaftMetrics<u64, BasicNode>| current(m) || m.running_state.is_err();
        let waited = self.raft.wait(None).metrics(over, "lead and apply").await;
        match waited {
            Ok(metrics) => metrics.running_state.map_err(stopped),
            Err(_) => Err(stopped(Fatal::Stopped)),
        }
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
