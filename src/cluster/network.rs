//! openraft's way to the other voters of a shard, over the mesh.

use super::{
    mesh::{
        Mesh,
        frame::{RaftAnswer, RaftCall, Rpc},
        neighbour::Neighbour,
        send_snapshot,
    },
    raft::Types,
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

/// How long a voter that cannot be reached is left alone, in milliseconds.
const LEFT_ALONE_MS: u64 = 200;
/// What a call costs beside its entries, in bytes, about.
const CALL_BYTES: usize = 256;

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
    mesh: Option<Arc<Mesh>>,
}

impl Network {
    pub(super) fn new(shard: u16, mesh: Option<Arc<Mesh>>) -> Self {
        Self { shard, mesh }
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Voter;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Voter {
        let way = self.mesh.clone().map(|mesh| {
            let neighbour = mesh.neighbour(target, &node.addr);
            (mesh, neighbour)
        });
        Voter {
            shard: self.shard,
            node: target,
            way,
        }
    }
}

/// Another voter of one shard.
pub(crate) struct Voter {
    shard: u16,
    node: u64,
    way: Option<(Arc<Mesh>, Arc<Neighbour>)>,
}

impl Voter {
    async fn call<E: std::error::Error>(
        &self,
        rpc: Rpc,
        option: &RPCOption,
    ) -> Result<RaftAnswer, RPCError<u64, BasicNode, E>> {
        let node = self.node;
        let Some((_, neighbour)) = &self.way else {
            return Err(Unreachable::new(&NoAnswer::Alone(node)).into());
        };
        let (caller, bytes) = match &rpc {
            Rpc::Append(append) if !append.entries.is_empty() => {
                let entries = append.entries.iter().map(super::recent::cost);
                (neighbour.bulk(), entries.sum::<usize>())
            }
            Rpc::Append(_) | Rpc::Vote(_) | Rpc::PreVote(_) | Rpc::Released(_) | Rpc::Follow(_) => {
                (neighbour.urgent(), 0)
            }
        };
        if neighbour.link().is_none() {
            return Err(Unreachable::new(&NoAnswer::Lost(node)).into());
        }
        let shard = self.shard;
        let called = caller.call(RaftCall { shard, rpc }, CALL_BYTES + bytes);
        match tokio::time::timeout(option.hard_ttl(), called).await {
            Ok(Ok(RaftAnswer::Refused(why))) => {
                let why = why.to_string();
                Err(Unreachable::new(&NoAnswer::Refused { node, why }).into())
            }
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Unreachable::new(&NoAnswer::Lost(node)).into()),
            Err(_) => Err(NetworkError::new(&NoAnswer::Late(node)).into()),
        }
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
        match self.call(Rpc::Append(rpc), &option).await? {
            RaftAnswer::Append(answer) => Ok(answer),
            RaftAnswer::Vote(_)
            | RaftAnswer::Refused(_)
            | RaftAnswer::PreVote(_)
            | RaftAnswer::Follows(_)
            | RaftAnswer::Released => Err(self.confused()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        match self.call(Rpc::Vote(rpc), &option).await? {
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
        let Some((mesh, neighbour)) = &self.way else {
            return Err(Unreachable::new(&NoAnswer::Alone(node)).into());
        };
        // The transfer has deadlines of its own, for each step.
        let sending = send_snapshot(neighbour, mesh.disk(), self.shard, &vote, snapshot);
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
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_alone_reaches_nobody_and_the_error_says_why() {
        let mut network = Network::new(0, None);
        let mut voter = network.new_client(7, &BasicNode::default()).await;
        let request = VoteRequest::new(Vote::new(1, 1), None);
        let error = voter
            .vote(request, RPCOption::new(Duration::from_secs(1)))
            .await
            .unwrap_err();
        assert!(matches!(error, RPCError::Unreachable(_)));
        let text = error.to_string();
        assert!(text.contains("node 7 cannot be reached"), "{text}");
    }
}
