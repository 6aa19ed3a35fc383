//! The actors of a shard, by their kind.

use super::directory::Directory;
use mimi_actors::{
    ids::RoomUri,
    kind::Kind,
    room::{desk, follower_desk},
    user::desk as user_desk,
};
use std::time::Duration;
use tokio::sync::Mutex;

/// A kind of actor that a shard keeps.
pub(crate) trait Kept: Kind {
    /// Where the actors of this kind are.
    fn directory(actors: &Actors) -> &Mutex<Directory<Self>>;
}

/// All actors of a shard.
pub(crate) struct Actors {
    pub(super) hubs: Mutex<Directory<desk::Desk>>,
    pub(super) followers: Mutex<Directory<follower_desk::Desk>>,
    pub(super) users: Mutex<Directory<user_desk::Desk>>,
}

impl Kept for desk::Desk {
    fn directory(actors: &Actors) -> &Mutex<Directory<Self>> {
        &actors.hubs
    }
}

impl Kept for follower_desk::Desk {
    fn directory(actors: &Actors) -> &Mutex<Directory<Self>> {
        &actors.followers
    }
}

impl Kept for user_desk::Desk {
    fn directory(actors: &Actors) -> &Mutex<Directory<Self>> {
        &actors.users
    }
}

impl Actors {
    /// Those of one kind.
    pub(crate) fn of<D: Kept>(&self) -> &Mutex<Directory<D>> {
        D::directory(self)
    }

    /// Empties every desk.
    pub(super) async fn step_down(&self) {
        self.hubs.lock().await.step_down();
        self.followers.lock().await.step_down();
        self.users.lock().await.step_down();
    }

    /// Puts to sleep whom nobody has asked for anything for a while. Returns which rooms, and how many users.
    pub(super) async fn put_to_sleep(&self, idle: Duration) -> (Vec<RoomUri>, usize) {
        let mut rooms = put_to_sleep(&self.hubs, idle).await;
        rooms.extend(put_to_sleep(&self.followers, idle).await);
        (rooms, put_to_sleep(&self.users, idle).await.len())
    }

    /// How many are awake, and how many sleep.
    pub(crate) async fn counts(&self) -> (usize, usize) {
        let counts = [
            self.hubs.lock().await.counts(),
            self.followers.lock().await.counts(),
            self.users.lock().await.counts(),
        ];
        counts
            .into_iter()
            .fold((0, 0), |(awake, asleep), (up, down)| {
                (awake + up, asleep + down)
            })
    }

    /// The compact state of everybody, each with its kind and name.
    pub(super) async fn compact(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        let named = |kind: &str, name: String| format!("{kind} {name}");
        for (room, compact) in self.hubs.lock().await.compact().await {
            all.push((named("hub", room.to_string()), compact));
        }
        for (room, compact) in self.followers.lock().await.compact().await {
            all.push((named("follower", room.to_string()), compact));
        }
        for (user, compact) in self.users.lock().await.compact().await {
            all.push((named("user", user.to_string()), compact));
        }
        all
    }
}

/// One after the other: a request never waits for more than one to fall asleep.
async fn put_to_sleep<D: Kind>(all: &Mutex<Directory<D>>, idle: Duration) -> Vec<D::Key> {
    let tired = all.lock().await.tired(idle);
    let mut asleep = Vec::new();
    for key in tired {
        if all.lock().await.put_to_sleep(&key, idle).await {
            asleep.push(key);
        }
    }
    asleep
}
