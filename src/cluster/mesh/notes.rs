//! Changes of the cluster that have begun and are not over: written down on every node that is reached, so that what an
//! interrupted one leaves is found; and one at a time, as long as the first shard is led by the same node.

use super::{
    Mesh,
    frame::{ControlAnswer, Note, Why},
};
use crate::{cluster::raft::group::Group, quic::private::write_durably};
use anyhow::Context;
use mimi_actors::membership::{ChangeId, Wish};
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a change that is not heard of keeps others from beginning: longer than one shard of it may take.
const CHANGE_LEASE: Duration = Duration::from_secs(90);

/// What is written down on this node, and which change goes on as far as the leader of the first shard knows.
pub(super) struct Notes {
    path: PathBuf,
    open: Mutex<Option<Note>>,
    under_way: Mutex<UnderWay>,
}

/// The change that goes on, and when it was last heard of.
#[derive(Default)]
struct UnderWay(Option<(Note, Instant)>);

impl UnderWay {
    /// Begins a change, or takes note that it goes on; the one in its way, and how long ago that was heard of, where
    /// there is one.
    fn begin(&mut self, note: Note, now: Instant) -> Result<(), (Wish, Duration)> {
        if let Some((other, heard)) = &self.0
            && other.id != note.id
        {
            let ago = now.saturating_duration_since(*heard);
            if ago < CHANGE_LEASE {
                return Err((other.wish.clone(), ago));
            }
        }
        self.0 = Some((note, now));
        Ok(())
    }

    fn end(&mut self, id: ChangeId) {
        if self.0.as_ref().is_some_and(|(note, _)| note.id == id) {
            self.0 = None;
        }
    }
}

/// A note as its file holds it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Written {
    id: ChangeId,
    wish: Wish,
}

impl Notes {
    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is written down in a data directory.
    ///
    /// # Errors
    /// When the file is there and does not read.
    pub(super) fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let path = data_dir.join("change.json");
        let open = match std::fs::read(&path) {
            Ok(bytes) => {
                let written: Option<Written> = serde_json::from_slice(&bytes).with_context(|| {
                    format!(
                        "{} does not read; remove it, and run `mimi-node cluster check` afterwards",
                        path.display()
                    )
                })?;
                written.map(|Written { id, wish }| Note { id, wish })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).context(format!("read {}", path.display())),
        };
        Ok(Self {
            path,
            open: Mutex::new(open),
            under_way: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Note>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The change that was written down and is not over.
    pub(super) fn open_change(&self) -> Option<Note> {
        self.lock().clone()
    }

    /// Writes a change down, or that it is over.
    fn write(&self, id: ChangeId, wish: Option<Wish>) -> anyhow::Result<()> {
        let mut open = self.lock();
        let over = wish.is_none();
        if over && open.as_ref().is_none_or(|note| note.id != id) {
            return Ok(());
        }
        let note = wish.map(|wish| Note { id, wish });
        let written = note.as_ref().map(|Note { id, wish }| Written {
            id: *id,
            wish: wish.clone(),
        });
        write_durably(&self.path, &serde_json::to_vec(&written)?)?;
        *open = note;
        Ok(())
    }
}

impl Mesh {
    /// As the leader of the first shard: lets a change begin or go on, unless another one does.
    pub(super) fn begin_change(&self, group: &Group, note: Note) -> ControlAnswer {
        if !group.leads() {
            return ControlAnswer::NotLed(group.figures().leader);
        }
        match self.notes.under_way().begin(note, Instant::now()) {
            Ok(()) => ControlAnswer::Done,
            Err((other, ago)) => {
                let why = format!(
                    "another change is under way ({other}, last heard of {} s ago): wait until it is over and ask again; \
                     one that was interrupted gives way after {} s",
                    ago.as_secs(),
                    CHANGE_LEASE.as_secs()
                );
                ControlAnswer::Refused(Why::clipped(&why))
            }
        }
    }

    /// Writes a change down, or that it is over.
    pub(super) fn note(&self, id: ChangeId, wish: Option<Wish>) -> ControlAnswer {
        if wish.is_none() {
            self.notes.under_way().end(id);
        }
        match self.notes.write(id, wish) {
            Ok(()) => ControlAnswer::Done,
            Err(error) => ControlAnswer::Refused(Why::clipped(&format!("{error:#}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_written_down_until_that_same_change_is_over_also_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Notes::open(dir.path()).unwrap();
        assert_eq!(open().open_change(), None);
        let wish = Wish::Leave { node: 3 };
        open().write([1; 16], Some(wish.clone())).unwrap();
        open().write([2; 16], None).unwrap();
        let note = Note { id: [1; 16], wish };
        assert_eq!(open().open_change(), Some(note));
        open().write([1; 16], None).unwrap();
        assert_eq!(open().open_change(), None);
    }

    #[test]
    fn a_change_that_goes_on_is_not_overtaken_however_long_it_takes_and_an_interrupted_one_is() {
        let note = |number, node| Note {
            id: [number; 16],
            wish: Wish::Leave { node },
        };
        let (began, mut changes) = (Instant::now(), UnderWay::default());
        let step = CHANGE_LEASE - Duration::from_secs(1);
        for shard in 0..16 {
            let now = began + step * shard;
            assert_eq!(changes.begin(note(1, 3), now), Ok(()));
            let other = changes.begin(note(2, 4), now + step);
            assert_eq!(other, Err((Wish::Leave { node: 3 }, step)));
        }
        let last = began + step * 15;
        assert_eq!(changes.begin(note(2, 4), last + CHANGE_LEASE), Ok(()));
        let late = changes.begin(note(1, 3), last + CHANGE_LEASE);
        assert_eq!(late, Err((Wish::Leave { node: 4 }, Duration::ZERO)));
        changes.end([1; 16]);
        assert!(changes.begin(note(3, 5), last + CHANGE_LEASE).is_err());
        changes.end([2; 16]);
        assert_eq!(changes.begin(note(3, 5), last + CHANGE_LEASE), Ok(()));
    }
}
