//! A shard's sealed snapshot on its way to a node that lags behind the log.
//!
//! The node that lags asks for what it does not have: pieces of files, then the entries before the snapshot that its
//! state still points at (undelivered payloads), which the leader reads from its log or backlog. What has arrived is
//! kept over a cut, so a transfer goes on where it stopped. Nothing is installed before every hash was compared.

use super::{
    Mesh,
    calls::Lost,
    frame::{FRAME_BYTES_MAX, Give, InstallAnswer, Offer, Open, Want, Why},
    neighbour::Neighbour,
};
use crate::{
    cluster::log::{
        record,
        types::{Snapshot, Vote},
    },
    quic::{LaneReceiver, LaneSender},
    store::{
        Disk,
        snapshot_incoming::{Incoming, PIECE_BYTES_MAX},
    },
};
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use mimi_actors::wire::{self, BVec, Payload, Versioned};
use openraft::raft::SnapshotResponse;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::task::spawn_blocking;

/// How long the other side may take for its next frame. Installing a large state takes a while.
const STEP_DEADLINE: Duration = Duration::from_secs(120);
/// How long the rest of a frame may take.
const FRAME_DEADLINE: Duration = Duration::from_secs(30);
/// Entries that are asked for at a time.
const ENTRIES_AT_A_TIME: usize = 1_024;
/// About how many bytes of entries go into one frame.
const ENTRIES_FILL_BYTES: usize = 4 << 20;

async fn next<T: Versioned>(from: &mut LaneReceiver) -> anyhow::Result<T> {
    let frame = from.next(FRAME_BYTES_MAX, Some(FRAME_DEADLINE));
    let frame = tokio::time::timeout(STEP_DEADLINE, frame)
        .await
        .context("nothing came in time")??;
    Ok(wire::decode(
        &frame.context("the other side ended the lane")?,
    )?)
}

/// Offers a snapshot to a node and gives it what it wants of it, until it is installed there.
///
/// # Errors
/// When the connection is lost, the files do not read, or the node refuses it.
pub(crate) async fn send(
    neighbour: &Neighbour,
    disk: &Disk,
    shard: u16,
    vote: &Vote,
    snapshot: Snapshot,
) -> anyhow::Result<SnapshotResponse<u64>> {
    let sealed = snapshot
        .snapshot
        .context("there is no sealed snapshot to send")?;
    let offer = Offer::new(shard, vote, &snapshot.meta, sealed.manifest()?)?;
    let link = neighbour.link().ok_or(Lost)?;
    let (mut to, mut from) = link.link().open_lane().await?;
    to.write(&Open::Snapshot(offer)).await?;
    let sealed = Arc::new(sealed);
    loop {
        let give = match next(&mut from).await? {
            Want::Piece { file, offset } => {
                let sealed = Arc::clone(&sealed);
                let file = usize::try_from(file)?;
                let piece = spawn_blocking(move || sealed.piece(file, offset)).await??;
                Give::Piece(Payload(piece.into()))
            }
            Want::Entries(indexes) => {
                let disk = disk.clone();
                let entries = spawn_blocking(move || stored(&disk, shard, &indexes)).await??;
                Give::Entries(entries)
            }
            Want::Installed(InstallAnswer(answer)) => return Ok(answer),
            Want::Refused(why) => bail!("node {} refuses the snapshot: {why}", link.node()),
        };
        to.write_sized(&give, PIECE_BYTES_MAX).await?;
    }
}

/// The first of some entries as they lie in the log or the backlog. One that is in neither is needed by nobody any more.
fn stored(disk: &Disk, shard: u16, indexes: &[u64]) -> anyhow::Result<Vec<(u64, Payload)>> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for index in indexes {
        let logged = disk.log.read(shard, *index, index + 1, usize::MAX)?;
        let found = match logged.into_iter().find(|(found, _)| found == index) {
            Some((_, stored)) => Some(stored),
            None => disk.backlog.entry(shard, *index)?,
        };
        let stored = found.unwrap_or_default();
        bytes += stored.len();
        entries.push((*index, Payload(stored)));
        if bytes > ENTRIES_FILL_BYTES {
            break;
        }
    }
    Ok(entries)
}

/// Takes a snapshot that a leader offers.
pub(super) async fn receive(
    mesh: &Arc<Mesh>,
    offer: Offer,
    mut to: LaneSender,
    mut from: LaneReceiver,
) -> anyhow::Result<()> {
    let shard = offer.shard;
    let taken = take(mesh, &offer, &mut to, &mut from).await;
    let want = match taken {
        Ok(answer) => Want::Installed(InstallAnswer(answer)),
        Err(error) => {
            tracing::error!(shard, error = %format!("{error:#}"), "a snapshot of another node is not taken over");
            Want::Refused(Why::clipped(&format!("{error:#}")))
        }
    };
    to.write(&want).await?;
    Ok(to.finish()?)
}

async fn take(
    mesh: &Arc<Mesh>,
    offer: &Offer,
    to: &mut LaneSender,
    from: &mut LaneReceiver,
) -> anyhow::Result<SnapshotResponse<u64>> {
    let shard = offer.shard;
    let group = mesh.group(shard).context("the shard is not started here")?;
    let (vote, meta) = (offer.vote()?, offer.meta()?);
    // One at a time: a second leader's offer waits for the first to fail.
    let _turn = group.transfer_turn().await;
    let snapshots = Arc::clone(&mesh.disk().snapshots);
    let (store, manifest) = (Arc::clone(&snapshots), offer.manifest.to_vec());
    let incoming = spawn_blocking(move || store.begin_incoming(shard, &manifest)).await??;
    let incoming = pieces(Arc::new(incoming), to, from).await?;
    let finished = spawn_blocking(move || incoming.finish()).await?;
    let sealed = match finished {
        Ok(sealed) => sealed,
        Err(error) => {
            // What came is not what was sealed: from the beginning, then.
            snapshots.drop_incoming(shard)?;
            return Err(error.into());
        }
    };
    let (last, _): (
        Option<crate::cluster::log::types::LogId>,
        crate::cluster::log::types::StoredMembership,
    ) = record::decode_small(sealed.position())?;
    ensure!(
        last == meta.last_log_id,
        "the snapshot stands at {last:?} and was announced at {:?}",
        meta.last_log_id
    );
    let (store, loaded) = (Arc::clone(&snapshots), sealed.clone());
    let rows = spawn_blocking(move || store.load(&loaded)).await??;
    let needed = group.pointed_in(&rows, sealed.next())?;
    entries(mesh, shard, needed, to, from).await?;
    tracing::info!(
        shard,
        next = sealed.next(),
        "the snapshot of another node is taken over"
    );
    let answer = group.install(vote, meta, sealed, rows).await?;
    snapshots.drop_incoming(shard)?;
    Ok(answer)
}

/// Asks for every piece that is not here yet.
async fn pieces(
    incoming: Arc<Incoming>,
    to: &mut LaneSender,
    from: &mut LaneReceiver,
) -> anyhow::Result<Incoming> {
    for file in 0..incoming.files() {
        loop {
            let asked = Arc::clone(&incoming);
            let Some(offset) = spawn_blocking(move || asked.wanted(file)).await?? else {
                break;
            };
            let number = u32::try_from(file)?;
            let want = Want::Piece {
                file: number,
                offset,
            };
            to.write(&want).await?;
            let Give::Piece(piece) = next(from).await? else {
                bail!("a piece of a file was wanted, and something else came");
            };
            ensure!(
                piece.len() <= PIECE_BYTES_MAX,
                "a piece of {} bytes, the limit is {PIECE_BYTES_MAX}",
                piece.len()
            );
            let adding = Arc::clone(&incoming);
            spawn_blocking(move || adding.add(file, &piece)).await??;
        }
    }
    Arc::into_inner(incoming).context("a piece is still being written")
}

/// Asks for the entries that are needed and that this node does not have.
async fn entries(
    mesh: &Arc<Mesh>,
    shard: u16,
    mut needed: BTreeSet<u64>,
    to: &mut LaneSender,
    from: &mut LaneReceiver,
) -> anyhow::Result<()> {
    let group = mesh.group(shard).context("the shard is not started here")?;
    let disk = mesh.disk().clone();
    // What is applied here is here already, as far as anybody needs it.
    let applied = group.applied().map_or(0, |last| last + 1);
    let kept: BTreeSet<u64> = disk.backlog.indexes(shard)?.into_iter().collect();
    needed.retain(|index| *index >= applied && !kept.contains(index));
    while !needed.is_empty() {
        let asked = needed.iter().copied().take(ENTRIES_AT_A_TIME);
        to.write(&Want::Entries(BVec::first_max(asked))).await?;
        let Give::Entries(given) = next(from).await? else {
            bail!("entries were wanted, and something else came");
        };
        ensure!(!given.is_empty(), "no entry came");
        let mut add: Vec<(u64, Bytes)> = Vec::with_capacity(given.len());
        for (index, stored) in given {
            ensure!(needed.remove(&index), "entry {index} was not asked for");
            if stored.is_empty() {
                continue;
            }
            group.reads_as(index, &stored.0)?;
            add.push((index, stored.0));
        }
        let disk = disk.clone();
        spawn_blocking(move || disk.backlog.carry(shard, 0, &add, &[])).await??;
    }
    Ok(())
}
