//! People who write to a room each, all the time, at whichever of some doors answers; and when each message was accepted.

use anyhow::{Context, ensure};
use mimi_actors::ids::RoomUri;
use mimi_client::member::{Member, PackageOptions};
use mimi_quic::DoorDialer;
use mimi_stage::{Stage, cast::Cast};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// How long one door may take before the next is tried.
const TRY: Duration = Duration::from_millis(700);
/// How long a writer rests between two messages, and reads what came.
const REST: Duration = Duration::from_millis(20);
/// How long all may take to be accepted without a break.
const QUIET_DEADLINE: Duration = Duration::from_secs(60);
/// A longer break is none that a healthy provider has.
const BREAK_MAX: Duration = Duration::from_millis(500);

/// What a writer shares with who watches it.
#[derive(Default)]
struct Shared {
    doors: Mutex<Vec<SocketAddr>>,
    accepted: Mutex<Vec<Instant>>,
    ends: AtomicBool,
}

fn held<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writers.
pub(super) struct Writers(Vec<(Arc<Shared>, JoinHandle<anyhow::Result<()>>)>);

impl Writers {
    /// One for each room, which it creates; each message has so many bytes.
    pub(super) async fn begin(
        stage: &mut Stage,
        rooms: impl Iterator<Item = &RoomUri>,
        text_bytes: usize,
    ) -> anyhow::Result<Self> {
        let mut cast = Cast::default();
        let mut writers = Vec::new();
        for (number, room) in rooms.enumerate() {
            let device = format!("writer{number}");
            let devices = [(device.as_str(), PackageOptions::default())];
            cast.enter(stage, 'a', &device, &devices).await?;
            let mut member = cast.take(&device).context("it is on stage")?;
            member.create_room(room).await?;
            let shared = Arc::new(Shared::default());
            *held(&shared.doors) = stage.doors('a')?;
            let what = (room.clone(), "x".repeat(text_bytes));
            let write = write(member, what, stage.dialer.clone(), Arc::clone(&shared));
            writers.push((shared, tokio::spawn(write)));
        }
        Ok(Self(writers))
    }

    /// From now on all write at the doors of the nodes beside `victim`.
    pub(super) fn beside(&self, stage: &mut Stage, victim: u64) -> anyhow::Result<()> {
        let doors = stage.doors_beside('a', victim)?;
        for (shared, _) in &self.0 {
            held(&shared.doors).clone_from(&doors);
        }
        Ok(())
    }

    /// Waits until all were accepted without a break for so long.
    pub(super) async fn quiet(&mut self, wait: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + QUIET_DEADLINE;
        let mut began = Instant::now();
        while began.elapsed() < wait {
            tokio::time::sleep(BREAK_MAX / 2).await;
            for (shared, task) in &mut self.0 {
                if task.is_finished() {
                    task.await??;
                    anyhow::bail!("a writer has ended");
                }
                let last = held(&shared.accepted).last().copied();
                if last.is_none_or(|last| last.elapsed() > BREAK_MAX) {
                    began = Instant::now();
                }
            }
            ensure!(Instant::now() < deadline, "some room accepts nothing");
        }
        Ok(())
    }

    /// The longest time between `from` and `to` in which some room accepted nothing. A message that was under way counts
    /// from the one before.
    pub(super) fn longest_silence(&self, from: Instant, to: Instant) -> Duration {
        let silence = self.0.iter().map(|(shared, _)| {
            let accepted = held(&shared.accepted);
            let within = accepted.iter().filter(|at| **at > from && **at < to);
            let mut longest = Duration::ZERO;
            let mut last = from;
            for at in within.chain([&to]) {
                longest = longest.max(at.duration_since(last));
                last = *at;
            }
            longest
        });
        silence.max().unwrap_or_default()
    }

    /// Ends them; each must have gone well.
    pub(super) async fn end(self) -> anyhow::Result<()> {
        for (shared, task) in self.0 {
            shared.ends.store(true, Ordering::Relaxed);
            task.await??;
        }
        Ok(())
    }
}

/// Writes until it is told to end: a message whose fate is not known is sent again as it was.
async fn write(
    mut member: Member,
    (room, text): (RoomUri, String),
    dialer: DoorDialer,
    shared: Arc<Shared>,
) -> anyhow::Result<()> {
    let mut at = None;
    let mut turn = 0;
    while !shared.ends.load(Ordering::Relaxed) {
        let doors = held(&shared.doors).clone();
        if at.is_none_or(|door| !doors.contains(&door)) {
            turn += 1;
            let door = doors.get(turn % doors.len().max(1)).copied();
            let door = door.context("there is a door")?;
            let doors = [door];
            let entering = member.connect_to_any(&dialer, &doors);
            let entered = tokio::time::timeout(TRY, entering).await;
            at = matches!(entered, Ok(Ok(()))).then_some(door);
            if at.is_none() {
                tokio::time::sleep(REST).await;
                continue;
            }
        }
        if member.unresolved(&room).is_empty() {
            member.encrypt(&room, &[&text])?;
        }
        let sent = tokio::time::timeout(TRY, member.resend(&room)).await;
        if matches!(sent, Ok(Ok(()))) {
            held(&shared.accepted).push(Instant::now());
            // Its verdict makes room for the next; without one it is sent again.
            drop(
                member
                    .run_until(REST, |member| member.unresolved(&room).is_empty())
                    .await,
            );
            tokio::time::sleep(REST).await;
        } else {
            at = None;
        }
    }
    member.disconnect();
    Ok(())
}
