//! When a shard goes on by the formats and rules of a newer release: the leader says so in the log, once every member of
//! the shard speaks that release.
//!
//! Promises: no member gets an entry that it cannot read; what is written before is read and applied as it was. A node
//! that speaks as an earlier release than its shards are does not go on, and is not let in by the others.

use super::shards::Shards;
use crate::cluster::{mesh::Mesh, raft::group::Group};
use mimi_actors::{
    record::Command,
    wire::version::{Level, Release},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::Instant};

/// Time between two looks at who speaks what.
const INTERVAL: Duration = Duration::from_millis(250);
/// When a level that was proposed, and of which the log does not say anything yet, is proposed once more.
const AGAIN: Duration = Duration::from_secs(10);

/// Raises the levels of the shards that this node leads, until the node stops; `fatal` is told when a shard is of a later
/// release than this node speaks as.
pub(crate) async fn keep(
    shards: Shards,
    groups: Vec<Group>,
    mesh: Option<Arc<Mesh>>,
    own: Release,
    fatal: mpsc::Sender<String>,
) {
    let mut turn = tokio::time::interval(INTERVAL);
    let mut proposed = BTreeMap::new();
    loop {
        turn.tick().await;
        proposed.retain(|_, at: &mut Instant| at.elapsed() < AGAIN);
        for (shard, group) in shards.iter().zip(&groups) {
            let level = shard.level();
            if level > own.level {
                // One report is enough.
                drop(fatal.try_send(too_early(shard.id, level, own)));
                return;
            }
            if level == own.level || !shard.leads() || proposed.contains_key(&shard.id) {
                continue;
            }
            let members = group.members();
            let others = members.addresses.keys().copied();
            let others = others.filter(|node| Some(*node) != mesh.as_ref().map(|mesh| mesh.me()));
            let speaks = |node| mesh.as_ref().and_then(|mesh| mesh.level_of(node));
            // A node alone is the only member, whatever its number.
            let next = match &mesh {
                Some(_) => level.next(own.level, others.map(speaks)),
                None => level.next(own.level, []),
            };
            let Some(next) = next else { continue };
            match shard.queue(Command::Level(next), None) {
                Ok(()) => drop(proposed.insert(shard.id, Instant::now())),
                Err(refused) => {
                    tracing::debug!(shard = shard.id, %refused, "the level is raised later");
                }
            }
        }
    }
}

fn too_early(shard: u16, level: Level, own: Release) -> String {
    format!(
        "shard {shard} goes by the rules of release {level}, and this node speaks as {}: leave `node.speak_release` empty, \
         or run a later release",
        own.name
    )
}
