//! What the orders of a hub's room mean.

use super::{Basis, FULL_RETRY_AFTER_MS};
use crate::cluster::shard::{NotQueued, Shard};
use mimi_actors::{
    ids::RoomUri,
    machine::Ticket,
    record::Command,
    room::{
        checks,
        desk::{Check, Checked, Effect, Input},
        outcome::Refused,
    },
};
use std::sync::Arc;

/// Carries out one order of the room's actor.
pub(crate) fn perform(shard: &Arc<Shard>, room: &RoomUri, effect: Effect, basis: Basis) {
    match effect {
        Effect::Append { ticket, command } => {
            let record = Command::Hub(room.clone(), command);
            if let Err(refused) = shard.queue(record, Some(ticket)) {
                let refused = not_queued(refused);
                shard.report_hub(room, Input::NotAppended { ticket, refused });
            }
        }
        Effect::Answer { ticket, answer } => shard.answer_room(ticket, answer, basis),
        Effect::Check { ticket, check } => start_check(shard, room, ticket, *check),
    }
}

/// What a requester is told when the shard did not take its command.
pub(crate) fn not_queued(refused: NotQueued) -> Refused {
    match refused {
        NotQueued::Full => Refused::Overloaded {
            retry_after_ms: FULL_RETRY_AFTER_MS,
        },
        NotQueued::StorageFull => Refused::StorageFull,
        NotQueued::Unavailable { retry_after_ms } => Refused::Unavailable { retry_after_ms },
    }
}

fn start_check(shard: &Arc<Shard>, room: &RoomUri, ticket: Ticket, check: Check) {
    let world = shard.world();
    let mls = Arc::clone(&world.mls);
    let (back, to) = (Arc::clone(shard), room.clone());
    let report = move |checked: Option<Checked>| {
        // A check that panics was fed something no check was written for.
        let checked = Box::new(checked.unwrap_or(Checked::Overloaded));
        back.report_hub(&to, Input::Checked { ticket, checked });
    };
    if world
        .workers
        .run(move || checks::run(check, &*mls), report)
        .is_err()
    {
        let checked = Box::new(Checked::Overloaded);
        shard.report_hub(room, Input::Checked { ticket, checked });
    }
}
