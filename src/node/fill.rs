//! Rooms in bulk, for a measurement: the commands that clients would have caused, given to the shards' own groups.

use crate::{
    cluster::{
        feeds::{peer_throttle::PeerThrottles, wake::Wakers},
        log::{batch::Apply as _, entries::Entries},
        raft::group::Group,
        read_entry,
        shard::{Shard, apply::ApplyToActors, directory::Awake},
    },
    perform::{Environment, workers::Workers},
    store::Disk,
};
use anyhow::{Context, ensure};
use mimi_actors::{
    ids::{ProviderId, RoomUri},
    limits::{LEASE_MS, SHARDS_DEFAULT},
    link,
    machine::Millis,
    mls::check::bundle::Terms,
    record::{Command, Entry},
    room::{
        checks::{COMMIT_RATE, Mls},
        hub,
    },
    shard::{place, read::ReadError},
    supervisor::Supervisor,
    user::command::Rules,
    wire::{self, BVec, version::Release},
};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// Commands in one entry.
const ENTRY_COMMANDS: usize = 256;
/// About how many bytes a command takes.
const COMMAND_BYTES: usize = 4_096;
/// How long sealing may take.
const SEAL_DEADLINE: Duration = Duration::from_secs(600);
/// How often it is looked whether a snapshot is there.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Puts rooms into the log of a node that does not run, each by the same commands, and seals its shards.
///
/// # Errors
/// When the log cannot be opened or written, or a shard is not sealed in time.
pub(crate) async fn fill(
    data: &Path,
    rooms: &[RoomUri],
    commands: &[Arc<hub::Command>],
) -> anyhow::Result<()> {
    let provider = rooms.first().context("there is a room")?.hub().clone();
    let disk = Disk::open(data, SHARDS_DEFAULT, u64::MAX)?;
    let supervisor = Supervisor::start().await?;
    let environment = Arc::new(environment(provider)?);
    let mut names = vec![Vec::new(); usize::from(SHARDS_DEFAULT)];
    for room in rooms {
        let shard = place(&room.to_string(), SHARDS_DEFAULT);
        if let Some(names) = names.get_mut(usize::from(shard)) {
            names.push(room);
        }
    }
    // One after the other: each holds its rooms twice while it is sealed.
    for (id, names) in (0..SHARDS_DEFAULT).zip(names) {
        let reading = disk.clone();
        let read = move |index| {
            let refuse = |why: String| ReadError { index, why };
            read_entry(&reading, id, index).map_err(refuse)
        };
        let entries = Entries::new(Box::new(read));
        let (shard, _) = Shard::new(
            id,
            Arc::clone(&environment),
            entries,
            &supervisor.cell(),
            true,
        );
        fill_shard(shard, &disk, data, &names, commands).await?;
    }
    drop(supervisor);
    Ok(disk.release().await?)
}

async fn fill_shard(
    shard: Arc<Shard>,
    disk: &Disk,
    data: &Path,
    rooms: &[&RoomUri],
    commands: &[Arc<hub::Command>],
) -> anyhow::Result<()> {
    let apply = Arc::new(ApplyToActors(Arc::clone(&shard)));
    // Sealed once, at the end.
    let every = u64::MAX;
    let group = Group::start(shard.id, 1, disk, every, Arc::clone(&apply) as _, None).await?;
    // Rooms as this release makes them.
    let level = vec![Command::Level(Release::OWN.level)];
    propose(&group, &apply, level).await?;
    for rooms in rooms.chunks(ENTRY_COMMANDS / commands.len()) {
        let commands = rooms.iter().flat_map(|room| {
            let command = |command| Command::Hub((*room).clone(), Arc::clone(command));
            commands.iter().map(command)
        });
        propose(&group, &apply, commands.collect()).await?;
        shard.put_to_sleep(Duration::ZERO).await;
    }
    let delivered = delivered(&shard);
    let last = propose(&group, &apply, delivered).await?;
    group.seal_soon();
    sealed(data, shard.id, last + 1).await?;
    group.stop().await;
    Ok(())
}

async fn propose(
    group: &Group,
    apply: &ApplyToActors,
    commands: Vec<Command>,
) -> anyhow::Result<u64> {
    let entry = Entry {
        stamp: Millis(1),
        commands: BVec::try_from(commands)?,
    };
    let bytes = wire::encode_sized(&entry, ENTRY_COMMANDS * COMMAND_BYTES);
    Ok(group.propose(apply.decode(bytes)?).await?)
}

/// What a shard writes down once its notices have arrived: theirs are for users that are not there.
fn delivered(shard: &Shard) -> Vec<Command> {
    let derived = shard.looked_at();
    let acks = derived
        .links
        .peers()
        .map(|(peer, outgoing)| link::Command::Ack {
            peer: peer.clone(),
            upto: outgoing.last(),
            refused: Vec::new(),
        });
    acks.map(Command::Link).collect()
}

/// Waits for the snapshot of a shard that holds everything below `next`.
async fn sealed(data: &Path, shard: u16, next: u64) -> anyhow::Result<()> {
    let dir = data.join("snapshots").join(format!("{shard:02}"));
    let manifest = dir.join(format!("{next:020}")).join("manifest");
    let deadline = Instant::now() + SEAL_DEADLINE;
    while !manifest.exists() {
        ensure!(Instant::now() < deadline, "{} is not sealed", dir.display());
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

fn environment(provider: ProviderId) -> anyhow::Result<Environment> {
    Ok(Environment {
        provider,
        shards: SHARDS_DEFAULT,
        clock: Arc::new(|| Millis(1)),
        awake: Awake::at_most(usize::MAX),
        workers: Workers::new(1, 1),
        wakers: Wakers::default(),
        throttles: PeerThrottles::default(),
        hub_key: [0; 32],
        mls: Arc::new(Mls {
            hub_signer: Arc::new(|_, _| Vec::new()),
            terms: Terms::default(),
            lease_ms: LEASE_MS,
            commit_rate: COMMIT_RATE,
        }),
        rules: Rules::default(),
        lane_credit_bytes: 0,
        backlog_items_max: u64::MAX,
        request_deadline: Duration::from_secs(10),
    })
}
