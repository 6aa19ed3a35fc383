//! What wakes a client's event stream: rooms with news, its own inbox, verdicts on its messages.

use mimi_actors::{
    ids::{ClientUri, RoomUri},
    wire::event::VerdictRun,
};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};
use tokio::sync::Notify;

/// Verdicts kept for a stream that is slow to take them; a client that misses one sends its numbers again.
const VERDICTS_WAITING_MAX: usize = 4_096;

/// What has happened since a stream last looked.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Rooms with new events.
    pub(crate) rooms: BTreeSet<RoomUri>,
    /// Whether the client's inbox or memberships changed.
    pub(crate) user: bool,
    /// Verdicts.
    pub(crate) verdicts: VecDeque<(RoomUri, VerdictRun)>,
}

/// One event stream's bell.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    news: Mutex<News>,
    bell: Notify,
}

impl Wake {
    fn news(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn room(&self, room: &RoomUri) {
        let mut news = self.news();
        if !news.rooms.contains(room) {
            news.rooms.insert(room.clone());
        }
        drop(news);
        self.bell.notify_one();
    }

    pub(crate) fn user(&self) {
        self.news().user = true;
        self.bell.notify_one();
    }

    pub(crate) fn verdict(&self, room: &RoomUri, run: VerdictRun) {
        let mut news = self.news();
        if news.verdicts.len() == VERDICTS_WAITING_MAX {
            news.verdicts.pop_front();
        }
        news.verdicts.push_back((room.clone(), run));
        drop(news);
        self.bell.notify_one();
    }

    /// Takes the news.
    pub(crate) fn take(&self) -> News {
        std::mem::take(&mut *self.news())
    }

    /// Waits for news. A wake-up before the wait is not lost.
    pub(crate) async fn woken(&self) {
        self.bell.notified().await;
    }
}

/// What wakes each event stream on this node, by client.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    clients: Mutex<HashMap<ClientUri, Vec<Weak<Wake>>>>,
}

impl Wakers {
    /// Registers a stream of `client`; it is forgotten when the stream drops what it gets.
    pub(crate) fn register(&self, client: &ClientUri) -> Arc<Wake> {
        let wake = Arc::new(Wake::default());
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|_, wakers| {
            wakers.retain(|waker| waker.strong_count() > 0);
            !wakers.is_empty()
        });
        clients
            .entry(client.clone())
            .or_default()
            .push(Arc::downgrade(&wake));
        wake
    }

    /// Wakes the streams of a client.
    pub(crate) fn wake(&self, client: &ClientUri, tell: impl Fn(&Wake)) {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        for waker in clients
            .get(client)
            .into_iter()
            .flatten()
            .filter_map(Weak::upgrade)
        {
            tell(&waker);
        }
    }
}
