//! Whether the disk has room for more than what must be written.

/// What is known of the room on a disk.
#[derive(Debug, Default)]
pub(super) struct Room {
    full: bool,
    /// A write failed for want of room since the disk was last looked at.
    exhausted: bool,
}

impl Room {
    /// Below this many free bytes nothing new is taken: what is left is for votes, for sealing and for discarding.
    const BYTES_LOW: u64 = 16 << 20;
    /// From this many free bytes on there is room again.
    pub(super) const BYTES_ENOUGH: u64 = Self::BYTES_LOW + (8 << 20);

    /// Takes note that a write failed, whatever the disk says that it has.
    pub(super) fn exhausted(&mut self) {
        self.exhausted = true;
    }

    /// Whether the disk is full, of which so many bytes are free now.
    pub(super) fn look(&mut self, bytes_free: u64) -> bool {
        let limit = if self.full {
            Self::BYTES_ENOUGH
        } else {
            Self::BYTES_LOW
        };
        self.full = bytes_free < limit || std::mem::take(&mut self.exhausted);
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_before_its_last_byte_is_used_and_until_there_is_clearly_room() {
        let mut room = Room::default();
        for (bytes_free, full) in [
            (Room::BYTES_ENOUGH, false),
            (Room::BYTES_LOW, false),
            (Room::BYTES_LOW - 1, true),
            (Room::BYTES_LOW, true),
            (Room::BYTES_ENOUGH - 1, true),
            (Room::BYTES_ENOUGH, false),
            (0, true),
        ] {
            assert_eq!(room.look(bytes_free), full, "{bytes_free}");
        }
    }

    #[test]
    fn a_disk_that_has_room_and_takes_no_write_is_full() {
        let mut room = Room::default();
        room.exhausted();
        assert!(room.look(u64::MAX));
        assert!(!room.look(u64::MAX));
    }
}
