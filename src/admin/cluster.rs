//! The operator's view of the cluster, and changes of who has which shard.

use crate::{
    cluster::{
        mesh::{
            Mesh,
            calls::Lost,
            frame::{Control, ControlAnswer, Note},
        },
        shard::placement::preferred,
    },
    node::Node,
};
use anyhow::{Context, bail, ensure};
use futures::future::join_all;
use mimi_actors::membership::{ChangeId, Wish, check::findings};
use mimi_operator::protocol::{ClusterShardRow, ClusterStatus, NodeRow, Response};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How long carrying a wish out in one shard may take, a lagging node's catching up included.
const CARRY_DEADLINE: Duration = Duration::from_secs(70);
/// How long a leader may take to say what it would do, speaking to another node included.
const LOOK_DEADLINE: Duration = Duration::from_secs(8);
/// How long a node may take to answer what it knows.
const ASK_DEADLINE: Duration = Duration::from_secs(3);
/// How long a shard without a leader is waited for.
const LEADER_DEADLINE: Duration = Duration::from_secs(15);
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
            addresses: members.addresses.into_iter().collect(),
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

/// Says what the next step of a wish would be in a shard, as its leader sees it.
pub(super) async fn look(node: &Node, shard: u16, wish: Wish) -> anyhow::Result<Response> {
    let answer = ask_leader(node, shard, Control::Look { shard, wish }, LOOK_DEADLINE).await?;
    let ControlAnswer::Next(next) = answer else {
        bail!("shard {shard}: its leader answered something else: {answer:?}");
    };
    Ok(Response::Next { next })
}

/// Makes sure that no other change is under way, and writes this one down on every node that is reached.
pub(super) async fn begin(node: &Node, id: ChangeId, wish: Wish) -> anyhow::Result<Response> {
    let note = Note {
        id,
        wish: wish.clone(),
    };
    ask_leader(node, 0, Control::Begin { note }, ASK_DEADLINE).await?;
    let written = tell_all(
        node,
        &Control::Note {
            id,
            wish: Some(wish),
        },
    )
    .await?;
    ensure!(written > 0, "no node could write the change down");
    Ok(Response::Done)
}

/// Carries a wish out in one shard. The change is heard of again first: it holds others off for longer than one shard takes.
pub(super) async fn carry(
    node: &Node,
    id: ChangeId,
    shard: u16,
    wish: Wish,
) -> anyhow::Result<Response> {
    let note = Note {
        id,
        wish: wish.clone(),
    };
    ask_leader(node, 0, Control::Begin { note }, ASK_DEADLINE).await?;
    let control = Control::Carry { shard, wish };
    ask_leader(node, shard, control, CARRY_DEADLINE).await?;
    Ok(Response::Done)
}

/// Takes note everywhere that a change is over.
pub(super) async fn end(node: &Node, id: ChangeId) -> anyhow::Result<Response> {
    tell_all(node, &Control::Note { id, wish: None }).await?;
    Ok(Response::Done)
}

/// Looks for what is not as it should be.
pub(super) async fn check(node: &Node) -> anyhow::Result<Response> {
    let mesh = mesh(node)?;
    let shards = node.shards.iter().map(|shard| async {
        let id = shard.id;
        let view = ask_leader(node, id, Control::View { shard: id }, ASK_DEADLINE).await;
        match view {
            Ok(ControlAnswer::View(view)) => Some(*view),
            Ok(_) | Err(_) => None,
        }
    });
    let views = join_all(shards).await;
    let nodes = everybody(mesh).into_iter();
    let noted = nodes.map(|other| mesh.control(other, Control::Noted, ASK_DEADLINE));
    let noted = join_all(noted).await.into_iter();
    let noted: Vec<(ChangeId, Wish)> = noted
        .filter_map(|answer| match answer {
            Ok(ControlAnswer::Noted(note)) => note.map(|Note { id, wish }| (id, wish)),
            Ok(_) | Err(_) => None,
        })
        .collect();
    Ok(Response::Checked {
        findings: findings(&views, &noted),
    })
}

/// This node and the others that are known.
fn everybody(mesh: &Mesh) -> Vec<u64> {
    let others = mesh.others().into_iter().map(|(node, _, _)| node);
    std::iter::once(mesh.me()).chain(others).collect()
}

/// Asks every node that is reached; returns how many have done it. This node must.
async fn tell_all(node: &Node, control: &Control) -> anyhow::Result<usize> {
    let mesh = mesh(node)?;
    let asked = everybody(mesh).into_iter().map(|other| async move {
        let answer = mesh.control(other, control.clone(), ASK_DEADLINE).await;
        (other, answer)
    });
    let mut done = 0;
    for (other, answer) in join_all(asked).await {
        match answer {
            Ok(ControlAnswer::Done) => done += 1,
            Ok(ControlAnswer::Refused(why)) if other == mesh.me() => bail!("{why}"),
            // Whoever is away does not know of the change; the others do.
            Ok(_) | Err(Lost) => {}
        }
    }
    Ok(done)
}

/// Asks the leader of a shard, whoever that is by then.
async fn ask_leader(
    node: &Node,
    shard: u16,
    control: Control,
    deadline: Duration,
) -> anyhow::Result<ControlAnswer> {
    let mesh = mesh(node)?;
    let group = mesh.group(shard).context("there is no such shard")?;
    let gives_up = Instant::now() + LEADER_DEADLINE;
    loop {
        // A leader that was lost is followed by another in a few seconds.
        if let Some(at) = group.figures().leader {
            match mesh.control(at, control.clone(), deadline).await {
                Ok(ControlAnswer::Refused(why)) => bail!("shard {shard}: {why}"),
                Ok(ControlAnswer::NotLed(_)) | Err(Lost) => {}
                Ok(answer) => return Ok(answer),
            }
        }
        if Instant::now() > gives_up {
            bail!("shard {shard} has no leader; see `mimi-node cluster status`, ask again");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
