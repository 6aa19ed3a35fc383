//! The way to the other voters. A group has one voter, so there is none to reach.

use super::raft::Types;
use openraft::{
    BasicNode, RaftNetwork, RaftNetworkFactory, Snapshot, Vote,
    error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
    },
};
use std::future::Future;

/// What every attempt to reach another voter is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {node} cannot be reached: each shard has one voter in this version")]
struct OneVoter {
    node: u64,
}

/// Makes no connections.
pub(crate) struct Alone;

/// The other node that is not there.
pub(crate) struct NoPeer(OneVoter);

impl NoPeer {
    fn unreachable(&self) -> Unreachable {
        Unreachable::new(&self.0)
    }
}

impl RaftNetworkFactory<Types> for Alone {
    type Network = NoPeer;

    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> NoPeer {
        NoPeer(OneVoter { node: target })
    }
}

impl RaftNetwork<Types> for NoPeer {
    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, BasicNode, RaftError<u64>>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote<u64>,
        _snapshot: Snapshot<Types>,
        _cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        Err(self.unreachable().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn another_voter_is_unreachable_and_the_error_says_why() {
        let mut peer = Alone.new_client(7, &BasicNode::default()).await;
        let request = VoteRequest::new(Vote::new(1, 1), None);
        let error = peer
            .vote(request, RPCOption::new(Duration::from_secs(1)))
            .await
            .unwrap_err();
        assert!(matches!(error, RPCError::Unreachable(_)));
        assert!(
            error.to_string().contains("node 7 cannot be reached"),
            "{error}"
        );
    }
}
