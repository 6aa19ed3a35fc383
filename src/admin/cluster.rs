//! The operator's view of the cluster, and changes of who has which shard.

use super::protocol::{Change, ClusterShardRow, ClusterStatus, NodeRow, Response};
use crate::{
    cluster::{
        mesh::{
            Mesh,
            calls::Lost,
            frame::{Control, ControlAnswer, MemberChange},
        },
        placement::preferred,
    },
    node::Node,
};
use anyhow::{Context, bail};
use mimi_actors::wire::{BText, BVec};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How long one change may take, a lagging node's catching up included.
const CHANGE_DEADLINE: Duration = Duration::from_secs(70);
/// How long a shard without a leader is waited for.
const LEADER_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked for one.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

fn mesh(node: &Node) -> anyhow::Result<&Arc<Mesh>> {
    let mesh = node.mesh.as_ref();
    mesh.context("this node is alone: its configuration has no [cluster]")
}

/// The cluster, as this node sees it.
pub(super) fn status(node: &Node) -> anyhow::Result<Response> {
    let mesh = mesh(node)?;
    let others = mesh.others().into_iter();
    let others = others.map(|(node, address, connected)| NodeRow {
        node,
        address,
        connected,
    });
    let shards = node.shards.iter().filter_map(|shard| {
        let group = mesh.group(shard.id)?;
        let (members, figures) = (group.members(), group.figures());
        Some(ClusterShardRow {
            shard: shard.id,
            leader: figures.leader,
            preferred: preferred(shard.id, &members.voters),
            term: figures.term,
            voters: members.voters.into_iter().collect(),
            learners: members.learners.into_iter().collect(),
            last: figures.last,
            applied: figures.applied,
            applied_term: figures.applied_term,
        })
    });
    Ok(Response::Cluster(ClusterStatus {
        node: mesh.me(),
        others: others.collect(),
        shards: shards.collect(),
    }))
}

/// Changes who has a shard, at its leader.
pub(super) async fn change_member(
    node: &Node,
    shard: u16,
    change: Change,
) -> anyhow::Result<Response> {
    let mesh = mesh(node)?;
    let change = match change {
        Change::Learn { node, address } => {
            mesh.neighbour(node, &address);
            MemberChange::Learn {
                node,
                address: BText::clipped(&address),
            }
        }
        Change::Vote { voters } => MemberChange::Vote {
            voters: BVec::try_from(voters).context("that many nodes never vote in one shard")?,
        },
        Change::Forget { node } => MemberChange::Forget { node },
    };
    let group = mesh.group(shard).context("there is no such shard")?;
    let gives_up = Instant::now() + LEADER_DEADLINE;
    loop {
        // A leader that was lost is followed by another in a few seconds.
        if let Some(at) = group.figures().leader {
            let control = Control::Member {
                shard,
                change: change.clone(),
            };
            match mesh.control(at, control, CHANGE_DEADLINE).await {
                Ok(ControlAnswer::Done) => return Ok(Response::Done),
                Ok(ControlAnswer::Refused(why)) => bail!("shard {shard}: {why}"),
                Ok(ControlAnswer::NotLed(_) | ControlAnswer::Clock { .. }) | Err(Lost) => {}
            }
        }
        if Instant::now() > gives_up {
            bail!("shard {shard} has no leader; see `mimi-node cluster status`, ask again");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
