//! Who was a member when.

use crate::names::{Epoch, RoomSeq};

/// A device's time in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership<C> {
    /// The device.
    pub client: C,
    /// It is entitled to events after this one.
    pub after: RoomSeq,
    /// It joined in this epoch.
    pub epoch: Epoch,
    /// The Commit that removed it; entitled to events before this one.
    pub left: Option<RoomSeq>,
}

impl<C> Membership<C> {
    /// Whether it is entitled to an event.
    #[must_use]
    pub fn covers(&self, seq: RoomSeq) -> bool {
        self.after < seq && self.left.is_none_or(|left| seq < left)
    }
}

/// Who was a member when, in the order in which they joined.
#[derive(Clone, Debug)]
pub struct Roster<C>(Vec<Membership<C>>);

impl<C> Default for Roster<C> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<C: PartialEq> Roster<C> {
    /// A device joins with an event, which opens an epoch.
    pub fn join(&mut self, client: C, after: RoomSeq, epoch: Epoch) {
        self.0.push(Membership {
            client,
            after,
            epoch,
            left: None,
        });
    }

    /// A device leaves with an event.
    pub fn leave(&mut self, client: &C, at: RoomSeq) {
        let all = self.0.iter_mut();
        for here in all.filter(|one| one.client == *client && one.left.is_none()) {
            here.left = Some(at);
        }
    }

    /// All memberships.
    pub fn iter(&self) -> std::slice::Iter<'_, Membership<C>> {
        self.0.iter()
    }

    /// Whoever is a member now.
    pub fn members(&self) -> impl Iterator<Item = &C> {
        let here = self.0.iter().filter(|one| one.left.is_none());
        here.map(|one| &one.client)
    }

    /// Whether a device was a member at an event: what I5 asks of its sender, and I2 and I10 of its reader.
    pub fn has_at(&self, client: &C, seq: RoomSeq) -> bool {
        let mut all = self.0.iter();
        all.any(|one| one.client == *client && one.covers(seq))
    }
}
