//! The checker of leases: at most one at a time for each room, and nobody enters without it (I8).

use super::History;
use crate::{
    ids::{ClientUri, RoomUri},
    room::{hub::Commit, leases::Grant},
    wire::{event::Hash, joining::CodeId},
};

/// A lease as the log of a hub grants it.
#[derive(Clone, Debug)]
pub(in crate::sim) struct Held {
    pub(in crate::sim) joiner: ClientUri,
    until: u64,
    request: Hash,
    /// The code that admitted its holder.
    pub(in crate::sim) code: Option<CodeId>,
}

impl History {
    /// A hub's log has granted a lease; whether it is a new one.
    pub(in crate::sim) fn leased(
        &mut self,
        room: &RoomUri,
        grant: &Grant,
        from: u64,
        until: u64,
    ) -> bool {
        let joiner = &grant.joiner;
        let held = Held {
            joiner: joiner.clone(),
            until,
            request: grant.request,
            code: grant.code,
        };
        let known = self.leases.get(room);
        if known.is_some_and(|known| known.request == grant.request && known.until > from) {
            // The request came twice.
            return false;
        }
        let lease = self.leases.insert(room.clone(), held);
        let other = lease.filter(|other| other.joiner != *joiner && other.until > from);
        self.demand("I8", other.is_none(), || {
            format!("{joiner} got the lease of {room} while {other:?} had it")
        });
        true
    }

    /// A hub's log has taken a request of whoever has the lease, or had it, and which it may not have anew.
    pub(in crate::sim) fn lease_given_up(&mut self, room: &RoomUri, joiner: &ClientUri) {
        if self
            .leases
            .get(room)
            .is_some_and(|held| held.joiner == *joiner)
        {
            self.leases.remove(room);
        }
    }

    /// A hub's log has accepted a Commit, which ends the lease; one from outside needs it.
    pub(in crate::sim) fn lease_ends(&mut self, room: &RoomUri, commit: &Commit, time: u64) {
        let lease = self.leases.remove(room);
        if commit.checked.external {
            let sender = &commit.sender;
            let has = lease
                .as_ref()
                .is_some_and(|held| held.joiner == *sender && held.until > time);
            self.demand("I8", has, || {
                format!("{sender} entered {room} without the lease, which {lease:?} has")
            });
            if let Some(code) = lease.and_then(|held| held.code) {
                self.code_used(room, code, sender);
            }
        }
    }
}
