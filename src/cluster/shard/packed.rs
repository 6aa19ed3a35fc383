//! The state of a shard as rows of a snapshot, and back.
//!
//! ```text
//! 'h' room URI   compact fold of a room at this hub
//! 'f' room URI   compact fold of a room that is followed
//! 'u' user URI   compact fold of a user
//! 'd'            what follows from the log beside the actors
//! 'l'            the level of the shard, once that is not the first: one byte
//! 'n'            which room has which group id, once one has
//! ```
//!
//! Promises: all rows are of one position, for nothing is applied meanwhile; rows that are taken over were understood,
//! all of them, before any was. Not here: where rows lie.

use super::{
    Shard,
    actors::{Actors, Kept},
    directory::Resident,
};
use crate::{cluster::log::batch::StateError, store::snapshot::Row};
use mimi_actors::{
    ids::RoomUri,
    machine::Fold,
    room::{desk, follower_desk},
    shard::{Derived, index::EventIndex, names::Names},
    user::{desk as user_desk, fold as user},
    wire::version::Level,
};
use std::{collections::BTreeSet, fmt::Display, str::FromStr, sync::PoisonError};

const HUB: u8 = b'h';
const FOLLOWER: u8 = b'f';
const USER: u8 = b'u';
const DERIVED: u8 = b'd';
const LEVEL: u8 = b'l';
const NAMES: u8 = b'n';
/// Sleepers that are looked at before others get their turn.
const LOOKS_MAX: usize = 64;

impl Shard {
    /// The whole state; nothing may be applied meanwhile.
    ///
    /// # Errors
    /// [`StateError`] while an actor cannot give its state.
    pub(crate) async fn pack(&self) -> Result<Vec<Row>, StateError> {
        let mut rows = Vec::new();
        pack_all::<desk::Desk>(HUB, &self.actors, &mut rows).await?;
        pack_all::<follower_desk::Desk>(FOLLOWER, &self.actors, &mut rows).await?;
        pack_all::<user_desk::Desk>(USER, &self.actors, &mut rows).await?;
        let derived = self.looked_at();
        rows.push(Row {
            key: vec![DERIVED],
            value: derived.compact(),
        });
        // Nodes of the first release read snapshots of shards of the first level.
        if derived.level > Level::FIRST {
            let value = postcard::to_allocvec(&derived.level).unwrap_or_default();
            rows.push(Row {
                key: vec![LEVEL],
                value,
            });
        }
        if !derived.names.is_empty() {
            let value = postcard::to_allocvec(&derived.names).unwrap_or_default();
            rows.push(Row {
                key: vec![NAMES],
                value,
            });
        }
        Ok(rows)
    }

    /// Takes over a state in place of all there was.
    ///
    /// # Errors
    /// [`StateError::Row`] when it is not understood; then nothing is changed.
    pub(crate) async fn unpack(&self, rows: Vec<Row>) -> Result<(), StateError> {
        let (mut hubs, mut followers, mut users) = (Vec::new(), Vec::new(), Vec::new());
        let mut derived = None;
        let mut level = Level::FIRST;
        let mut names = Names::default();
        for row in rows {
            let who = String::from_utf8_lossy(&row.key).into_owned();
            let broken = |reason: String| StateError::Row {
                who: who.clone(),
                reason,
            };
            let (kind, name) = row
                .key
                .split_first()
                .ok_or_else(|| broken("a row has no name".to_owned()))?;
            let name = std::str::from_utf8(name).map_err(|error| broken(error.to_string()))?;
            let taken = match *kind {
                HUB => unpack_one::<_, mimi_actors::room::hub::Fold>(&mut hubs, name, row.value),
                FOLLOWER => unpack_one::<_, mimi_actors::room::follower::Fold>(
                    &mut followers,
                    name,
                    row.value,
                ),
                USER => unpack_one::<_, user::Fold>(&mut users, name, row.value),
                DERIVED => Derived::revive(&row.value)
                    .map(|read| derived = Some(read))
                    .map_err(|error| error.to_string()),
                LEVEL => postcard::from_bytes(&row.value)
                    .map(|read| level = read)
                    .map_err(|error| error.to_string()),
                NAMES => postcard::from_bytes(&row.value)
                    .map(|read| names = read)
                    .map_err(|error| error.to_string()),
                _ => Err("a row of an unknown kind".to_owned()),
            };
            taken.map_err(broken)?;
        }
        let mut derived = derived.ok_or_else(|| StateError::Row {
            who: "what follows from the log".to_owned(),
            reason: "it is not there".to_owned(),
        })?;
        derived.level = level;
        derived.names = names;
        for rooms in [&mut hubs, &mut followers] {
            share_names(rooms, &derived.index);
        }
        self.actors.of::<desk::Desk>().lock().await.replace(hubs);
        self.actors
            .of::<follower_desk::Desk>()
            .lock()
            .await
            .replace(followers);
        self.actors
            .of::<user_desk::Desk>()
            .lock()
            .await
            .replace(users);
        self.applied.send_replace(derived.applied);
        *self.derived.write().unwrap_or_else(PoisonError::into_inner) = derived;
        Ok(())
    }

    /// The entries below `below` whose bytes may still be asked for.
    ///
    /// An entry gets into an inbox only when it is applied, and from a submission into the index only under the lock
    /// that both are looked at under; so none is missed while entries above `below` are applied.
    ///
    /// # Errors
    /// [`StateError`] when a user cannot be asked.
    pub(crate) async fn pointed_at(&self, below: u64) -> Result<BTreeSet<u64>, StateError> {
        let mut entries = self.looked_at().pointed_at(below);
        let users = self.actors.of::<user_desk::Desk>().lock().await.residents();
        for (number, (uri, resident)) in users.into_iter().enumerate() {
            match resident {
                Resident::Awake(handle) => {
                    let found = look(uri, &handle, below).await?;
                    entries.extend(found);
                }
                Resident::Asleep(compact) => {
                    let fold = user::Fold::revive(&compact).map_err(|error| StateError::Row {
                        who: uri.to_string(),
                        reason: error.to_string(),
                    })?;
                    entries.extend(inbox(&fold, below));
                    if number % LOOKS_MAX == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
        Ok(entries)
    }
}

/// The entries below `below` that a packed state points at.
///
/// # Errors
/// [`StateError::Row`] when a row is not understood.
pub(crate) fn pointed_in(rows: &[Row], below: u64) -> Result<BTreeSet<u64>, StateError> {
    let mut entries = BTreeSet::new();
    for row in rows {
        let broken = |error: mimi_actors::machine::ReviveError| StateError::Row {
            who: String::from_utf8_lossy(&row.key).into_owned(),
            reason: error.to_string(),
        };
        match row.key.first() {
            Some(&USER) => {
                let fold = user::Fold::revive(&row.value).map_err(broken)?;
                entries.extend(inbox(&fold, below));
            }
            Some(&DERIVED) => {
                let derived = Derived::revive(&row.value).map_err(broken)?;
                entries.extend(derived.pointed_at(below));
            }
            Some(_) | None => {}
        }
    }
    Ok(entries)
}

async fn look(
    uri: impl Display,
    handle: &mimi_actors::host::Handle<user_desk::Desk>,
    below: u64,
) -> Result<Vec<u64>, StateError> {
    handle
        .look(move |fold| inbox(fold, below))
        .await
        .map_err(|_| StateError::Gone {
            who: uri.to_string(),
        })
}

/// The entries below `below` that a user's inboxes point at.
fn inbox(fold: &user::Fold, below: u64) -> Vec<u64> {
    let items = fold.clients().flat_map(|client| fold.inbox(client));
    let entries = items.filter_map(|item| item.at()).map(|at| at.entry);
    entries.filter(|entry| *entry < below).collect()
}

async fn pack_all<D: Kept>(
    kind: u8,
    actors: &Actors,
    rows: &mut Vec<Row>,
) -> Result<(), StateError> {
    let residents = actors.of::<D>().lock().await.residents();
    let nothing = D::Fold::default().compact();
    for (key, resident) in residents {
        let name = key.to_string();
        let value = match resident {
            Resident::Asleep(compact) => compact.into_vec(),
            Resident::Awake(handle) => match handle.compact().await {
                Ok(Ok(compact)) => compact,
                Ok(Err(poisoned)) => {
                    return Err(StateError::Frozen {
                        who: name,
                        at: poisoned.at.to_string(),
                    });
                }
                Err(_) => return Err(StateError::Gone { who: name }),
            },
        };
        if value != nothing {
            let mut key = vec![kind];
            key.extend_from_slice(name.as_bytes());
            rows.push(Row { key, value });
        }
    }
    Ok(())
}

/// Adds one sleeper whose state is understood.
fn unpack_one<K: FromStr, F: Fold>(
    sleepers: &mut Vec<(K, Box<[u8]>)>,
    name: &str,
    compact: Vec<u8>,
) -> Result<(), String>
where
    K::Err: Display,
{
    let key = name.parse::<K>().map_err(|error| error.to_string())?;
    F::revive(&compact).map_err(|error| error.to_string())?;
    sleepers.push((key, compact.into_boxed_slice()));
    Ok(())
}

/// Has rooms hold their names together with the index, once in memory.
fn share_names(rooms: &mut [(RoomUri, Box<[u8]>)], index: &EventIndex) {
    for (room, _) in rooms {
        if let Some(shared) = index.shared(room) {
            *room = shared;
        }
    }
}

#[cfg(test)]
#[path = "packed_tests.rs"]
mod tests;
