//! Messages made in bulk, for a load generator.
//!
//! They are encrypted beforehand, because encryption costs a client more than the server spends on the message. They have
//! no numbers: whoever sends them takes numbers with [`Member::reserve_numbers`].

use super::member::{Member, MemberError};
use bytes::Bytes;
use mimi_actors::ids::RoomUri;

impl Member {
    /// Encrypts `count` application messages whose MLSMessages are about `bytes` long, and no shorter than the smallest.
    ///
    /// Receivers skip at most a thousand generations of a sender: a batch must be sent whole and in order. The sizes differ
    /// from `bytes` by a few bytes at most, where a length prefix grows.
    ///
    /// # Errors
    /// [`MemberError::ProposalsPending`] until somebody commits to the room's Proposals.
    pub fn encrypt_batch(
        &mut self,
        room: &RoomUri,
        count: usize,
        bytes: usize,
    ) -> Result<Vec<Bytes>, MemberError> {
        let overhead = self
            .encrypt_one(room, &vec![b'.'; bytes])?
            .len()
            .saturating_sub(bytes);
        let plaintext = vec![b'x'; bytes.saturating_sub(overhead)];
        (0..count)
            .map(|_| self.encrypt_one(room, &plaintext))
            .collect()
    }
}
