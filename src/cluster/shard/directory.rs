//! The rooms and users of one shard: awake as actors, or asleep as compact bytes.
//!
//! Promises: there is at most one actor for each; a command or an input wakes a sleeper; what was never begun costs
//! nothing and leaves nothing behind; no more are awake than may be, but for those that a log entry needs.

use mimi_actors::{
    host::{Clock, Handle, Perform, Start},
    kind::Kind,
    machine::{Desk, Fold, ReviveError},
};
use ractor::{ActorCell, SpawnErr};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// How long an actor may rest and stay awake when more than half as many as may be are awake.
const IDLE_WHEN_MANY: Duration = Duration::from_secs(5);
/// The same when it is more than three quarters.
const IDLE_WHEN_CROWDED: Duration = Duration::from_secs(1);

/// Why an actor cannot be woken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WakeError {
    /// The bytes it left do not read back: they never left this process, so this is a bug.
    #[error(transparent)]
    Revive(#[from] ReviveError),
    /// The runtime does not start it.
    #[error("start an actor: {0}")]
    Spawn(#[from] SpawnErr),
    /// As many as may be are awake on this node already, and none of them rests.
    #[error("{max} actors are awake already")]
    Crowded {
        /// How many may be.
        max: usize,
    },
}

/// How many actors are awake on a node, of all shards and kinds, and how many may be for what is asked.
#[derive(Clone, Debug)]
pub(crate) struct Awake {
    count: Arc<AtomicUsize>,
    max: usize,
    /// How often there was no place.
    refused: Arc<AtomicU64>,
}

impl Awake {
    pub(crate) fn at_most(max: usize) -> Self {
        Self {
            count: Arc::default(),
            max,
            refused: Arc::default(),
        }
    }

    /// How often something had to come again because as many as may be were awake.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How long an actor may go on without being asked for anything: less, the more are awake.
    pub(crate) fn idle(&self, usual: Duration) -> Duration {
        match self.count() {
            few if few <= self.max / 2 => usual,
            many if many <= self.max / 4 * 3 => usual.min(IDLE_WHEN_MANY),
            _ => usual.min(IDLE_WHEN_CROWDED),
        }
    }

    /// A place for one more; `None` when there is none.
    fn place(&self) -> Option<Place> {
        if self.count() < self.max {
            return Some(self.take());
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// A place for one more, whether there is one or not.
    fn take(&self) -> Place {
        self.count.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(&self.count))
    }
}

/// The place of an actor that is awake, until it is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is kept of an actor: little of one that sleeps, for those are many.
enum Slot<D: Desk> {
    Awake(Box<Waking<D>>),
    Asleep(Box<[u8]>),
}

struct Waking<D: Desk> {
    handle: Handle<D>,
    used: Instant,
    _place: Place,
}

impl<D: Desk> Slot<D> {
    fn is_tired(&self, idle: Duration) -> bool {
        match self {
            Self::Awake(waking) => waking.used.elapsed() >= idle,
            Self::Asleep(_) => false,
        }
    }
}

/// An actor's state, or whom to ask for it.
pub(crate) enum Resident<D: Desk> {
    /// It is awake, and stays so for as long as this is held.
    Awake(Handle<D>),
    /// Its compact state.
    Asleep(Box<[u8]>),
}

/// Where the state of an actor is looked at.
pub(crate) enum Seen<D: Desk> {
    /// It is awake.
    Awake(Handle<D>),
    /// It sleeps, or never was: this is its state.
    Is(D::Fold),
}

/// Makes what carries out an actor's orders.
type MakePerform<D> = Box<dyn Fn(&<D as Kind>::Key) -> Perform<D> + Send + Sync>;

/// All actors of one kind in one shard.
pub(crate) struct Directory<D: Kind> {
    slots: BTreeMap<D::Key, Slot<D>>,
    clock: Clock,
    perform: MakePerform<D>,
    supervisor: ActorCell,
    awake: Awake,
    /// What a fold looks like before its first command, in compact form.
    nothing: Vec<u8>,
}

impl<D: Kind> Directory<D> {
    pub(crate) fn new(
        clock: Clock,
        perform: MakePerform<D>,
        supervisor: ActorCell,
        awake: Awake,
    ) -> Self {
        let nothing = D::Fold::default().compact();
        Self {
            slots: BTreeMap::new(),
            clock,
            perform,
            supervisor,
            awake,
            nothing,
        }
    }

    /// The actor of `key` for what the log has for it, woken or begun if need be: the log waits for nobody.
    pub(crate) async fn wake(&mut self, key: &D::Key) -> Result<Handle<D>, WakeError> {
        if let Some(handle) = self.awake(key) {
            return Ok(handle);
        }
        let fold = match self.slots.get(key) {
            Some(Slot::Asleep(compact)) => D::Fold::revive(compact)?,
            Some(Slot::Awake(_)) | None => D::Fold::default(),
        };
        let place = self.awake.take();
        self.start(key, fold, D::default(), place).await
    }

    /// The actor of `key` for what it is asked, woken if it sleeps; none where nothing was ever begun.
    pub(crate) async fn find(&mut self, key: &D::Key) -> Result<Option<Handle<D>>, WakeError> {
        if let Some(handle) = self.awake(key) {
            return Ok(Some(handle));
        }
        let Some(Slot::Asleep(compact)) = self.slots.get(key) else {
            return Ok(None);
        };
        let fold = D::Fold::revive(compact)?;
        let place = self.place()?;
        let started = self.start(key, fold, D::default(), place).await;
        started.map(Some)
    }

    /// The state of `key`, or whom to ask for it: a look wakes nobody.
    pub(crate) fn seen(&self, key: &D::Key) -> Result<Seen<D>, WakeError> {
        Ok(match self.slots.get(key) {
            Some(Slot::Awake(waking)) => Seen::Awake(waking.handle.clone()),
            Some(Slot::Asleep(compact)) => Seen::Is(D::Fold::revive(compact)?),
            None => Seen::Is(D::Fold::default()),
        })
    }

    /// Begins an actor where there is none, with what its desk holds already.
    pub(crate) async fn begin(&mut self, key: &D::Key, desk: D) -> Result<(), WakeError> {
        let place = self.place()?;
        let started = self.start(key, D::Fold::default(), desk, place).await;
        started.map(drop)
    }

    /// The actor of `key`, if it is awake.
    fn awake(&mut self, key: &D::Key) -> Option<Handle<D>> {
        let Some(Slot::Awake(waking)) = self.slots.get_mut(key) else {
            return None;
        };
        waking.used = Instant::now();
        Some(waking.handle.clone())
    }

    fn place(&self) -> Result<Place, WakeError> {
        let max = self.awake.max;
        self.awake.place().ok_or(WakeError::Crowded { max })
    }

    async fn start(
        &mut self,
        key: &D::Key,
        fold: D::Fold,
        desk: D,
        place: Place,
    ) -> Result<Handle<D>, WakeError> {
        let perform = (self.perform)(key);
        let start = Start {
            fold,
            desk,
            clock: self.clock.clone(),
            perform,
        };
        let handle = Handle::start(start, self.supervisor.clone()).await?;
        let waking = Waking {
            handle: handle.clone(),
            used: Instant::now(),
            _place: place,
        };
        self.slots
            .insert(key.clone(), Slot::Awake(Box::new(waking)));
        Ok(handle)
    }

    /// Whom nobody has asked for anything for a while.
    pub(crate) fn tired(&self, idle: Duration) -> Vec<D::Key> {
        let tired = self.slots.iter().filter(|(_, slot)| slot.is_tired(idle));
        tired.map(|(key, _)| key.clone()).collect()
    }

    /// Puts an actor to sleep, if it is tired still and nobody waits there. Returns whether it did.
    pub(crate) async fn put_to_sleep(&mut self, key: &D::Key, idle: Duration) -> bool {
        let slot = self.slots.get(key).filter(|slot| slot.is_tired(idle));
        let Some(Slot::Awake(waking)) = slot else {
            return false;
        };
        let Some(compact) = waking.handle.sleep().await else {
            return false;
        };
        if compact == self.nothing {
            self.slots.remove(key);
        } else {
            let asleep = Slot::Asleep(compact.into_boxed_slice());
            self.slots.insert(key.clone(), asleep);
        }
        true
    }

    /// The compact state of every actor, in order; those that hold nothing are left out.
    pub(crate) async fn compact(&self) -> Vec<(D::Key, Vec<u8>)> {
        let mut all = Vec::with_capacity(self.slots.len());
        for (key, slot) in &self.slots {
            let compact = match slot {
                Slot::Asleep(compact) => compact.to_vec(),
                Slot::Awake(waking) => match waking.handle.look(Fold::compact).await {
                    Ok(compact) => compact,
                    Err(_) => continue,
                },
            };
            if compact != self.nothing {
                all.push((key.clone(), compact));
            }
        }
        all
    }

    /// Everybody, in order. Their states are those of this moment for as long as nothing is applied.
    pub(crate) fn residents(&self) -> Vec<(D::Key, Resident<D>)> {
        let resident = |slot: &Slot<D>| match slot {
            Slot::Awake(waking) => Resident::Awake(waking.handle.clone()),
            Slot::Asleep(compact) => Resident::Asleep(compact.clone()),
        };
        self.slots
            .iter()
            .map(|(key, slot)| (key.clone(), resident(slot)))
            .collect()
    }

    /// Ends and forgets everybody, and takes over sleepers.
    pub(crate) fn replace(&mut self, sleepers: Vec<(D::Key, Box<[u8]>)>) {
        for slot in self.slots.values() {
            if let Slot::Awake(waking) = slot {
                waking.handle.end();
            }
        }
        // Made of all at once: of a map that grows in order, half of the nodes stay empty.
        self.slots = sleepers
            .into_iter()
            .map(|(key, compact)| (key, Slot::Asleep(compact)))
            .collect();
    }

    /// Empties every desk.
    pub(crate) fn step_down(&self) {
        for slot in self.slots.values() {
            if let Slot::Awake(waking) = slot {
                waking.handle.step_down();
            }
        }
    }

    /// Everybody who was ever begun, in order.
    pub(crate) fn keys(&self) -> Vec<D::Key> {
        self.slots.keys().cloned().collect()
    }

    /// How many actors are awake, and how many sleep.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let awake = self
            .slots
            .values()
            .filter(|slot| matches!(slot, Slot::Awake(_)))
            .count();
        (awake, self.slots.len() - awake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mimi_actors::{
        host::{OfEntry, Work},
        ids::UserUri,
        machine::{Millis, Position},
        supervisor::Supervisor,
        user::{
            command::{Add, Command},
            desk::Desk,
            fold::State,
        },
        wire::{event::Hash, version::Level},
    };
    use std::sync::Arc;

    async fn users() -> (Supervisor, Directory<Desk>) {
        let supervisor = Supervisor::start().await.unwrap();
        let perform: MakePerform<Desk> = Box::new(|_| Arc::new(|_| {}));
        let clock: Clock = Arc::new(|| Millis(1));
        let awake = Awake::at_most(2);
        let directory = Directory::new(clock, perform, supervisor.cell(), awake);
        (supervisor, directory)
    }

    #[tokio::test]
    async fn who_is_idle_sleeps_as_bytes_and_wakes_as_it_was() {
        let (_supervisor, mut directory) = users().await;
        let alice: UserUri = "mimi://a.example/u/alice".parse().unwrap();
        let add = Command::Add(Add {
            user: alice.clone(),
            code: Hash::of(b"code"),
        });
        let at = Position {
            entry: 1,
            command: 0,
        };
        let entry = OfEntry {
            time: Millis(1),
            level: Level::FIRST,
        };
        let work = vec![Work {
            at,
            command: Arc::new(add),
            ticket: None,
        }];
        directory
            .wake(&alice)
            .await
            .unwrap()
            .apply(entry, work)
            .await
            .unwrap();
        let before = directory.compact().await;

        assert!(directory.put_to_sleep(&alice, Duration::ZERO).await);
        assert_eq!(directory.counts(), (0, 1));
        assert_eq!(directory.compact().await, before);
        let state = directory
            .wake(&alice)
            .await
            .unwrap()
            .look(|fold| fold.state())
            .await;
        assert_eq!(state, Ok(State::Active));
        assert_eq!(directory.counts(), (1, 0));
        assert_eq!(directory.compact().await, before);
    }

    fn user(name: &str) -> UserUri {
        format!("mimi://a.example/u/{name}").parse().unwrap()
    }

    #[tokio::test]
    async fn whoever_never_was_is_not_there_and_what_is_begun_in_vain_leaves_nothing_behind() {
        let (_supervisor, mut directory) = users().await;
        let nobody = user("nobody");
        assert!(directory.find(&nobody).await.unwrap().is_none());
        assert_eq!(directory.counts(), (0, 0));
        directory.begin(&nobody, Desk::default()).await.unwrap();
        let lease = directory.find(&nobody).await.unwrap();
        assert!(
            !directory.put_to_sleep(&nobody, Duration::ZERO).await,
            "somebody holds a lease"
        );
        drop(lease);
        assert_eq!(
            directory.tired(Duration::ZERO),
            std::slice::from_ref(&nobody)
        );
        assert!(directory.put_to_sleep(&nobody, Duration::ZERO).await);
        assert_eq!(directory.counts(), (0, 0));
    }

    #[tokio::test]
    async fn no_more_are_awake_than_may_be_but_for_the_log_and_a_sleeper_makes_room() {
        let (_supervisor, mut directory) = users().await;
        for name in ["alice", "bob"] {
            directory.begin(&user(name), Desk::default()).await.unwrap();
        }
        let crowded = directory.begin(&user("eve"), Desk::default()).await;
        assert!(matches!(crowded, Err(WakeError::Crowded { max: 2 })));
        assert_eq!(directory.awake.refused(), 1);
        assert_eq!(directory.awake.idle(Duration::MAX), IDLE_WHEN_CROWDED);
        drop(directory.wake(&user("carol")).await.unwrap());
        assert_eq!(directory.awake.count(), 3);
        for name in ["alice", "bob"] {
            assert!(directory.put_to_sleep(&user(name), Duration::ZERO).await);
        }
        directory
            .begin(&user("eve"), Desk::default())
            .await
            .unwrap();
        assert_eq!(directory.awake.count(), 2);
    }
}
