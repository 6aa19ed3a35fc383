//! Which messages were taken lately, so that the same ciphertext under another number is known again.
//!
//! Promises: of each member, in each epoch that messages are still taken of, the newest so many as the limits say. What is
//! forgotten with its epoch cannot come again: a message of it is refused as too old.
//!
//! Source: transport requirements, section 4.

use crate::{
    limits::{EPOCH_TOLERANCE_EPOCHS, MESSAGES_REMEMBERED_PER_EPOCH_MAX},
    wire::event::{Epoch, Hash},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Bytes at the end of a message that it is known by: they hold the tag of its encryption, which is the tag of all of it.
const KNOWN_BY_BYTES: usize = 64;

/// The messages that were taken lately.
///
/// By epoch and leaf: in one epoch a leaf is one member's, and both are small in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Heard(BTreeMap<(Epoch, u32), VecDeque<Mark>>);

/// What a message is known by. Two messages of one mark are one, or made by somebody who has their key: its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark([u8; 8]);

impl Mark {
    fn of(message: &[u8]) -> Self {
        let from = message.len().saturating_sub(KNOWN_BY_BYTES);
        let end = message.get(from..).unwrap_or_default();
        let [a, b, c, d, e, f, g, h, ..] = Hash::of(end).0;
        Self([a, b, c, d, e, f, g, h])
    }
}

impl Heard {
    /// Whether nothing is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Remembers a message of an epoch by the member at a leaf; `false` if it was taken before.
    pub(crate) fn is_new(&mut self, epoch: Epoch, leaf: u32, message: &[u8]) -> bool {
        let mark = Mark::of(message);
        let marks = self.0.entry((epoch, leaf)).or_default();
        if marks.contains(&mark) {
            return false;
        }
        if marks.len() == MESSAGES_REMEMBERED_PER_EPOCH_MAX {
            marks.pop_front();
        }
        marks.push_back(mark);
        true
    }

    /// An epoch has begun: what is too old to be taken is forgotten.
    pub(crate) fn epoch_opened(&mut self, epoch: Epoch) {
        let oldest = Epoch(epoch.0.saturating_sub(EPOCH_TOLERANCE_EPOCHS));
        self.0 = self.0.split_off(&(oldest, 0));
    }

    /// The group has ended: no message is taken any more.
    pub(crate) fn ended(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_messages_of_a_member_in_an_epoch_are_known_again() {
        let mut heard = Heard::default();
        let text = |number: usize| format!("a text whose number is {number}");
        let mut is_new = |number| heard.is_new(Epoch(3), 7, text(number).as_bytes());
        let max = MESSAGES_REMEMBERED_PER_EPOCH_MAX;
        assert!((0..=max).all(&mut is_new));
        assert!(!(1..=max).any(&mut is_new), "the newest are known");
        assert!(is_new(0), "the oldest is forgotten");
        assert!(heard.is_new(Epoch(4), 7, text(9).as_bytes()));
        assert!(heard.is_new(Epoch(3), 8, text(9).as_bytes()));
    }

    #[test]
    fn what_is_too_old_to_be_taken_is_forgotten() {
        let mut heard = Heard::default();
        for epoch in 0..=EPOCH_TOLERANCE_EPOCHS {
            assert!(heard.is_new(Epoch(epoch), 0, b"text"));
        }
        heard.epoch_opened(Epoch(EPOCH_TOLERANCE_EPOCHS));
        assert!(!heard.is_new(Epoch(0), 0, b"text"));
        heard.epoch_opened(Epoch(EPOCH_TOLERANCE_EPOCHS + 1));
        assert_eq!(heard.0.len(), 5);
        assert!(!heard.is_new(Epoch(1), 0, b"text"));
        heard.ended();
        assert!(heard.is_empty());
    }

    #[test]
    fn a_long_message_is_known_by_its_end() {
        let mut heard = Heard::default();
        let mut long = vec![7; 1_024];
        assert!(heard.is_new(Epoch(0), 0, &long));
        assert!(!heard.is_new(Epoch(0), 0, &long));
        long[1_023] = 8;
        assert!(heard.is_new(Epoch(0), 0, &long));
    }
}
