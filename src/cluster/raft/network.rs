//! openraft's way to the other voters of a shard, over the mesh.
//!
//! openraft waits a third of a second for an answer, and then sends the same entries again. A voter that takes longer for
//! them would get them again and again, and never come to an end of it. So entries that were not answered in time are
//! waited for further when the same are to be sent again ([`Earlier`]). Others, or with another vote, go at once.
#![allow(
    clippy::result_large_err,
    reason = "openraft's errors have the size that they have"
)]

use super::way::{Others, Way};
use crate::cluster::{
    log::types::{LogId, Types},
    mesh::{
        calls::Lost,
        frame::{RaftAnswer, RaftCall, Rpc},
    },
};
use openraft::{
    BasicNode, OptionalSend, RaftNetwork, RaftNetworkFactory, Snapshot, Vote,
    error::{
        Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
    },
    network::{Backoff, RPCOption},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
    },
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// How long a voter that cannot be reached is left alone, in milliseconds.
const LEFT_ALONE_MS: u64 = 200;

/// Why a voter does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum NoAnswer {
    #[error("this node is alone: node {0} cannot be reached")]
    Alone(u64),
    #[error("node {0} cannot be reached now")]
    Lost(u64),
    #[error("node {0} did not answer in time")]
    Late(u64),
    #[error("node {node} refuses: {why}")]
    Refused { node: u64, why: String },
    #[error("node {node}: {why}")]
    Snapshot { node: u64, why: String },
}

/// The voters of one shard.
pub(crate) struct Network {
    shard: u16,
    /// None for a node alone, which calls nobody.
    others: Option<Arc<dyn Others>>,
}

impl Network {
    pub(crate) fn new(shard: u16, others: Option<Arc<dyn Others>>) -> Self {
        Self { shard, others }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Voter;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Voter {
        let others = self.others.as_ref();
        let way = others.map(|others| others.way(target, &node.addr));
        Voter {
            shard: self.shard,
            node: target,
            way,
            earlier: None,
        }
    }
}

/// Another voter of one shard.
pub(crate) struct Voter {
    shard: u16,
    node: u64,
    /// None for a node alone.
    way: Option<Arc<dyn Way>>,
    /// Entries that were sent and are not answered.
    earlier: Option<Earlier>,
}

/// Entries that were sent: after what, up to what, and with which vote.
struct Earlier {
    vote: Vote<u64>,
    after: Option<LogId>,
    upto: LogId,
    answer: Answer,
}

/// What became of entries that were sent.
enum Answer {
    Waits(oneshot::Receiver<RaftAnswer>),
    /// It came after nobody waited any more: whether they fit what was before.
    Came(bool),
}

impl Voter {
    fn begin<E: std::error::Error>(
        &self,
        rpc: Rpc,
    ) -> Result<oneshot::Receiver<RaftAnswer>, RPCError<u64, BasicNode, E>> {
        let node = self.node;
        let Some(way) = &self.way else {
            return Err(Unreachable::new(&NoAnswer::Alone(node)).into());
        };
        let bytes = match &rpc {
            Rpc::Append(append) => append
                .entries
                .iter()
                .map(crate::cluster::log::recent::cost)
                .sum(),
            Rpc::Vote(_) | Rpc::PreVote(_) | Rpc::Released(_) | Rpc::Follow(_) => 0,
        };
        if !way.is_up() {
            return Err(self.lost());
        }
        let shard = self.shard;
        let begun = way.begin(RaftCall { shard, rpc }, bytes);
        begun.map_err(|Lost| self.lost())
    }

    fn lost<E: std::error::Error>(&self) -> RPCError<u64, BasicNode, E> {
        Unreachable::new(&NoAnswer::Lost(self.node)).into()
    }

    fn late<E: std::error::Error>(&self) -> RPCError<u64, BasicNode, E> {
        NetworkError::new(&NoAnswer::Late(self.node)).into()
    }

    async fn call<E: std::error::Error>(
        &self,
        rpc: Rpc,
        deadline: Instant,
    ) -> Result<RaftAnswer, RPCError<u64, BasicNode, E>> {
        let answer = timeout_at(deadline, self.begin(rpc)?).await;
        self.heard(answer.map_err(|_| self.late())?.map_err(|_| self.lost())?)
    }

    /// An answer, unless it is that there is none.
    fn heard<E: std::error::Error>(
        &self,
        answer: RaftAnswer,
    ) -> Result<RaftAnswer, RPCError<u64, BasicNode, E>> {
        if let RaftAnswer::Refused(why) = answer {
            let (node, why) = (self.node, why.to_string());
            return Err(Unreachable::new(&NoAnswer::Refused { node, why }).into());
        }
        Ok(answer)
    }

    async fn append(
        &self,
        rpc: AppendEntriesRequest<Types>,
        deadline: Instant,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let answer = self.call(Rpc::Append(rpc), deadline).await?;
        self.appended(answer)
    }

    fn appended(
        &self,
        answer: RaftAnswer,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        match answer {
            RaftAnswer::Append(answer) => Ok(answer),
            RaftAnswer::Vote(_)
            | RaftAnswer::Refused(_)
            | RaftAnswer::PreVote(_)
            | RaftAnswer::Follows(_)
            | RaftAnswer::Released => Err(self.confused()),
        }
    }

    /// Sends entries up to `upto`, or waits further for those that are on their way.
    async fn append_entries_once(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        upto: LogId,
        option: &RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        // openraft gives this up at the hard end: what is to be known the next time is known before.
        let now = Instant::now();
        let (soon, end) = (now + option.soft_ttl(), now + option.hard_ttl());
        let (vote, after, committed) = (rpc.vote, rpc.prev_log_id, rpc.leader_commit);
        let same = |earlier: &Earlier| {
            (earlier.vote, earlier.after) == (vote, after) && earlier.upto <= upto
        };
        let fresh = !self.earlier.as_ref().is_some_and(same);
        if fresh {
            let answer = Answer::Waits(self.begin(Rpc::Append(rpc))?);
            self.earlier = Some(Earlier {
                vote,
                after,
                upto,
                answer,
            });
        }
        if let Some(Earlier {
            answer: Answer::Waits(answer),
            ..
        }) = &mut self.earlier
        {
            let Ok(answer) = timeout_at(soon, answer).await else {
                return Err(self.late());
            };
            let earlier = self.earlier.take();
            let answer = answer.map_err(|_| self.lost())?;
            let fit = match self.appended(self.heard(answer)?)? {
                AppendEntriesResponse::Success if !fresh => true,
                AppendEntriesResponse::Conflict if !fresh => false,
                answer @ (AppendEntriesResponse::Success
                | AppendEntriesResponse::Conflict
                | AppendEntriesResponse::PartialSuccess(_)
                | AppendEntriesResponse::HigherVote(_)) => return Ok(answer),
            };
            let answer = Answer::Came(fit);
            self.earlier = earlier.map(|earlier| Earlier { answer, ..earlier });
        }
        let Some(Earlier {
            upto: sent,
            answer: Answer::Came(fit),
            ..
        }) = &self.earlier
        else {
            return Err(self.late());
        };
        let (sent, fit) = (*sent, *fit);
        let has = if fit { Some(sent) } else { after };
        // openraft takes an answer for one to what it asks now: that the voter still follows is asked now.
        let confirm = AppendEntriesRequest {
            vote,
            prev_log_id: has,
            leader_commit: committed,
            entries: Vec::new(),
        };
        let answer = self.append(confirm, end).await?;
        self.earlier = None;
        Ok(match answer {
            AppendEntriesResponse::Success if fit && sent < upto => {
                AppendEntriesResponse::PartialSuccess(has)
            }
            // What did not fit then does now: it is sent again.
            AppendEntriesResponse::Success if !fit => return Err(self.late()),
            other @ (AppendEntriesResponse::Success
            | AppendEntriesResponse::Conflict
            | AppendEntriesResponse::PartialSuccess(_)
            | AppendEntriesResponse::HigherVote(_)) => other,
        })
    }

    fn confused<E: std::error::Error>(&self) -> RPCError<u64, BasicNode, E> {
        let why = "it answers something else than was asked".to_owned();
        let node = self.node;
        NetworkError::new(&NoAnswer::Refused { node, why }).into()
    }
}

impl RaftNetwork<Types> for Voter {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let Some(upto) = rpc.entries.last().map(|entry| entry.log_id) else {
            return self.append(rpc, Instant::now() + option.hard_ttl()).await;
        };
        self.append_entries_once(rpc, upto, &option).await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        let deadline = Instant::now() + option.hard_ttl();
        match self.call(Rpc::Vote(rpc), deadline).await? {
            RaftAnswer::Vote(answer) => Ok(answer),
            RaftAnswer::Append(_)
            | RaftAnswer::Refused(_)
            | RaftAnswer::PreVote(_)
            | RaftAnswer::Follows(_)
            | RaftAnswer::Released => Err(self.confused()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<u64>,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        let node = self.node;
        let Some(way) = &self.way else {
            return Err(Unreachable::new(&NoAnswer::Alone(node)).into());
        };
        let sending = way.send_snapshot(self.shard, vote, snapshot);
        tokio::select! {
            sent = sending => sent.map_err(|error| {
                let why = format!("{error:#}");
                Unreachable::new(&NoAnswer::Snapshot { node, why }).into()
            }),
            closed = cancel => Err(closed.into()),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(Duration::from_millis(LEFT_ALONE_MS)))
    }
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
