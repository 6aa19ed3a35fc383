//! The number and the time of a room's last event.
//!
//! Promises: events are numbered without a gap; their time never goes back.
//!
//! Source: transport requirements, section 4.

use crate::{machine::Millis, wire::event::RoomSeq};
use serde::{Deserialize, Serialize};

/// Where the room's events stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sequence {
    last_seq: RoomSeq,
    last_time: Millis,
}

impl Sequence {
    /// A room without events, at this time.
    pub(crate) fn begin(time: Millis) -> Self {
        Self {
            last_seq: RoomSeq(0),
            last_time: time,
        }
    }

    /// Numbers so many events that are accepted together: the number of the first, and the time of all.
    pub(crate) fn take(&mut self, count: u32, time: Millis) -> (RoomSeq, Millis) {
        let first = self.last_seq.next();
        self.last_seq = self.last_seq.plus(u64::from(count));
        self.last_time = self.last_time.max(time);
        (first, self.last_time)
    }

    /// A time, or the room's where that is later.
    pub(crate) fn not_before(&self, time: Millis) -> Millis {
        time.max(self.last_time)
    }
}
