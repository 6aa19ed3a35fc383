//! Changes of the cluster that have begun and are not over: written down on every node that is reached, so that what an
//! interrupted one leaves is found; and one at a time, as long as the first shard is led by the same node.

use super::{
    Mesh,
    frame::{ControlAnswer, Note, NoteId, Why},
};
use crate::{cluster::group::Group, directory};
use anyhow::Context;
use mimi_actors::membership::Wish;
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
    under_way: Mutex<Option<(Note, Instant)>>,
}

/// A note as its file holds it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Written {
    id: NoteId,
    wish: Wish,
}

impl Notes {
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
    fn write(&self, id: NoteId, wish: Option<Wish>) -> anyhow::Result<()> {
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
        directory::write_durably(&self.path, &serde_json::to_vec(&written)?)?;
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
        let under_way = &self.notes.under_way;
        let mut under_way = under_way.lock().unwrap_or_else(PoisonError::into_inner);
        match &*under_way {
            Some((other, since)) if other.id != note.id && since.elapsed() < CHANGE_LEASE => {
                let why = format!(
                    "another change is under way ({}, last heard of {} s ago): wait until it is over and ask again; one \
                     that was interrupted gives way after {} s",
                    other.wish,
                    since.elapsed().as_secs(),
                    CHANGE_LEASE.as_secs()
                );
                ControlAnswer::Refused(Why::clipped(&why))
            }
            Some(_) | None => {
                *under_way = Some((note, Instant::now()));
                ControlAnswer::Done
            }
        }
    }

    /// Writes a change down, or that it is over.
    pub(super) fn note(&self, id: NoteId, wish: Option<Wish>) -> ControlAnswer {
        if wish.is_none() {
            let under_way = &self.notes.under_way;
            let mut under_way = under_way.lock().unwrap_or_else(PoisonError::into_inner);
            if under_way.as_ref().is_some_and(|(note, _)| note.id == id) {
                *under_way = None;
            }
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
}
