//! The rooms and users of one shard: awake as actors, or asleep as compact bytes.
//!
//! Promises: there is at most one actor for each; a command or an input wakes a sleeper; what was never begun leaves
//! nothing behind.

use mimi_actors::{
    host::{Clock, Handle, Perform, Start},
    kind::Kind,
    machine::{Desk, Fold, ReviveError},
};
use ractor::{ActorCell, SpawnErr};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Why an actor cannot be woken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WakeError {
    /// The bytes it left do not read back: they never left this process, so this is a bug.
    #[error(transparent)]
    Revive(#[from] ReviveError),
    /// The runtime does not start it.
    #[error("start an actor: {0}")]
    Spawn(#[from] SpawnErr),
}

enum Slot<D: Desk> {
    Awake { handle: Handle<D>, used: Instant },
    Asleep(Vec<u8>),
}

/// An actor's state, or whom to ask for it.
pub(crate) enum Resident<D: Desk> {
    /// It is awake, and stays so for as long as this is held.
    Awake(Handle<D>),
    /// Its compact state.
    Asleep(Vec<u8>),
}

/// Makes what carries out an actor's orders.
type MakePerform<D> = Box<dyn Fn(&<D as Kind>::Key) -> Perform<D> + Send + Sync>;

/// All actors of one kind in one shard.
pub(crate) struct Directory<D: Kind> {
    slots: BTreeMap<D::Key, Slot<D>>,
    clock: Clock,
    perform: MakePerform<D>,
    supervisor: ActorCell,
    /// What a fold looks like before its first command, in compact form.
    nothing: Vec<u8>,
}

impl<D: Kind> Directory<D> {
    pub(crate) fn new(clock: Clock, perform: MakePerform<D>, supervisor: ActorCell) -> Self {
        let nothing = D::Fold::default().compact();
        Self {
            slots: BTreeMap::new(),
            clock,
            perform,
            supervisor,
            nothing,
        }
    }

    /// The actor of `key`, woken or begun if need be.
    pub(crate) async fn wake(&mut self, key: &D::Key) -> Result<Handle<D>, WakeError> {
        let fold = match self.slots.get_mut(key) {
            Some(Slot::Awake { handle, used }) => {
                *used = Instant::now();
                return Ok(handle.clone());
            }
            Some(Slot::Asleep(compact)) => D::Fold::revive(compact)?,
            None => D::Fold::default(),
        };
        let perform = (self.perform)(key);
        let start = Start {
            fold,
            clock: self.clock.clone(),
            perform,
        };
        let handle = Handle::start(start, self.supervisor.clone()).await?;
        let slot = Slot::Awake {
            handle: handle.clone(),
            used: Instant::now(),
        };
        self.slots.insert(key.clone(), slot);
        Ok(handle)
    }

    /// Puts actors to sleep that nobody has asked for anything for a while. Returns how many.
    pub(crate) async fn put_to_sleep(&mut self, idle: Duration) -> usize {
        let tired = |slot: &Slot<D>| match slot {
            Slot::Awake { used, .. } => used.elapsed() >= idle,
            Slot::Asleep(_) => false,
        };
        let keys: Vec<D::Key> = self
            .slots
            .iter()
            .filter(|(_, slot)| tired(slot))
            .map(|(key, _)| key.clone())
            .collect();
        let mut asleep = 0;
        for key in keys {
            let Some(Slot::Awake { handle, .. }) = self.slots.get(&key) else {
                continue;
            };
            let Some(compact) = handle.sleep().await else {
                continue;
            };
            asleep += 1;
            if compact == self.nothing {
                self.slots.remove(&key);
            } else {
                self.slots.insert(key, Slot::Asleep(compact));
            }
        }
        asleep
    }

    /// The compact state of every actor, in order; those that hold nothing are left out.
    pub(crate) async fn compact(&self) -> Vec<(D::Key, Vec<u8>)> {
        let mut all = Vec::with_capacity(self.slots.len());
        for (key, slot) in &self.slots {
            let compact = match slot {
                Slot::Asleep(compact) => compact.clone(),
                Slot::Awake { handle, .. } => match handle.look(Fold::compact).await {
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
            Slot::Awake { handle, .. } => Resident::Awake(handle.clone()),
            Slot::Asleep(compact) => Resident::Asleep(compact.clone()),
        };
        self.slots
            .iter()
            .map(|(key, slot)| (key.clone(), resident(slot)))
            .collect()
    }

    /// Ends and forgets everybody, and takes over sleepers.
    pub(crate) fn replace(&mut self, sleepers: BTreeMap<D::Key, Vec<u8>>) {
        for slot in self.slots.values() {
            if let Slot::Awake { handle, .. } = slot {
                handle.end();
            }
        }
        self.slots = sleepers
            .into_iter()
            .map(|(key, compact)| (key, Slot::Asleep(compact)))
            .collect();
    }

    /// Empties every desk.
    pub(crate) fn step_down(&self) {
        for slot in self.slots.values() {
            if let Slot::Awake { handle, .. } = slot {
                handle.step_down();
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
            .filter(|slot| matches!(slot, Slot::Awake { .. }))
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
        let directory = Directory::new(Arc::new(|| Millis(1)), perform, supervisor.cell());
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

        assert_eq!(directory.put_to_sleep(Duration::ZERO).await, 1);
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

    #[tokio::test]
    async fn whoever_was_only_asked_for_leaves_nothing_behind() {
        let (_supervisor, mut directory) = users().await;
        let nobody: UserUri = "mimi://a.example/u/nobody".parse().unwrap();
        let lease = directory.wake(&nobody).await.unwrap();
        assert_eq!(
            directory.put_to_sleep(Duration::ZERO).await,
            0,
            "somebody holds a lease"
        );
        drop(lease);
        assert_eq!(directory.put_to_sleep(Duration::ZERO).await, 1);
        assert_eq!(directory.counts(), (0, 0));
    }
}
