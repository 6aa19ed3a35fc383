//! The checker of leases: at most one at a time for each room, and nobody enters without it (I8).

use super::history::History;
use crate::{
    ids::RoomUri,
    room::{hub::Commit, leases::Grant},
};

impl History {
    /// A hub's log has granted a lease.
    pub(super) fn leased(&mut self, room: &RoomUri, grant: &Grant, until: u64) {
        let from = until.saturating_sub(grant.lease_ms.into());
        let joiner = &grant.joiner;
        let lease = self.leases.insert(room.clone(), (joiner.clone(), until));
        let other = lease.filter(|(other, until)| other != joiner && *until > from);
        self.demand("I8", other.is_none(), || {
            format!("{joiner} got the lease of {room} while {other:?} had it")
        });
    }

    /// A hub's log has accepted a Commit, which ends the lease; one from outside needs it.
    pub(super) fn lease_ends(&mut self, room: &RoomUri, commit: &Commit, time: u64) {
        let lease = self.leases.remove(room);
        if commit.checked.external {
            let sender = &commit.sender;
            let has = lease
                .as_ref()
                .is_some_and(|(of, until)| of == sender && *until > time);
            self.demand("I8", has, || {
                format!("{sender} entered {room} without the lease, which {lease:?} has")
            });
        }
    }
}
