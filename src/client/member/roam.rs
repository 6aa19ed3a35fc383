//! A member that knows several nodes of its provider moves to another one by itself when its own is gone, or cut off.
//!
//! Nothing is lost by it: what was not acknowledged comes again, and a request whose fate is not known is sent again as
//! it was.

use super::{Member, MemberError, PreparedCommit};
use crate::door::DoorError;
use mimi_actors::wire::{
    answer::{Accepted, Refused},
    door::DoorRefused,
    user,
};
use mimi_quic::DoorDialer;
use std::{net::SocketAddr, time::Duration};
use tokio::time::Instant;

/// How long a member waits before it tries again what found nobody.
const RETRY: Duration = Duration::from_millis(100);

/// How long one node may take to answer before the next is asked: one that was killed never does.
const TRY: Duration = Duration::from_secs(4);

/// The nodes that a member may move between.
pub(super) struct Doors {
    dialer: DoorDialer,
    addresses: Vec<SocketAddr>,
}

impl Member {
    /// From now on the member moves between these nodes of its provider by itself.
    pub fn roam(&mut self, dialer: &DoorDialer, doors: &[SocketAddr]) {
        self.doors = Some(Doors {
            dialer: dialer.clone(),
            addresses: doors.to_vec(),
        });
    }

    /// Moves to another node after a failure, if the member may and the failure is one of this node or its connection.
    /// Says whether it is worth trying again before `deadline`.
    pub(super) async fn moved(&mut self, failure: &MemberError, deadline: Instant) -> bool {
        if !is_of_the_node(failure) || Instant::now() >= deadline {
            return false;
        }
        let Some(doors) = &mut self.doors else {
            return false;
        };
        // The node that failed is the last to be tried.
        doors.addresses.rotate_left(1);
        let (dialer, addresses) = (doors.dialer.clone(), doors.addresses.clone());
        tokio::time::sleep(pause(failure)).await;
        // Nobody may be there for a while: the next try finds out.
        drop(self.connect_to_any(&dialer, &addresses).await);
        true
    }

    /// Sends a prepared Commit until it has its answer, from whichever node: the same bytes are accepted once.
    ///
    /// # Errors
    /// As [`Member::commit`]; what the last node said when none could decide within `patience`.
    pub async fn commit_within(
        &mut self,
        prepared: &PreparedCommit,
        patience: Duration,
    ) -> Result<Accepted, MemberError> {
        let deadline = Instant::now() + patience;
        loop {
            // Given up halfway, it stays pending, and is sent again as it was.
            let answered = tokio::time::timeout(TRY, self.commit(prepared)).await;
            match answered.unwrap_or(Err(MemberError::Door(DoorError::Deadline))) {
                Ok(accepted) => return Ok(accepted),
                Err(failure) if self.moved(&failure, deadline).await => {}
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// How long to wait before that: as long as the node said, if it did.
fn pause(failure: &MemberError) -> Duration {
    if let MemberError::Refused(Refused::TryLater(later))
    | MemberError::NotTaken(user::Refused::TryLater(later))
    | MemberError::Door(DoorError::Refused(DoorRefused::TryLater(later))) = failure
    {
        return RETRY.max(Duration::from_millis(u64::from(later.after_ms)));
    }
    RETRY
}

/// Whether another node, or the same one in a moment, may do better.
fn is_of_the_node(failure: &MemberError) -> bool {
    match failure {
        MemberError::NotConnected
        | MemberError::Refused(Refused::TryLater(_))
        | MemberError::NotTaken(user::Refused::TryLater(_)) => true,
        MemberError::Door(DoorError::Refused(refused)) => {
            matches!(refused, DoorRefused::TryLater(_) | DoorRefused::NotLoggedIn)
        }
        MemberError::Door(
            DoorError::Connect(_) | DoorError::Lane(_) | DoorError::Closed | DoorError::Deadline,
        ) => true,
        MemberError::Door(
            DoorError::Frame(_) | DoorError::Unexpected | DoorError::TooManyUsers(_),
        )
        | MemberError::TooMany { .. }
        | MemberError::Refused(_)
        | MemberError::NotTaken(_)
        | MemberError::Mls { .. }
        | MemberError::State { .. }
        | MemberError::NotMember(_)
        | MemberError::Undecided(_)
        | MemberError::ProposalsPending(_)
        | MemberError::Lost { .. }
        | MemberError::Deadline => false,
    }
}
