//! The task that walks what is at rest, slowly and for ever, and what follows from damage.
//!
//! Promises: no more bytes are read in a second than the operator allows; a damaged snapshot is set aside and another is
//! sealed; damage of the log or of the backlog ends the task, and the node with it, for a node must not lead or vote on
//! bytes that it cannot read. Not here: the reading (`store::scrub`).

use crate::{
    cluster::{log::tail::LogFault, raft::group::Group},
    store::{
        Disk,
        log::ReadError,
        scrub::{self, Damage, Understand, Walk},
        snapshot::Sealed,
    },
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task, time};

/// Bytes that one way through everything counts as, at least: a small store is not walked without a rest.
const PASS_BYTES_MIN: u64 = 64 << 20;

/// What the scrub has done since the start.
#[derive(Debug, Default)]
pub(crate) struct Scrubbed {
    /// Bytes gone through.
    pub(crate) bytes: AtomicU64,
    /// Times that everything was gone through.
    pub(crate) passes: AtomicU64,
    /// Snapshots, and parts of the log or the backlog, that were found damaged.
    pub(crate) damaged: AtomicU64,
}

/// What was found that this node cannot repair.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Found {
    /// Something does not read.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// Something that is still owed to somebody is not there.
    #[error(transparent)]
    Hole(#[from] LogFault),
}

/// The scrub of a node.
pub(crate) struct Scrub {
    disk: Disk,
    groups: Vec<Group>,
    bytes_per_s: u64,
    scrubbed: Arc<Scrubbed>,
    /// The entries that the last pass missed first, by shard.
    missed: BTreeMap<u16, u64>,
}

impl Scrub {
    /// The scrub of these groups and of what they share.
    pub(crate) fn new(disk: Disk, groups: Vec<Group>, bytes_per_s: u64) -> Self {
        Self {
            disk,
            groups,
            bytes_per_s,
            scrubbed: Arc::default(),
            missed: BTreeMap::new(),
        }
    }

    /// What it has done so far.
    pub(crate) fn scrubbed(&self) -> Arc<Scrubbed> {
        Arc::clone(&self.scrubbed)
    }

    /// Walks until something is damaged that this node cannot repair; keeps the node from starting again, and says what.
    pub(crate) async fn run(&mut self) -> Found {
        if self.bytes_per_s == 0 {
            return std::future::pending().await;
        }
        loop {
            let before = self.scrubbed.bytes.load(Ordering::Relaxed);
            if let Err(found) = self.pass().await {
                self.scrubbed.damaged.fetch_add(1, Ordering::Relaxed);
                tracing::error!(error = %found, "what is at rest is damaged; this node stops, and does not start again");
                if let Err(error) = self.disk.condemn(&found.to_string()) {
                    tracing::error!(%error, "the next start will not know of the damage: do not start this node again");
                }
                return found;
            }
            let passes = self.scrubbed.passes.fetch_add(1, Ordering::Relaxed) + 1;
            let bytes = self.scrubbed.bytes.load(Ordering::Relaxed) - before;
            tracing::debug!(passes, bytes, "everything at rest was gone through");
            self.rest(PASS_BYTES_MIN.saturating_sub(bytes)).await;
        }
    }

    /// Goes through everything once.
    async fn pass(&mut self) -> Result<(), Found> {
        self.walk(scrub::log_files(&self.disk.log)).await?;
        self.walk(scrub::tables(&self.disk.backlog)).await?;
        for (shard, group) in (0..).zip(self.groups.clone()) {
            let understand = understand(&group);
            let walk = scrub::entries(&self.disk.log, shard, Arc::clone(&understand));
            self.walk(walk).await?;
            for sealed in group.snapshots() {
                if self.walk(scrub::snapshot(&sealed)).await.is_err() {
                    self.doubt(shard, &group, sealed).await;
                }
            }
            match scrub::carried(&self.disk.backlog, shard, understand) {
                Ok(walk) => self.walk(walk).await?,
                Err(error) => self.believe(shard, &group, error.into())?,
            }
            match group.check_holes().await {
                Ok(()) => drop(self.missed.remove(&shard)),
                Err(fault) => self.believe(shard, &group, fault)?,
            }
        }
        Ok(())
    }

    /// Tells what may pass from what is damaged.
    ///
    /// The state in another node's snapshot may point at what nobody needs any more, until the entries after it are
    /// applied. So a hole is one when two passes in a row find it in a shard that has a leader and nothing to apply.
    fn believe(&mut self, shard: u16, group: &Group, fault: LogFault) -> Result<(), LogFault> {
        let believed = match &fault {
            LogFault::Hole { index, .. } => {
                let figures = group.figures();
                let current = figures.leader.is_some() && figures.last == figures.applied;
                current && self.missed.insert(shard, *index) == Some(*index)
            }
            LogFault::Backlog(error) => error.is_damage(),
            // Nobody could say what is needed; what holds that up is an error of its own.
            LogFault::State { .. } => false,
            LogFault::Read(error) => matches!(**error, ReadError::Corruption { .. }),
            LogFault::Entry { .. } | LogFault::Value { .. } | LogFault::Missing { .. } => true,
        };
        if believed {
            return Err(fault);
        }
        tracing::warn!(shard, error = %fault, "a shard was not looked at whole; the next pass tries again");
        Ok(())
    }

    /// Takes a walk to its end.
    async fn walk(&self, mut walk: Walk) -> Result<(), Damage> {
        loop {
            let step = task::spawn_blocking(move || (walk.next(), walk)).await;
            let Ok((step, rest)) = step else {
                // The runtime is being shut down, or a bug ended the walk: it has told so.
                return std::future::pending().await;
            };
            walk = rest;
            let Some(bytes) = step.transpose()? else {
                return Ok(());
            };
            self.scrubbed.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.rest(bytes).await;
        }
    }

    async fn rest(&self, bytes: u64) {
        let pause = scrub::pause(bytes, self.bytes_per_s);
        if pause > Duration::ZERO {
            time::sleep(pause).await;
        }
    }

    /// Has a snapshot set aside if it is damaged. The state is in memory, and in the snapshot before and the log.
    async fn doubt(&self, shard: u16, group: &Group, sealed: Sealed) {
        match group.doubt(sealed).await {
            Ok(true) => drop(self.scrubbed.damaged.fetch_add(1, Ordering::Relaxed)),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(shard, %error, "a snapshot was not looked at; the next pass tries again");
            }
        }
    }
}

/// Whether stored bytes are an entry of this group.
fn understand(group: &Group) -> Understand {
    let group = group.clone();
    Arc::new(move |index, stored| {
        let read = group.reads_as(index, stored);
        read.map(drop).map_err(|error| error.to_string())
    })
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;
