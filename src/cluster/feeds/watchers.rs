//! Which event streams of this node wait for events of which room.

use super::wake::Wake;
use mimi_actors::ids::RoomUri;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// The watchers of all rooms of one shard. A stream that has ended is forgotten with the next event.
#[derive(Default)]
pub(crate) struct Watchers {
    rooms: Mutex<HashMap<RoomUri, Vec<Weak<Wake>>>>,
}

impl Watchers {
    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomUri, Vec<Weak<Wake>>>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a client's stream know of new events of a room.
    pub(crate) fn watch(&self, room: &RoomUri, wake: &Arc<Wake>) {
        let mut rooms = self.rooms();
        let watchers = rooms.entry(room.clone()).or_default();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(Arc::downgrade(wake));
    }

    /// Wakes the streams that watch a room.
    pub(crate) fn wake(&self, room: &RoomUri) {
        let mut rooms = self.rooms();
        let Some(watchers) = rooms.get_mut(room) else {
            return;
        };
        watchers.retain(|watcher| match watcher.upgrade() {
            Some(wake) => {
                wake.room(room);
                true
            }
            None => false,
        });
        if watchers.is_empty() {
            rooms.remove(room);
        }
    }
}
