//! How much goes into one frame.

use crate::limits::{
    BATCH_EVENTS_MAX, BATCH_FILL_BYTES, BATCH_FRAME_BYTES_MAX, CONTROL_EVENT_BYTES_MAX,
};

/// Payload bytes of the largest item that a frame has room for, beside the names and numbers around it.
const ITEM_BYTES_MAX: usize = BATCH_FRAME_BYTES_MAX - (16 << 10);
const _: () = assert!(CONTROL_EVENT_BYTES_MAX <= ITEM_BYTES_MAX);

/// Counts what a batch holds, so that it is closed in time.
#[derive(Default)]
pub(super) struct Fill {
    pub(super) items: usize,
    pub(super) bytes: usize,
    /// The bytes of a first item that fits no frame.
    pub(super) too_large: Option<usize>,
}

impl Fill {
    pub(super) fn is_full(&self) -> bool {
        self.items >= BATCH_EVENTS_MAX || self.bytes >= BATCH_FILL_BYTES
    }

    /// Counts one more item; `false` when it must wait for the next batch.
    pub(super) fn admit(&mut self, bytes: usize) -> bool {
        if self.items > 0 && (self.is_full() || self.bytes + bytes > BATCH_FILL_BYTES) {
            return false;
        }
        if bytes > ITEM_BYTES_MAX {
            self.too_large = Some(bytes);
            return false;
        }
        self.items += 1;
        self.bytes += bytes;
        true
    }
}
