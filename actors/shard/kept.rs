//! What a shard knows of the events of one room, and in which form: open while something happens in the room, folded
//! into its bytes while nothing does.
//!
//! Promises: the form is not state. Whatever is asked, read, changed or stored is the same in both, so replicas may differ
//! in it; what is folded stays so, whoever reads or acknowledges, until the room emits or somebody comes or goes.
//!
//! Most rooms of a node are idle, and open one takes some 700 bytes in a dozen pieces, folded about a hundred in one.

use super::{index::EventRun, readers::Readers};
use crate::{
    ids::ClientUri,
    machine::Millis,
    wire::event::{Lane, LaneCursor, RoomSeq},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned,
    ser::SerializeTuple as _,
};
use std::{borrow::Cow, collections::VecDeque};

/// Room for a folded room while it is written, in bytes.
const FOLDED_BYTES: usize = 256;

/// No time.
const NEVER: Millis = Millis(u64::MAX);

/// The runs of one room: control events apart, so that they are found among many others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    control: VecDeque<EventRun>,
    application: VecDeque<EventRun>,
}

impl Runs {
    /// The runs of control events that hold any behind `given`, which the first may begin before.
    pub fn control_after(&self, given: RoomSeq) -> impl Iterator<Item = &EventRun> {
        after(&self.control, given)
    }

    /// As [`Self::control_after`], of application messages.
    pub fn application_after(&self, given: RoomSeq) -> impl Iterator<Item = &EventRun> {
        after(&self.application, given)
    }

    /// Every run.
    pub(super) fn all(&self) -> impl Iterator<Item = &EventRun> {
        self.control.iter().chain(&self.application)
    }

    pub(super) fn push(&mut self, run: EventRun) {
        match run.lane {
            Lane::Commit(_) | Lane::Proposals => self.control.push_back(run),
            Lane::Application(_) => self.application.push_back(run),
        }
    }

    fn oldest(&self) -> Option<&EventRun> {
        let fronts = [self.control.front(), self.application.front()];
        fronts.into_iter().flatten().min_by_key(|run| run.first)
    }
}

/// The runs that hold events behind `given`.
fn after(runs: &VecDeque<EventRun>, given: RoomSeq) -> impl Iterator<Item = &EventRun> {
    let skip = runs.partition_point(|run| run.last() <= given);
    runs.range(skip..)
}

/// The events of one room, and who reads them.
///
/// The order of the fields is how a room lies in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RoomIndex {
    pub(super) runs: Runs,
    /// The last event of each lane that was forgotten.
    forgotten: LaneCursor,
    pub(super) readers: Readers,
}

impl RoomIndex {
    /// The oldest run, if it may be forgotten: it is of before this time or everybody has it, and it ends before an
    /// event that is owed.
    fn oldest(&self, before: Millis, owed: Option<RoomSeq>) -> Option<&EventRun> {
        let oldest = self.runs.oldest()?;
        let is_owed = owed.is_some_and(|owed| oldest.end() > owed);
        let needed = oldest.time >= before && !self.readers.all_past(oldest.last(), oldest.lane);
        (!is_owed && !needed).then_some(oldest)
    }

    fn forget(&mut self, before: Millis, owed: Option<RoomSeq>) {
        while let Some(oldest) = self.oldest(before, owed) {
            let (last, lane) = (oldest.last(), oldest.lane);
            match lane {
                Lane::Commit(_) | Lane::Proposals => {
                    self.runs.control.pop_front();
                    self.forgotten.control = last;
                }
                Lane::Application(_) => {
                    self.runs.application.pop_front();
                    self.forgotten.application = last;
                }
            }
        }
        self.readers.let_go();
    }

    /// The first time for which [`Self::forget`] may change something, if nothing is owed; [`NEVER`] when there is nothing.
    fn due(&self) -> Millis {
        if self.readers.some_done() || self.oldest(Millis(0), None).is_some() {
            return Millis(0);
        }
        let oldest = self.runs.oldest();
        oldest.map_or(NEVER, |oldest| oldest.time.plus(1))
    }
}

/// A room of the index.
#[derive(Clone, Debug)]
pub(super) enum Kept {
    Open(Box<RoomIndex>),
    /// As postcard writes it.
    Folded {
        bytes: Box<[u8]>,
        /// See [`RoomIndex::due`].
        due: Millis,
    },
}

impl Default for Kept {
    fn default() -> Self {
        Self::Open(Box::default())
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folded { bytes, .. }, Self::Folded { bytes: others, .. }) => bytes == others,
            _ => self.whole() == other.whole(),
        }
    }
}

impl Eq for Kept {}

impl Kept {
    pub(super) fn folded(room: &RoomIndex) -> Self {
        let bytes = postcard::to_extend(room, Vec::with_capacity(FOLDED_BYTES));
        debug_assert!(bytes.is_ok(), "a room of the index refused to serialise");
        match bytes {
            Ok(bytes) => Self::Folded {
                bytes: bytes.as_slice().into(),
                due: room.due(),
            },
            Err(_) => Self::Open(Box::new(room.clone())),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// Folds it, if it is open.
    pub(super) fn fold(&mut self) {
        if let Self::Open(room) = self {
            *self = Self::folded(room);
        }
    }

    /// Changes it and leaves it open, for something happens in the room.
    pub(super) fn open(&mut self, change: impl FnOnce(&mut RoomIndex)) {
        match self {
            Self::Open(room) => change(room),
            Self::Folded { bytes, .. } => {
                let mut room = Box::new(read(bytes));
                change(&mut room);
                *self = Self::Open(room);
            }
        }
    }

    /// Changes it and leaves it in its form.
    fn change(&mut self, change: impl FnOnce(&mut RoomIndex)) {
        match self {
            Self::Open(room) => change(room),
            Self::Folded { bytes, .. } => {
                let mut room = read(bytes);
                change(&mut room);
                *self = Self::folded(&room);
            }
        }
    }

    pub(super) fn whole(&self) -> Cow<'_, RoomIndex> {
        match self {
            Self::Open(room) => Cow::Borrowed(room),
            Self::Folded { bytes, .. } => Cow::Owned(read(bytes)),
        }
    }

    /// The runs alone, which come first: without whoever reads them.
    pub(super) fn runs(&self) -> Cow<'_, Runs> {
        match self {
            Self::Open(room) => Cow::Borrowed(&room.runs),
            Self::Folded { bytes, .. } => Cow::Owned(read(bytes)),
        }
    }

    /// The last event of each lane that was forgotten.
    pub(super) fn forgotten(&self) -> LaneCursor {
        match self {
            Self::Open(room) => room.forgotten,
            Self::Folded { bytes, .. } => read::<(Runs, LaneCursor)>(bytes).1,
        }
    }

    /// Takes note of what a client has acknowledged.
    pub(super) fn read(&mut self, client: &ClientUri, has: LaneCursor) {
        self.change(|room| room.readers.read(client, has));
    }

    /// Forgets events that everybody has or that were accepted before a time, except those from the first on that is owed.
    pub(super) fn forget(&mut self, before: Millis, owed: Option<RoomSeq>) {
        if self.is_due(before) {
            self.change(|room| room.forget(before, owed));
        }
    }

    /// Whether [`Self::forget`] would forget something.
    pub(super) fn may_forget(&self, before: Millis, owed: Option<RoomSeq>) -> bool {
        self.is_due(before) && self.whole().oldest(before, owed).is_some()
    }

    /// False when it is known without a look that there is nothing to forget.
    fn is_due(&self, before: Millis) -> bool {
        match self {
            Self::Open(_) => true,
            Self::Folded { due, .. } => *due <= before,
        }
    }
}

/// What bytes hold, or begin with, that were written here or taken over as a room.
fn read<T: DeserializeOwned + Default>(bytes: &[u8]) -> T {
    let read = postcard::take_from_bytes(bytes);
    debug_assert!(read.is_ok(), "a folded room does not read back");
    read.map(|(value, _)| value).unwrap_or_default()
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Open(room) => room.serialize(serializer),
            // All that is stored is written by postcard, for which a tuple of bytes is those bytes.
            Self::Folded { bytes, .. } => {
                let mut tuple = serializer.serialize_tuple(bytes.len())?;
                for byte in bytes {
                    tuple.serialize_element(byte)?;
                }
                tuple.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RoomIndex::deserialize(deserializer).map(|room| Self::folded(&room))
    }
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
